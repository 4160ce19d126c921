"""Which rates and tolerances can be met at all: a linear programme over the patterns."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from m4.errors import InfeasibleError
from m4.patterns import Patterns
from m4.problem import Moments, Problem

RATE_SLACK = 1e-7  # HiGHS meets its constraints to this accuracy


@dataclass(frozen=True, eq=False)
class LargestRate:
    """The largest feasible rate, and the price of each constraint in it, (J,)."""

    rate: float
    prices: np.ndarray


def largest_rate(moments: Moments, among: np.ndarray | None = None) -> LargestRate:
    """The largest E[q] over 0 <= q <= cap that meets the hard constraints.

    Parameters
    ----------
    among : (J,) bool, constraints to keep; None for all
    """
    chosen = np.arange(moments.z.shape[1]) if among is None else np.flatnonzero(among)
    weighted = sparse.diags_array(moments.share)
    moment = (weighted @ moments.z)[:, chosen]
    mass = (weighted @ moments.mass)[:, moments.mass_of[chosen]]
    allowed = mass @ sparse.diags_array(moments.eps[chosen])
    # Each row over its label's mass: HiGHS's tolerance is then one of bias, also for rare labels.
    sizes = np.asarray(mass.sum(axis=0)).ravel()
    scale = sparse.diags_array(1.0 / np.where(sizes > 0, sizes, 1.0))
    rows = sparse.vstack([scale @ (moment - allowed).T, scale @ (-moment - allowed).T])
    found = linprog(
        -moments.share,
        A_ub=sparse.csr_array(rows),
        b_ub=np.zeros(rows.shape[0]),
        bounds=(0.0, moments.cap),
        method="highs",
    )
    if not found.success:  # q = 0 always meets the constraints, so this is the solver's failure
        raise RuntimeError(f"HiGHS could not find the largest rate: {found.message}")
    prices = np.zeros(moments.z.shape[1])
    prices[chosen] = np.abs(found.ineqlin.marginals).reshape(2, -1).sum(axis=0)
    return LargestRate(max(0.0, float(-found.fun)), prices)


def conflicting(moments: Moments, eta: float) -> tuple[float, np.ndarray]:
    """The largest rate and, where eta is above it, a minimal set of constraints that forbid eta.

    Returns (rate, (J,) bool); leaving out any one of the set makes the rest feasible at eta. The
    set is empty where eta is feasible. A deletion filter over the constraints that have a price.
    """
    best = largest_rate(moments)
    suspects = best.prices > 1e-9
    if eta <= best.rate + RATE_SLACK:
        return best.rate, np.zeros_like(suspects)
    for j in np.flatnonzero(suspects):
        without = suspects.copy()
        without[j] = False
        if largest_rate(moments, without).rate + RATE_SLACK < eta:
            suspects = without
    return best.rate, suspects


def explain_infeasible(problem: Problem, patterns: Patterns) -> InfeasibleError | None:
    """The error to raise if the problem's hard constraints cannot be met, or None if they can."""
    rate, conflicts = conflicting(Moments.of(problem, patterns), problem.eta)
    if not conflicts.any():
        return None
    names = tuple(
        str(constraint)
        for constraint, meets in zip(problem.constraints(), conflicts, strict=True)
        if meets
    )
    return InfeasibleError(
        f"the tolerances cannot be met at rate {problem.eta:g}: {', '.join(names)} conflict; the "
        f"largest feasible rate is {np.floor(rate * 1e4) / 1e4:.4f}; lower eta, raise the cap "
        f"(now {problem.cap:g}) or a tolerance, or set a finite penalty",
        rate,
        names,
    )
