"""The linear programme behind feasibility: the largest E[q] that a set of constraints allows.

        rate = max E[q]   over 0 <= q <= 1  with  |E[q z_j]| <= eps_j E[q t_j]

Its dual has one variable per constraint and no row per example,

        rate = min over v of  E[max(0, 1 - v.z + sum_j eps_j t_j |v_j|)],

so that any v bounds the rate from above, whatever it came from. Small programmes go to HiGHS as
they are. In a large one almost every row is clearly kept or clearly dropped: a smoothed dual says
which, HiGHS decides the rest, and what was decided wrongly is given back to it until nothing is.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.optimize import linprog, minimize

from m4.moments import Moments

DIRECT = 10_000  # rows that HiGHS is given at once; also the rows left open in a larger programme
SMOOTHING = (0.3, 0.1, 0.03, 0.01, 0.003)  # widths of the rounded corner, one after the other
ROUNDS = 20  # corrections of a large programme before HiGHS is given all of it
EXACT = 1e-9  # accuracy of a rate, and of a bias, that is asked of HiGHS


@dataclass(frozen=True, eq=False)
class Programme:
    """Constraints on data, for weights of at most 1.

    Attributes
    ----------
    z, mass : (N, S) CSR, each constraint's moment z_j and tolerance mass t_j
    eps : (S,) tolerances
    share : (N,) each row's share of all examples
    """

    z: sparse.csr_array
    mass: sparse.csr_array
    eps: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> "Programme":
        mass = sparse.csr_array(moments.mass[:, moments.mass_of])
        return cls(moments.z, mass, moments.eps, moments.share)

    def among(self, chosen: np.ndarray) -> "Programme":
        """The programme of some constraints, (S,) bool; rows that they do not tell apart joined."""
        z = sparse.csr_array(self.z[:, chosen])
        mass = sparse.csr_array(self.mass[:, chosen])
        generator = np.random.default_rng(0x4D34)
        # The same row gives the same sum of random numbers to the last bit; checked below.
        signature = np.column_stack(
            [
                z @ generator.random(z.shape[1]) + mass @ generator.random(z.shape[1])
                for _ in range(2)
            ]
        )
        _, first, inverse = np.unique(
            signature.view([("a", float), ("b", float)]).ravel(),
            return_index=True,
            return_inverse=True,
        )
        same = first[inverse]
        if (z != z[same]).nnz or (mass != mass[same]).nnz:  # pragma: no cover - next to no chance
            raise RuntimeError("two different rows share a 128-bit signature")
        share = np.bincount(inverse, self.share, len(first))
        return Programme(z[first], mass[first], self.eps[chosen], share)

    def with_tolerances(self, eps: np.ndarray) -> "Programme":
        return replace(self, eps=eps)

    @cached_property
    def size(self) -> np.ndarray:
        """E[t_j], or 1 where no example takes part; a moment over it is a bias; (S,)."""
        size = self.mass.T @ self.share
        return np.where(size > 0, size, 1.0)

    def gain(self, duals: np.ndarray) -> np.ndarray:
        """What keeping a row is worth at signed multipliers v, (N,)."""
        return 1.0 - self.z @ duals + self.mass @ (self.eps * np.abs(duals))

    def bound(self, duals: np.ndarray) -> float:
        """No weights that meet the constraints keep more than this, for any v."""
        return float(self.share @ np.maximum(self.gain(duals), 0.0))

    def sides(self, weights: np.ndarray) -> np.ndarray:
        """E[q (z - eps t)] and E[q (-z - eps t)], over the size; none above 0 is met; (2, S)."""
        weighted = self.share * weights
        moment, allowed = self.z.T @ weighted, self.eps * (self.mass.T @ weighted)
        return np.stack([moment - allowed, -moment - allowed]) / self.size


@dataclass(frozen=True, eq=False)
class RateBounds:
    """Weights q, (N,), and multipliers v, (S,), with the rates between which the largest lies.

    `rate` is E[q], less what the little that q exceeds its constraints by can be worth. A search
    that was given a goal may stop as soon as one of the two rates has decided it.
    """

    rate: float
    bound: float
    duals: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, programme: Programme, duals: np.ndarray, weights: np.ndarray) -> "RateBounds":
        excess = np.maximum(programme.sides(weights), 0.0).sum(axis=0) * programme.size
        rate = float(programme.share @ weights) - float(np.abs(duals) @ excess)
        return cls(max(0.0, rate), programme.bound(duals), duals, weights)

    def reaches(self, goal: float) -> bool:
        """Whether the constraints can be met at a rate."""
        return self.rate >= goal * (1.0 - EXACT)


def maximise_rate(
    programme: Programme, *, start: np.ndarray | None = None, goal: float | None = None
) -> RateBounds:
    """The largest rate of a programme, as near as HiGHS comes to it.

    Its two bounds agree to 1e-9, or 1e-7 where counts differ by nine orders of magnitude.

    Parameters
    ----------
    start : (S,) multipliers to begin with, from a similar programme
    goal : stop as soon as it is certain whether this rate is reached
    """
    rows, constraints = programme.z.shape
    if rows <= DIRECT:
        return _direct(programme)
    duals = np.zeros(constraints) if start is None else start
    for width in SMOOTHING if start is None else SMOOTHING[2:]:
        duals = _smooth(programme, duals, width)
        if goal is not None and programme.bound(duals) < goal * (1.0 - EXACT):
            return RateBounds.of(programme, duals, np.zeros(rows))
        if np.count_nonzero(np.abs(programme.gain(duals)) < width) < DIRECT:
            break
    return _correct(programme, duals, goal)


def _direct(programme: Programme) -> RateBounds:
    """HiGHS on all of it."""
    everything = np.ones(len(programme.share), bool)
    sides = np.ones((2, len(programme.eps)), bool)
    weights, duals, _ = _restricted(programme, everything, ~everything, sides, None)
    return RateBounds.of(programme, duals, weights)


def _smooth(programme: Programme, duals: np.ndarray, width: float) -> np.ndarray:
    """Nearly minimise the bound, its corner at 0 rounded off over a width."""
    size, share = programme.size, programme.share

    def rounded(sides: np.ndarray) -> tuple[float, np.ndarray]:
        above, below = sides.reshape(2, -1) / size
        gain = 1.0 - programme.z @ (above - below)
        gain += programme.mass @ (programme.eps * (above + below))
        weights = np.clip(gain / width, 0.0, 1.0)
        value = share @ (weights * (gain - 0.5 * width * weights))
        return float(value), -programme.sides(weights).ravel()

    found = minimize(
        rounded,
        (np.maximum([duals, -duals], 0.0) * size).ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * (2 * len(size)),
        options={"maxiter": 60, "maxcor": 20},
    )
    above, below = found.x.reshape(2, -1) / size
    return above - below


def _correct(programme: Programme, duals: np.ndarray, goal: float | None) -> RateBounds:
    """From multipliers that are nearly right to the optimum.

    Rows whose gain is far from 0 are kept or dropped by its sign; HiGHS weighs the others, under
    the constraints that have a multiplier, each of which it may break at a high price. Rows that
    end up with the wrong sign, and constraints that are broken, join in until there is none.
    """
    gain = programme.gain(duals)
    open_rows = np.zeros(len(gain), bool)
    open_rows[np.argpartition(np.abs(gain), DIRECT)[:DIRECT]] = True
    sides = np.stack([duals > 0, duals < 0])
    worth = np.abs(duals) * programme.size
    typical = np.median(worth[worth > 0]) if (worth > 0).any() else 1.0
    price = np.tile(3.0 * np.maximum(worth, typical), (2, 1))
    for _ in range(ROUNDS):
        kept = (gain > 0) & ~open_rows
        weights, duals, broken = _restricted(programme, open_rows, kept, sides, price)
        gain = programme.gain(duals)
        missed = (programme.sides(weights) > EXACT) & ~sides
        if not (broken.any() or missed.any()) and goal is not None:
            found = RateBounds.of(programme, duals, weights)
            if found.reaches(goal):
                return found
        if goal is not None and programme.bound(duals) < goal * (1.0 - EXACT):
            return RateBounds.of(programme, duals, np.zeros_like(weights))
        wrong = ~open_rows & ((gain > 0) != kept) & (np.abs(gain) > EXACT)
        if not (broken.any() or missed.any() or wrong.any()):
            return RateBounds.of(programme, duals, weights)
        price[broken] *= 4.0
        sides |= missed
        open_rows |= wrong
    return _direct(programme)


def _restricted(
    programme: Programme,
    open_rows: np.ndarray,
    kept: np.ndarray,
    sides: np.ndarray,
    price: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HiGHS on the open rows and the given sides, all other rows at 1 where kept, else at 0.

    A side may be broken at a price, where there is one. Returns the weights of all rows, signed
    multipliers of all constraints, and which sides are broken, (2, S).
    """
    which, column = np.nonzero(sides)
    share = programme.share[open_rows]
    sign, size = 1.0 - 2.0 * which, programme.size[column]
    moment = programme.z[open_rows][:, column] @ sparse.diags_array(sign / size)
    allowed = programme.mass[open_rows][:, column] @ sparse.diags_array(
        programme.eps[column] / size
    )
    matrix = (sparse.diags_array(share) @ (moment - allowed)).T
    worth, upper = share, np.ones(len(share))
    if price is not None:
        matrix = sparse.hstack([matrix, -sparse.eye_array(len(column))])
        worth = np.concatenate([share, -price[sides]])
        upper = np.concatenate([upper, np.full(len(column), np.inf)])
    # The mean row is worth 1: HiGHS's tolerance of a reduced cost is absolute.
    unit = programme.share.mean()
    for presolve in (True, False):  # whose rounding may call a tiny tolerance infeasible
        found = linprog(
            -worth / unit,
            A_ub=sparse.csr_array(matrix),
            b_ub=-programme.sides(kept.astype(float))[sides],
            bounds=np.column_stack([np.zeros(len(upper)), upper]),
            method="highs",
            options={
                "primal_feasibility_tolerance": EXACT,
                "dual_feasibility_tolerance": EXACT,
                "presolve": presolve,
            },
        )
        if found.success:
            break
    if not found.success:  # q = 0, or a broken side, always meets the constraints
        raise RuntimeError(f"HiGHS could not find the largest rate: {found.message}")
    weights = kept.astype(float)
    weights[open_rows] = np.clip(found.x[: len(share)], 0.0, 1.0)
    split = np.zeros(sides.shape)
    split[sides] = -found.ineqlin.marginals * unit
    broken = np.zeros(sides.shape, bool)
    if price is not None:
        broken[sides] = found.x[len(share) :] > EXACT
    return weights, (split[0] - split[1]) / programme.size, broken
