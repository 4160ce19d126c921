"""Signatures of rows: 128 bits that tell different content apart."""

import numpy as np


def scramble(words: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64, so that sums of words do not cancel; uint64 in and out."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def order_of(words: np.ndarray) -> np.ndarray:
    """Positions in ascending order of (first word, second word), for words of shape (2, N).

    Numpy sorts one word eight times as fast as two, and different rows seldom share the first.
    """
    order = np.argsort(words[0])
    tied = words[0, order[1:]] == words[0, order[:-1]]
    if (tied & (words[1, order[1:]] != words[1, order[:-1]])).any():
        return np.lexsort((words[1], words[0]))
    return order
