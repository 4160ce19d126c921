"""The counter: exact counts, and the same buckets however rows were divided."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.buckets import Buckets
from m4.counting import PatternCounter
from m4.errors import InputError

S = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
OBSERVED = np.array([[False, False], [True, True], [True, True]])
LABELS = 6

Row = tuple[int, tuple[int, ...]]
rows = st.lists(
    st.tuples(
        st.integers(0, 2), st.sets(st.integers(0, LABELS - 1)).map(lambda x: tuple(sorted(x)))
    ),
    min_size=1,
    max_size=60,
)


def block(some: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = np.concatenate([[0], np.cumsum([len(labels) for _, labels in some], dtype=np.int64)])
    ids = np.array([each for _, labels in some for each in labels], dtype=np.uint16)
    return np.array([group for group, _ in some], dtype=np.int32), ends.astype(np.int64), ids


def counted(*parts: list[Row]) -> PatternCounter:
    """Each part by a counter of its own, then merged."""
    counters = []
    for part in parts:
        counter = PatternCounter(S, OBSERVED, LABELS)
        if part:
            counter.add(*block(part))
        counters.append(counter)
    first, *others = counters
    for other in others:
        first.merge(other)
    return first


def as_counts(buckets: Buckets) -> Counter[Row]:
    found: Counter[Row] = Counter()
    for patterns in buckets.patterns(block=7):
        for row in range(len(patterns.counts)):
            same = (patterns.s[row] == S).all(1) & (patterns.observed[row] == OBSERVED).all(1)
            labels = tuple(patterns.y[[row]].indices.tolist())
            key = (int(np.flatnonzero(same)[0]), labels)
            assert key not in found, "a pattern appears twice"
            found[key] = int(patterns.counts[row])
    return found


def same_bytes(one: Buckets, other: Buckets) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("group", "length", "rows", "entries", "labels", "counts")
    )


@settings(max_examples=100, deadline=None)
@given(rows)
def test_counts_are_those_of_a_dictionary(some: list[Row]) -> None:
    wanted = Counter((group, labels if OBSERVED[group].any() else ()) for group, labels in some)
    counter = counted(some)
    assert as_counts(counter.buckets()) == wanted
    assert len(counter) == len(wanted)
    assert counter.buckets().examples == len(some)


@settings(max_examples=100, deadline=None)
@given(rows, st.randoms(use_true_random=False), st.integers(0, 60))
def test_buckets_do_not_depend_on_order_or_division(some: list[Row], random, cut: int) -> None:  # type: ignore[no-untyped-def]
    shuffled = some.copy()
    random.shuffle(shuffled)
    wanted = counted(some).buckets()
    assert same_bytes(counted(shuffled[:cut], shuffled[cut:]).buckets(), wanted)


def test_counts_may_come_with_the_rows() -> None:
    counter = PatternCounter(S, OBSERVED, LABELS)
    group, ends, labels = block([(1, (0, 3)), (2, ()), (1, (0, 3))])
    counter.add(group, ends, labels, np.array([5, 2, 10**12]))
    assert as_counts(counter.buckets()) == {(1, (0, 3)): 5 + 10**12, (2, ()): 2}


def test_the_table_grows_with_the_patterns() -> None:
    generator = np.random.default_rng(0)
    many = [
        (1 + int(generator.integers(2)), tuple(np.flatnonzero(generator.random(200) < 0.05)))
        for _ in range(20_000)
    ]
    wanted = Counter(many)
    counter = PatternCounter(S, OBSERVED, 200)
    for first in range(0, len(many), 3_000):
        counter.add(*block(many[first : first + 3_000]))
    assert len(counter) == len(wanted) > 15_000
    buckets = counter.buckets()
    assert buckets.examples == 20_000
    assert sorted(buckets.counts) == sorted(wanted.values())


def test_a_label_out_of_range_is_told() -> None:
    counter = PatternCounter(S, OBSERVED, LABELS)
    with pytest.raises(InputError, match="a label id is 6, but there are 6 labels"):
        counter.add(*block([(1, (6,))]))
