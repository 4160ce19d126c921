"""Similarity, and ties."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.embeddings import chance_in_top, similarity, votes
from m4.errors import InputError


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
