"""Pictures with what is known of each: what a protocol of evaluation is run on, and tars of them.

A label is a string, as it was written but for space around it; where that leaves nothing, it is
not known. A caption is no label. Labels and their values may be renamed to what a protocol calls
them, and say which pictures are left out.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError, UnusableSample
from pipelines.groups import Group
from pipelines.metadata_tables import Dropped
from pipelines.shards import (
    CAPTION_NOT_UTF8,
    LARGE_TXT,
    Failure,
    ShardRef,
    printable,
    read_groups,
    read_metadata,
    read_text,
    unreadable_reason,
    usable_image,
)
from pipelines.tars import TarReader

CLASS = "cls"
CAPTION = "caption"
LARGE_CLASS = "cls is larger than 1 MB"
CLASS_NOT_UTF8 = "cls is not UTF-8"
OTHER_LABELS = "left out by `where`"


@dataclass(frozen=True)
class LabelledImage:
    """A picture, encoded as it lies there, and what is known of it.

    `key` is its name in its data set; a label that is not known is not there.
    """

    key: str
    image: bytes = field(repr=False)
    labels: Mapping[str, str]
    captions: tuple[str, ...] = ()


class ImageShard(Protocol):
    """Pictures that lie together. Each iteration reads them anew, in the same order.

    What cannot be used is yielded as a `Failure`, what is not asked for as `Dropped`.
    """

    @property
    def name(self) -> str: ...

    def __iter__(self) -> Iterator[LabelledImage | Dropped | Failure]: ...


class Selection(Model):
    """Which labels are taken, under which names, with which values, and which pictures."""

    columns: dict[str, str] = Field(
        default_factory=dict, description="names that a protocol wants, and yours: gender Male"
    )
    values: dict[str, str] = Field(
        default_factory=dict,
        description="values that a protocol wants, by label (its new name) and your value: "
        'gender.1 Male; "" for one that is not to be known',
    )
    where: dict[str, str] = Field(
        default_factory=dict,
        description="pictures to use: labels by their new names, and the new values they must have",
    )

    def names(self, given: Mapping[str, str], what: str) -> dict[str, str]:
        """Labels under their new names; none keeps a name that another is to have.

        Raises `InputError` where both are there.
        """
        taken = set(self.columns.values())
        for new, old in self.columns.items():
            if new in given and old in given and new not in taken:
                raise InputError(
                    f"{what}: columns names {old!r} {new!r}, but there is a label of that name; "
                    f"rename that one too, as in --columns other {new}"
                )
        gone = taken | self.columns.keys()
        kept = {name: value for name, value in given.items() if name not in gone}
        return kept | {new: given[old] for new, old in self.columns.items() if old in given}

    def check(self, there: list[str], what: str) -> None:
        """Raise `InputError` unless labels of the names `there` can be selected from."""
        labels = self.names(dict.fromkeys(there, ""), what)
        lacking = [old for old in self.columns.values() if old not in there]
        lacking += [name for name in self.where if name not in labels]
        if lacking:
            raise InputError(
                f"{what}: no column {lacking[0]!r}, which columns or where name; it has "
                f"{', '.join(labels) or 'none'}"
            )


class Labeller:
    """Applies a selection to pictures, and remembers which labels and values it met."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._met = False
        self._names: set[str] = set()
        self._replaced: set[str] = set()

    def labels(self, given: Mapping[str, str], what: str) -> dict[str, str]:
        """What is known of a picture, as the selection has it.

        Raises `InputError` where two labels get the same name.
        """
        self._met = True
        known = {name: value.strip() for name, value in given.items() if value.strip()}
        named = self.selection.names(known, what)
        self._names |= named.keys()
        labels = {name: self._replacement(name, value) for name, value in named.items()}
        return {name: value for name, value in labels.items() if value}

    def keeps(self, labels: Mapping[str, str]) -> bool:
        """Whether a picture of these labels is used."""
        return all(labels.get(name) == value for name, value in self.selection.where.items())

    def check_met(self, what: str) -> None:
        """Raise `InputError` where a part of the selection is about nothing that was met.

        Where no picture was met at all, there is nothing to say.
        """
        if not self._met:
            return
        there = f"it has {', '.join(sorted(self._names)) or 'no labels'}"
        for new, old in self.selection.columns.items():
            if new not in self._names:
                raise InputError(
                    f"{what}: columns: no image has a label {old!r} to be {new!r}; {there}"
                )
        for name in self.selection.where:
            if name not in self._names:
                raise InputError(f"{what}: where: no image has a label {name!r}; {there}")
        for entry in self.selection.values:
            if entry not in self._replaced:
                raise InputError(
                    f"{what}: values: no image has {entry!r}; write label.value, the label by its "
                    f"new name and the value as it is in the data set; {there}"
                )

    def _replacement(self, name: str, value: str) -> str:
        entry = f"{name}.{value}"
        if entry not in self.selection.values:
            return value
        self._replaced.add(entry)
        return self.selection.values[entry]


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A data set of pictures.

    Attributes
    ----------
    name : of the data set
    shards : its pictures
    labeller : that gives them their labels as they are read
    classes, templates : names of classes and prompts that it brings along; the label "cls" of a
        picture is then the number of its class
    left_out : by reason, what it holds beside its pictures
    """

    name: str
    shards: tuple[ImageShard, ...]
    labeller: Labeller
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


Check = Callable[[Mapping[str, str], tuple[str, ...]], tuple[str, ...]]
"""Gives the captions that a sample of these labels and captions has, or raises `UnusableSample`."""


def as_given(labels: Mapping[str, str], captions: tuple[str, ...]) -> tuple[str, ...]:
    return captions


@dataclass(frozen=True)
class TarImages:
    """The pictures of a tar of samples, as `annotate` reads them; a caption is not needed.

    Labels are the fields of a sample's json that are strings, numbers, true or false, and its
    member `cls`. The caption is its `txt`, or else the json's `caption`, a string or a list.
    """

    ref: ShardRef
    labeller: Labeller
    check: Check = as_given

    @property
    def name(self) -> str:
        return self.ref.name

    def __iter__(self) -> Iterator[LabelledImage | Dropped | Failure]:
        try:
            yield from read_groups(self.ref, self._image)
        except OSError as error:
            yield Failure(self.name, None, unreadable_reason(error), rest=True)

    def _image(self, shard: ShardRef, tar: TarReader, group: Group) -> LabelledImage | Dropped:
        image = usable_image(group)
        fields = read_metadata(tar, group)
        captions = _captions(tar, group, fields.pop(CAPTION, None))
        labels = {printable(name): label for name, label in _labels(fields)}
        if CLASS in group.members:
            labels[CLASS] = _class(tar, group)
        captions = self.check(labels, captions)
        labels = self.labeller.labels(labels, shard.name)
        if not self.labeller.keeps(labels):
            return Dropped(OTHER_LABELS)
        return LabelledImage(f"{shard.stem}/{group.key}", tar.read(image), labels, captions)


def _labels(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known by each field that can be a label."""
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, printable(value)
        elif isinstance(value, int | float):
            yield name, json.dumps(value)


def _class(tar: TarReader, group: Group) -> str:
    try:
        return read_text(tar, group.members[CLASS], LARGE_CLASS).decode().strip()
    except UnicodeDecodeError:
        raise UnusableSample(CLASS_NOT_UTF8) from None


def _captions(tar: TarReader, group: Group, given: Any) -> tuple[str, ...]:
    """The captions of a sample, without space around them; none where they are empty."""
    if "txt" in group.members:
        try:
            given = read_text(tar, group.members["txt"], LARGE_TXT).decode()
        except UnicodeDecodeError:
            raise UnusableSample(CAPTION_NOT_UTF8) from None
    texts = given if isinstance(given, list) else [given]
    stripped = (printable(text).strip() for text in texts if isinstance(text, str))
    return tuple(text for text in stripped if text)
