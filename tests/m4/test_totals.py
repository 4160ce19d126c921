"""Totals: they add up over any split, and everything that is asked of them is a formula."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import m4.totals
from m4.certificate import certify
from m4.diagnostics import effective_sample_size
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Intersection, Problem
from m4.totals import Totals, measure, nothing, slope, weights, with_constant

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]

seeds = st.integers(0, 2**32 - 1)


def assert_same(one: Totals, other: Totals) -> None:
    for name in ("held", "known"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-12)
    for name in ("examples", "weight", "squares", "distance"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_totals_are_sums_over_examples(seed: int, drawn: Callable[..., Any]) -> None:
    case = drawn(seed)
    problem, examples = case.problem, case.examples
    q = np.random.default_rng(seed).uniform(0, problem.cap, len(examples.counts))
    totals = measure(problem, examples, q)
    n, s, o = examples.counts, examples.s, examples.observed
    y = np.column_stack([np.ones(len(n)), examples.y.toarray()])
    features = [(s[:, k], o[:, k]) for k in range(s.shape[1])]
    for pair in problem.intersections:
        k, other = problem.values.index(pair.first), problem.values.index(pair.second)
        features.append((s[:, k] * s[:, other], o[:, k] & o[:, other]))
    held = [[(n * q * known * value * column).sum() for column in y.T] for value, known in features]
    known = [[(n * q * known * column).sum() for column in y.T] for _, known in features]
    np.testing.assert_allclose(totals.held, held, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(totals.known, known, rtol=1e-12, atol=1e-12)
    assert totals.examples == n.sum()
    assert totals.weight == pytest.approx(n @ q)
    assert totals.squares == pytest.approx(n @ q**2)
    assert totals.distance == pytest.approx(n @ (problem.eta * examples.utility - q) ** 2)
    assert totals.effective_sample_size == pytest.approx(effective_sample_size(q, n))


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_moments_and_violations_are_the_formulas(
    seed: int, drawn: Callable[..., Any], written_out: WriteOut
) -> None:
    case = drawn(seed)
    problem, examples = case.problem, case.examples
    q = np.random.default_rng(seed).uniform(0, problem.cap, len(examples.counts))
    totals, layout = measure(problem, examples, q), problem.layout
    z, t = written_out(problem, examples)
    mean = examples.share * q
    np.testing.assert_allclose(totals.moment(layout), z @ mean, atol=1e-14)
    np.testing.assert_allclose(layout.eps * totals.mass(layout), t @ mean, atol=1e-14)
    excess = np.maximum(np.abs(z @ mean) - t @ mean, 0.0)
    np.testing.assert_allclose(totals.violation(layout), excess, atol=1e-14)


@settings(max_examples=100, deadline=None)
@given(seed=seeds, cuts=st.lists(st.floats(0, 1), max_size=4))
def test_any_split_adds_up(seed: int, cuts: list[float], drawn: Callable[..., Any]) -> None:
    case = drawn(seed)
    problem, examples = case.problem, case.examples
    rows = len(examples.counts)
    q = np.random.default_rng(seed).random(rows)
    edges = sorted({0, rows, *(round(cut * rows) for cut in cuts)})
    whole = nothing(problem)
    for first, after in pairwise(edges):
        part = slice(first, after)
        if examples.counts[part].sum() > 0:
            whole = whole + measure(problem, examples.rows(part), q[part])
    assert_same(whole, measure(problem, examples, q))


def test_blocks_bound_the_memory_and_change_nothing(
    biased: MakeExamples, problem_for: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = biased(71, 103, masked=True, soft_s=True, utilities=True)
    problem = problem_for(
        examples, eta=0.4, intersections=(Intersection(first="s0", second="s1", target=0.2),)
    )
    duals = np.random.default_rng(0).normal(size=len(problem.constraints()))
    q = weights(problem, duals, 0.1, examples)
    whole, lean = measure(problem, examples, q), slope(problem, duals, examples)
    monkeypatch.setattr(m4.totals, "BLOCK", 10)
    assert len(list(m4.totals.blocks(examples))) == 11
    assert_same(measure(problem, examples, q), whole)
    np.testing.assert_allclose(slope(problem, duals, examples), lean, atol=1e-15)
    np.testing.assert_allclose(weights(problem, duals, 0.1, examples), q, atol=1e-15)


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_slopes_and_weights_are_the_formulas(
    seed: int, drawn: Callable[..., Any], written_out: WriteOut
) -> None:
    case = drawn(seed)
    problem, examples = case.problem, case.examples
    generator = np.random.default_rng(seed)
    z, t = written_out(problem, examples)
    duals, mu = generator.normal(size=len(z)), float(generator.normal())
    lean = duals @ z - np.abs(duals) @ t
    np.testing.assert_allclose(slope(problem, duals, examples), lean, atol=1e-13)
    wanted = np.clip(problem.eta * examples.utility - lean - mu, 0.0, problem.cap)
    np.testing.assert_allclose(weights(problem, duals, mu, examples), wanted, atol=1e-13)


def test_a_certificate_of_summed_totals_is_that_of_the_whole(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    """Shards are certified together without being brought together."""
    examples = biased(72, 60, masked=True)
    problem = problem_for(examples, eta=0.5, penalty=3.0)
    duals = np.linspace(-0.5, 0.5, len(problem.constraints()))
    q = weights(problem, duals, 0.02, examples)
    halves = [slice(0, 23), slice(23, 60)]
    parts = [measure(problem, examples.rows(half), q[half]) for half in halves]
    whole = certify(problem, duals, 0.02, measure(problem, examples, q))
    summed = certify(problem, duals, 0.02, parts[0] + parts[1])
    assert whole.gap > 1e-3
    for name in ("primal", "dual", "gap", "max_violation", "price", "rate_error"):
        assert getattr(summed, name) == pytest.approx(getattr(whole, name), abs=1e-14)


def test_weights_left_out_are_ones(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(73, 30, masked=True)
    problem = problem_for(examples)
    assert_same(measure(problem, examples), measure(problem, examples, np.ones(30)))


def test_weights_of_zero_have_no_sample(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(74, 10)
    totals = measure(problem_for(examples), examples, np.zeros(10))
    assert totals.effective_sample_size == 0.0
    assert totals.weight == 0.0
    assert totals.examples == 10.0


def test_data_of_another_shape_is_refused(biased: MakeExamples, problem_for: MakeProblem) -> None:
    with pytest.raises(InputError, match="2 sensitive values and 3 labels, the problem 2 and 1"):
        measure(problem_for(biased(1, 5, labels=1)), biased(1, 5))


def test_the_constant_comes_first(biased: MakeExamples) -> None:
    examples = biased(75, 8, soft_y=True)
    columns = with_constant(examples.y).toarray()
    np.testing.assert_array_equal(columns[:, 0], 1.0)
    np.testing.assert_array_equal(columns[:, 1:], examples.y.toarray())
