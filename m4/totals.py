"""Totals of weighted data: a few small matrices from which every moment and bias follows.

They add up: over blocks of rows, over shards, over machines. Written in plain numpy and scipy, so
that what they certify was not computed by the solver that is being checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from m4.patterns import Patterns
from m4.problem import Layout, Problem

BLOCK = 200_000  # rows looked at together; bounds the memory of temporaries


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over examples under weights q; all of them are added by `+`.

    Attributes
    ----------
    held, known : (features, 1 + labels), sums of q o_f s_f y_r and of q o_f y_r, with y_0 = 1; the
        features are the values, then the intersections
    examples : N
    weight, squares : sums of q and of q^2
    distance : sum of (eta u - q)^2
    """

    held: np.ndarray
    known: np.ndarray
    examples: float
    weight: float
    squares: float
    distance: float

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.held + other.held,
            self.known + other.known,
            self.examples + other.examples,
            self.weight + other.weight,
            self.squares + other.squares,
            self.distance + other.distance,
        )

    def moment(self, layout: Layout) -> np.ndarray:
        """E[q z_j] of every constraint, (J,)."""
        return layout.moment(self.held, self.known) / self.examples

    def mass(self, layout: Layout) -> np.ndarray:
        """E[q t_j] of every constraint, (J,)."""
        return layout.mass(self.known) / self.examples

    def violation(self, layout: Layout) -> np.ndarray:
        """How far each constraint is exceeded, max(|E[q z_j]| - eps_j E[q t_j], 0); (J,)."""
        return np.maximum(np.abs(self.moment(layout)) - layout.eps * self.mass(layout), 0.0)

    @property
    def effective_sample_size(self) -> float:
        """Kish's (sum q)^2 / sum q^2; 0 where all weights are 0."""
        return self.weight**2 / self.squares if self.squares > 0 else 0.0


def blocks(patterns: Patterns) -> Iterator[Patterns]:
    """The rows in blocks of bounded size, in order."""
    rows = len(patterns.counts)
    if rows <= BLOCK:
        yield patterns
        return
    for first in range(0, rows, BLOCK):
        yield patterns.rows(slice(first, first + BLOCK))


def measure(problem: Problem, patterns: Patterns, weights: np.ndarray | None = None) -> Totals:
    """Totals of some data under weights q, (N,); under q = 1 where they are left out."""
    problem.check(patterns)
    result, first = nothing(problem), 0
    for block in blocks(patterns):
        after = first + len(block.counts)
        given = np.ones(after - first) if weights is None else weights[first:after]
        result, first = result + _of_block(problem, block, given), after
    return result


def nothing(problem: Problem) -> Totals:
    """Totals of no data at all."""
    empty = np.zeros(problem.layout.shape)
    return Totals(empty, empty, 0.0, 0.0, 0.0, 0.0)


def _of_block(problem: Problem, block: Patterns, weights: np.ndarray) -> Totals:
    held, known = problem.features(block.s, block.observed)
    weighted = block.counts * weights
    columns = with_constant(block.y)
    return Totals(
        (columns.T @ (held * weighted[:, None])).T,
        (columns.T @ (known * weighted[:, None])).T,
        float(block.counts.sum()),
        float(weighted.sum()),
        # Not as products of vectors, whose last bits depend on the number of BLAS threads.
        float((weighted * weights).sum()),
        float((block.counts * (problem.eta * block.utility - weights) ** 2).sum()),
    )


def with_constant(y: sparse.csr_array) -> sparse.csr_array:
    """(N, 1 + c): the labels behind a column of ones."""
    return sparse.csr_array(sparse.hstack([np.ones((y.shape[0], 1)), y], format="csr"))


def slope(problem: Problem, duals: np.ndarray, patterns: Patterns) -> np.ndarray:
    """sum_j v_j z_j - eps_j t_j |v_j| of every row for signed multipliers v of shape (J,); (N,)."""
    held, known = problem.layout.factors(duals)
    parts = []
    for block in blocks(patterns):
        block_held, block_known = problem.features(block.s, block.observed)
        columns = with_constant(block.y)
        lean = block_held * (columns @ held.T) - block_known * (columns @ known.T)
        parts.append(lean.sum(axis=1))
    return np.concatenate(parts)


def weights(
    problem: Problem, duals: np.ndarray, rate_dual: float, patterns: Patterns
) -> np.ndarray:
    """q*(v, mu) = clip(eta u - slope(v) - mu, 0, cap) of every row, (N,)."""
    level = problem.eta * patterns.utility - slope(problem, duals, patterns) - rate_dual
    return np.clip(level, 0.0, problem.cap)
