"""Systematic sampling: each pattern's planned number within one, in any order of the examples."""

import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem
from m4.realised import Realised, realised_totals
from m4.sampling import poisson_copies
from m4.solving import solve
from m4.systematic import pattern_order, systematic_copies

Make = Callable[..., Patterns]
samples = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 4)), min_size=1, max_size=60)
starts = st.floats(0, 1, exclude_max=True)


@settings(deadline=None)
@given(samples, starts, st.integers(0, 10))
def test_every_run_gets_its_number_within_one(
    rows: list[tuple[float, int]], start: float, seed: int
) -> None:
    weights, order = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    draws = np.random.default_rng(seed).random(len(rows))
    copies = systematic_copies(weights, draws, order, start)
    assert copies.dtype == np.int32
    for first in range(5):
        for last in range(first, 5):
            inside = (order >= first) & (order <= last)
            assert abs(copies[inside].sum() - weights[inside].sum()) <= 1 + 1e-7
    assert (np.abs(copies - weights) <= 1 + 1e-7).all()


@settings(deadline=None)
@given(samples, starts, st.randoms(use_true_random=False))
def test_the_order_of_the_examples_changes_nothing(
    rows: list[tuple[float, int]], start: float, generator: random.Random
) -> None:
    weights, order = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    draws = np.random.default_rng(len(rows)).random(len(rows))
    copies = systematic_copies(weights, draws, order, start)
    shuffled = list(range(len(rows)))
    generator.shuffle(shuffled)
    again = systematic_copies(weights[shuffled], draws[shuffled], order[shuffled], start)
    np.testing.assert_array_equal(again, copies[shuffled])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 32), min_size=1, max_size=12), st.integers(0, 5))
def test_over_all_starts_the_mean_is_the_weight(eighths: list[int], seed: int) -> None:
    """Weights in eighths, and all eight starts that tell them apart: the mean is exact."""
    weights = np.array(eighths) / 8
    draws = np.random.default_rng(seed).random(len(weights))
    order = np.random.default_rng(seed).integers(0, 3, len(weights))
    total = sum(
        systematic_copies(weights, draws, order, float(Fraction(start, 8))).astype(int)
        for start in range(8)
    )
    np.testing.assert_array_equal(total, eighths)


def test_a_cap_above_one_gives_several_copies() -> None:
    weights = np.array([2.5, 0.5, 3.0, 0.0])
    copies = systematic_copies(weights, np.array([0.1, 0.2, 0.3, 0.4]), np.arange(4), 0.0)
    assert copies.tolist() == [2, 1, 3, 0]
    copies = systematic_copies(weights, np.array([0.1, 0.2, 0.3, 0.4]), np.arange(4), 0.5)
    assert copies.tolist() == [3, 0, 3, 0]


def test_numbers_out_of_range_are_refused() -> None:
    weights, draws, order = np.ones(3), np.zeros(3), np.arange(3)
    with pytest.raises(InputError, match="3 weights, but 2 places"):
        systematic_copies(weights, draws, order[:2], 0.0)
    with pytest.raises(InputError, match=r"start is 1\.0"):
        systematic_copies(weights, draws, order, 1.0)
    with pytest.raises(InputError, match="negative or not finite"):
        systematic_copies(-weights, draws, order, 0.0)
    with pytest.raises(InputError, match="fewer than a billion"):
        systematic_copies(weights * 1e9, draws, order, 0.0)


# The order of patterns


def patterns_of(rows: Sequence[tuple[float | None, list[int], float]]) -> Patterns:
    """Rows of (value, labels, utility) over one value and five labels."""
    s = np.array([[np.nan if value is None else value] for value, _, _ in rows])
    y = np.zeros((len(rows), 5))
    for row, (_, labels, _) in enumerate(rows):
        y[row, labels] = 1
    return Patterns.from_arrays(s, y, utility=np.array([utility for _, _, utility in rows]))


def test_patterns_lie_together_by_attributes_then_by_frequent_labels() -> None:
    rows = [
        (1.0, [0, 3], 1.0),
        (0.0, [4], 1.0),
        (1.0, [3], 1.0),
        (1.0, [], 1.0),
        (0.0, [3, 4], 1.0),
        (1.0, [3], 0.5),
        (1.0, [1, 3], 1.0),
        (0.0, [3], 1.0),
    ]
    order = pattern_order(patterns_of(rows))
    by_place = [rows[row] for row in np.argsort(order)]
    assert by_place == [
        (0.0, [3], 1.0),  # label 3 is the most frequent, then 4
        (0.0, [3, 4], 1.0),
        (0.0, [4], 1.0),
        (1.0, [], 1.0),
        (1.0, [3], 0.5),
        (1.0, [3], 1.0),
        (1.0, [0, 3], 1.0),
        (1.0, [1, 3], 1.0),
    ]


row_strategy = st.tuples(
    st.sampled_from([None, 0.0, 0.25, 1.0]),
    st.lists(st.integers(0, 4), max_size=4, unique=True),
    st.sampled_from([0.5, 1.0]),
)


@settings(deadline=None)
@given(st.lists(row_strategy, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_the_place_of_a_pattern_is_its_own(
    rows: list[tuple[float | None, list[int], float]], generator: random.Random
) -> None:
    """Equal rows share a place, different ones do not, and shuffling moves no pattern."""
    order = pattern_order(patterns_of(rows))
    content = [(value, tuple(sorted(labels)), utility) for value, labels, utility in rows]
    places = dict(zip(content, order.tolist(), strict=True))
    assert [places[row] for row in content] == order.tolist()
    assert len(set(places.values())) == len(places)
    shuffled = list(range(len(rows)))
    generator.shuffle(shuffled)
    again = pattern_order(patterns_of([rows[row] for row in shuffled]))
    np.testing.assert_array_equal(again, order[shuffled])


def test_strengths_of_labels_tell_patterns_apart(biased: Make) -> None:
    examples = biased(3, 200, soft_y=True)
    assert len(np.unique(pattern_order(examples))) == len(examples.distinct()[0].counts)


def test_it_is_nearer_to_the_plan_than_poisson(
    biased: Make, problem_for: Callable[..., Problem]
) -> None:
    """Planned: at 20,000 examples of 32 patterns, less than a quarter of Poisson's violation."""
    examples = biased(5, 20_000)
    problem = problem_for(examples, eta=0.5, eps_r=1e-3, eps_d=1e-3)
    patterns, inverse = examples.distinct()
    weights = solve(problem, patterns).weights[inverse]
    order = pattern_order(patterns)[inverse]
    totals: dict[str, list[float]] = {"poisson": [], "systematic": []}
    for seed in range(10):
        draws = np.random.default_rng([seed, 1]).random(len(weights))
        start = float(np.random.default_rng([seed, 2]).random())
        for name, copies in (
            ("poisson", poisson_copies(weights, draws)),
            ("systematic", systematic_copies(weights, draws, order, start)),
        ):
            realised = Realised.of(problem, realised_totals(problem, examples, copies))
            totals[name].append(realised.total_violation)
            if name == "systematic":
                drawn = np.bincount(inverse, copies)
                assert (np.abs(drawn - np.bincount(inverse, weights)) <= 1 + 1e-6).all()
    assert np.median(totals["systematic"]) < np.median(totals["poisson"]) / 4
