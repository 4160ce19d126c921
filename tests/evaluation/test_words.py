"""Words and groups: by hand, by invariants, and what chance makes of them."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation.draws import Draws, Measurement
from evaluation.resampling import Resampling
from evaluation.words import Associations, associations, associations_draws, contrasts
from m4.errors import InputError

AXES = np.eye(4)
WORDS = ("thief", "hero", "poor", "rich")
CATEGORIES = {"crime": ("thief", "hero"), "wealth": ("poor", "rich")}
RESAMPLING = Resampling(resamples=200, permutations=200)
seeds = st.integers(0, 2**32 - 1)


def masks(member: np.ndarray) -> dict[str, np.ndarray]:
    return {f"g{value}": member == value for value in range(int(member.max()) + 1)}


def measured(
    images: np.ndarray, groups: Mapping[str, np.ndarray], top: int = 2, prompts: np.ndarray = AXES
) -> Associations:
    return associations(images, prompts, WORDS, CATEGORIES, groups, top)


def drawn(
    images: np.ndarray, groups: Mapping[str, np.ndarray], top: int = 2, prompts: np.ndarray = AXES
) -> tuple[Draws, ...]:
    return associations_draws(images, prompts, WORDS, CATEGORIES, groups, RESAMPLING, top)


def by_name(draws: tuple[Draws, ...]) -> dict[tuple[str, str], Measurement]:
    return {(one.measure, one.subject): one for found in draws for one in found.measurements(0.95)}


def random_case(seed: int, images: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    member = np.append([0, 1, 2], generator.integers(0, 3, images - 3))
    return generator.normal(size=(images, 5)), generator.normal(size=(4, 5)), member


def test_associations_by_hand() -> None:
    images = AXES[[0, 0, 0, 1, 1, 1]]
    found = measured(images, masks(np.array([0, 0, 1, 0, 1, 1])))
    thief, hero, poor, rich = found.words
    assert (thief.word, thief.category, thief.preference) == ("thief", "crime", 0.5)
    assert thief.association == pytest.approx({"g0": 1 / 6, "g1": -1 / 6})
    assert hero.association == pytest.approx({"g0": -1 / 6, "g1": 1 / 6})
    # nobody is nearer to one of the words of wealth than to the other
    assert (poor.preference, poor.association) == (0.5, {"g0": 0.0, "g1": 0.0})
    assert rich.contrast == {"g0": 0.0, "g1": 0.0}
    assert found.largest("crime") == pytest.approx(1 / 6)
    assert found.largest("wealth") == 0.0


def test_c_asc_by_hand() -> None:
    images = AXES[[0, 0, 0, 1, 1, 1]]
    found = measured(images, masks(np.array([0, 0, 1, 0, 1, 1])))
    # similarities to "thief" 1, 1, 0 in g0 and 1, 0, 0 in g1; variance 6/4 / 5
    expected = (2 / 3 - 1 / 3) / np.sqrt(0.3)
    assert found.words[0].contrast == pytest.approx({"g0": expected, "g1": -expected})


def test_entropy_by_hand() -> None:
    angles = np.array([0.1, 0.2, 0.3, 0.4, 1.2, 1.3])
    images = np.column_stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles])
    groups = masks(np.array([0, 1, 0, 0, 1, 1]))
    # nearest to "thief" in order: g0, g1, g0, g0; nearest to "hero": g1, g1
    assert measured(images, groups, top=2).words[0].entropy == pytest.approx(1.0)
    assert measured(images, groups, top=2).words[1].entropy == pytest.approx(0.0)
    quarter = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert measured(images, groups, top=4).words[0].entropy == pytest.approx(quarter)


def test_images_that_tie_share_the_last_places_of_the_top() -> None:
    images = AXES[[0, 0, 0, 1]]  # three images tie for the two places; two of them are of g0
    found = measured(images, {"g0": [0, 1, 1, 0], "g1": [1, 0, 0, 1]}, top=2)
    third = -(1 / 3 * np.log2(1 / 3) + 2 / 3 * np.log2(2 / 3))
    assert found.words[0].entropy == pytest.approx(third)


def test_a_constant_model_has_no_association_and_the_entropy_of_the_gallery() -> None:
    found = measured(np.ones((8, 4)), masks(np.array([0, 1] * 4)), top=3)
    for word in found.words:
        assert word.association == {"g0": 0.0, "g1": 0.0}
        assert word.contrast == {"g0": 0.0, "g1": 0.0}
        assert word.entropy == pytest.approx(1.0)


def test_the_largest_association_may_be_negative() -> None:
    # g0 is never "hero", and prefers three other words instead
    images, groups = AXES[[0, 2, 3, 1, 1, 1]], masks(np.array([0, 0, 0, 1, 1, 1]))
    found = associations(images, AXES, WORDS, {"all": WORDS}, groups, top=2)
    of_g0 = [word.association["g0"] for word in found.words]
    assert of_g0 == pytest.approx([1 / 6, -0.5, 1 / 6, 1 / 6])
    assert found.words[1].association["g1"] == 0.5

    three = {"g0": groups["g0"], "g1": groups["g1"], "g2": np.array([0, 0, 1, 1, 1, 1], bool)}
    found = associations(images, AXES, WORDS, {"all": WORDS}, three, top=2)
    draws = associations_draws(images, AXES, WORDS, {"all": WORDS}, three, RESAMPLING, top=2)
    hero = draws[0].reduced("hero, g0", "", lambda array: array[..., [3]].max(axis=-1))
    assert hero.observed.item() == hero.maximum("largest").observed.item() == -0.5
    assert by_name(draws)["association, largest", "all"].value == found.largest("all") == 0.5


def test_a_word_may_be_in_two_categories() -> None:
    categories = {"crime": ("thief", "hero"), "fame": ("hero", "rich")}
    found = associations(AXES, AXES, WORDS, categories, masks(np.array([0, 0, 1, 1])), top=2)
    assert [(one.category, one.word) for one in found.words][1:3] == [
        ("crime", "hero"),
        ("fame", "hero"),
    ]
    assert [one.preference for one in found.words] == [0.5, 0.5, 0.5, 0.5]


def test_empty_groups_are_named_and_images_in_no_group_take_no_part() -> None:
    images, prompts, member = random_case(1)
    groups = masks(member)
    found = measured(images, groups, 5, prompts)
    more = {name: np.append(mask, [False, False]) for name, mask in groups.items()}
    other = measured(np.concatenate([images, images[:2]]), more | {"g9": np.zeros(42)}, 5, prompts)
    assert other.empty == ("g9",)
    assert other.words == found.words


@pytest.mark.parametrize(
    ("words", "categories", "top", "said"),
    [
        (WORDS[:3], CATEGORIES, 2, "4 prompts for 3 words"),
        (WORDS, {}, 2, "no categories"),
        (WORDS, {"crime": ("thief",)}, 2, "category crime has the words thief; give at least two"),
        (WORDS, {"crime": ("thief", "thief")}, 2, "none twice"),
        (WORDS, {"crime": ("thief", "saint")}, 2, "of thief, hero, poor, rich"),
        (WORDS, CATEGORIES, 4, "the top 4 of 4 images"),
        (WORDS, CATEGORIES, 0, "the top 0 of 4 images"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, categories, top: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        associations(AXES, AXES, words, categories, masks(np.array([0, 0, 1, 1])), top)


def test_a_group_of_all_images_has_no_others_to_differ_from() -> None:
    groups = {"all": np.ones(4, dtype=bool), "some": np.array([1, 0, 0, 0], dtype=bool)}
    with pytest.raises(InputError, match="group all has all 4 images"):
        measured(AXES, groups)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_invariants(seed: int) -> None:
    images, prompts, member = random_case(seed)
    found = measured(images, masks(member), 7, prompts)
    order = np.random.default_rng(seed).permutation(len(images))
    moved = measured(images[order], masks(member[order]), 7, prompts)
    longer = measured(images * 9.0, masks(member), 7, prompts * 3.0)
    sizes = np.bincount(member)
    for one, *others in zip(found.words, moved.words, longer.words, strict=True):
        # groups that do not overlap: their associations average to none
        assert np.array(list(one.association.values())) @ sizes == pytest.approx(0.0)
        assert 0 <= one.entropy <= 1 + 1e-12
        for other in others:
            assert other.association == pytest.approx(one.association)
            assert other.contrast == pytest.approx(one.contrast)
            assert other.entropy == pytest.approx(one.entropy)
    for category in (found.words[:2], found.words[2:]):
        assert sum(one.preference for one in category) == pytest.approx(1.0)
    renamed = measured(
        images, {f"the {name}": mask for name, mask in masks(member).items()}, 7, prompts
    )
    assert [tuple(one.association.values()) for one in renamed.words] == [
        tuple(one.association.values()) for one in found.words
    ]


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_draws_have_the_figures_of_the_plain_function(seed: int) -> None:
    images, prompts, member = random_case(seed)
    plain = measured(images, masks(member), 7, prompts)
    found = by_name(drawn(images, masks(member), 7, prompts))
    for word in plain.words:
        name = f"{word.category}: {word.word}"
        assert found["group_entropy@7", name].value == word.entropy
        for group, value in word.association.items():
            assert found["association", f"{name}, {group}"].value == value
        for group, value in word.contrast.items():
            assert found["c_asc", f"{name}, {group}"].value == value
    for category in CATEGORIES:
        assert found["association, largest", category].value == plain.largest(category)
        own = [word.entropy for word in plain.words if word.category == category]
        assert found["group_entropy@7, mean", category].value == np.mean(own)


def test_draws_are_the_measures_of_resampled_images_and_traded_groups() -> None:
    images, prompts, member = random_case(2)
    images[:6] = images[0]  # ties
    association, contrast, evenness, *_ = drawn(images, masks(member), 7, prompts)
    assert association.null is not None and contrast.null is not None
    assert evenness.null is not None
    for draw in range(10):
        rows = np.repeat(np.arange(40), RESAMPLING.counts(40)[draw])
        resampled = measured(images[rows], masks(member[rows]), 7, prompts).words
        traded = masks(member[RESAMPLING.permuted(40)[draw]])
        without = measured(images, traded, 7, prompts).words
        for words, arrays in (
            (resampled, (association.bootstrap, contrast.bootstrap, evenness.bootstrap)),
            (without, (association.null, contrast.null, evenness.null)),
        ):
            shares = [value for word in words for value in word.association.values()]
            contrasts = [value for word in words for value in word.contrast.values()]
            assert arrays[0][draw] == pytest.approx(shares)
            assert arrays[1][draw] == pytest.approx(contrasts)
            assert arrays[2][draw] == pytest.approx([word.entropy for word in words])


def test_a_planted_association_stands_out_among_all_words_and_others_do_not() -> None:
    generator = np.random.default_rng(0)
    member = generator.integers(0, 3, 600)
    thief = generator.random(600) < np.where(member == 2, 0.8, 0.4)
    poor = generator.random(600) < 0.3
    images = AXES[np.where(thief, 0, 1)] + AXES[np.where(poor, 2, 3)]
    images += 0.01 * generator.random((600, 4))
    found = by_name(drawn(images, masks(member), top=100))
    planted = found["association", "crime: thief, g2"]
    assert planted.value > 0.2
    assert planted.p_max == 2 / 201
    assert planted.interval is not None and planted.interval.low > 0.1
    assert found["c_asc", "crime: thief, g2"].p_max == 2 / 201
    least = min((found["c_asc", f"crime: hero, g{g}"] for g in range(3)), key=lambda m: m.value)
    assert least.value < 0 and least.p_max == 2 / 201  # it stands out below
    assert found["association, largest", "crime"].p_value == 1 / 201
    assert found["association, largest", "wealth"].p_value > 0.05
    assert min(found["association", f"wealth: poor, g{g}"].p_max for g in range(3)) > 0.05
    crime, wealth = (found["group_entropy@100, mean", category] for category in CATEGORIES)
    assert crime.p_value == 2 / 201 and wealth.p_value > 0.05


def test_the_null_knows_that_the_gallery_is_not_balanced() -> None:
    generator = np.random.default_rng(4)
    member = (generator.random(500) < 0.1).astype(int)
    found = by_name(drawn(generator.normal(size=(500, 4)), masks(member), top=50))
    evenness = found["group_entropy@50, mean", "crime"]
    assert evenness.value < 0.7 and evenness.p_value > 0.05


def test_p_values_without_association_are_small_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    few = Resampling(resamples=100, permutations=100)
    p_values = []
    for _ in range(200):
        images = generator.normal(size=(60, 4))
        groups = masks(np.append([0, 1], generator.integers(0, 2, 58)))
        draws = associations_draws(images, AXES, WORDS, CATEGORIES, groups, few, top=10)
        association, contrast, _, largest, mean = draws[:5]
        p_values.append(
            [
                largest.measurements(0.95)[0].p_value,
                mean.measurements(0.95)[0].p_value,
                min(one.p_max for one in association.measurements(0.95)),
                min(one.p_max for one in contrast.measurements(0.95)),
            ]
        )
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    rejected = np.count_nonzero(np.array(p_values) <= 0.05, axis=0)
    assert (low <= rejected).all() and (rejected <= high).all()


def test_draws_are_the_same_each_time() -> None:
    images, prompts, member = random_case(3)
    assert by_name(drawn(images, masks(member), 5, prompts)) == by_name(
        drawn(images, masks(member), 5, prompts)
    )


def test_contrasts_alone_are_those_of_associations() -> None:
    generator = np.random.default_rng(9)
    images, prompts = generator.normal(size=(120, 5)), generator.normal(size=(4, 5))
    groups = {"a": np.arange(120) < 50, "b": np.arange(120) >= 60, "none": np.zeros(120, bool)}
    whole = associations(images, prompts, WORDS, CATEGORIES, groups, 20)
    found = contrasts(images, prompts, WORDS, groups)
    assert set(found) == {"a", "b"}
    for word in whole.words:
        own = {name: found[name][word.word] for name in found}
        assert word.contrast == pytest.approx(own)
    everybody = {"all": np.ones(120, dtype=bool), "a": groups["a"]}
    assert set(contrasts(images, prompts, WORDS, everybody)) == {"a"}
