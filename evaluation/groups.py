"""Groups of images, and the mean of anything by group: resampled, and under the null."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.resampling import Resampling
from m4.catalogue import Model
from m4.errors import InputError


class OfGroups(Model):
    """What was measured of the groups of one attribute.

    `counts` has every group's number of images; `empty` names the groups that have none and took
    no part.
    """

    counts: dict[str, int]
    empty: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Groups:
    """Who shows which value of one attribute. Groups may overlap.

    Attributes
    ----------
    names : of the g groups that have images
    members : (n, g) bool
    counts : images of every group that was asked for
    empty : names of the groups that have none; they take no part
    """

    names: tuple[str, ...]
    members: np.ndarray
    counts: dict[str, int]
    empty: tuple[str, ...]

    @classmethod
    def of(cls, groups: Mapping[str, Any], images: int) -> "Groups":
        """Read masks (n,) bool by the name of the group.

        Raises `InputError` where a mask is not one of n images, or fewer than two groups have
        images, so that nothing can be compared.
        """
        masks = {name: np.asarray(mask, dtype=bool) for name, mask in groups.items()}
        for name, mask in masks.items():
            if mask.shape != (images,):
                raise InputError(f"group {name} has shape {mask.shape} for {images} images")
        counts = {name: int(mask.sum()) for name, mask in masks.items()}
        present = tuple(name for name, count in counts.items() if count > 0)
        if len(present) < 2:
            raise InputError(
                f"{len(present)} of the groups {', '.join(groups)} have images; nothing to "
                "compare: give images of at least two"
            )
        return cls(
            names=present,
            members=np.stack([masks[name] for name in present], axis=1),
            counts=counts,
            empty=tuple(name for name in groups if name not in present),
        )

    @property
    def smallest(self) -> int:
        """Images of the smallest group."""
        return int(self.members.sum(axis=0).min())

    @property
    def anyone(self) -> np.ndarray:
        """Images that are in any group; (n,) bool."""
        return np.asarray(self.members.any(axis=1))

    def chosen(self, rows: np.ndarray) -> "Groups":
        """The same groups among some of the images; `rows` (n,) bool."""
        return replace(self, members=self.members[rows])

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of each column of values (n, m) by group; (g, m)."""
        return np.stack([values[member].mean(axis=0) for member in self.members.T])

    def rates(self, values: np.ndarray, resampling: Resampling) -> "Rates":
        """Means by group of values (n, m) in resamples and under the null.

        All n images are drawn, so that other attributes of theirs see the same resamples; only
        images in any group count, and trade their groups.
        """
        sums, sizes = resampling.group_sums(values, self.members)
        return Rates(
            bootstrap=ratio(sums, sizes[:, :, None]),
            null=resampling.permuted_group_sums(values, self.members)
            / self.members.sum(axis=0)[None, :, None],
        )


@dataclass(frozen=True, eq=False)
class Rates:
    """Means by group: `bootstrap` (resamples, g, m) and `null` (permutations, g, m).

    A mean is NaN in the resamples in which its group is empty. Under the null the images trade
    their groups, so it is what groups of these sizes show when they mean nothing.
    """

    bootstrap: np.ndarray
    null: np.ndarray

    def reduced(self, how: Callable[[np.ndarray], np.ndarray]) -> "Rates":
        """Apply to both what takes (..., g, m) to figures."""
        return Rates(how(self.bootstrap), how(self.null))


def spread(rates: np.ndarray) -> np.ndarray:
    """Largest rate of any group - smallest; (..., g, m) to (..., m)."""
    return rates.max(axis=-2) - rates.min(axis=-2)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=out, where=np.asarray(whole) != 0)
