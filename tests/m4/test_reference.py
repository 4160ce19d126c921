"""The exact solver: its multipliers satisfy the optimality conditions, whatever solver is asked."""

import math
from collections.abc import Callable

import cvxpy
import numpy as np
import pytest

from m4.certificate import Certificate, repair_rate
from m4.errors import InputError
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.reference import NoSolution, solve_with_cvxpy

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
Certified = Callable[..., Certificate]


@pytest.fixture(params=["relative", "absolute"])
def tolerance(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("penalty", [None, 0.05, 5.0])
def test_multipliers_satisfy_the_optimality_conditions(
    penalty: float | None, tolerance: str, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(31, 80, masked=True, soft_s=True)
    problem = problem_for(
        examples, eta=0.5, eps_r=0.03, eps_d=0.05, tolerance=tolerance, penalty=penalty
    )
    moments = Moments.of(problem, examples)
    duals = solve_with_cvxpy(moments)
    v = duals.constraints
    # Stationarity: the rate is met by the solver's own mu, so q*(v, mu) is its solution.
    q = moments.weights(v, duals.rate)
    assert moments.share @ q == pytest.approx(0.5, abs=1e-7)
    assert duals.rate == pytest.approx(repair_rate(problem, v, examples), abs=1e-6)
    # Complementary slackness, at each side of each constraint.
    moment, mass = moments.expected(q)
    width = moments.eps * mass
    assert (np.abs(moment[np.abs(v) < 1e-6]) <= width[np.abs(v) < 1e-6] + 1e-7).all()
    pushing = np.abs(v) > 1e-5
    assert pushing.any()
    at_edge = np.sign(v) * moment - width
    limit = math.inf if penalty is None else penalty
    inside = pushing & (np.abs(v) < limit - 1e-5)
    np.testing.assert_allclose(at_edge[inside], 0.0, atol=1e-7)
    assert (np.abs(v) <= limit).all()
    # A violated constraint has a multiplier at the penalty.
    violated = moments.violation(q) > 1e-6
    assert violated.any() == (penalty == 0.05)
    np.testing.assert_allclose(np.abs(v[violated]), limit, rtol=1e-5)


@pytest.mark.parametrize("solver", ["CLARABEL", "osqp", "scs", "highs"])
def test_every_solver_finds_the_same_optimum(
    solver: str,
    tolerance: str,
    biased: MakeExamples,
    problem_for: MakeProblem,
    certified: Certified,
) -> None:
    if solver.upper() not in cvxpy.installed_solvers():
        pytest.skip(f"{solver} is not installed")
    examples = biased(32, 60)
    problem = problem_for(examples, eta=0.4, eps_r=0.05, eps_d=0.1, tolerance=tolerance)
    moments = Moments.of(problem, examples)
    exact = solve_with_cvxpy(moments).constraints
    duals = solve_with_cvxpy(moments, solver=solver).constraints
    np.testing.assert_allclose(duals, exact, atol=1e-4)
    certificate = certified(problem, examples, duals)
    assert abs(certificate.relative_gap) < 1e-5
    assert certificate.max_violation < 1e-6


def test_many_examples_and_few_patterns_keep_the_accuracy(
    biased: MakeExamples, problem_for: MakeProblem, certified: Certified
) -> None:
    """Counts over nine orders of magnitude: scaling by the counts keeps the problem solvable."""
    examples = biased(33, 400).distinct()[0]
    counts = 10.0 ** np.random.default_rng(0).integers(0, 10, len(examples.s))
    counted = Patterns(examples.s, examples.observed, examples.y, examples.utility, counts)
    problem = problem_for(counted, eta=0.5, eps_r=0.1, eps_d=0.2, penalty=1.0)
    duals = solve_with_cvxpy(Moments.of(problem, counted)).constraints
    certificate = certified(problem, counted, duals)
    assert certificate.primal > 1e-3
    assert abs(certificate.relative_gap) < 1e-6


def test_constraints_that_cannot_be_met_have_no_solution(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([1.0, 0, 0, 0], np.zeros((4, 1)))
    moments = Moments.of(problem_for(examples, eta=0.6, eps_r=0.0), examples)
    with pytest.raises(NoSolution, match="infeasible") as failure:
        solve_with_cvxpy(moments)
    assert failure.value.infeasible


def test_a_solver_that_is_not_there_is_named(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(34, 10)
    with pytest.raises(InputError, match="solver NONE is not installed; choose one of"):
        solve_with_cvxpy(Moments.of(problem_for(examples), examples), solver="none")


@pytest.mark.parametrize("solver", ["CLARABEL", "HIGHS"])
def test_no_multiplier_is_above_the_penalty(
    solver: str, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    """Not by a rounding either: the dual value would no longer be a bound."""
    for seed in range(4):
        examples = biased(seed, 60)
        moments = Moments.of(problem_for(examples, eta=0.6, penalty=0.05), examples)
        duals = solve_with_cvxpy(moments, solver=solver).constraints
        assert np.abs(duals).max() <= 0.05
        assert (np.abs(duals) > 0.05 * (1 - 1e-6)).any()
