"""The order of uses: a random one, in which the copies of a sample are as far apart as can be.

Each sample has a place on a circle, by a hash of its uid. Its c copies are c places on the circle,
1/c apart, and uses are read in the order of their places, from 0 around to 1. So any stretch of the
order is a sample of all uses, copies too, and two copies of one sample are about 1/c of all uses
apart, wherever the circle is cut.
"""

import numpy as np

from m4.hashing import scramble

PLACES = 1 << 64


def places_of(pairs: np.ndarray, seed: int) -> np.ndarray:
    """Places of uids on the circle, (N,) uint64; they depend on uid and seed alone."""
    start = scramble(np.array([seed], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return scramble(scramble(pairs["f0"] ^ start) + pairs["f1"])


def spread(places: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """The order of the uses of some rows.

    Rows that share a place are the same sample, found twice: their uses are spread like copies.

    Parameters
    ----------
    places : (N,) uint64
    copies : (N,) integers, how often each row is used

    Returns (U,) the row of each use. Rows of one sample are used in their order.
    """
    rows = np.argsort(places, kind="stable")
    uses = np.repeat(rows, copies[rows])
    if not len(uses):
        return uses
    at = places[uses]
    begins = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
    of_sample = np.diff(np.append(begins, len(at)))  # uses of each sample, copies counted
    number = np.arange(len(at)) - np.repeat(begins, of_sample)
    step = np.repeat((PLACES - 1) // of_sample.astype(np.uint64), of_sample)
    # Around the circle: the sum is to overflow.
    return uses[np.argsort(at + number.astype(np.uint64) * step, kind="stable")]


def smallest_gap(samples: np.ndarray) -> tuple[int, int] | None:
    """The smallest distance of two uses of one sample, and the position of the first of them.

    None where no sample is used twice.

    Parameters
    ----------
    samples : (U,) what tells the sample of each use, such as its place; in the order of uses
    """
    order = np.argsort(samples, kind="stable")
    again = np.flatnonzero(samples[order[1:]] == samples[order[:-1]])
    if not len(again):
        return None
    gaps = order[again + 1] - order[again]
    least = int(np.argmin(gaps))
    return int(gaps[least]), int(order[again[least]])
