"""Counting rows as they come, in blocks, into the distinct patterns that a solver needs.

A hash table of 128-bit signatures: two of 10^8 different patterns share one with a probability
of 1e-23.
"""

# mypy: disable-error-code="no-untyped-def"

import itertools

import numba
import numpy as np

from m4.buckets import Buckets, label_type, pieces
from m4.errors import InputError

FULLEST = 0.6  # load of the table above which it grows
FIRST, SECOND, COUNT, PLACE = range(4)  # columns of the table: signature, examples, 1 + pattern


class PatternCounter:
    """Counts rows of (attribute pattern, labels).

    Give each thread a counter of its own and `merge` them: the buckets do not depend on how rows
    were divided or ordered.
    """

    def __init__(self, s: np.ndarray, observed: np.ndarray, labels: int):
        """`s`, `observed`: (P, m), the attribute patterns that rows refer to; `labels`: c."""
        self._s, self._observed, self._width = s, observed, labels
        # Without anything observed a row has the same weight whatever its labels.
        self._idle = ~observed.any(axis=1)
        self._table = np.zeros((1024, 4), dtype=np.uint64)
        self._group = np.empty(512, dtype=np.int32)
        self._ends = np.zeros(513, dtype=np.int64)
        self._labels = np.empty(2048, dtype=label_type(labels))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes that the counter holds."""
        arrays = (self._table, self._group, self._ends, self._labels)
        return sum(array.nbytes for array in arrays)

    def add(
        self,
        group: np.ndarray,
        ends: np.ndarray,
        labels: np.ndarray,
        counts: np.ndarray | None = None,
    ) -> None:
        """Count a block of n rows.

        Parameters
        ----------
        group : (n,) int, the attribute pattern of each row
        ends : (n + 1,) int, the labels of row i are labels[ends[i]:ends[i + 1]]
        labels : ids in [0, c), ascending and without repetition in a row
        counts : (n,) int, examples that each row stands for; 1 where left out
        """
        if len(labels) and int(labels.max()) >= self._width:
            raise InputError(f"a label id is {labels.max()}, but there are {self._width} labels")
        self._reserve(len(group), int(ends[-1] - ends[0]))
        self._size = _count(
            group,
            ends,
            labels,
            counts,
            self._idle,
            self._table,
            self._group,
            self._ends,
            self._labels,
            self._size,
        )

    def merge(self, other: "PatternCounter") -> None:
        """Add what another counter of the same attribute patterns has counted."""
        counts = np.empty(other._size, dtype=np.int64)
        _read_counts(other._table, counts)
        step = 1_000_000  # in blocks, so that the table grows as needed and not for the worst case
        for first in range(0, other._size, step):
            after = min(first + step, other._size)
            low, high = other._ends[first], other._ends[after]
            self.add(
                other._group[first:after],
                other._ends[first : after + 1] - low,
                other._labels[low:high] - 1,
                counts[first:after],
            )

    def buckets(self) -> Buckets:
        """The patterns in the layout of the solver, in an order that content alone decides."""
        size = self._size
        signature = np.empty((size, 2), dtype=np.uint64)
        counts = np.empty(size, dtype=np.int64)
        _read(self._table, signature, counts)
        length = np.diff(self._ends[: size + 1]).astype(np.int32)
        group = self._group[:size]
        order = _by_content(group, length, signature)
        starts = pieces(group[order], length[order])
        sorted_length = length[order]
        ends = np.concatenate([[0], np.cumsum(sorted_length, dtype=np.int64)])
        labels = np.empty(ends[-1], dtype=self._labels.dtype)
        _gather(order, self._ends, self._labels, ends, labels)
        return Buckets(
            self._s,
            self._observed,
            group[order][starts[:-1]],
            sorted_length[starts[:-1]],
            starts,
            ends[starts],
            labels,
            None,
            counts[order].astype(np.float64),
            None,
            self._width,
        )

    def _reserve(self, rows: int, labels: int) -> None:
        """Room for that many more patterns and labels."""
        slots = len(self._table)
        while self._size + rows > FULLEST * slots:
            slots *= 2
        if slots > len(self._table):
            grown = np.zeros((slots, 4), dtype=np.uint64)
            _rehash(self._table, grown)
            self._table = grown
        self._group = _room(self._group, self._size + rows)
        self._ends = _room(self._ends, self._size + rows + 1)
        self._labels = _room(self._labels, int(self._ends[self._size]) + labels)


def _room(array: np.ndarray, size: int) -> np.ndarray:
    """The array, or a longer copy of it."""
    if size <= len(array):
        return array
    longer = np.empty(max(size, len(array) * 3 // 2), dtype=array.dtype)
    longer[: len(array)] = array
    return longer


def _by_content(group: np.ndarray, length: np.ndarray, signature: np.ndarray) -> np.ndarray:
    """Order by group, length and signature."""
    bucket = group.astype(np.int64) * (int(length.max(initial=0)) + 1) + length
    order = np.argsort(bucket, kind="stable")
    edges = np.concatenate([[0], 1 + np.flatnonzero(np.diff(bucket[order])), [len(order)]])
    for low, high in itertools.pairwise(edges.tolist()):
        inside = order[low:high]
        words = signature[inside, 0]
        ranked = np.argsort(words)
        words = words[ranked]
        if (words[1:] == words[:-1]).any():
            ranked = np.lexsort([signature[inside, 1], signature[inside, 0]])
        order[low:high] = inside[ranked]
    return order


@numba.njit(inline="always")
def _mix(word):
    """The finaliser of SplitMix64."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _count(group, ends, labels, counts, idle, table, groups, all_ends, store, size):
    mask = np.uint64(len(table) - 1)
    into = all_ends[size]
    for row in range(len(group)):
        low, high = ends[row], ends[row + 1]
        if idle[group[row]]:
            high = low
        first = _mix(np.uint64(group[row]) + np.uint64(0x9E3779B97F4A7C15))
        second = _mix(first + np.uint64(0x632BE59BD9B4E019))
        for entry in range(low, high):
            label = np.uint64(labels[entry]) + np.uint64(1)
            first = _mix(first ^ (label * np.uint64(0xD6E8FEB86659FD93)))
            second = _mix(second + label * np.uint64(0xA0761D6478BD642F))
        examples = np.uint64(1) if counts is None else np.uint64(counts[row])
        slot = first & mask
        while table[slot, PLACE] != 0 and (
            table[slot, FIRST] != first or table[slot, SECOND] != second
        ):
            slot = (slot + np.uint64(1)) & mask
        if table[slot, PLACE] == 0:
            groups[size] = group[row]
            for entry in range(low, high):
                store[into] = labels[entry] + 1
                into += 1
            size += 1
            all_ends[size] = into
            table[slot, FIRST], table[slot, SECOND] = first, second
            table[slot, PLACE] = np.uint64(size)
        table[slot, COUNT] += examples
    return size


@numba.njit(nogil=True, cache=True)
def _rehash(table, grown):
    mask = np.uint64(len(grown) - 1)
    for old in range(len(table)):
        if table[old, PLACE] != 0:
            slot = table[old, FIRST] & mask
            while grown[slot, PLACE] != 0:
                slot = (slot + np.uint64(1)) & mask
            for column in range(4):
                grown[slot, column] = table[old, column]


@numba.njit(nogil=True, cache=True)
def _read(table, signature, counts):
    for slot in range(len(table)):
        if table[slot, PLACE] != 0:
            at = table[slot, PLACE] - np.uint64(1)
            signature[at, 0], signature[at, 1] = table[slot, FIRST], table[slot, SECOND]
            counts[at] = table[slot, COUNT]


@numba.njit(nogil=True, cache=True)
def _read_counts(table, counts):
    for slot in range(len(table)):
        if table[slot, PLACE] != 0:
            counts[table[slot, PLACE] - np.uint64(1)] = table[slot, COUNT]


@numba.njit(nogil=True, cache=True)
def _gather(order, ends, labels, sorted_ends, gathered):
    for position in range(len(order)):
        low = ends[order[position]]
        into = sorted_ends[position]
        for step in range(sorted_ends[position + 1] - into):
            gathered[into + step] = labels[low + step]
