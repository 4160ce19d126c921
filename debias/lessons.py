"""Lessons: images with their labels, and prompts, that methods learn from."""

import string
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field

from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import PromptSet, load_prompt_set
from m4.catalogue import Model
from m4.errors import InputError
from vision.prompts import TextEncoder, encode, mean_directions


class Material(Model):
    """Labels and prompts that methods may learn from."""

    attribute: str = Field(description="label that says which group an image belongs to")
    groups: dict[str, str] | None = Field(
        default=None, description="group by the label's value; each value is one if left out"
    )
    outside: tuple[str, ...] = Field(default=(), description="values that are in no group")
    label: str | None = Field(default=None, description="label that names the class of an image")
    classes: str | None = Field(default=None, description="prompt set whose names are the classes")
    class_names: dict[str, str] | None = Field(
        default=None, description="name of the class by the label's value, if they differ"
    )
    spurious: str | None = Field(
        default=None,
        description="prompt set of the attribute: a group for each name, or category if it has any",
    )
    candidates: str | None = Field(
        default=None, description="prompt set with pairs that should coincide"
    )
    caption: str | None = Field(
        default=None,
        description="text of an image, with names of labels in braces: 'a photo of a {gender}'",
    )
    words: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="words of that text by label and group, class or value, where they differ",
    )


@dataclass(frozen=True, eq=False)
class Lesson:
    """Images with their labels, and prompts, embedded by one model: what methods are fitted on.

    Attributes
    ----------
    images : those with a known group are used
    encode_texts : the model's
    embedder : the model; None where embeddings are given in its place
    """

    material: Material
    images: LabelledSet
    encode_texts: TextEncoder
    embedder: Any = None

    @cached_property
    def known(self) -> LabelledSet:
        """The images whose group is known. Raises `InputError` where there are none."""
        group = self._groups(self.images)
        rows = np.flatnonzero(group.is_not_null().to_numpy())
        if not len(rows):
            raise InputError(
                f"{self.images.name}: no image is in a group of {self.material.attribute}"
            )
        return self.images.chosen(rows)

    @cached_property
    def labelled(self) -> LabelledSet:
        """Those of them whose class is known. Raises `InputError` where there are none."""
        rows = np.flatnonzero(self._classes(self.known) >= 0)
        if not len(rows):
            raise InputError(f"{self.images.name}: no image has a class of {self.material.label}")
        return self.known.chosen(rows)

    def attributes(self, images: LabelledSet) -> list[str]:
        """The group of each image, which is known."""
        return list(self._groups(images))

    def labels(self, images: LabelledSet) -> np.ndarray:
        """The class of each image, which is known: positions in `class_prompts`, (n,) int."""
        return self._classes(images)

    @property
    def class_prompts(self) -> PromptSet:
        """Raises `InputError` where the material names none."""
        return load_prompt_set(self._named("classes"))

    @property
    def spurious(self) -> PromptSet:
        """Prompts of the attribute; raises `InputError` where the material names none."""
        return load_prompt_set(self._named("spurious"))

    @property
    def candidates(self) -> PromptSet:
        """Raises `InputError` where the material names none, or one without pairs."""
        prompts = load_prompt_set(self._named("candidates"))
        if not prompts.pairs:
            raise InputError(f"candidates: prompt set {prompts.name} has no pairs; name some")
        return prompts

    def texts(self, prompts: PromptSet) -> tuple[np.ndarray, np.ndarray]:
        """Every prompt by itself, (m, d), and the position of its name, (m,)."""
        texts, positions = prompts.each()
        return encode(texts, f"prompts {prompts.name}", self.encode_texts), positions

    def group_directions(self) -> np.ndarray:
        """One direction for each category of the attribute's prompts, or each name; (k, d)."""
        prompts = self.spurious
        rows = prompts.embed(self.encode_texts)
        if not prompts.categories:
            return rows
        place = {name: row for row, name in enumerate(prompts.names)}
        parts = [rows[[place[name] for name in names]] for names in prompts.categories.values()]
        return mean_directions(parts, list(prompts.categories))

    def group_words(self) -> dict[str, str]:
        """The first phrase of each group among the attribute's prompts.

        Raises `InputError` where a group of the images has none of its name.
        """
        phrases, groups = self.spurious.phrases, sorted(set(self.attributes(self.known)))
        lacking = [group for group in groups if group not in phrases]
        if lacking:
            raise InputError(
                f"spurious: prompt set {self.spurious.name} has no name {lacking[0]!r}, a group of "
                f"{self.material.attribute}; it has {', '.join(phrases)}"
            )
        return {group: phrases[group][0] for group in groups}

    @property
    def tower(self) -> Any:
        """The model that encodes; raises `InputError` where embeddings are given in its place."""
        if self.embedder is None:
            raise InputError(
                "directions: prompts are learned through a text tower, but embeddings are given in "
                "place of the model; give the model, or learn from images"
            )
        return self.embedder

    def captions(self, images: LabelledSet) -> tuple[np.ndarray, np.ndarray]:
        """The text of each image, (n, d), and with the group replaced by the others, (n, k-1, d).

        Raises `InputError` where the material has no caption, or it lacks the attribute.
        """
        pattern, attribute = self._named("caption"), self.material.attribute
        columns = {part[1] for part in string.Formatter().parse(pattern) if part[1] is not None}
        if attribute not in columns:
            raise InputError(
                f"caption: {pattern!r} has no {{{attribute}}}; the attribute must be named in it"
            )
        groups = self.attributes(images)
        shown = {name: self._words(images, name) for name in columns}
        everything = sorted(set(groups))
        said = []
        for row, group in enumerate(groups):
            others = [each for each in everything if each != group]
            words = {name: column[row] for name, column in shown.items()}
            said.append(
                [
                    pattern.format(**words | {attribute: self._word(attribute, each)})
                    for each in (group, *others)
                ]
            )
        distinct = sorted({text for row in said for text in row})
        rows = dict(zip(distinct, encode(distinct, "captions", self.encode_texts), strict=True))
        found = np.stack([[rows[text] for text in row] for row in said])
        return found[:, 0], found[:, 1:]

    def _named(self, what: str) -> str:
        found = getattr(self.material, what)
        if found is None:
            raise InputError(f"{what} is missing; name it, as this method learns from it")
        return str(found)

    def _groups(self, images: LabelledSet) -> Any:
        given = self.material
        return images.group_of(given.attribute, given.groups, given.outside)

    def _classes(self, images: LabelledSet) -> np.ndarray:
        names = self.class_prompts.names
        labels = self.material.class_names or {name: name for name in names}
        strange = sorted(set(labels.values()) - set(names))
        if strange:
            raise InputError(
                f"class_names: {strange[0]!r} is no name of prompts {self.class_prompts.name}; "
                f"name one of {', '.join(names)}"
            )
        place = {name: row for row, name in enumerate(names)}
        found = images.group_of(self._named("label"), labels)
        return np.array([-1 if each is None else place[each] for each in found])

    def _words(self, images: LabelledSet, label: str) -> list[str]:
        if label == self.material.attribute:
            values = self.attributes(images)
        elif label == self.material.label:
            names = self.class_prompts.names
            values = [names[row] for row in self._classes(images)]
        else:
            values = [str(each) for each in images.column(label)]
        return [self._word(label, value) for value in values]

    def _word(self, label: str, value: str) -> str:
        return self.material.words.get(label, {}).get(value, value)
