"""What a sample achieves, against what its weights promise."""

from dataclasses import replace

import numpy as np

from m4.catalogue import Model
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem
from m4.totals import Totals, blocks, with_constant

STEP = 2.0**-20  # products of values are rounded to it, so that up to 2^33 of them add exactly
RESOLVED = 3.0  # copies within a tolerance, below which samples were seen to miss it
LEAST = 1e-12  # an excess below is one of rounding


def realised_totals(
    problem: Problem, patterns: Patterns, copies: np.ndarray, inverse: np.ndarray | None = None
) -> Totals:
    """Totals of the examples of a sample, with copies as weights.

    Attributes are rounded to multiples of 2^-20, on which float64 adds without error: where labels
    are 0 or 1, `held`, `known`, `weight` and `squares` are the same to the last bit in any order
    and any sharding (`distance` is not, but for rounding).

    Parameters
    ----------
    patterns : the examples, used or not; or their distinct patterns with counts
    copies : (N,) integers, how often each example is used
    inverse : (N,) the row of each example among the patterns; left out, a row is an example

    Raises `InputError` where these do not fit together.
    """
    problem.check(patterns)
    times = np.asarray(copies, dtype=np.float64)
    rows = np.arange(len(times)) if inverse is None else inverse
    if rows.shape != times.shape:
        raise InputError(f"{len(times)} copies, but {len(rows)} positions of examples")
    counted = np.bincount(rows, minlength=len(patterns.counts))
    if not np.array_equal(counted, patterns.counts):
        raise InputError(
            f"{len(times)} copies were drawn, but the patterns count {patterns.examples:.0f} "
            "examples, or count them in other rows; give the copies of these examples"
        )
    drawn = np.bincount(rows, times, len(counted))
    squares = np.bincount(rows, times**2, len(counted))
    wanted = problem.eta * patterns.utility
    distance = float((counted * wanted**2 - 2.0 * wanted * drawn + squares).sum())
    held, known = np.zeros(problem.layout.shape), np.zeros(problem.layout.shape)
    used = np.flatnonzero(drawn)
    if len(used):
        for block in blocks(replace(patterns.rows(used), counts=drawn[used])):
            block_held, block_known = _cells(problem, block)
            held, known = held + block_held, known + block_known
    return Totals(held, known, float(len(rows)), float(drawn.sum()), float(squares.sum()), distance)


def _cells(problem: Problem, block: Patterns) -> tuple[np.ndarray, np.ndarray]:
    """`held` and `known` of rows that were drawn `counts` times."""
    held, known = problem.features(block.s, block.observed)
    times = block.counts[:, None]
    columns = with_constant(block.y)
    return (columns.T @ (np.rint(held / STEP) * STEP * times)).T, (columns.T @ (known * times)).T


class Realised(Model):
    """How far a sample is from what was asked for.

    Attributes
    ----------
    examples, copies : examples there are, and copies that were drawn of them
    rate_error : |E[copies] - eta|
    violated : constraints that are exceeded, by more than 1e-12
    max_violation : largest excess of |E[copies z_j]| over eps_j E[copies t_j], and `worst` the name
        of that constraint; None where none is exceeded
    total_violation : sum of all excesses
    max_excess : largest excess over the constraint's own mass, a share of its examples
    unresolved : constraints with so few copies that less than `RESOLVED` of them are within the
        tolerance, eps_j T_j < 3 for a mass of T_j copies. No design can be counted on to meet them.
    """

    examples: float
    copies: float
    rate_error: float
    violated: int
    max_violation: float
    worst: str | None
    total_violation: float
    max_excess: float
    unresolved: int

    @classmethod
    def of(cls, problem: Problem, totals: Totals) -> "Realised":
        """What totals of a sample say, with copies as weights."""
        layout = problem.layout
        violation, mass = totals.violation(layout), totals.mass(layout)
        excess = np.divide(violation, mass, out=np.zeros_like(mass), where=mass > 0)
        narrow = layout.eps * mass * totals.examples < RESOLVED
        violated = violation > LEAST
        worst = int(np.argmax(violation)) if violated.any() else None
        return cls(
            examples=totals.examples,
            copies=totals.weight,
            rate_error=abs(totals.weight / totals.examples - problem.eta),
            violated=int(violated.sum()),
            max_violation=float(violation.max(initial=0.0)),
            worst=None if worst is None else str(problem.constraints()[worst]),
            total_violation=float(violation.sum()),
            max_excess=float(excess.max(initial=0.0)),
            unresolved=int((narrow & (mass > 0)).sum()),
        )
