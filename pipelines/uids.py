"""Uids as numbers: sets of them that fit in memory, in the form that DataComp keeps subsets in.

A uid is 128 bits, written as 32 hexadecimal digits. A subset file of DataComp is an `.npy` of dtype
`u8,u8`, the first and the second 16 digits of each, sorted; one that comes twice is used twice.
"""

import io
from collections.abc import Sequence

import numpy as np

from m4.errors import InputError
from m4.hashing import order_of
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
    return pairs[order_of(np.stack([pairs["f0"], pairs["f1"]]))]


def distinct(pairs: np.ndarray) -> np.ndarray:
    """Sorted pairs, each once."""
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = pairs[1:] != pairs[:-1]
    return pairs[new]


def counts_in(subset: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How often each of N pairs comes in a sorted subset, (N,) int64."""
    # numpy's searchsorted of one field would copy all of the subset.
    return _rank(subset, pairs, after=True) - _rank(subset, pairs, after=False)


def _rank(subset: np.ndarray, pairs: np.ndarray, *, after: bool) -> np.ndarray:
    """How many of a sorted subset stand before each of N pairs, or before and at it, (N,) int64."""
    low = np.zeros(len(pairs), dtype=np.int64)
    high = np.full(len(pairs), len(subset))
    f0, f1 = pairs["f0"], pairs["f1"]
    for _ in range(len(subset).bit_length()):
        middle = (low + high) // 2
        there = subset[np.minimum(middle, len(subset) - 1)]
        same = there["f0"] == f0
        is_before = (there["f0"] < f0) | (same & (there["f1"] < f1))
        if after:
            is_before |= same & (there["f1"] == f1)
        is_before &= middle < high
        low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, middle)
    return low


def read_subset(path: str) -> np.ndarray:
    """Read a subset file of DataComp, (N,) of dtype `PAIR`, sorted.

    Raises `InputError` where it is none, or is not sorted, as DataComp's own tools need it.
    """
    pairs = read_pairs(path)
    f0, f1 = pairs["f0"], pairs["f1"]
    falling = (f0[1:] < f0[:-1]) | ((f0[1:] == f0[:-1]) & (f1[1:] < f1[:-1]))
    if falling.any():
        row = int(np.argmax(falling)) + 1
        raise InputError(f"{path}: row {row} is smaller than the one before; sort the subset")
    return pairs


def read_pairs(path: str) -> np.ndarray:
    """Read such a file in whatever order it is in. Raises `InputError` where it is none."""
    try:
        if storage.is_remote(path):
            pairs = np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False)
        else:  # one copy in memory for all processes
            pairs = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as .npy: {error}") from None
    if not isinstance(pairs, np.ndarray):
        raise InputError(f"{path}: an archive of arrays; a subset is one array of u8,u8")
    if pairs.dtype != PAIR or pairs.ndim != 1:
        raise InputError(f"{path}: holds {pairs.dtype} {pairs.shape}; a subset is (N,) of u8,u8")
    return pairs
