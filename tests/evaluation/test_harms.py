"""Harmful misclassification, by hand, by invariants, and what chance makes of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation.draws import Draws, Measurement
from evaluation.harms import (
    Misclassification,
    misclassification,
    misclassification_draws,
)
from evaluation.resampling import Resampling
from m4.errors import InputError

AXES = np.eye(5)
CLASSES = ("person", "man", "gorilla", "thief", "criminal")
CATEGORIES = {"non-human": ("gorilla",), "crime-related": ("thief", "criminal")}
RESAMPLING = Resampling(resamples=200, permutations=200)
seeds = st.integers(0, 2**32 - 1)


def masks(member: np.ndarray) -> dict[str, np.ndarray]:
    return {f"g{value}": member == value for value in range(int(member.max()) + 1)}


def measured(shown: list[int], member: list[int]) -> Misclassification:
    return misclassification(
        AXES[shown], AXES, CLASSES, CATEGORIES, masks(np.array(member, dtype=int))
    )


def by_name(draws: tuple[Draws, ...]) -> dict[tuple[str, str], Measurement]:
    return {(one.measure, one.subject): one for found in draws for one in found.measurements(0.95)}


def test_rates_by_hand() -> None:
    found = measured([0, 2, 3, 4, 1, 1, 3, 0], [0, 0, 0, 0, 1, 1, 1, 1])
    animals, crimes = found.categories
    assert animals.by_group == {"g0": 0.25, "g1": 0.0}
    assert (animals.overall, animals.disparity) == (0.125, 0.25)
    assert crimes.by_group == {"g0": 0.5, "g1": 0.25}
    assert (crimes.overall, crimes.disparity) == (0.375, 0.25)
    assert found.counts == {"g0": 4, "g1": 4}


def test_classes_that_tie_share_the_image() -> None:
    unsure = np.array([[1.0, 0.0, 0.0, 1.0, 1.0]])  # person, thief or criminal: all alike
    groups = {"a": [True, False], "b": [False, True]}
    found = misclassification(np.concatenate([unsure, AXES[:1]]), AXES, CLASSES, CATEGORIES, groups)
    assert found.categories[1].by_group == pytest.approx({"a": 2 / 3, "b": 0.0})


def test_images_in_no_group_take_no_part_and_empty_groups_are_named() -> None:
    groups = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 0]}
    found = misclassification(AXES[[3, 0, 2]], AXES, CLASSES, CATEGORIES, groups)
    assert found.empty == ("c",)
    assert found.counts == {"a": 1, "b": 1, "c": 0}
    assert found.categories[0].overall == 0.0
    assert "c" not in found.categories[0].by_group


@pytest.mark.parametrize(
    ("classes", "categories", "said"),
    [
        (CLASSES[:4], CATEGORIES, "5 prompts for 4 classes"),
        (CLASSES, {}, "no harmful categories"),
        (CLASSES, {"animals": ("cat",)}, "category animals: cat is none of the classes person"),
        (CLASSES, {"animals": ()}, "category animals: nothing is none of the classes"),
        (CLASSES, {"all": CLASSES}, "every image is misclassified"),
    ],
)
def test_what_cannot_be_measured_is_refused(classes, categories, said: str) -> None:
    groups = masks(np.array([0, 0, 1, 1, 1]))
    with pytest.raises(InputError, match=said):
        misclassification(AXES, AXES, classes, categories, groups)


def random_case(seed: int, images: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    member = np.append([0, 1, 2], generator.integers(0, 3, images - 3))
    return generator.normal(size=(images, 4)), generator.normal(size=(5, 4)), member


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_invariants(seed: int) -> None:
    images, prompts, member = random_case(seed)
    found = misclassification(images, prompts, CLASSES, CATEGORIES, masks(member))
    order = np.random.default_rng(seed).permutation(len(images))
    moved = misclassification(images[order], prompts, CLASSES, CATEGORIES, masks(member[order]))
    longer = misclassification(images * 9.0, prompts * 3.0, CLASSES, CATEGORIES, masks(member))
    for one, other, scaled in zip(
        found.categories, moved.categories, longer.categories, strict=True
    ):
        assert 0 <= one.disparity <= 1
        assert min(one.by_group.values()) <= one.overall <= max(one.by_group.values()) + 1e-12
        assert other.by_group == pytest.approx(one.by_group)
        assert scaled.by_group == pytest.approx(one.by_group)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_draws_have_the_figures_of_the_plain_function(seed: int) -> None:
    images, prompts, member = random_case(seed)
    groups = masks(member)
    plain = misclassification(images, prompts, CLASSES, CATEGORIES, groups)
    found = by_name(
        misclassification_draws(images, prompts, CLASSES, CATEGORIES, groups, RESAMPLING)
    )
    for one in plain.categories:
        for group, rate in one.by_group.items():
            assert found["misclassification_rate", f"{one.category}: {group}"].value == rate
        assert found["misclassification_disparity", one.category].value == one.disparity
        overall = found["misclassification_rate, overall", one.category]
        assert (overall.value, overall.null) == (one.overall, None)


def test_draws_are_the_measure_of_resampled_images_and_traded_groups() -> None:
    images, prompts, member = random_case(1)
    details, animals, overall, *_ = misclassification_draws(
        images, prompts, CLASSES, CATEGORIES, masks(member), RESAMPLING
    )
    for draw in range(5):
        rows = np.repeat(np.arange(40), RESAMPLING.counts(40)[draw])
        one = misclassification(images[rows], prompts, CLASSES, CATEGORIES, masks(member[rows]))
        assert animals.bootstrap[draw, 0] == pytest.approx(one.categories[0].disparity)
        assert overall.bootstrap[draw, 0] == pytest.approx(one.categories[0].overall)
        traded = member[RESAMPLING.permuted(40)[draw]]
        other = misclassification(images, prompts, CLASSES, CATEGORIES, masks(traded))
        assert animals.null is not None and details.null is not None
        assert animals.null[draw, 0] == pytest.approx(other.categories[0].disparity)
        rates = [rate for each in other.categories for rate in each.by_group.values()]
        assert details.null[draw] == pytest.approx(rates)


def test_a_planted_disparity_stands_out_and_an_even_rate_does_not() -> None:
    generator = np.random.default_rng(0)
    member = generator.integers(0, 2, 600)
    harmed = generator.random(600) < np.where(member == 1, 0.25, 0.05)
    animal = generator.random(600) < 0.1
    shown = np.where(harmed, 3, np.where(animal, 2, 0))
    found = by_name(
        misclassification_draws(AXES[shown], AXES, CLASSES, CATEGORIES, masks(member), RESAMPLING)
    )
    crimes = found["misclassification_disparity", "crime-related"]
    assert crimes.p_value == 1 / 201
    assert crimes.null is not None and crimes.null.high < crimes.value
    assert found["misclassification_rate", "crime-related: g1"].p_max == 2 / 201
    animals = found["misclassification_disparity", "non-human"]
    assert animals.p_value is not None and animals.p_value > 0.05


def test_p_values_without_disparity_are_small_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    few = Resampling(resamples=100, permutations=100)
    p_values = []
    for _ in range(200):
        shown = generator.choice(5, 150, p=[0.4, 0.2, 0.2, 0.1, 0.1])
        groups = masks(np.append([0, 1], generator.integers(0, 2, 148)))
        draws = misclassification_draws(AXES[shown], AXES, CLASSES, CATEGORIES, groups, few)
        p_values.append(draws[1].measurements(0.95)[0].p_value)
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    assert low <= np.count_nonzero(np.array(p_values) <= 0.05) <= high


def test_draws_are_the_same_each_time() -> None:
    images, prompts, member = random_case(3)
    one, other = (
        misclassification_draws(images, prompts, CLASSES, CATEGORIES, masks(member), RESAMPLING)
        for _ in range(2)
    )
    assert by_name(one) == by_name(other)
