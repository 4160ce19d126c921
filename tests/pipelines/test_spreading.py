"""The order of uses: every use once, in no order of the input, copies far apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.spreading import places_of, smallest_gap, spread
from pipelines.uids import to_pairs

few_copies = st.lists(st.integers(0, 4), max_size=40)


def uids(n: int, seed: int = 0) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(seed).bytes(16 * n), dtype="u8,u8")


@given(few_copies, st.integers(0, 3))
def test_every_row_comes_as_often_as_it_is_used(copies: list[int], seed: int) -> None:
    uses = spread(places_of(uids(len(copies)), seed), np.array(copies, dtype=np.int64))
    assert np.bincount(uses, minlength=len(copies)).tolist() == copies


@given(few_copies, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_that_of_the_rows(copies: list[int], draw) -> None:  # type: ignore[no-untyped-def]
    pairs, used = uids(len(copies)), np.array(copies, dtype=np.int64)
    other = np.array(draw.sample(range(len(copies)), len(copies)), dtype=np.int64)
    expected = pairs[spread(places_of(pairs, 0), used)]
    found = pairs[other][spread(places_of(pairs[other], 0), used[other])]
    assert found.tolist() == expected.tolist()


def test_copies_are_nearly_as_far_apart_as_can_be() -> None:
    for seed in range(5):
        pairs = uids(30_000, seed)
        copies = np.random.default_rng(seed).integers(0, 4, len(pairs))
        places = places_of(pairs, seed)
        uses = spread(places, copies)
        gap = smallest_gap(places[uses])
        assert gap is not None
        even = copies.sum() / 3
        assert even - 6 * np.sqrt(even) < gap[0] <= even


def test_a_uid_that_two_rows_have_is_spread_like_copies() -> None:
    pairs = uids(20_000)
    twice = np.concatenate([pairs, pairs[:50]])
    places = places_of(twice, 0)
    uses = spread(places, np.ones(len(twice), dtype=np.int64))
    gap = smallest_gap(places[uses])
    assert gap is not None
    assert gap[0] > len(twice) / 2 - 6 * np.sqrt(len(twice) / 2)


def test_neighbours_come_from_everywhere() -> None:
    n, sources = 40_000, 8
    uses = spread(places_of(uids(n), 1), np.ones(n, dtype=np.int64))
    source = uses * sources // n
    same = np.mean(source[1:] == source[:-1])
    assert abs(same - 1 / sources) < 5 * np.sqrt(1 / sources / n)


def test_sequential_uids_are_shuffled_too() -> None:
    pairs = to_pairs([f"{i:032x}" for i in range(20_000)])
    uses = spread(places_of(pairs, 0), np.ones(len(pairs), dtype=np.int64))
    assert abs(np.corrcoef(uses, np.arange(len(uses)))[0, 1]) < 5 / np.sqrt(len(uses))


def test_another_seed_is_another_order() -> None:
    pairs, once = uids(100), np.ones(100, dtype=np.int64)
    orders = [spread(places_of(pairs, seed), once).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@given(st.lists(st.integers(0, 6), max_size=30))
def test_the_smallest_gap_is_found(samples: list[int]) -> None:
    gaps = [
        (j - i, i)
        for i in range(len(samples))
        for j in range(i + 1, len(samples))
        if samples[i] == samples[j]
    ]
    found = smallest_gap(np.array(samples, dtype=np.uint64))
    assert (found is None) == (not gaps)
    if found is not None:
        assert found[0] == min(gaps)[0]
        assert found in gaps
