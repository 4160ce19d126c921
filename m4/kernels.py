"""Passes over bucketed rows: the only code that touches every pattern, compiled by numba.

A row of attribute pattern p with labels r has the slope T[p, 0] + sum_r y_r T[p, r]: look-ups in
one small table. What a pass gives back is gathered in a table of the same shape, from which every
moment follows. A pass therefore does not depend on the number of sensitive values.

None of the functions takes a lock or the interpreter: they run in threads, on disjoint ranges of
buckets and with their own outputs.
"""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

WEIGHT, SQUARES, PREFERRED, RAISED = range(4)  # positions in the sums of a pass


@numba.njit(inline="always")
def _level(width, at, labels, y, lookup):
    """Minus the slope of one row, without what its attributes alone bring."""
    level = 0.0
    for step in range(width):
        entry = at + np.uint64(step)
        if y is None:
            level -= lookup[labels[entry]]
        else:
            level -= y[entry] * lookup[labels[entry]]
    return level


@numba.njit(inline="always")
def _weigh(width, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums):
    """The rows [low, high) of one bucket; compiled anew for each width that is a constant."""
    weight = squares = liked = raised = 0.0
    row = low
    while row < high:  # positions are unsigned: a signed one costs a test for wrapping each
        wanted = 0.0 if preferred is None else preferred[row]
        x = base + wanted + _level(width, at, labels, y, lookup)
        q = x if x > 0.0 else 0.0
        q = q if q < cap else cap
        mass = counts[row] * q
        weight += mass
        squares += mass * q
        liked += mass * wanted
        raised += mass * x
        for step in range(width):
            entry = at + np.uint64(step)
            if y is None:
                into[labels[entry]] += mass
            else:
                into[labels[entry]] += mass * y[entry]
        at += np.uint64(width)
        row += np.uint64(1)
    into[0] += weight
    sums[WEIGHT] += weight
    sums[SQUARES] += squares
    sums[PREFERRED] += liked
    sums[RAISED] += raised


@numba.njit(nogil=True, cache=True, error_model="numpy")
def evaluate(
    first,
    after,
    group,
    length,
    rows,
    entries,
    labels,
    y,
    counts,
    preferred,
    alike,
    table,
    rate_dual,
    cap,
    gathered,
    sums,
):
    """Weights q = clip(x, 0, cap) with x = preferred - slope - mu, and what they add up to.

    Adds n q y_r to gathered[p, r] and, over rows, n q, n q^2, n q preferred[row] and n q x to sums.
    Preferred weights are `alike + preferred[row]`; `preferred` is None where they are all alike,
    `y` where all labels are 1.
    """
    for bucket in range(first, after):
        p, width = group[bucket], length[bucket]
        lookup, into = table[p], gathered[p]
        base = alike - lookup[0] - rate_dual
        low, high = np.uint64(rows[bucket]), np.uint64(rows[bucket + 1])
        at = np.uint64(entries[bucket])
        # Most rows have few labels: with their number known, the loops over them are unrolled.
        if width == 0:
            _weigh(0, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums)
        elif width == 1:
            _weigh(1, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums)
        elif width == 2:
            _weigh(2, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums)
        elif width == 3:
            _weigh(3, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums)
        elif width == 4:
            _weigh(4, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums)
        else:
            _weigh(
                width, low, high, at, labels, y, counts, preferred, base, cap, lookup, into, sums
            )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def curvature(
    first,
    after,
    group,
    length,
    rows,
    entries,
    labels,
    y,
    counts,
    preferred,
    alike,
    table,
    rate_dual,
    cap,
    gathered,
):
    """Adds n y_r^2 of the rows with 0 <= x <= cap to gathered[p, r]: where weights can move."""
    for bucket in range(first, after):
        p, width = group[bucket], length[bucket]
        lookup, into = table[p], gathered[p]
        at = np.uint64(entries[bucket])
        base = alike - lookup[0] - rate_dual
        for row in range(rows[bucket], rows[bucket + 1]):
            x = base if preferred is None else base + preferred[row]
            x += _level(width, at, labels, y, lookup)
            if 0.0 <= x <= cap:
                into[0] += counts[row]
                for step in range(width):
                    entry = at + np.uint64(step)
                    if y is None:
                        into[labels[entry]] += counts[row]
                    else:
                        into[labels[entry]] += counts[row] * y[entry] ** 2
            at += np.uint64(width)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def cooccurrence(
    first,
    after,
    group,
    length,
    rows,
    entries,
    labels,
    y,
    counts,
    preferred,
    alike,
    table,
    rate_dual,
    cap,
    place,
    gathered,
):
    """Adds n y_r y_t of the rows with 0 <= x <= cap to gathered[p, place[r], place[t]].

    Only the upper triangle, and only columns with a place (>= 0); column 0 has place 0.
    """
    found = np.empty(len(place), np.int64)
    value = np.empty(len(place), np.float64)
    found[0], value[0] = 0, 1.0
    for bucket in range(first, after):
        p, width = group[bucket], length[bucket]
        lookup, into = table[p], gathered[p]
        at = np.uint64(entries[bucket])
        base = alike - lookup[0] - rate_dual
        for row in range(rows[bucket], rows[bucket + 1]):
            x = base if preferred is None else base + preferred[row]
            x += _level(width, at, labels, y, lookup)
            if 0.0 <= x <= cap:
                many = 1
                for step in range(width):
                    entry = at + np.uint64(step)
                    if place[labels[entry]] >= 0:
                        found[many] = place[labels[entry]]
                        value[many] = 1.0 if y is None else y[entry]
                        many += 1
                for one in range(many):
                    mass = counts[row] * value[one]
                    for other in range(one, many):
                        into[found[one], found[other]] += mass * value[other]
            at += np.uint64(width)
