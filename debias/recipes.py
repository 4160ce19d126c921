"""Recipes: a method with its parameters, and how it is fitted on a lesson."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

import debias
from debias.able_score import AbleScore
from debias.fair_clip import FairCLIP
from debias.joint import JointDebias
from debias.lessons import Lesson, Material
from debias.method import Method
from debias.probes import LinearProbe
from debias.projection import CalibratedProjection
from debias.relatives import group_means
from debias.soft_prompts import learn_soft_prompts
from evaluation.labelled_set import LabelledSet
from m4.catalogue import Model, explain
from m4.errors import InputError

MethodName = Literal[
    "OrthogonalProjection",
    "CalibratedProjection",
    "FairCLIP",
    "JointDebias",
    "FairerCLIP",
    "ClipClip",
    "GroupMeanProjection",
    "ClosedForm",
    "LinearProbe",
]
Directions = Literal["prompts", "images"]
Part = Literal["images", "attribute", "label", "classes", "spurious", "candidates", "caption"]
HELD_OUT = 5  # one image in so many, for the early stop of `JointDebias`


class Recipe(Model):
    """A method, its parameters, and where it takes what it learns from."""

    method: MethodName = Field(description="its class")
    parameters: dict[str, bool | int | float | str | None] = Field(
        default_factory=dict, description="of the class, by name: lam 500"
    )
    directions: Directions | None = Field(
        default=None,
        description="whether those of the attribute are learned from prompts, as "
        "OrthogonalProjection does if this is left out, or from images, as FairCLIP, "
        "GroupMeanProjection and ClosedForm do; no other method has the choice",
    )
    supervised: bool | None = Field(
        default=None,
        description="of FairerCLIP: whether it learns from labels, not from predictions of its "
        "own; True if left out",
    )

    @model_validator(mode="after")
    def _effective(self) -> Self:
        if self.directions is not None and self.method not in DIRECTED:
            raise ValueError(f"directions has no effect on {self.method}; leave it out")
        if self.supervised is not None and self.method != "FairerCLIP":
            raise ValueError(f"supervised has no effect on {self.method}; leave it out")
        self.make(None)
        return self

    def make(self, space: str | None) -> Method:
        """The method, not yet fitted. Raises `ValueError` where a parameter cannot be used."""
        kind = getattr(debias, self.method)
        named = {each.name for each in fields(kind) if each.init} - {"space"}
        strange = sorted(self.parameters.keys() - named)
        if strange:
            raise ValueError(
                f"parameters: {self.method} has no {strange[0]!r}; it has "
                f"{', '.join(sorted(named)) or 'none'}"
            )
        try:
            method: Method = TypeAdapter(kind).validate_python(self.parameters)
        except ValidationError as error:
            raise ValueError(f"parameters of {self.method}: {explain(error)}") from None
        method.space = space
        return method


@dataclass(frozen=True, eq=False)
class Ready:
    """All that a method is fitted on, embedded.

    Attributes
    ----------
    images : those among it; None: it is fitted on prompts alone
    fit : fits a method, and says on what in words
    """

    images: LabelledSet | None
    fit: Callable[[Any], str]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted method.

    Attributes
    ----------
    images : that it was fitted on, or that chose between its epochs; None: prompts alone
    seconds : that `fit` took; embedding images and prompts is not counted
    """

    method: Method
    images: LabelledSet | None
    seconds: float


def needed(recipe: Recipe) -> list[Part]:
    """What a recipe reads of images and of the material that goes with them."""
    parts = NEEDS[recipe.method](recipe, recipe.make(None))
    return [part for part in get_args(Part) if part in parts]


def missing(recipe: Recipe, material: Material, *, with_images: bool = True) -> list[Part]:
    """What a recipe needs and nobody gave; `with_images`: whether images are there."""
    given = _given(material, with_images)
    return [part for part in needed(recipe) if part not in given]


def without_effect(recipe: Recipe, material: Material, *, with_images: bool = True) -> list[Part]:
    """What was given and a recipe does not read, as `missing`."""
    parts = needed(recipe)
    return [part for part in _given(material, with_images) if part not in parts]


def _given(material: Material, with_images: bool) -> list[Part]:
    return [
        part
        for part in get_args(Part)
        if (with_images if part == "images" else getattr(material, part) is not None)
    ]


def fit_recipe(recipe: Recipe, lesson: Lesson, space: str | None = None) -> Fitted:
    """Fit a method as a recipe says. Raises `InputError` naming what the material lacks."""
    method = recipe.make(space)
    ready = METHODS[recipe.method](recipe, method, lesson)
    started = time.perf_counter()
    method.source = ready.fit(method)
    return Fitted(method, ready.images, time.perf_counter() - started)


def _ready(used: LabelledSet | None, source: str, **given: Any) -> Ready:
    """A method that is fitted by these arguments."""

    def fit(method: Method) -> str:
        method.fit(**given)
        return source

    return Ready(used, fit)


def _orthogonal(recipe: Recipe, method: Method, lesson: Lesson) -> Ready:
    if recipe.directions == "images":
        means, source = _means(lesson)
        return _ready(lesson.known, source, spurious=means[1:] - means[0])
    rows, source = _prompts(lesson)
    return _ready(None, source, spurious=rows)


def _calibrated(recipe: Recipe, method: CalibratedProjection, lesson: Lesson) -> Ready:
    prompts = lesson.candidates
    place = {name: row for row, name in enumerate(prompts.names)}
    pairs = [(place[first], place[second]) for first, second in prompts.pairs]
    given: dict[str, Any] = {"candidates": prompts.embed(lesson.encode_texts), "pairs": pairs}
    source = f"{len(pairs)} pairs of {prompts.name}"
    if method.orthogonal:
        given["spurious"], also = _prompts(lesson)
        source = f"{also}, {source}"
    return _ready(None, source, **given)


def _by_directions(recipe: Recipe, method: Method, lesson: Lesson) -> Ready:
    if recipe.directions == "prompts":
        rows = lesson.group_directions()
        source = f"{len(rows)} groups of prompts {lesson.spurious.name}"
        return _ready(None, source, directions=rows)
    rows, source = _means(lesson)
    return _ready(lesson.known, source, directions=rows)


def _clip_clip(recipe: Recipe, method: Method, lesson: Lesson) -> Ready:
    images = lesson.known
    return _ready(
        images,
        _images(lesson, images),
        images=images.embeddings,
        attributes=lesson.attributes(images),
    )


def _fair_clip(recipe: Recipe, method: FairCLIP, lesson: Lesson) -> Ready:
    images, attributes = lesson.known, lesson.attributes(lesson.known)
    given: dict[str, Any] = {"images": images.embeddings}
    source = _images(lesson, images)
    if method.alpha > 0:
        given["target_texts"] = lesson.class_prompts.embed(lesson.encode_texts)
        source = f"{source}, classes {lesson.class_prompts.name}"
    if recipe.directions != "prompts":
        return _ready(images, source, attributes=attributes, **given)
    embedder, words = lesson.tower, lesson.group_words()

    def fit(method: FairCLIP) -> str:
        soft = learn_soft_prompts(
            embedder, images.embeddings, attributes, words, temperature=method.temperature
        )
        method.fit(attribute_texts=soft.prototypes, **given)
        ended = "" if soft.converged else " (stopped before they converged)"
        return f"{source}, soft prompts before {', '.join(words.values())}{ended}"

    return Ready(images, fit)


def _fairer_clip(recipe: Recipe, method: Method, lesson: Lesson) -> Ready:
    labelled = recipe.supervised is not False
    images = lesson.labelled if labelled else lesson.known
    prompts = lesson.class_prompts
    texts, positions = lesson.texts(prompts)
    classes = f"{'labels' if labelled else 'predictions'} of {prompts.name}"
    return _ready(
        images,
        f"{_images(lesson, images)}, {classes}",
        images=images.embeddings,
        attributes=lesson.attributes(images),
        texts=texts,
        text_labels=positions,
        labels=lesson.labels(images) if labelled else None,
    )


def _linear_probe(recipe: Recipe, method: LinearProbe, lesson: Lesson) -> Ready:
    images, prompts = lesson.labelled, lesson.class_prompts
    texts, positions = lesson.texts(prompts)
    return _ready(
        images,
        f"{_images(lesson, images)}, labels of {prompts.name}",
        images=images.embeddings,
        labels=lesson.labels(images),
        texts=texts,
        text_labels=positions,
        attributes=lesson.attributes(images) if method.reweighted else None,
    )


def _joint(recipe: Recipe, method: Method, lesson: Lesson) -> Ready:
    images, prompts = lesson.labelled, lesson.class_prompts
    learned, kept = _divided(lesson, images)
    texts, counterfactuals = lesson.captions(learned)
    queries, _ = lesson.texts(prompts)
    score = AbleScore(
        images=kept.embeddings,
        groups=lesson.attributes(kept),
        queries=queries,
        k=max(1, len(kept) // 10),
        class_images=kept.embeddings,
        labels=lesson.labels(kept),
        class_texts=prompts.embed(lesson.encode_texts),
    )
    source = f"{_images(lesson, learned)}, their captions; {len(kept):,} held out for ABLE"

    def fit(method: JointDebias) -> str:
        method.fit(
            images=learned.embeddings, texts=texts, counterfactuals=counterfactuals, score=score
        )
        return f"{source}, which chose epoch {method.epoch_} of {len(method.losses_)}"

    return Ready(images, fit)


def _divided(lesson: Lesson, images: LabelledSet) -> tuple[LabelledSet, LabelledSet]:
    """Images to learn from, and those held out: of each group, class by class, every fifth.

    Raises `InputError` where a group is too small for that.
    """
    groups, classes = np.array(lesson.attributes(images)), lesson.labels(images)
    held_out = np.zeros(len(images), dtype=bool)
    for group in sorted(set(lesson.attributes(lesson.known))):
        rows = np.flatnonzero(groups == group)
        if len(rows) < HELD_OUT:
            raise InputError(
                f"{images.name}: {len(rows)} images with a class are in group {group!r} of "
                f"{lesson.attribute}, but one in {HELD_OUT} is held out; give at least "
                f"{HELD_OUT} of each group"
            )
        by_class = rows[np.argsort(classes[rows], kind="stable")]
        held_out[by_class[HELD_OUT - 1 :: HELD_OUT]] = True
    return images.chosen(np.flatnonzero(~held_out)), images.chosen(np.flatnonzero(held_out))


def _prompts(lesson: Lesson) -> tuple[np.ndarray, str]:
    """Every prompt of the attribute, (m, d), and what they are, in words."""
    prompts = lesson.spurious
    rows, _ = lesson.texts(prompts)
    return rows, f"{len(rows)} prompts of {prompts.name}"


def _means(lesson: Lesson) -> tuple[np.ndarray, str]:
    """The mean of each group's images, (k, d), and what they are, in words."""
    images = lesson.known
    means = group_means(images.embeddings, lesson.attributes(images))
    return means, f"means of {_images(lesson, images)}"


def _images(lesson: Lesson, images: LabelledSet) -> str:
    return f"{len(images):,} images of {images.name} by {lesson.attribute}"


METHODS: dict[MethodName, Callable[[Recipe, Any, Lesson], Ready]] = {
    "OrthogonalProjection": _orthogonal,
    "CalibratedProjection": _calibrated,
    "FairCLIP": _fair_clip,
    "JointDebias": _joint,
    "FairerCLIP": _fairer_clip,
    "ClipClip": _clip_clip,
    "GroupMeanProjection": _by_directions,
    "ClosedForm": _by_directions,
    "LinearProbe": _linear_probe,
}

BY_PROMPTS: set[Part] = {"spurious"}
BY_GROUP: set[Part] = {"images", "attribute"}
BY_CLASS: set[Part] = {*BY_GROUP, "label", "classes"}
NEEDS: dict[MethodName, Callable[[Recipe, Any], set[Part]]] = {
    "OrthogonalProjection": lambda recipe, _: (
        BY_GROUP if recipe.directions == "images" else BY_PROMPTS
    ),
    "CalibratedProjection": lambda _, method: {
        "candidates",
        *(BY_PROMPTS if method.orthogonal else ()),
    },
    "FairCLIP": lambda recipe, method: {
        *BY_GROUP,
        *(("classes",) if method.alpha > 0 else ()),
        *(BY_PROMPTS if recipe.directions == "prompts" else ()),
    },
    "JointDebias": lambda *_: {*BY_CLASS, "caption"},
    "FairerCLIP": lambda recipe, _: (
        {*BY_GROUP, "classes"} if recipe.supervised is False else BY_CLASS
    ),
    "ClipClip": lambda *_: BY_GROUP,
    "GroupMeanProjection": lambda recipe, _: (
        BY_PROMPTS if recipe.directions == "prompts" else BY_GROUP
    ),
    "ClosedForm": lambda recipe, _: BY_PROMPTS if recipe.directions == "prompts" else BY_GROUP,
    "LinearProbe": lambda *_: BY_CLASS,
}
DIRECTED = ("OrthogonalProjection", "FairCLIP", "GroupMeanProjection", "ClosedForm")
