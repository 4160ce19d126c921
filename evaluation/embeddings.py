"""Embeddings: cosine similarity, and ties in which no side is favoured."""

from typing import Any

import numpy as np

from m4.errors import InputError
from vision.directions import normalised

TIE = 1e-9
"""Similarities this close are a tie. Equal embeddings differ by about 1e-16 in a matrix product,
by their place in it, which would break their ties in the order of the rows."""


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
