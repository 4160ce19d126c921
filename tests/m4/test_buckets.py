"""The compact layout: no row is lost, cut or changed, and its order has no effect on results."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import m4.buckets
from m4.buckets import CHUNKS, Buckets, attribute_patterns, label_type
from m4.patterns import Patterns

Row = tuple[tuple[float, ...], ...]
seeds = st.integers(0, 2**32 - 1)


def rows_of(patterns: Patterns) -> list[Row]:
    parts = (
        patterns.s,
        patterns.observed,
        patterns.y.toarray(),
        patterns.utility[:, None],
        patterns.counts[:, None],
    )
    return [tuple(tuple(part[row].tolist()) for part in parts) for row in range(len(patterns.s))]


def many_rows(seed: int, rows: int, labels: int = 40) -> Patterns:
    """Few attribute patterns and many label sets, as in counted captions."""
    generator = np.random.default_rng(seed)
    s = (generator.random((rows, 2)) < [0.4, 0.3]).astype(float)
    observed = np.repeat(generator.random((rows, 1)) < 0.8, 2, axis=1)
    y = sparse.random_array((rows, labels), density=0.1, format="csr", rng=generator)
    y.data[:] = 1.0
    counts = generator.integers(1, 50, rows).astype(float)
    return Patterns.from_arrays(s, y, observed=observed, counts=counts)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, block=st.integers(1, 300))
def test_rows_come_back(seed: int, block: int, drawn: Callable[..., Any]) -> None:
    examples = drawn(seed).examples
    buckets = Buckets.of(examples)
    blocks = list(buckets.patterns(block))
    back = [row for part in blocks for row in rows_of(part)]
    assert Counter(back) == Counter(rows_of(examples))
    assert buckets.examples == examples.examples
    assert buckets.width == examples.y.shape[1]
    whole = [row for part in buckets.patterns() for row in rows_of(part)]
    assert whole == back  # the size of blocks does not change the order


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_a_bucket_is_one_attribute_pattern_and_one_number_of_labels(
    seed: int, drawn: Callable[..., Any]
) -> None:
    examples = drawn(seed).examples
    buckets = Buckets.of(examples)
    assert buckets.rows[0] == buckets.entries[0] == 0
    assert buckets.rows[-1] == len(buckets.counts) == len(examples.counts)
    assert buckets.entries[-1] == len(buckets.labels) == examples.y.nnz
    sizes = np.diff(buckets.rows)
    assert (sizes > 0).all()
    np.testing.assert_array_equal(np.diff(buckets.entries), sizes * buckets.length)
    kinds = list(zip(buckets.group.tolist(), buckets.length.tolist(), strict=True))
    assert len(set(kinds)) == len(kinds)
    for bucket, width in enumerate(buckets.length):
        ids = buckets.labels[buckets.entries[bucket] : buckets.entries[bucket + 1]]
        if width:
            assert (np.diff(ids.reshape(-1, width).astype(int), axis=1) > 0).all()
            assert ids.min() >= 1
            assert ids.max() <= buckets.width


def test_only_what_differs_from_one_is_stored(biased: Callable[..., Patterns]) -> None:
    plain = Buckets.of(biased(1, 50))
    assert plain.strengths is None
    assert plain.utility is None
    assert plain.labels.dtype == np.uint16
    assert plain.nbytes == 2 * len(plain.labels) + 8 * 50
    soft = Buckets.of(biased(1, 50, soft_y=True, utilities=True))
    assert soft.strengths is not None
    assert soft.utility is not None
    assert soft.nbytes == (2 + 8) * len(soft.labels) + 16 * 50


def test_label_ids_fit_their_type() -> None:
    assert label_type(0) is np.uint16
    assert label_type(65_534) is np.uint16  # ids reach 65,534
    assert label_type(65_535) is np.uint32
    width = 70_000
    y = sparse.csr_array((np.ones(3), np.array([0, 65_535, width - 1]), np.arange(4)))
    buckets = Buckets.of(Patterns.from_arrays([1.0, 0.0, 1.0], y))
    assert sorted(buckets.labels.tolist()) == [1, 65_536, width]
    (back,) = buckets.patterns()
    assert sorted(back.y.indices.tolist()) == [0, 65_535, width - 1]


@pytest.mark.parametrize("longest", [1, 3, 1000])
def test_long_runs_are_cut(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = many_rows(3, 500)
    whole = [row for part in Buckets.of(examples).patterns() for row in rows_of(part)]
    uncut = len(Buckets.of(examples).group)
    monkeypatch.setattr(m4.buckets, "LONGEST", longest)
    buckets = Buckets.of(examples)
    assert np.diff(buckets.rows).max() <= longest
    assert len(buckets.group) == (uncut if longest == 1000 else len(buckets.group))
    assert longest != 1 or len(buckets.group) == 500
    assert [row for part in buckets.patterns() for row in rows_of(part)] == whole


@pytest.mark.parametrize("longest", [1, 7, 65_536])
@pytest.mark.parametrize("rows", [1, 5, 400])
def test_chunks_cover_every_bucket_once(
    rows: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m4.buckets, "LONGEST", longest)
    buckets = Buckets.of(many_rows(4, rows))
    chunks = buckets.chunks()
    covered = [bucket for first, after in chunks for bucket in range(first, after)]
    assert covered == list(range(len(buckets.group)))
    assert all(first < after for first, after in chunks)
    assert len(chunks) <= CHUNKS


def test_chunks_are_of_nearly_equal_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m4.buckets, "LONGEST", 50)
    buckets = Buckets.of(many_rows(5, 20_000))
    work = buckets.rows + buckets.entries
    shares = np.array([work[after] - work[first] for first, after in buckets.chunks()])
    assert len(shares) == CHUNKS
    assert shares.sum() == work[-1]
    assert shares.max() - shares.min() < 0.05 * shares.mean()


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_joined_rows_have_one_layout_whatever_their_order(
    seed: int, drawn: Callable[..., Any]
) -> None:
    examples = drawn(seed).examples
    order = np.random.default_rng(seed).permutation(len(examples.counts))
    one, other = (Buckets.of(rows.distinct()[0]) for rows in (examples, examples.rows(order)))
    for name in ("s", "observed", "group", "length", "rows", "entries", "labels", "counts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_attribute_patterns_are_distinct(seed: int, drawn: Callable[..., Any]) -> None:
    examples = drawn(seed).examples
    s, observed, group = attribute_patterns(examples)
    np.testing.assert_array_equal(s[group], examples.s)
    np.testing.assert_array_equal(observed[group], examples.observed)
    rows = {(*one.tolist(), *other.tolist()) for one, other in zip(s, observed, strict=True)}
    assert len(rows) == len(s)
    assert observed.dtype == bool
