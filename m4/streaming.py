"""The published streaming solver: one gradient step per example, with averaging of the iterates.

Alabdulmohsin et al., "CLIP the Bias" (ICLR 2024), in substance; its constants are not published.
Kept for comparison: after T examples its gap falls as log T / sqrt T. `m4.reference` is exact.
"""

import math

import numba
import numpy as np
from scipy import sparse

from m4.errors import InputError
from m4.moments import Moments
from m4.reference import Duals


def solve_by_streaming(
    moments: Moments,
    counts: np.ndarray,
    *,
    passes: int = 5,
    step: float = 2.0,
    seed: int = 0,
) -> Duals:
    """Run the per-example algorithm and return the mean of its iterates.

    For each example, with tau_t = step / sqrt t:

        q  = clip(eta u - <v, a> - mu, 0, Q)
        v <- clip(v + tau_t q a, 0, V),  one v for each side of a constraint
        mu <- mu + tau_t (q - eta)

    Parameters
    ----------
    counts : (N,) examples of each row; a row is visited that often in a pass
    passes : passes over all examples, each in a new random order; at least one
    """
    if passes < 1:
        raise InputError(f"passes is {passes}; the streaming method needs at least 1")
    if not np.array_equal(counts, np.rint(counts)):
        raise InputError("counts holds a fraction, but the streaming method visits whole examples")
    rows, constraints = moments.z.shape
    allowed = moments.allowed()
    sides = sparse.csr_array(
        sparse.hstack([moments.z - allowed, -moments.z - allowed], format="csr")
    )
    state = _State(2 * constraints)
    examples = np.repeat(np.arange(rows), np.rint(counts).astype(np.int64))
    generator = np.random.default_rng(seed)
    for _ in range(passes):
        generator.shuffle(examples)
        state.steps = _one_pass(
            examples,
            sides.indptr,
            sides.indices,
            sides.data,
            moments.preferred,
            state.duals,
            state.lag,
            state.steps,
            step,
            moments.eta,
            moments.cap,
            moments.penalty,
        )
    mean = state.mean()
    return Duals(mean[:constraints] - mean[constraints:-1], float(mean[-1]))


class _State:
    """Duals (both sides, then mu) and what their mean needs.

    The mean of v_1..v_T is v_T - (1/T) sum_t (t - 1) (v_t - v_(t-1)): only entries that change
    cost anything.
    """

    def __init__(self, size: int):
        self.duals = np.zeros(size + 1)
        self.lag = np.zeros(size + 1)
        self.steps = 0

    def mean(self) -> np.ndarray:
        return self.duals - self.lag / max(self.steps, 1)


@numba.njit(cache=True)
def _one_pass(  # type: ignore[no-untyped-def]
    examples, starts, columns, numbers, preferred, duals, lag, steps, step, eta, cap, penalty
):
    mu = len(duals) - 1
    for row in examples:
        tau = step / math.sqrt(steps + 1.0)
        weight = preferred[row] - duals[mu]
        for at in range(starts[row], starts[row + 1]):
            weight -= duals[columns[at]] * numbers[at]
        weight = min(max(weight, 0.0), cap)
        for at in range(starts[row], starts[row + 1]):
            j = columns[at]
            moved = min(max(duals[j] + tau * weight * numbers[at], 0.0), penalty)
            lag[j] += steps * (moved - duals[j])
            duals[j] = moved
        change = tau * (weight - eta)
        lag[mu] += steps * change
        duals[mu] += change
        steps += 1
    return steps
