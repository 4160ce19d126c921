"""The settings nearest to an infeasible request that can be met.

Weights that meet a set of constraints still do when multiplied, so the largest rate is the cap
times that of cap 1. Tolerances are widened along a line, eps(x) = base + x * direction. The largest
rate never falls along it, and multipliers v found at one x bound it at every other,

        rate(x) <= E[max(0, 1 - v.z + sum_j eps_j(x) t_j |v_j|)],

which is convex in x: below the point where the right side reaches the wanted rate, no x will do.
Stepping from one such point to the next is Newton's method; halving helps where the rate jumps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from m4.catalogue import Model
from m4.conflict import conflict, minimal
from m4.problem import Constraint
from m4.programme import EXACT, Programme, RateBounds, maximise_rate

DIGITS = 4  # significant digits of a suggestion
MOST_LEFT_OUT = 5  # pairs; to leave out more is another problem, and not a near one


class Widening(Model):
    """A number to add to the tolerances of some constraints only."""

    constraints: tuple[str, ...]
    addition: float


class Relaxation(Model):
    """The nearest feasible settings, one for each way to give in; all else stays as it was.

    Each is rounded to 4 significant digits, to the side that is feasible. None where that way
    does not lead to a feasible request.

    Attributes
    ----------
    eta : largest rate; None where it is 0
    cap : smallest cap; None where the largest rate is 0
    factor : smallest common factor of all tolerances; None where tolerances of 0 are in the way
    addition : smallest number to add to all tolerances
    widening : smallest number to add to the tolerances of conflicting constraints only, which are
        those of one conflict after the other until none is left
    leave_out : pairs of value and label without which the rest is feasible; with any one of them
        put back it is not. None where the constraints on values alone conflict, or where more
        than 5 pairs would have to go
    """

    eta: float | None
    cap: float | None
    factor: float | None
    addition: float | None
    widening: Widening | None
    leave_out: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, eq=False)
class Line:
    """Tolerances base + x * direction, (S,), for x from `first` to `last`."""

    base: np.ndarray
    direction: np.ndarray
    first: float
    last: float

    def at(self, x: float) -> np.ndarray:
        return self.base + x * self.direction


def nearest_settings(
    programme: Programme,
    constraints: Sequence[Constraint],
    bounds: RateBounds,
    conflicts: np.ndarray,
    *,
    eta: float,
    cap: float,
) -> Relaxation:
    """The nearest feasible settings of a request that is not feasible.

    Parameters
    ----------
    constraints : what the programme's constraints are, S of them
    bounds : of the programme's largest rate
    conflicts : (S,) bool, a minimal conflict at rate eta / cap
    """
    goal, eps = eta / cap, programme.eps
    some = bounds.rate > EXACT
    ones = np.ones_like(eps)
    pairs = np.array([each.label is not None for each in constraints], bool)
    widened = _resolving(programme, goal, conflicts, ones > 0)
    assert widened is not None  # every conflict has a member
    left = _resolving(programme, goal, conflicts, pairs) if (widened & ~pairs).any() else widened
    chosen = None if left is None else _fewest(programme, goal, left, bounds.duals)

    def along(line: Line) -> float | None:
        return smallest(programme, line, goal, bounds.duals)

    # Every moment is within its mass, so a tolerance of 1 forbids nothing.
    largest_factor = rounded_up(1.0 / eps[eps > 0].min(initial=1.0))
    by = along(Line(eps, widened * ones, 0.0, 1.0))
    names = tuple(str(constraints[j]) for j in np.flatnonzero(widened).tolist())
    return Relaxation(
        eta=rounded_down(cap * bounds.rate) if some else None,
        cap=rounded_up(eta / bounds.rate) if some else None,
        factor=along(Line(np.zeros_like(eps), eps, 1.0, largest_factor)),
        addition=along(Line(eps, ones, 0.0, 1.0)),
        widening=None if by is None else Widening(constraints=names, addition=by),
        leave_out=None
        if chosen is None
        else tuple((constraints[j].value, constraints[j].label or "") for j in chosen),
    )


def smallest(programme: Programme, line: Line, goal: float, duals: np.ndarray) -> float | None:
    """The smallest x of a line at which the rate reaches a goal, rounded up; None if there is none.

    `duals` are multipliers found at the line's first point, where the goal is out of reach.
    """

    def look(x: float) -> RateBounds:
        return maximise_rate(programme.with_tolerances(line.at(x)), start=duals, goal=goal)

    low, high, step = line.first, line.last, math.inf
    if not look(high).reaches(goal):
        return None
    while True:
        beyond = _proven(programme, line, goal, duals, low, high)
        probe = rounded_up(max(beyond, low * (1.0 + 1e-6), EXACT))
        if probe >= high:
            return high
        bounds = look(probe)
        if bounds.reaches(goal):
            return probe
        slow, step = probe - low > 0.5 * step, probe - low
        low, duals = probe, bounds.duals
        middle = rounded_up(0.5 * (low + high))
        if slow and middle < high:
            bounds = look(middle)
            if bounds.reaches(goal):
                high = middle
            else:
                low, duals = middle, bounds.duals


def _proven(
    programme: Programme, line: Line, goal: float, duals: np.ndarray, low: float, high: float
) -> float:
    """The x up to which the multipliers prove the goal out of reach; `low` if they do not."""
    sizes = np.abs(duals)
    fixed = 1.0 - programme.z @ duals + programme.mass @ (line.base * sizes)
    rising = programme.mass @ (line.direction * sizes)

    def above(x: float) -> float:
        most = programme.share @ np.maximum(fixed + x * rising, 0.0)
        return float(most) - goal * (1.0 - EXACT)

    if above(low) >= 0.0:
        return low
    return high if above(high) <= 0.0 else float(brentq(above, low, high, xtol=1e-14))


def _resolving(
    programme: Programme, goal: float, conflicts: np.ndarray, allowed: np.ndarray
) -> np.ndarray | None:
    """Constraints without which the goal is reached, (S,) bool: the allowed members of one
    conflict after the other, until none is left. None where a conflict has no such member."""
    resolving = np.zeros_like(conflicts)
    found = conflicts
    while found.any():
        if not (found & allowed).any():
            return None
        resolving |= found & allowed
        found = np.zeros_like(conflicts)
        found[~resolving] = conflict(programme.among(~resolving), goal).members
    return resolving


def _fewest(
    programme: Programme, goal: float, resolving: np.ndarray, duals: np.ndarray
) -> list[int] | None:
    """Of constraints without which the goal is reached, those that really have to go.

    Where there is a choice, those with a large multiplier.
    """

    def resolve(some: list[int]) -> bool:
        rest = np.ones_like(resolving)
        rest[some] = False
        bounds = maximise_rate(programme.among(rest), start=duals[rest], goal=goal)
        return bounds.reaches(goal)

    heaviest = np.argsort(-np.abs(duals) * programme.size, kind="stable")
    candidates = heaviest[resolving[heaviest]].tolist()
    chosen = minimal(candidates, resolve, MOST_LEFT_OUT)
    return sorted(chosen) if len(chosen) <= MOST_LEFT_OUT else None


def rounded_up(number: float) -> float:
    """The next number of 4 significant digits, but for an error of 1e-9 in the number given."""
    return _rounded(number, math.ceil, 1.0 - EXACT)


def rounded_down(number: float) -> float:
    """The number of 4 significant digits below, but for an error of 1e-9 in the number given."""
    return _rounded(number, math.floor, 1.0 + EXACT)


def _rounded(number: float, whole: Callable[[float], int], grace: float) -> float:
    step = math.floor(math.log10(number)) - (DIGITS - 1)
    return float(f"{whole(number * grace / 10.0**step)}e{step}")
