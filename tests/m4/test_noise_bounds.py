"""Bounds under annotation errors, against every adversary on small data and linear programmes."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.optimize import linprog

from m4.bias import bias_table
from m4.errors import InputError
from m4.noise_bounds import BiasBound, ErrorRates, bound_true_bias, predictive_values
from m4.patterns import Patterns
from m4.problem import Problem

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
ROUNDING = 1e-9


ALL_TRUTHS = np.array(list(product([0.0, 1.0], repeat=6)))


def allowed(rates: ErrorRates, mark: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Which truths of six examples the rates allow, by the definitions; (64,) bool."""
    missed = (ALL_TRUTHS * (1 - mark)) @ mass
    false = ((1 - ALL_TRUTHS) * mark) @ mass
    held = np.full(64, True)
    if rates.overall is not None:
        held &= missed + false <= rates.overall * mass.sum() + ROUNDING
    if rates.false_positive is not None and rates.false_negative is not None:
        held &= false <= rates.false_positive * ((1 - ALL_TRUTHS) @ mass) + ROUNDING
        held &= missed <= rates.false_negative * (ALL_TRUTHS @ mass) + ROUNDING
    return held


def true_measures(q: np.ndarray, y: np.ndarray, truths: np.ndarray) -> list[np.ndarray]:
    """Shares overall, shares in the label, associations; NaN where there is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        given_value = truths @ (q * y) / (truths @ q)
        given_other = (1 - truths) @ (q * y) / ((1 - truths) @ q)
        shares = truths @ q / q.sum()
        return [shares, truths @ (q * y) / (q @ y), given_value - given_other]


def bounded(bound: BiasBound) -> list[tuple[Any, Any]]:
    """The intervals of the measures, in their order."""
    overall = bound.representation.row(0, named=True)
    cell = bound.association.row(0, named=True)
    ends = (cell["association_low"], cell["association_high"])
    return [(overall["low"], overall["high"]), (cell["low"], cell["high"]), ends]


RATES = st.one_of(
    st.builds(ErrorRates, overall=st.sampled_from([0.0, 1 / 6, 2 / 6, 0.4, 1.0])),
    st.builds(
        ErrorRates,
        overall=st.sampled_from([None, 0.25, 0.5]),
        false_positive=st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]),
        false_negative=st.sampled_from([0.0, 0.2, 0.5, 0.75]),
    ),
)
SIX = {
    "mark": arrays(float, 6, elements=st.sampled_from([0.0, 1.0])),
    "y": arrays(float, 6, elements=st.sampled_from([0.0, 1.0])),
    "q": arrays(float, 6, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])),
}


@settings(max_examples=150, deadline=None)
@given(**SIX, rates=RATES, own=st.none() | RATES)
def test_no_adversary_gets_past_the_bounds(
    mark: np.ndarray,
    y: np.ndarray,
    q: np.ndarray,
    rates: ErrorRates,
    own: ErrorRates | None,
    problem_for: MakeProblem,
) -> None:
    """Every truth of six examples that the rates allow lies inside every interval."""
    examples = Patterns.from_arrays(mark, y)
    named = {"s0": rates} | ({} if own is None else {"s0 & y0": own})
    bound = bound_true_bias(problem_for(examples), examples, named, q)
    intervals = bounded(bound)
    held = allowed(rates, mark, np.ones(6))
    if own is not None:
        held &= allowed(own, mark, y)
    reached = true_measures(q, y, ALL_TRUTHS[held])
    for (low, high), values in zip(intervals, reached, strict=True):
        for value in values[~np.isnan(values)]:
            assert low - ROUNDING <= value <= high + ROUNDING
    for values, largest in (
        (reached[0] - 0.5, bound.representation_bias),
        (reached[2], bound.association_bias),
    ):
        assert np.abs(values[~np.isnan(values)]).max(initial=0.0) <= largest + ROUNDING


@settings(max_examples=100, deadline=None)
@given(**SIX, wrong=st.integers(0, 3))
def test_some_adversary_reaches_the_bounds(
    mark: np.ndarray, y: np.ndarray, q: np.ndarray, wrong: int, problem_for: MakeProblem
) -> None:
    """Where the rate is a whole number of examples, errors on whole examples are enough."""
    examples = Patterns.from_arrays(mark, y)
    rates = ErrorRates(overall=wrong / 6)
    bound = bound_true_bias(problem_for(examples), examples, rates, q)
    reached = true_measures(q, y, ALL_TRUTHS[allowed(rates, mark, np.ones(6))])
    share, in_label, association = bounded(bound)
    for (low, high), values in ((share, reached[0]), (in_label, reached[1])):
        if not np.isnan(values).any():
            assert (low, high) == pytest.approx((values.min(), values.max()))
    if not np.isnan(reached[2]).any():  # else errors may leave nobody with, or without, the value
        # An end beyond 0 is at a kink; the end on this side of 0 may be between whole examples.
        if association[1] > 0:
            assert association[1] == pytest.approx(reached[2].max())
        if association[0] < 0:
            assert association[0] == pytest.approx(reached[2].min())


def programme(
    rates: ErrorRates, mark: np.ndarray, mass: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rates as linear conditions C t <= d on true shares t of the rows, by their definitions.

    missed = mass (1 - mark) t, false = mass mark (1 - t).
    """
    missed, false = mass * (1 - mark), mass * mark
    conditions, limits = [], []
    if rates.overall is not None:
        conditions.append(missed - false)
        limits.append(rates.overall * mass.sum() - false.sum())
    if rates.false_positive is not None and rates.false_negative is not None:
        conditions.append(-false + rates.false_positive * mass)
        limits.append(rates.false_positive * mass.sum() - false.sum())
        conditions.append(missed - rates.false_negative * mass)
        limits.append(0.0)
    return np.array(conditions), np.array(limits)


SOME_RATES = [
    ErrorRates(overall=0.07),
    ErrorRates(false_positive=0.05, false_negative=0.2),
    ErrorRates(false_positive=0.2, false_negative=0.1, overall=0.08),
]


@pytest.mark.parametrize("rates", SOME_RATES)
@pytest.mark.parametrize("seed", range(2))
def test_bounds_are_the_optimum_of_a_programme(
    rates: ErrorRates, seed: int, problem_for: MakeProblem
) -> None:
    """Rows that stand for many examples: shares by linear programmes over the true share of each
    row, the association by one for each of many values of S, of which the best is taken."""
    generator = np.random.default_rng(seed)
    mark, y = (generator.random((2, 10)) < 0.5) * 1.0
    counts = generator.integers(50, 500, 10) * 1.0
    q = generator.random(10).round(1)
    examples = Patterns.from_arrays(mark, y, counts=counts)
    share, in_label, association = bounded(
        bound_true_bias(problem_for(examples), examples, rates, q)
    )
    conditions, limits = programme(rates, mark, counts)

    def best(goal: np.ndarray, **further: Any) -> float:
        found = linprog(-goal, A_ub=conditions, b_ub=limits, bounds=(0, 1), **further)
        return -found.fun if found.status == 0 else np.nan

    overall = q * counts / (q @ counts)
    among = q * y * counts / (q @ (y * counts))
    assert share == pytest.approx((-best(-overall), best(overall)))
    assert in_label == pytest.approx((-best(-among), best(among)))

    a, y_mass = overall * y, overall @ y

    def difference(sign: float, s: float) -> float:
        part = sign * best(sign * a, A_eq=overall[None, :], b_eq=[s])
        return sign * (part / s - (y_mass - part) / (1 - s))

    for sign, end in ((1.0, association[1]), (-1.0, -association[0])):
        low, high = -best(-overall), best(overall)
        for _ in range(5):  # a grid around the best of the last one
            grid = np.linspace(low, high, 20)
            found = np.array([difference(sign, s) for s in grid])
            at = int(np.nanargmax(found))
            low, high = grid[max(at - 1, 0)], grid[min(at + 1, 19)]
        assert np.nanmax(found) <= end + 1e-7
        assert np.nanmax(found) == pytest.approx(end, abs=1e-5)


def test_without_errors_nothing_is_in_doubt(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(5, 200, masked=True)
    weights = np.random.default_rng(5).random(200)
    problem = problem_for(examples, targets=(0.5, 0.3))
    bound = bound_true_bias(problem, examples, ErrorRates(overall=0.0), weights)
    table = bias_table(problem, examples, weights)
    for end in ("share", "low", "high"):
        shares = table.representation["share"].to_list()
        assert bound.representation[end].to_list() == pytest.approx(shares)
        shares = table.association["share"].to_list()
        assert bound.association[end].to_list() == pytest.approx(shares)
    for end in ("association", "association_low", "association_high"):
        association = table.association["association"].to_list()
        assert bound.association[end].to_list() == pytest.approx(association)
    assert bound.representation_bias == pytest.approx(table.representation_bias)
    assert bound.association_bias == pytest.approx(table.association_bias)
    assert bound.association["estimate"].is_null().all()


def test_heavier_examples_are_worse_to_get_wrong(problem_for: MakeProblem) -> None:
    """One of ten marks may be wrong; its weight decides what that is worth."""
    examples = Patterns.from_arrays([1.0] * 5 + [0.0] * 5, np.zeros((10, 0)))
    problem = problem_for(examples)
    rates = ErrorRates(overall=0.1)
    even = bound_true_bias(problem, examples, rates).representation.row(0, named=True)
    assert (even["low"], even["high"], even["bound"]) == pytest.approx((0.4, 0.6, 0.1))
    weights = np.array([1.0] * 5 + [3.0] + [0.5] * 4)
    heavy = bound_true_bias(problem, examples, rates, weights).representation.row(0, named=True)
    assert (heavy["low"], heavy["high"]) == pytest.approx((0.4, 0.8))


def test_rows_may_stand_for_many(biased: MakeExamples, problem_for: MakeProblem) -> None:
    """Joined rows give their examples' bounds, soft labels those of examples with and without."""
    examples = biased(6, 300)
    joined, inverse = examples.distinct()
    weights = np.linspace(0.1, 1.0, len(joined.s))
    problem, rates = problem_for(joined), ErrorRates(overall=0.05)
    few = bound_true_bias(problem, joined, rates, weights)
    many = bound_true_bias(problem, examples, rates, weights[inverse])
    for one, other in (
        (few.representation, many.representation),
        (few.association, many.association),
    ):
        for name in one.columns[2:]:
            if name not in ("label", "estimate"):
                assert one[name].to_list() == pytest.approx(other[name].to_list(), abs=1e-9)
    soft = Patterns.from_arrays([1, 0, 1, 0], [0.25, 0.5, 0, 1], counts=[4, 4, 3, 5])
    split = Patterns.from_arrays([1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 0, 1], counts=[1, 3, 2, 2, 3, 5])
    q = np.array([0.9, 0.4, 0.3, 0.2])
    problem = problem_for(soft)
    assert bounded(bound_true_bias(problem, soft, rates, q)) == [
        pytest.approx(interval)
        for interval in bounded(bound_true_bias(problem, split, rates, q[[0, 0, 1, 1, 2, 3]]))
    ]


@settings(max_examples=40, deadline=None)
@given(**SIX, rate=st.floats(0, 0.9), more=st.floats(0, 0.1))
def test_more_errors_never_narrow_a_bound(
    mark: np.ndarray,
    y: np.ndarray,
    q: np.ndarray,
    rate: float,
    more: float,
    problem_for: MakeProblem,
) -> None:
    examples = Patterns.from_arrays(mark, y)
    problem = problem_for(examples)
    narrow, wide = (
        bounded(bound_true_bias(problem, examples, ErrorRates(overall=e), q))
        for e in (rate, rate + more)
    )
    for inner, outer in zip(narrow, wide, strict=True):
        if inner[0] is not None:
            assert outer[0] <= inner[0] + ROUNDING
            assert inner[1] <= outer[1] + ROUNDING


def occupation(problem_for: MakeProblem, error: float) -> tuple[Problem, Patterns, np.ndarray]:
    """An occupation that is 90 % female, marked with errors, balanced to one half by the marks."""
    marked = 0.9 * (1 - error) + 0.1 * error
    examples = Patterns.from_arrays([1, 0], [1, 1], counts=[1e6 * marked, 1e6 * (1 - marked)])
    return problem_for(examples), examples, np.array([0.5 / marked, 0.5 / (1 - marked)])


def test_the_estimate_is_the_share_that_balancing_leaves(problem_for: MakeProblem) -> None:
    """2.8 % of marks wrong: 60.1 % of the occupation is truly female, and the bound knows it."""
    problem, examples, weights = occupation(problem_for, 0.028)
    exact = ErrorRates(false_positive=0.028, false_negative=0.028)
    bound = bound_true_bias(problem, examples, {"s0": exact, "s0 & y0": exact}, weights)
    row = bound.association.row(0, named=True)
    assert row["share"] == pytest.approx(0.5)
    assert row["estimate"] == pytest.approx(0.60135, abs=5e-6)
    assert row["low"] < row["estimate"] < row["high"]
    # The formula on the weighted share finds nothing, because weights changed P(mark | s).
    assert (row["share"] - 0.028) / (1 - 2 * 0.028) == pytest.approx(0.5)


def test_predictive_values_by_hand() -> None:
    rates = ErrorRates(false_positive=0.028, false_negative=0.028)
    marked, unmarked = predictive_values(0.8776, rates)
    assert marked == pytest.approx(0.8748 / 0.8776)
    assert unmarked == pytest.approx(0.0252 / 0.1224)
    # Fewer marks than false ones alone would give: nobody has it.
    assert predictive_values(0.01, rates) == (0.0, 0.0)
    assert predictive_values(1.0, ErrorRates(false_positive=0, false_negative=0)) == (1.0, 1.0)


def test_a_cell_s_own_rates_keep_errors_out_of_it(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([1, 0, 1, 0], [1, 1, 0, 0], counts=[5, 5, 45, 45])
    problem = problem_for(examples)
    anywhere = ErrorRates(overall=0.05)
    loose = bound_true_bias(problem, examples, anywhere).association.row(0, named=True)
    named = {"s0": anywhere, "s0 & y0": ErrorRates(overall=0.1)}
    tight = bound_true_bias(problem, examples, named).association.row(0, named=True)
    assert (loose["low"], loose["high"]) == pytest.approx((0.0, 1.0))
    assert (tight["low"], tight["high"]) == pytest.approx((0.4, 0.6))
    # One missed mark in the label, four false ones outside: 6/47 - 4/53.
    assert tight["association_high"] == pytest.approx(6 / 47 - 4 / 53)
    assert tight["association_low"] == pytest.approx(-(6 / 47 - 4 / 53))
    assert loose["association_high"] == pytest.approx(10 / 55)


def test_errors_that_leave_nobody_without_the_value(problem_for: MakeProblem) -> None:
    """Who has the label is marked, who lacks it is not; two of six may be wrong, one has weight 0.

    If the two others without the label truly have the value, nobody with weight lacks it, and there
    is no association. With a part x of the six wrong in the label in their stead, 5 - 12 x quarters
    have the value, 3 - 6 x of them the label; of those who lack it, one half: as x goes to 0 the
    association falls to 3/5 - 1/2, which no errors reach.
    """
    marks = [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    examples = Patterns.from_arrays(marks, marks)
    q = np.array([0.0] + [0.25] * 5)
    bound = bound_true_bias(problem_for(examples), examples, ErrorRates(overall=1 / 3), q)
    row = bound.association.row(0, named=True)
    assert row["association"] == 1.0
    assert row["association_low"] == pytest.approx(3 / 5 - 1 / 2)
    nearest = [(3 - 6 * x) / (5 - 12 * x) - 1 / 2 for x in (1 / 6, 0.01, 1e-4, 1e-8)]
    assert nearest == sorted(nearest, reverse=True)
    assert nearest[0] == pytest.approx(1 / 6)
    assert nearest[-1] == pytest.approx(row["association_low"], abs=1e-6)


def test_what_is_not_there_has_no_bound(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([[1, np.nan], [0, np.nan]], [[1, 0], [1, 0]])
    bound = bound_true_bias(problem_for(examples), examples, ErrorRates(overall=0.1))
    assert bound.representation["bound"].is_null().to_list() == [False, True]
    assert bound.association["high"].is_null().to_list() == [False, True, True, True]
    assert bound.association["association_high"].is_null().to_list() == [False, False, True, True]
    nobody = bound_true_bias(problem_for(examples), examples, ErrorRates(overall=0.1), np.zeros(2))
    assert nobody.representation_bias == 0.0
    assert nobody.association_bias == 0.0


def test_what_cannot_be_used_is_refused(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(7, 20)
    problem, rates = problem_for(examples), ErrorRates(overall=0.1)
    for named, told in (
        ({"s0": rates}, "none for 's1'"),
        ({"s0": rates, "s1": rates, "s0 & y7": rates}, "no value or cell 's0 & y7'"),
    ):
        with pytest.raises(InputError, match=told):
            bound_true_bias(problem, examples, named)
    for weights, told in (
        (np.ones(19), r"weights has shape \(19,\), but there are 20 rows"),
        (np.full(20, -1.0), "a weight is negative or not finite"),
        (np.full(20, np.nan), "a weight is negative or not finite"),
    ):
        with pytest.raises(InputError, match=told):
            bound_true_bias(problem, examples, rates, weights)
    with pytest.raises(InputError, match="the problem 2 and 3"):
        bound_true_bias(problem, biased(7, 20, labels=1), rates)
    for impossible in (rates, ErrorRates(false_positive=0.5, false_negative=0.5)):
        with pytest.raises(InputError, match="with a sum below 1"):
            predictive_values(0.5, impossible)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give `overall`, or"),
        ({"false_positive": 0.1}, "give both"),
        ({"overall": 1.5}, "less than or equal to 1"),
        ({"overall": 0.1, "rate": 0.1}, "Extra inputs"),
    ],
)
def test_rates_are_validated(given: dict[str, float], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ErrorRates(**given)
