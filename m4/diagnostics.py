"""What weights cost: effective sample size and design effect."""

import numpy as np


def effective_sample_size(weights: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Kish's effective sample size, (sum q)^2 / sum q^2.

    Parameters
    ----------
    weights : (N,) weights q
    counts : (N,) examples that each row stands for; ones where left out

    Returns 0 where all weights are 0.
    """
    weights = np.asarray(weights, dtype=np.float64)
    counts = np.ones_like(weights) if counts is None else np.asarray(counts, dtype=np.float64)
    squares = float(counts @ weights**2)
    return float(counts @ weights) ** 2 / squares if squares > 0 else 0.0


def design_effect(weights: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Kish's design effect, N / effective sample size; infinite where all weights are 0."""
    size = effective_sample_size(weights, counts)
    examples = float(len(weights) if counts is None else np.sum(counts))
    return examples / size if size > 0 else float("inf")
