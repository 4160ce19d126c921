"""Signatures: 128 bits of hash of a pattern's content, which order and divide tables of patterns.

A pattern has the same signature on every machine, with every version of the libraries and among
any other patterns. So a table in this order has the same bytes however its rows came together, and
the patterns whose signatures begin with the same bits can be counted apart from all others.
"""

import numpy as np
import pyarrow as pa

from m4.hashing import scramble

GOLDEN = 0x9E3779B97F4A7C15  # the increment of SplitMix64
UNKNOWN = np.uint64(1 << 32)  # no float32 has this bit

NOT_HASHED = ("labels", "count")


def signatures(table: pa.Table) -> np.ndarray:
    """Two words of hash for each row of a table of patterns.

    With a key for each column, SplitMix64's finaliser f, and S the sum modulo 2^64 over the bits
    of all numbers and the ids of all labels of a row, a word is

        f(S f(x ^ key))

    Parameters
    ----------
    table : columns of float32 (nullable), `labels` (lists of ids), and `count`, which is no part
        of a pattern

    Returns (2, N) uint64. Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators"
    (OOPSLA 2014), for f and the keys.
    """
    numbers = [bits(table[name]) for name in table.column_names if name not in NOT_HASHED]
    ids, ends = ragged(table["labels"])
    known = np.arange(ids.max(initial=-1) + 1, dtype=np.uint64)
    keys = scramble(np.arange(1, 2 * len(numbers) + 3, dtype=np.uint64) * np.uint64(GOLDEN))
    words = np.zeros((2, len(table)), dtype=np.uint64)
    for half, (of_labels, *of_numbers) in enumerate((keys[::2], keys[1::2])):
        for column, key in zip(numbers, of_numbers, strict=True):
            words[half] += scramble(column ^ key)
        terms = scramble(known ^ of_labels)[ids]
        sums = np.concatenate([[np.uint64(0)], np.cumsum(terms, dtype=np.uint64)])
        words[half] += sums[ends[1:]] - sums[ends[:-1]]
    return scramble(words)


def bits(column: pa.ChunkedArray) -> np.ndarray:
    """The bits of nullable float32 numbers, (N,) uint64; null has a bit of its own."""
    array = column.combine_chunks()
    filled = array.fill_null(0.0).to_numpy(zero_copy_only=False)
    words = filled.view(np.uint32).astype(np.uint64)
    if array.null_count:
        words[array.is_null().to_numpy(zero_copy_only=False)] = UNKNOWN
    return words


def ragged(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Lists without nulls as their values, all in one array, and the (N + 1,) ends of the rows."""
    array = column.combine_chunks()
    ends = array.offsets.to_numpy()
    return array.flatten().to_numpy(), ends - ends[0]
