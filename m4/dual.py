"""The dual function of a problem on some data: value, gradient, curvature.

With one signed multiplier v_j per two-sided constraint, x = eta u - slope(v) - mu and
q = clip(x, 0, Q), minus the dual is, up to a constant,

    f(v, mu) = E[x q - q^2 / 2] + mu eta

convex and piecewise quadratic, with a kink of eps_j E[q t_j] |v_j| at v_j = 0. Every solver of
this package works on f; what it looks at is a `Point`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from m4.certificate import exact_price
from m4.problem import Problem


@dataclass(frozen=True, eq=False)
class Sums:
    """What one pass over the data gives, as means over all examples.

    Attributes
    ----------
    moment, mass : (J,) E[q z_j] and E[q t_j]
    rate, squares : E[q] and E[q^2]
    preferred, raised : E[eta u q] and E[x q]
    """

    moment: np.ndarray
    mass: np.ndarray
    rate: float
    squares: float
    preferred: float
    raised: float


@dataclass(frozen=True, eq=False)
class Tilt:
    """Moments of data that a pass does not see, added to those that it does; means again.

    A sample stands for the whole data, and what a hash kept for what was planned, once the
    difference of their moments is added.
    """

    moment: np.ndarray
    mass: np.ndarray
    rate: float


@dataclass(frozen=True, eq=False)
class Anchor:
    """A quadratic term 1/2 sum_j weight_j (x_j - centre_j)^2 over x = (v, mu), both (J + 1,)."""

    weight: np.ndarray
    centre: np.ndarray


@dataclass(frozen=True, eq=False)
class Point:
    """Multipliers, and all that one pass says about them.

    `value` is f, `primal` and `gap` bound the optimum, and `violation`, (J,), is how far each
    constraint is exceeded beyond what a quadratic term allows.
    """

    duals: np.ndarray
    rate_dual: float
    value: float
    moment: np.ndarray
    mass: np.ndarray
    rate_error: float
    primal: float
    gap: float
    violation: np.ndarray

    @property
    def relative_gap(self) -> float:
        """Gap over the primal value, or over 1e-6 where next to nothing has to change."""
        return self.gap / max(abs(self.primal), 1e-6)

    def improves(self, other: "Point") -> bool:
        """Whether the value is lower; where values differ by rounding only, the gap decides."""
        rounding = 1e-13 * max(abs(other.value), 1e-9)
        fell = other.value - self.value
        return fell > rounding or (abs(fell) <= rounding and self.gap < other.gap)


class Dual(ABC):
    """The dual function. Subclasses know how the data is stored."""

    def __init__(
        self,
        problem: Problem,
        preferred_squares: float,
        tilt: Tilt | None = None,
        anchor: Anchor | None = None,
    ):
        self.problem = problem
        self.eps = problem.layout.eps
        self.eta, self.cap, self.price = problem.eta, problem.cap, problem.price
        self.tilt = tilt
        self.bound = math.inf if problem.slack == "l2" else self.price
        self.stated = tilt is None and anchor is None  # the problem's own dual, nothing added
        size = len(self.eps) + 1
        if problem.slack == "l2":
            squared = np.full(size, 1.0 / self.price)
            squared[-1] = 0.0
            slack = Anchor(squared, np.zeros(size))
            anchor = slack if anchor is None else _joined(slack, anchor)
        self.anchor = anchor or Anchor(np.zeros(size), np.zeros(size))
        self.preferred_squares = preferred_squares
        self.passes = 0

    @property
    def size(self) -> int:
        """J, the number of constraints."""
        return len(self.eps)

    @property
    def largest_primal(self) -> float:
        """No weights cost more than this: a dual value above it proves infeasibility."""
        return 0.5 * max(self.cap, self.eta) ** 2

    def evaluate(self, duals: np.ndarray, rate_dual: float) -> Point:
        """Look at multipliers: one pass over the data."""
        self.passes += 1
        return self.point(duals, rate_dual, self.look(duals, rate_dual))

    def point(self, duals: np.ndarray, rate_dual: float, sums: Sums) -> Point:
        """What a pass says about multipliers.

        The gap is that of weights whose violations, and whose error of the rate, are paid for at an
        exact price. A quadratic term acts as a slack that has been paid for already.
        """
        moment, mass, eta = sums.moment, sums.mass, self.eta
        value = sums.raised - 0.5 * sums.squares
        if self.tilt is not None:
            moment, mass = moment + self.tilt.moment, mass + self.tilt.mass
            eta -= self.tilt.rate
            value += self.eps * np.abs(duals) @ self.tilt.mass - duals @ self.tilt.moment
        away = np.append(duals, rate_dual) - self.anchor.centre
        pull = self.anchor.weight * away
        value += rate_dual * eta + 0.5 * float(pull @ away)
        rate_error = float(sums.rate) - eta
        missed = rate_error - pull[-1]
        held = moment - pull[:-1]
        violation = np.maximum(np.abs(held) - self.eps * mass, 0.0)
        price = exact_price(duals) if math.isinf(self.bound) else self.price
        lagrangian = duals @ held - self.eps * np.abs(duals) @ mass + rate_dual * missed
        cost = price * violation.sum() + max(1.0, 2.0 * abs(rate_dual)) * abs(missed)
        gap = float(cost - lagrangian)
        primal = 0.5 * self.preferred_squares - float(value) + gap
        return Point(
            duals, rate_dual, float(value), moment, mass, rate_error, primal, gap, violation
        )

    def dual_value(self, point: Point) -> float:
        """The dual function itself, a lower bound of the optimum."""
        return 0.5 * self.preferred_squares - point.value

    @abstractmethod
    def look(self, duals: np.ndarray, rate_dual: float) -> Sums:
        """Sums of the data itself at multipliers, without what is added to it."""

    @abstractmethod
    def diagonal(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        """E[1{active} z_j^2] and E[1{active}], (J + 1,)."""

    def hessian_size(self, chosen: np.ndarray) -> float:
        """Numbers that `hessian` has to hold for some constraints, (W,) positions.

        Infinite where the data gives no Hessian.
        """
        return math.inf

    def hessian(
        self, duals: np.ndarray, rate_dual: float, chosen: np.ndarray, signs: np.ndarray
    ) -> np.ndarray:
        """E[1{active} a a'] for a_j = z_j - signs_j eps_j t_j of chosen j, then 1; (W+1, W+1)."""
        raise NotImplementedError(f"{type(self).__name__} gives no Hessian")


def _joined(one: Anchor, other: Anchor) -> Anchor:
    """The sum of two quadratics, up to a constant."""
    weight = one.weight + other.weight
    centre = one.weight * one.centre + other.weight * other.centre
    return Anchor(weight, np.divide(centre, weight, out=np.zeros_like(weight), where=weight > 0))
