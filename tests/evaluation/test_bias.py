"""Representation and association bias, by hand and by invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation.bias import (
    AssociationBias,
    association_bias,
    association_bias_draws,
    representation_bias,
    representation_bias_draws,
)
from evaluation.draws import Draws, Measurement
from evaluation.resampling import Resampling
from m4.errors import InputError

AXES = np.eye(3)
HALVES = {"woman": 0.5, "man": 0.5}
seeds = st.integers(0, 2**32 - 1)


def test_representation_bias_by_hand() -> None:
    images = AXES[[0, 0, 0, 1]]
    found = representation_bias(images, AXES[:2], HALVES)
    assert found.preference == {"woman": 0.75, "man": 0.25}
    assert found.bias == {"woman": 0.25, "man": 0.25}
    assert found.largest == 0.25


def test_representation_bias_is_against_the_targets_not_against_a_half() -> None:
    found = representation_bias(AXES[[0, 0, 0, 1]], AXES[:2], {"young": 0.75, "old": 0.25})
    assert found.largest == 0.0


def test_largest_of_three_values() -> None:
    targets = {"a": 0.25, "b": 0.25, "c": 0.5}
    found = representation_bias(AXES[[0, 0, 0, 2]], AXES, targets)
    assert found.bias == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert found.largest == 0.5


def test_a_tie_favours_no_prompt() -> None:
    found = representation_bias(AXES[[2, 2, 0]], AXES[:2], HALVES)  # two images know neither
    assert found.preference["woman"] == pytest.approx(2 / 3)


def test_a_constant_model_prefers_all_alike() -> None:
    found = representation_bias(np.ones((7, 5)), np.ones((3, 5)), dict.fromkeys("abc", 1 / 3))
    assert found.preference == pytest.approx(dict.fromkeys("abc", 1 / 3))
    assert found.largest == pytest.approx(0.0)


def test_negative_similarities_are_compared_as_they_are() -> None:
    prompts = np.array([[-1.0, 0.0], [-1.0, -1.0]])  # both point away from the images
    found = representation_bias(np.array([[1.0, 0.5]] * 4), prompts, HALVES)
    assert found.preference == {"woman": 1.0, "man": 0.0}


def test_a_long_embedding_does_not_win_by_its_length() -> None:
    images = np.array([[1.0, 0.1]] * 3)
    prompts = np.array([[1.0, 0.0], [100.0, 100.0]])  # raw dot product would prefer the second
    assert representation_bias(images, prompts, HALVES).preference["woman"] == 1.0


@pytest.mark.parametrize(
    ("prompts", "targets", "said"),
    [
        (AXES, HALVES, "3 prompts for 2 targets"),
        (AXES[:1], {"woman": 1.0}, "one value alone"),
        (AXES[:2], {"glasses": 0.3, "beard": 0.2}, "sum to 0.5"),
    ],
)
def test_what_cannot_compete_is_refused(
    prompts: np.ndarray, targets: dict[str, float], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        representation_bias(AXES, prompts, targets)


def test_a_bad_image_is_named() -> None:
    with pytest.raises(InputError, match="images: row 1 is all zeros"):
        representation_bias(np.array([[1.0, 0.0], [0.0, 0.0]]), AXES[:2, :2], HALVES)


def measured(
    images: np.ndarray, women: list[int], men: list[int], **more: list[int]
) -> AssociationBias:
    groups = {
        name: np.isin(np.arange(len(images)), rows)
        for name, rows in {"woman": women, "man": men, **more}.items()
    }
    return association_bias(
        images,
        AXES,
        ("nurse", "doctor", "librarian"),
        (("nurse", "doctor"), ("doctor", "librarian")),
        groups,
    )


def test_association_bias_by_hand() -> None:
    images = AXES[[0, 0, 0, 1, 1, 2]]
    found = measured(images, women=[0, 1, 2, 3], men=[4, 5])
    nurse, doctor = found.pairs
    assert nurse.preference == {"woman": 0.75, "man": 0.25}  # image 5 knows neither: a half
    assert nurse.difference == 0.5
    assert doctor.preference == {"woman": 0.625, "man": 0.5}
    assert doctor.difference == 0.125
    assert (found.mean, found.largest) == (0.3125, 0.5)
    assert found.counts == {"woman": 4, "man": 2}


def test_the_largest_of_all_pairs_of_groups_counts() -> None:
    images = AXES[[0, 0, 0, 1, 1, 1]]
    found = measured(images, women=[0, 3], men=[1, 2], other=[4, 5])
    assert found.pairs[0].preference == {"woman": 0.5, "man": 1.0, "other": 0.0}
    assert found.pairs[0].difference == 1.0


def test_an_image_may_be_in_two_groups() -> None:
    found = measured(AXES[[0, 1]], women=[0, 1], men=[1])
    assert found.pairs[0].preference == {"woman": 0.5, "man": 0.0}


def test_images_in_no_group_do_not_count() -> None:
    images = AXES[[0, 1, 2, 2, 2]]
    assert measured(images, [0], [1]).pairs == measured(images[:2], [0], [1]).pairs


def test_an_empty_group_is_named_and_left_out() -> None:
    found = measured(AXES[[0, 0, 1]], women=[0, 1], men=[2], other=[])
    assert found.empty == ("other",)
    assert found.counts["other"] == 0
    assert "other" not in found.pairs[0].preference
    assert found.pairs[0].difference == 1.0


@pytest.mark.parametrize(("women", "men"), [([], []), ([0, 1], [])])
def test_without_two_groups_there_is_nothing_to_compare(women: list[int], men: list[int]) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        measured(AXES, women, men)


@pytest.mark.parametrize("pair", [("nurse", "pilot"), ("nurse", "nurse")])
def test_a_pair_is_of_two_known_labels(pair: tuple[str, str]) -> None:
    groups = {"a": np.array([True, False, False]), "b": np.array([False, True, True])}
    with pytest.raises(InputError, match="two different labels of nurse, doctor, clerk"):
        association_bias(AXES, AXES, ("nurse", "doctor", "clerk"), [pair], groups)


def test_no_pairs_and_misshapen_inputs_are_refused() -> None:
    groups = {"a": np.ones(3, dtype=bool), "b": np.ones(3, dtype=bool)}
    with pytest.raises(InputError, match="no pairs"):
        association_bias(AXES, AXES, ("x", "y", "z"), [], groups)
    with pytest.raises(InputError, match="3 prompts for 2 labels"):
        association_bias(AXES, AXES, ("x", "y"), [("x", "y")], groups)
    with pytest.raises(InputError, match=r"group b has shape \(2,\) for 3 images"):
        short = groups | {"b": np.ones(2, dtype=bool)}
        association_bias(AXES, AXES, ("x", "y", "z"), [("x", "y")], short)


def test_a_constant_model_has_no_association_bias() -> None:
    found = measured(np.ones((6, 3)), women=[0, 1, 2], men=[3, 4, 5])
    assert found.largest == 0.0
    assert found.pairs[0].preference == {"woman": 0.5, "man": 0.5}


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    images, prompts = generator.normal(size=(30, 4)), generator.normal(size=(3, 4))
    member = generator.integers(0, 3, 30)
    member[:3] = range(3)
    return images, prompts, {f"g{value}": member == value for value in range(3)}


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_association_bias_invariants(seed: int) -> None:
    images, prompts, groups = random_case(seed)
    generator = np.random.default_rng(seed)
    names, pairs = ("x", "y", "z"), (("x", "y"), ("y", "z"), ("x", "z"))
    found = association_bias(images, prompts, names, pairs, groups)
    assert 0.0 <= found.mean <= found.largest <= 1.0

    order = generator.permutation(30)
    shuffled = {name: mask[order] for name, mask in groups.items()}
    moved = association_bias(images[order], prompts, names, pairs, shuffled)
    scale = generator.uniform(0.01, 100, (30, 1))
    longer = association_bias(images * scale, prompts * 7.0, names, pairs, groups)
    assert np.allclose([p.difference for p in moved.pairs], [p.difference for p in found.pairs])
    assert longer == found

    turned = association_bias(images, prompts, names, [(b, a) for a, b in pairs], groups)
    for there, back in zip(found.pairs, turned.pairs, strict=True):
        assert there.difference == pytest.approx(back.difference)
        for group, share in there.preference.items():
            assert share == pytest.approx(1.0 - back.preference[group])


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_representation_bias_invariants(seed: int) -> None:
    images, prompts, _ = random_case(seed)
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(3))
    targets = dict(zip("abc", shares.tolist(), strict=True))
    found = representation_bias(images, prompts, targets)
    assert 0.0 <= found.largest <= 1.0
    assert sum(found.preference.values()) == pytest.approx(1.0)

    order = generator.permutation(30)
    assert representation_bias(images[order], prompts, targets).bias == pytest.approx(found.bias)
    longer = images * generator.uniform(0.01, 100, (30, 1))
    assert representation_bias(longer, prompts * 3.0, targets).bias == pytest.approx(found.bias)
    renamed = {name: targets[name] for name in "bca"}
    swapped = representation_bias(images, prompts[[1, 2, 0]], renamed)
    assert swapped.bias == pytest.approx(found.bias)


RESAMPLING = Resampling(resamples=200, permutations=200)
PAIRS = (("x", "y"), ("y", "z"), ("x", "z"))


def only(draws: Draws) -> Measurement:
    (measured,) = draws.measurements(0.95)
    return measured


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_draws_have_the_figures_of_the_plain_functions(seed: int) -> None:
    images, prompts, groups = random_case(seed)
    plain = association_bias(images, prompts, "xyz", PAIRS, groups)
    details, mean, largest = association_bias_draws(
        images, prompts, "xyz", PAIRS, groups, RESAMPLING
    )
    assert details.observed.tolist() == [pair.difference for pair in plain.pairs]
    assert details.names == ("x or y", "y or z", "x or z")
    assert (mean.observed.item(), largest.observed.item()) == (plain.mean, plain.largest)

    targets = {"a": 0.5, "b": 0.3, "c": 0.2}
    plain_shares = representation_bias(images, prompts, targets)
    details, largest = representation_bias_draws(images, prompts, targets, RESAMPLING)
    assert details.observed.tolist() == list(plain_shares.bias.values())
    assert details.names == ("a", "b", "c")
    assert largest.observed.item() == plain_shares.largest


def test_a_resample_of_draws_is_the_measure_of_the_images_it_holds() -> None:
    images, prompts, groups = random_case(3)
    details, mean, largest = association_bias_draws(
        images, prompts, "xyz", PAIRS, groups, RESAMPLING
    )
    shares = representation_bias_draws(images, prompts, {"a": 0.5, "b": 0.3, "c": 0.2}, RESAMPLING)[
        0
    ]
    for draw, counts in enumerate(RESAMPLING.counts(30)[:5]):
        rows = np.repeat(np.arange(30), counts)
        resampled = {name: mask[rows] for name, mask in groups.items()}
        found = association_bias(images[rows], prompts, "xyz", PAIRS, resampled)
        assert details.bootstrap[draw] == pytest.approx([pair.difference for pair in found.pairs])
        assert mean.bootstrap[draw] == pytest.approx(found.mean)
        assert largest.bootstrap[draw] == pytest.approx(found.largest)
        again = representation_bias(images[rows], prompts, {"a": 0.5, "b": 0.3, "c": 0.2})
        assert shares.bootstrap[draw] == pytest.approx(list(again.bias.values()))


def test_a_draw_of_the_null_is_the_measure_where_groups_were_traded() -> None:
    images, prompts, groups = random_case(4)
    details, _, _ = association_bias_draws(images, prompts, "xyz", PAIRS, groups, RESAMPLING)
    for draw, order in enumerate(RESAMPLING.permuted(30)[:5]):
        traded = {name: mask[order] for name, mask in groups.items()}
        found = association_bias(images, prompts, "xyz", PAIRS, traded)
        assert details.null is not None
        assert details.null[draw] == pytest.approx([pair.difference for pair in found.pairs])


def test_images_in_no_group_do_not_count_whatever_they_show() -> None:
    images, prompts, groups = random_case(5)
    longer = {name: np.append(mask, np.zeros(30, dtype=bool)) for name, mask in groups.items()}
    found = [
        association_bias_draws(
            np.concatenate([images, others]), prompts, "xyz", PAIRS, longer, RESAMPLING
        )[0]
        for others in (-images, images[::-1])
    ]
    alone = association_bias_draws(images, prompts, "xyz", PAIRS, groups, RESAMPLING)[0]
    np.testing.assert_array_equal(found[0].observed, alone.observed)
    for part in ("observed", "bootstrap", "null"):
        np.testing.assert_array_equal(getattr(found[0], part), getattr(found[1], part))
    assert found[0].images == 30
    assert found[0].null is not None and alone.null is not None
    assert found[0].null.mean() == pytest.approx(alone.null.mean(), rel=0.1)


def test_attributes_known_of_nearly_the_same_images_are_resampled_and_traded_together() -> None:
    """The mean over two attributes of the same groups varies as much as one of them."""
    generator = np.random.default_rng(6)
    images, prompts = generator.normal(size=(400, 4)), generator.normal(size=(3, 4))
    woman = np.arange(400) < 200
    known = np.arange(400) != 399  # one image is not known of the second attribute

    def of(mask: np.ndarray) -> Draws:
        groups = {"woman": woman & mask, "man": ~woman & mask}
        return association_bias_draws(images, prompts, "xyz", PAIRS, groups, RESAMPLING)[0]

    one, other = of(np.ones(400, dtype=bool)), of(known)
    for part in ("bootstrap", "null"):
        pair = [getattr(each, part)[:, 0] for each in (one, other)]
        assert np.corrcoef(pair)[0, 1] > 0.98


def test_attributes_with_equal_targets_have_nulls_of_their_own() -> None:
    images = np.random.default_rng(7).normal(size=(200, 4))
    nulls = [
        representation_bias_draws(
            images, np.eye(4)[:2], {f"{name}.a": 0.5, f"{name}.b": 0.5}, RESAMPLING
        )[1].null
        for name in ("gender", "age")
    ]
    assert nulls[0] is not None and nulls[1] is not None
    assert abs(np.corrcoef(nulls[0][:, 0], nulls[1][:, 0])[0, 1]) < 0.3


def test_a_group_that_a_resample_misses_leaves_it_undefined() -> None:
    images = AXES[[0, 0, 0, 0, 1]]
    groups = {"many": np.array([1, 1, 1, 1, 0], bool), "one": np.array([0, 0, 0, 0, 1], bool)}
    details, _, _ = association_bias_draws(images, AXES, "xyz", [("x", "y")], groups, RESAMPLING)
    without = RESAMPLING.counts(5)[:, 4] == 0
    assert 0 < without.sum() < 200
    assert np.isnan(details.bootstrap[without]).all()
    assert np.isnan(details.bootstrap).mean() < 0.5
    assert only(details).interval is None


def test_a_planted_stereotype_stands_out_and_a_group_drawn_at_random_does_not() -> None:
    generator = np.random.default_rng(0)
    woman = generator.random(400) < 0.5
    nurse = generator.random(400) < np.where(woman, 0.7, 0.3)
    images = AXES[np.where(nurse, 0, 1)]
    groups = {"woman": woman, "man": ~woman}
    details, _, _ = association_bias_draws(images, AXES, "xyz", [("x", "y")], groups, RESAMPLING)
    found = only(details)
    assert found.p_value == 1 / 201
    assert found.null is not None and found.null.high < found.value
    assert found.interval is not None and found.interval.low < 0.4 < found.interval.high

    random = generator.random(400) < 0.5
    details, _, _ = association_bias_draws(
        images, AXES, "xyz", [("x", "y")], {"a": random, "b": ~random}, RESAMPLING
    )
    assert only(details).p_value > 0.05


def test_the_null_of_representation_bias_is_drawn_from_the_targets() -> None:
    targets = {"young": 0.75, "old": 0.25}
    fair = AXES[np.repeat([0, 1], [150, 50])]
    details, largest = representation_bias_draws(fair, AXES[:2], targets, RESAMPLING)
    assert (largest.null_kind, largest.observed.item()) == ("multinomial", 0.0)
    assert only(largest).p_value == 1.0
    assert details.null is not None
    # E|c/n - pi| of a binomial, by its normal approximation
    expected = np.sqrt(2 / np.pi * 0.75 * 0.25 / 200)
    assert details.null.mean(axis=0) == pytest.approx([expected] * 2, rel=0.15)
    equal = AXES[np.repeat([0, 1], 100)]
    assert only(representation_bias_draws(equal, AXES[:2], targets, RESAMPLING)[1]).p_value < 0.01


def test_p_values_without_bias_are_small_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    few = Resampling(resamples=100, permutations=100)
    of_groups, of_values = [], []
    for _ in range(200):
        preferred = generator.integers(0, 3, 90)
        woman = generator.random(90) < 0.4
        of_groups.append(
            only(
                association_bias_draws(
                    AXES[preferred], AXES, "xyz", PAIRS, {"a": woman, "b": ~woman}, few
                )[2]
            ).p_value
        )
        thirds = dict.fromkeys("xyz", 1 / 3)
        of_values.append(
            only(representation_bias_draws(AXES[preferred], AXES, thirds, few)[1]).p_value
        )
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    for p_values in (of_groups, of_values):
        assert low <= np.count_nonzero(np.array(p_values) <= 0.05) <= high
        assert 0.4 < np.mean(p_values) < 0.65


def test_draws_are_the_same_each_time_and_differ_by_seed() -> None:
    images, prompts, groups = random_case(6)
    first, again, other = (
        association_bias_draws(images, prompts, "xyz", PAIRS, groups, resampling)[0]
        for resampling in (RESAMPLING, RESAMPLING, RESAMPLING.model_copy(update={"seed": 1}))
    )
    assert np.array_equal(first.bootstrap, again.bootstrap)
    assert first.null is not None and again.null is not None and other.null is not None
    assert np.array_equal(first.null, again.null)
    assert not np.array_equal(first.bootstrap, other.bootstrap)
    assert not np.array_equal(first.null, other.null)


def test_groups_by_other_names_have_the_same_draws() -> None:
    images, prompts, groups = random_case(7)
    renamed = {f"the {name}": mask for name, mask in groups.items()}
    one = association_bias_draws(images, prompts, "xyz", PAIRS, groups, RESAMPLING)[0]
    other = association_bias_draws(images, prompts, "xyz", PAIRS, renamed, RESAMPLING)[0]
    assert np.array_equal(one.bootstrap, other.bootstrap)
    assert one.null is not None and np.array_equal(one.null, other.null)
