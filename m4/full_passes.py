"""The optimum on data that one machine does not hold: a sample solves, full passes correct it.

Every pass looks at all of the data, on a cluster if need be, and gives the gradient and the
curvature of the dual at some multipliers. Between passes, the dual of a sample stands for that of
the whole: tilted, so that its gradient is the full one at the last pass, and held near by a
diagonal term where its curvature is too small. Each pass then gains as much as the sample's
Hessian is accurate, about the square root of n / J for n rows.
"""

import math
from collections.abc import Callable

import numpy as np

from m4.dual import Anchor, Dual, Point, Tilt
from m4.optimum import Optimum, maximise, proves_infeasible
from m4.problem import Problem

SampleDual = Callable[[Problem, Tilt | None, Anchor | None], Dual]

START_PENALTY = 10.0  # of hard constraints on a sample, which may not be able to meet them
RATE_ACCURACY = 1e-12
PATIENCE = 4  # passes without progress after which to stop


def maximise_by_passes(
    full: Dual,
    sample: SampleDual,
    rows: float,
    *,
    start: tuple[np.ndarray, float] | None = None,
    most: int = 20,
    accuracy: float = 1e-8,
    progress: Callable[[int, Point], None] | None = None,
) -> Optimum:
    """Maximise a dual function whose every look is a pass over all the data.

    Parameters
    ----------
    full : the dual of all data; `evaluate` and `diagonal` at the same multipliers are one pass
    sample : makes the dual of the sample for a problem, a tilt and an anchor
    rows : n, rows of the sample; at least 100 for each constraint serve well
    start : multipliers to start from; the sample's own solution where left out
    most : passes to make at most
    accuracy : relative gap at which to stop
    progress : called with the number of the pass and what it saw
    """
    duals, rate_dual = start or _solve_sample(full.problem, sample)
    plain = sample(full.problem, None, None)
    damping = math.sqrt(full.size / rows)
    boost = 2.0  # values of one attribute exclude each other: a pair bends twice as much
    best: Point | None = None
    best_curvature = np.zeros(full.size + 1)
    idle = 0
    for number in range(1, most + 1):
        point = full.evaluate(duals, rate_dual)
        if progress is not None:
            progress(number, point)
        if proves_infeasible(full, point):
            return Optimum(point, full.passes, True)
        if best is None or point.improves(best):
            best, best_curvature, idle = point, full.diagonal(duals, rate_dual), 0
            damping *= 0.5
        else:  # too far: the same model, held nearer to the best multipliers
            idle += 1
            damping = max(8.0 * damping, 1e-3)
            boost *= 2.0
        if best.relative_gap <= accuracy or idle == PATIENCE:
            break
        held = damping * best_curvature + boost * _missing(plain, best, best_curvature)
        duals, rate_dual = _corrected(full, sample, plain, best, held)
    assert best is not None  # at least one pass was made
    return Optimum(_with_exact_rate(full, best, best_curvature[-1]), full.passes, False)


def _solve_sample(problem: Problem, sample: SampleDual) -> tuple[np.ndarray, float]:
    optimum = maximise(sample(problem, None, None))
    if optimum.infeasible or optimum.point.relative_gap > 1e-3:
        soft = problem.model_copy(update={"penalty": START_PENALTY})
        optimum = maximise(sample(soft, None, None))
    return optimum.point.duals, optimum.point.rate_dual


def _missing(plain: Dual, seen: Point, curvature: np.ndarray) -> np.ndarray:
    """Curvature that all the data has and the sample has not, (J + 1,): of rare labels."""
    return np.maximum(curvature - plain.diagonal(seen.duals, seen.rate_dual), 0.0)


def _corrected(
    full: Dual, sample: SampleDual, plain: Dual, seen: Point, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """The optimum of the sample's dual with the gradient that all the data has at a point."""
    here = plain.evaluate(seen.duals, seen.rate_dual)
    tilt = Tilt(seen.moment - here.moment, seen.mass - here.mass, seen.rate_error - here.rate_error)
    floor = 1e-9 * max(float(weight[-1]), 1e-9)
    anchor = Anchor(weight + floor, np.append(seen.duals, seen.rate_dual))
    start = (seen.duals, seen.rate_dual)
    optimum = maximise(sample(full.problem, tilt, anchor), start=start, accuracy=1e-10)
    return optimum.point.duals, optimum.point.rate_dual


def _with_exact_rate(full: Dual, point: Point, steepness: float) -> Point:
    """Newton's method on mu alone, until E[q] is eta: a primal bound needs the rate exactly."""
    for _ in range(4):
        if abs(point.rate_error) <= RATE_ACCURACY or steepness <= 0.0:
            break
        moved = full.evaluate(point.duals, point.rate_dual + point.rate_error / steepness)
        if abs(moved.rate_error) >= abs(point.rate_error):
            break
        point = moved
    return point
