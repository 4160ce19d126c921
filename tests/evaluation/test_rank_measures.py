"""Skew, NDKL, Bias@K and ABLE of one ranking, against figures computed by hand."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.rank_measures import (
    able,
    bias_at_k,
    max_skew,
    min_skew,
    ndkl,
    null_distribution,
    skew,
)
from m4.errors import InputError

FAIRFACE_RACE = (2085, 1556, 1623, 1550, 1516, 1415, 1209)
VISOGENDER = ["woman"] * 5 + ["man"] * 5


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[str], int]:
    """A ranking of two groups or more, and a k below its length."""
    ranked = draw(st.lists(st.sampled_from("abcd"), min_size=3, max_size=30))
    ranked += ["a", "b"]
    ranked = draw(st.permutations(ranked))
    return ranked, draw(st.integers(1, len(ranked) - 1))


def test_skew_is_the_log_of_the_share_in_the_top_over_the_reference() -> None:
    found = skew("aaab" + "bbbb", 4)
    assert found == {"a": pytest.approx(math.log(0.75 / 0.5)), "b": pytest.approx(math.log(0.5))}
    assert max_skew("aaab" + "bbbb", 4) == pytest.approx(math.log(1.5))
    assert min_skew("aaab" + "bbbb", 4) == pytest.approx(math.log(0.5))


def test_the_empirical_reference_is_the_share_of_the_whole_ranking() -> None:
    found = skew("aaab" + "bbbb", 4, "empirical")
    assert found["a"] == pytest.approx(math.log(0.75 / 0.375))
    assert found["b"] == pytest.approx(math.log(0.25 / 0.625))


def test_given_shares_are_the_reference() -> None:
    assert max_skew("aaabb", 4, {"a": 0.8, "b": 0.2}) == pytest.approx(math.log(0.25 / 0.2))
    assert min_skew("aaabb", 4, {"a": 0.8, "b": 0.2}) == pytest.approx(math.log(0.75 / 0.8))


def test_an_absent_group_counts_as_one_in_k() -> None:
    assert skew("aaaab", 4)["b"] == pytest.approx(math.log(0.25 / 0.5))
    assert min_skew("aaaab", 4) == pytest.approx(math.log(0.25 / 0.5))
    # One that the ranking lacks altogether, too; it can even be the largest.
    assert skew("ab", 1, {"a": 0.6, "b": 0.3, "c": 0.1})["c"] == pytest.approx(math.log(10))
    assert max_skew("ab", 1, {"a": 0.6, "b": 0.3, "c": 0.1}) == pytest.approx(math.log(10))


@given(rankings(), st.sampled_from(["uniform", "empirical"]))
def test_the_smallest_skew_is_above_0_only_where_the_top_is_small(
    ranking: tuple[list[str], int], reference: Any
) -> None:
    ranked, k = ranking
    sizes = Counter(ranked)
    least = 1 / len(sizes) if reference == "uniform" else min(sizes.values()) / len(ranked)
    if k * least >= 1:
        assert min_skew(ranked, k, reference) <= 1e-12
    assert min_skew("abc", 1) == pytest.approx(math.log(3))


def test_ndkl_by_hand() -> None:
    # Top 1: all a; top 2: half; top 3: a third a.
    weights = [1 / math.log2(2), 1 / math.log2(3), 1 / math.log2(4)]
    third = math.log(2 / 3) / 3 + 2 / 3 * math.log(4 / 3)
    wanted = (weights[0] * math.log(2) + weights[2] * third) / sum(weights)
    assert ndkl("abb") == pytest.approx(wanted)
    assert ndkl("abb" + "a", k=3) == pytest.approx(wanted)


def test_a_group_that_a_ranking_lacks_adds_nothing_to_ndkl() -> None:
    shares = {"a": 0.25, "b": 0.25, "c": 0.5}
    wanted = (math.log(4) + math.log(2) / math.log2(3)) / (1 + 1 / math.log2(3))
    assert ndkl("ab", shares) == pytest.approx(wanted)


def test_bias_at_k_is_signed_and_0_where_neither_is_shown() -> None:
    assert bias_at_k("mmmwc" + "w", 4, "m", "w") == pytest.approx(0.5)
    assert bias_at_k("mmmwc" + "w", 4, "w", "m") == pytest.approx(-0.5)
    assert bias_at_k("cmw", 1, "m", "w") == 0.0


@pytest.mark.parametrize(
    ("accuracy", "skewed", "printed"),
    [
        (0.6831, 0.218, 73.87),
        (0.6800, 0.103, 77.55),
        (0.6507, 0.161, 73.78),
        (0.6805, 0.080, 78.35),
    ],
)
def test_able_gives_the_published_values(accuracy: float, skewed: float, printed: float) -> None:
    # Accuracy is printed with two decimals of a percent, MaxSkew with three.
    assert 100 * able(accuracy=accuracy, max_skew=skewed) == pytest.approx(printed, abs=0.03)


def test_able_at_its_ends() -> None:
    assert able(accuracy=1.0, max_skew=0.0) == 1.0
    assert able(accuracy=0.0, max_skew=0.3) == 0.0


@given(rankings())
def test_plain_loops_give_the_same(ranking: tuple[list[str], int]) -> None:
    ranked, k = ranking
    sizes, n = Counter(ranked), len(ranked)
    for reference, shares in (
        ("uniform", {group: 1 / len(sizes) for group in sizes}),
        ("empirical", {group: size / n for group, size in sizes.items()}),
    ):
        top = Counter(ranked[:k])
        wanted = {
            group: math.log((top[group] or 1) / k) - math.log(shares[group]) for group in sizes
        }
        assert skew(ranked, k, reference) == pytest.approx(wanted)  # type: ignore[arg-type]
        total = norm = 0.0
        for i in range(1, k + 1):
            parts = {group: many / i for group, many in Counter(ranked[:i]).items()}
            divergence = sum(p * math.log(p / shares[group]) for group, p in parts.items())
            total += divergence / math.log2(i + 1)
            norm += 1 / math.log2(i + 1)
        assert ndkl(ranked, reference, k) == pytest.approx(total / norm)  # type: ignore[arg-type]


@given(rankings(), st.permutations("wxyz"))
def test_names_do_not_matter(ranking: tuple[list[str], int], names: list[str]) -> None:
    ranked, k = ranking
    other = {"a": names[0], "b": names[1], "c": names[2], "d": names[3]}
    renamed = [other[group] for group in ranked]
    assert max_skew(renamed, k) == pytest.approx(max_skew(ranked, k))
    assert min_skew(renamed, k, "empirical") == pytest.approx(min_skew(ranked, k, "empirical"))
    assert ndkl(renamed) == pytest.approx(ndkl(ranked))


@given(rankings(), st.sampled_from(["uniform", "empirical"]))
def test_the_largest_skew_and_ndkl_are_never_negative(
    ranking: tuple[list[str], int], reference: Any
) -> None:
    ranked, k = ranking
    assert max_skew(ranked, k, reference) >= -1e-12
    assert min_skew(ranked, k, reference) <= max_skew(ranked, k, reference)
    assert ndkl(ranked, reference) > 0


@given(rankings(), st.randoms())
def test_order_matters_to_ndkl_only_across_the_top(
    ranking: tuple[list[str], int], random: Any
) -> None:
    ranked, k = ranking
    top, rest = ranked[:k], ranked[k:]
    random.shuffle(top)
    random.shuffle(rest)
    assert max_skew(top + rest, k) == max_skew(ranked, k)
    assert ndkl(ranked[:k] + rest, k=k) == ndkl(ranked, k=k)


def test_arrays_and_any_hashable_name_groups() -> None:
    wanted = max_skew("aab", 2)
    assert max_skew(np.array([0, 0, 1]), 2) == wanted
    assert max_skew(np.array(["x", "x", "y"]), 2) == wanted
    assert max_skew([("White", 3), ("White", 3), ("Black", 1)], np.int64(2)) == wanted  # type: ignore[arg-type]


# What public code gets wrong, and what it would give.


def test_the_whole_gallery_has_no_skew_by_construction_and_is_refused() -> None:
    with pytest.raises(InputError, match=r"k is 6, the whole ranking.*0 by construction.*uniform"):
        max_skew("aabbbb", 6, "empirical")
    assert max_skew("aabbbb", 6, "empirical", compat="oxai") == pytest.approx(0.0)
    assert max_skew("aabbbb", 6) == pytest.approx(math.log(4 / 6 / 0.5))


def test_a_top_larger_than_the_ranking_is_refused_where_a_maximum_from_0_hides_it() -> None:
    def started_at_0(ranked: str, k: int) -> float:
        largest = 0.0
        for group in set(ranked):
            largest = max(largest, math.log(ranked[:k].count(group) / k / 0.5))
        return largest

    assert started_at_0("aaab", 12) == 0.0
    assert math.log(3 / 12 / 0.5) < 0  # the largest of both skews
    for compat in (None, "oxai"):
        with pytest.raises(InputError, match=r"k is 12, but the ranking has 4 items; .* 1 to 4"):
            max_skew("aaab", 12, compat=compat)  # type: ignore[arg-type]


@given(rankings(), st.sampled_from(["uniform", "empirical"]))
def test_compat_is_the_same_where_no_quirk_shows(
    ranking: tuple[list[str], int], reference: Any
) -> None:
    ranked, k = ranking
    strict = max_skew(ranked, k, reference)
    assert max_skew(ranked, k, reference, compat="oxai") == pytest.approx(strict, abs=1e-12)


# Null values.


def test_null_values_of_galleries_of_ten() -> None:
    """Exactly, by enumeration: .2857, .2435 and .2335."""
    orders = 20_000
    bias = null_distribution(lambda r: abs(bias_at_k(r, 5, "man", "woman")), VISOGENDER, orders)
    assert bias.shape == (orders,)
    assert bias.mean() == pytest.approx(2 / 7, abs=4 * bias.std() / math.sqrt(orders))
    skews = null_distribution(lambda ranked: max_skew(ranked, 5), VISOGENDER, 4000)
    assert skews.mean() == pytest.approx(0.24346, abs=4 * skews.std() / math.sqrt(4000))
    divergences = null_distribution(ndkl, VISOGENDER, 2000)
    assert divergences.mean() == pytest.approx(0.23355, abs=4 * divergences.std() / 2000**0.5)


@pytest.mark.parametrize(("reference", "wanted"), [("empirical", 0.1039), ("uniform", 0.2854)])
def test_null_values_of_fairface_race(reference: Any, wanted: float) -> None:
    people = np.repeat(np.arange(len(FAIRFACE_RACE)), FAIRFACE_RACE)
    skews = null_distribution(lambda r: max_skew(r, 1000, reference), people, permutations=150)
    assert skews.mean() == pytest.approx(wanted, abs=4 * skews.std() / math.sqrt(150))


def test_null_draws_follow_from_the_seed() -> None:
    def draws(seed: int) -> list[float]:
        return null_distribution(ndkl, VISOGENDER, permutations=5, seed=seed).tolist()

    assert draws(0) == draws(0) != draws(1)


# What cannot be used.


@pytest.mark.parametrize("k", [0, -1, 5, 2.0, math.nan])
def test_a_depth_outside_the_ranking_is_refused(k: Any) -> None:
    for measure in (max_skew, min_skew, skew):
        with pytest.raises(InputError, match=r"the ranking has 4 items; give a whole number from"):
            measure("aabb", k)
    with pytest.raises(InputError, match="the ranking has 4 items"):
        ndkl("aabb", k=k)
    with pytest.raises(InputError, match="the ranking has 4 items"):
        bias_at_k("aabb", k, "a", "b")


@pytest.mark.parametrize("ranked", ["", "aaa"])
def test_fewer_than_two_groups_are_refused(ranked: str) -> None:
    with pytest.raises(InputError, match=rf"ranking of {len(ranked)} items in .* nothing to comp"):
        ndkl(ranked)


@pytest.mark.parametrize("unknown", [None, "", math.nan])
def test_unknown_groups_are_refused(unknown: Any) -> None:
    with pytest.raises(InputError, match=r"rank 2: the group is .*; leave out items"):
        max_skew(["a", unknown, "b"], 1)


def test_rows_of_a_table_are_no_names() -> None:
    with pytest.raises(InputError, match=r"rank 1: \[0, 1\] is no name"):
        max_skew(np.array([[0, 1], [1, 0]]), 1)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ({"a": 1.0}, r"no share for 'b'.*one for each of a, b"),
        ({"a": 0.5, "b": 0.4}, r"shares sum to 0\.9, not to 1"),
        ({"a": 1.0, "b": 0.0}, r"share of 'b' is 0\.0; give a positive"),
        ({"a": 1.5, "b": -0.5}, r"share of 'b' is -0\.5; give a positive"),
        ({"a": 0.5, "b": math.nan}, r"share of 'b' is nan; give a positive"),
        ("equal", r"reference is 'equal'; give \"uniform\""),
    ],
)
def test_references_that_are_none_are_refused(reference: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        max_skew("aab", 2, reference)
    with pytest.raises(InputError, match=says):
        ndkl("aab", reference)


def test_bias_needs_two_groups_of_the_ranking() -> None:
    for pair in (("a", "c"), ("a", "a")):
        with pytest.raises(InputError, match=r"two different groups of the ranking.*a, b"):
            bias_at_k("aabb", 2, *pair)


def test_able_refuses_percentages_and_what_is_not_finite() -> None:
    with pytest.raises(InputError, match=r"accuracy 68\.31 is not in \[0, 1\]; give a share"):
        able(accuracy=68.31, max_skew=0.2)
    with pytest.raises(InputError, match="max_skew is inf"):
        able(accuracy=0.5, max_skew=math.inf)


def test_another_compat_is_refused() -> None:
    with pytest.raises(InputError, match=r"compat is 'berg'; give \"oxai\""):
        max_skew("aab", 2, compat="berg")  # type: ignore[arg-type]


def test_a_reference_may_name_the_group_that_no_item_has():
    """All that is found is of one group, where two should be there."""
    shares = {"man": 0.5, "woman": 0.5}
    ranked = ["man"] * 10
    assert max_skew(ranked, 5, shares) == pytest.approx(math.log(2))
    assert skew(ranked, 5, shares)["woman"] == pytest.approx(math.log(1 / 5 / 0.5))
    assert ndkl(ranked, shares) == pytest.approx(math.log(2))
    with pytest.raises(InputError, match="nothing to compare"):
        max_skew(ranked, 5, {"man": 1.0})
