"""One solver on one problem, in a process of its own: the child of `benchmarks.peers`.

Prints an `Outcome` as JSON. Imports, drawing the data and a first solve of a tiny problem (which
loads compiled code) are not timed; building the problem for the solver is.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Literal

from benchmarks import generic
from benchmarks.counted import counted_patterns
from benchmarks.machine import Clock, limit_time, peak_memory
from benchmarks.web import Web
from m4.catalogue import Model
from m4.certificate import certify, repair_rate
from m4.moments import Moments
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.problem import Problem
from m4.reference import Duals, NoSolution, solve_with_cvxpy
from m4.solving import dual_of, solve
from m4.totals import measure, weights

Form = Literal["rows", "patterns"]
Solver = Callable[[Problem, Patterns, float], tuple[Duals, int | None]]

TOLERANCES = {
    "CLARABEL": ("tol_gap_abs", "tol_gap_rel", "tol_feas"),
    "PIQP": ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel"),
    "OSQP": ("eps_abs", "eps_rel"),
    "SCS": ("eps_abs", "eps_rel"),
}
ITERATIONS = {"CLARABEL": "max_iter", "PIQP": "max_iter", "OSQP": "max_iter", "SCS": "max_iters"}
TINY = 2_000  # rows of the solve that warms up


class Job(Model):
    """What a peer has to do.

    `rows` examples of a shape (values, labels), as they come or counted as distinct patterns first;
    `accuracy` is the solver's own tolerance, and has no effect on ours.
    """

    solver: str
    shape: tuple[int, int]
    rows: int
    form: Form
    accuracy: float
    limit: float


class Outcome(Model):
    """How long it took, and how good the multipliers are that came out.

    `problem` is a sentence where the solver gave none.
    """

    seconds: float = 0.0
    passes: int | None = None
    relative_gap: float = 1.0
    violation: float = 0.0
    memory: int = 0
    patterns: int = 0
    problem: str = ""


def _ours(problem: Problem, patterns: Patterns, accuracy: float) -> tuple[Duals, int | None]:
    """The multipliers alone, as the peers give them."""
    optimum = maximise(dual_of(problem, patterns))
    return Duals(optimum.point.duals, optimum.point.rate_dual), optimum.passes


def _joined(problem: Problem, patterns: Patterns, accuracy: float) -> tuple[Duals, int | None]:
    return _ours(problem, patterns.distinct()[0], accuracy)


def _ours_certified(
    problem: Problem, patterns: Patterns, accuracy: float
) -> tuple[Duals, int | None]:
    """`m4.solving.solve`, with weights of all rows, bias tables, certificate and policy."""
    solution = solve(problem, patterns)
    policy = solution.policy
    return Duals(policy.dual_vector(), policy.rate_dual), solution.passes


def _options(solver: str, accuracy: float) -> dict[str, float | int]:
    """A solver's own tolerances; iterations are limited by time alone."""
    if solver == "HIGHS":
        least = max(accuracy, 1e-10)  # it takes none below
        return {"primal_feasibility_tolerance": least, "dual_feasibility_tolerance": least}
    return dict.fromkeys(TOLERANCES[solver], accuracy) | {ITERATIONS[solver]: 1_000_000}


def _through_cvxpy(solver: str) -> Solver:
    def work(problem: Problem, patterns: Patterns, accuracy: float) -> tuple[Duals, None]:
        moments, options = Moments.of(problem, patterns), _options(solver, accuracy)
        return solve_with_cvxpy(moments, solver=solver, options=options), None

    return work


OURS = ("m4", "m4 with certificate")
THROUGH_CVXPY = ("CLARABEL", "PIQP", "OSQP", "SCS", "HIGHS")
GENERIC = ("L-BFGS-B on the dual", "trust-constr on the primal", "SLSQP on the primal")

SOLVERS: dict[str, Solver] = {
    **dict(zip(OURS, (_ours, _ours_certified), strict=True)),
    **{name: _through_cvxpy(name) for name in THROUGH_CVXPY},
    **dict(zip(GENERIC, (generic.lbfgsb, generic.trust_constr, generic.slsqp), strict=True)),
}


def run(job: Job) -> Outcome:
    """Do a job in this process. The time limit ends the process, by SIGALRM."""
    web = Web.shaped(job.shape)
    problem = web.usual_problem()
    joined = counted_patterns(web, job.rows)
    given = joined if job.form == "patterns" else web.patterns(0, job.rows)
    # Joining equal rows is the first thing that we do with rows, so it is timed.
    solver = _joined if (job.solver, job.form) == ("m4", "rows") else SOLVERS[job.solver]
    _warm_up(solver)
    limit_time(job.limit)
    clock = Clock()
    try:
        duals, passes = solver(problem, given, job.accuracy)
    except (NoSolution, MemoryError) as failure:
        said = str(failure) or type(failure).__name__
        return Outcome(seconds=clock.lap(), patterns=len(given.counts), problem=said)
    finally:
        limit_time(0)
    seconds = clock.lap()
    memory = peak_memory()
    # Certified on the counted patterns in both forms: the same weights, the same totals.
    rate_dual = repair_rate(problem, duals.constraints, joined)
    chosen = weights(problem, duals.constraints, rate_dual, joined)
    totals = measure(problem, joined, chosen)
    certificate = certify(problem, duals.constraints, rate_dual, totals)
    return Outcome(
        seconds=seconds,
        passes=passes,
        relative_gap=certificate.relative_gap,
        violation=certificate.max_violation,
        memory=memory,
        patterns=len(given.counts),
    )


def _warm_up(solver: Solver) -> None:
    web = Web.of(2, 3, mean_labels=1.0)
    with contextlib.suppress(NoSolution):
        solver(web.problem(), web.patterns(0, TINY).distinct()[0], 1e-3)


if __name__ == "__main__":
    print(run(Job.model_validate_json(sys.argv[1])).model_dump_json())
