"""The reference solver: the problem as cvxpy states it. The choice of solver is the user's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from m4.errors import InputError
from m4.moments import Moments

# Tighter than the defaults, so that the certificate's relative gap stays below 1e-6.
ACCURACY: dict[str, dict[str, Any]] = {
    "CLARABEL": {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12, "max_iter": 400},
    "OSQP": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iter": 200_000},
    "SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 200_000},
}


@dataclass(frozen=True, eq=False)
class Duals:
    """Signed multipliers v of the constraints, (J,), and mu of the rate."""

    constraints: np.ndarray
    rate: float


class NoSolution(Exception):
    """The solver ended without a solution; `infeasible` where it says that there is none."""

    def __init__(self, status: str):
        super().__init__(status)
        self.infeasible = "infeasible" in status


def solve_with_cvxpy(
    moments: Moments, *, solver: str | None = None, options: Mapping[str, Any] | None = None
) -> Duals:
    """Solve the primal problem over the rows of `moments` and return its dual variables.

    The objective is scaled by N and the rows by sqrt(N), with x = sqrt(n) q for rows of n examples:
    the Hessian is then the identity, and interior-point solvers need far fewer iterations than on
    the problem as written.

    Parameters
    ----------
    solver : CLARABEL where left out
    options : of the solver, instead of `ACCURACY`

    Raises `NoSolution` where the solver finds none, `InputError` for a solver that is not there.
    """
    import cvxpy as cp  # 0.8 s to import

    solver = (solver or "CLARABEL").upper()
    if solver not in cp.installed_solvers():
        raise InputError(
            f"solver {solver} is not installed; choose one of {', '.join(cp.installed_solvers())}"
        )
    rows, constraints = moments.z.shape
    root = np.sqrt(moments.share * rows)
    weigh = sparse.diags_array(root / math.sqrt(rows))
    moment = (weigh @ moments.z).T.tocsr()
    allowed = (weigh @ moments.allowed()).T.tocsr()

    x = cp.Variable(rows)
    objective = 0.5 * cp.sum_squares(x - root * moments.preferred)
    slack: Any = 0.0
    bounds = [x >= 0, x <= root * moments.cap]
    if not math.isinf(moments.penalty):
        slack = cp.Variable(constraints, nonneg=True)
        # Slacks are in units of sqrt(N) and the objective of N.
        if moments.slack == "l2":
            objective += 0.5 * moments.penalty * cp.sum_squares(slack)
        else:
            objective += math.sqrt(rows) * moments.penalty * cp.sum(slack)
    above = moment @ x - allowed @ x <= slack
    below = -(moment @ x) - allowed @ x <= slack
    rate = (root @ x) / math.sqrt(rows) == math.sqrt(rows) * moments.eta
    problem = cp.Problem(cp.Minimize(objective), [*bounds, above, below, rate])
    try:
        problem.solve(solver=solver, **(ACCURACY.get(solver, {}) if options is None else options))
    except cp.SolverError as error:
        raise NoSolution(str(error)) from None
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise NoSolution(problem.status)
    scale = math.sqrt(rows)
    signed = (np.asarray(above.dual_value) - np.asarray(below.dual_value)) / scale
    if moments.slack == "l1" and not math.isinf(moments.penalty):
        signed = np.clip(signed, -moments.penalty, moments.penalty)
    return Duals(signed, float(rate.dual_value) / scale)
