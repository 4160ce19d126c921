"""Which rates and tolerances can be met at all, what forbids more, and what would help."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m4.catalogue import Model
from m4.conflict import conflict
from m4.errors import InfeasibleError
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.programme import EXACT, Programme, RateBounds, maximise_rate
from m4.relaxing import Relaxation, nearest_settings

RATE_SLACK = 1e-7  # a rate this little above the largest one counts as feasible
LISTED = 5  # constraints that a message names
MESSAGE = 400  # characters that a message may have, if fewer names can make it so


class Price(Model):
    """What a binding constraint costs: how fast the largest rate rises with its tolerance."""

    constraint: str
    gain: float


@dataclass(frozen=True, eq=False)
class LargestRate:
    """The largest feasible rate, and what the constraints cost in it.

    Attributes
    ----------
    rate : the largest E[q]
    duals : (J,) signed multipliers v: d rate / d bound of E[q z_j]; 0 where a constraint does not
        bind
    prices : (J,) d rate / d eps_j = |v_j| E[q t_j], by the envelope theorem. Where v or q is not
        unique the rate has a kink, and this is one slope of several: of constraints that say the
        same (a value and its complement) one has the price of loosening all. Without a slope, and
        0, where all of the mass t_j has to go
    """

    rate: float
    duals: np.ndarray
    prices: np.ndarray


def largest_rate(moments: Moments, among: np.ndarray | None = None) -> LargestRate:
    """The largest E[q] over 0 <= q <= cap that meets the hard constraints.

    Parameters
    ----------
    among : (J,) bool, constraints to keep; None for all
    """
    chosen = np.ones(len(moments.eps), bool) if among is None else among
    programme = Programme.of(moments).among(chosen)
    return _largest(programme, maximise_rate(programme), chosen, moments.cap)


def _largest(
    programme: Programme, bounds: RateBounds, chosen: np.ndarray, cap: float
) -> LargestRate:
    duals, prices = np.zeros(len(chosen)), np.zeros(len(chosen))
    duals[chosen] = cap * bounds.duals
    mass = programme.mass.T @ (programme.share * bounds.weights)
    prices[chosen] = cap * np.abs(bounds.duals) * mass
    return LargestRate(cap * bounds.rate if bounds.rate > EXACT else 0.0, duals, prices)


def conflicting(moments: Moments, eta: float) -> tuple[float, np.ndarray]:
    """The largest rate and, where eta is above it, constraints that together forbid eta.

    Returns (rate, (J,) bool). All of the set cannot be met at eta; without any one of them the
    rest of the set can (see `m4.conflict.Conflict`). It is empty where eta is feasible.
    """
    programme = Programme.of(moments).among(np.ones(len(moments.eps), bool))
    bounds = maximise_rate(programme)
    rate = moments.cap * bounds.rate
    if eta <= rate + RATE_SLACK:
        return rate, np.zeros(len(moments.eps), bool)
    return rate, conflict(programme, eta / moments.cap, bounds).members


def explain_infeasible(problem: Problem, patterns: Patterns) -> InfeasibleError | None:
    """The error to raise if the problem's hard constraints cannot be met, or None if they can."""
    moments = Moments.of(problem, patterns)
    everything = np.ones(len(moments.eps), bool)
    programme = Programme.of(moments).among(everything)
    bounds = maximise_rate(programme)
    found = _largest(programme, bounds, everything, problem.cap)
    if problem.eta <= found.rate + RATE_SLACK:
        return None
    constraints = problem.constraints()
    conflicts = conflict(programme, problem.eta / problem.cap, bounds)
    names = tuple(str(constraints[j]) for j in np.flatnonzero(conflicts.members).tolist())
    prices = tuple(
        Price(constraint=str(constraints[j]), gain=float(found.prices[j]))
        for j in np.argsort(-found.prices, kind="stable")
        if found.prices[j] > EXACT
    )
    relaxation = nearest_settings(
        programme, constraints, bounds, conflicts.members, eta=problem.eta, cap=problem.cap
    )
    message = _message(problem, names, relaxation)
    return InfeasibleError(message, found.rate, names, conflicts.minimal, prices, relaxation)


def _message(problem: Problem, conflicts: Sequence[str], nearest: Relaxation) -> str:
    """One sentence: the conflict, the largest rate, and what to do."""
    rate = "0.0000" if nearest.eta is None else f"{nearest.eta:#.4g}"
    ways = []
    if nearest.eta is not None:
        ways += ["lower eta", f"raise the cap from {problem.cap:g} to {nearest.cap:g}"]
    if nearest.factor is not None:
        ways.append(f"multiply the tolerances by {nearest.factor:g}")
    if nearest.addition is not None:
        ways.append(f"add {nearest.addition:g} to every tolerance")
    verb = "conflict" if len(conflicts) > 1 else "forbids it"
    pairs = [f"{value} & {label}" for value, label in nearest.leave_out or ()]
    for listed in range(LISTED, 0, -1):
        leave = [f"leave out {_some(pairs, listed)}"] if pairs else []
        message = (
            f"the tolerances cannot be met at rate {problem.eta:g}: {_some(conflicts, listed)} "
            f"{verb}; the largest feasible rate is {rate}; "
            f"{', '.join([*ways, *leave, 'or set a finite penalty'])}"
        )
        if len(message) <= MESSAGE:
            break
    return message


def _some(names: Sequence[str], listed: int) -> str:
    more = len(names) - listed
    return ", ".join(names[:listed]) + (f" and {more} more" if more > 0 else "")
