"""Annotators: what they say of one sample, and how several are put together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from m4.catalogue import Catalogue, FieldRule, Mark
from m4.errors import InputError, UnusableSample
from pipelines.lexicon import Lexicon
from pipelines.shards import Sample

AnnotatorName = Literal["captions", "fields"]


@dataclass(frozen=True)
class Marks:
    """What is known of a sample.

    Attributes
    ----------
    attributes : by attribute, the probability of each of its columns; one missing is not known
    labels : ids of labels and proxies that hold, with the name of the annotator that said so
    sources : name of the annotator by attribute
    """

    attributes: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[int, float]:
        """Probability by column, over all attributes."""
        return {k: share for columns in self.attributes.values() for k, share in columns.items()}


class Annotator(Protocol):
    """Marks a sample. May raise `UnusableSample`."""

    def annotate(self, sample: Sample) -> Marks: ...


class _Columns:
    """Where an attribute's values stand among the columns."""

    def __init__(self, catalogue: Catalogue):
        self.exclusive = {name: each.exclusive for name, each in catalogue.sensitive.items()}
        self.of: dict[str, list[int]] = {name: [] for name in catalogue.sensitive}
        self.attribute: list[str] = []
        for k, (_, attribute, _) in enumerate(catalogue.each_value()):
            self.of[attribute].append(k)
            self.attribute.append(attribute)

    def shared(self, found: Iterable[int]) -> dict[str, dict[int, float]]:
        """Probabilities from the values found: an attribute with none is not known.

        Several values of an exclusive attribute get equal parts of the probability.
        """
        by_attribute: dict[str, set[int]] = {}
        for k in found:
            by_attribute.setdefault(self.attribute[k], set()).add(k)
        attributes = {}
        for attribute, columns in by_attribute.items():
            part = 1.0 / len(columns) if self.exclusive[attribute] else 1.0
            attributes[attribute] = {k: part if k in columns else 0.0 for k in self.of[attribute]}
        return attributes


class CaptionAnnotator:
    """Marks what a caption names. A caption that names no value leaves the attribute unknown."""

    name = "captions"

    def __init__(self, catalogue: Catalogue):
        self._lexicon = Lexicon(catalogue)
        self._columns = _Columns(catalogue)

    def annotate(self, sample: Sample) -> Marks:
        found_values: set[int] = set()
        labels: dict[int, str] = {}
        for found in self._lexicon.find(sample.caption):
            found_values |= found.marked.values
            labels.update(dict.fromkeys(found.marked.labels, self.name))
        attributes = self._columns.shared(found_values)
        return Marks(attributes, labels, dict.fromkeys(attributes, self.name))


class FieldAnnotator:
    """Marks what the sample's json says, by the field rules of the catalogue."""

    name = "fields"

    def __init__(self, catalogue: Catalogue):
        self._columns = _Columns(catalogue)
        self._values = [(k, value.field) for k, (_, _, value) in enumerate(catalogue.each_value())]
        self._labels = [(r, each.field) for r, each in enumerate(catalogue.concepts.values())]

    def annotate(self, sample: Sample) -> Marks:
        found: set[int] = set()
        probabilities: dict[int, float] = {}
        for k, rule in self._values:
            probability = _field(sample, rule)
            if probability is None:
                continue
            if rule is not None and rule.equals is None:
                probabilities[k] = probability
            elif probability:
                found.add(k)
        attributes = self._columns.shared(found)
        for k, probability in probabilities.items():
            attributes.setdefault(self._columns.attribute[k], {})[k] = probability
        labels = {r: self.name for r, rule in self._labels if (_field(sample, rule) or 0.0) >= 0.5}
        return Marks(attributes, labels, dict.fromkeys(attributes, self.name))


def _field(sample: Sample, rule: FieldRule | None) -> float | None:
    """What a field rule says of a sample: a probability, or None where it says nothing."""
    if rule is None:
        return None
    content: Any = sample.metadata
    for part in rule.path.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    if content is None:
        return None
    if rule.equals is not None:
        given = content if isinstance(content, list) else [content]
        return float(
            any(each in rule.equals for each in given if not isinstance(each, dict | list))
        )
    if isinstance(content, bool) or not isinstance(content, int | float) or not 0 <= content <= 1:
        raise UnusableSample(f"json field {rule.path} is not a probability")
    return float(content)


def make_annotators(catalogue: Catalogue, names: Sequence[AnnotatorName]) -> list[Annotator]:
    """The annotators of the given names, in order.

    Raises `InputError` where one could never say anything with this catalogue.
    """
    marks: list[Mark] = [value for _, _, value in catalogue.each_value()]
    marks += catalogue.concepts.values()
    annotators: list[Annotator] = []
    for name in names:
        if name == "captions" and any(mark.terms for mark in marks):
            annotators.append(CaptionAnnotator(catalogue))
        elif name == "fields" and any(mark.field for mark in marks):
            annotators.append(FieldAnnotator(catalogue))
        else:
            key = {"captions": "terms", "fields": "field"}.get(name)
            raise InputError(
                f"annotator {name!r} has nothing to look for: no value or label of catalogue "
                f"{catalogue.name!r} has `{key}`"
                if key
                else f"annotator {name!r} is not one of captions, fields"
            )
    if not annotators:
        raise InputError("no annotators given; name captions, fields or both")
    return annotators


def annotate_sample(sample: Sample, annotators: Sequence[Annotator]) -> Marks:
    """Put annotators together: the first that knows an attribute wins, labels are joined."""
    attributes: dict[str, Mapping[int, float]] = {}
    labels: dict[int, str] = {}
    sources: dict[str, str] = {}
    for annotator in annotators:
        marks = annotator.annotate(sample)
        attributes = {**marks.attributes, **attributes}
        labels = {**marks.labels, **labels}
        sources = {**marks.sources, **sources}
    return Marks(attributes, dict(sorted(labels.items())), sources)
