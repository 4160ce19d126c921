"""Tasks: the measures that protocols are made of, each with the labels and prompts it reads."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from evaluation.draws import Draws
from evaluation.labelled_set import LabelledSet
from evaluation.rank_measures import Compat
from evaluation.resampling import Resampling
from m4.catalogue import Model
from vision.prompts import TextEncoder

NAME_LABELS = ("attribute", "label", "gallery", "occupation")  # fields of tasks


@dataclass(frozen=True, eq=False)
class Bench:
    """What a task is run with: the model, and how intervals and nulls are made."""

    encode_texts: TextEncoder
    resampling: Resampling
    compat: Compat | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """What a task found.

    Attributes
    ----------
    headlines : of one figure each, the first is the task's own
    tables : of figures by subject, however many subjects there are
    left_out : by reason, how many images of the set took no part
    empty : what was asked for and has no image: groups, classes, or cells "class, group"
    """

    headlines: tuple[Draws, ...]
    tables: tuple[Draws, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()


class Task(Model):
    """A measure of a protocol.

    Attributes
    ----------
    role : of the set of images that it is measured on
    where : value by label: only images that have them take part
    knows_compat : whether it can reproduce the quirks of published code
    """

    knows_compat: ClassVar[bool] = False
    role: str = "images"
    where: dict[str, str] = Field(default_factory=dict)

    @property
    def labels_read(self) -> set[str]:
        """Names of the labels that it reads."""
        named = (getattr(self, field, None) for field in NAME_LABELS)
        return {name for name in named if name is not None} | self.where.keys()

    def run(self, images: LabelledSet, bench: Bench) -> Measured:
        """Measure the images that `where` chooses, and count the others."""
        chosen = images.where(self.where)
        found = self.draws(chosen, bench)
        wanted = ", ".join(f"{label} {value}" for label, value in self.where.items())
        others = named({f"not {wanted}": len(images) - len(chosen)})
        return replace(found, left_out=others | found.left_out)

    @abstractmethod
    def draws(self, images: LabelledSet, bench: Bench) -> Measured:
        """The figures of this measure on labelled images, embedded by the model.

        Raises `InputError` where the images lack a label, or what is declared does not fit them
        or the prompts.
        """


class GroupTask(Task):
    """A measure that compares groups of people.

    Attributes
    ----------
    attribute : label that says which group an image belongs to
    groups : group by the label's value, many to one; None: each value is a group
    outside : values whose images take no part
    """

    attribute: str
    groups: dict[str, str] | None = None
    outside: tuple[str, ...] = ()

    def members(self, images: LabelledSet) -> dict[str, np.ndarray]:
        """Who is in each group; (n,) bool by name."""
        return images.groups(self.attribute, self.groups, self.outside)

    def group_of(self, images: LabelledSet) -> pl.Series:
        """The group of each image; null where it is in none."""
        return images.group_of(self.attribute, self.groups, self.outside)

    def without_group(self, images: LabelledSet) -> dict[str, int]:
        """By reason, how many images are in no group."""
        unknown = images.column(self.attribute).null_count()
        outside = self.group_of(images).null_count() - unknown
        return named(
            {unknown_label(self.attribute): unknown, f"{self.attribute} of no group": outside}
        )

    def empty_groups(self, images: LabelledSet) -> tuple[str, ...]:
        """Groups that no image is in."""
        return tuple(name for name, mask in self.members(images).items() if not mask.any())


def unknown_label(label: str) -> str:
    """The reason to leave out images without this label."""
    return f"{label} not known"


def named(counts: dict[str, int]) -> dict[str, int]:
    """The reasons that left out any image."""
    return {reason: count for reason, count in counts.items() if count > 0}


def empty_cells(
    shown: np.ndarray, names: Sequence[str], members: dict[str, np.ndarray]
) -> tuple[str, ...]:
    """Cells "name, group" without images; `shown` (n, c) bool, whose columns the names are of."""
    return tuple(
        f"{name}, {group}"
        for name, column in zip(names, shown.T, strict=True)
        for group, mask in members.items()
        if not (column & mask).any()
    )
