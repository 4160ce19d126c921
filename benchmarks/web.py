"""Synthetic annotations as the web has them: few people, power-law labels that lean on attributes.

Every row is drawn from a hash of its index alone, so that any part of the data can be drawn by any
thread and there is no need to keep it.
"""

# mypy: disable-error-code="no-untyped-def"

import itertools
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from scipy import sparse

from m4.patterns import Patterns
from m4.problem import Problem

ATTRIBUTES = {2: (2,), 5: (2, 3), 10: (2, 3, 5)}  # sizes of the exclusive attributes for m values
SHAPES = {(2, 20): 1.0, (5, 100): 2.0, (10, 1000): 4.0}  # (m, c): mean labels of a row
PEOPLE = 0.3  # share of rows that show a person
KNOWN = 0.9  # share of those on which an attribute is known
TOLERANCE = 0.01
ABSOLUTE_TOLERANCE = 0.001


@dataclass(frozen=True, eq=False)
class Web:
    """A distribution of rows.

    Attributes
    ----------
    s, observed : (P, m), attribute patterns
    frequency : (P,), how often each appears
    rates : (P, c), expected occurrences of each label in a row
    """

    s: np.ndarray
    observed: np.ndarray
    frequency: np.ndarray
    rates: np.ndarray
    seed: int

    @classmethod
    def of(cls, values: int, labels: int, *, mean_labels: float, seed: int = 0) -> "Web":
        """Shares of values away from uniform, labels whose rates vary with them threefold."""
        generator = np.random.default_rng(seed)
        sizes = ATTRIBUTES[values]
        shares = [generator.dirichlet(np.full(size, 20.0)) for size in sizes]
        power = 1.0 / (np.arange(labels) + 5.0)
        base = mean_labels * power / power.sum()
        lean = [generator.normal(0.0, 0.35, (size, labels)) for size in sizes]
        s, observed, frequency, rates = [], [], [], []
        for chosen in itertools.product(*(range(size + 1) for size in sizes)):
            row_s, row_known, logs, probability = [], [], np.zeros(labels), 1.0
            for attribute, value in enumerate(chosen):  # the last value: not known
                size, known = sizes[attribute], value < sizes[attribute]
                row_s += [float(value == each) for each in range(size)]
                row_known += [known] * size
                probability *= KNOWN * shares[attribute][value] if known else 1.0 - KNOWN
                logs += lean[attribute][value] if known else 0.0
            nobody = 1.0 - PEOPLE if not any(row_known) else 0.0
            s.append(row_s)
            observed.append(row_known)
            frequency.append(PEOPLE * probability + nobody)
            rates.append(base * np.exp(logs))
        return cls(np.array(s), np.array(observed), np.array(frequency), np.array(rates), seed)

    @classmethod
    def shaped(cls, shape: tuple[int, int], *, seed: int = 0) -> "Web":
        """The web with m values and c labels, shape (m, c), at the mean labels of `SHAPES`.

        Other shapes have as many labels in a row as the shape of `SHAPES` next in c.
        """
        values, labels = shape
        near = min(SHAPES, key=lambda known: (known != shape, abs(known[1] - labels)))
        return cls.of(values, labels, mean_labels=SHAPES[near], seed=seed)

    def problem(self, *, eta: float = 0.8, tolerance: float = TOLERANCE) -> Problem:
        """Uniform targets within each attribute, relative tolerances, hard constraints."""
        m, c = self.s.shape[1], self.rates.shape[1]
        targets = tuple(1.0 / size for size in ATTRIBUTES[m] for _ in range(size))
        return Problem(
            values=tuple(f"value {k}" for k in range(m)),
            labels=tuple(f"label {r}" for r in range(c)),
            targets=targets,
            label_targets=tuple((share,) * c for share in targets),
            eps_r=tolerance,
            eps_d=tolerance,
            eta=eta,
        )

    def usual_problem(self) -> Problem:
        """What the benchmarks ask for.

        A relative tolerance, and for 1000 labels or more the absolute one as published: most of
        those have too few people among a million rows for the relative one to be met.
        """
        problem = self.problem()
        if len(problem.labels) < 1000:
            return problem
        return problem.model_copy(update={"tolerance": "absolute", "eps_d": ABSOLUTE_TOLERANCE})

    def rows(self, first: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows [first, after): attribute pattern (n,), ends of labels (n + 1,), label ids."""
        keep, alias = self._alias
        most = int(6 * (after - first) * (1.0 + self.rates.sum(axis=1).max()))
        group = np.empty(after - first, dtype=np.int32)
        ends = np.zeros(after - first + 1, dtype=np.int64)
        labels = np.empty(most, dtype=np.uint16)
        used = _draw(
            first,
            np.uint64(self.seed),
            np.cumsum(self.frequency),
            self._lengths,
            keep,
            alias,
            group,
            ends,
            labels,
        )
        return group, ends, labels[:used]

    def patterns(self, first: int, after: int) -> Patterns:
        """Rows [first, after) as they come: none are joined."""
        group, ends, labels = self.rows(first, after)
        known = self.observed[group]
        rows = after - first
        marks = (np.ones(len(labels)), labels.astype(np.int32), ends)
        y = sparse.csr_array(marks, shape=(rows, self.rates.shape[1]))
        return Patterns(self.s[group] * known, known, y, np.ones(rows), np.ones(rows))

    @cached_property
    def _lengths(self) -> np.ndarray:
        """(P, 12): cumulative Poisson probabilities of 0..11 occurrences."""
        totals = self.rates.sum(axis=1)[:, None]
        number = np.arange(12)
        factorial = np.cumprod(np.maximum(number, 1))
        return np.cumsum(np.exp(-totals) * totals**number / factorial, axis=1)

    @cached_property
    def _alias(self) -> tuple[np.ndarray, np.ndarray]:
        """Walker's tables, (P, c): draws a label of a pattern with one look-up."""
        keep, alias = np.ones_like(self.rates), np.zeros(self.rates.shape, dtype=np.int64)
        for p, rate in enumerate(self.rates):
            scaled = rate / rate.sum() * len(rate)
            small = [r for r in range(len(rate)) if scaled[r] < 1.0]
            large = [r for r in range(len(rate)) if scaled[r] >= 1.0]
            while small and large:
                less, more = small.pop(), large[-1]
                keep[p, less], alias[p, less] = scaled[less], more
                scaled[more] -= 1.0 - scaled[less]
                if scaled[more] < 1.0:
                    small.append(large.pop())
        return keep, alias


@numba.njit(inline="always")
def _uniform(state):
    """A number in [0, 1) of SplitMix64 at a state."""
    word = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((word ^ (word >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@numba.njit(nogil=True, cache=True)
def _draw(first, seed, frequency, lengths, keep, alias, group, ends, labels):
    step = np.uint64(0x9E3779B97F4A7C15)
    patterns, names = keep.shape
    used = 0
    for row in range(len(group)):
        state = (np.uint64(first + row) * np.uint64(64) + (seed << np.uint64(52))) * step
        state += step
        u = _uniform(state)
        p = 0
        while p < patterns - 1 and u >= frequency[p]:
            p += 1
        state += step
        u = _uniform(state)
        many = 0
        while many < 11 and u >= lengths[p, many]:
            many += 1
        begin = used
        for _ in range(many):
            state += step
            u = _uniform(state) * names
            name = int(u)
            if u - name >= keep[p, name]:
                name = alias[p, name]
            at = used  # insertion keeps the row ascending and without repetition
            while at > begin and labels[at - 1] > name:
                at -= 1
            if at > begin and labels[at - 1] == name:
                continue
            for moved in range(used, at, -1):
                labels[moved] = labels[moved - 1]
            labels[at] = name
            used += 1
        group[row] = p
        ends[row + 1] = used
    return used
