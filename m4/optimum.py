"""The fast path: the exact optimum, by preconditioned L-BFGS and Newton steps on the dual."""

import math
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from m4.dual import Dual, Point
from m4.newton import Newton
from m4.quasi_newton import QuasiNewton

ACCURACY = 1e-12  # relative gap that is aimed at; Newton steps usually end below it
LBFGS_ACCURACY = 1e-9
NEWTON_STEPS = 120
LBFGS_STEPS = 200
ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Optimum:
    """The best multipliers found.

    Attributes
    ----------
    point : multipliers v and mu with what they achieve
    passes : passes over the data
    infeasible : whether the dual value rose above what any weights can cost, which proves that
        hard constraints cannot be met
    """

    point: Point
    passes: int
    infeasible: bool


@threadpool_limits.wrap(limits=1, user_api="blas")
def maximise(
    dual: Dual,
    *,
    start: tuple[np.ndarray, float] | None = None,
    accuracy: float = ACCURACY,
) -> Optimum:
    """Maximise the dual function.

    BLAS works with one thread: its sums, and so the last bits, would depend on their number.

    Newton steps on the constraints in play, as long as their Hessian fits and they help; rounds of
    L-BFGS where they do not. The latter end at LBFGS_ACCURACY, which takes them a few dozen
    passes.

    Parameters
    ----------
    start : multipliers (v, mu) to start from, such as those of a similar problem
    accuracy : relative gap at which to stop
    """
    before = dual.passes
    if dual.eta >= dual.cap and dual.stated:
        point = _all_at_the_cap(dual)
        return Optimum(point, dual.passes - before, proves_infeasible(dual, point))
    duals, rate_dual = start or (np.zeros(dual.size), 0.0)
    point = dual.evaluate(np.clip(duals, -dual.bound, dual.bound), rate_dual)
    scale = _everything_moves(dual)
    for _ in range(ROUNDS):
        first = point
        newton = Newton(dual, point, scale)
        fits = newton.fits()
        if fits:
            point = _steps(dual, newton, NEWTON_STEPS, accuracy)
        enough = accuracy if fits else max(accuracy, LBFGS_ACCURACY)
        if _accurate(dual, point, enough) or proves_infeasible(dual, point):
            break
        point = _steps(dual, QuasiNewton(dual, point, scale), LBFGS_STEPS, enough)
        if first.value - point.value <= 1e-13 * abs(first.value) and point.gap > 0.5 * first.gap:
            break
    return Optimum(point, dual.passes - before, proves_infeasible(dual, point))


def _all_at_the_cap(dual: Dual) -> Point:
    """Where the rate is the cap there is one choice of weights: multipliers only price it."""
    lowest = -2.0 * dual.cap - dual.eta
    seen = dual.evaluate(np.zeros(dual.size), lowest)
    excess = np.maximum(np.abs(seen.moment) - dual.eps * seen.mass, 0.0)
    if dual.problem.slack == "l2":
        size = dual.price * excess
    elif math.isfinite(dual.price):
        size = np.where(excess > 0.0, dual.price, 0.0)
    else:  # large enough to prove that violations cannot be avoided, if there are any
        total = float(excess.sum())
        size = np.where(excess > 1e-12, 2.0 * dual.largest_primal / max(total, 1e-300), 0.0)
    duals = np.sign(seen.moment) * size
    # No slope is steeper than this, so that every weight stays at the cap.
    steepest = float(size @ (1.0 + dual.eps))
    return dual.evaluate(duals, lowest - steepest)


def _steps(dual: Dual, method: Newton | QuasiNewton, most: int, accuracy: float) -> Point:
    """Steps of a method until it is accurate, stuck, or has proved that there is no solution."""
    best = method.point
    for _ in range(most):
        if _accurate(dual, best, accuracy) or not method.step():
            break
        if method.point.improves(best):
            best = method.point
        if proves_infeasible(dual, best) or (isinstance(method, Newton) and not method.fits()):
            break
    return best


def _accurate(dual: Dual, point: Point, accuracy: float) -> bool:
    """Whether the gap is small, or as small as rounding lets it be."""
    return point.relative_gap <= accuracy or point.gap <= 1e-15 * dual.largest_primal


def _everything_moves(dual: Dual) -> np.ndarray:
    """E[z_j^2] and 1: the curvature if no weight were at a bound."""
    return np.maximum(dual.diagonal(np.zeros(dual.size), dual.eta - 0.5 * dual.cap), 1e-12)


def proves_infeasible(dual: Dual, point: Point) -> bool:
    """Weak duality: no weights at all can cost as much as the dual value."""
    hard = math.isinf(dual.price) and dual.stated
    return hard and dual.dual_value(point) > dual.largest_primal
