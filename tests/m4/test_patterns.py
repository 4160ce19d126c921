"""Patterns: arrays and tables come in as they are, and equal rows are joined without loss."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from m4.errors import InputError
from m4.patterns import Patterns

Row = tuple[tuple[float, ...], ...]


def rows_of(patterns: Patterns) -> list[Row]:
    """Each row's (s, o, y, u) as numbers that can be compared."""
    parts = (patterns.s, patterns.observed, patterns.y.toarray(), patterns.utility[:, None])
    return [
        tuple(tuple(float(number) + 0.0 for number in part[row]) for part in parts)
        for row in range(len(patterns.s))
    ]


def taken(patterns: Patterns, rows: np.ndarray) -> Patterns:
    return Patterns(
        patterns.s[rows],
        patterns.observed[rows],
        patterns.y[rows],
        patterns.utility[rows],
        patterns.counts[rows],
    )


@st.composite
def any_patterns(draw: st.DrawFn) -> Patterns:
    rows, m, c = draw(st.integers(1, 30)), draw(st.integers(1, 3)), draw(st.integers(0, 3))
    few = st.sampled_from([0.0, -0.0, 1.0, 0.5, np.nextafter(0.5, 1), 5e-324])
    return Patterns.from_arrays(
        draw(arrays(float, (rows, m), elements=few | st.just(np.nan))),
        draw(arrays(float, (rows, c), elements=few)),
        utility=draw(arrays(float, rows, elements=st.sampled_from([1.0, 0.9]))),
        counts=draw(arrays(float, rows, elements=st.integers(1, 1000).map(float))),
    )


def rows_that_count(examples: Patterns) -> list[Row]:
    """The rows, without the labels of those on which nothing is observed."""
    seen = examples.observed.any(axis=1)
    y = sparse.csr_array(examples.y.toarray() * seen[:, None])
    return rows_of(replace(examples, y=y))


@settings(max_examples=100, deadline=None)
@given(any_patterns())
def test_distinct_is_exact(examples: Patterns) -> None:
    joined, inverse = examples.distinct()
    wanted: Counter[Row] = Counter()
    for row, count in zip(rows_that_count(examples), examples.counts, strict=True):
        wanted[row] += int(count)
    joined_rows = rows_of(joined)
    assert len(set(joined_rows)) == len(joined_rows)
    assert dict(zip(joined_rows, joined.counts.astype(int).tolist(), strict=True)) == wanted
    assert joined.examples == examples.examples
    assert rows_of(taken(joined, inverse)) == rows_that_count(examples)


@settings(max_examples=50, deadline=None)
@given(any_patterns(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_is_irrelevant(examples: Patterns, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(examples.s))
    first, of_first = examples.distinct()
    second, of_second = taken(examples, order).distinct()
    assert rows_of(first) == rows_of(second)
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(of_first[order], of_second)


@settings(max_examples=50, deadline=None)
@given(any_patterns())
def test_distinct_rows_stay(examples: Patterns) -> None:
    once, _ = examples.distinct()
    twice, inverse = once.distinct()
    assert rows_of(once) == rows_of(twice)
    np.testing.assert_array_equal(inverse, np.arange(len(once.s)))


def test_many_rows_join_like_numpy() -> None:
    generator = np.random.default_rng(0)
    s = generator.choice([0.0, 0.25, 1.0, np.nan], (50_000, 2))
    y = (generator.random((50_000, 4)) < 0.3) & ~np.isnan(s).all(axis=1)[:, None]
    utility = generator.choice([0.5, 1.0], 50_000)
    joined, inverse = Patterns.from_arrays(s, sparse.coo_array(y), utility=utility).distinct()
    table = np.column_stack([np.where(np.isnan(s), -1, s), y, utility])
    _, counts = np.unique(table, axis=0, return_counts=True)
    assert sorted(joined.counts) == sorted(counts.astype(float))
    np.testing.assert_array_equal(joined.y[inverse].toarray(), y)


def test_the_label_order_of_a_sparse_row_is_irrelevant() -> None:
    y = sparse.csr_array((np.ones(4), np.array([0, 2, 2, 0]), np.array([0, 2, 4])), shape=(2, 3))
    joined, _ = Patterns.from_arrays([1.0, 1.0], y).distinct()
    assert joined.counts.tolist() == [2.0]


def test_a_label_of_another_column_is_another_pattern() -> None:
    joined, _ = Patterns.from_arrays(np.ones(3), np.eye(3)).distinct()
    assert len(joined.s) == 3


def test_not_observed_is_not_zero() -> None:
    examples = Patterns.from_arrays([0.0, np.nan, 0.0], [1, 1, 1], observed=[True, True, False])
    joined, inverse = examples.distinct()
    assert sorted(joined.counts) == [1.0, 2.0]
    assert inverse[1] == inverse[2] != inverse[0]


def test_nan_means_not_observed() -> None:
    s = [[0.5, np.nan], [np.nan, np.nan], [1.0, 0.0]]
    patterns = Patterns.from_arrays(s, np.zeros((3, 1)))
    assert patterns.observed.tolist() == [[True, False], [False, False], [True, True]]
    assert patterns.s.tolist() == [[0.5, 0.0], [0.0, 0.0], [1.0, 0.0]]


def test_what_is_not_observed_may_hold_anything() -> None:
    patterns = Patterns.from_arrays([[7.0, 1.0], [np.nan, 0.5]], [1, 0], observed=[[0, 1], [1, 1]])
    assert patterns.observed.tolist() == [[False, True], [False, True]]
    assert patterns.s.tolist() == [[0.0, 1.0], [0.0, 0.5]]


def test_one_mask_for_all_columns() -> None:
    patterns = Patterns.from_arrays([[1, 0], [1, 1]], [1, 0], observed=[True, False])
    assert patterns.observed.tolist() == [[True, True], [False, False]]


def test_plain_columns_and_defaults() -> None:
    patterns = Patterns.from_arrays([1, 0, 1], [True, False, False])
    assert patterns.s.shape == (3, 1)
    assert patterns.y.toarray().tolist() == [[1.0], [0.0], [0.0]]
    assert patterns.utility.tolist() == patterns.counts.tolist() == [1.0] * 3
    assert patterns.examples == 3.0


@pytest.mark.parametrize(
    "form", [sparse.csr_array, sparse.coo_array, sparse.csc_matrix, sparse.lil_array, np.asarray]
)
def test_labels_in_any_form(form: Any) -> None:
    dense = np.array([[1.0, 0, 0.5], [0, 0, 0], [0, 1, 1]])
    patterns = Patterns.from_arrays([1, 0, 1], form(dense))
    assert isinstance(patterns.y, sparse.csr_array)
    assert patterns.y.nnz == 4
    np.testing.assert_array_equal(patterns.y.toarray(), dense)


def test_the_callers_matrix_is_left_as_it_was() -> None:
    """Zeros and repeated entries are tidied in a copy."""
    data, columns, ends = np.array([0.0, 1, 1, 0.5, 0.5]), [0, 1, 0, 1, 1], [0, 2, 3, 5]
    y = sparse.csr_array((data, np.array(columns), np.array(ends)), shape=(3, 2))
    patterns = Patterns.from_arrays([0, 1, 0.5], y)
    assert patterns.y.toarray().tolist() == [[0, 1], [1, 0], [0, 1]]
    assert y.data.tolist() == data.tolist()
    assert y.indices.tolist() == columns
    assert y.indptr.tolist() == ends


def test_share_is_a_mean() -> None:
    patterns = Patterns.from_arrays([1, 0], [1, 0], counts=[3, 1])
    assert patterns.share.tolist() == [0.75, 0.25]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rows of y": ({"y": [1, 0]}, r"y has shape \(2, 1\), but s of shape \(3, 2\) needs \(3, 1\)"),
    "rows of utility": ({"utility": [1.0]}, r"utility has shape \(1,\), .* needs \(3,\)"),
    "utility as a column": ({"utility": [[1.0]] * 3}, r"utility has shape \(3, 1\)"),
    "rows of counts": ({"counts": [1.0] * 4}, r"counts has shape \(4,\), .* needs \(3,\)"),
    "rows of observed": ({"observed": [True] * 2}, r"observed has shape \(2, 1\), s has \(3, 2\)"),
    "columns of observed": (
        {"observed": [[True] * 3] * 3},
        r"observed has shape \(3, 3\), s has \(3, 2\)",
    ),
    "dimensions of s": ({"s": np.zeros((3, 2, 1))}, "3 dimensions"),
    "dimensions of y": ({"y": np.zeros((3, 2, 1))}, "3 dimensions"),
    "no rows": ({"s": np.zeros((0, 2)), "y": np.zeros((0, 1))}, "no examples: s has no rows"),
    "s above 1": ({"s": [[0, 0], [0, 1.5], [0, 0]]}, r"s holds 1\.5, outside \[0, 1\]"),
    "s below 0": ({"s": [[0, 0], [0, -1], [0, 0]]}, r"s holds -1\.0, outside"),
    "infinite s": ({"s": [[0, 0], [0, np.inf], [0, 0]]}, "s holds inf, outside"),
    "y above 1": ({"y": [0, 2, 0]}, r"y holds 2\.0, outside"),
    "y not known": ({"y": [0, np.nan, 0]}, "y holds nan, outside"),
    "repeated entries of y": (
        {"y": sparse.csr_array((np.ones(2), [0, 0], [0, 2, 2, 2]), shape=(3, 1))},
        r"y holds 2\.0, outside",
    ),
    "utility above 1": ({"utility": [1, 1, 1.1]}, r"utility holds 1\.1, outside"),
    "utility not known": ({"utility": [1, 1, np.nan]}, "utility holds nan, outside"),
    "negative counts": ({"counts": [1, -1, 1]}, "counts holds a negative or non-finite number"),
    "infinite counts": ({"counts": [1, np.inf, 1]}, "counts holds a negative or non-finite"),
    "no counts": ({"counts": [0, 0, 0]}, "counts sum to 0: there are no examples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case: str) -> None:
    changed, told = REFUSED[case]
    given: dict[str, Any] = {"s": [[1, 0], [0, 1], [1, 1]], "y": [1, 0, 1], **changed}
    with pytest.raises(InputError, match=told):
        Patterns.from_arrays(**given)


def frame(ids: pl.DataType | type[pl.DataType] = pl.UInt16, **changed: Any) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "gender.woman": [0.25, None, 1.0],
        "age.young": [1.0, 0.0, None],
        "labels": [[2, 0], [], [1]],
        "utility": [1.0, 0.5, 0.25],
        **changed,
    }
    return pl.DataFrame(columns, schema_overrides={"labels": pl.List(ids)})


@pytest.mark.parametrize("ids", [pl.UInt16, pl.UInt32, pl.Int32, pl.Int64])
def test_a_table_of_annotations(ids: type[pl.DataType]) -> None:
    patterns = Patterns.from_frame(frame(ids), ["gender.woman", "age.young"], 3)
    assert patterns.s.tolist() == [[0.25, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert patterns.observed.tolist() == [[True, True], [False, True], [True, False]]
    assert patterns.y.toarray().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert patterns.utility.tolist() == [1.0, 0.5, 0.25]
    assert patterns.counts.tolist() == [1.0, 1.0, 1.0]


def test_a_table_of_patterns_has_counts_and_its_own_order_of_columns() -> None:
    counted = frame(count=[5, 7, 2]).with_columns(pl.col("gender.woman").cast(pl.Float32))
    patterns = Patterns.from_frame(counted, ["age.young", "gender.woman"], 3)
    assert patterns.counts.tolist() == [5.0, 7.0, 2.0]
    assert patterns.s[0].tolist() == [1.0, 0.25]
    assert patterns.examples == 14.0


def test_a_table_without_any_label() -> None:
    for labels in (0, 3):
        patterns = Patterns.from_frame(frame(labels=[[], [], []]), ["age.young"], labels)
        assert patterns.y.shape == (3, labels)
        assert patterns.y.nnz == 0


def test_a_table_and_its_arrays_give_the_same_patterns() -> None:
    generator = np.random.default_rng(3)
    s = np.where(generator.random((200, 2)) < 0.3, np.nan, generator.integers(0, 2, (200, 2)))
    y = generator.random((200, 5)) < 0.2
    table = pl.DataFrame(
        {
            "a": s[:, 0],
            "b": s[:, 1],
            "labels": [np.flatnonzero(row).tolist() for row in y],
            "utility": np.ones(200),
        },
        nan_to_null=True,
    )
    of_table, of_arrays = Patterns.from_frame(table, ["a", "b"], 5), Patterns.from_arrays(s, y)
    assert rows_of(of_table) == rows_of(of_arrays)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"labels": [[3], [], [1]]}, "labels holds the id 3, but there are 3 labels"),
        ({"labels": [[-1], [2], []], "ids": pl.Int32}, "labels holds the id -1, but"),
        ({"labels": [[0, 0], [], []]}, r"y holds 2\.0"),
        ({"labels": [[0], None, [1]]}, "labels is null in 1 rows; an empty list"),
        ({"utility": [1.0, None, 1.0]}, "utility holds nan"),
        ({"age.young": [0.5, 1.25, None]}, r"s holds 1\.25"),
        ({"count": [1, -1, 1]}, "counts holds a negative"),
    ],
)
def test_a_table_that_does_not_fit_is_named(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Patterns.from_frame(frame(**changed), ["gender.woman", "age.young"], 3)
