"""How far the groups in a ranking are from their reference shares: Skew, NDKL, Bias@K, ABLE.

Every measure looks at one ranking: the groups of its items, the most similar item first. All but
signed Bias@K are positive for a ranking drawn at random, so a figure says nothing without its
value on no bias: `null_distribution`.

Sources. Skew, MinSkew, MaxSkew and NDKL: Geyik, Ambler and Kenthapadi, "Fairness-Aware Ranking in
Search & Recommendation Systems with Application to LinkedIn Talent Search" (KDD 2019, arXiv
1905.01989). Bias@K: Wang, Liu and Wang, "Are Gender-Neutral Queries Really Gender-Neutral?
Mitigating Gender Bias in Image Search" (EMNLP 2021). `compat="oxai"` gives what the code of Berg
et al., "A Prompt Array Keeps the Bias Away" (AACL 2022, repository oxai/debias-vision-lang) gives.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np

from m4.catalogue import TARGET_SUM_TOLERANCE
from m4.errors import InputError

Reference = Literal["uniform", "empirical"] | Mapping[Any, float]
Compat = Literal["oxai"]


def skew(groups: Any, k: int, reference: Reference = "uniform") -> dict[Hashable, float]:
    """Skew_a@K = ln(p_a / q_a) of every group a, where p_a is its share of the top K.

    A group that is absent from the top K counts as if it had 1 / K of it. Below 0 a group is
    shown less than its reference share q_a says, above 0 more.

    Parameters
    ----------
    groups : (n,) names in rank order, the most similar item first
    k : K, at least 1 and at most n
    reference : q. "uniform": the same for each group in the ranking; "empirical": its share of
        the whole ranking; or a share by group, which may name groups that the ranking lacks

    Raises `InputError` where k is outside its range, where k = n and the reference is empirical
    (every skew is then 0 by construction), where the ranking has fewer than two groups or an
    unknown one, and where shares do not cover its groups, are not positive or do not sum to 1.
    """
    ranked = checked_groups(groups, reference)
    check_depth(k, len(ranked), "the ranking")
    if k == len(ranked) and reference == "empirical":
        raise InputError(
            f"k is {k}, the whole ranking: against the ranking's own shares every skew is 0 by "
            'construction; give a smaller k or the reference "uniform"'
        )
    return _skew(ranked, k, reference)


def max_skew(
    groups: Any, k: int, reference: Reference = "uniform", *, compat: Compat | None = None
) -> float:
    """MaxSkew@K: the largest skew of any group. Parameters and errors as for `skew`.

    Never below 0: some group has at least its reference share. So a maximum that starts at 0, as
    in the code that `compat` follows, shows only where k is above n, which is refused here. With
    `compat="oxai"` k may be n whatever the reference.
    """
    if check_compat(compat) is None:
        return max(skew(groups, k, reference).values())
    ranked = checked_groups(groups, reference)
    check_depth(k, len(ranked), "the ranking")
    return max(_skew(ranked, k, reference).values())


def min_skew(groups: Any, k: int, reference: Reference = "uniform") -> float:
    """MinSkew@K: the smallest skew of any group. Parameters and errors as for `skew`.

    Not above 0 where K q_a is at least 1 for every group: then one that is absent from the top K
    counts for no more than its reference share, and of those present one has at most its own.
    """
    return min(skew(groups, k, reference).values())


def ndkl(groups: Any, reference: Reference = "uniform", k: int | None = None) -> float:
    """Normalised discounted cumulative Kullback-Leibler divergence of the top i, for all i.

        NDKL = (1/Z) sum_i KL(p_i, q) / log2(i + 1),   Z = sum_i 1 / log2(i + 1),   i = 1 .. k
        KL(p, q) = sum_a p_a ln(p_a / q_a),   0 ln 0 = 0

    where p_i are the groups' shares of the top i. 0 only where every top i has just the
    reference shares, which no ranking of several groups has: its first item is of one group.

    Parameters and errors as for `skew`; k is the whole ranking where it is left out.
    """
    ranked = checked_groups(groups, reference)
    k = len(ranked) if k is None else k
    check_depth(k, len(ranked), "the ranking")
    shares = reference_shares(Counter(ranked), reference)
    names = np.array([list(shares).index(group) for group in ranked[:k]])
    place = np.arange(1, k + 1)
    top = np.cumsum(names[:, None] == np.arange(len(shares)), axis=0) / place[:, None]
    # 1 in place of 0: its logarithm is finite, and is multiplied by the share, 0.
    divergence = (top * np.log(np.where(top > 0, top, 1) / list(shares.values()))).sum(axis=1)
    discount = 1 / np.log2(place + 1)
    return float(divergence @ discount / discount.sum())


def bias_at_k(groups: Any, k: int, first: Hashable, second: Hashable) -> float:
    """Bias@K = (first - second) / (first + second), counts in the top K; 0 if both are 0.

    In [-1, 1]; its source takes the mean over gender-neutral queries of (men - women) /
    (men + women). Its mean over random rankings is 0 where both groups are as large, that of its
    absolute value is not.

    Parameters and errors as for `skew`; `first` and `second` are two groups in the ranking.
    """
    ranked = checked_groups(groups)
    check_depth(k, len(ranked), "the ranking")
    for group in (first, second):
        if group not in ranked or first == second:
            raise InputError(
                f"Bias@{k} of {first!r} and {second!r}: name two different groups of the ranking, "
                f"which has {_listed(ranked)}"
            )
    top = Counter(ranked[:k])
    both = top[first] + top[second]
    return (top[first] - top[second]) / both if both else 0.0


def able(*, accuracy: float, max_skew: float) -> float:
    """ABLE = 2 / (1 / accuracy + 1 / exp(-MaxSkew)): one figure for quality and bias, in [0, 1].

    Zhang, Guo and Kankanhalli, "Joint Vision-Language Social Bias Removal for CLIP" (CVPR 2025,
    arXiv 2411.12785), who take K = 1000 and the uniform reference. The formula is derived: it
    gives every value that they print, within rounding.

    Parameters
    ----------
    accuracy : a share, in [0, 1]
    max_skew : MaxSkew@K

    Raises `InputError` where the accuracy is no share (a percentage, say) or a figure not finite.
    """
    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracy {accuracy:g} is not in [0, 1]; give a share, not a percentage")
    if not math.isfinite(max_skew):
        raise InputError(f"max_skew is {max_skew}; give a finite figure")
    if accuracy == 0:
        return 0.0
    return 2 / (1 / accuracy + math.exp(max_skew))


def null_distribution(
    statistic: Callable[[Sequence[Any]], float],
    groups: Any,
    permutations: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """A statistic of rankings drawn at random: what it shows without bias; (permutations,).

    Parameters
    ----------
    statistic : takes groups in rank order, such as `lambda ranked: max_skew(ranked, 10)`
    groups : (n,) names, in any order
    """
    generator = np.random.default_rng(seed)
    ranked = checked_groups(groups)
    orders = (generator.permutation(len(ranked)) for _ in range(permutations))
    return np.array([statistic([ranked[item] for item in order]) for order in orders])


def checked_groups(groups: Any, reference: Reference = "uniform") -> list[Hashable]:
    """Groups of a ranking as a list. Raises `InputError` as `skew` says.

    There must be two, in the ranking or in a given reference.
    """
    ranked = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    for place, group in enumerate(ranked):
        if not isinstance(group, Hashable):
            raise InputError(f"rank {place + 1}: {group!r} is no name of a group; give (n,) names")
        if is_unknown(group) or group != group:
            raise InputError(
                f"rank {place + 1}: the group is {group!r}; leave out items whose group is unknown"
            )
    others = reference if isinstance(reference, Mapping) else ()
    if len({*ranked, *others}) < 2 or not ranked:
        raise InputError(
            f"a ranking of {len(ranked)} items in {len(set(ranked))} groups: there is nothing to "
            "compare; give items of two groups or more"
        )
    return ranked


def is_unknown(group: Any) -> bool:
    """Whether a group says that nothing is known: None, or no text."""
    return group is None or (isinstance(group, str) and group == "")


def check_depth(k: int, items: int, of: str) -> None:
    """Raise `InputError` where k is not among 1 .. n."""
    if not isinstance(k, Integral) or not 1 <= k <= items:
        raise InputError(
            f"k is {k}, but {of} has {items} items; give a whole number from 1 to {items}"
        )


def check_compat(compat: Compat | None) -> Compat | None:
    """Raise `InputError` for anything but None and "oxai"."""
    if compat not in (None, "oxai"):
        raise InputError(f'compat is {compat!r}; give "oxai", or leave it out')
    return compat


def reference_shares(sizes: Mapping[Any, int], reference: Reference) -> dict[Hashable, float]:
    """The share q_a of each group, by name; summing to 1.

    Parameters
    ----------
    sizes : items of each group in the gallery, all positive
    reference : as for `skew`

    Raises `InputError` as `skew` does for shares.
    """
    names = sorted(sizes, key=str)
    if isinstance(reference, Mapping):
        return _given_shares(names, reference)
    if reference == "uniform":
        return {name: 1 / len(names) for name in names}
    if reference == "empirical":
        total = sum(sizes.values())
        return {name: sizes[name] / total for name in names}
    raise InputError(
        f'reference is {reference!r}; give "uniform", "empirical" or a share for each group'
    )


def _given_shares(names: list[Any], given: Mapping[Any, float]) -> dict[Hashable, float]:
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(
            f"reference: no share for {missing[0]!r}, a group of the ranking; give one for each of "
            f"{_listed(names)}"
        )
    for name, share in given.items():
        if not 0 < share < math.inf:
            raise InputError(f"reference: the share of {name!r} is {share}; give a positive one")
    total = sum(given.values())
    if abs(total - 1) > TARGET_SUM_TOLERANCE:
        raise InputError(f"reference: shares sum to {total:g}, not to 1; give shares that do")
    return {name: share / total for name, share in given.items()}


def _skew(ranked: list[Hashable], k: int, reference: Reference) -> dict[Hashable, float]:
    top = Counter(ranked[:k])
    shares = reference_shares(Counter(ranked), reference)
    return {name: math.log(max(top[name], 1) / k / share) for name, share in shares.items()}


def _listed(groups: Sequence[Any]) -> str:
    return ", ".join(sorted({str(group) for group in groups}))
