"""Thresholds of three-way decisions: the bound, the choice, and what it is worth on fresh data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest, norm

from vision.thresholds import (
    Thresholds,
    lower_threshold,
    precision_bound,
    side_of,
    upper_threshold,
)


@given(st.integers(1, 500), st.data())
def test_the_bound_is_that_of_clopper_and_pearson(said: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, said))
    interval = binomtest(right, said, alternative="greater").proportion_ci(0.95, method="exact")
    assert precision_bound(right, said) == pytest.approx(interval.low, abs=1e-9)


def test_the_bound_without_anything_said() -> None:
    assert precision_bound(0, 0) == 0.0


def test_fifty_nine_without_an_error_are_enough() -> None:
    """0.95^59 < .05 <= 0.95^58."""
    for count, enough in ((59, True), (58, False)):
        probabilities, truth = np.full(count, 0.9), np.ones(count, dtype=bool)
        found = upper_threshold(probabilities, truth, 0.95)
        assert (found is not None) == enough
        assert (lower_threshold(1 - probabilities, ~truth, 0.95) is not None) == enough


def test_the_smallest_threshold_is_taken() -> None:
    probabilities = np.concatenate([np.linspace(0.99, 0.9, 100), np.linspace(0.8, 0.6, 100)])
    truth = np.concatenate([np.ones(100, dtype=bool), np.arange(100) % 2 == 0])
    found = upper_threshold(probabilities, truth, 0.9)
    assert found is not None and 0.7 < found < 0.8
    said = probabilities >= found
    assert precision_bound((said & truth).sum(), said.sum()) >= 0.9
    weaker = probabilities >= probabilities[probabilities < found].max()
    assert precision_bound((weaker & truth).sum(), weaker.sum()) < 0.9


def test_equal_probabilities_are_not_taken_apart() -> None:
    """The first 200 are right, but 100 wrong ones have the same probability."""
    probabilities = np.full(300, 0.9)
    truth = np.arange(300) < 200
    assert upper_threshold(probabilities, truth, 0.95) is None


def test_no_threshold_crosses_one_half() -> None:
    probabilities, truth = np.linspace(0, 1, 1000), np.ones(1000, dtype=bool)
    upper = upper_threshold(probabilities, truth, 0.95)
    assert upper == probabilities[probabilities > 0.5].min()
    assert lower_threshold(probabilities, truth, 0.95) is None
    assert lower_threshold(probabilities, ~truth, 0.95) == probabilities[probabilities < 0.5].max()


@given(st.integers(0, 1000), st.integers(1, 300), st.sampled_from([0.6, 0.8, 0.95]))
def test_yes_and_no_are_mirror_images(seed: int, samples: int, precision: float) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.integers(0, 65, samples) / 64
    truth = generator.random(samples) < probabilities
    upper = upper_threshold(probabilities, truth, precision)
    lower = lower_threshold(1 - probabilities, ~truth, precision)
    assert (upper is None) == (lower is None)
    if upper is not None and lower is not None:
        assert upper == 1 - lower
        said = Thresholds(upper=upper).yes(probabilities)
        side = side_of(said, truth)
        assert side.bound is not None and side.bound >= precision


@pytest.mark.parametrize("apart", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("samples", [300, 1000])
def test_the_precision_is_kept_on_fresh_data(apart: float, samples: int) -> None:
    """Over 200 worlds with a known posterior, the choice is wrong in no more than about 5 %."""
    missed = 0
    for seed in range(200):
        generator = np.random.default_rng([seed, samples])
        truth = generator.random(samples) < 0.5
        x = generator.normal(size=samples) + apart * truth
        upper = upper_threshold(1 / (1 + np.exp(apart * (apart / 2 - x))), truth, 0.95)
        if upper is None:
            continue
        edge = np.log(upper / (1 - upper)) / apart + apart / 2
        true, false = norm.sf(edge - apart), norm.sf(edge)
        missed += true / (true + false) < 0.95
    assert missed <= 18  # 10 are expected of a single test; 18 has a chance below 1 %


def test_what_came_of_saying_so() -> None:
    said = np.array([True, True, False, False])
    side = side_of(said, np.array([True, False, True, True]))
    assert (side.share, side.precision) == (0.5, 0.5)
    assert side.recall == pytest.approx(1 / 3)
    nothing = side_of(np.zeros(3, dtype=bool), np.ones(3, dtype=bool))
    assert (nothing.share, nothing.precision, nothing.bound, nothing.recall) == (0, None, None, 0)


def test_none_is_never_reached() -> None:
    everything = np.array([0.0, 0.5, 1.0, np.nan])
    assert not Thresholds().yes(everything).any() and not Thresholds().no(everything).any()
    both = Thresholds(lower=0.0, upper=1.0)
    assert both.yes(everything).tolist() == [False, False, True, False]
    assert both.no(everything).tolist() == [True, False, False, False]


@pytest.mark.parametrize("given", [{"lower": 0.6, "upper": 0.6}, {"upper": 1.2}])
def test_thresholds_that_make_no_sense(given: dict) -> None:
    with pytest.raises(ValidationError):
        Thresholds(**given)
