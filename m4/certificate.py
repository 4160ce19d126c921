"""A proof of how good weights are, computed independently of the solver that found them."""

import math
from bisect import bisect_left

import numpy as np

from m4.catalogue import Model
from m4.problem import Moments


class Certificate(Model):
    """Bounds of the optimum from both sides.

    Attributes
    ----------
    primal : 1/2 E[(eta u - q)^2] + price * (sum of violations) of the weights q that the policy
        gives; an upper bound where the penalty is finite or nothing is violated
    dual : value of the dual function; a lower bound
    gap : primal - dual, which bounds how far the weights are from optimal
    max_violation : largest excess of |E[q z_j]| over eps_j E[q t_j]
    price : the price of a violation in `primal`: the problem's penalty, or the largest multiplier
        where the constraints are hard (an exact penalty)
    rate_error : |E[q] - eta|
    """

    primal: float
    dual: float
    gap: float
    max_violation: float
    price: float
    rate_error: float

    @property
    def relative_gap(self) -> float:
        """Gap over the primal value, or over 1e-6 where the data needs next to no balancing."""
        return self.gap / max(abs(self.primal), 1e-6)


def repair_rate(moments: Moments, duals: np.ndarray) -> float:
    """The mu at which E[q*(v, mu)] = eta; it exists because eta <= cap.

    E[clip(b - mu, 0, cap)] falls from cap to 0 as mu rises, and is linear between the corners b
    and b - cap: the root is found among the corners, then exactly on its piece.
    """
    level = moments.preferred - moments.slope(duals)

    def excess(mu: float) -> float:
        return float(moments.share @ np.clip(level - mu, 0.0, moments.cap)) - moments.eta

    corners = np.sort(np.concatenate([level - moments.cap, level]))
    after = bisect_left(corners, 0.0, key=lambda mu: -excess(mu))
    if after == 0:  # eta = cap: every weight is at the cap
        return float(corners[0])
    low, high = float(corners[after - 1]), float(corners[after])
    falling = (level > low) & (level - moments.cap <= low)
    slope = float(moments.share[falling].sum())
    return min(low + excess(low) / slope, high) if slope > 0 else low


def certify(moments: Moments, duals: np.ndarray, rate_dual: float) -> Certificate:
    """Certify the weights q*(v, mu).

    Parameters
    ----------
    duals : (J,) signed multipliers v, each within the penalty
    rate_dual : mu, repaired so that E[q] = eta
    """
    weights = moments.weights(duals, rate_dual)
    violation = moments.violation(weights)
    hard = math.isinf(moments.penalty)
    price = float(np.abs(duals).max(initial=0.0)) if hard else moments.penalty
    primal = moments.objective(weights) + price * float(violation.sum())
    dual = moments.dual_value(duals, rate_dual)
    return Certificate(
        primal=primal,
        dual=dual,
        gap=primal - dual,
        max_violation=float(violation.max(initial=0.0)),
        price=price,
        rate_error=abs(float(moments.share @ weights) - moments.eta),
    )
