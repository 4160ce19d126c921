"""The certificate: bounds that hold for any multipliers, and that show what is not optimal."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from m4.certificate import Certificate, exact_price, rate_multiplier, repair_rate
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.reference import solve_with_cvxpy
from m4.totals import weights as weights_of

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
Certified = Callable[..., Certificate]

CONSTRAINTS = 8  # two values, each overall and with three labels
PENALTY = 2.0

multipliers = arrays(float, CONSTRAINTS, elements=st.floats(-PENALTY, PENALTY))
any_mu = st.floats(-10, 10)


@dataclass(frozen=True)
class Solved:
    """A problem on some data, its optimal value and the multipliers that reach it."""

    problem: Problem
    examples: Patterns
    moments: Moments
    duals: np.ndarray
    optimum: float


@pytest.fixture(scope="module", params=["l1 relative", "l1 absolute", "l2 relative"])
def soft(
    request: pytest.FixtureRequest,
    biased: MakeExamples,
    problem_for: MakeProblem,
    certified: Certified,
) -> Solved:
    """A problem with a finite penalty."""
    slack, tolerance = request.param.split()
    examples = biased(21, 60, masked=True, utilities=True)
    asked = {"eta": 0.6, "eps_r": 0.01, "eps_d": 0.02, "penalty": PENALTY}
    problem = problem_for(examples, tolerance=tolerance, slack=slack, **asked)
    return _solved(problem, examples, certified)


@pytest.fixture(scope="module")
def hard(biased: MakeExamples, problem_for: MakeProblem, certified: Certified) -> Solved:
    """A problem with hard constraints."""
    examples = biased(22, 60)
    problem = problem_for(examples, eta=0.5, eps_r=0.05, eps_d=0.1)
    return _solved(problem, examples, certified)


def _solved(problem: Problem, examples: Patterns, certified: Certified) -> Solved:
    moments = Moments.of(problem, examples)
    duals = solve_with_cvxpy(moments).constraints
    certificate = certified(problem, examples, duals)
    assert certificate.primal > 1e-3
    assert abs(certificate.relative_gap) < 1e-6
    return Solved(problem, examples, moments, duals, certificate.primal)


def _lower_bound(case: Solved, duals: np.ndarray, mu: float) -> float:
    """The dual function row by row, less what squared slacks take from it."""
    conjugate = duals @ duals / (2 * PENALTY) if case.problem.slack == "l2" else 0.0
    return case.moments.dual_value(duals, mu) - float(conjugate)


@settings(max_examples=100, deadline=None)
@given(duals=multipliers, mu=any_mu)
def test_the_dual_value_is_a_lower_bound(
    duals: np.ndarray, mu: float, soft: Solved, hard: Solved, certified: Certified
) -> None:
    for case in (soft, hard):
        certificate = certified(case.problem, case.examples, duals, mu)
        assert certificate.dual <= case.optimum + 1e-8
        assert certificate.dual == pytest.approx(_lower_bound(case, duals, mu), abs=1e-11)
    # Without a penalty the multipliers have no limit.
    assert certified(hard.problem, hard.examples, 1e3 * duals, mu).dual <= hard.optimum + 1e-8


@settings(max_examples=100, deadline=None)
@given(duals=multipliers)
def test_the_certificate_brackets_the_optimum(
    duals: np.ndarray, soft: Solved, certified: Certified
) -> None:
    certificate = certified(soft.problem, soft.examples, duals)
    assert certificate.dual <= soft.optimum + 1e-8
    assert certificate.primal >= soft.optimum - 1e-8
    assert certificate.gap >= -1e-12
    assert certificate.gap == pytest.approx(certificate.primal - certificate.dual, abs=1e-12)
    assert certificate.price == PENALTY


@settings(max_examples=100, deadline=None)
@given(duals=multipliers, size=st.sampled_from([1e-9, 0.1, 1.0, 100.0]))
def test_a_violation_of_hard_constraints_shows_in_the_gap(
    duals: np.ndarray, size: float, hard: Solved, certified: Certified
) -> None:
    """The price is twice the largest multiplier: half of it is never paid back by the dual."""
    scaled = size * duals
    certificate = certified(hard.problem, hard.examples, scaled)
    assert certificate.price == exact_price(scaled) == max(1.0, 2 * np.abs(scaled).max())
    rounding = 1e-12 * max(1.0, certificate.price)
    assert certificate.gap >= 0.5 * certificate.price * certificate.max_violation - rounding
    assert certificate.dual <= hard.optimum + 1e-8
    if certificate.price >= np.abs(hard.duals).max():  # then an exact penalty
        assert certificate.primal >= hard.optimum - 1e-8


def test_multipliers_too_small_for_hard_constraints_leave_a_gap(
    hard: Solved, certified: Certified
) -> None:
    for part in (0.0, 0.5, 0.99):
        certificate = certified(hard.problem, hard.examples, part * hard.duals)
        assert certificate.max_violation > 1e-5
        assert certificate.gap > 0.5 * certificate.max_violation
        assert certificate.relative_gap > 1e-4


@settings(max_examples=100, deadline=None)
@given(weights=arrays(float, 60, elements=st.floats(0, 1)), duals=multipliers, mu=any_mu)
def test_no_feasible_weights_are_below_the_dual_value(
    weights: np.ndarray, duals: np.ndarray, mu: float, soft: Solved, certified: Certified
) -> None:
    """Weak duality against weights that no solver made, their violations paid for."""
    moments, eta = soft.moments, soft.problem.eta
    rate = float(moments.share @ weights)
    # Towards 0 or 1, whichever the rate asks for: a convex combination stays within the bounds.
    end = 0.0 if rate > eta else 1.0
    part = (eta - rate) / (end - rate) if rate != eta else 0.0
    kept = (1 - part) * weights + part * end
    assert moments.share @ kept == pytest.approx(eta, abs=1e-12)
    violation = moments.violation(kept)
    squares = soft.problem.slack == "l2"
    cost = 0.5 * violation @ violation if squares else violation.sum()
    paid = moments.objective(kept) + PENALTY * cost
    assert paid >= soft.optimum - 1e-8
    assert paid >= certified(soft.problem, soft.examples, duals, mu).dual - 1e-9


@settings(max_examples=100, deadline=None)
@given(duals=multipliers, size=st.sampled_from([0.0, 1e-9, 1.0, 1e3, 1e6]))
def test_the_repaired_rate_is_exact(
    duals: np.ndarray, size: float, soft: Solved, certified: Certified
) -> None:
    scaled = size * duals
    mu = repair_rate(soft.problem, scaled, soft.examples)
    kept = weights_of(soft.problem, scaled, mu, soft.examples)
    rate = float(soft.examples.share @ kept)
    assert rate == pytest.approx(soft.problem.eta, abs=1e-14 * max(1.0, size))
    told = certified(soft.problem, soft.examples, scaled, mu).rate_error
    assert told == pytest.approx(abs(rate - soft.problem.eta), abs=1e-15)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), rows=st.integers(1, 12), cap=st.floats(0.1, 5.0))
def test_a_rate_multiplier_exists_for_any_levels(
    data: st.DataObject, rows: int, cap: float
) -> None:
    """Levels that are all alike, far apart or huge, and shares over many orders of magnitude."""
    size = data.draw(st.sampled_from([1e-8, 1.0, 1e4]))
    level = data.draw(arrays(float, rows, elements=st.floats(-1, 1))) * size
    share = 10.0 ** data.draw(arrays(float, rows, elements=st.integers(-9, 0).map(float)))
    share /= share.sum()
    eta = data.draw(st.floats(0.001, 1.0)) * cap
    mu = rate_multiplier(level, share, eta, cap)
    rounding = 4e-16 * max(1.0, size, cap) * 4
    assert share @ np.clip(level - mu, 0.0, cap) == pytest.approx(eta, abs=rounding)


def test_the_repaired_rate_is_the_best_one(soft: Solved, certified: Certified) -> None:
    """dg/dmu = E[q] - eta is zero there, and g is concave."""
    duals = np.linspace(-1, 1, CONSTRAINTS)
    mu = repair_rate(soft.problem, duals, soft.examples)
    best = certified(soft.problem, soft.examples, duals, mu).dual
    for off in (-0.1, -0.01, 0.01, 0.1):
        assert certified(soft.problem, soft.examples, duals, mu + off).dual < best


@pytest.mark.parametrize("cap", [0.5, 1.0, 2.0])
def test_a_rate_at_the_cap_puts_every_weight_there(
    cap: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(23, 30)
    problem = problem_for(examples, eta=cap, cap=cap, penalty=1.0)
    duals = np.random.default_rng(0).normal(size=CONSTRAINTS)
    kept = weights_of(problem, duals, repair_rate(problem, duals, examples), examples)
    np.testing.assert_allclose(kept, cap, rtol=1e-12)


@pytest.mark.parametrize("size", [0.03, 0.3])
def test_a_perturbed_dual_has_a_visible_gap(
    size: float, soft: Solved, hard: Solved, certified: Certified
) -> None:
    for case in (soft, hard):
        assert abs(certified(case.problem, case.examples, case.duals).gap) < 1e-8
        generator = np.random.default_rng(5)
        for _ in range(10):
            away = size * generator.choice([-1, 1], CONSTRAINTS)
            moved = np.clip(case.duals + away, -PENALTY, PENALTY)
            certificate = certified(case.problem, case.examples, moved)
            assert certificate.gap > 1e-4
            assert certificate.relative_gap > 1e-3
            assert certificate.dual < case.optimum


def test_a_wrong_rate_is_told(soft: Solved, certified: Certified) -> None:
    duals = np.zeros(CONSTRAINTS)
    mu = repair_rate(soft.problem, duals, soft.examples)
    assert certified(soft.problem, soft.examples, duals, mu + 0.05).rate_error > 0.01


def test_the_numbers_are_those_of_the_weights(
    soft: Solved, hard: Solved, certified: Certified
) -> None:
    duals = np.linspace(-0.6, 0.7, CONSTRAINTS)
    for case in (soft, hard):
        moments = case.moments
        mu = repair_rate(case.problem, duals, case.examples)
        q = moments.weights(duals, mu)
        violation = moments.violation(q)
        price = 1.4 if math.isinf(moments.penalty) else PENALTY
        certificate = certified(case.problem, case.examples, duals, mu)
        assert certificate.max_violation == pytest.approx(violation.max(), abs=1e-15)
        assert certificate.max_violation > 1e-3
        assert certificate.price == price
        squares = case.problem.slack == "l2"
        cost = 0.5 * price * violation @ violation if squares else price * violation.sum()
        value = 0.5 * moments.share @ (moments.preferred - q) ** 2 + cost
        assert certificate.primal == pytest.approx(value, abs=1e-14)
        assert certificate.dual == pytest.approx(_lower_bound(case, duals, mu), abs=1e-14)


def test_the_relative_gap_of_next_to_nothing_is_not_inflated() -> None:
    numbers: dict[str, Any] = {"dual": 0.0, "max_violation": 0.0, "price": 0.0, "rate_error": 0.0}
    assert Certificate(primal=2.0, gap=0.5, **numbers).relative_gap == 0.25
    assert Certificate(primal=1e-15, gap=1e-15, **numbers).relative_gap == pytest.approx(1e-9)
    with pytest.raises(ValidationError):
        Certificate(primal=2.0, gap=0.5, proof=True, **numbers)  # type: ignore[call-arg]
