"""The gallery: pictures with captions, and what is known of the people and things in them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from m4.catalogue import Catalogue, Model
from m4.errors import InputError
from m4.patterns import Patterns

SHOWN = 0.5
"""A mark counts as shown from this probability on."""


class GalleryCounts(Model):
    """How many images a gallery has of what. `digest` identifies the images by their uids.

    `people` are the images in a group of any sensitive value, `unlabelled_people` those of them
    that show no label. `values` and `labels` (labels and proxies) count images by name.
    """

    images: int
    captions: int
    without_caption: int
    people: int
    unlabelled_people: int
    values: dict[str, int]
    labels: dict[str, int]
    digest: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images to evaluate on, one row each.

    Attributes
    ----------
    uids : n names, no two the same
    captions : n captions; blank where an image has none
    s : (n, m) float64, probability of each sensitive value in [0, 1]; 0 where not observed
    observed : (n, m) bool, False where an attribute is not known or does not apply
    y : (n, c) float64 CSR, labels and then proxies, in [0, 1]
    value_names : m full names, "gender.woman"
    labels, proxies : names of the columns of y, c together

    An image belongs to the group of a value where it is observed and s >= 0.5, and shows a label
    where y >= 0.5; a picture of two people can belong to two groups.

    Raises `InputError` where lengths disagree, a uid is repeated or a number is out of range.
    """

    uids: tuple[str, ...]
    captions: tuple[str, ...]
    s: np.ndarray
    observed: np.ndarray
    y: sparse.csr_array
    value_names: tuple[str, ...]
    labels: tuple[str, ...]
    proxies: tuple[str, ...]

    def __post_init__(self) -> None:
        rows, values = len(self.uids), len(self.value_names)
        concepts = len(self.labels) + len(self.proxies)
        if rows == 0:
            raise InputError("the gallery has no images")
        wanted = {"s": (rows, values), "observed": (rows, values), "y": (rows, concepts)}
        for name, shape in wanted.items():
            given = getattr(self, name).shape
            if given != shape:
                raise InputError(
                    f"{name} has shape {given}, but {rows} uids, {values} sensitive values and "
                    f"{concepts} labels and proxies need {shape}"
                )
        if len(self.captions) != rows:
            raise InputError(f"{len(self.captions)} captions for {rows} uids; give one for each")
        if len(set(self.uids)) != rows:
            again = next(uid for uid, times in Counter(self.uids).items() if times > 1)
            raise InputError(f"uid {again!r} is in the gallery twice; leave one out")
        for name, numbers in (("s", self.s), ("y", self.y.data)):
            bad = ~((numbers >= 0) & (numbers <= 1))
            if bad.any():
                raise InputError(f"{name} holds {numbers[bad].flat[0]}, outside [0, 1]")

    @classmethod
    def from_patterns(
        cls,
        patterns: Patterns,
        uids: Sequence[str],
        captions: Sequence[str],
        catalogue: Catalogue,
    ) -> "Gallery":
        """Join annotations, one row per image, with the uids and captions of the same rows.

        Raises `InputError` where the rows are patterns that stand for several images.
        """
        several = patterns.counts != 1
        if several.any():
            row = int(np.flatnonzero(several)[0])
            raise InputError(
                f"row {row} stands for {patterns.counts[row]:g} images; a gallery has one row "
                "per image: give the annotations, not their distinct patterns"
            )
        return cls(
            tuple(uids),
            tuple(captions),
            patterns.s,
            patterns.observed,
            patterns.y,
            catalogue.value_names,
            tuple(catalogue.labels),
            tuple(catalogue.proxies),
        )

    def __len__(self) -> int:
        return len(self.uids)

    def values_of(self, attribute: str) -> tuple[str, ...]:
        """Full names of the values of an attribute, in order."""
        return tuple(name for name in self.value_names if name.split(".")[0] == attribute)

    def groups(self, values: Sequence[str]) -> np.ndarray:
        """Which images belong to the group of each value (full names); (n, values) bool."""
        columns = [self.value_names.index(name) for name in values]
        return self.observed[:, columns] & (self.s[:, columns] >= SHOWN)

    def shows(self, concepts: Sequence[str]) -> np.ndarray:
        """Which images show each of these labels or proxies; (n, concepts) bool."""
        position = {name: column for column, name in enumerate((*self.labels, *self.proxies))}
        return (self.y[:, [position[name] for name in concepts]] >= SHOWN).toarray()

    @property
    def people(self) -> np.ndarray:
        """Images in a group of any sensitive value; (n,) bool."""
        return np.asarray(self.groups(self.value_names).any(axis=1))

    @property
    def labelled(self) -> np.ndarray:
        """Images that show at least one label; proxies do not count; (n,) bool."""
        shown = self.y[:, : len(self.labels)] >= SHOWN
        return np.asarray(shown.sum(axis=1) > 0)

    @property
    def captioned(self) -> np.ndarray:
        """Images whose caption is not blank; (n,) bool."""
        return np.array([bool(caption.strip()) for caption in self.captions])

    def counts(self) -> GalleryCounts:
        """Count what the gallery holds; never suppressed here."""
        in_group = self.groups(self.value_names).sum(axis=0)
        shown = np.asarray((self.y >= SHOWN).sum(axis=0)).ravel()
        concepts = (*self.labels, *self.proxies)
        return GalleryCounts(
            images=len(self),
            captions=len(set(self.captions) - {c for c in self.captions if not c.strip()}),
            without_caption=int((~self.captioned).sum()),
            people=int(self.people.sum()),
            unlabelled_people=int((self.people & ~self.labelled).sum()),
            values=dict(zip(self.value_names, in_group.tolist(), strict=True)),
            labels=dict(zip(concepts, shown.tolist(), strict=True)),
            digest=hashlib.sha256("\n".join(sorted(self.uids)).encode()).hexdigest(),
        )
