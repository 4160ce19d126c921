"""Preconditioned L-BFGS on the dual with its kinks, for any number of constraints.

An orthant-wise method (Andrew and Gao, "Scalable training of L1-regularized log-linear models",
ICML 2007, in substance): within the orthant of signs that a step starts in, the dual is smooth;
multipliers that would change sign or leave the bounds stop there. Here the kinks are weighted by
moments that move with q, and the metric is the curvature of every moment.
"""

from collections import deque

import numpy as np

from m4.dual import Dual, Point

MEMORY = 20  # pairs of steps and gradient differences
REFRESH = 15  # steps after which the curvature is measured again
SHORTEST = 0.5**20


class QuasiNewton:
    """L-BFGS steps from a point."""

    def __init__(self, dual: Dual, point: Point, scale: np.ndarray):
        """`scale` is the curvature E[z_j^2] of all data and 1 for the rate, (J + 1,)."""
        self._dual = dual
        self._scale = scale
        self._pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=MEMORY)
        self._steps = 0
        self.point = point

    def step(self) -> bool:
        """One step. False where none helps any more, up to rounding."""
        if self._steps % REFRESH == 0:
            self._measure()
        self._steps += 1
        slope, signs = self._slope()
        direction = self._direction(slope)
        if self._descend(slope, signs, direction):
            return True
        if not self._pairs:
            return False
        self._pairs.clear()  # what was learned misleads here: start again from the metric
        self._measure()
        return self._descend(slope, signs, -slope / self._metric)

    def _measure(self) -> None:
        curvature = self._dual.diagonal(self.point.duals, self.point.rate_dual)
        # Where hardly any weight can move, a step of full curvature would be far too long.
        self._metric = np.maximum(curvature, 1e-2 * self._scale) + self._dual.anchor.weight

    def _position(self, point: Point) -> np.ndarray:
        return np.append(point.duals, point.rate_dual)

    def _smooth(self, point: Point, signs: np.ndarray) -> np.ndarray:
        """Gradient within the orthant of given signs, (J + 1,)."""
        dual = self._dual
        pull = dual.anchor.weight * (self._position(point) - dual.anchor.centre)
        gradient = dual.eps * point.mass * signs[:-1] - point.moment
        return np.append(gradient, -point.rate_error) + pull

    def _slope(self) -> tuple[np.ndarray, np.ndarray]:
        """The steepest slope at the point, 0 where a kink or bound holds; and the orthant."""
        point, dual = self.point, self._dual
        still = point.duals == 0.0
        plain = self._smooth(point, np.zeros(dual.size + 1))
        signs = np.append(np.where(still, -np.sign(plain[:-1]), np.sign(point.duals)), 0.0)
        slope = self._smooth(point, signs)
        held = still & (slope[:-1] * signs[:-1] >= 0.0)
        held |= (np.abs(point.duals) >= dual.bound) & (slope[:-1] * signs[:-1] <= 0.0)
        slope[:-1][held] = 0.0
        return slope, signs

    def _direction(self, slope: np.ndarray) -> np.ndarray:
        """The two-loop recursion, over the multipliers that are not held."""
        free = slope != 0.0
        direction = -slope
        used = []
        for moved, bent in reversed(self._pairs):
            product = float(moved @ np.where(free, bent, 0.0))
            if product <= 0.0:
                continue
            part = float(moved[free] @ direction[free]) / product
            direction = direction - part * np.where(free, bent, 0.0)
            used.append((moved, bent, product, part))
        direction = direction / self._metric
        for moved, bent, product, part in reversed(used):
            back = float(bent[free] @ direction[free]) / product
            direction = direction + (part - back) * np.where(free, moved, 0.0)
        return np.where(direction * slope < 0.0, direction, 0.0)

    def _descend(self, slope: np.ndarray, signs: np.ndarray, direction: np.ndarray) -> bool:
        """Move along a direction as far as the value falls."""
        point, dual = self.point, self._dual
        start = self._position(point)
        length = 1.0
        while length > SHORTEST:
            end = start + length * direction
            inside = np.clip(end[:-1], -dual.bound, dual.bound)
            end[:-1] = np.where(inside * signs[:-1] > 0.0, inside, 0.0)
            moved = end - start
            expected = float(slope @ moved)
            if expected >= 0.0:
                return False
            trial = dual.evaluate(end[:-1], float(end[-1]))
            bent = self._smooth(trial, signs) - self._smooth(point, signs)
            left = expected + float(bent @ moved)
            # Near the optimum values differ by rounding only; slopes still tell.
            rounding = 1e-13 * max(abs(point.value), 1e-9)
            falls = trial.value <= point.value + 1e-4 * expected
            if falls or (-expected < rounding and abs(left) <= 0.8 * -expected):
                if moved @ bent > 1e-12 * float(moved**2 @ self._metric):
                    self._pairs.append((moved, bent))
                self.point = trial
                return True
            length *= 0.5
        return False
