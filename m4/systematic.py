"""Systematic sampling in pattern order: every pattern gets its planned number, within one."""

import numpy as np

from m4.buckets import attribute_patterns
from m4.errors import InputError
from m4.patterns import Patterns
from m4.sampling import checked

UNIT = 32  # bits of a copy: weights are rounded to 2^-32, and sums of them are exact


def systematic_copies(
    weights: np.ndarray, draws: np.ndarray, order: np.ndarray, start: float
) -> np.ndarray:
    """Systematic sampling with unequal probabilities (Madow 1949).

    The examples are sorted by `order`, then by draw, and their weights cumulated to C_1, ..., C_N;
    example i is used as often as an integer lies in (C_(i-1) + start, C_i + start]. A run of
    examples that lie together gets its planned number within one.

    Over a uniform start the expectation is q, for each example. The variance cannot be estimated
    from one sample, and pairs of examples may never be drawn together.

    Parameters
    ----------
    weights : (N,) weights q, not negative; rounded to multiples of 2^-32
    draws : (N,) in [0, 1), which shuffle the examples of equal order
    order : (N,) integers, such as `pattern_order` gives
    start : in [0, 1), `uniform_draws([""], seed=seed, epoch=epoch)[0]` for instance

    Returns (N,) int32 copies. They depend on the set of examples, not on how they come; all of
    them have to be in memory. Raises `InputError` for numbers out of their range.
    """
    weights, draws = checked(weights, draws)
    if order.shape != weights.shape:
        raise InputError(f"{len(weights)} weights, but {len(order)} places in the order")
    if not 0 <= start < 1:
        raise InputError(f"start is {start}, outside [0, 1)")
    if weights.sum() >= 2.0 ** (62 - UNIT):
        raise InputError(f"the weights sum to {weights.sum():.3g}; draw fewer than a billion")
    sequence = np.lexsort([draws, order])
    steps = np.rint(np.ldexp(weights[sequence], UNIT)).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(steps)]) + int(start * 2.0**UNIT)
    copies = np.empty(len(weights), dtype=np.int32)
    copies[sequence] = np.diff(ends >> UNIT)
    return copies


def pattern_order(patterns: Patterns) -> np.ndarray:
    """The place of each pattern: by attributes, then by labels, then by utility; (N,) int64.

    Labels are compared one after the other, those first that most examples have. Sums over a value,
    or over a value and a label, then go over few runs of patterns that lie together.

    The order is one of what the patterns hold, whatever order they come in; equal ones share a
    place. For many examples, order their distinct patterns: `pattern_order(distinct)[inverse]`.
    """
    y = patterns.y if patterns.y.has_sorted_indices else patterns.y.sorted_indices()
    length = np.diff(y.indptr)
    row = np.arange(len(length)).repeat(length)
    frequency = np.bincount(y.indices, patterns.counts[row], y.shape[1])
    rank = np.empty(y.shape[1], dtype=np.int64)
    rank[np.argsort(-frequency, kind="stable")] = np.arange(y.shape[1])
    ranks = rank[y.indices]
    nearest = np.lexsort([ranks, row])
    labels, strengths = ranks[nearest], y.data[nearest]
    place = np.arange(y.nnz) - y.indptr[:-1].repeat(length)
    keys = [attribute_patterns(patterns)[2]]  # the first decides most
    for k in range(int(length.max(initial=0))):
        at = place == k
        label, strength = np.full(len(length), -1), np.zeros(len(length))
        label[row[at]], strength[row[at]] = labels[at], strengths[at]
        keys += [label, strength]
    keys.append(patterns.utility)
    sequence = np.lexsort(keys[::-1])
    changes = np.zeros(len(length), dtype=bool)
    for key in keys:
        changes[1:] |= np.diff(key[sequence]) != 0
    order = np.empty(len(length), dtype=np.int64)
    order[sequence] = np.cumsum(changes)
    return order
