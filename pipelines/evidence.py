"""What marks rest on: terms, languages, how annotators agree, what is not known. It adds up."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from pydantic import Field

from m4.catalogue import Catalogue, Model
from m4.errors import InputError
from pipelines import storage
from pipelines.annotators.marks import Marks, attribute_columns
from pipelines.fusion import Fused

Counts = Mapping[str, int]
UNKNOWN = "not known"
SEVERAL = "several"


class Known(Model):
    """Of how many samples with a label what is known.

    Attributes
    ----------
    samples : with the label
    person, nobody : that show a person, or none; of the rest it is not known
    attributes : of how many each attribute is known
    """

    samples: int = 0
    person: int = 0
    nobody: int = 0
    attributes: Counts = Field(default_factory=dict)

    def __add__(self, other: "Known") -> "Known":
        return Known(
            samples=self.samples + other.samples,
            person=self.person + other.person,
            nobody=self.nobody + other.nobody,
            attributes=_sum(self.attributes, other.attributes),
        )


class Evidence(Model):
    """Counts over samples that were kept; those of several shards add up.

    Attributes
    ----------
    known : by label, what is known of its samples; under "" of all samples
    languages : captions by ISO 639-1 code; empty where nobody asked
    terms : by mark (a value, label or "person"), how many samples each term marked
    opinions : by attribute (or value, where the attribute is not exclusive; or "person"), then by
        two annotators "first x second", then by what either says: how many samples
    notes : what else annotators counted
    """

    known: Mapping[str, Known] = Field(default_factory=dict)
    languages: Counts = Field(default_factory=dict)
    terms: Mapping[str, Counts] = Field(default_factory=dict)
    opinions: Mapping[str, Mapping[str, Mapping[str, Counts]]] = Field(default_factory=dict)
    notes: Counts = Field(default_factory=dict)

    def __add__(self, other: "Evidence") -> "Evidence":
        known = {
            name: self.known.get(name, Known()) + other.known.get(name, Known())
            for name in sorted({*self.known, *other.known})
        }
        return Evidence(
            known=known,
            languages=_sum(self.languages, other.languages),
            terms=_merge(self.terms, other.terms),
            opinions={
                name: {
                    pair: _merge(mine.get(pair, {}), its.get(pair, {}))
                    for pair in sorted({*mine, *its})
                }
                for name, mine, its in _both(self.opinions, other.opinions)
            },
            notes=_sum(self.notes, other.notes),
        )


def _sum(mine: Counts, its: Counts) -> dict[str, int]:
    return {name: mine.get(name, 0) + its.get(name, 0) for name in sorted({*mine, *its})}


def _merge(mine: Mapping[str, Counts], its: Mapping[str, Counts]) -> dict[str, Counts]:
    return {name: _sum(one, other) for name, one, other in _both(mine, its)}


def _both(mine: Mapping, its: Mapping) -> Iterator[tuple]:
    for name in sorted({*mine, *its}):
        yield name, mine.get(name, {}), its.get(name, {})


def evidence_of(
    fused: Fused, said: Sequence[Marks], names: Sequence[str], catalogue: Catalogue
) -> Evidence:
    """The evidence of a batch, from what annotators of these names said and its fusion."""
    kept = np.ones(len(fused), dtype=bool)
    kept[list(fused.unusable)] = False
    terms: dict[str, dict[str, int]] = {}
    for (mark, term), count in sorted(sum((each.found for each in said), Counter()).items()):
        terms.setdefault(mark, {})[term] = count
    languages = Counter(
        UNKNOWN if language is None else language
        for language, holds in zip(fused.languages, kept, strict=True)
        if holds
    )
    asked = any(each.languages is not None for each in said)
    return Evidence(
        known=_known(fused, kept, catalogue),
        languages=dict(sorted(languages.items())) if asked else {},
        terms=terms,
        opinions=_opinions(said, names, catalogue, kept),
        notes=dict(sorted(sum((each.notes for each in said), Counter()).items())),
    )


def _known(fused: Fused, kept: np.ndarray, catalogue: Catalogue) -> dict[str, Known]:
    """What is known of all samples and of those of each label that occurs."""
    states = {
        "samples": kept,
        "person": kept & (fused.person >= 0.5),
        "nobody": kept & (fused.person < 0.5),
    }
    attributes = {
        name: kept & ~np.isnan(fused.values[:, own]).all(axis=1)
        for name, own in attribute_columns(catalogue)
    }
    labels = len(catalogue.label_names)

    def by_label(state: np.ndarray) -> np.ndarray:
        each = np.bincount(fused.label_ids[state[fused.label_rows]], minlength=labels)
        return np.append(each, state.sum())

    counts = {name: by_label(state) for name, state in states.items()}
    known = {name: by_label(state) for name, state in attributes.items()}
    return {
        name: Known(
            **{state: int(count[r]) for state, count in counts.items()},
            attributes={attribute: int(count[r]) for attribute, count in known.items()},
        )
        for r, name in enumerate((*catalogue.label_names, ""))
        if counts["samples"][r]
    }


def _opinions(
    said: Sequence[Marks], names: Sequence[str], catalogue: Catalogue, kept: np.ndarray
) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    opinions: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for (one, first), (other, second) in itertools.combinations(zip(names, said, strict=True), 2):
        pair = f"{one} x {other}"
        for (subject, mine), (_, its) in zip(
            _subjects(first, catalogue), _subjects(second, catalogue), strict=True
        ):
            counts = Counter(zip(mine[kept].tolist(), its[kept].tolist(), strict=True))
            table: dict[str, dict[str, int]] = {}
            for (left, right), count in sorted(counts.items()):
                table.setdefault(left, {})[right] = count
            opinions.setdefault(subject, {})[pair] = table
    return opinions


def _subjects(marks: Marks, catalogue: Catalogue) -> Iterator[tuple[str, np.ndarray]]:
    """What an annotator says of each thing that can be disputed, in words, (n,)."""
    for name, own in attribute_columns(catalogue):
        values = marks.values[:, own]
        unknown = np.isnan(values).all(axis=1)
        attribute = catalogue.sensitive[name]
        if attribute.exclusive:
            held = values > 0.5
            named = np.array(list(attribute.values), dtype=object)[held.argmax(axis=1)]
            named[held.sum(axis=1) != 1] = SEVERAL
            named[unknown] = UNKNOWN
            yield name, named
        else:
            for column, value in enumerate(attribute.values):
                yield f"{name}.{value}", _yes_or_no(values[:, column])
    yield "person", _yes_or_no(marks.person)


def _yes_or_no(probability: np.ndarray) -> np.ndarray:
    words = np.where(probability >= 0.5, "yes", "no").astype(object)
    words[np.isnan(probability)] = UNKNOWN
    return words


def write_evidence(folder: str, stem: str, evidence: Evidence) -> None:
    content = evidence.model_dump_json(exclude_defaults=True) + "\n"
    storage.write_bytes(storage.join(folder, f"{stem}.json"), content.encode())


def read_evidence(path: str) -> Evidence:
    """Read what `write_evidence` wrote. Raises `InputError`."""
    try:
        return Evidence.model_validate_json(storage.read_bytes(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); run annotate again") from None
    except ValueError:
        raise InputError(f"{path}: holds no evidence; run annotate again") from None


def add_up(evidences: Iterable[Evidence]) -> Evidence:
    """The evidence of all shards together."""
    total = Evidence()
    for each in evidences:
        total = total + each
    return total
