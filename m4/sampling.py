"""From weights to a sample: copies drawn by a hash of each example, never by a generator.

The same example gets the same draw in any order, in any shard, on any number of workers.
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
    weights = np.asarray(weights, dtype=np.float64)
    draws = uniform_draws(uids, seed=seed, epoch=epoch)
    if draws.shape != weights.shape:
        raise InputError(f"{weights.shape[0]} weights, but {draws.shape[0]} uids; give one each")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("a weight is negative or not finite")
    whole = np.floor(weights)
    return (whole + (draws < weights - whole)).astype(np.int32)
