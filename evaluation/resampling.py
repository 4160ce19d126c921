"""Bootstrap resamples and permutations: the same ones for the same items, whoever measures them."""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError

BLOCK = 1 << 24  # numbers of resamples times items that are held as floats at a time


class Resampling(Model):
    """How intervals and null distributions are made.

    Resamples follow from the seed and the number of items alone. Two models that are measured on
    the same items are thus measured on the same resamples of them, and their difference can be
    taken resample by resample.
    """

    resamples: int = Field(default=1000, ge=100, description="bootstrap resamples")
    permutations: int = Field(default=1000, ge=100, description="draws of the null distribution")
    level: float = Field(default=0.95, gt=0.5, lt=1, description="of intervals and null bands")
    seed: int = Field(default=0, ge=0, description="of resamples and permutations")

    def generator(self, items: int, of: str) -> np.random.Generator:
        """Random numbers that depend on the seed, on what is drawn, and on how many there are."""
        return np.random.default_rng([self.seed, items, zlib.crc32(of.encode())])

    def counts(self, items: int, of: str = "images") -> np.ndarray:
        """How often each of n items is in each bootstrap resample; (resamples, n) uint16.

        A resample has n items, drawn with replacement: Efron (1979).
        """
        generator = self.generator(items, f"bootstrap of {of}")
        drawn = np.empty((self.resamples, items), dtype=np.uint16)
        for row in drawn:
            row[:] = np.bincount(generator.integers(items, size=items), minlength=items)
        return drawn

    def permuted(self, items: int, strata: Any = None) -> np.ndarray:
        """Permutations of range(n); (permutations, n) int32.

        Parameters
        ----------
        strata : (n,) codes; an item then trades places within its own stratum only. None: any
        """
        generator = self.generator(items, "permutations")
        order = np.tile(np.arange(items, dtype=np.int32), (self.permutations, 1))
        if strata is None:
            return generator.permuted(order, axis=1, out=order)
        codes = np.asarray(strata)
        for code in np.unique(codes):
            members = np.flatnonzero(codes == code)
            order[:, members] = generator.permuted(order[:, members], axis=1)
        return order

    def sums(self, values: Any) -> np.ndarray:
        """Sum of each column of (n, m) over the items of each bootstrap resample; (resamples, m).

        What is a ratio or a difference of sums (a share, a rate by group, an accuracy) needs
        nothing else.
        """
        values = np.asarray(values, dtype=np.float64)
        return _products(self.counts(len(values)), values)

    def group_sums(self, values: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
        """Sums by group over the items of each bootstrap resample.

        Parameters
        ----------
        values : (n, m)
        groups : (n, g) bool, which items belong to each group; groups may overlap

        Returns sums (resamples, g, m) and the groups' sizes (resamples, g).
        """
        values, groups = _checked(values, groups)
        counts = self.counts(len(values))
        sums = [_products(counts, values * members[:, None]) for members in groups.T]
        return np.stack(sums, axis=1), _products(counts, groups)

    def permuted_group_sums(self, values: Any, groups: Any, strata: Any = None) -> np.ndarray:
        """Sums by group where the items trade their groups; (permutations, g, m).

        An item's groups move together, so how groups overlap and how large they are stays the
        same: what is left is what chance alone makes of groups that mean nothing. Items in no
        group take no part; those of different attributes, known of different items, trade alike.
        Parameters as for `group_sums`; `strata` as for `permuted`.
        """
        values, groups = _checked(values, groups)
        orders = self.permuted(len(values), strata)
        members = groups.any(axis=1)
        if not members.all():
            if strata is not None:
                raise InputError("items in no group cannot trade within strata; leave them out")
            orders, values = _among(orders, members), values[members]
        found = []
        for rows in _blocks(len(orders), groups.size):
            # One product for many permutations: (p g, n) by (n, m).
            traded = groups.T[:, orders[rows]].swapaxes(0, 1)
            draws, g, n = traded.shape
            found.append((traded.reshape(draws * g, n) @ values).reshape(draws, g, -1))
        return np.concatenate(found)


def _among(orders: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The permutations of some of the items that permutations of all induce; (p, members).

    An item that would go to the place of one outside goes on to where that one goes, until it is
    inside. Every permutation of the members is then as likely, and what is left of two sets that
    nearly agree trades nearly alike.
    """
    found = orders[:, members]
    draw, item = np.nonzero(~members[found])
    while len(draw):
        found[draw, item] = orders[draw, found[draw, item]]
        still = ~members[found[draw, item]]
        draw, item = draw[still], item[still]
    return found


def _checked(values: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    values, groups = np.asarray(values, dtype=np.float64), np.asarray(groups, dtype=np.float64)
    if values.ndim != 2 or groups.ndim != 2 or len(values) != len(groups):
        raise InputError(
            f"values of shape {values.shape} and groups of shape {groups.shape}: give one row of "
            "each for every item"
        )
    return values, groups


def _products(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """counts (resamples, n) times values (n, m), without a copy of all counts as floats."""
    return np.concatenate([counts[rows] @ values for rows in _blocks(*counts.shape)])


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, BLOCK // max(columns, 1))
    for first in range(0, rows, step):
        yield slice(first, first + step)
