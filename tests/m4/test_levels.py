"""Weights in levels: the constraints, the optimum by brute force, and what stays as it was."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from m4.levels import LEAST, MOST, Levels, best_division, make_levels

# Few values, so that patterns share weights; and some that are no round numbers.
numbers = st.one_of(
    st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]), st.floats(0, 5, allow_subnormal=False)
)
tables = st.lists(st.tuples(numbers, st.integers(0, 40)), min_size=2, max_size=60)
small = st.lists(st.tuples(numbers, st.integers(1, 9)), min_size=2, max_size=9)


def columns(table: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in table]), np.array([row[1] for row in table])


def enough(counts: np.ndarray, least: int = LEAST) -> bool:
    return counts.sum() >= least and np.count_nonzero(counts) >= 2


def squares(weights: np.ndarray, counts: np.ndarray, values: np.ndarray) -> float:
    return float(counts @ (weights - values) ** 2)


@settings(deadline=None)
@given(tables, st.integers(1, 8), st.integers(1, 60))
def test_every_level_covers_enough_examples_and_patterns(
    table: list[tuple[float, int]], most: int, least: int
) -> None:
    weights, counts = columns(table)
    assume(enough(counts, least))
    levels = make_levels(weights, counts, most=most, least=least)
    assert 1 <= len(levels.values) <= most and len(levels.edges) == len(levels.values) - 1
    index = levels.index(weights)
    for level, examples in enumerate(levels.examples):
        inside = (index == level) & (counts > 0)
        assert counts[inside].sum() == examples >= least
        assert np.count_nonzero(inside) >= 2
        assert weights[inside].min() <= levels.values[level] <= weights[inside].max()


@settings(deadline=None)
@given(tables)
def test_the_expected_copies_stay_and_the_order_too(table: list[tuple[float, int]]) -> None:
    weights, counts = columns(table)
    assume(enough(counts))
    levels = make_levels(weights, counts)
    kept = levels.quantise(weights)
    assert counts @ kept == pytest.approx(counts @ weights, rel=1e-12)
    order = np.argsort(weights, kind="stable")
    assert (np.diff(kept[order]) >= 0).all()
    assert (np.diff(levels.values) > 0).all() and (np.diff(levels.edges) > 0).all()
    assert len(np.unique(kept)) == len(levels.values)


@settings(deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_patterns_changes_no_bit(table: list[tuple[float, int]], draw) -> None:
    weights, counts = columns(table)
    assume(enough(counts))
    levels = make_levels(weights, counts)
    shuffled = list(range(len(weights)))
    draw.shuffle(shuffled)
    again = make_levels(weights[shuffled], counts[shuffled])
    for name in ("edges", "values", "examples"):
        np.testing.assert_array_equal(getattr(again, name), getattr(levels, name))


def best_by_trial(weights: np.ndarray, counts: np.ndarray, most: int, least: int) -> float:
    """The smallest sum of squares over all divisions of the distinct weights into ranges."""
    distinct = np.unique(weights)
    found = np.inf
    for cuts in range(min(most, len(distinct))):
        for edges in combinations(distinct[1:], cuts):
            index = np.searchsorted(edges, weights, side="right")
            mass = np.bincount(index, weights=counts)
            if mass.min() < least or np.bincount(index).min() < 2:
                continue
            means = np.bincount(index, weights=counts * weights) / mass
            found = min(found, squares(weights, counts, means[index]))
    return found


@settings(deadline=None, max_examples=300)
@given(small, st.integers(1, 6), st.integers(1, 25))
def test_no_other_division_changes_the_weights_less(
    table: list[tuple[float, int]], most: int, least: int
) -> None:
    weights, counts = columns(table)
    assume(enough(counts, least))
    levels = make_levels(weights, counts, most=most, least=least)
    found = squares(weights, counts, levels.quantise(weights))
    best = best_by_trial(weights, counts, most, least)
    rounding = 1e-12 * squares(weights, counts, np.zeros(len(weights)))
    assert found == pytest.approx(best, abs=rounding, rel=1e-9)


def plain_programme(
    weights: np.ndarray, examples: np.ndarray, patterns: np.ndarray, most: int, least: int
) -> float:
    """The same programme without its short cut: every beginning is tried for every end."""
    mass, known = np.cumsum(np.append(0, examples)), np.cumsum(np.append(0, patterns))
    sums = np.cumsum(np.append(0, examples * weights))
    total = np.cumsum(np.append(0, examples * weights**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = total[:, None] - total - (sums[:, None] - sums) ** 2 / (mass[:, None] - mass)
    small = (mass[:, None] - mass < least) | (known[:, None] - known < 2)
    cost[small] = np.inf
    best, found = np.full(len(mass), np.inf), np.inf
    best[0] = 0.0
    for _ in range(most):
        best = (best + cost).min(axis=1)
        found = min(found, best[-1])
    return float(found)


@pytest.mark.parametrize("seed", range(6))
def test_the_short_cut_through_many_weights_misses_nothing(seed: int) -> None:
    """Constraints that bind: few examples, a level of most weights is too small."""
    generator = np.random.default_rng(seed)
    size = int(generator.integers(150, 400))
    weights = np.unique(generator.beta(0.4, 0.4, size))
    examples = np.ceil(generator.pareto(1.1, len(weights)))
    patterns = generator.integers(1, 3, len(weights))
    for most, least in ((3, 400), (32, 20), (32, 2), (100, 7)):
        firsts = best_division(weights, examples, patterns, most, least)
        index = np.searchsorted(firsts, np.arange(len(weights)), side="right") - 1
        mass = np.bincount(index, weights=examples)
        assert mass.min() >= least and np.bincount(index, weights=patterns).min() >= 2
        means = np.bincount(index, weights=examples * weights) / mass
        found = squares(weights, examples, means[index])
        assert found == pytest.approx(
            plain_programme(weights, examples, patterns, most, least), rel=1e-9
        )


def test_weights_that_are_common_keep_every_bit() -> None:
    weights = np.array([0.0, -0.0, 1.0, 1.0, 1 / 3, 1 / 3, 0.1, 0.1 + 1e-15])
    levels = make_levels(weights, np.full(8, 25))
    kept = levels.quantise(weights)
    assert kept[0].tobytes() == kept[1].tobytes() == np.float64(0).tobytes()
    np.testing.assert_array_equal(kept[2:6], weights[2:6])
    assert len(levels.values) == 4


def test_a_rare_weight_joins_the_nearer_of_its_neighbours() -> None:
    levels = make_levels([0.0, 0.0, 0.3, 1.0, 1.0], [500, 500, 19, 500, 500])
    low = 0.3 * 19 / 1019
    np.testing.assert_allclose(levels.values, [low, 1.0])
    # Many examples of one pattern name it as one example does.
    alone = make_levels([0.0, 0.0, 0.3, 1.0, 1.0], [500, 500, 5000, 500, 500])
    np.testing.assert_allclose(alone.values, [0.25, 1.0])


def test_weights_not_seen_before_are_in_a_level_too() -> None:
    levels = make_levels([0.1, 0.2, 0.8, 0.9], [30, 30, 30, 30], most=2)
    np.testing.assert_array_equal(levels.index([0.0, 0.2, 0.79, 0.8, 5.0]), [0, 0, 0, 1, 1])
    np.testing.assert_allclose(levels.quantise([0.5, 0.85]), [0.15, 0.85])
    with pytest.raises(InputError, match="not a number"):
        levels.index([np.nan])


def test_at_most_the_number_asked_for() -> None:
    weights = np.repeat(np.arange(100) / 100, 2)
    counts = np.full(200, 50)
    assert len(make_levels(weights, counts).values) == MOST
    whole = make_levels(weights, counts, most=1)
    assert isinstance(whole, Levels)
    assert whole.edges.shape == (0,) and whole.quantise([3.0]).tolist() == whole.values.tolist()
    assert len(make_levels(weights, counts, most=200).values) == 100


@pytest.mark.parametrize(
    ("weights", "counts", "says"),
    [
        ([0.1, 0.2, 0.3], [10, 9, 0], "examples: 19, distinct patterns: 2,"),
        ([0.5, 0.7], [4000, 0], "examples: 4,000, distinct patterns: 1,"),
        ([], [], "examples: 0, distinct patterns: 0,"),
        ([0.1, 0.2], [10, 10, 10], "give"),
        ([0.1, np.inf], [20, 20], "a weight is not finite"),
        ([0.1, 0.2], [20, -1], "no number of examples"),
        ([0.1, 0.2], [20, 0.5], "no number of examples"),
        ([0.1, 0.2], [20, np.nan], "no number of examples"),
    ],
)
def test_what_cannot_be_put_in_levels(weights: list, counts: list, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_levels(np.array(weights), np.array(counts))


def test_no_level_is_no_choice() -> None:
    with pytest.raises(InputError, match="most is 0"):
        make_levels(np.array([0.0, 1.0]), np.array([20, 20]), most=0)
