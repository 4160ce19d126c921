"""Patterns: what a solver needs to know of the data, whatever the number of examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from m4.errors import InputError
from m4.hashing import order_of, scramble


@dataclass(frozen=True, eq=False)
class Patterns:
    """Rows of (s, o, y, u) with their counts: examples as they come, or distinct ones.

    Attributes
    ----------
    s : (N, m) float64, sensitive values in [0, 1]; 0 where not observed
    observed : (N, m) bool, False where an attribute is not known or does not apply
    y : (N, c) float64 CSR, labels and proxies in [0, 1]
    utility : (N,) float64 in [0, 1]
    counts : (N,) float64, examples that a row stands for; at least one is positive

    Raises `InputError` where shapes disagree or a number is out of its range.
    """

    s: np.ndarray
    observed: np.ndarray
    y: sparse.csr_array
    utility: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        rows = len(self.s)
        for name in ("observed", "y", "utility", "counts"):
            given = getattr(self, name).shape
            wanted = {"observed": self.s.shape, "y": (rows, self.y.shape[1])}.get(name, (rows,))
            if given != wanted:
                raise InputError(
                    f"{name} has shape {given}, but s of shape {self.s.shape} needs "
                    f"{wanted}; give one row per example"
                )
        if rows == 0:
            raise InputError("no examples: s has no rows")
        for name, numbers in (("s", self.s), ("y", self.y.data), ("utility", self.utility)):
            bad = ~((numbers >= 0) & (numbers <= 1))
            if bad.any():
                raise InputError(
                    f"{name} holds {numbers[bad].flat[0]}, outside [0, 1]; mark what "
                    "is not known in `observed`"
                )
        if not (np.isfinite(self.counts).all() and (self.counts >= 0).all()):
            raise InputError("counts holds a negative or non-finite number")
        if self.counts.sum() == 0:
            raise InputError("counts sum to 0: there are no examples")

    @classmethod
    def from_arrays(
        cls,
        s: Any,
        y: Any,
        *,
        observed: Any = None,
        utility: Any = None,
        counts: Any = None,
    ) -> "Patterns":
        """Build from plain arrays.

        Parameters
        ----------
        s : (N, m) or (N,) array; NaN means not observed
        y : (N, c) or (N,) array or scipy sparse matrix
        observed : (N, m), (N,) or None for all that is not NaN
        utility, counts : (N,) or None for ones
        """
        s = _columns(np.asarray(s, dtype=np.float64))
        known = ~np.isnan(s)
        if observed is not None:
            mask = _columns(np.asarray(observed, dtype=bool))
            if mask.shape[0] == s.shape[0] and mask.shape[1] == 1:
                mask = np.repeat(mask, s.shape[1], axis=1)
            if mask.shape != s.shape:
                raise InputError(f"observed has shape {mask.shape}, s has {s.shape}; give the same")
            known &= mask
        labels = y if sparse.issparse(y) else _columns(np.asarray(y, dtype=np.float64))
        matrix = sparse.csr_array(labels, dtype=np.float64, copy=True)  # changed in place below
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        rows = len(s)
        ones = np.ones(rows)
        return cls(
            np.where(known, s, 0.0),
            known,
            matrix,
            ones if utility is None else np.asarray(utility, dtype=np.float64),
            ones if counts is None else np.asarray(counts, dtype=np.float64),
        )

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, value_names: Sequence[str], labels: int) -> "Patterns":
        """Build from a table of annotations or patterns.

        Parameters
        ----------
        frame : a nullable column per sensitive value, `labels` (lists of ids), `utility`, and
            optionally `count`
        value_names : names of the m columns of sensitive values
        labels : c, the number of labels and proxies
        """
        s = frame.select(pl.col(list(value_names)).cast(pl.Float64)).to_numpy()
        unlisted = frame["labels"].null_count()
        if unlisted:
            raise InputError(f"labels is null in {unlisted} rows; an empty list says: no label")
        ids = frame["labels"].explode(empty_as_null=False, keep_nulls=False).to_numpy()
        unknown = ids[(ids < 0) | (ids >= labels)]
        if len(unknown):
            raise InputError(f"labels holds the id {unknown[0]}, but there are {labels} labels")
        ends = np.concatenate([[0], np.cumsum(frame["labels"].list.len().to_numpy())])
        y = sparse.csr_array((np.ones(len(ids)), ids, ends), shape=(len(frame), labels))
        counts = frame["count"].to_numpy() if "count" in frame.columns else None
        return cls.from_arrays(s, y, utility=frame["utility"].to_numpy(), counts=counts)

    @property
    def examples(self) -> float:
        """Number of examples, N in the mathematics."""
        return float(self.counts.sum())

    @property
    def share(self) -> np.ndarray:
        """Each row's share of all examples, so that E[x] is `share @ x`; (N,)."""
        return self.counts / self.counts.sum()

    def rows(self, chosen: Any) -> "Patterns":
        """Some of the rows: a slice, or an array of positions."""
        return Patterns(
            self.s[chosen],
            self.observed[chosen],
            self.y[chosen],
            self.utility[chosen],
            self.counts[chosen],
        )

    def distinct(self) -> tuple["Patterns", np.ndarray]:
        """Join equal rows. Returns the distinct patterns, and each row's position among them.

        Labels of rows on which nothing is observed are dropped: they enter no constraint. Rows are
        compared by a 128-bit signature, whose order they are in, and then verified exactly.
        """
        y = self._labels_that_count()
        dense = np.column_stack([self.s, self.observed, self.utility]) + 0.0  # no negative zero
        words = _signatures(dense.view(np.uint64), y)
        order = order_of(words)
        new = np.ones(len(order), dtype=bool)
        new[1:] = (words[:, order[1:]] != words[:, order[:-1]]).any(axis=0)
        inverse = np.empty(len(order), dtype=np.intp)
        inverse[order] = np.cumsum(new) - 1
        first = order[new]
        same = first[inverse]
        if not (
            np.array_equal(dense, dense[same]) and (y != y[same]).nnz == 0
        ):  # pragma: no cover - one chance in 2**64
            raise RuntimeError("two different patterns share a 128-bit signature")
        counts = np.bincount(inverse, weights=self.counts, minlength=len(first))
        return replace(replace(self, y=y).rows(first), counts=counts), inverse

    def _labels_that_count(self) -> sparse.csr_array:
        seen = self.observed.any(axis=1)
        if seen.all():
            return self.y
        lengths = np.diff(self.y.indptr)
        kept = np.repeat(seen, lengths)
        ends = np.concatenate([[0], np.cumsum(np.where(seen, lengths, 0))])
        return sparse.csr_array((self.y.data[kept], self.y.indices[kept], ends), shape=self.y.shape)


def _signatures(bits: np.ndarray, y: sparse.csr_array) -> np.ndarray:
    """Two words for each row, (2, N) uint64, of its dense columns and its labels in any order."""
    generator = np.random.default_rng(0x4D34)
    words = np.empty((2, len(bits)), dtype=np.uint64)
    for half in range(2):
        of_column = generator.integers(1, 2**63, size=(bits.shape[1],), dtype=np.uint64) * 2 + 1
        of_label = generator.integers(1, 2**63, size=(y.shape[1],), dtype=np.uint64)
        mixed = scramble(bits * of_column[None, :]).sum(axis=1, dtype=np.uint64)
        terms = scramble(of_label[y.indices] ^ y.data.view(np.uint64))
        ends = np.concatenate([[np.uint64(0)], np.cumsum(terms, dtype=np.uint64)])
        words[half] = mixed + ends[y.indptr[1:]] - ends[y.indptr[:-1]]
    return words


def _columns(array: np.ndarray) -> np.ndarray:
    if array.ndim > 2:
        raise InputError(f"an array has {array.ndim} dimensions; give (N,) or (N, columns)")
    return array[:, None] if array.ndim == 1 else array
