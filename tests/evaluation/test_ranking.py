"""Rankings of galleries, and what is measured of them under resampling and without bias."""

import math
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import rank_draws
from evaluation.embeddings import similarity
from evaluation.rank_measures import bias_at_k, max_skew, min_skew, ndkl, null_distribution
from evaluation.ranking import Galleries, RetrievalSkew, rank, retrieval_skew
from evaluation.resampling import Resampling
from m4.errors import InputError

FEW = Resampling(resamples=100, permutations=100)
AXES = np.eye(2)


def at_angles(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane; the smaller the angle, the more similar to AXES[0]."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def people(images: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Random images of three groups, of which "a" leans to the first axis."""
    random = np.random.default_rng(seed)
    groups = random.choice(["a", "b", "c"], images, p=[0.5, 0.3, 0.2])
    embeddings = random.normal(size=(images, 4))
    embeddings[:, 0] += groups == "a"
    return embeddings, groups.tolist()


def wide_prompts(prompts: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(prompts, 4))


# Order.


def test_the_most_similar_image_comes_first() -> None:
    images = at_angles(50, 10, 80, 30)
    assert rank(images, AXES).tolist() == [[1, 3, 0, 2], [2, 0, 3, 1]]
    assert rank(images, AXES).dtype == np.int32


def test_length_does_not_matter_but_to_raw_products() -> None:
    images = at_angles(50, 10, 80) * np.array([[9], [1], [1]])
    assert rank(images, AXES[:1]).tolist() == [[1, 0, 2]]
    assert rank(images, AXES[:1], compat="oxai").tolist() == [[0, 1, 2]]
    raw = np.argsort(-(images @ AXES[0]))
    assert raw.tolist() == [0, 1, 2]


@given(st.integers(1, 40), st.integers(0, 1000))
def test_rankings_are_permutations_in_falling_order(images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    embeddings, prompts = random.normal(size=(images, 3)), random.normal(size=(4, 3))
    scores = similarity(embeddings, prompts).T
    order = rank(embeddings, prompts, seed=seed)
    assert np.array_equal(np.sort(order), np.tile(np.arange(images), (4, 1)))
    assert (np.diff(np.take_along_axis(scores, order, axis=1)) <= 1e-9).all()


def test_no_place_in_the_file_is_favoured_among_ties() -> None:
    """Equal images differ by rounding only, in the order of their rows."""
    image = np.random.default_rng(0).normal(size=64)
    order = rank(np.tile(image, (10, 1)), np.random.default_rng(1).normal(size=(4000, 64)))
    places = np.stack([np.bincount(order[:, place], minlength=10) for place in range(10)])
    assert np.abs(places - 400).max() < 5 * math.sqrt(400)


def test_ties_stay_in_their_place_and_follow_from_the_seed() -> None:
    images = at_angles(50, 50, 50, 10, 80, 80)
    prompts = np.tile(AXES[0], (50, 1))
    order = rank(images, prompts)
    assert (order[:, 0] == 3).all()
    assert (np.sort(order[:, 1:4]) == [0, 1, 2]).all()
    assert (np.sort(order[:, 4:]) == [4, 5]).all()
    assert len(np.unique(order, axis=0)) == 12
    assert np.array_equal(order, rank(images, prompts))
    assert not np.array_equal(order, rank(images, prompts, seed=1))


def test_near_ties_are_ties_wherever_they_lie() -> None:
    """A grid of scores would part two neighbours on both sides of one of its edges."""
    edge = 0.5 * 1e-9 * 1001  # between two steps of a grid of 1e-9
    cosines = np.array([edge - 1e-12, edge + 1e-12])
    assert len(set(np.round(cosines / 1e-9))) == 2
    images = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    first = rank(images, np.tile(AXES[0], (200, 1)))[:, 0]
    assert 60 < first.sum() < 140


def test_scores_further_apart_than_a_tie_are_never_swapped() -> None:
    images = np.stack([[0.5, 0.5 + 1e-7], np.sqrt(1 - np.array([0.5, 0.5 + 1e-7]) ** 2)], axis=1)
    assert (rank(images, np.tile(AXES[0], (50, 1)))[:, 0] == 1).all()


# Figures.


def figures(found: RetrievalSkew) -> dict[str, Any]:
    """All draws, by measure."""
    measures = [found.max_skew, found.min_skew, found.ndkl, found.bias, found.absolute_bias]
    parts = [part for each in measures if each for part in (each.each, each.mean, each.largest)]
    return {part.measure: part for part in parts if part}


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(8, 30),
    seed=st.integers(0, 1000),
    k=st.integers(1, 7),
    reference=st.sampled_from(
        ["uniform", "empirical", {"a": 0.2, "b": 0.3, "c": 0.4, "absent": 0.1}]
    ),
)
def test_figures_are_those_of_one_ranking_at_a_time(
    images: int, seed: int, k: int, reference: Any
) -> None:
    embeddings, groups = people(images, seed)
    groups[:2] = ["a", "b"]
    prompts = wide_prompts(3, seed)
    found, top = (
        retrieval_skew(
            embeddings, prompts, groups, k=k, ndkl_k=depth, reference=reference, resampling=FEW
        )
        for depth in (None, k)
    )
    assert (found.ndkl.each.measure[:5], top.ndkl.each.measure[:6]) == ("ndkl,", f"ndkl@{k}")
    copies = FEW.counts(images)
    orders = rank(embeddings, prompts)
    resampled_reference = reference
    if reference == "uniform":  # of the groups that there are, not of those in a resample
        resampled_reference = {group: 1 / len(set(groups)) for group in groups}
    for prompt, order in enumerate(orders):
        ranked = [groups[item] for item in order]
        assert np.isclose(found.max_skew.each.observed[prompt], max_skew(ranked, k, reference))
        assert np.isclose(found.min_skew.each.observed[prompt], min_skew(ranked, k, reference))
        assert np.isclose(found.ndkl.each.observed[prompt], ndkl(ranked, reference))
        assert np.isclose(top.ndkl.each.observed[prompt], ndkl(ranked, reference, k))
        for draw in range(0, 100, 25):
            again = [groups[item] for item in order for _ in range(copies[draw, item])]
            assert len(again) == images
            if len(set(again)) < 2:
                continue
            wanted = max_skew(again, k, resampled_reference)
            assert np.isclose(found.max_skew.each.bootstrap[draw, prompt], wanted)
            wanted = min_skew(again, k, resampled_reference)
            assert np.isclose(found.min_skew.each.bootstrap[draw, prompt], wanted)
            wanted = ndkl(again, resampled_reference)
            assert np.isclose(found.ndkl.each.bootstrap[draw, prompt], wanted)
            wanted = ndkl(again, resampled_reference, k)
            assert np.isclose(top.ndkl.each.bootstrap[draw, prompt], wanted)


def test_every_prompt_is_measured_not_the_last_alone() -> None:
    images, groups = people(60)
    prompts = np.vstack([np.eye(4)[0], -np.eye(4)[0], np.eye(4)[1]])
    found = retrieval_skew(images, prompts, groups, k=10, resampling=FEW)
    wanted = [max_skew([groups[i] for i in order], 10) for order in rank(images, prompts)]
    assert found.max_skew.each.observed == pytest.approx(wanted)
    assert found.max_skew.mean.observed == pytest.approx([np.mean(wanted)])
    assert np.mean(wanted) != pytest.approx(wanted[-1])
    assert found.max_skew.largest is not None
    assert found.max_skew.largest.observed == pytest.approx([max(wanted)])
    assert found.max_skew.each.names == ("0", "1", "2")


def test_raw_products_measure_another_bias() -> None:
    """Long images of one group come first by raw product, whatever they show."""
    images, groups = people(60)
    images = images * np.where(np.array(groups) == "c", 100.0, 1.0)[:, None]
    prompts = wide_prompts(5)
    strict, raw = (
        retrieval_skew(images, prompts, groups, k=5, resampling=FEW, compat=compat)
        for compat in (None, "oxai")
    )
    assert raw.max_skew.mean.observed > strict.max_skew.mean.observed + 0.2
    assert raw.max_skew.each.measure == "max_skew@5, uniform, oxai"


def test_ties_never_bring_more_than_k_but_in_published_code() -> None:
    """Six images, four of them tied for the second place: the published top 2 has five."""
    images, groups = at_angles(10, 40, 40, 40, 40, 80), ["a", "a", "a", "a", "b", "b"]
    prompts = np.tile(AXES[0], (400, 1))
    strict = retrieval_skew(images, prompts, groups, k=2, resampling=FEW)
    # "a" and one of four: "a" thrice, "b" once.
    both, one = math.log(1 / 0.5), math.log(0.5 / 0.5)
    shown = strict.max_skew.each.observed
    assert np.isclose(shown, both).sum() + np.isclose(shown, one).sum() == 400
    assert np.isclose(shown, both).mean() == pytest.approx(0.75, abs=0.1)
    published = retrieval_skew(images, prompts, groups, k=2, resampling=FEW, compat="oxai")
    assert published.max_skew.each.observed == pytest.approx(np.full(400, math.log(4 / 2 / 0.5)))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), k=st.integers(1, 12), reference=st.sampled_from(["u", "e"]))
def test_compat_is_the_published_loop_under_ties_too(seed: int, k: int, reference: str) -> None:
    random = np.random.default_rng(seed)
    images = at_angles(*random.integers(0, 5, 12)) * random.integers(1, 3, (12, 1))
    groups = ["a", "b", *random.choice(["a", "b", "c"], 10).tolist()]
    found = retrieval_skew(
        images,
        AXES[:1],
        groups,
        k=k,
        resampling=FEW,
        compat="oxai",
        reference="uniform" if reference == "u" else "empirical",
    )
    copies = np.vstack([np.ones(12, dtype=int), FEW.counts(12)[:5]])
    shown = np.append(found.max_skew.each.observed, found.max_skew.each.bootstrap[:5])
    for times, figure in zip(copies, shown, strict=True):
        scores = np.repeat(images @ AXES[0], times)
        there = np.repeat(groups, times)
        worst = np.sort(scores)[::-1][k - 1]
        top, sizes = Counter(there[scores >= worst - 1e-9]), Counter(there)
        largest = 0.0
        for group in set(groups) if reference == "u" else sizes:
            share = 1 / len(set(groups)) if reference == "u" else sizes[group] / 12
            largest = max(largest, math.log((top[group] / k or 1 / k) / share))
        assert figure == pytest.approx(largest)


def test_published_ndkl_goes_on_among_those_that_tie_with_the_last() -> None:
    """Top 1 of three that tie: the sum is over all three, the norm of the first alone."""
    images, groups = at_angles(10, 10, 10, 80), ["a", "a", "a", "b"]
    strict, published = (
        retrieval_skew(images, AXES[:1], groups, k=1, ndkl_k=1, resampling=FEW, compat=compat)
        for compat in (None, "oxai")
    )
    assert strict.ndkl.each.observed == pytest.approx([math.log(2)])
    norms = sum(1 / math.log2(i + 1) for i in (1, 2, 3))
    assert published.ndkl.each.observed == pytest.approx([math.log(2) * norms])


def test_bias_of_two_groups_has_a_sign() -> None:
    images, groups = at_angles(10, 20, 30, 40, 50), ["man", "man", "woman", "man", "woman"]
    prompts = AXES
    found = retrieval_skew(images, prompts, groups, k=3, resampling=FEW)
    assert found.bias is not None and found.absolute_bias is not None
    assert found.bias.each.measure == "bias@3, man over woman"
    assert found.bias.each.observed == pytest.approx([1 / 3, -1 / 3])
    assert found.bias.mean.observed == pytest.approx([0])
    assert found.absolute_bias.mean.observed == pytest.approx([1 / 3])
    assert found.bias.largest is None and found.bias.each.tail == "both"
    ranked = [groups[item] for item in rank(images, prompts)[0]]
    assert found.bias.each.observed[0] == pytest.approx(bias_at_k(ranked, 3, "man", "woman"))
    other = retrieval_skew(images, prompts, groups, k=3, resampling=FEW, first="woman")
    assert other.bias is not None
    assert other.bias.each.observed == pytest.approx([-1 / 3, 1 / 3])
    assert other.bias.each.measure == "bias@3, woman over man"


def test_three_groups_have_no_bias_at_k_unless_two_are_named() -> None:
    images, groups = people(20)
    found = retrieval_skew(images, wide_prompts(2), groups, k=5, resampling=FEW)
    assert found.bias is None and found.absolute_bias is None


def test_bias_of_two_named_groups_is_the_same_whatever_others_there_are() -> None:
    images, groups = people(60)
    prompts = wide_prompts(3)
    found = retrieval_skew(images, prompts, groups, k=10, resampling=FEW, first="c", second="a")
    assert found.bias is not None and found.absolute_bias is not None
    assert found.bias.each.measure == "bias@10, c over a"
    copies = FEW.counts(60)
    traded = np.array(groups)[FEW.permuted(60, np.zeros(60))]
    assert found.bias.each.null is not None
    for prompt, order in enumerate(rank(images, prompts)):
        wanted = bias_at_k([groups[item] for item in order], 10, "c", "a")
        assert found.bias.each.observed[prompt] == pytest.approx(wanted)
        assert found.absolute_bias.each.observed[prompt] == pytest.approx(abs(wanted))
        for draw in range(20):
            again = [groups[item] for item in order for _ in range(copies[draw, item])]
            wanted = bias_at_k(again, 10, "c", "a")
            assert found.bias.each.bootstrap[draw, prompt] == pytest.approx(wanted)
            wanted = bias_at_k(traded[draw][order], 10, "c", "a")
            assert found.bias.each.null[draw, prompt] == pytest.approx(wanted)
    sizes = Counter(groups)
    apart = (sizes["a"] - sizes["c"]) / (sizes["a"] + sizes["c"])
    assert found.absolute_bias.each.unbiased == pytest.approx(np.full(3, apart))
    assert found.bias.each.smallest_group == sizes["c"] < sizes["a"]
    # Against the same prompts, b's images still take places in the top.
    without = [row for row, group in enumerate(groups) if group != "b"]
    two = retrieval_skew(
        images[without], prompts, [groups[row] for row in without], k=10, resampling=FEW
    )
    assert two.bias is not None
    assert not np.allclose(-two.bias.each.observed, found.bias.each.observed)


def test_the_second_of_two_groups_says_which_is_the_first() -> None:
    images, groups, _ = offices()
    found = retrieval_skew(images, wide_prompts(2), groups, k=5, resampling=FEW, second="man")
    assert found.bias is not None
    assert found.bias.each.measure == "bias@5, woman over man"


def test_a_gallery_with_neither_of_the_two_groups_has_no_bias() -> None:
    images = np.random.default_rng(0).normal(size=(20, 4))
    groups = ["a", "b"] * 5 + ["c", "d"] * 5
    places = Galleries(["lab"] * 10 + ["shop"] * 10, ["lab", "shop"])
    found = retrieval_skew(
        images,
        wide_prompts(2),
        groups,
        k=3,
        resampling=FEW,
        galleries=places,
        first="a",
        second="b",
    )
    assert found.bias is not None and found.absolute_bias is not None
    assert found.bias.each.observed[0] != 0 and found.bias.each.observed[1] == 0
    assert found.absolute_bias.each.unbiased == pytest.approx([0.0, 0.0])


# The smallest skew.


def test_the_smallest_skew_stands_out_below_its_null() -> None:
    images, groups = people(300)
    images[:, 0] += 3 * (np.array(groups) == "a")
    prompts = np.vstack([np.eye(4)[0], wide_prompts(2)])
    found = retrieval_skew(images, prompts, groups, k=30, resampling=FEW).min_skew
    assert found.each.measure == "min_skew@30, uniform"
    assert found.each.bounds == (-np.inf, 0.0)
    assert (found.each.better, found.each.tail) == ("nearer 0", "lower")
    shown = found.each.measurements(0.95)[0]
    assert shown.null is not None and shown.value < shown.null.low
    assert shown.p_value == pytest.approx(1 / 101)


def test_a_smallest_skew_nearer_0_than_chance_is_no_sign_of_bias() -> None:
    """Two groups in turn: no random ranking has more of both in its top."""
    found = retrieval_skew(
        at_angles(*range(80)), AXES[:1], ["a", "b"] * 40, k=30, resampling=FEW
    ).min_skew
    shown = found.each.measurements(0.95)[0]
    assert shown.value == pytest.approx(0) and shown.p_value == 1.0
    assert shown.null is not None and shown.null.mean < -0.05


def test_the_largest_of_the_smallest_skews_is_not_given() -> None:
    images, groups = people(60)
    found = retrieval_skew(images, wide_prompts(3), groups, k=10, resampling=FEW)
    assert found.min_skew.largest is None
    assert found.max_skew.largest is not None and found.ndkl.largest is not None
    assert found.min_skew.mean.observed == pytest.approx([found.min_skew.each.observed.mean()])
    # Whether the most negative prompt stands out, the maximum statistic says.
    measured = found.min_skew.each.measurements(0.95)
    assert all(each.p_max is not None and each.p_max >= each.p_value for each in measured)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    k=st.integers(1, 11),
    reference=st.sampled_from(
        ["uniform", "empirical", {"a": 0.2, "b": 0.3, "c": 0.4, "absent": 0.1}]
    ),
    compat=st.sampled_from([None, "oxai"]),
)
def test_no_smallest_skew_is_beyond_its_bounds(
    seed: int, k: int, reference: Any, compat: Any
) -> None:
    images = at_angles(*np.random.default_rng(seed).integers(0, 6, 12) * 10)
    groups = ["a", "b", *people(10, seed)[1]]
    found = retrieval_skew(
        images, AXES, groups, k=k, reference=reference, compat=compat, resampling=FEW
    ).min_skew
    assert found.each.null is not None
    most = max(found.each.observed.max(), found.each.null.max())
    assert most <= found.each.bounds[1] + 1e-12
    for shown in found.each.measurements(0.95):
        assert shown.interval is not None
        assert shown.interval.low <= shown.value + 1e-12 <= shown.interval.high + 2e-12


def test_a_top_smaller_than_the_groups_are_many_has_a_smallest_skew_above_0() -> None:
    images, groups = at_angles(10, 20, 30, 40), ["a", "b", "c", "a"]
    one, three = (
        retrieval_skew(images, AXES[:1], groups, k=k, resampling=FEW).min_skew.each for k in (1, 3)
    )
    assert one.observed == pytest.approx([math.log(3)]) and one.bounds[1] == np.inf
    assert three.observed == pytest.approx([0.0]) and three.bounds[1] == 0.0


def test_a_group_that_one_gallery_lacks_is_not_its_smallest() -> None:
    images = np.random.default_rng(0).normal(size=(24, 4))
    groups = ["a", "b"] * 6 + ["a", "b", "c"] * 4
    places = ["small"] * 12 + ["large"] * 12
    prompts = wide_prompts(2)
    for reference in ("uniform", "empirical"):
        found = retrieval_skew(
            images,
            prompts,
            groups,
            k=6,
            resampling=FEW,
            reference=reference,  # type: ignore[arg-type]
            galleries=Galleries(places, ["small", "large"]),
        ).min_skew.each
        order = rank(images[:12], prompts[:1])[0]
        wanted = min_skew([groups[item] for item in order], 6, reference)  # type: ignore[arg-type]
        assert found.observed[0] == pytest.approx(wanted)
        assert np.isfinite(found.bootstrap).all()
        assert found.unbiased == pytest.approx([0.0, 0.0])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.permutations("xyz"))
def test_renaming_groups_changes_no_figure_by_prompt(seed: int, names: list[str]) -> None:
    images, groups = people(40, seed)
    other = dict(zip("abc", names, strict=True))
    one, two = (
        retrieval_skew(images, wide_prompts(3), each, k=7, resampling=FEW)
        for each in (groups, [other[group] for group in groups])
    )
    for measure, draws in figures(one).items():
        assert np.allclose(draws.bootstrap, figures(two)[measure].bootstrap)
        assert np.allclose(draws.null, figures(two)[measure].null)


def test_names_or_codes_are_the_same_groups() -> None:
    images, groups = people(40)
    codes = np.array(["abc".index(group) for group in groups])
    one, two = (
        retrieval_skew(images, wide_prompts(3), each, k=7, resampling=FEW)
        for each in (groups, codes)
    )
    assert np.array_equal(one.max_skew.each.bootstrap, two.max_skew.each.bootstrap)
    assert two.sizes == {code: groups.count(name) for code, name in enumerate("abc")}


def test_images_of_unknown_group_are_left_out_and_counted() -> None:
    images, groups = people(40)
    more = np.vstack([images[:20], np.ones((3, 4)), images[20:]])
    unknown = [*groups[:20], None, "", None, *groups[20:]]
    found = retrieval_skew(more, wide_prompts(3), unknown, k=7, resampling=FEW)
    wanted = retrieval_skew(images, wide_prompts(3), groups, k=7, resampling=FEW)
    assert (found.unknown, wanted.unknown) == (3, 0)
    assert found.sizes == wanted.sizes == dict(sorted(Counter(groups).items()))
    assert found.max_skew.each.images == 40
    assert np.array_equal(found.ndkl.each.bootstrap, wanted.ndkl.each.bootstrap)


# Resampling and null.


def test_the_null_is_that_of_permuted_groups() -> None:
    images, groups = people(60)
    many = Resampling(resamples=100, permutations=2000)
    found = retrieval_skew(images, wide_prompts(2), groups, k=10, resampling=many)
    for draws, statistic in (
        (found.max_skew.each, lambda ranked: max_skew(ranked, 10)),
        (found.min_skew.each, lambda ranked: min_skew(ranked, 10)),
        (found.ndkl.each, ndkl),
    ):
        wanted = null_distribution(statistic, groups, permutations=2000)
        assert draws.null is not None
        error = wanted.std() * math.sqrt(2 / 2000)
        assert draws.null.mean(axis=0) == pytest.approx(np.full(2, wanted.mean()), abs=4 * error)


def test_the_null_keeps_what_makes_prompts_alike() -> None:
    """One prompt said ten times is no better known than one said once."""
    images, groups = people(60)
    prompts = wide_prompts(1)
    once = retrieval_skew(images, prompts, groups, k=10, resampling=FEW)
    often = retrieval_skew(images, np.tile(prompts, (10, 1)), groups, k=10, resampling=FEW)
    assert np.allclose(once.max_skew.mean.null, often.max_skew.mean.null)  # type: ignore[arg-type]


def test_the_mean_draws_clusters_of_prompts_too() -> None:
    images, groups = people(60)
    clusters = ["kind", "kind", "clever", "kind"]
    found = retrieval_skew(images, wide_prompts(4), groups, k=10, resampling=FEW, clusters=clusters)
    assert found.ndkl.each.names == ("kind 1", "kind 2", "clever", "kind 3")
    counts = FEW.counts(2, of="prompts")
    assert (counts == 0).any()
    for draw, (kind, clever) in enumerate(counts):
        weights = [kind, kind, clever, kind]
        wanted = np.average(found.ndkl.each.bootstrap[draw], weights=weights)
        assert found.ndkl.mean.bootstrap[draw, 0] == pytest.approx(wanted)
    assert found.ndkl.mean.observed == pytest.approx([found.ndkl.each.observed.mean()])
    assert found.ndkl.largest is not None
    assert found.ndkl.largest.bootstrap[:, 0] == pytest.approx(
        found.ndkl.each.bootstrap.max(axis=1)
    )


def test_chance_alone_is_rarely_called_bias_and_bias_always() -> None:
    p_values = []
    for seed in range(40):
        images = np.random.default_rng(seed).normal(size=(60, 4))
        groups = people(60, seed + 100)[1]
        found = retrieval_skew(images, wide_prompts(3), groups, k=10, resampling=FEW)
        p_values.append(found.max_skew.mean.measurements(0.95)[0].p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15  # 0.05 is expected
    images, groups = people(300)
    images[:, 0] += 3 * (np.array(groups) == "a")
    found = retrieval_skew(images, np.eye(4)[:1], groups, k=30, resampling=FEW)
    assert found.max_skew.mean.measurements(0.95)[0].p_value == pytest.approx(1 / 101)


@pytest.mark.parametrize("reference", ["uniform", "empirical"])
def test_figures_do_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, reference: Any
) -> None:
    images, groups = people(80)
    runs = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(rank_draws, "processors", lambda threads=threads: threads)
        found = figures(
            retrieval_skew(
                images, wide_prompts(5), groups, k=9, resampling=FEW, reference=reference
            )
        )
        runs.append([(name, d.bootstrap.tobytes(), d.null.tobytes()) for name, d in found.items()])
    assert runs[0] == runs[1] == runs[2]


# Galleries.


def offices(per_gallery: int = 10) -> tuple[np.ndarray, list[str], Galleries]:
    """Two galleries, their images in turn; half of each are women."""
    images = np.random.default_rng(3).normal(size=(2 * per_gallery, 4))
    places = ["lab", "shop"] * per_gallery
    groups = [["woman", "man"][image // 2 % 2] for image in range(2 * per_gallery)]
    return images, groups, Galleries(places, ["shop", "lab", "shop"])


def test_each_prompt_ranks_its_own_gallery() -> None:
    images, groups, galleries = offices()
    prompts = wide_prompts(3)
    found = retrieval_skew(
        images, prompts, groups, k=5, resampling=FEW, galleries=galleries, reference="empirical"
    )
    for prompt, gallery in enumerate(galleries.of_prompts):
        rows = [row for row, name in enumerate(galleries.of_images) if name == gallery]
        order = rank(images[rows], prompts[prompt : prompt + 1])[0]
        ranked = [groups[rows[item]] for item in order]
        assert found.ndkl.each.observed[prompt] == pytest.approx(ndkl(ranked, "empirical"))
        assert found.max_skew.each.observed[prompt] == pytest.approx(
            max_skew(ranked, 5, "empirical")
        )
        copies = FEW.counts(10, of=f"images of gallery {gallery!r}")
        for draw in range(100):
            again = [groups[rows[item]] for item in order for _ in range(int(copies[draw, item]))]
            if len(set(again)) == 2:
                wanted = max_skew(again, 5, "empirical")
                assert found.max_skew.each.bootstrap[draw, prompt] == pytest.approx(wanted)


def test_galleries_may_differ_in_size_and_in_groups() -> None:
    images, groups = people(30)
    places = ["small" if row % 3 == 0 else "large" for row in range(30)]
    groups = [
        "a" if own == "c" and place == "small" else own
        for own, place in zip(groups, places, strict=True)
    ]
    prompts, asked = wide_prompts(2), ["small", "large"]
    found = retrieval_skew(
        images, prompts, groups, k=4, resampling=FEW, galleries=Galleries(places, asked)
    )
    for prompt, gallery in enumerate(asked):
        rows = [row for row, place in enumerate(places) if place == gallery]
        order = rank(images[rows], prompts[prompt : prompt + 1])[0]
        ranked = [groups[rows[item]] for item in order]
        assert len(set(ranked)) == prompt + 2  # uniform over two groups, and over three
        assert found.max_skew.each.observed[prompt] == pytest.approx(max_skew(ranked, 4))
        assert found.ndkl.each.observed[prompt] == pytest.approx(ndkl(ranked))


def test_groups_are_traded_within_galleries() -> None:
    """A gallery of one man among ten never shows more of them, under the null as it is."""
    images, _, galleries = offices()
    groups = ["man" if row in (0, 1, 3, 5, 7, 9) else "woman" for row in range(20)]
    found = retrieval_skew(
        images, wide_prompts(3), groups, k=9, resampling=FEW, galleries=galleries
    )
    assert found.bias is not None and found.bias.each.null is not None
    lab = found.bias.each.null[:, 1]  # 9 of 9 women, or 8 of them and the man
    assert set(np.round(lab, 6)) == {-1.0, round(-7 / 9, 6)}


def test_galleries_differ_in_what_chance_does_to_them() -> None:
    """Equally large galleries are permuted on their own, or the null of the mean is too wide."""
    images, groups, galleries = offices()
    found = retrieval_skew(
        images, wide_prompts(3), groups, k=5, resampling=FEW, galleries=galleries
    )
    assert found.bias is not None and found.bias.each.null is not None
    assert abs(np.corrcoef(found.bias.each.null[:, :2].T)[0, 1]) < 0.4


def test_null_values_of_visogender() -> None:
    random = np.random.default_rng(0)
    names = [f"occupation {code}" for code in range(23)]
    images, prompts = random.normal(size=(230, 8)), random.normal(size=(23, 8))
    groups = (["woman"] * 5 + ["man"] * 5) * 23
    galleries = Galleries(np.repeat(names, 10).tolist(), names)
    found = retrieval_skew(images, prompts, groups, k=5, resampling=FEW, galleries=galleries)
    assert found.absolute_bias is not None and found.bias is not None
    for draws, wanted, within in (
        (found.absolute_bias.mean, 2 / 7, 0.03),
        (found.max_skew.mean, 0.2435, 0.03),
        (found.ndkl.mean, 0.2336, 0.02),
        (found.bias.mean, 0.0, 0.05),
    ):
        assert draws.null is not None
        assert draws.null.mean() == pytest.approx(wanted, abs=within)


# What cannot be used.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": 20}, r"k is 20, all of the gallery.*smaller k or more images"),
        ({"k": 21}, r"k is 21, but the gallery has 20 items"),
        ({"ndkl_k": 21}, r"k is 21, but the gallery has 20 items"),
        ({"groups": ["a", "b"]}, "2 groups for 20 images; give one for each"),
        ({"clusters": ["x"]}, "1 clusters for 3 prompts; give one for each"),
        ({"groups": ["a"] * 19 + [None]}, "nothing to compare"),
        ({"groups": [None] * 20}, "nothing to compare"),
        ({"compat": "berg"}, "compat is 'berg'"),
        ({"first": "a"}, "first is 'a', but the groups are man, woman; name one of them"),
        ({"second": "a"}, "second is 'a', but the groups are man, woman; name one of them"),
        ({"first": "man", "second": "a"}, "second is 'a', but the groups are man, woman"),
        ({"first": "man", "second": "man"}, "first and second are both 'man'; name two"),
        ({"reference": {"man": 1.0}}, "no share for 'woman'"),
    ],
)
def test_what_disagrees_is_said(changes: dict[str, Any], says: str) -> None:
    images, groups, _ = offices()
    call: dict[str, Any] = {"groups": groups, "k": 5, "resampling": FEW, **changes}
    with pytest.raises(InputError, match=says):
        retrieval_skew(images, wide_prompts(3), **call)


@pytest.mark.parametrize(
    ("places", "asked", "says"),
    [
        (["lab"] * 20, ["lab"] * 2, "2 galleries of prompts for 3 prompts"),
        (["lab"] * 3, ["lab"] * 3, "3 galleries of images for 20 images"),
        (["lab"] * 20, ["lab", "lab", "shop"], "gallery 'shop': 0 images of known group"),
        (["lab", "shop"] * 10, ["lab"] * 3, "gallery 'shop': no prompt ranks it"),
        (["lab"] * 16 + ["shop"] * 4, ["lab", "lab", "shop"], "gallery 'shop' has 4 items"),
        (["lab"] * 15 + ["shop"] * 5, ["lab", "lab", "shop"], "k is 5, all of gallery 'shop'"),
    ],
)
def test_galleries_that_disagree_are_named(places: list[str], asked: list[str], says: str) -> None:
    images, groups, _ = offices()
    with pytest.raises(InputError, match=says):
        retrieval_skew(
            images,
            wide_prompts(3),
            groups,
            k=5,
            resampling=FEW,
            galleries=Galleries(places, asked),
        )


@pytest.mark.parametrize(("named", "missing"), [("first", "second"), ("second", "first")])
def test_one_of_three_groups_is_not_compared_with_a_group_of_our_choice(
    named: str, missing: str
) -> None:
    images, groups = people(20)
    says = f"{named} is given without {missing}, but there are 3 groups, a, b, c; give both"
    with pytest.raises(InputError, match=says):
        retrieval_skew(images, wide_prompts(2), groups, k=5, resampling=FEW, **{named: "a"})


@pytest.mark.parametrize("compat", [None, "oxai"])
def test_embeddings_that_cannot_be_ranked_are_refused(compat: Any) -> None:
    with pytest.raises(InputError, match="images: row 1 is all zeros"):
        rank(np.array([[1.0, 0.0], [0.0, 0.0]]), AXES, compat=compat)
    with pytest.raises(InputError, match="text embeddings have 3 dimensions, image embeddings 2"):
        rank(AXES, np.eye(3), compat=compat)
    with pytest.raises(InputError, match="prompts: row 0 holds NaN"):
        rank(AXES, np.full((1, 2), np.nan), compat=compat)


@pytest.mark.parametrize(
    ("men", "women", "skew", "least", "divergence"),
    [
        (50, 50, 0.0, 0.0, 0.0),
        (55, 45, 0.0, 0.0, 0.0),  # as a draw from equal shares may be
        (80, 20, math.log(1.6), math.log(0.4), 0.8 * math.log(1.6) + 0.2 * math.log(0.4)),
    ],
)
def test_without_bias_the_top_of_an_endless_gallery_is_as_the_gallery(
    men: int, women: int, skew: float, least: float, divergence: float
) -> None:
    images = np.random.default_rng(0).normal(size=(men + women, 8))
    groups = ["man"] * men + ["woman"] * women
    found = retrieval_skew(
        images, np.ones((1, 8)), groups, k=20, resampling=Resampling(resamples=100)
    )
    assert found.max_skew.each.unbiased == pytest.approx([skew])
    assert found.min_skew.each.unbiased == pytest.approx([least])
    assert found.ndkl.each.unbiased == pytest.approx([divergence])
    empirical = retrieval_skew(
        images,
        np.ones((1, 8)),
        groups,
        k=20,
        reference="empirical",
        resampling=Resampling(resamples=100),
    )
    assert empirical.max_skew.each.unbiased == pytest.approx([0.0])
    assert empirical.min_skew.each.unbiased == pytest.approx([0.0])


def test_a_group_that_only_the_reference_names_is_the_smallest_without_bias_too() -> None:
    found = retrieval_skew(
        np.random.default_rng(0).normal(size=(120, 8)),
        np.ones((1, 8)),
        ["man", "woman"] * 60,
        k=20,
        reference={"man": 0.4, "woman": 0.4, "neither": 0.2},
        resampling=FEW,
    )
    lacking = math.log(1 / 20 / 0.2)
    assert found.min_skew.each.unbiased == pytest.approx([lacking])
    assert found.min_skew.each.observed == pytest.approx([lacking])
    # Equal halves are 1.25 of what the reference gives each.
    assert found.max_skew.each.unbiased == pytest.approx([math.log(1.25)])


def test_the_empirical_reference_of_resamples_needs_little_memory() -> None:
    """Counts of 200 resamples of 50,000 images: 20 MB as they are, 80 MB as floats."""
    images = np.random.default_rng(0).normal(size=(50_000, 2))
    groups = np.resize(["a", "b"], 50_000)
    draws = Resampling(resamples=200, permutations=100)

    def peak(reference: Any) -> int:
        tracemalloc.start()
        retrieval_skew(images, AXES[:1], groups, k=9, reference=reference, resampling=draws)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak("empirical") < peak("uniform") + 10e6


def test_the_wordings_of_a_query_are_averaged() -> None:
    random = np.random.default_rng(4)
    images, prompts = random.normal(size=(60, 6)), random.normal(size=(5, 6))
    groups = ["man", "woman"] * 30
    given: dict[str, Any] = {"k": 10, "resampling": FEW}
    asked = ["kind", "evil", "kind", "evil", "rich"]
    found = retrieval_skew(images, prompts, groups, clusters=asked, **given).max_skew
    assert found.clusters is not None
    assert found.clusters.names == ("kind", "evil", "rich")
    for column, rows in enumerate([[0, 2], [1, 3], [4]]):
        for part in ("observed", "bootstrap", "null"):
            by_prompt, by_cluster = getattr(found.each, part), getattr(found.clusters, part)
            np.testing.assert_allclose(by_cluster[..., column], by_prompt[..., rows].mean(axis=-1))
    assert retrieval_skew(images, prompts, groups, **given).max_skew.clusters is None
