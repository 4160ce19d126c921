"""The measures of a gallery: each for every attribute that it can be taken for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

import numpy as np
from pydantic import field_validator

from evaluation.bias import (
    AssociationBias,
    RepresentationBias,
    association_bias,
    association_bias_draws,
    representation_bias,
    representation_bias_draws,
)
from evaluation.draws import Draws
from evaluation.embeddings import check_same_space
from evaluation.gallery import Gallery
from evaluation.quality import (
    WorstGroup,
    ZeroShot,
    worst_group,
    worst_group_draws,
    zero_shot,
    zero_shot_draws,
)
from evaluation.resampling import Resampling
from evaluation.retrieval import CaptionPairs, Retrieval, retrieval_draws, retrieval_recall
from evaluation.words import contrasts
from m4.catalogue import Catalogue, Model
from m4.errors import InputError
from vision.directions import normalised
from vision.prompts import (
    TextEncoder,
    checked_templates,
    class_embedding,
    encode,
    noun_phrase,
)

DEFAULT_PAIRS = (
    ("librarian", "scientist"),
    ("nurse", "doctor"),
    ("housekeeper", "homeowner"),
    ("receptionist", "executive"),
    ("secretary", "manager"),
)
"""Pairs of labels of Alabdulmohsin et al. (2024)."""

Pair = tuple[str, str]
Found = TypeVar("Found")


class EvaluateSettings(Model):
    """How a model is evaluated.

    Attributes
    ----------
    label_templates, value_templates : prompts of labels and of sensitive values, each with one {}
    pairs : pairs of labels for association bias; None for those of `DEFAULT_PAIRS` that the
        catalogue has
    people : whose images serve for association bias. "unlabelled" are images of people that show
        none of the catalogue's labels: the paper uses faces, which show no occupation, so that
        only the person can tip the preference. "labelled" show at least one, "all" is both
    zero_shot_labels : labels to classify, no proxies; None for all labels of the catalogue
    ks : sizes of the list for retrieval
    resampling : how intervals and null values are made
    """

    label_templates: tuple[str, ...] = ("{}", "a picture of {}", "a photo of {}")
    value_templates: tuple[str, ...] = ("{}", "a picture of {}", "a photo of {}")
    pairs: tuple[Pair, ...] | None = None
    people: Literal["unlabelled", "labelled", "all"] = "unlabelled"
    zero_shot_labels: tuple[str, ...] | None = None
    ks: tuple[int, ...] = (1, 5, 10)
    resampling: Resampling = Resampling()

    @field_validator("label_templates", "value_templates")
    @classmethod
    def _templates(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        return checked_templates(templates)

    @field_validator("pairs", "zero_shot_labels", "ks")
    @classmethod
    def _distinct(cls, given: tuple | None) -> tuple | None:
        if given is not None and (not given or len(set(given)) < len(given)):
            raise ValueError("give at least one, and none twice")
        return given


Members = Mapping[str, np.ndarray]
"""Who is in the group of each value; (n,) bool by its full name."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A gallery, a model's embeddings of it, and what the model is asked.

    Attributes
    ----------
    images : (n, d), of unit length
    labels : to classify
    pairs : of labels, for association bias
    prompted : labels with a prompt: those to classify first, then the others of the pairs
    prompts : (prompted, d)
    """

    images: np.ndarray
    gallery: Gallery
    encode_texts: TextEncoder
    catalogue: Catalogue
    settings: EvaluateSettings
    labels: tuple[str, ...]
    pairs: tuple[Pair, ...]
    prompted: tuple[str, ...]
    prompts: np.ndarray

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        gallery: Gallery,
        encode_texts: TextEncoder,
        catalogue: Catalogue,
        settings: EvaluateSettings,
    ) -> "Asked":
        """Embed the prompts of labels. Raises `InputError` as `evaluation.evaluate` says."""
        _check_catalogue(gallery, catalogue)
        if len(images) != len(gallery):
            raise InputError(
                f"{len(images)} image embeddings for {len(gallery)} images; give one each"
            )
        images = normalised(images, "images", gallery.uids)
        pairs = label_pairs(catalogue, settings.pairs)
        labels = _zero_shot_labels(catalogue, settings.zero_shot_labels)
        prompted = tuple(dict.fromkeys([*labels, *(name for pair in pairs for name in pair)]))
        phrases = [noun_phrase(name, catalogue.labels[name]) for name in prompted]
        prompts = class_embedding(phrases, settings.label_templates, encode_texts)
        check_same_space(images, prompts, "labels")
        return cls(
            images, gallery, encode_texts, catalogue, settings, labels, pairs, prompted, prompts
        )

    @property
    def label_prompts(self) -> np.ndarray:
        """Prompts of the labels to classify, (labels, d)."""
        return self.prompts[: len(self.labels)]

    @property
    def people(self) -> np.ndarray:
        """Whose images serve for associations, by the settings; (n,) bool."""
        return {
            "unlabelled": ~self.gallery.labelled,
            "labelled": self.gallery.labelled,
            "all": np.ones(len(self.gallery), dtype=bool),
        }[self.settings.people]

    def members(self, attribute: str) -> Members:
        """Who serves for the associations of an attribute, by value."""
        values = self.gallery.values_of(attribute)
        return dict(
            zip(values, (self.gallery.groups(values) & self.people[:, None]).T, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Part(Generic[Found]):
    """One measure.

    Attributes
    ----------
    found : what it found
    headlines : of one figure each, by the name of the headline
    left_out : which attributes it could not be taken for, and why
    """

    found: Found
    headlines: dict[str, Draws]
    left_out: list[str] = field(default_factory=list)


def measure_representation(asked: Asked) -> Part[dict[str, RepresentationBias]]:
    """Representation bias of every attribute whose values compete."""
    settings = asked.settings
    found, draws, left_out = {}, [], []
    for name, attribute in asked.catalogue.sensitive.items():
        if not attribute.exclusive or len(attribute.values) < 2:
            reason = (
                "it has one value"
                if len(attribute.values) < 2
                else "its values are separate questions"
            )
            left_out.append(f"representation bias of {name}: {reason}, so no prompts compete")
            continue
        phrases = [noun_phrase(value, mark) for value, mark in attribute.values.items()]
        prompts = class_embedding(phrases, settings.value_templates, asked.encode_texts)
        targets = {f"{name}.{value}": mark.target for value, mark in attribute.values.items()}
        found[name] = representation_bias(asked.images, prompts, targets)
        values, _ = representation_bias_draws(asked.images, prompts, targets, settings.resampling)
        draws.append(values)
    values = _joined(draws, left_out)
    return Part(found, {"representation_bias": values.maximum("all values")}, left_out)


def measure_association(asked: Asked) -> Part[dict[str, AssociationBias]]:
    """Association bias of every attribute that two groups of people are there for."""
    found, draws, left_out = {}, [], []
    for name in asked.catalogue.sensitive:
        members = asked.members(name)
        present = [value for value, some in members.items() if some.any()]
        if len(present) < 2:
            only = f"only {present[0]} has" if present else "no value has"
            left_out.append(
                f"association bias of {name}: {only} images of people "
                f"(people: {asked.settings.people})"
            )
            continue
        given = (asked.images, asked.prompts, asked.prompted, asked.pairs, members)
        found[name] = association_bias(*given)
        draws.append(association_bias_draws(*given, asked.settings.resampling)[0])
    pairs = _joined(draws, left_out)
    headlines = {
        "association_bias_mean": pairs.mean("all pairs"),
        "association_bias_max": pairs.maximum("all pairs"),
    }
    return Part(found, headlines, left_out)


def measure_by_group(asked: Asked) -> Part[dict[str, WorstGroup]]:
    """Zero-shot accuracy by label and group, of every attribute that it is known for."""
    shown = asked.gallery.shows(asked.labels)
    found, worst, gaps, left_out = {}, [], [], []
    for name in asked.catalogue.sensitive:
        values = asked.gallery.values_of(name)
        groups = asked.gallery.groups(values)
        if not (groups.any(axis=1) & (shown.sum(axis=1) == 1)).any():
            left_out.append(f"worst group of {name}: no person is shown with exactly one label")
            continue
        given = (asked.images, asked.label_prompts, shown, asked.labels, groups, values)
        found[name] = worst_group(*given)
        draws = worst_group_draws(*given, asked.settings.resampling)
        worst.append(draws[0])
        gaps.append(draws[1])
    lowest = _joined(worst, left_out)
    headlines = {
        "worst_group_accuracy": lowest.reduced(
            lowest.measure, "all cells", lambda array: array.min(axis=-1)
        ),
        "worst_group_gap": _joined(gaps, left_out).maximum("all cells"),
    }
    return Part(found, headlines, left_out)


def measure_zero_shot(asked: Asked) -> Part[ZeroShot]:
    """Zero-shot classification by the labels."""
    given = (
        asked.images, asked.label_prompts, asked.gallery.shows(asked.labels), asked.labels
    )  # fmt: skip
    draws = zero_shot_draws(*given, asked.settings.resampling)
    wanted = ("zero_shot_top1", "mean_per_class_recall")
    return Part(zero_shot(*given), {each.measure: each for each in draws if each.measure in wanted})


def measure_retrieval(asked: Asked) -> Part[Retrieval]:
    """Retrieval among the images that have a caption."""
    captioned = asked.gallery.captioned
    own = [[asked.gallery.captions[row]] for row in np.flatnonzero(captioned)]
    if not own:
        raise InputError("retrieval: every caption of the gallery is blank; give captions")
    captions = CaptionPairs.of(own)
    texts = encode(captions.texts, "captions", asked.encode_texts)
    images, ks = asked.images[captioned], asked.settings.ks
    draws = retrieval_draws(images, texts, captions.pairs, asked.settings.resampling, ks)
    found = retrieval_recall(images, texts, captions.pairs, ks)
    return Part(found, {each.measure: each for each in draws})


def measure_label_associations(asked: Asked) -> dict[str, dict[str, float]]:
    """C-ASC of each label with each sensitive value that people of another value are there for."""
    found: dict[str, dict[str, float]] = {}
    for name in asked.catalogue.sensitive:
        members = asked.members(name)
        if sum(some.any() for some in members.values()) > 1:
            found |= contrasts(asked.images, asked.label_prompts, asked.labels, members)
    return found


def _joined(draws: Sequence[Draws], left_out: Sequence[str]) -> Draws:
    """The figures of one measure over several attributes, side by side."""
    if not draws:
        raise InputError(
            "; ".join(left_out) + "; no attribute remains: give other images or people"
        )

    def together(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, axis=-1)

    smallest = [each.smallest_group for each in draws if each.smallest_group is not None]
    return replace(
        draws[0],
        names=tuple(name for each in draws for name in each.names),
        observed=together([each.observed for each in draws]),
        bootstrap=together([each.bootstrap for each in draws]),
        null=together([each.null for each in draws if each.null is not None]),
        images=max(each.images for each in draws),
        smallest_group=min(smallest, default=None),
    )


def label_pairs(catalogue: Catalogue, pairs: tuple[Pair, ...] | None) -> tuple[Pair, ...]:
    """The pairs of labels to compare: those given, or the default ones the catalogue has.

    Raises `InputError` naming the labels available where one is missing, or none is there.
    """
    available = ", ".join(catalogue.labels)
    if pairs is None:
        pairs = tuple(pair for pair in DEFAULT_PAIRS if catalogue.labels.keys() >= set(pair))
        if not pairs:
            raise InputError(
                f"catalogue {catalogue.name} has none of the default pairs of labels; give "
                f"`pairs`, of the labels {available}"
            )
    for pair in pairs:
        for name in pair:
            if name not in catalogue.labels:
                raise InputError(f"pairs: {name!r} is no label; the labels are {available}")
        if pair[0] == pair[1]:
            raise InputError(f"pairs: {pair[0]!r} is paired with itself; give two labels")
    return pairs


def _zero_shot_labels(catalogue: Catalogue, labels: tuple[str, ...] | None) -> tuple[str, ...]:
    for name in labels or ():
        if name not in catalogue.labels:
            kind = "a proxy, not a label" if name in catalogue.proxies else "no label"
            raise InputError(
                f"zero_shot_labels: {name!r} is {kind}; the labels are "
                f"{', '.join(catalogue.labels)}"
            )
    return labels or tuple(catalogue.labels)


def _check_catalogue(gallery: Gallery, catalogue: Catalogue) -> None:
    for what, given, wanted in (
        ("sensitive values", gallery.value_names, catalogue.value_names),
        ("labels", gallery.labels, tuple(catalogue.labels)),
        ("proxies", gallery.proxies, tuple(catalogue.proxies)),
    ):
        if given != wanted:
            raise InputError(
                f"the gallery's {what} are {', '.join(given) or 'none'}, those of catalogue "
                f"{catalogue.name} are {', '.join(wanted) or 'none'}; use the catalogue that the "
                "gallery was annotated with"
            )
