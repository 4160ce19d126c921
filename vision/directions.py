"""Embeddings as directions: rows of unit length, and rows that have no direction."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from m4.errors import InputError


def normalised(array: Any, what: str, names: Sequence[str] | None = None) -> np.ndarray:
    """Scale each row to unit length.

    Parameters
    ----------
    array : (n, d), any floating type
    what : what the rows are, for error messages
    names : n names of the rows, for error messages

    Returns (n, d) float64. Raises `InputError` naming the first row that is zero or not finite.
    """
    array = np.array(array, dtype=np.float64)  # a copy, changed in place below
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{what}: embeddings of shape {array.shape}; give one row per example and at least "
            "one, (n, d)"
        )
    # NaN where any number of the row is NaN
    largest = np.maximum(array.max(axis=1, keepdims=True), -array.min(axis=1, keepdims=True))
    unusable = ~np.isfinite(largest[:, 0]) | (largest[:, 0] == 0)
    if unusable.any():
        row = int(np.flatnonzero(unusable)[0])
        name = f" ({names[row]!r})" if names is not None else ""
        fault = "is all zeros" if largest[row, 0] == 0 else "holds NaN or infinity"
        raise InputError(
            f"{what}: row {row}{name} {fault} ({int(unusable.sum())} such rows of {len(array)}); "
            "it has no direction: encode it again or leave it out"
        )
    array /= largest  # so that the squares neither overflow nor vanish
    array /= np.sqrt(np.einsum("nd,nd->n", array, array))[:, None]
    return array


def without_direction(array: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows of an array (n, d) that have no direction.

    Returns (n,) bool twice: rows that hold NaN or infinity, and rows that are all zeros.
    """
    array = np.asarray(array)
    return ~np.isfinite(array).all(axis=1), (array == 0).all(axis=1)
