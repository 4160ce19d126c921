"""Effective sample size: Kish's formula and its limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from m4.diagnostics import design_effect, effective_sample_size

some_weights = arrays(float, st.integers(1, 30), elements=st.floats(0.001, 10))


def test_by_hand() -> None:
    weights = np.array([1.0, 1.0, 0.5, 0.0])
    assert effective_sample_size(weights) == 6.25 / 2.25
    assert design_effect(weights) == 4 * 2.25 / 6.25


@pytest.mark.parametrize("weight", [0.1, 1.0, 7.0])
def test_equal_weights_cost_nothing(weight: float) -> None:
    assert effective_sample_size(np.full(40, weight)) == pytest.approx(40)
    assert design_effect(np.full(40, weight)) == pytest.approx(1)


def test_dropping_examples_leaves_the_rest() -> None:
    assert effective_sample_size(np.repeat([1.0, 0.0], [30, 70])) == pytest.approx(30)


def test_nothing_kept_is_worth_nothing() -> None:
    assert effective_sample_size(np.zeros(3)) == 0.0
    assert design_effect(np.zeros(3)) == math.inf


@given(some_weights, st.floats(0.01, 100))
def test_bounds_and_scale(weights: np.ndarray, scale: float) -> None:
    size = effective_sample_size(weights)
    assert 1 - 1e-9 <= size <= len(weights) * (1 + 1e-9)
    assert effective_sample_size(scale * weights) == pytest.approx(size)
    assert design_effect(weights) * size == pytest.approx(len(weights))


@given(some_weights, st.integers(0, 2**32 - 1))
def test_counts_are_repetitions(weights: np.ndarray, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(1, 6, len(weights))
    repeated = np.repeat(weights, counts)
    assert effective_sample_size(weights, counts) == pytest.approx(effective_sample_size(repeated))
    assert design_effect(weights, counts) == pytest.approx(design_effect(repeated))
