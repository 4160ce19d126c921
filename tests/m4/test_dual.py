"""The dual function: two ways to store data, one function, and its derivatives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from m4.buckets import Buckets
from m4.dual import Anchor, Dual, Tilt
from m4.moments import Moments
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.problem import Problem
from m4.solving import dual_of
from m4.sparse_dual import SparseDual
from m4.table_dual import SMALL, TableDual

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]
Drawn = Callable[..., Any]

seeds = st.integers(0, 2**32 - 1)


def both_forms(case: Any, **terms: Any) -> tuple[Dual, Dual]:
    table = TableDual(case.problem, Buckets.of(case.examples), **terms)
    return table, SparseDual(case.problem, Moments.of(case.problem, case.examples), **terms)


def multipliers(seed: int, size: int, bound: float) -> tuple[np.ndarray, float]:
    """Some at zero, the others of a size that leaves most weights between their bounds."""
    generator = np.random.default_rng(seed)
    duals = generator.normal(size=size) * generator.choice([0.0, 0.05, 0.5], size)
    return np.clip(duals, -bound, bound), float(generator.normal(scale=0.2))


def assert_close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_both_forms_are_the_stated_function(seed: int, drawn: Drawn, written_out: WriteOut) -> None:
    """f = E[x q - q^2 / 2] + mu eta, with v^2 / (2 V) of squared slacks; and all its parts."""
    case = drawn(seed)
    problem, share = case.problem, case.examples.share
    z, t = written_out(problem, case.examples)
    duals, mu = multipliers(seed, len(z), problem.price)
    preferred = problem.eta * case.examples.utility
    x = preferred - duals @ z + np.abs(duals) @ t - mu
    q = np.clip(x, 0.0, problem.cap)
    squares = duals @ duals / (2 * problem.price) if problem.slack == "l2" else 0.0
    value = share @ (x * q - q**2 / 2) + mu * problem.eta + squares
    active = share * ((x >= 0) & (x <= problem.cap))
    for dual in both_forms(case):
        point = dual.evaluate(duals, mu)
        assert_close(point.value, value)
        assert_close(point.moment, z @ (share * q))
        assert_close(dual.eps * point.mass, t @ (share * q))
        assert_close(point.rate_error, share @ q - problem.eta)
        assert_close(dual.dual_value(point), 0.5 * share @ preferred**2 - value)
        assert dual.size == len(z)
        diagonal = dual.diagonal(duals, mu)
        assert_close(diagonal, np.append((z**2) @ active, active.sum()))
        assert dual.passes == 2


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_the_hessian_is_that_of_the_rows_that_move(
    seed: int, drawn: Drawn, written_out: WriteOut
) -> None:
    """E[1{active} a a'] with a_j = z_j - sign_j eps_j t_j, of any choice of constraints."""
    case = drawn(seed)
    problem = case.problem
    z, t = written_out(problem, case.examples)
    duals, mu = multipliers(seed, len(z), problem.price)
    generator = np.random.default_rng(seed)
    chosen = np.flatnonzero(generator.random(len(z)) < 0.7)
    signs = generator.choice([-1.0, 1.0], len(chosen))
    x = problem.eta * case.examples.utility - duals @ z + np.abs(duals) @ t - mu
    active = case.examples.share * ((x >= 0) & (x <= problem.cap))
    a = np.vstack([z[chosen] - signs[:, None] * t[chosen], np.ones(len(active))])
    for dual in both_forms(case):
        hessian = dual.hessian(duals, mu, chosen, signs)
        assert_close(hessian, (a * active) @ a.T)
        assert_close(hessian, hessian.T)
        assert hessian.size <= dual.hessian_size(chosen)


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_the_gradient_is_what_the_value_does(seed: int, drawn: Drawn) -> None:
    """By central differences; at a kink the two sides differ by 2 eps_j E[q t_j]."""
    case = drawn(seed)
    step = 1e-6
    for dual in both_forms(case):
        duals, mu = multipliers(seed, dual.size, 0.5 * case.problem.price)
        point = dual.evaluate(duals, mu)

        def value(duals: np.ndarray, mu: float, dual: Dual = dual) -> float:
            return dual.evaluate(duals, mu).value

        bend = 1.0 / case.problem.price if case.problem.slack == "l2" else 0.0
        for j in range(dual.size):
            moved = np.zeros(dual.size)
            moved[j] = step
            up = (value(duals + moved, mu) - point.value) / step
            down = (point.value - value(duals - moved, mu)) / step
            width = dual.eps[j] * point.mass[j]
            smooth = bend * duals[j] - point.moment[j]
            above, below = np.sign(duals[j] + 0.5 * step), np.sign(duals[j] - 0.5 * step)
            assert up == pytest.approx(smooth + above * width + 0.5 * bend * step, abs=1e-5)
            assert down == pytest.approx(smooth + below * width - 0.5 * bend * step, abs=1e-5)
        rise = (value(duals, mu + step) - value(duals, mu - step)) / (2 * step)
        assert rise == pytest.approx(-point.rate_error, abs=1e-5)


def test_the_hessian_is_what_the_gradient_does(
    biased: MakeExamples, problem_for: MakeProblem, written_out: WriteOut
) -> None:
    """By central differences, away from kinks and with no row at the edge of a bound."""
    examples = biased(91, 80, masked=True, soft_s=True, soft_y=True, utilities=True)
    for tolerance in ("relative", "absolute"):
        problem = problem_for(examples, eta=0.5, eps_r=0.05, eps_d=0.1, tolerance=tolerance)
        z, t = written_out(problem, examples)
        generator = np.random.default_rng(7)
        duals = generator.choice([-1, 1], len(z)) * generator.uniform(0.1, 0.4, len(z))
        mu, step = 0.05, 1e-5
        x = 0.5 * examples.utility - duals @ z + np.abs(duals) @ t - mu
        assert np.minimum(np.abs(x), np.abs(x - 1)).min() > 10 * step
        assert 5 < ((x > 0) & (x < 1)).sum() < 80
        every, signs = np.arange(len(z)), np.sign(duals)
        for dual in (
            TableDual(problem, Buckets.of(examples)),
            SparseDual(problem, Moments.of(problem, examples)),
        ):

            def gradient(at: np.ndarray, dual: Dual = dual, signs: np.ndarray = signs) -> Any:
                point = dual.evaluate(at[:-1], float(at[-1]))
                return np.append(signs * dual.eps * point.mass - point.moment, -point.rate_error)

            at = np.append(duals, mu)
            moves = step * np.eye(len(at))
            columns = [(gradient(at + move) - gradient(at - move)) / (2 * step) for move in moves]
            hessian = dual.hessian(duals, mu, every, signs)
            np.testing.assert_allclose(np.array(columns).T, hessian, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, cut=st.floats(0, 1))
def test_a_tilt_stands_for_rows_that_are_not_looked_at(seed: int, cut: float, drawn: Drawn) -> None:
    """Rows at the multipliers in hand, added as moments: the point is that of all rows."""
    case = drawn(seed)
    rows = len(case.examples.counts)
    first = round(cut * rows)
    if first in (0, rows):
        return
    seen, unseen = case.examples.rows(slice(0, first)), case.examples.rows(slice(first, None))
    whole = SparseDual(case.problem, Moments.of(case.problem, case.examples))
    duals, mu = multipliers(seed, whole.size, case.problem.price)
    wanted = whole.evaluate(duals, mu)
    moments = Moments.of(case.problem, unseen)
    q = moments.weights(duals, mu)
    part = unseen.examples / case.examples.examples
    moment, mass = moments.expected(q)
    rate = float(moments.share @ q)
    # Means over the rows that are looked at, scaled as the whole is.
    left = seen.examples / case.examples.examples
    alone = SparseDual(case.problem, Moments.of(case.problem, seen)).look(duals, mu)
    tilt = Tilt(
        part * moment + (left - 1) * alone.moment,
        part * mass + (left - 1) * alone.mass,
        part * rate + (left - 1) * alone.rate,
    )
    for dual in both_forms(type(case)(case.problem, seen), tilt=tilt):
        point = dual.evaluate(duals, mu)
        assert_close(point.moment, wanted.moment)
        assert_close(point.mass, wanted.mass)
        assert_close(point.rate_error, wanted.rate_error)


def test_tilts_and_anchors_have_the_value_of_their_gradient(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(92, 60, masked=True)
    for slack in ("l1", "l2"):
        problem = problem_for(examples, eta=0.6, penalty=4.0, slack=slack)
        size = len(problem.constraints())
        generator = np.random.default_rng(1)
        anchor = Anchor(generator.random(size + 1), generator.normal(size=size + 1))
        tilt = Tilt(0.1 * generator.normal(size=size), 0.1 * generator.random(size), 0.03)
        dual = TableDual(problem, Buckets.of(examples), tilt=tilt, anchor=anchor)
        at = generator.choice([-1, 1], size + 1) * generator.uniform(0.1, 0.3, size + 1)

        def value(at: np.ndarray, dual: Dual = dual) -> float:
            return dual.evaluate(at[:-1], float(at[-1])).value

        point = dual.evaluate(at[:-1], float(at[-1]))
        smooth = np.sign(at[:-1]) * dual.eps * point.mass - point.moment
        squares = at[:-1] / 4.0 if slack == "l2" else 0.0
        gradient = np.append(smooth + squares, -point.rate_error)
        gradient += anchor.weight * (at - anchor.centre)
        found = [(value(at + move) - value(at - move)) / 2e-6 for move in 1e-6 * np.eye(size + 1)]
        np.testing.assert_allclose(found, gradient, atol=1e-6)


def test_an_anchor_that_outweighs_the_data_holds_the_multipliers(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(93, 60)
    problem = problem_for(examples, eta=0.5, eps_r=0.0, eps_d=0.0)
    centre = np.append(np.linspace(-0.3, 0.3, 8), 0.05)
    for weight, near in ((1e6, 1e-5), (1e-9, None)):
        anchor = Anchor(np.full(9, weight), centre)
        point = maximise(TableDual(problem, Buckets.of(examples), anchor=anchor)).point
        away = np.abs(np.append(point.duals, point.rate_dual) - centre).max()
        assert away < near if near else away > 0.05


def large(problem_for: MakeProblem) -> tuple[Problem, Buckets]:
    """Distinct rows, enough of them and of their labels for threads to be used."""
    generator = np.random.default_rng(5)
    s = (generator.random((20_000, 2)) < [0.4, 0.3]).astype(float)
    y = sparse.random_array((20_000, 30), density=0.12, format="csr", rng=generator)
    y.data[:] = 1.0
    utility = generator.choice([0.5, 1.0], 20_000)
    examples = Patterns.from_arrays(s, y, utility=utility).distinct()[0]
    buckets = Buckets.of(examples)
    assert len(buckets.counts) + len(buckets.labels) > SMALL
    assert len(buckets.chunks()) > 1
    return problem_for(examples, eta=0.6, eps_r=0.01, eps_d=0.02, penalty=5.0), buckets


def test_threads_change_no_bit(problem_for: MakeProblem) -> None:
    problem, buckets = large(problem_for)
    one, two = (TableDual(problem, buckets, threads=threads) for threads in (1, 2))
    duals, mu = multipliers(3, one.size, 5.0)
    assert one.evaluate(duals, mu).value == two.evaluate(duals, mu).value
    np.testing.assert_array_equal(one.evaluate(duals, mu).moment, two.evaluate(duals, mu).moment)
    np.testing.assert_array_equal(one.diagonal(duals, mu), two.diagonal(duals, mu))
    chosen, signs = np.arange(10), np.ones(10)
    np.testing.assert_array_equal(
        one.hessian(duals, mu, chosen, signs), two.hessian(duals, mu, chosen, signs)
    )
    first, second = maximise(one), maximise(two)
    np.testing.assert_array_equal(first.point.duals, second.point.duals)
    assert first.point.rate_dual == second.point.rate_dual
    assert first.passes == second.passes
    assert first.point.relative_gap < 1e-9


def test_chunks_agree_with_rows(problem_for: MakeProblem) -> None:
    """What is added up in chunks is what the rows are, one by one."""
    problem, buckets = large(problem_for)
    table = TableDual(problem, buckets, threads=2)
    (examples,) = buckets.patterns()
    rows = SparseDual(problem, Moments.of(problem, examples))
    duals, mu = multipliers(4, rows.size, 5.0)
    one, other = table.evaluate(duals, mu), rows.evaluate(duals, mu)
    assert_close(one.value, other.value)
    assert_close(one.moment, other.moment)
    assert_close(one.mass, other.mass)
    assert_close(table.diagonal(duals, mu), rows.diagonal(duals, mu))
    chosen, signs = np.arange(0, rows.size, 3), np.ones(len(range(0, rows.size, 3)))
    assert_close(table.hessian(duals, mu, chosen, signs), rows.hessian(duals, mu, chosen, signs))


def test_the_form_suits_the_data(
    biased: MakeExamples, problem_for: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables for few attribute patterns, rows where each example has probabilities of its own."""
    hard, soft = biased(94, 300), biased(94, 300, soft_s=True)
    monkeypatch.setattr("m4.solving.LARGEST_TABLE", 100)
    assert isinstance(dual_of(problem_for(hard), hard), TableDual)
    assert isinstance(dual_of(problem_for(soft), soft), SparseDual)
