"""The certificate: bounds that hold for any multipliers, and that show what is not optimal."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from m4.certificate import Certificate, certify, repair_rate
from m4.patterns import Patterns
from m4.problem import Moments, Problem
from m4.reference import solve_with_cvxpy

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]

CONSTRAINTS = 8  # two values, each overall and with three labels
PENALTY = 2.0

multipliers = arrays(float, CONSTRAINTS, elements=st.floats(-PENALTY, PENALTY))
any_mu = st.floats(-10, 10)


@pytest.fixture(scope="module", params=["relative", "absolute"])
def soft(
    request: pytest.FixtureRequest, biased: MakeExamples, problem_for: MakeProblem
) -> tuple[Moments, float]:
    """A problem with a finite penalty and its optimal value."""
    examples = biased(21, 60, masked=True, utilities=True)
    return _with_optimum(
        examples,
        problem_for(
            examples, eta=0.6, eps_r=0.01, eps_d=0.02, penalty=PENALTY, tolerance=request.param
        ),
    )


@pytest.fixture(scope="module")
def hard(biased: MakeExamples, problem_for: MakeProblem) -> tuple[Moments, float]:
    """A problem with hard constraints and its optimal value."""
    examples = biased(22, 60)
    return _with_optimum(examples, problem_for(examples, eta=0.5, eps_r=0.05, eps_d=0.1))


def _with_optimum(examples: Patterns, problem: Problem) -> tuple[Moments, float]:
    moments = Moments.of(problem, examples)
    duals = solve_with_cvxpy(moments).constraints
    certificate = certify(moments, duals, repair_rate(moments, duals))
    assert certificate.primal > 1e-3
    assert abs(certificate.relative_gap) < 1e-6
    return moments, certificate.primal


@settings(max_examples=100, deadline=None)
@given(duals=multipliers, mu=any_mu)
def test_the_dual_value_is_a_lower_bound(
    duals: np.ndarray, mu: float, soft: tuple[Moments, float], hard: tuple[Moments, float]
) -> None:
    for moments, optimum in (soft, hard):
        assert moments.dual_value(duals, mu) <= optimum + 1e-8
    moments, optimum = hard  # without a penalty the multipliers have no limit
    assert moments.dual_value(1e3 * duals, mu) <= optimum + 1e-8


@settings(max_examples=100, deadline=None)
@given(duals=multipliers)
def test_the_certificate_brackets_the_optimum(
    duals: np.ndarray, soft: tuple[Moments, float]
) -> None:
    moments, optimum = soft
    certificate = certify(moments, duals, repair_rate(moments, duals))
    assert certificate.dual <= optimum + 1e-8
    assert certificate.primal >= optimum - 1e-8
    assert certificate.gap >= -1e-12
    assert certificate.gap == certificate.primal - certificate.dual
    assert certificate.price == PENALTY


@settings(max_examples=100, deadline=None)
@given(duals=multipliers)
def test_hard_constraints_are_bracketed_or_seen_to_be_violated(
    duals: np.ndarray, hard: tuple[Moments, float]
) -> None:
    moments, optimum = hard
    certificate = certify(moments, duals, repair_rate(moments, duals))
    assert certificate.gap >= -1e-12
    assert certificate.dual <= optimum + 1e-8
    assert certificate.price == np.abs(duals).max()
    # Multipliers too small leave no gap, but then constraints are seen to be violated.
    assert certificate.primal >= optimum - 1e-8 or certificate.max_violation > 1e-6


@settings(max_examples=100, deadline=None)
@given(weights=arrays(float, 60, elements=st.floats(0, 1)), duals=multipliers, mu=any_mu)
def test_no_feasible_weights_are_below_the_dual_value(
    weights: np.ndarray, duals: np.ndarray, mu: float, soft: tuple[Moments, float]
) -> None:
    """Weak duality against weights that no solver made, their violations paid for."""
    moments, optimum = soft
    rate = float(moments.share @ weights)
    # Towards 0 or 1, whichever the rate asks for: a convex combination stays within the bounds.
    end = 0.0 if rate > moments.eta else 1.0
    part = (moments.eta - rate) / (end - rate) if rate != moments.eta else 0.0
    kept = (1 - part) * weights + part * end
    assert moments.share @ kept == pytest.approx(moments.eta, abs=1e-12)
    paid = moments.objective(kept) + PENALTY * moments.violation(kept).sum()
    assert paid >= optimum - 1e-8
    assert paid >= moments.dual_value(duals, mu) - 1e-9


@settings(max_examples=100, deadline=None)
@given(duals=multipliers, size=st.sampled_from([0.0, 1e-9, 1.0, 1e3, 1e6]))
def test_the_repaired_rate_is_exact(
    duals: np.ndarray, size: float, soft: tuple[Moments, float]
) -> None:
    moments, _ = soft
    mu = repair_rate(moments, size * duals)
    rate = float(moments.share @ moments.weights(size * duals, mu))
    assert rate == pytest.approx(moments.eta, abs=1e-14 * max(1.0, size))
    assert certify(moments, size * duals, mu).rate_error == abs(rate - moments.eta)


def test_the_repaired_rate_is_the_best_one(soft: tuple[Moments, float]) -> None:
    """dg/dmu = E[q] - eta is zero there, and g is concave."""
    moments, _ = soft
    duals = np.linspace(-1, 1, CONSTRAINTS)
    mu = repair_rate(moments, duals)
    best = moments.dual_value(duals, mu)
    assert all(moments.dual_value(duals, mu + off) < best for off in (-0.1, -0.01, 0.01, 0.1))


@pytest.mark.parametrize("cap", [0.5, 1.0, 2.0])
def test_a_rate_at_the_cap_puts_every_weight_there(
    cap: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(23, 30)
    moments = Moments.of(problem_for(examples, eta=cap, cap=cap, penalty=1.0), examples)
    duals = np.random.default_rng(0).normal(size=CONSTRAINTS)
    weights = moments.weights(duals, repair_rate(moments, duals))
    np.testing.assert_allclose(weights, cap, rtol=1e-12)


@pytest.mark.parametrize("size", [0.03, 0.3])
def test_a_perturbed_dual_has_a_visible_gap(
    size: float, soft: tuple[Moments, float], hard: tuple[Moments, float]
) -> None:
    for moments, optimum in (soft, hard):
        duals = solve_with_cvxpy(moments).constraints
        exact = certify(moments, duals, repair_rate(moments, duals))
        assert abs(exact.gap) < 1e-8
        generator = np.random.default_rng(5)
        for _ in range(10):
            away = size * generator.choice([-1, 1], CONSTRAINTS)
            moved = np.clip(duals + away, -PENALTY, PENALTY)
            certificate = certify(moments, moved, repair_rate(moments, moved))
            assert certificate.gap > 1e-4
            assert certificate.relative_gap > 1e-3
            assert certificate.dual < optimum


def test_a_wrong_rate_is_told(soft: tuple[Moments, float]) -> None:
    moments, _ = soft
    duals = np.zeros(CONSTRAINTS)
    mu = repair_rate(moments, duals)
    assert certify(moments, duals, mu + 0.05).rate_error > 0.01


def test_the_numbers_are_those_of_the_weights(
    soft: tuple[Moments, float], hard: tuple[Moments, float]
) -> None:
    duals = np.linspace(-0.4, 0.3, CONSTRAINTS)
    for moments, _ in (soft, hard):
        mu = repair_rate(moments, duals)
        q = moments.weights(duals, mu)
        violation = moments.violation(q)
        price = 0.4 if math.isinf(moments.penalty) else PENALTY
        certificate = certify(moments, duals, mu)
        assert certificate.max_violation == violation.max() > 0
        assert certificate.price == price
        value = 0.5 * moments.share @ (moments.preferred - q) ** 2 + price * violation.sum()
        assert certificate.primal == pytest.approx(value)
        assert certificate.dual == moments.dual_value(duals, mu)


def test_the_relative_gap_of_next_to_nothing_is_not_inflated() -> None:
    numbers: dict[str, Any] = {"dual": 0.0, "max_violation": 0.0, "price": 0.0, "rate_error": 0.0}
    assert Certificate(primal=2.0, gap=0.5, **numbers).relative_gap == 0.25
    assert Certificate(primal=1e-15, gap=1e-15, **numbers).relative_gap == pytest.approx(1e-9)
    with pytest.raises(ValidationError):
        Certificate(primal=2.0, gap=0.5, proof=True, **numbers)  # type: ignore[call-arg]
