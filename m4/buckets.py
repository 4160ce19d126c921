"""Patterns laid out for speed: rows that share attributes and number of labels lie together.

A row is then nothing but its label ids, a fixed number of them, and its count: a pass over the data
has no branch to predict and reads next to nothing besides the labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from m4.patterns import Patterns

LONGEST = 65_536  # rows of a bucket; longer runs are cut, so that work divides evenly
CHUNKS = 8  # parts of a pass; fixed, so that sums do not depend on the number of threads


@dataclass(frozen=True, eq=False)
class Buckets:
    """Rows bucketed by attribute pattern and number of labels.

    Attributes
    ----------
    s, observed : (P, m), the distinct attribute patterns
    group : (B,) int32, the attribute pattern of each bucket
    length : (B,) int32, labels of each of its rows
    rows, entries : (B + 1,) int64, where its rows and its labels begin
    labels : (L,) uint16 or uint32, 1 + id of each label, ascending in a row
    strengths : (L,) float64 values of the labels; None where all are 1
    counts : (N,) float64, examples that a row stands for
    utility : (N,) float64; None where all are 1
    width : c, the number of labels and proxies
    """

    s: np.ndarray
    observed: np.ndarray
    group: np.ndarray
    length: np.ndarray
    rows: np.ndarray
    entries: np.ndarray
    labels: np.ndarray
    strengths: np.ndarray | None
    counts: np.ndarray
    utility: np.ndarray | None
    width: int

    @classmethod
    def of(cls, patterns: Patterns) -> "Buckets":
        """Lay out patterns. The result depends on their order only within a bucket."""
        s, observed, group = attribute_patterns(patterns)
        y = patterns.y
        length = np.diff(y.indptr)
        order = np.lexsort([length, group])
        sorted_y = y[order]
        if not sorted_y.has_sorted_indices:
            sorted_y = sorted_y.sorted_indices()
        soft = bool((y.data != 1.0).any())
        plain = bool((patterns.utility == 1.0).all())
        starts = pieces(group[order], length[order])
        return cls(
            s,
            observed,
            group[order][starts[:-1]].astype(np.int32),
            length[order][starts[:-1]].astype(np.int32),
            starts,
            sorted_y.indptr[starts].astype(np.int64),
            (sorted_y.indices + 1).astype(label_type(y.shape[1])),
            sorted_y.data.astype(np.float64) if soft else None,
            patterns.counts[order],
            None if plain else patterns.utility[order],
            y.shape[1],
        )

    @property
    def examples(self) -> float:
        """Number of examples, N in the mathematics."""
        return float(self.counts.sum())

    @property
    def nbytes(self) -> int:
        """Bytes that a pass over the data reads."""
        held = (self.labels, self.strengths, self.counts, self.utility)
        return sum(array.nbytes for array in held if array is not None)

    def chunks(self) -> list[tuple[int, int]]:
        """Ranges of buckets of nearly equal work, [(first, after)]; the same on every machine."""
        work = self.rows[1:] + self.entries[1:]
        cuts = np.searchsorted(work, np.arange(1, CHUNKS) * (work[-1] / CHUNKS))
        edges = np.unique(np.concatenate([[0], cuts, [len(work)]]))
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

    def patterns(self, block: int = 200_000) -> Iterator[Patterns]:
        """The rows again as patterns, in blocks of about `block` rows."""
        after = 0
        while after < len(self.group):
            first = after
            after = int(np.searchsorted(self.rows, self.rows[first] + block))
            after = min(max(after, first + 1), len(self.group))
            yield self._unpacked(first, after)

    def _unpacked(self, first: int, after: int) -> Patterns:
        low, high = self.rows[first], self.rows[after]
        entry, last = self.entries[first], self.entries[after]
        sizes = np.diff(self.rows[first : after + 1])
        group = np.repeat(self.group[first:after], sizes)
        ends = np.concatenate([[0], np.cumsum(np.repeat(self.length[first:after], sizes))])
        ids = self.labels[entry:last].astype(np.int32) - 1
        data = np.ones(len(ids)) if self.strengths is None else self.strengths[entry:last]
        return Patterns(
            self.s[group],
            self.observed[group],
            sparse.csr_array((data, ids, ends), shape=(int(high - low), self.width)),
            np.ones(high - low) if self.utility is None else self.utility[low:high],
            self.counts[low:high],
        )


def label_type(labels: int) -> type[np.unsignedinteger]:
    """The smallest type that holds 1 + id of every label."""
    return np.uint16 if labels < 2**16 - 1 else np.uint32


def attribute_patterns(patterns: Patterns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct rows of (s, observed), in a fixed order, and each row's position among them."""
    both = np.hstack([patterns.s, patterns.observed])
    distinct, group = np.unique(both, axis=0, return_inverse=True)
    m = patterns.s.shape[1]
    return distinct[:, :m], distinct[:, m:] > 0, group.ravel()


def pieces(group: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Where buckets begin among rows sorted by group and length, then the number of rows."""
    rows = len(group)
    changes = (np.diff(group) != 0) | (np.diff(length) != 0)
    edges = np.concatenate([[0], 1 + np.flatnonzero(changes), [rows]])
    sizes = np.diff(edges)
    cuts = -(-sizes // LONGEST)
    inner = np.concatenate([np.arange(count) * LONGEST for count in cuts])
    return np.concatenate([np.repeat(edges[:-1], cuts) + inner, [rows]]).astype(np.int64)
