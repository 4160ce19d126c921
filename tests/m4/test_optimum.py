"""The fast path finds what a general solver finds, wherever it starts and however data is kept."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import m4.newton
from m4.buckets import Buckets
from m4.certificate import Certificate, repair_rate
from m4.dual import Dual
from m4.feasibility import largest_rate
from m4.moments import Moments
from m4.optimum import Optimum, maximise
from m4.patterns import Patterns
from m4.problem import Problem
from m4.reference import NoSolution, solve_with_cvxpy
from m4.solving import solve
from m4.sparse_dual import SparseDual
from m4.table_dual import TableDual
from m4.totals import weights

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
Certified = Callable[..., Certificate]

seeds = st.integers(0, 2**32 - 1)


def duals_of(problem: Problem, examples: Patterns) -> list[Dual]:
    moments = Moments.of(problem, examples)
    return [TableDual(problem, Buckets.of(examples)), SparseDual(problem, moments)]


def by_cvxpy(
    problem: Problem, examples: Patterns, certified: Certified
) -> tuple[np.ndarray, Certificate] | None:
    """Its multipliers and their certificate; None where it finds none."""
    try:
        duals = solve_with_cvxpy(Moments.of(problem, examples)).constraints
    except NoSolution:
        return None
    return duals, certified(problem, examples, duals)


def kept(problem: Problem, duals: np.ndarray, examples: Patterns) -> np.ndarray:
    return weights(problem, duals, repair_rate(problem, duals, examples), examples)


def assert_optimal(
    problem: Problem,
    examples: Patterns,
    optimum: Optimum,
    exact: tuple[np.ndarray, Certificate],
    certified: Certified,
) -> None:
    """The same value; weights as near as strong convexity says, 1/2 E[(q - q*)^2] <= gap."""
    duals, wanted = exact
    got = certified(problem, examples, optimum.point.duals)
    size = max(1e-3, wanted.primal)
    assert abs(got.gap) <= 1e-7 * size
    assert got.rate_error < 1e-12 * max(1.0, problem.cap)
    if problem.slack == "l1":
        assert np.abs(optimum.point.duals).max(initial=0.0) <= problem.price
    # A general solver that ended early can only be worse.
    assert got.dual >= wanted.dual - 1e-7 * size
    if wanted.gap > 1e-7 * size:
        return
    assert got.dual == pytest.approx(wanted.dual, abs=1e-7 * size)
    away = kept(problem, optimum.point.duals, examples) - kept(problem, duals, examples)
    assert 0.5 * examples.share @ away**2 <= max(got.gap, 0.0) + max(wanted.gap, 0.0) + 1e-12


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=seeds)
def test_it_agrees_with_a_general_solver(
    seed: int, drawn: Callable[..., Any], certified: Certified
) -> None:
    case = drawn(seed)
    problem, examples = case.problem, case.examples.distinct()[0]
    rate = np.inf if problem.penalty else largest_rate(Moments.of(problem, examples)).rate
    assume(abs(problem.eta - rate) > 1e-5 * problem.eta)  # at the edge, rounding decides
    exact = by_cvxpy(problem, examples, certified)
    for dual in duals_of(problem, examples):
        optimum = maximise(dual)
        assert np.isfinite([optimum.point.value, *optimum.point.duals]).all()
        if problem.eta > rate:
            assert optimum.infeasible
            assert exact is None
            assert dual.dual_value(optimum.point) > dual.largest_primal
            continue
        assert not optimum.infeasible
        if exact is not None:
            assert_optimal(problem, examples, optimum, exact, certified)
        else:  # the general solver failed on a problem that has a solution
            got = certified(problem, examples, optimum.point.duals)
            assert abs(got.gap) <= 1e-7 * max(1e-3, got.primal)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, below=st.sampled_from([1e-3, 1e-6]))
def test_rates_that_are_barely_feasible(
    seed: int, below: float, drawn: Callable[..., Any], certified: Certified
) -> None:
    case = drawn(seed, penalty=None, slack="l1")
    examples = case.examples.distinct()[0]
    rate = largest_rate(Moments.of(case.problem, examples)).rate
    assume(rate > 1e-3)
    eta = rate * (1 - below)
    problem = case.problem.model_copy(update={"eta": eta})
    optimum = maximise(duals_of(problem, examples)[0])
    assert not optimum.infeasible
    got = certified(problem, examples, optimum.point.duals)
    assert got.relative_gap < 1e-6
    assert got.max_violation < 1e-6 * max(1.0, got.primal)


def test_collinear_constraints_are_no_obstacle(
    problem_for: MakeProblem, certified: Certified
) -> None:
    """Exclusive values sum to one: with targets that do, each is minus the sum of the others."""
    generator = np.random.default_rng(11)
    for values in (2, 3, 5):
        s = np.eye(values)[
            generator.choice(values, 400, p=np.arange(1, values + 1) / sum(range(1, values + 1)))
        ]
        y = generator.random((400, 3)) < 0.2 + 0.3 * s[:, :1]
        examples = Patterns.from_arrays(s, y).distinct()[0]
        for eps in (0.0, 0.02):
            problem = problem_for(
                examples,
                targets=(1 / values,) * values,
                eta=0.3,
                eps_r=eps,
                eps_d=eps,
                penalty=100.0,
            )
            exact = by_cvxpy(problem, examples, certified)
            assert exact is not None
            assert exact[1].primal > 1e-4
            for dual in duals_of(problem, examples):
                optimum = maximise(dual)
                assert optimum.passes < 100
                assert_optimal(problem, examples, optimum, exact, certified)


def test_utilities_that_balance_by_themselves_still_have_to_meet_the_rate(
    problem_for: MakeProblem, certified: Certified
) -> None:
    """eta u meets every constraint, but E[eta u] is not eta: multipliers of zero are not it."""
    examples = Patterns.from_arrays(
        [1.0, 1, 1, 0], np.zeros((4, 0)), utility=[1 / 3, 1 / 3, 1 / 3, 1]
    )
    problem = problem_for(examples, eta=0.45, eps_r=0.0)
    for dual in duals_of(problem, examples):
        start = dual.evaluate(np.zeros(1), 0.0)
        assert start.violation.max() < 1e-15
        assert start.rate_error == pytest.approx(-0.225)
        assert start.gap > 0.2
        optimum = maximise(dual)
        got = certified(problem, examples, optimum.point.duals)
        assert got.gap < 1e-12
        assert got.max_violation < 1e-12
        assert got.primal == pytest.approx(0.03375)
    np.testing.assert_allclose(solve(problem, examples).weights, [0.3, 0.3, 0.3, 0.9])


def test_nothing_in_play_but_the_rate(problem_for: MakeProblem) -> None:
    """Balanced data with utilities, from a start that has no multiplier."""
    examples = Patterns.from_arrays([1.0, 0, 1, 0], np.zeros((4, 0)), utility=[0.5, 0.5, 1, 1])
    problem = problem_for(examples, eta=0.6, eps_r=0.1)
    for dual in duals_of(problem, examples):
        optimum = maximise(dual, start=(np.zeros(1), -0.125))
        assert optimum.point.duals.tolist() == [0.0]
        assert optimum.point.rate_dual == pytest.approx(-0.15)
        assert abs(optimum.point.rate_error) < 1e-15


@pytest.fixture
def examples(biased: MakeExamples) -> Patterns:
    return biased(96, 2000, values=3, labels=6).distinct()[0]


def test_a_start_from_a_similar_problem_needs_fewer_passes(
    examples: Patterns, problem_for: MakeProblem
) -> None:
    problem = problem_for(examples, eta=0.6, penalty=20.0)
    cold = maximise(duals_of(problem, examples)[0])
    found = (cold.point.duals, cold.point.rate_dual)
    again = maximise(duals_of(problem, examples)[0], start=found)
    assert again.passes <= 3
    similar = problem.model_copy(update={"eta": 0.61})
    from_zero = maximise(duals_of(similar, examples)[0])
    warm = maximise(duals_of(similar, examples)[0], start=found)
    assert warm.passes < from_zero.passes
    assert warm.point.value == pytest.approx(from_zero.point.value, abs=1e-12)
    np.testing.assert_allclose(warm.point.duals, from_zero.point.duals, atol=1e-6)


@pytest.mark.parametrize("slack", ["l1", "l2"])
def test_a_start_outside_the_penalty_is_clipped(
    slack: str, examples: Patterns, problem_for: MakeProblem
) -> None:
    problem = problem_for(examples, eta=0.6, penalty=0.05, slack=slack)
    dual = duals_of(problem, examples)[0]
    wanted = maximise(dual).point
    far = np.where(np.arange(dual.size) % 2, 1e4, -1e4)
    first = maximise(dual, start=(far, 3.0), accuracy=np.inf).point  # where it starts
    np.testing.assert_array_equal(first.duals, np.clip(far, -dual.bound, dual.bound))
    point = maximise(dual, start=(far, 3.0)).point
    assert point.value == pytest.approx(wanted.value, abs=1e-11)
    np.testing.assert_allclose(point.duals, wanted.duals, atol=1e-6)
    if slack == "l1":
        assert np.abs(point.duals).max() == 0.05


@pytest.mark.parametrize("asked", [{"penalty": 5.0}, {"penalty": 5.0, "slack": "l2"}, {}])
def test_without_a_hessian_quasi_newton_steps_do(
    asked: dict[str, Any],
    examples: Patterns,
    problem_for: MakeProblem,
    certified: Certified,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problem_for(examples, eta=0.3, eps_r=0.02, eps_d=0.05, **asked)
    wanted = maximise(duals_of(problem, examples)[0]).point
    monkeypatch.setattr(m4.newton, "LARGEST_HESSIAN", 0)
    for dual in duals_of(problem, examples):
        optimum = maximise(dual)
        assert optimum.passes < 1000
        assert optimum.point.value == pytest.approx(wanted.value, abs=1e-8)
        assert certified(problem, examples, optimum.point.duals).relative_gap < 1e-6


def test_data_that_is_balanced_already_is_left_alone(problem_for: MakeProblem) -> None:
    """No passes are spent on rounding errors of nothing."""
    s, y = np.tile([1.0, 0.0], 20), np.repeat([1.0, 0.0], 20)
    for rows, eta in ((40, 0.8), (40, 0.9), (1, 0.9), (3, 0.1)):
        balanced = Patterns.from_arrays(s[:rows], y[:rows]) if rows == 40 else None
        examples = balanced or Patterns.from_arrays(np.full(rows, 0.5), np.ones(rows))
        for eps in (0.0, 0.1):
            problem = problem_for(examples, eta=eta, eps_r=eps, eps_d=eps)
            for dual in duals_of(problem, examples.distinct()[0]):
                optimum = maximise(dual)
                assert optimum.passes < 10
                assert not optimum.infeasible
                assert np.abs(optimum.point.duals).max() < 1e-12


@pytest.mark.parametrize("settings", [{"penalty": 1000.0}, {"penalty": 3.0, "slack": "l2"}])
@pytest.mark.parametrize("cap", [0.5, 20.0])
def test_a_rate_at_the_cap_is_priced_in_two_passes(
    settings: dict[str, Any], cap: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(1, 40, 3, 2, utilities=True).distinct()[0]
    problem = problem_for(examples, eta=cap, cap=cap, **settings)
    for dual in duals_of(problem, examples):
        optimum = maximise(dual)
        assert optimum.passes == 2
        assert optimum.point.relative_gap < 1e-12
        assert optimum.point.violation.max() >= 0.0
    hard = problem_for(examples, eta=cap, cap=cap)
    assert all(maximise(dual).infeasible for dual in duals_of(hard, examples))
