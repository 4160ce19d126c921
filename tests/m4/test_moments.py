"""Constraints row by row and the dual function, against the formulas of the methods."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Intersection, Problem

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]

CROSSED = (Intersection(first="s1", second="s0", target=0.3),)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"tolerance": "absolute", "targets": (0.6, 0.3)},
    {"left_out": (("s0", "y0"), ("s1", "y2"))},
    {"left_out": (("s0", "y0"), ("s0", "y1"), ("s0", "y2")), "tolerance": "absolute"},
    {"label_targets": ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), "targets": (0.7, 0.8)},
    {"cap": 2.0, "eta": 1.2, "penalty": 3.0},
    {"intersections": CROSSED},
    {"intersections": CROSSED, "tolerance": "absolute", "left_out": (("s1", "y1"),)},
]


@pytest.fixture(params=range(len(SETTINGS)))
def stated(
    request: pytest.FixtureRequest, biased: MakeExamples, problem_for: MakeProblem
) -> tuple[Problem, Patterns]:
    examples = biased(11, 25, masked=True, soft_s=True, soft_y=True, utilities=True)
    counts = np.random.default_rng(1).integers(1, 5, 25).astype(float)
    counted = Patterns(examples.s, examples.observed, examples.y, examples.utility, counts)
    asked = {"eta": 0.6, "eps_r": 0.03, "eps_d": 0.07, "eps_x": 0.05, **SETTINGS[request.param]}
    return problem_for(counted, **asked), counted


def test_moments_are_the_formulas(stated: tuple[Problem, Patterns], written_out: WriteOut) -> None:
    problem, examples = stated
    moments = Moments.of(problem, examples)
    z, t = written_out(problem, examples)
    np.testing.assert_allclose(moments.z.toarray().T, z, atol=1e-15)
    mass = moments.mass.toarray()[:, moments.mass_of] * moments.eps
    np.testing.assert_allclose(mass.T, t, atol=1e-15)
    np.testing.assert_allclose(moments.allowed().toarray().T, t, atol=1e-15)
    np.testing.assert_array_equal(moments.preferred, problem.eta * examples.utility)
    assert (moments.eta, moments.cap) == (problem.eta, problem.cap)
    assert (moments.penalty, moments.slack) == (problem.price, problem.slack)
    assert len(problem.constraints()) == len(z)


def test_violation_is_the_excess_of_each_constraint(
    stated: tuple[Problem, Patterns], written_out: WriteOut
) -> None:
    problem, examples = stated
    moments = Moments.of(problem, examples)
    z, t = written_out(problem, examples)
    q = np.random.default_rng(2).random(25)
    mean = examples.counts / examples.counts.sum()
    excess = np.maximum(np.abs(z @ (mean * q)) - t @ (mean * q), 0.0)
    np.testing.assert_allclose(moments.violation(q), excess, atol=1e-15)
    assert excess.max() > 0
    preferred = problem.eta * examples.utility
    assert moments.objective(q) == pytest.approx(0.5 * mean @ (preferred - q) ** 2)


def dual_as_stated(
    problem: Problem, examples: Patterns, both: np.ndarray, mu: float, written_out: WriteOut
) -> tuple[float, np.ndarray]:
    """g(v, mu) and its gradient for v = (v+, v-), from the stacked one-sided constraints."""
    z, t = written_out(problem, examples)
    a = np.vstack([z - t, -z - t])
    mean = examples.counts / examples.counts.sum()
    preferred = problem.eta * examples.utility
    q = np.clip(preferred - both @ a - mu, 0.0, problem.cap)
    value = mean @ (0.5 * (preferred - q) ** 2 + (both @ a + mu) * q) - mu * problem.eta
    return float(value), np.append(a @ (mean * q), mean @ q - problem.eta)


def test_dual_value_is_the_stated_function(
    stated: tuple[Problem, Patterns], written_out: WriteOut
) -> None:
    problem, examples = stated
    moments = Moments.of(problem, examples)
    generator = np.random.default_rng(3)
    for _ in range(20):
        signed = generator.normal(size=len(moments.eps)) * generator.choice([0.01, 0.3, 3.0])
        mu = float(generator.normal(scale=0.3))
        both = np.concatenate([np.maximum(signed, 0), np.maximum(-signed, 0)])
        stacked, _ = dual_as_stated(problem, examples, both, mu, written_out)
        assert moments.dual_value(signed, mu) == pytest.approx(stacked, abs=1e-12)
        # Raising both sides of a constraint together only lowers the bound: signed is enough.
        raised = both + np.tile(generator.random(len(signed)), 2)
        assert dual_as_stated(problem, examples, raised, mu, written_out)[0] <= stacked + 1e-12


def test_the_gradient_is_the_moments_of_the_weights(
    stated: tuple[Problem, Patterns], written_out: WriteOut
) -> None:
    """dg/dv = E[q* a] and dg/dmu = E[q*] - eta, by central differences of `dual_value`."""
    problem, examples = stated
    moments = Moments.of(problem, examples)
    generator = np.random.default_rng(4)
    signed = generator.choice([-1, 1], len(moments.eps)) * generator.uniform(
        0.05, 0.3, len(moments.eps)
    )
    both = np.concatenate([np.maximum(signed, 0), np.maximum(-signed, 0)])
    gradient = dual_as_stated(problem, examples, both, 0.1, written_out)[1]
    step = 1e-6
    for j, sign in enumerate(np.sign(signed)):
        moved = np.zeros_like(signed)
        moved[j] = sign * step
        up = moments.dual_value(signed + moved, 0.1)
        down = moments.dual_value(signed - moved, 0.1)
        side = j if sign > 0 else j + len(signed)
        assert (up - down) / (2 * step) == pytest.approx(gradient[side], abs=1e-7)
    rise = moments.dual_value(signed, 0.1 + step) - moments.dual_value(signed, 0.1 - step)
    assert rise / (2 * step) == pytest.approx(gradient[-1], abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.lists(st.floats(-5, 5), min_size=9, max_size=9), min_size=2, max_size=2),
    at=st.floats(0, 1),
)
def test_the_dual_is_concave(
    ends: list[list[float]], at: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(12, 20)
    moments = Moments.of(problem_for(examples, eta=0.5), examples)
    first, second = (np.array(end) for end in ends)
    between = at * first + (1 - at) * second
    values = [moments.dual_value(v[:-1], float(v[-1])) for v in (first, second, between)]
    assert values[2] >= at * values[0] + (1 - at) * values[1] - 1e-9


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_problem_compiles_to_its_formulas(
    seed: int, drawn: Callable[..., Any], written_out: WriteOut
) -> None:
    case = drawn(seed)
    moments = Moments.of(case.problem, case.examples)
    z, t = written_out(case.problem, case.examples)
    generator = np.random.default_rng(seed)
    duals, weights = generator.normal(size=len(z)), generator.random(len(case.examples.counts))
    np.testing.assert_allclose(moments.z.toarray().T, z, atol=1e-15)
    np.testing.assert_allclose(moments.allowed().toarray().T, t, atol=1e-15)
    np.testing.assert_allclose(moments.slope(duals), duals @ z - np.abs(duals) @ t, atol=1e-13)
    mean = case.examples.share * weights
    moment, mass = moments.expected(weights)
    np.testing.assert_allclose(moment, z @ mean, atol=1e-14)
    np.testing.assert_allclose(moments.eps * mass, t @ mean, atol=1e-14)
    level = case.problem.eta * case.examples.utility - duals @ z + np.abs(duals) @ t - 0.2
    wanted = np.clip(level, 0.0, case.problem.cap)
    np.testing.assert_allclose(moments.weights(duals, 0.2), wanted, atol=1e-13)


def test_only_what_is_not_zero_is_stored(biased: MakeExamples, problem_for: MakeProblem) -> None:
    """A label that a row does not have costs nothing, however many labels there are."""
    generator = np.random.default_rng(0)
    s = (generator.random((500, 2)) < 0.4).astype(float)
    y = np.eye(200)[generator.integers(200, size=500)]
    examples = Patterns.from_arrays(s, y)
    moments = Moments.of(problem_for(examples), examples)
    assert moments.z.shape == (500, 2 + 2 * 200)
    assert moments.z.nnz == 500 * (2 + 2)
    assert moments.mass.nnz == 500 * (2 + 2)
