"""A proof of how good weights are, computed independently of the solver that found them."""

import math

import numpy as np

from m4.catalogue import Model
from m4.patterns import Patterns
from m4.problem import Problem
from m4.totals import Totals, slope


class Certificate(Model):
    """Bounds of the optimum from both sides.

    Attributes
    ----------
    primal : 1/2 E[(eta u - q)^2] + price of the violations of the weights q that the policy gives;
        an upper bound where the penalty is finite or nothing is violated
    dual : value of the dual function; a lower bound
    gap : primal - dual, which bounds how far the weights are from optimal
    max_violation : largest excess of |E[q z_j]| over eps_j E[q t_j]
    price : the price of a violation in `primal`: the problem's penalty, or `exact_price` where the
        constraints are hard
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


def certify(problem: Problem, duals: np.ndarray, rate_dual: float, totals: Totals) -> Certificate:
    """Certify the weights q*(v, mu) by their totals.

    With q = q*(v, mu), the dual function is

        1/2 E[(eta u - q)^2] + sum_j (v_j E[q z_j] - eps_j |v_j| E[q t_j]) + mu (E[q] - eta)

    less sum_j v_j^2 / (2 penalty) where slacks are priced by their squares.

    Parameters
    ----------
    duals : (J,) signed multipliers v; under an l1 price each within the penalty
    rate_dual : mu, repaired so that E[q] = eta
    totals : of the data under q*(v, mu)
    """
    layout = problem.layout
    moment, mass = totals.moment(layout), totals.mass(layout)
    violation = totals.violation(layout)
    rate = totals.weight / totals.examples
    hard = math.isinf(problem.price)
    price = exact_price(duals) if hard else problem.price
    objective = 0.5 * totals.distance / totals.examples
    lagrangian = (
        duals @ moment - layout.eps * np.abs(duals) @ mass + rate_dual * (rate - problem.eta)
    )
    if problem.slack == "l2":
        cost, conjugate = 0.5 * price * violation @ violation, 0.5 * duals @ duals / price
    else:
        cost, conjugate = price * violation.sum(), 0.0
    return Certificate(
        primal=float(objective + cost),
        dual=float(objective + lagrangian - conjugate),
        gap=float(cost + conjugate - lagrangian),
        max_violation=float(violation.max(initial=0.0)),
        price=price,
        rate_error=abs(rate - problem.eta),
    )


def exact_price(duals: np.ndarray) -> float:
    """A price of violations for hard constraints: twice the largest multiplier, at least 1.

    Any price above the largest multiplier of an optimum is an exact penalty, under which the priced
    problem has the optimum of the hard one, so that the gap stays a bound.
    """
    return max(1.0, 2.0 * float(np.abs(duals).max(initial=0.0)))


def repair_rate(problem: Problem, duals: np.ndarray, patterns: Patterns) -> float:
    """The mu at which E[q*(v, mu)] = eta; it exists because eta <= cap."""
    level = problem.eta * patterns.utility - slope(problem, duals, patterns)
    return rate_multiplier(level, patterns.share, problem.eta, problem.cap)


def rate_multiplier(level: np.ndarray, share: np.ndarray, eta: float, cap: float) -> float:
    """The mu at which E[clip(level - mu, 0, cap)] = eta, exact to rounding.

    The mean falls from cap to 0 as mu rises, and is linear between its corners: Newton's method
    inside a bracket, which a bisection halves where Newton would leave it.

    Parameters
    ----------
    level, share : (N,), with shares that sum to 1
    """
    low, high = float(level.min()) - cap, float(level.max())
    if eta >= cap:  # every weight is at the cap
        return low
    mu = min(max(0.0, low), high)
    for _ in range(200):
        weights = np.clip(level - mu, 0.0, cap)
        error = float(share @ weights) - eta
        low, high = (mu, high) if error > 0 else (low, mu)
        steepness = float(share @ ((weights > 0) & (weights < cap)))
        middle = 0.5 * (low + high)
        target = mu + error / steepness if steepness > 0 else middle
        if target == mu or not low < middle < high:
            break
        mu = target if low < target < high else middle
    return mu
