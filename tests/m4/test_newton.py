"""Newton steps: the model with kinks and bounds is minimised exactly, and the steps descend."""

import math
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import m4.newton
from m4.buckets import Buckets
from m4.newton import Model, Newton
from m4.patterns import Patterns
from m4.problem import Problem
from m4.table_dual import TableDual

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]

seeds = st.integers(0, 2**32 - 1)


def draw_model(seed: int) -> Model:
    """A bounded model: slopes in the range of the Hessian, which may be singular but for damping.

    Newton's method always damps; 1e-10 of the curvature is far below what it uses at a kink.
    """
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 9))
    rank = int(generator.integers(1, size + 1))
    factor = generator.normal(size=(size, rank))
    if generator.random() < 0.3:
        factor[-1] = factor[0]  # two constraints that are the same
    hessian = factor @ factor.T
    hessian += 1e-10 * np.diag(np.diag(hessian))
    kink = generator.choice([0.0, 0.1, 1.0], size) * generator.random(size)
    bound = float(generator.choice([math.inf, 0.3, 2.0]))
    start = generator.choice([0.0, 0.0, 1.0, -1.0], size) * generator.random(size)
    start = np.clip(start, -bound, bound)
    slope = hessian @ generator.normal(size=size) * generator.choice([0.1, 1.0])
    return Model(slope, hessian, kink, start, bound)


def by_cvxpy(model: Model) -> float:
    """The model's smallest change, by a general solver."""
    size = len(model.slope)
    values, vectors = np.linalg.eigh(model.hessian)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    ends = cp.Variable(size)
    away = ends - model.start
    cost = model.slope @ away + 0.5 * cp.sum_squares(root.T @ away)
    cost += model.kink @ cp.abs(ends) - float(model.kink @ np.abs(model.start))
    inside = [] if math.isinf(model.bound) else [cp.abs(ends) <= model.bound]
    problem = cp.Problem(cp.Minimize(cost), inside)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert problem.status == "optimal"
    return float(problem.value)


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_the_model_is_minimised(seed: int) -> None:
    model = draw_model(seed)
    ends = model.minimise()
    least = by_cvxpy(model)
    # Nearly: a step that misses the last digits of its model is still a step.
    assert model.change(ends) <= 0.999 * least + 1e-7
    assert model.change(ends) >= least - 1e-7 * max(1.0, abs(least))
    assert (np.abs(ends) <= model.bound).all()
    assert model.change(ends) <= 0.0
    assert model.change(model.start) == 0.0


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_the_minimum_satisfies_its_conditions(seed: int) -> None:
    """At zero the kink holds, at the bound the pull is outward, elsewhere nothing pulls."""
    model = draw_model(seed)
    regular = Model(
        model.slope,
        model.hessian + 0.1 * np.eye(len(model.slope)),
        model.kink,
        model.start,
        model.bound,
    )
    ends = regular.minimise()
    gradient = regular.slope + regular.hessian @ (ends - regular.start)
    pull = -(gradient + regular.kink * np.sign(ends))
    zero, bound = ends == 0.0, np.abs(ends) >= regular.bound
    assert (np.abs(gradient[zero]) <= regular.kink[zero] + 1e-9).all()
    assert (pull[bound] * np.sign(ends[bound]) >= -1e-9).all()
    np.testing.assert_allclose(pull[~zero & ~bound], 0.0, atol=1e-9)


def test_a_model_of_nothing_is_at_its_minimum() -> None:
    empty = np.zeros(0)
    model = Model(empty, np.zeros((0, 0)), empty, empty, math.inf)
    assert model.minimise().shape == (0,)


def test_a_kink_is_soft_thresholding() -> None:
    """One multiplier: h d^2 / 2 + s d + k |d| is smallest at -sign(s) max(|s| - k, 0) / h."""
    for slope, kink, bound, wanted in (
        (-3.0, 1.0, math.inf, 1.0),
        (3.0, 1.0, math.inf, -1.0),
        (-3.0, 3.5, math.inf, 0.0),
        (-3.0, 1.0, 0.25, 0.25),
    ):
        model = Model(np.array([slope]), np.array([[2.0]]), np.array([kink]), np.zeros(1), bound)
        assert model.minimise().tolist() == [wanted]


@pytest.fixture
def dual(biased: MakeExamples, problem_for: MakeProblem) -> TableDual:
    examples = biased(95, 300, labels=4)
    return TableDual(problem_for(examples, eta=0.6, penalty=5.0), Buckets.of(examples))


def newton_from_zero(dual: TableDual) -> Newton:
    scale = np.maximum(dual.diagonal(np.zeros(dual.size), 0.0), 1e-12)
    return Newton(dual, dual.evaluate(np.zeros(dual.size), 0.0), scale)


def test_steps_descend_and_end_exactly(dual: TableDual) -> None:
    newton = newton_from_zero(dual)
    values = [newton.point.value]
    while newton.point.relative_gap > 1e-12 and newton.step():
        values.append(newton.point.value)
    assert newton.point.relative_gap < 1e-10
    assert len(values) < 25
    rounding = 1e-14 * abs(values[-1])
    assert (np.diff(values) <= rounding).all()
    assert np.abs(newton.point.duals).max() <= 5.0


def test_at_the_optimum_no_step_is_left(dual: TableDual) -> None:
    newton = newton_from_zero(dual)
    for _ in range(60):
        if not newton.step():
            break
    else:
        pytest.fail("Newton goes on for ever")
    assert newton.point.relative_gap < 1e-12


def test_a_hessian_too_large_is_told(dual: TableDual, monkeypatch: pytest.MonkeyPatch) -> None:
    newton = newton_from_zero(dual)
    assert newton.fits()
    monkeypatch.setattr(m4.newton, "LARGEST_HESSIAN", 3)
    assert not newton.fits()
