"""Lessons: images with their labels, and prompts, that methods learn from."""

import string
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from evaluation.labelled_set import LabelledSet
from evaluation.prompt_sets import PromptSet, load_prompt_set
from m4.catalogue import Model
from m4.errors import InputError
from vision.prompts import TextEncoder, encode, mean_directions


class Material(Model):
    """Labels and prompts that methods may learn from."""

    attribute: str | None = Field(
        default=None, description="label that says which group an image belongs to"
    )
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

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.class_names is not None and self.label is None:
            raise ValueError("class_names has no effect without label; name it, or leave them out")
        for name in ("groups", "outside", "caption"):
            if self.attribute is None and getattr(self, name):
                raise ValueError(f"{name} has no effect without attribute; name that too")
        named = self.caption_labels
        if self.caption is not None and self.attribute not in named:
            raise ValueError(
                f"caption: {self.caption!r} has no {{{self.attribute}}}; the attribute must be "
                "named in it"
            )
        strange = [name for name in self.words if name not in named]
        if strange:
            raise ValueError(
                f"words: {strange[0]!r} is not named in the caption, {self.caption!r}; name it "
                "there, or leave out its words"
            )
        return self

    @property
    def caption_labels(self) -> set[str]:
        """The labels that the caption names."""
        return {name for _, name in caption_parts(self.caption or "") if name is not None}


def caption_parts(caption: str) -> list[tuple[str, str | None]]:
    """A caption in parts: text, and the label whose word follows it; None after the last one.

    Raises `ValueError` where braces do not match, or hold more than the name of a label.
    """
    try:
        parts = list(string.Formatter().parse(caption))
    except ValueError as error:
        raise ValueError(f"caption: {caption!r}: {error}; write {{{{ for a brace") from None
    for _, name, form, conversion in parts:
        if name == "" or form or conversion:
            raise ValueError(
                f"caption: {caption!r}: braces hold the name of a label and nothing else"
            )
    return [(text, name) for text, name, _, _ in parts]


def load_candidates(name: str) -> PromptSet:
    """A prompt set with pairs that should coincide. Raises `InputError` where it has none."""
    prompts = load_prompt_set(name)
    if not prompts.pairs:
        raise InputError(f"candidates: prompt set {prompts.name} has no pairs; name some")
    return prompts


@dataclass(frozen=True, eq=False)
class Lesson:
    """Images with their labels, and prompts, embedded by one model: what methods are fitted on.

    Attributes
    ----------
    images : those with a known group are used; None: there are prompts alone
    encode_texts : the model's
    embedder : the model; None where embeddings are given in its place
    """

    material: Material
    images: LabelledSet | None
    encode_texts: TextEncoder
    embedder: Any = None

    @cached_property
    def known(self) -> LabelledSet:
        """The images whose group is known. Raises `InputError` where there are none."""
        if self.images is None:
            raise InputError("images are missing; give some, as this method learns from them")
        group = self._groups(self.images)
        return self.images.chosen(np.flatnonzero(group.is_not_null().to_numpy()))

    @cached_property
    def labelled(self) -> LabelledSet:
        """Those of them whose class is known. Raises `InputError` where there are none."""
        return self.known.chosen(np.flatnonzero(self._classes(self.known) >= 0))

    def attributes(self, images: LabelledSet) -> list[str]:
        """The group of each image, which is known."""
        return list(self._groups(images))

    def labels(self, images: LabelledSet) -> np.ndarray:
        """The class of each image, which is known: positions in `class_prompts`, (n,) int."""
        return self._classes(images)

    @property
    def attribute(self) -> str:
        """The label of the groups; raises `InputError` where the material names none."""
        return self._named("attribute")

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
        return load_candidates(self._named("candidates"))

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
                f"{self.attribute}; it has {', '.join(phrases)}"
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

        The k groups are those of all images that are known, the others in the alphabet's order.
        Raises `InputError` where the material has no caption, there is one group only or two have
        the same word, or an image lacks a label that the caption names.
        """
        parts, attribute = caption_parts(self._named("caption")), self.attribute
        groups = self._group_words_in_captions()
        words = {name: self._words(images, name) for _, name in parts if name is not None}
        said = []
        for row, group in enumerate(self.attributes(images)):
            own = {name: column[row] for name, column in words.items()}
            others = [word for other, word in groups.items() if other != group]
            said.append(
                [_filled(parts, own | {attribute: word}) for word in (groups[group], *others)]
            )
        distinct = sorted({text for row in said for text in row})
        rows = dict(zip(distinct, encode(distinct, "captions", self.encode_texts), strict=True))
        found = np.stack([[rows[text] for text in row] for row in said])
        return found[:, 0], found[:, 1:]

    def _group_words_in_captions(self) -> dict[str, str]:
        """The word of each group, in the alphabet's order of the groups."""
        attribute = self.attribute
        names = sorted(set(self.attributes(self.known)))
        if len(names) < 2:
            raise InputError(
                f"{self.known.name}: all images are in group {names[0]!r} of {attribute}; give "
                "images of two or more"
            )
        words = {name: self._word(attribute, name) for name in names}
        first = {word: name for name, word in reversed(words.items())}
        for name, word in words.items():
            if first[word] != name:
                raise InputError(
                    f"words: groups {first[word]!r} and {name!r} of {attribute} are both {word!r} "
                    "in captions; give each its own"
                )
        return words

    def _named(self, what: str) -> str:
        found = getattr(self.material, what)
        if found is None:
            raise InputError(f"{what} is missing; name it, as this method learns from it")
        return str(found)

    def _groups(self, images: LabelledSet) -> Any:
        given = self.material
        return images.group_of(self.attribute, given.groups, given.outside)

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
        """What captions say of each image by one label."""
        values: list[str | None]
        if label == self.material.attribute:
            values = list(self.attributes(images))
        elif label == self.material.label:
            names = self.class_prompts.names
            values = [names[row] if row >= 0 else None for row in self._classes(images)]
        else:
            values = images.column(label).to_list()
        found = []
        for key, value in zip(images.keys, values, strict=True):
            if value is None:
                raise InputError(
                    f"{images.name}: image {key} has no {label}, which the caption names; fill it "
                    "in, or leave out the image or the name"
                )
            found.append(self._word(label, value))
        return found

    def _word(self, label: str, value: str) -> str:
        return self.material.words.get(label, {}).get(value, value)


def _filled(parts: list[tuple[str, str | None]], words: dict[str, str]) -> str:
    return "".join(text + ("" if name is None else words[name]) for text, name in parts)
