"""Unit length, and rows that have no direction."""

import numpy as np
import pytest

from m4.errors import InputError
from vision.directions import normalised, without_direction


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


def test_rows_without_direction_are_told_apart() -> None:
    array = np.ones((5, 3), dtype=np.float16)
    array[1, 0], array[2, 1], array[3] = np.nan, -np.inf, 0
    not_finite, zero = without_direction(array)
    assert not_finite.tolist() == [False, True, True, False, False]
    assert zero.tolist() == [False, False, False, True, False]
