"""The largest rate under constraints: HiGHS on all of it, and the way around for many rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import m4.programme
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.programme import Programme, maximise_rate

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
DrawCase = Callable[..., Any]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]


def programme_of(problem: Problem, examples: Patterns) -> Programme:
    return Programme.of(Moments.of(problem, examples))


def everything(programme: Programme) -> np.ndarray:
    return np.ones(len(programme.eps), bool)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_rate_is_that_of_the_programme_as_written(
    seed: int, drawn: DrawCase, written_out: WriteOut
) -> None:
    case = drawn(seed)
    z, t = written_out(case.problem, case.examples)
    share = case.examples.share
    sides = np.vstack([z - t, -z - t]) * share
    sizes = np.abs(sides).sum(axis=1, keepdims=True)
    stated = linprog(
        -share / share.mean(),
        A_ub=sides / np.where(sizes > 0, sizes, 1.0),
        b_ub=np.zeros(len(sides)),
        bounds=(0, 1),
        method="highs-ds",
    )
    found = maximise_rate(programme_of(case.problem, case.examples))
    # HiGHS takes rows as met that are violated by 1e-7, of rows that were scaled.
    assert found.rate == pytest.approx(-stated.fun * share.mean(), abs=2e-6)
    assert found.bound == pytest.approx(found.rate, abs=3e-7)
    assert found.weights.min() >= 0.0 and found.weights.max() <= 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0, 10))
def test_any_multipliers_bound_the_rate(seed: int, scale: float, drawn: DrawCase) -> None:
    case = drawn(seed)
    programme = programme_of(case.problem, case.examples)
    duals = scale * np.random.default_rng(seed).normal(size=len(programme.eps))
    assert maximise_rate(programme).rate <= programme.bound(duals) + 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_joining_rows_changes_nothing(seed: int, data: st.DataObject, drawn: DrawCase) -> None:
    case = drawn(seed)
    programme = programme_of(case.problem, case.examples)
    count = len(programme.eps)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    joined = programme.among(chosen)
    columns = np.hstack([programme.z.toarray(), programme.mass.toarray()])
    columns = columns[:, np.tile(chosen, 2)]
    assert len(joined.share) == len(np.unique(columns, axis=0))
    assert joined.share.sum() == pytest.approx(1.0)
    weighed = programme.z.T @ programme.share
    np.testing.assert_allclose(joined.z.T @ joined.share, weighed[chosen], atol=1e-12)
    # Constraints that are not chosen are as good as met.
    free = programme.with_tolerances(np.where(chosen, programme.eps, 1.0))
    assert maximise_rate(joined).rate == pytest.approx(maximise_rate(free).rate, abs=3e-7)


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize("seed", range(6))
def test_many_rows_give_the_same_as_all_at_once(
    seed: int,
    tolerance: str,
    biased: MakeExamples,
    problem_for: MakeProblem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 30 rows left open out of 600 each correction is needed; rare labels go altogether."""
    examples = biased(seed, 600, values=3, labels=5, masked=seed % 2 == 0, soft_s=True)
    s = examples.s.copy()
    s[examples.y[:, [0]].toarray().ravel() > 0, 0] = 1.0  # the first label is never without s0
    examples = Patterns(s, examples.observed, examples.y, examples.utility, examples.counts)
    eps: dict[str, Any] = {"eps_r": 0.001 * seed, "eps_d": 0.002 * seed, "tolerance": tolerance}
    programme = programme_of(problem_for(examples, **eps), examples)
    direct = maximise_rate(programme)
    monkeypatch.setattr(m4.programme, "DIRECT", 30)
    around = maximise_rate(programme)
    assert around.rate == pytest.approx(direct.rate, abs=1e-8)
    assert around.bound == pytest.approx(direct.rate, abs=1e-8)
    assert programme.sides(around.weights).max() < 1e-8
    warm = maximise_rate(programme.with_tolerances(programme.eps + 0.01), start=around.duals)
    monkeypatch.undo()
    wider = maximise_rate(programme.with_tolerances(programme.eps + 0.01))
    assert warm.rate == pytest.approx(wider.rate, abs=1e-8)


def test_corrections_that_do_not_end_leave_it_to_highs(
    biased: MakeExamples, problem_for: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = biased(1, 300, soft_s=True)
    programme = programme_of(problem_for(examples), examples)
    direct = maximise_rate(programme)
    monkeypatch.setattr(m4.programme, "DIRECT", 5)
    monkeypatch.setattr(m4.programme, "ROUNDS", 1)
    assert maximise_rate(programme).rate == pytest.approx(direct.rate, abs=1e-9)


@pytest.mark.parametrize("rows_at_once", [20, 10_000])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999, 1.001, 1.1])
def test_a_goal_is_decided_rightly(
    part: float,
    rows_at_once: int,
    biased: MakeExamples,
    problem_for: MakeProblem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = biased(2, 400, soft_s=True)
    programme = programme_of(problem_for(examples), examples)
    rate = maximise_rate(programme).rate
    monkeypatch.setattr(m4.programme, "DIRECT", rows_at_once)
    found = maximise_rate(programme, goal=part * rate)
    assert found.reaches(part * rate) == (part < 1)
    assert found.rate <= rate + 1e-9 <= found.bound + 2e-9


def test_constraints_on_nobody_cost_nothing(problem_for: MakeProblem) -> None:
    """A label without examples and an attribute that nobody was asked about."""
    examples = Patterns.from_arrays(
        [[1.0, np.nan], [0.0, np.nan]], [[1.0, 0.0], [1.0, 0.0]], counts=[3, 1]
    )
    programme = programme_of(problem_for(examples, eps_r=0.0, eps_d=0.0), examples)
    found = maximise_rate(programme)
    assert found.rate == pytest.approx(0.5)
    assert found.duals[programme.mass.sum(axis=0) == 0] == pytest.approx(0.0)


def test_no_constraints_at_all(biased: MakeExamples, problem_for: MakeProblem) -> None:
    programme = programme_of(problem_for(biased(1, 9)), biased(1, 9))
    none = programme.among(~everything(programme))
    assert none.z.shape == (1, 0)
    assert maximise_rate(none).rate == pytest.approx(1.0)
