"""Unit length, and ties."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.embeddings import chance_in_top, normalised, similarity, votes
from m4.errors import InputError


def test_rows_get_unit_length() -> None:
    assert normalised([[3.0, 4.0], [0.0, -2.0]], "images").tolist() == [[0.6, 0.8], [0.0, -1.0]]


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1.0, 1e200, 1e307])
def test_neither_overflow_nor_underflow(scale: float) -> None:
    row = normalised(np.array([[3.0, 4.0]]) * scale, "images")
    assert np.allclose(row, [[0.6, 0.8]], atol=1e-3)
    assert np.isclose(np.linalg.norm(row), 1.0)


def test_the_array_given_is_not_changed() -> None:
    array = np.array([[3.0, 4.0]])
    normalised(array, "images")
    assert array.tolist() == [[3.0, 4.0]]


def test_half_precision_is_widened_first() -> None:
    row = normalised(np.full((1, 512), 300.0, dtype=np.float16), "images")  # squares overflow there
    assert row.dtype == np.float64
    assert np.isclose(np.linalg.norm(row), 1.0)


@pytest.mark.parametrize(
    ("fault", "said"), [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (0.0, "all zeros")]
)
def test_a_row_without_direction_is_named(fault: float, said: str) -> None:
    array = np.ones((5, 3))
    array[3] = fault
    with pytest.raises(InputError, match=rf"images: row 3 \('d'\) .*{said}.*1 such rows of 5"):
        normalised(array, "images", list("abcde"))


def test_one_nan_in_a_row_is_enough() -> None:
    array = np.ones((2, 3))
    array[1, 2] = np.nan
    with pytest.raises(InputError, match="row 1 holds NaN"):
        normalised(array, "images")


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (2, 2, 2)])
def test_only_a_table_with_rows_will_do(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape"):
        normalised(np.ones(shape), "images")


def test_different_models_are_refused() -> None:
    with pytest.raises(InputError, match=r"5 dimensions.*4"):
        similarity(np.ones((2, 4)), np.ones((2, 5)))


def test_votes_are_split_among_ties_only() -> None:
    scores = np.array([[0.1, 0.5, 0.5], [-0.3, -0.2, -0.9], [0.0, 0.0, 0.0]])
    assert np.allclose(votes(scores), np.array([[0, 0.5, 0.5], [0, 1, 0], [1 / 3] * 3]))


def test_rounding_does_not_break_a_tie() -> None:
    assert votes(np.array([[0.5, 0.5 + 1e-15]])).tolist() == [[0.5, 0.5]]
    assert votes(np.array([[0.5, 0.5 + 1e-7]])).tolist() == [[0.0, 1.0]]


@given(
    above=st.integers(0, 3), wrong=st.integers(0, 3), right=st.integers(1, 3), k=st.integers(1, 9)
)
def test_chance_in_top_is_the_mean_over_all_orders(
    above: int, wrong: int, right: int, k: int
) -> None:
    tied = [False] * wrong + [True] * right
    orders = list(permutations(tied))
    wanted = np.mean([any(([False] * above + list(order))[:k]) for order in orders])
    found = chance_in_top(np.array([above]), np.array([wrong + right]), np.array([right]), k)
    assert np.isclose(found[0], wanted)
