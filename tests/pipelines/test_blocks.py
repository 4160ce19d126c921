"""Blocks: all input shards in one each, of about the size asked for, whatever the shards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.blocks import Block, Layout, Source, cut
from pipelines.shards import ShardRef

uses_of_shards = st.lists(st.integers(0, 400), min_size=1, max_size=60)


def sources(uses: list[int]) -> list[Source]:
    return [
        Source(f"{number:05d}", ShardRef(f"{number:05d}.tar", 1, 0.0), each)
        for number, each in enumerate(uses)
    ]


def layout(window: int = 1000, shard_size: int = 100, distance: int = 1, seed: int = 0) -> Layout:
    return Layout(shard_size, distance, window, seed)


def stems(blocks: list[Block]) -> list[str]:
    return [source.stem for block in blocks for source in block.sources]


@given(uses_of_shards, st.integers(1, 3000), st.integers(1, 500))
def test_every_shard_that_is_used_is_in_one_block(
    uses: list[int], window: int, shard_size: int
) -> None:
    blocks = cut(sources(uses), 1, layout(window, shard_size))
    used = [f"{number:05d}" for number, each in enumerate(uses) if each]
    assert sorted(stems(blocks)) == used
    assert all(block.sources for block in blocks)
    names = [name for block in blocks for name in block.names]
    assert names == [f"{number:08d}" for number in range(len(names))]
    for block in blocks:
        assert 0 < block.uses <= block.shards * shard_size < block.uses + shard_size


@given(uses_of_shards, st.integers(1, 3000))
def test_blocks_are_about_as_large_as_the_window(uses: list[int], window: int) -> None:
    blocks = cut(sources(uses), 1, layout(window))
    largest = max(uses)
    if len(blocks) > 1:
        for block in blocks:
            assert window <= block.uses < 2 * window + 4 * largest


def test_the_order_of_shards_depends_on_the_seed_alone() -> None:
    uses = [100] * 50
    first = stems(cut(sources(uses), 1, layout()))
    assert stems(cut(sources(uses)[::-1], 1, layout())) == first
    assert stems(cut(sources(uses), 1, layout(seed=1))) != first
    assert first != sorted(first)


def test_blocks_are_large_enough_for_copies_to_be_apart() -> None:
    uneven = [7000, 10, 1000, 4000, 300] * 20
    for seed in range(20):
        blocks = cut(sources(uneven), 3, layout(window=1000, distance=2000, seed=seed))
        assert len(blocks) > 5
        assert min(block.uses for block in blocks) >= 2 * 3 * 2000


def test_copies_that_cannot_be_apart_are_refused() -> None:
    with pytest.raises(InputError, match=r"comes 3 times among 9,000 uses.* can be 2,671 apart"):
        cut(sources([1000] * 9), 3, layout(distance=2672))
    assert cut(sources([1000] * 9), 3, layout(distance=2671))
    assert cut(sources([1000] * 9), 1, layout(distance=10**9))


def test_no_uses_are_no_blocks() -> None:
    assert cut(sources([0, 0]), 0, layout()) == []


def test_a_shard_larger_than_the_window_is_a_block() -> None:
    blocks = cut(sources([5000, 10, 5000]), 1, layout(window=100))
    assert sum(block.uses for block in blocks) == 10_010
    assert np.ptp([block.shards for block in blocks]) <= 50
