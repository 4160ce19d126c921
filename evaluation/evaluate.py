"""Evaluate one model on one gallery: every measure, in one record that is kept as JSON."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import ValidationError, field_validator

from evaluation.bias import (
    AssociationBias,
    RepresentationBias,
    association_bias,
    representation_bias,
)
from evaluation.embeddings import check_same_space
from evaluation.gallery import Gallery, GalleryCounts
from evaluation.quality import (
    CaptionPairs,
    Retrieval,
    WorstGroup,
    ZeroShot,
    retrieval_recall,
    worst_group,
    zero_shot,
)
from m4.catalogue import Catalogue, Model, explain
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
    """

    label_templates: tuple[str, ...] = ("{}", "a picture of {}", "a photo of {}")
    value_templates: tuple[str, ...] = ("{}", "a picture of {}", "a photo of {}")
    pairs: tuple[Pair, ...] | None = None
    people: Literal["unlabelled", "labelled", "all"] = "unlabelled"
    zero_shot_labels: tuple[str, ...] | None = None
    ks: tuple[int, ...] = (1, 5, 10)

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


class Evaluation(Model):
    """What one model is worth on one gallery. By attribute where the measure has one.

    `left_out` says in words which measure could not be taken for which attribute, and why.
    Counts are as they are: a report must suppress small ones.
    """

    catalogue: str
    catalogue_digest: str
    settings: EvaluateSettings
    gallery: GalleryCounts
    representation: dict[str, RepresentationBias]
    association: dict[str, AssociationBias]
    retrieval: Retrieval
    zero_shot: ZeroShot
    worst_group: dict[str, WorstGroup]
    left_out: tuple[str, ...]

    def headline(self) -> dict[str, float]:
        """One figure per measure, the worst over attributes where there are several.

        `association_bias_mean` is the mean over pairs of labels and attributes.
        """
        by_pair = [pair.difference for found in self.association.values() for pair in found.pairs]
        recalls = {
            f"{direction}_r{k}": recall
            for direction in ("image_to_text", "text_to_image")
            for k, recall in getattr(self.retrieval, direction).items()
        }
        return {
            "representation_bias": max(found.largest for found in self.representation.values()),
            "association_bias_mean": float(np.mean(by_pair)),
            "association_bias_max": max(by_pair),
            **recalls,
            "zero_shot_top1": self.zero_shot.top1,
            "mean_per_class_recall": self.zero_shot.mean_per_class_recall,
            "worst_group_accuracy": min(found.worst for found in self.worst_group.values()),
            "worst_group_gap": max(found.gap for found in self.worst_group.values()),
        }

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(self.model_dump_json(indent=2) + "\n")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what `save` wrote; raises `InputError` naming the file and what is wrong."""
        try:
            return cls.model_validate_json(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        except ValidationError as error:
            raise InputError(f"{path}: not an evaluation: {explain(error)}") from None


def evaluate(
    images: np.ndarray,
    gallery: Gallery,
    encode_texts: TextEncoder,
    catalogue: Catalogue,
    settings: EvaluateSettings | None = None,
) -> Evaluation:
    """Take every measure of one model on one gallery.

    Parameters
    ----------
    images : (n, d) image embeddings, in the order of the gallery; of any length
    gallery : the n images' captions and marks
    encode_texts : the same model's text encoder, called with the captions and with the prompts
    catalogue : the one that the gallery was annotated with
    settings : None for the defaults

    Raises `InputError` where the inputs do not fit together, an embedding has no direction, or a
    measure cannot be taken for any attribute.
    """
    settings = settings or EvaluateSettings()
    _check_catalogue(gallery, catalogue)
    if len(images) != len(gallery):
        raise InputError(f"{len(images)} image embeddings for {len(gallery)} images; give one each")
    images = normalised(images, "images", gallery.uids)
    pairs = label_pairs(catalogue, settings.pairs)
    labels = _zero_shot_labels(catalogue, settings.zero_shot_labels)
    prompted = tuple(dict.fromkeys([*labels, *(name for pair in pairs for name in pair)]))
    phrases = [noun_phrase(name, catalogue.labels[name]) for name in prompted]
    prompts = class_embedding(phrases, settings.label_templates, encode_texts)
    check_same_space(images, prompts, "labels")
    shown = gallery.shows(labels)
    representation, no_representation = _representation(images, encode_texts, catalogue, settings)
    association, no_association = _association(
        images, prompts, prompted, pairs, gallery, catalogue, settings
    )
    by_group, no_group = _by_group(
        images, prompts[: len(labels)], shown, labels, gallery, catalogue
    )
    return Evaluation(
        catalogue=catalogue.name,
        catalogue_digest=catalogue.digest,
        settings=settings,
        gallery=gallery.counts(),
        representation=representation,
        association=association,
        retrieval=_retrieval(images, gallery, encode_texts, settings),
        zero_shot=zero_shot(images, prompts[: len(labels)], shown, labels),
        worst_group=by_group,
        left_out=(*no_representation, *no_association, *no_group),
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


def _representation(
    images: np.ndarray, encode_texts: TextEncoder, catalogue: Catalogue, settings: EvaluateSettings
) -> tuple[dict[str, RepresentationBias], list[str]]:
    found, left_out = {}, []
    for name, attribute in catalogue.sensitive.items():
        if not attribute.exclusive or len(attribute.values) < 2:
            reason = (
                "it has one value"
                if len(attribute.values) < 2
                else "its values are separate questions"
            )
            left_out.append(f"representation bias of {name}: {reason}, so no prompts compete")
            continue
        phrases = [noun_phrase(value, mark) for value, mark in attribute.values.items()]
        prompts = class_embedding(phrases, settings.value_templates, encode_texts)
        targets = {f"{name}.{value}": mark.target for value, mark in attribute.values.items()}
        found[name] = representation_bias(images, prompts, targets)
    return _some(found, left_out), left_out


def _association(
    images: np.ndarray,
    prompts: np.ndarray,
    labels: Sequence[str],
    pairs: tuple[Pair, ...],
    gallery: Gallery,
    catalogue: Catalogue,
    settings: EvaluateSettings,
) -> tuple[dict[str, AssociationBias], list[str]]:
    chosen = {
        "unlabelled": ~gallery.labelled,
        "labelled": gallery.labelled,
        "all": np.ones(len(gallery), dtype=bool),
    }[settings.people]
    found, left_out = {}, []
    for name in catalogue.sensitive:
        values = gallery.values_of(name)
        members = gallery.groups(values) & chosen[:, None]
        present = [value for value, some in zip(values, members.any(axis=0), strict=True) if some]
        if len(present) < 2:
            only = f"only {present[0]} has" if present else "no value has"
            left_out.append(
                f"association bias of {name}: {only} images of people (people: {settings.people})"
            )
            continue
        groups = dict(zip(values, members.T, strict=True))
        found[name] = association_bias(images, prompts, labels, pairs, groups)
    return _some(found, left_out), left_out


def _by_group(
    images: np.ndarray,
    prompts: np.ndarray,
    shown: np.ndarray,
    labels: Sequence[str],
    gallery: Gallery,
    catalogue: Catalogue,
) -> tuple[dict[str, WorstGroup], list[str]]:
    found, left_out = {}, []
    for name in catalogue.sensitive:
        values = gallery.values_of(name)
        groups = gallery.groups(values)
        if not (groups.any(axis=1) & (shown.sum(axis=1) == 1)).any():
            left_out.append(f"worst group of {name}: no person is shown with exactly one label")
            continue
        found[name] = worst_group(images, prompts, shown, labels, groups, values)
    return _some(found, left_out), left_out


def _some(found: dict[str, Found], left_out: list[str]) -> dict[str, Found]:
    if not found:
        raise InputError(
            "; ".join(left_out) + "; no attribute remains: give other images or people"
        )
    return found


def _retrieval(
    images: np.ndarray, gallery: Gallery, encode_texts: TextEncoder, settings: EvaluateSettings
) -> Retrieval:
    captioned = gallery.captioned
    own = [[gallery.captions[row]] for row in np.flatnonzero(captioned)]
    if not own:
        raise InputError("retrieval: every caption of the gallery is blank; give captions")
    captions = CaptionPairs.of(own)
    texts = encode(captions.texts, "captions", encode_texts)
    return retrieval_recall(images[captioned], texts, captions.pairs, settings.ks)
