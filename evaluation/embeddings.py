"""Embeddings: unit length, cosine similarity, and ties in which no side is favoured."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from m4.errors import InputError

TIE = 1e-9
"""Similarities this close are a tie. Equal embeddings differ by about 1e-16 in a matrix product,
by their place in it, which would break their ties in the order of the rows."""


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


def check_same_space(images: np.ndarray, texts: np.ndarray, what: str) -> None:
    """Raise `InputError` where the embeddings of images and texts differ in their length d."""
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            f"{what}: text embeddings have {texts.shape[1]} dimensions, image embeddings "
            f"{images.shape[1]}; encode both with the same model"
        )


def similarity(images: Any, prompts: Any) -> np.ndarray:
    """Cosine similarity of images (n, d) and prompts (k, d), normalised here; (n, k)."""
    images, prompts = normalised(images, "images"), normalised(prompts, "prompts")
    check_same_space(images, prompts, "prompts")
    return images @ prompts.T


def votes(scores: np.ndarray) -> np.ndarray:
    """Each row's vote for its highest score: 1, or equal parts of 1 where several tie; (n, k)."""
    winners = scores >= scores.max(axis=1, keepdims=True) - TIE
    return winners / winners.sum(axis=1, keepdims=True)


def chance_in_top(above: np.ndarray, tied: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Probability that a right answer is in the top k if ties fall in random order.

    With a items above the best right one, t items tied with it of which p are right, and
    r = k - a places left for them:  1 - C(t - p, r) / C(t, r), and 0 if r <= 0.

    Parameters
    ----------
    above : (n,), items that score more than the best right one
    tied : (n,), items that score the same, right ones included
    right : (n,), right ones among the tied
    """
    missed = np.ones(len(above))
    for drawn in range(k):
        wrong_left = np.maximum(tied - right - drawn, 0)
        draw = wrong_left / np.maximum(tied - drawn, 1)
        missed *= np.where(drawn < k - above, draw, 1.0)
    return 1.0 - missed
