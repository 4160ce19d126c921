"""The dual of any data, row by row."""

from functools import cached_property

import numpy as np
from scipy import sparse

from m4.dual import Anchor, Dual, Sums, Tilt
from m4.moments import Moments
from m4.problem import Problem


class SparseDual(Dual):
    """Any data, row by row: for probabilities that make every attribute pattern its own."""

    def __init__(
        self,
        problem: Problem,
        moments: Moments,
        *,
        tilt: Tilt | None = None,
        anchor: Anchor | None = None,
    ):
        super().__init__(problem, float(moments.share @ moments.preferred**2), tilt, anchor)
        self._moments = moments

    @cached_property
    def _squares(self) -> sparse.csr_array:
        return self._moments.z.power(2)

    def _level(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        return self._moments.preferred - self._moments.slope(duals) - rate_dual

    def look(self, duals: np.ndarray, rate_dual: float) -> Sums:
        level = self._level(duals, rate_dual)
        weights = np.clip(level, 0.0, self.cap)
        moment, mass = self._moments.expected(weights)
        weighted = self._moments.share * weights
        return Sums(
            moment,
            mass,
            float(weighted.sum()),
            float(weighted @ weights),
            float(weighted @ self._moments.preferred),
            float(weighted @ level),
        )

    def _active(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        level = self._level(duals, rate_dual)
        return self._moments.share * ((level >= 0.0) & (level <= self.cap))

    def diagonal(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        self.passes += 1
        active = self._active(duals, rate_dual)
        return np.append(self._squares.T @ active, active.sum())

    def hessian_size(self, chosen: np.ndarray) -> float:
        return (len(chosen) + 1) ** 2

    def hessian(
        self, duals: np.ndarray, rate_dual: float, chosen: np.ndarray, signs: np.ndarray
    ) -> np.ndarray:
        self.passes += 1
        active = self._active(duals, rate_dual)
        moments = self._moments
        widths = sparse.diags_array(signs * self.eps[chosen])
        columns = moments.z[:, chosen] - moments.mass[:, moments.mass_of[chosen]] @ widths
        one = np.ones((len(active), 1))
        stacked = sparse.csr_array(sparse.hstack([columns, one], format="csr"))
        return (stacked.T @ sparse.diags_array(active) @ stacked).toarray()
