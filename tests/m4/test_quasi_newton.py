"""L-BFGS alone: the same optimum as Newton's method, where that does not fit in memory."""

from collections.abc import Callable

import numpy as np
import pytest

import m4.newton
from m4.buckets import Buckets
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.problem import Problem
from m4.quasi_newton import QuasiNewton
from m4.table_dual import TableDual

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]


@pytest.fixture
def without_newton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m4.newton, "LARGEST_HESSIAN", 0)


@pytest.mark.usefixtures("without_newton")
@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize(("penalty", "slack"), [(None, "l1"), (0.05, "l1"), (3.0, "l2")])
def test_it_reaches_the_optimum_of_newtons_method(
    tolerance: str,
    penalty: float | None,
    slack: str,
    biased: MakeExamples,
    problem_for: MakeProblem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = biased(3, 2_000, 3, 12, masked=True).distinct()[0]
    problem = problem_for(
        examples, eta=0.5, eps_d=0.02, tolerance=tolerance, penalty=penalty, slack=slack
    )
    dual = TableDual(problem, Buckets.of(examples))
    alone = maximise(dual).point
    assert alone.relative_gap < 1e-7
    assert np.count_nonzero(alone.duals) > 5
    monkeypatch.undo()
    exact = maximise(dual).point
    assert exact.relative_gap < 1e-11
    assert alone.value == pytest.approx(exact.value, abs=1e-9)
    np.testing.assert_allclose(alone.moment, exact.moment, atol=1e-5)


def test_steps_never_leave_the_penalty_nor_raise_the_value(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(4, 500, 2, 6).distinct()[0]
    problem = problem_for(examples, eta=0.8, eps_r=0.0, eps_d=0.0, penalty=0.02)
    dual = TableDual(problem, Buckets.of(examples))
    start = dual.evaluate(np.zeros(dual.size), 0.0)
    method = QuasiNewton(dual, start, dual.diagonal(start.duals, 0.0))
    values = [start.value]
    while method.step() and len(values) < 100:
        assert np.abs(method.point.duals).max() <= 0.02
        values.append(method.point.value)
    assert (np.diff(values) <= 1e-15).all()
    assert (np.abs(method.point.duals) == 0.02).any()


@pytest.mark.usefixtures("without_newton")
def test_infeasible_constraints_are_proved_so(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([1.0, 0, 0, 0], np.zeros((4, 1))).distinct()[0]
    dual = TableDual(problem_for(examples, eta=0.7, eps_r=0.0), Buckets.of(examples))
    assert maximise(dual).infeasible
