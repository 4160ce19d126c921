"""Copies by hash: the same in any order and any shard, and as many as the weights ask for."""

import hashlib
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from m4.errors import InputError
from m4.sampling import draw_copies, poisson_copies, uniform_draws

UIDS = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(20_000)]


@pytest.mark.parametrize("uid", ["", "a", UIDS[0], "éclair 鮨"])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (-1, 10**6)])
def test_a_draw_is_a_keyed_hash(uid: str, seed: int, epoch: int) -> None:
    """Pinned, so that a policy applied today and in a year draws the same sample."""
    keyed = hashlib.blake2b(uid.encode(), digest_size=8, key=f"{seed}/{epoch}".encode()).digest()
    wanted = (int.from_bytes(keyed, "little") >> 11) / 2**53
    assert uniform_draws([uid], seed=seed, epoch=epoch).tolist() == [wanted]


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), unique=True, max_size=30), st.randoms(use_true_random=False))
def test_order_and_shards_change_nothing(uids: list[str], generator: random.Random) -> None:
    together = dict(zip(uids, uniform_draws(uids, seed=3), strict=True))
    shuffled = list(uids)
    generator.shuffle(shuffled)
    cut = len(uids) // 3
    for shard in (shuffled[:cut], shuffled[cut:]):
        assert uniform_draws(iter(shard), seed=3).tolist() == [together[uid] for uid in shard]


def test_copies_do_not_depend_on_order_or_shards() -> None:
    weights = np.random.default_rng(0).uniform(0, 2.5, len(UIDS))
    together = draw_copies(weights, UIDS, seed=5, epoch=2)
    order = np.random.default_rng(1).permutation(len(UIDS))
    shuffled = draw_copies(weights[order], [UIDS[row] for row in order], seed=5, epoch=2)
    np.testing.assert_array_equal(shuffled, together[order])
    edges = [0, 1, 777, 12_345, len(UIDS)]
    shards = [draw_copies(weights[a:b], UIDS[a:b], seed=5, epoch=2) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(shards), together)


def test_another_seed_or_epoch_draws_afresh() -> None:
    draws = [
        uniform_draws(UIDS, seed=seed, epoch=epoch)
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1), (11, 0), (1, 10)]
    ]
    limit = 4 / np.sqrt(len(UIDS))
    correlations = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    assert np.abs(correlations).max() < limit
    half = np.full(len(UIDS), 0.5)
    first, second = (draw_copies(half, UIDS, seed=0, epoch=epoch) for epoch in (0, 1))
    assert (first != second).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(UIDS)))


@pytest.mark.parametrize("seed", range(4))
def test_draws_are_uniform(seed: int) -> None:
    draws = uniform_draws(UIDS, seed=seed)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert stats.kstest(draws, "uniform").pvalue > 1e-3
    # Consecutive uids are alike, their draws are not.
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 4 / np.sqrt(len(UIDS))


@pytest.mark.parametrize("weight", [0.0, 0.003, 0.3, 0.9, 1.0, 1.25, 3.0, 7.6])
def test_copies_have_the_weight_as_their_mean(weight: float) -> None:
    copies = draw_copies(np.full(len(UIDS), weight), UIDS, seed=8)
    part = weight - np.floor(weight)
    error = np.sqrt(part * (1 - part) / len(UIDS))
    assert abs(copies.mean() - weight) <= 4 * error
    assert copies.dtype == np.int32
    assert set(copies.tolist()) <= {int(np.floor(weight)), int(np.ceil(weight))}


def test_the_total_of_mixed_weights_is_their_sum() -> None:
    weights = np.random.default_rng(2).beta(0.5, 0.5, len(UIDS)) * 2
    part = weights - np.floor(weights)
    error = np.sqrt((part * (1 - part)).sum())
    copies = draw_copies(weights, UIDS, seed=9)
    assert abs(copies.sum() - weights.sum()) <= 4 * error
    assert (np.abs(copies - weights) < 1).all()


def test_a_heavier_weight_never_loses_a_copy() -> None:
    """The draw is the example's own: raising its weight can only add copies."""
    light = draw_copies(np.full(len(UIDS), 0.4), UIDS, seed=1)
    heavy = draw_copies(np.full(len(UIDS), 0.6), UIDS, seed=1)
    assert (heavy >= light).all()
    assert (heavy > light).any()


weights_and_draws = st.lists(
    st.tuples(st.floats(0, 5, allow_nan=False), st.floats(0, 1, exclude_max=True), st.floats(0, 5)),
    max_size=40,
)


@settings(deadline=None)
@given(weights_and_draws)
def test_a_lower_weight_draws_a_part_of_the_sample(rows: list[tuple[float, float, float]]) -> None:
    """Nested: what is used under lower weights is used under higher ones at least as often."""
    weights, draws, more = (np.array([row[at] for row in rows]) for at in range(3))
    low, high = poisson_copies(weights, draws), poisson_copies(weights + more, draws)
    assert (low <= high).all()
    assert (np.abs(low - weights) <= 1).all()


@settings(deadline=None)
@given(weights_and_draws, st.randoms(use_true_random=False))
def test_copies_go_with_their_example(
    rows: list[tuple[float, float, float]], generator: random.Random
) -> None:
    shuffled = list(rows)
    generator.shuffle(shuffled)
    copies = [
        poisson_copies(np.array([row[0] for row in order]), np.array([row[1] for row in order]))
        for order in (rows, shuffled)
    ]
    expected = dict(zip(rows, copies[0].tolist(), strict=True))
    assert [expected[row] for row in shuffled] == copies[1].tolist()


@settings(deadline=None)
@given(st.floats(0, 5))
def test_over_all_draws_the_mean_is_the_weight(weight: float) -> None:
    """Draws laid out evenly in [0, 1): the mean is exact within one draw."""
    draws = (np.arange(1000) + 0.5) / 1000
    assert abs(poisson_copies(np.full(1000, weight), draws).mean() - weight) <= 1e-3


def test_draws_may_come_from_anywhere() -> None:
    weights = np.random.default_rng(3).uniform(0, 3, len(UIDS))
    draws = uniform_draws(UIDS, seed=4, epoch=1)
    by_uid = draw_copies(weights, UIDS, seed=4, epoch=1)
    np.testing.assert_array_equal(poisson_copies(weights, draws), by_uid)
    assert by_uid.dtype == np.int32


def test_nothing_gives_nothing() -> None:
    assert draw_copies(np.zeros(0), [], seed=0).shape == (0,)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 weights, but 3 uids"):
        draw_copies(np.ones(2), ["a", "b", "c"], seed=0)
    for bad in (-0.1, np.nan, np.inf):
        with pytest.raises(InputError, match="negative or not finite"):
            draw_copies(np.array([0.5, bad]), ["a", "b"], seed=0)
    for draw in (-0.1, 1.0, np.nan):
        with pytest.raises(InputError, match="a draw is outside"):
            poisson_copies(np.array([0.5, 0.5]), np.array([0.2, draw]))
