"""The dual function of a problem on some data: value, gradient, curvature.

With one signed multiplier v_j per two-sided constraint, x = eta u - slope(v) - mu and
q = clip(x, 0, Q), minus the dual is, up to a constant,

    f(v, mu) = E[x q - q^2 / 2] + mu eta

convex and piecewise quadratic, with a kink of eps_j E[q t_j] |v_j| at v_j = 0. Every solver of
this package works on f; what it looks at is a `Point`.
"""

import math
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from m4 import kernels
from m4.buckets import Buckets
from m4.certificate import exact_price
from m4.moments import Moments
from m4.problem import Problem

SMALL = 50_000  # rows and labels below which threads cost more than they bring


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


class TableDual(Dual):
    """Bucketed rows, for data with few distinct attribute patterns."""

    def __init__(
        self,
        problem: Problem,
        buckets: Buckets,
        *,
        threads: int = 1,
        tilt: Tilt | None = None,
        anchor: Anchor | None = None,
    ):
        utility = buckets.utility
        self._examples = buckets.examples
        self._preferred = None if utility is None else problem.eta * utility
        liked = self._preferred
        alike = problem.eta**2
        squares = alike if liked is None else float(buckets.counts @ liked**2) / self._examples
        super().__init__(problem, squares, tilt, anchor)
        self._alike = problem.eta if liked is None else 0.0  # what all rows prefer
        self._buckets = buckets
        self._held, self._known = problem.features(buckets.s, buckets.observed)
        self._threads = threads
        small = len(buckets.counts) + len(buckets.labels) < SMALL
        self._chunks = [(0, len(buckets.group))] if small else buckets.chunks()

    @property
    def buckets(self) -> Buckets:
        return self._buckets

    def table(self, duals: np.ndarray) -> np.ndarray:
        """T[p, r], (P, 1 + c)."""
        held, known = self.problem.layout.factors(duals)
        return np.ascontiguousarray(self._held @ held - self._known @ known)

    def _each_chunk(self, kernel: Any, *extra: Any, outputs: Any) -> list[Any]:
        buckets = self._buckets

        def work(chunk: tuple[int, int]) -> Any:
            into = outputs()
            kernel(
                *chunk,
                buckets.group,
                buckets.length,
                buckets.rows,
                buckets.entries,
                buckets.labels,
                buckets.strengths,
                buckets.counts,
                self._preferred,
                self._alike,
                *extra,
                *into,
            )
            return into

        if len(self._chunks) == 1 or self._threads == 1:
            return [work(chunk) for chunk in self._chunks]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(work, self._chunks))

    def _table_shape(self) -> tuple[int, int]:
        return len(self._held), self.problem.layout.shape[1]

    def look(self, duals: np.ndarray, rate_dual: float) -> Sums:
        shape = self._table_shape()
        parts = self._each_chunk(
            kernels.evaluate,
            self.table(duals),
            rate_dual,
            self.cap,
            outputs=lambda: (np.zeros(shape), np.zeros(4)),
        )
        gathered = sum(part[0] for part in parts) / self._examples
        sums = sum(part[1] for part in parts) / self._examples
        layout = self.problem.layout
        held, known = self._held.T @ gathered, self._known.T @ gathered
        return Sums(
            layout.moment(held, known),
            layout.mass(known),
            float(sums[kernels.WEIGHT]),
            float(sums[kernels.SQUARES]),
            float(sums[kernels.PREFERRED] + self._alike * sums[kernels.WEIGHT]),
            float(sums[kernels.RAISED]),
        )

    def diagonal(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        self.passes += 1
        shape = self._table_shape()
        parts = self._each_chunk(
            kernels.curvature,
            self.table(duals),
            rate_dual,
            self.cap,
            outputs=lambda: (np.zeros(shape),),
        )
        gathered = sum(part[0] for part in parts) / self._examples
        layout = self.problem.layout
        # z^2 = o (s^2 - 2 pi s + pi^2) y^2
        squares = self._held**2
        among = (squares.T @ gathered)[layout.feature, layout.column]
        crossed = (self._held.T @ gathered)[layout.feature, layout.column]
        alone = (self._known.T @ gathered)[layout.feature, layout.column]
        moments = among - 2.0 * layout.goal * crossed + layout.goal**2 * alone
        return np.append(np.maximum(moments, 0.0), gathered[:, 0].sum())

    def hessian_size(self, chosen: np.ndarray) -> float:
        columns = len(np.unique(np.append(self.problem.layout.column[chosen], 0)))
        return len(self._held) * columns**2 + (len(chosen) + 1) ** 2

    def hessian(
        self, duals: np.ndarray, rate_dual: float, chosen: np.ndarray, signs: np.ndarray
    ) -> np.ndarray:
        self.passes += 1
        layout = self.problem.layout
        columns = np.unique(np.append(layout.column[chosen], 0))
        place = np.full(layout.shape[1], -1, dtype=np.int64)
        place[columns] = np.arange(len(columns))
        shape = (len(self._held), len(columns), len(columns))
        gathered = np.zeros(shape)
        table = self.table(duals)
        self._each_chunk_into(gathered, table, rate_dual, place)
        feature, goal = layout.feature[chosen], layout.goal[chosen]
        column = np.append(place[layout.column[chosen]], 0)
        aside = layout.mass_column[chosen] != layout.column[chosen]
        width = signs * layout.eps[chosen]
        result = np.zeros((len(column), len(column)))
        for p in range(len(self._held)):
            upper = gathered[p]
            both = upper + np.triu(upper, 1).T
            held, known = self._held[p, feature], self._known[p, feature]
            # a_j = main_j y_r(j) + rest_j: a tolerance of all examples has no label in it.
            main = np.append(held - goal * known - np.where(aside, 0.0, width * known), 1.0)
            rest = np.append(np.where(aside, -width * known, 0.0), 0.0)
            result += both[np.ix_(column, column)] * main[:, None] * main[None, :]
            if rest.any():
                alone = both[column, 0]
                cross = (main * alone)[:, None] * rest[None, :]
                result += cross + cross.T + both[0, 0] * rest[:, None] * rest[None, :]
        return result / self._examples

    def _each_chunk_into(
        self, gathered: np.ndarray, table: np.ndarray, rate_dual: float, place: np.ndarray
    ) -> None:
        """Co-occurrences into one array, one chunk after the other: it may be large."""
        buckets = self._buckets
        kernels.cooccurrence(
            0,
            len(buckets.group),
            buckets.group,
            buckets.length,
            buckets.rows,
            buckets.entries,
            buckets.labels,
            buckets.strengths,
            buckets.counts,
            self._preferred,
            self._alike,
            table,
            rate_dual,
            self.cap,
            place,
            gathered,
        )


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
