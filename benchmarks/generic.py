"""What one would write with scipy alone: its optimisers on the dual, and on the primal.

The dual has a variable for each side of a constraint, so that it is smooth within bounds; passes
are products with a sparse matrix. The primal is in the scaling of `m4.reference`. Hard constraints
only.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, minimize

from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.reference import Duals, NoSolution

ENDLESS = 10_000_000


def lbfgsb(problem: Problem, patterns: Patterns, accuracy: float) -> tuple[Duals, int]:
    """L-BFGS-B on the dual function; `accuracy` bounds the projected gradient."""
    moments = Moments.of(problem, patterns)
    allowed = moments.allowed()
    sides = sparse.csr_array(sparse.hstack([moments.z - allowed, -moments.z - allowed]))
    backward = sparse.csr_array(sides.T)

    def negative_dual(point: np.ndarray) -> tuple[float, np.ndarray]:
        level = moments.preferred - sides @ point[:-1] - point[-1]
        chosen = np.clip(level, 0.0, moments.cap)
        weighted = moments.share * chosen
        value = weighted @ (level - 0.5 * chosen) + point[-1] * moments.eta
        return value, np.append(-(backward @ weighted), moments.eta - weighted.sum())

    size = sides.shape[1]
    found = minimize(
        negative_dual,
        np.zeros(size + 1),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(np.append(np.zeros(size), -np.inf), np.full(size + 1, np.inf)),
        options={
            "gtol": accuracy,
            "ftol": 0.0,
            "maxcor": 30,  # with 10 it stops short of a relative gap of 1e-6
            "maxiter": ENDLESS,
            "maxfun": ENDLESS,
        },
    )
    above, below = found.x[:-1].reshape(2, -1)
    return Duals(above - below, float(found.x[-1])), found.nfev


@dataclass(frozen=True, eq=False)
class Primal:
    """min 1/2 |x - wish|^2 over 0 <= x <= upper with sides @ x <= 0 and rate @ x = goal.

    For x = sqrt(n) q of rows of n examples; the objective is in units of N, rows of sqrt(N).
    """

    wish: np.ndarray
    upper: np.ndarray
    sides: sparse.csr_array
    rate: np.ndarray
    goal: float
    scale: float

    @classmethod
    def of(cls, problem: Problem, patterns: Patterns) -> "Primal":
        moments = Moments.of(problem, patterns)
        rows = len(moments.share)
        root, scale = np.sqrt(moments.share * rows), math.sqrt(rows)
        weigh = sparse.diags_array(root / scale)
        z, allowed = weigh @ moments.z, weigh @ moments.allowed()
        return cls(
            root * moments.preferred,
            root * moments.cap,
            sparse.csr_array(sparse.vstack([(z - allowed).T, (-z - allowed).T])),
            root / scale,
            scale * moments.eta,
            scale,
        )

    def objective(self, x: np.ndarray) -> float:
        return float(0.5 * (x - self.wish) @ (x - self.wish))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return x - self.wish

    def bounds(self) -> Bounds:
        return Bounds(np.zeros(len(self.wish)), self.upper)

    def duals(self, sides: np.ndarray, rate: float) -> Duals:
        """Multipliers of `sides @ x <= 0` and of the rate, in the units of the problem."""
        above, below = sides.reshape(2, -1) / self.scale
        return Duals(above - below, rate / self.scale)


def slsqp(problem: Problem, patterns: Patterns, accuracy: float) -> tuple[Duals, None]:
    """SLSQP, with dense constraints, as it wants them; `accuracy` is its ftol."""
    primal = Primal.of(problem, patterns)
    dense, row = primal.sides.toarray(), primal.rate[None, :]
    found = minimize(
        primal.objective,
        np.minimum(primal.wish, primal.upper),
        jac=primal.gradient,
        method="SLSQP",
        bounds=primal.bounds(),
        constraints=[
            {"type": "eq", "fun": lambda x: primal.rate @ x - primal.goal, "jac": lambda x: row},
            {"type": "ineq", "fun": lambda x: -(dense @ x), "jac": lambda x: -dense},
        ],
        options={"ftol": accuracy, "maxiter": ENDLESS},
    )
    if not found.success:
        raise NoSolution(found.message)
    # Its Lagrangian is f - multiplier * constraint.
    return primal.duals(found.multipliers[1:], -float(found.multipliers[0])), None


def trust_constr(problem: Problem, patterns: Patterns, accuracy: float) -> tuple[Duals, None]:
    """The trust-region interior-point method; `accuracy` is its gtol, xtol and barrier_tol."""
    primal = Primal.of(problem, patterns)
    identity = sparse.eye_array(len(primal.wish), format="csr")
    found = minimize(
        primal.objective,
        np.minimum(primal.wish, primal.upper),
        jac=primal.gradient,
        hess=lambda x: identity,
        method="trust-constr",
        bounds=primal.bounds(),
        constraints=[
            LinearConstraint(sparse.csr_array(primal.rate[None, :]), primal.goal, primal.goal),
            LinearConstraint(primal.sides, -np.inf, 0.0),
        ],
        options={
            "gtol": accuracy,
            "xtol": accuracy,
            "barrier_tol": accuracy,
            "maxiter": ENDLESS,
            "sparse_jacobian": True,
        },
    )
    if not found.success:
        raise NoSolution(found.message)
    return primal.duals(found.v[1], float(found.v[0][0])), None
