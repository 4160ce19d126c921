"""Checked samples, and the estimate of the true balance that needs nothing but them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.bias import bias_table
from m4.checked import CheckedSample, estimate_true_bias
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]


def with_truth(examples: Patterns, seed: int = 0) -> np.ndarray:
    """A truth that the marks differ from in one of ten, more often in the first label."""
    generator = np.random.default_rng(seed)
    rate = 0.05 + 0.2 * examples.y[:, [0]].toarray()
    wrong = generator.random(examples.s.shape) < rate
    return np.where(wrong, 1 - examples.s, examples.s)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), masked=st.booleans(), soft=st.booleans())
def test_with_all_checked_it_is_the_truth(
    seed: int, masked: bool, soft: bool, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(seed, 60, masked=masked, soft_y=soft)
    truth, weights = with_truth(examples, seed), np.linspace(0, 2, 60)
    targets = ((0.2, 0.3, 0.4), (0.5, 0.6, 0.7))
    problem = problem_for(examples, targets=(0.5, 0.3), label_targets=targets)
    checked = CheckedSample.from_arrays(np.arange(60), truth, probability=1.0)
    found = estimate_true_bias(problem, examples, checked, weights)
    true = Patterns.from_arrays(truth, examples.y, observed=examples.observed)
    wanted, marked = (bias_table(problem, data, weights) for data in (true, examples))
    for column, table in (("estimate", wanted), ("share", marked)):
        shares = [*table.representation["share"], *table.association["share"]]
        assert found[column].to_list() == pytest.approx(shares)
    assert found["standard_error"].to_list() == pytest.approx([0.0] * 8)
    assert found["target"].to_list() == [0.5, 0.3, *targets[0], *targets[1]]
    assert found["label"].to_list() == [None, None, *["y0", "y1", "y2"] * 2]
    assert found["checked"][0] == examples.observed[:, 0].sum()


def test_it_is_right_on_average_and_knows_its_error(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    """Drawn with very unequal probabilities, from marks that are wrong: no bias, honest errors."""
    examples = biased(3, 2000, values=1, labels=1)
    truth, problem = with_truth(examples), problem_for(examples)
    generator = np.random.default_rng(3)
    weights = 0.2 + examples.s[:, 0] + examples.y.toarray()[:, 0]
    drawn = np.where(examples.s[:, 0] > 0, 0.05, 0.4)
    true = Patterns.from_arrays(truth, examples.y)
    wanted = bias_table(problem, true, weights)
    shares = np.array([wanted.representation["share"][0], wanted.association["share"][0]])
    found = []
    for _ in range(300):
        rows = np.flatnonzero(generator.random(2000) < drawn)
        checked = CheckedSample.from_arrays(rows, truth[rows], probability=drawn[rows])
        table = estimate_true_bias(problem, examples, checked, weights)
        found.append(table.select("estimate", "standard_error").to_numpy())
    estimates, errors = np.moveaxis(np.array(found), 2, 0)
    spread = estimates.std(axis=0)
    np.testing.assert_allclose(estimates.mean(axis=0), shares, atol=4 * spread.max() / 300**0.5)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(axis=0)), spread, rtol=0.15)
    covered = np.abs(estimates - shares) < 1.96 * errors
    assert (covered.mean(axis=0) > 0.88).all()
    marked = bias_table(problem, examples, weights).association["share"][0]
    assert abs(marked - shares[1]) > 5 * spread[1] / 300**0.5


def test_a_check_that_could_not_tell_is_none(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(4, 100, values=1, labels=1)
    problem, truth = problem_for(examples), with_truth(examples)
    rows = np.arange(20)
    some = truth[rows].copy()
    some[10:] = np.nan
    few = CheckedSample.from_arrays(rows[:10], truth[:10], probability=0.2)
    many = CheckedSample.from_arrays(rows, some, probability=0.2)
    one, other = (estimate_true_bias(problem, examples, checked) for checked in (few, many))
    assert one.equals(other)
    assert one["checked"][0] == 10.0


def test_of_nothing_there_is_no_share(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([1, 0], [[1, 0], [1, 0]])
    checked = CheckedSample.from_arrays([0], [1.0], probability=0.5)
    table = estimate_true_bias(problem_for(examples), examples, checked)
    for column in ("share", "estimate", "standard_error"):
        assert table[column].is_null().to_list() == [False, False, True]


def test_pairs_left_out_have_no_row(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(5, 20, labels=2)
    problem = problem_for(examples, left_out=(("s0", "y1"),))
    checked = CheckedSample.from_arrays([0], [[1.0, 0.0]], probability=0.5)
    table = estimate_true_bias(problem, examples, checked)
    assert table.select("value", "label").rows() == [
        ("s0", None),
        ("s1", None),
        ("s0", "y0"),
        ("s1", "y0"),
        ("s1", "y1"),
    ]


def test_rows_that_stand_for_many_may_be_checked_as_often(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([1, 0], [1, 1], counts=[3, 1])
    problem = problem_for(examples)
    checked = CheckedSample.from_arrays([0, 0, 0, 1], [1, 1, 0, 0], probability=1.0)
    table = estimate_true_bias(problem, examples, checked)
    assert table["estimate"].to_list() == pytest.approx([0.5, 0.5])
    often = CheckedSample.from_arrays([1, 1], [0, 0], probability=1.0)
    with pytest.raises(InputError, match="row 1 was checked more often than it has examples"):
        often.check(examples)


@pytest.mark.parametrize(
    ("rows", "s", "probability", "told"),
    [
        ([0, 1], [1.0], 0.5, "1 checked examples, but rows has shape"),
        ([0, 1], [1.0, 0.0], [0.5], r"probability \(1,\)"),
        ([0], [1.5], 0.5, "outside"),
        ([0], [1.0], 0.0, r"outside \(0, 1\]"),
        ([0], [1.0], 1.5, r"outside \(0, 1\]"),
        ([0], [1.0], np.nan, r"outside \(0, 1\]"),
        ([0.5], [1.0], 0.5, "rows holds float64"),
        ([True], [1.0], 0.5, "rows holds bool"),
    ],
)
def test_samples_that_make_no_sense_are_refused(
    rows: Any, s: Any, probability: Any, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        CheckedSample.from_arrays(rows, s, probability=probability)


def test_samples_of_other_examples_are_refused(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(6, 10)
    problem = problem_for(examples)
    for rows, s, told in (
        ([10], [[1.0, 0.0]], "row 10 was checked, but there are 10 rows"),
        ([-1], [[1.0, 0.0]], "row -1 was checked"),
        ([3], [1.0], "checked s has 1 columns, the annotations 2"),
    ):
        checked = CheckedSample.from_arrays(rows, s, probability=0.5)
        with pytest.raises(InputError, match=told):
            estimate_true_bias(problem, examples, checked)
    fine = CheckedSample.from_arrays([0], [[1.0, 0.0]], probability=0.5)
    with pytest.raises(InputError, match=r"weights has shape \(9,\), but there are 10 rows"):
        estimate_true_bias(problem, examples, fine, np.ones(9))
