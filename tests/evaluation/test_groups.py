"""Groups, and means by group: as they are, resampled, traded."""

import numpy as np
import pytest

from evaluation.groups import Groups, ratio, spread
from evaluation.resampling import Resampling
from m4.errors import InputError

RESAMPLING = Resampling(resamples=100, permutations=100)
MASKS = {"a": [True, True, False, False], "none": [False] * 4, "b": [False, True, True, False]}


def test_groups_without_images_are_named_and_counted() -> None:
    groups = Groups.of(MASKS, 4)
    assert groups.names == ("a", "b")
    assert groups.empty == ("none",)
    assert groups.counts == {"a": 2, "none": 0, "b": 2}
    assert groups.anyone.tolist() == [True, True, True, False]


def test_masks_that_do_not_fit_and_one_group_alone_are_refused() -> None:
    with pytest.raises(InputError, match=r"group a has shape \(4,\) for 5 images"):
        Groups.of(MASKS, 5)
    with pytest.raises(InputError, match="1 of the groups a, none have images; nothing to compare"):
        Groups.of({name: MASKS[name] for name in ("a", "none")}, 4)


def test_an_image_in_two_groups_counts_in_both() -> None:
    means = Groups.of(MASKS, 4).means(np.array([[1.0], [3.0], [5.0], [100.0]]))
    assert means.tolist() == [[2.0], [4.0]]


def test_rates_resample_and_trade_only_images_in_a_group() -> None:
    values = np.array([[1.0], [3.0], [5.0], [1000.0]])
    rates = Groups.of(MASKS, 4).rates(values, RESAMPLING)
    assert np.nanmax(rates.bootstrap) <= 5.0
    assert rates.bootstrap.shape == rates.null.shape == (100, 2, 1)
    # Sizes and overlap stay: of three images one is in both groups, so the sum of the two means
    # is (1 + 3 + 5 + the shared one) / 2.
    assert set(rates.null.sum(axis=(1, 2))) == {5.0, 6.0, 7.0}


def test_a_group_is_undefined_only_where_a_resample_misses_it() -> None:
    groups = Groups.of({"a": [1, 0, 0], "b": [0, 1, 1]}, 3)
    rates = groups.rates(np.array([[1.0], [0.0], [0.0]]), RESAMPLING)
    missed = RESAMPLING.counts(3)[:, 0] == 0
    assert 0 < missed.sum() < 100
    assert np.isnan(rates.bootstrap[:, 0, 0]).tolist() == missed.tolist()
    assert np.isnan(spread(rates.bootstrap)[missed]).all()


def test_the_spread_of_negative_rates_is_not_counted_from_zero() -> None:
    assert spread(np.array([[-3.0, -1.0], [-2.0, -5.0]])).tolist() == [1.0, 4.0]


def test_a_ratio_to_nothing_is_undefined() -> None:
    found = ratio(np.array([1.0, 0.0, 0.0]), np.array([2.0, 4.0, 0.0]))
    assert found[:2].tolist() == [0.5, 0.0]
    assert np.isnan(found[2])
