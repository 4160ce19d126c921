"""Uids as numbers: sets of them that fit in memory, in the form that DataComp keeps subsets in.

A uid is 128 bits, written as 32 hexadecimal digits. A subset file of DataComp is an `.npy` of dtype
`u8,u8`, the first and the second 16 digits of each, sorted; one that comes twice is used twice.
"""

import io
from collections.abc import Sequence

import numpy as np

from m4.errors import InputError
from pipelines import storage

PAIR = np.dtype("u8,u8")
DIGITS = 32


def to_pairs(uids: Sequence[str]) -> np.ndarray:
    """Uids as pairs of numbers, (N,) of dtype `PAIR`. Raises `InputError` where one is no uid."""
    try:
        content = bytes.fromhex("".join(uids))
    except ValueError:
        content = b""
    if len(content) * 2 != DIGITS * len(uids) or any(len(uid) != DIGITS for uid in uids):
        bad = next(uid for uid in uids if not _is_uid(uid))
        raise InputError(f"{bad!r} is no uid; a uid has {DIGITS} hexadecimal digits")
    numbers = np.frombuffer(content, dtype=">u8").astype("u8")
    return numbers.view(PAIR)


def _is_uid(uid: str) -> bool:
    return len(uid) == DIGITS and all(digit in "0123456789abcdefABCDEF" for digit in uid)


def to_uids(pairs: np.ndarray) -> list[str]:
    """Pairs of numbers as uids."""
    digits = pairs.astype(PAIR).view("u8").astype(">u8").tobytes().hex()
    return [digits[at : at + DIGITS] for at in range(0, len(digits), DIGITS)]


def sort_pairs(pairs: np.ndarray) -> np.ndarray:
    """Pairs in the order of their uids; much faster than numpy's sort of such a dtype."""
    return pairs[np.lexsort((pairs["f1"], pairs["f0"]))]


def counts_in(subset: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How often each of N pairs comes in a sorted subset, (N,) int64."""
    if not len(subset):
        return np.zeros(len(pairs), dtype=np.int64)
    heads, tails = np.ascontiguousarray(subset["f0"]), subset["f1"]
    first = np.searchsorted(heads, pairs["f0"], side="left")
    last = np.searchsorted(heads, pairs["f0"], side="right")
    found = last > first
    is_first = tails.take(first, mode="clip") == pairs["f1"]
    is_last = tails.take(np.maximum(last, 1) - 1) == pairs["f1"]
    counts = np.where(found & is_first & is_last, last - first, 0)
    # Two uids that share their first half, which happens by chance once in 2^64 pairs of them.
    for row in np.flatnonzero(
        found & (is_first != is_last) | (found & ~is_first & (last - first > 2))
    ):
        counts[row] = np.count_nonzero(tails[first[row] : last[row]] == pairs["f1"][row])
    return counts


def read_subset(path: str) -> np.ndarray:
    """Read a subset file of DataComp, (N,) of dtype `PAIR`, sorted.

    Raises `InputError` where it is none, or is not sorted, as DataComp's own tools need it.
    """
    try:
        pairs = np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as .npy: {error}") from None
    if pairs.dtype != PAIR or pairs.ndim != 1:
        raise InputError(f"{path}: holds {pairs.dtype} {pairs.shape}; a subset is (N,) of u8,u8")
    f0, f1 = pairs["f0"], pairs["f1"]
    falling = (f0[1:] < f0[:-1]) | ((f0[1:] == f0[:-1]) & (f1[1:] < f1[:-1]))
    if falling.any():
        row = int(np.argmax(falling)) + 1
        raise InputError(f"{path}: row {row} is smaller than the one before; sort the subset")
    return pairs


def write_subset(path: str, pairs: np.ndarray) -> None:
    """Write pairs as a subset file, sorted."""
    content = io.BytesIO()
    np.save(content, sort_pairs(pairs))
    storage.write_bytes(path, content.getvalue())
