"""Right answers by cell: as they are, in resamples of the images, and by chance."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from evaluation.draws import Better, Draws, NullKind, Tail
from evaluation.embeddings import TIE, check_same_space
from evaluation.resampling import Resampling
from m4.errors import InputError
from vision.directions import normalised

BLOCK = 2048
"""Images whose similarities are held at a time."""
DRAWS = 1 << 24
"""Resamples or permutations, times images, that are held at a time."""


@dataclass(frozen=True, eq=False)
class OneLabel:
    """Images that show exactly one label, and that label.

    `rows` (n,) of the images given; `images` (n, d) and `prompts` (c, d) of length 1; `truth` (n,)
    """

    rows: np.ndarray
    images: np.ndarray
    prompts: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, images: Any, prompts: Any, shown: np.ndarray, labels: Sequence[str]) -> "OneLabel":
        if len(labels) < 2:
            raise InputError(
                f"{len(labels)} labels; zero-shot needs at least two to choose between"
            )
        images, prompts = normalised(images, "images"), normalised(prompts, "prompts")
        check_same_space(images, prompts, "prompts")
        if not (len(images), len(prompts)) == shown.shape == (len(images), len(labels)):
            raise InputError(
                f"{len(images)} images, {len(prompts)} prompts, {len(labels)} labels and `shown` "
                f"of shape {shown.shape} do not agree; give one prompt per label and one row per "
                "image"
            )
        rows = np.flatnonzero(shown.sum(axis=1) == 1)
        if len(rows) == 0:
            raise InputError(
                f"no image shows exactly one of the {len(labels)} labels evaluated; give images "
                "that do, or other labels"
            )
        return cls(rows, images[rows], prompts, shown[rows].argmax(axis=1))

    def chosen(self, keep: np.ndarray) -> "OneLabel":
        """Some of the images, (n,) bool."""
        return OneLabel(self.rows[keep], self.images[keep], self.prompts, self.truth[keep])

    def by_label(self) -> "Cells":
        """A cell for each label that an image has."""
        return Cells.of(np.arange(len(self.rows)), self.truth, len(self.rows))

    def in_top(self, k: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Chance that each label is among an image's k most similar, of some images at a time."""
        for first in range(0, len(self.images), BLOCK):
            rows = slice(first, first + BLOCK)
            yield rows, _in_top(self.images[rows] @ self.prompts.T, k)

    def right(self, k: int) -> np.ndarray:
        """Chance that an image's own label is among its k most similar; (n,)."""
        own = (chance[np.arange(len(chance)), self.truth[rows]] for rows, chance in self.in_top(k))
        return np.concatenate(list(own))

    def right_by_chance(self, k: int, orders: np.ndarray) -> np.ndarray:
        """Right answers by label where images take each other's labels; (permutations, c).

        Parameters
        ----------
        orders : (permutations, n), whose label each image takes
        """
        draws, labels = len(orders), len(self.prompts)
        found = np.zeros(draws * labels)
        for rows, chance in self.in_top(k):
            taken = self.truth[orders[:, rows]]
            right = chance[np.arange(len(chance)), taken]
            cell = np.arange(draws)[:, None] * labels + taken
            found += np.bincount(cell.ravel(), weights=right.ravel(), minlength=len(found))
        return found.reshape(draws, labels)


def _in_top(scores: np.ndarray, k: int) -> np.ndarray:
    """Chance that each item is among the k highest of its row, if ties fall in random order.

    A tie of t items for r places gives r / t of a place to each; (n, c).
    """
    highest = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    chance = np.zeros(scores.shape)
    for level in highest.T[:, :, None]:
        above = scores > level + TIE
        tied = (scores >= level - TIE) & ~above
        places = k - above.sum(axis=1)
        share = np.minimum(1.0, places / tied.sum(axis=1))
        np.copyto(chance, share[:, None], where=tied)
    return chance


@dataclass(frozen=True, eq=False)
class Tally:
    """Right answers and images by cell, (..., m) each. Figures are (..., m), or (..., 1) of all."""

    right: np.ndarray
    images: np.ndarray

    def accuracy(self) -> np.ndarray:
        """Of each cell; NaN where it has no images."""
        with np.errstate(invalid="ignore"):
            return self.right / self.images

    def average(self) -> np.ndarray:
        """Over all images."""
        right, images = (each.sum(axis=-1, keepdims=True) for each in (self.right, self.images))
        return right / images

    def mean(self) -> np.ndarray:
        """Over the cells that have images."""
        return np.nanmean(self.accuracy(), axis=-1, keepdims=True)

    def worst(self) -> np.ndarray:
        """Of the cells that have images."""
        return np.nanmin(self.accuracy(), axis=-1, keepdims=True)

    def gap(self) -> np.ndarray:
        """From the average to the worst."""
        return self.average() - self.worst()


Figure = Callable[[Tally], np.ndarray]


@dataclass(frozen=True, eq=False)
class Tallies:
    """As observed (m,), in each resample (resamples, m), and by chance (permutations, m)."""

    observed: Tally
    bootstrap: Tally
    null: Tally | None

    def draws(
        self,
        measure: str,
        names: Sequence[str],
        figure: Figure,
        images: int,
        better: Better,
        null_kind: NullKind = "permutation",
        tail: Tail = "upper",
        compares: bool = False,
    ) -> Draws:
        """What one figure is of each of them; `compares`: it sets cells against each other."""
        sizes = self.observed.images
        return Draws(
            measure=measure,
            names=tuple(names),
            observed=figure(self.observed),
            bootstrap=figure(self.bootstrap),
            null=None if self.null is None else figure(self.null),
            images=images,
            better=better,
            null_kind=null_kind,
            tail=tail,
            bounds=(0.0, 1.0),
            images_of_each=sizes if len(names) == len(sizes) else None,
            smallest_group=int(sizes.min()) if compares else None,
        )


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells with images in them: `members` (n, m) of 0 and 1, and the cells' `numbers` (m,)."""

    members: csr_array
    numbers: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, cell: np.ndarray, images: int) -> "Cells":
        """From pairs of an image and a cell that it is in, (p,) each."""
        numbers, column = np.unique(cell, return_inverse=True)
        shape = (images, len(numbers))
        return cls(csr_array((np.ones(len(image)), (image, column)), shape=shape), numbers)

    def tally(self, right: np.ndarray) -> Tally:
        """What is right in each cell, where `right` (n,) is the chance that an answer is."""
        return Tally(self.members.T @ right, self.members.sum(axis=0))

    def resampled(self, right: np.ndarray, resampling: Resampling) -> Tally:
        """In each bootstrap resample of the images."""
        counts = resampling.counts(len(right))
        blocks = np.array_split(counts, counts.size // DRAWS + 1)
        answers = self.members * right[:, None]
        return Tally(
            np.concatenate([block @ answers for block in blocks]),
            np.concatenate([block @ self.members for block in blocks]),
        )

    def traded(self, right: np.ndarray, orders: np.ndarray) -> np.ndarray:
        """Right answers by cell where images take each other's cells; (permutations, m)."""
        blocks = np.array_split(orders, orders.size // DRAWS + 1)
        return np.concatenate([right[block] @ self.members for block in blocks])
