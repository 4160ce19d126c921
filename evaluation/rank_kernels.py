"""Passes over many rankings under many resamples: the loops of `evaluation.ranking`, in numba.

A draw is a resample, where items have copies, or a permutation, where they have each other's
groups. Rankings are laid end to end: `items[starts[p]:starts[p + 1]]` are the items of ranking p in
rank order. None of the functions takes a lock or the interpreter: they run in threads, on disjoint
ranges of draws, and each draw's figures depend on that draw alone.
"""

# mypy: disable-error-code="no-untyped-def"

import numba
import numpy as np

AT_ONCE = 4  # copies of an item that are written without asking how many it has


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_top(first, after, items, tied, starts, codes, copies, k, into):
    """Adds to into[draw, ranking, group] the groups of the first k items.

    `codes` (draws or 1, n): groups of the items, one row where all draws share it; `copies`
    (draws, n) or None: once each. Where `tied` says which items tie with the one before them, all
    that tie with the k-th are counted too; None: just k.
    """
    for draw in range(first, after):
        code = codes[draw % len(codes)]
        for ranking in range(len(starts) - 1):
            left = k
            for at in range(starts[ranking], starts[ranking + 1]):
                if left <= 0 and (tied is None or not tied[at]):
                    break
                item = items[at]
                times = 1 if copies is None else np.int64(copies[draw, item])
                counted = min(times, left) if tied is None else times
                into[draw, ranking, code[item]] += counted
                left -= counted


@numba.njit(nogil=True, cache=True, error_model="numpy")
def discounted_divergence(
    first,
    after,
    items,
    tied,
    starts,
    gallery,
    codes,
    copies,
    depth,
    log_shares,
    growth,
    discount,
    spent,
    into,
):
    """Sets into[draw, ranking] to sum_i KL(p_i, q) / log2(i + 1) over the first items.

    With c_a items of group a among the first i, KL(p_i, q) = S / i - ln i for
    S = sum_a (c_a ln c_a - c_a ln q_a). One more item of group a adds growth[c_a] - ln q_a to S.

    `codes`, `copies` and `tied` as for `count_top`; the copies of a ranking's items are as many as
    its items. `depth`: of each ranking; `log_shares` (draws or 1, galleries, groups): ln q;
    `gallery`: of each ranking; growth[c] = (c + 1) ln(c + 1) - c ln c;
    discount[i - 1] = 1 / (i log2(i + 1)); spent[i]: sum over j <= i of ln j / log2(j + 1).
    """
    seen = np.empty(log_shares.shape[2], np.int64)
    ranked = np.empty(len(discount) + AT_ONCE, codes.dtype)
    for draw in range(first, after):
        code = codes[draw % len(codes)]
        for ranking in range(len(starts) - 1):
            log_share = log_shares[draw % len(log_shares), gallery[ranking]]
            length = _lay_out(
                items[starts[ranking] : starts[ranking + 1]],
                None if tied is None else tied[starts[ranking] : starts[ranking + 1]],
                code,
                None if copies is None else copies[draw],
                depth[ranking],
                ranked,
            )
            seen[:] = 0
            level = total = 0.0
            for place in range(length):
                group = ranked[place]
                level += growth[seen[group]] - log_share[group]
                seen[group] += 1
                total += discount[place] * level
            into[draw, ranking] = total - spent[length]


@numba.njit(inline="always")
def _lay_out(items, tied, code, copies, depth, ranked):
    """Writes the groups of the first items, each copy's, in rank order; how many there are."""
    place = 0
    for at in range(len(items)):
        if place >= depth and (tied is None or not tied[at]):
            break
        item = items[at]
        if copies is None:
            ranked[place] = code[item]
            place += 1
            continue
        # Most items have few copies, and a guess at how many is often wrong: what is written
        # beyond them, the next item writes over.
        for copy in range(AT_ONCE):
            ranked[place + copy] = code[item]
        for copy in range(AT_ONCE, copies[item]):
            ranked[place + copy] = code[item]
        place += copies[item]
    return min(place, depth) if tied is None else place
