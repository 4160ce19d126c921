"""From weights to a sample: copies drawn by a hash of each example, never by a generator.

The same example gets the same draw in any order, in any shard, on any number of workers. Such
draws are permanent random numbers (Brewer, Early and Joyce 1972): what is drawn with lower weights
is a part of what is drawn with higher ones.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from m4.errors import InputError


def uniform_draws(uids: Iterable[str], *, seed: int, epoch: int = 0) -> np.ndarray:
    """One number in [0, 1) for each uid, a keyed BLAKE2b hash of it; (N,) float64.

    The key is (seed, epoch): another epoch draws afresh.
    """
    keyed = hashlib.blake2b(digest_size=8, key=f"{seed}/{epoch}".encode())
    words = bytearray()
    for uid in uids:
        state = keyed.copy()
        state.update(uid.encode())
        words += state.digest()
    return (np.frombuffer(bytes(words), dtype="<u8") >> np.uint64(11)) * 2.0**-53


def draw_copies(
    weights: np.ndarray, uids: Iterable[str], *, seed: int, epoch: int = 0
) -> np.ndarray:
    """How often each example is used: floor(q), and once more with probability q - floor(q).

    Parameters
    ----------
    weights : (N,) weights q, not negative
    uids : N unique ids

    Returns (N,) int32 copies with expectation q.
    """
    return poisson_copies(weights, uniform_draws(uids, seed=seed, epoch=epoch))


def poisson_copies(weights: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Poisson sampling: floor(q) copies, and one more where the draw is below q - floor(q).

    Every example is drawn for itself, so a sum over the sample scatters by what independent draws
    scatter: var = sum_i x_i^2 f_i (1 - f_i) for f = q - floor(q).

    Parameters
    ----------
    weights : (N,) weights q, not negative
    draws : (N,) in [0, 1), those of `uniform_draws` or others that depend on nothing else

    Returns (N,) int32 copies with expectation q. Raises `InputError` where the two do not fit
    together, or a number is out of its range.
    """
    weights, draws = checked(weights, draws)
    whole = np.floor(weights)
    return (whole + (draws < weights - whole)).astype(np.int32)


def checked(weights: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights and draws as float64; `InputError` where no sample can be drawn with them."""
    weights = np.asarray(weights, dtype=np.float64)
    draws = np.asarray(draws, dtype=np.float64)
    if draws.shape != weights.shape:
        raise InputError(f"{weights.shape[0]} weights, but {draws.shape[0]} uids; give one each")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("a weight is negative or not finite")
    if not ((draws >= 0) & (draws < 1)).all():
        raise InputError("a draw is outside [0, 1)")
    return weights, draws
