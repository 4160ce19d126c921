"""Newton's method on the dual, with its kinks: exact to rounding after a few passes.

Each step minimises the quadratic model at a point, with the kinks eps_j E[q t_j] |v_j| and the
bounds |v_j| <= V in it, and is damped as Levenberg and Marquardt do: degenerate, collinear and
unbounded directions get a step of bounded length instead of none.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lstsq

from m4.dual import Dual, Point

LARGEST_SYSTEM = 500  # constraints in play; beyond, quasi-Newton steps are quicker
LARGEST_HESSIAN = 40_000_000  # numbers of co-occurrences; beyond, they do not fit
SHORTEST_STEP = 1e-15  # relative decrease of the model below which rounding decides


@dataclass(frozen=True, eq=False)
class Model:
    """f near a point: slope' d + 1/2 d' hessian d + sum_j kink_j (|v_j + d_j| - |v_j|).

    Over d of shape (W,) with |v_j + d_j| <= bound; mu is minimised out.
    """

    slope: np.ndarray
    hessian: np.ndarray
    kink: np.ndarray
    start: np.ndarray
    bound: float

    def change(self, ends: np.ndarray) -> float:
        """The model's change on moving the multipliers to `ends`."""
        away = ends - self.start
        kinks = self.kink @ (np.abs(ends) - np.abs(self.start))
        return float(self.slope @ away + 0.5 * away @ (self.hessian @ away) + kinks)

    def minimise(self, rounds: int = 50) -> np.ndarray:
        """The multipliers at its minimum, (W,).

        Sweeps over single multipliers find out which are zero or at the bound; a linear system
        then moves the others together, up to the first that changes sign or meets the bound.
        """
        ends = self.start.copy()
        for _ in range(rounds):
            product = self.hessian @ (ends - self.start)
            _sweep(self.slope, self.hessian, self.kink, self.bound, self.start, ends, product, 4)
            gradient = self.slope + self.hessian @ (ends - self.start)
            if self._residual(ends, gradient) <= 1e-13 * (
                1.0 + np.abs(self.slope).max(initial=0.0)
            ):
                break
            self._move_together(ends, gradient)
        return ends

    def _residual(self, ends: np.ndarray, gradient: np.ndarray) -> float:
        """The largest change per unit that a single multiplier could still bring."""
        pull = np.abs(gradient) - self.kink
        moving = np.abs(gradient + self.kink * np.sign(ends))
        outward = -(gradient * np.sign(ends) + self.kink)
        residual = np.where(ends == 0.0, np.maximum(pull, 0.0), moving)
        residual = np.where(np.abs(ends) >= self.bound, np.maximum(-outward, 0.0), residual)
        return float(residual.max(initial=0.0))

    def _move_together(self, ends: np.ndarray, gradient: np.ndarray) -> None:
        free = np.flatnonzero((ends != 0.0) & (np.abs(ends) < self.bound))
        if not len(free):
            return
        signs = np.sign(ends[free])
        curve, force = self.hessian[np.ix_(free, free)], gradient[free] + self.kink[free] * signs
        try:
            move = -cho_solve(cho_factor(curve, check_finite=False), force, check_finite=False)
        except LinAlgError:  # singular to rounding: the shortest of all best moves
            move = -lstsq(curve, force, check_finite=False)[0]
        if not np.isfinite(move).all() or force @ move >= 0.0:
            return  # the sweeps alone have to do
        with np.errstate(divide="ignore", invalid="ignore"):
            to_zero = np.where(move * signs < 0, -ends[free] / move, np.inf)
            to_bound = np.where(move * signs > 0, (self.bound * signs - ends[free]) / move, np.inf)
        length = np.minimum(to_zero, to_bound)
        most = length.min()
        ends[free] += min(1.0, most) * move
        if most < 1.0:
            ends[free[to_zero <= most]] = 0.0
            stopped = to_bound <= most
            ends[free[stopped]] = self.bound * signs[stopped]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sweep(slope, hessian, kink, bound, start, ends, product, sweeps):  # type: ignore[no-untyped-def]
    """Minimise over one multiplier after the other; `product` is hessian @ (ends - start)."""
    for _ in range(sweeps):
        for j in range(len(slope)):
            curve = hessian[j, j]
            if curve <= 0.0:
                continue
            aim = ends[j] - (slope[j] + product[j]) / curve
            end = math.copysign(max(abs(aim) - kink[j] / curve, 0.0), aim)
            end = min(max(end, -bound), bound)
            moved = end - ends[j]
            if moved != 0.0:
                ends[j] = end
                for other in range(len(slope)):
                    product[other] += moved * hessian[j, other]


class Newton:
    """Damped Newton steps from a point."""

    def __init__(self, dual: Dual, point: Point, scale: np.ndarray):
        """`scale` is the curvature E[z_j^2] of all data and 1 for the rate, (J + 1,)."""
        self._dual = dual
        self._scale = scale
        self._damping = 1e-8
        self.point = point

    def fits(self) -> bool:
        """Whether the Hessian of the constraints in play is small enough."""
        chosen = self._in_play()
        small = len(chosen) <= LARGEST_SYSTEM
        return small and self._dual.hessian_size(chosen) <= LARGEST_HESSIAN

    def _in_play(self) -> np.ndarray:
        point = self.point
        return np.flatnonzero((point.duals != 0.0) | (point.violation > 0.0))

    def step(self) -> bool:
        """One step. False where no step helps any more: the point is optimal up to rounding."""
        point, dual = self.point, self._dual
        chosen = self._in_play()
        duals = point.duals[chosen]
        signs = np.where(duals != 0.0, np.sign(duals), np.sign(point.moment[chosen]))
        hessian = dual.hessian(point.duals, point.rate_dual, chosen, signs)
        both = np.append(chosen, dual.size)
        centre = np.append(point.duals, point.rate_dual)[both] - dual.anchor.centre[both]
        pull = dual.anchor.weight[both] * centre
        slope = np.append(-point.moment[chosen], -point.rate_error) + pull
        hessian[np.diag_indices_from(hessian)] += dual.anchor.weight[both]
        kink = np.maximum(dual.eps[chosen] * point.mass[chosen], 0.0)
        for _ in range(8):
            damped = hessian + np.diag(self._damping * self._scale[both] + 1e-300)
            ends, rate_dual, promised = self._aim(slope, damped, kink, chosen)
            if not promised < -SHORTEST_STEP * max(abs(point.value), 1e-9):
                return self._settle(dual.evaluate(ends, rate_dual))
            if self._search(ends, rate_dual, promised):
                return True
            self._damping *= 100.0
        return False

    def _search(self, ends: np.ndarray, rate_dual: float, promised: float) -> bool:
        """Go towards where the model has its minimum, as far as the value falls enough.

        Where a full step overshoots, a parabola through what was seen gives the next one. The
        damping follows from how far the model could be trusted.
        """
        point, dual = self.point, self._dual
        length = 1.0
        for _ in range(6):
            away = length * (ends - point.duals)
            trial = dual.evaluate(
                ends if length == 1.0 else point.duals + away,
                point.rate_dual + length * (rate_dual - point.rate_dual),
            )
            gained = (trial.value - point.value) / (length * promised)
            if gained > 0.1:
                trusted = 0.1 if gained > 0.7 else 1.0
                grown = 10.0 if length < 0.1 else 2.0
                self._damping = max(self._damping * (trusted if length == 1.0 else grown), 1e-13)
                self.point = trial
                return True
            if promised > -1e-12 * max(abs(point.value), 1e-9) and self._settle(trial):
                return True
            length *= min(max(0.5 / (1.0 - min(gained, 0.0)), 0.05), 0.5)
        return False

    def _settle(self, trial: Point) -> bool:
        """Where values differ by rounding only, the gap decides."""
        better = trial.gap < 0.9 * self.point.gap
        if better:
            self.point = trial
        return better

    def _aim(
        self, slope: np.ndarray, hessian: np.ndarray, kink: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, float, float]:
        """The multipliers v and mu at the model's minimum, and the change that it promises."""
        point = self.point
        # Minimise mu out of the model: its row and column are the last.
        across, curve = hessian[:-1, -1], hessian[-1, -1]
        reduced = Model(
            slope[:-1] - across * (slope[-1] / curve),
            hessian[:-1, :-1] - across[:, None] * across[None, :] / curve,
            kink,
            point.duals[chosen],
            self._dual.bound,
        )
        ends = reduced.minimise()
        moved = ends - reduced.start
        rate_move = -(slope[-1] + across @ moved) / curve
        promised = reduced.change(ends) - 0.5 * slope[-1] ** 2 / curve
        duals = point.duals.copy()
        duals[chosen] = ends
        return duals, point.rate_dual + float(rate_move), promised
