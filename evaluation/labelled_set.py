"""A labelled set: embeddings of images, and what is known of each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from m4.errors import InputError


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Images to run a protocol on.

    Attributes
    ----------
    name : of the data set
    digest : of the images' identities, labels and captions, in order; two models can be compared
        where it is equal
    keys : n names of images
    embeddings : (n, d)
    labels : n rows of strings, a column for each thing that is known; null where it is not
    captions : of each image, where it has any
    classes, templates : that the data set brings along, in clip_benchmark's format; the column
        "cls" then holds the number of an image's class
    left_out : by reason, how many images could not be used
    """

    name: str
    digest: str
    keys: tuple[str, ...]
    embeddings: np.ndarray
    labels: pl.DataFrame
    captions: tuple[tuple[str, ...], ...] | None = None
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"keys": len(self.keys), "labels": len(self.labels)}
        if self.captions is not None:
            lengths["captions"] = len(self.captions)
        for what, length in lengths.items():
            if length != len(self.embeddings):
                raise InputError(
                    f"{self.name}: {len(self.embeddings)} embeddings and {length} {what}; give "
                    "one for each image"
                )
        if len(self) == 0:
            raise InputError(f"{self.name}: no images")

    def __len__(self) -> int:
        return len(self.embeddings)

    def column(self, name: str) -> pl.Series:
        """What is known of each image by one label. Raises `InputError` where there is none."""
        if name not in self.labels.columns:
            there = ", ".join(self.labels.columns) or "none at all"
            raise InputError(
                f"{self.name}: no label {name!r}; it has {there}; name the column that holds it "
                f"with --columns {name} YOURS"
            )
        return self.labels[name].cast(pl.String)

    def chosen(self, rows: np.ndarray) -> "LabelledSet":
        """The images of some rows, (k,) int."""
        return replace(
            self,
            keys=tuple(self.keys[row] for row in rows),
            embeddings=self.embeddings[rows],
            labels=self.labels[rows],
            captions=None if self.captions is None else tuple(self.captions[row] for row in rows),
        )

    def where(self, wanted: Mapping[str, str]) -> "LabelledSet":
        """The images whose labels have these values. Raises `InputError` where there are none."""
        keep = np.ones(len(self), dtype=bool)
        for name, value in wanted.items():
            keep &= (self.column(name) == value).fill_null(False).to_numpy()
        if not keep.any():
            says = ", ".join(f"{name} {value}" for name, value in wanted.items())
            raise InputError(f"{self.name}: no image has {says}")
        return self.chosen(np.flatnonzero(keep))

    def group_of(
        self, name: str, names: Mapping[str, str] | None = None, outside: Sequence[str] = ()
    ) -> pl.Series:
        """The group of each image by one label; null where it is in none.

        Parameters
        ----------
        name : of the label
        names : group by the value in the file, many to one; None: each value is a group of its
            own name
        outside : values whose images are in no group, on purpose

        Raises `InputError` where a value is neither, or no image has a value.
        """
        given = self.column(name)
        values = sorted(set(given.drop_nulls()) - set(outside))
        names = names if names is not None else {value: value for value in values}
        strange = [value for value in values if value not in names]
        if strange or not values:
            raise InputError(
                f"{self.name}: label {name} "
                + (f"holds {strange[0]!r}" if strange else "is empty everywhere")
                + f"; known are {', '.join(names) or 'none'}: write one of them, or leave it empty "
                "where it is not known"
            )
        return given.replace_strict(names, default=None, return_dtype=pl.String)

    def groups(
        self, name: str, names: Mapping[str, str] | None = None, outside: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Which images belong to each group of one label; (n,) bool by the group's name.

        Parameters and errors as for `group_of`. Groups are in the order of `names`, or of the
        alphabet; one without images is there too.
        """
        given = self.group_of(name, names, outside)
        wanted = dict.fromkeys(names.values()) if names else sorted(set(given.drop_nulls()))
        return {group: (given == group).fill_null(False).to_numpy() for group in wanted}
