"""Differences between groups in predictions: by hand, and as fairlearn has them."""

import fairlearn.metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation.fairness import (
    demographic_parity_difference,
    demographic_parity_difference_draws,
    equal_opportunity_difference,
    equal_opportunity_difference_draws,
)
from evaluation.resampling import Resampling
from m4.errors import InputError

RESAMPLING = Resampling(resamples=200, permutations=200)
PREDICTED = np.array([1, 1, 0, 1, 0, 0, 0, 1])
TRUTH = np.array([1, 1, 1, 0, 1, 1, 0, 1])
HALVES = {"a": [1, 1, 1, 1, 0, 0, 0, 0], "b": [0, 0, 0, 0, 1, 1, 1, 1]}
seeds = st.integers(0, 2**32 - 1)


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    member = np.append([0, 1, 2], generator.integers(0, 3, 57))
    truth = np.append([1, 1, 1], generator.integers(0, 2, 57))
    return generator.integers(0, 2, 60), truth, member


def masks(member: np.ndarray) -> dict[str, np.ndarray]:
    return {f"g{value}": member == value for value in range(3)}


def test_differences_by_hand() -> None:
    assert demographic_parity_difference(PREDICTED, HALVES) == 0.75 - 0.25
    # true-positive rates 2/3 and 1/3
    assert equal_opportunity_difference(PREDICTED, TRUTH, HALVES) == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_fairlearn_has_the_same_figures_for_groups_that_do_not_overlap(seed: int) -> None:
    predicted, truth, member = random_case(seed)
    assert demographic_parity_difference(predicted, masks(member)) == pytest.approx(
        fairlearn.metrics.demographic_parity_difference(truth, predicted, sensitive_features=member)
    )
    assert equal_opportunity_difference(predicted, truth, masks(member)) == pytest.approx(
        fairlearn.metrics.equal_opportunity_difference(truth, predicted, sensitive_features=member)
    )


def test_an_image_may_be_in_two_groups_or_in_none() -> None:
    groups = {"a": [1, 1, 0, 0], "b": [0, 1, 1, 0]}
    assert demographic_parity_difference([1, 1, 0, 0], groups) == 0.5


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_draws_have_the_figures_of_the_plain_functions(seed: int) -> None:
    predicted, truth, member = random_case(seed)
    groups = masks(member)
    rates, parity = demographic_parity_difference_draws(predicted, groups, RESAMPLING)
    assert parity.observed.item() == demographic_parity_difference(predicted, groups)
    assert rates.names == ("g0", "g1", "g2")
    assert rates.observed.tolist() == [predicted[mask].mean() for mask in groups.values()]
    rates, opportunity = equal_opportunity_difference_draws(predicted, truth, groups, RESAMPLING)
    assert opportunity.observed.item() == equal_opportunity_difference(predicted, truth, groups)
    assert rates.images == truth.sum()
    assert rates.observed == pytest.approx(
        [predicted[mask & (truth == 1)].mean() for mask in groups.values()]
    )


def test_draws_are_the_measure_of_resampled_images_and_traded_groups() -> None:
    predicted, truth, member = random_case(1)
    rows = np.flatnonzero(truth)
    n = len(rows)
    _, found = equal_opportunity_difference_draws(predicted, truth, masks(member), RESAMPLING)
    assert found.null is not None
    for draw in range(5):
        drawn = np.repeat(rows, RESAMPLING.counts(n)[draw])
        resampled = demographic_parity_difference(predicted[drawn], masks(member[drawn]))
        assert found.bootstrap[draw, 0] == pytest.approx(resampled)
        traded = masks(member[rows[RESAMPLING.permuted(n)[draw]]])
        expected = demographic_parity_difference(predicted[rows], traded)
        assert found.null[draw, 0] == pytest.approx(expected)


def test_groups_without_a_rate_are_named() -> None:
    with pytest.raises(InputError, match="no images of c, so no rate"):
        demographic_parity_difference(PREDICTED, HALVES | {"c": np.zeros(8)})
    negative = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    # fairlearn says that the rate of b is 0, and the difference large
    assert fairlearn.metrics.equal_opportunity_difference(
        negative, PREDICTED, sensitive_features=np.repeat(["a", "b"], 4)
    ) == pytest.approx(0.75)
    for call in (
        lambda: equal_opportunity_difference(PREDICTED, negative, HALVES),
        lambda: equal_opportunity_difference_draws(PREDICTED, negative, HALVES, RESAMPLING),
    ):
        with pytest.raises(InputError, match="no truly positive image of b"):
            call()


@pytest.mark.parametrize(
    ("predicted", "truth", "said"),
    [
        (PREDICTED * 0.5, TRUTH, "predicted: of shape"),
        (PREDICTED, TRUTH + 1, "truth: of shape"),
        (PREDICTED, TRUTH[:7], "8 predictions for 7 images"),
        (PREDICTED[:, None], TRUTH, "predicted: of shape"),
    ],
)
def test_what_is_no_prediction_is_refused(predicted, truth, said: str) -> None:
    with pytest.raises(InputError, match=said):
        equal_opportunity_difference(predicted, truth, HALVES)


def test_a_planted_difference_stands_out() -> None:
    generator = np.random.default_rng(0)
    member, truth = generator.integers(0, 3, 600), generator.integers(0, 2, 600)
    likely = np.where((member == 2) & (truth == 1), 0.3, 0.6)
    predicted = (generator.random(600) < likely).astype(int)
    rates, found = equal_opportunity_difference_draws(predicted, truth, masks(member), RESAMPLING)
    (measured,) = found.measurements(0.95)
    assert measured.p_value == 1 / 201
    assert [one.p_max < 0.05 for one in rates.measurements(0.95)][2]


def test_p_values_without_difference_are_small_as_often_as_they_say() -> None:
    generator = np.random.default_rng(3)
    few = Resampling(resamples=100, permutations=100)
    p_values = []
    for _ in range(150):
        predicted, truth, member = random_case(int(generator.integers(2**32)))
        _, found = equal_opportunity_difference_draws(predicted, truth, masks(member), few)
        p_values.append(found.measurements(0.95)[0].p_value)
    low, high = binom.ppf([0.001, 0.999], 150, 0.05)
    assert low <= np.count_nonzero(np.array(p_values) <= 0.05) <= high
