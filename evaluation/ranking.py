"""Bias of retrieval: which groups prompts bring to the top of a gallery of images.

Each prompt ranks images by cosine similarity; `evaluation.rank_measures` says what is measured of
one ranking. Here it is measured of all of them, as they are, under resampling and without bias.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import chi2

from evaluation.draws import Draws
from evaluation.rank_draws import (
    GroupDraws,
    Rankings,
    log_empirical_shares,
    log_shares,
    max_skews,
    ndkls,
    ranked,
    top_counts,
)
from evaluation.rank_measures import (
    Compat,
    Reference,
    check_compat,
    check_depth,
    checked_groups,
    is_unknown,
)
from evaluation.resampling import Resampling
from m4.errors import InputError

ALL = "all prompts"


@dataclass(frozen=True, eq=False)
class Galleries:
    """Images in galleries of their own, such as one of each occupation.

    Attributes
    ----------
    of_images : n names, None or "" where an image is in none and takes no part
    of_prompts : P names, the gallery that each prompt ranks
    """

    of_images: Sequence[Any]
    of_prompts: Sequence[Any]


@dataclass(frozen=True, eq=False)
class OverPrompts:
    """A measure by prompt, its mean over the prompts, and the largest of them.

    `clusters` has the mean of each cluster; None where each prompt is one of its own. `largest` is
    None for a measure with a sign. The bootstrap of the mean draws images and clusters of
    prompts; that of the others draws images, for the prompts that there are.
    """

    each: Draws
    clusters: Draws | None
    mean: Draws
    largest: Draws | None


@dataclass(frozen=True, eq=False)
class RetrievalSkew:
    """How far retrieval is from the reference shares of the groups.

    Attributes
    ----------
    sizes : images of each group, by name
    unknown : images left out, because their group or their gallery is not known
    max_skew : MaxSkew@K
    ndkl : NDKL of whole rankings, or of the top of them
    bias, absolute_bias : Bias@K with its sign and without, of two groups; None where there are more
    """

    sizes: Mapping[Hashable, int]
    unknown: int
    max_skew: OverPrompts
    ndkl: OverPrompts
    bias: OverPrompts | None
    absolute_bias: OverPrompts | None


def rank(images: Any, prompts: Any, *, compat: Compat = None, seed: int = 0) -> np.ndarray:
    """Each prompt's ranking of the images, the most similar first; (P, n) int32.

    Ranked by cosine similarity. Neighbours in the ranking that are within
    `evaluation.embeddings.TIE` of each other tie, and so do all in a row of such neighbours. Those
    that tie stand in an order drawn anew for each prompt, so that no place in the file is favoured.

    Parameters
    ----------
    images : (n, d)
    prompts : (P, d)
    compat : "oxai" ranks by the product with images as long as they come, not of unit length
    seed : of the order among those that tie

    Raises `InputError` where a row has no direction, or where images and prompts differ in d.
    """
    return ranked(images, prompts, compat, np.random.default_rng(seed))[0]


def retrieval_skew(
    images: Any,
    prompts: Any,
    groups: Any,
    *,
    resampling: Resampling,
    k: int = 1000,
    ndkl_k: int | None = None,
    reference: Reference = "uniform",
    clusters: Sequence[Any] | None = None,
    galleries: Galleries | None = None,
    first: Hashable = None,
    compat: Compat = None,
) -> RetrievalSkew:
    """MaxSkew@K, NDKL and Bias@K (`evaluation.rank_measures`) of the ranking of every prompt.

    The bootstrap draws images, within their gallery. For the mean over prompts it also draws
    clusters of prompts, independently: Owen, "The pigeonhole bootstrap" (Annals of Applied
    Statistics 2007), whose intervals are, if anything, too wide. The "uniform" and given references
    stay the same in every resample; the "empirical" one is the resample's own, and a group that a
    resample lacks then takes no part in it. For the null, images trade their groups within their
    gallery, once for all prompts, so that prompts that rank alike still do.

    Parameters
    ----------
    images : (n, d)
    prompts : (P, d)
    groups : n names, None or "" where the group is not known; such images are left out and counted
    k : K, smaller than every gallery: at the whole of it, all rankings show the same groups
    ndkl_k : K of NDKL, at most as large as every gallery; left out, NDKL is of whole rankings
    reference : as for `evaluation.rank_measures.skew`, of each gallery
    clusters : P names, equal for prompts that say the same in other words; left out, all differ
    galleries : left out, every prompt ranks all images
    first : of two groups, the one that Bias@K counts as positive; the first by name if left out
    compat : "oxai" ranks by products with images as long as they come, lets k be the whole gallery,
        and counts all that tie with the K-th: their shares, of K, then sum to more than 1, and
        NDKL goes beyond K, with Z of K

    Raises `InputError` where the numbers of images, groups, prompts, clusters and galleries
    disagree, where a gallery is too small for k or has one group, and as `skew` and `rank` do.
    """
    check_compat(compat)
    images, prompts = np.asarray(images), np.asarray(prompts)
    crowd = _Crowd.of(len(images), len(prompts), groups, galleries)
    _check_galleries(crowd, k, ndkl_k, compat)
    phrases = _Phrases.of(range(len(prompts)) if clusters is None else clusters, resampling)
    _check_length("clusters", len(phrases.names), "prompts", len(prompts))
    rankings = Rankings.of(
        images[crowd.rows],
        prompts,
        crowd.gallery_of_image,
        crowd.gallery_of_prompt,
        compat,
        resampling.seed,
    )
    names = sorted({*crowd.groups, *(reference if isinstance(reference, Mapping) else ())}, key=str)
    draws = _group_draws(crowd, names, reference, resampling)
    tops = [top_counts(rankings, each, k, compat) for each in draws]

    def over(measure: str, arrays: Sequence[np.ndarray], **facts: Any) -> OverPrompts:
        observed, bootstrap, null = arrays
        measure += "" if compat is None else f", {compat}"
        return phrases.over(
            Draws(measure, phrases.names, observed[0], bootstrap, null, len(crowd.rows), **facts)
        )

    unbiased = _unbiased(crowd, names, draws[0].log_shares[0], resampling.level)
    source = "given shares" if isinstance(reference, Mapping) else reference
    skews = [max_skews(rankings, *each, k) for each in zip(draws, tops, strict=True)]
    divergences = [ndkls(rankings, each, ndkl_k, compat) for each in draws]
    depth = "" if ndkl_k is None else f"@{ndkl_k}"
    bias = absolute_bias = None
    pair = _pair(crowd.groups, first)
    if pair is not None:
        signed = [_bias(top, names.index(pair[0]), names.index(pair[1])) for top in tops]
        label = f"bias@{k}, {pair[0]} over {pair[1]}"
        bias = over(label, signed, bounds=(-1.0, 1.0), tail="both", better="nearer 0")
        sizes = crowd.sizes(names)[crowd.gallery_of_prompt][:, [names.index(one) for one in pair]]
        absolute_bias = over(
            f"absolute bias@{k}",
            list(map(np.abs, signed)),
            bounds=(0.0, 1.0),
            unbiased=np.abs(np.diff(sizes, axis=1)[:, 0]) / sizes.sum(axis=1),
        )
    return RetrievalSkew(
        sizes=dict(sorted(Counter(crowd.groups).items(), key=str)),
        unknown=len(images) - len(crowd.rows),
        max_skew=over(
            f"max_skew@{k}, {source}", skews, bounds=(0.0, np.inf), unbiased=unbiased.max_skew
        ),
        ndkl=over(
            f"ndkl{depth}, {source}", divergences, bounds=(0.0, np.inf), unbiased=unbiased.ndkl
        ),
        bias=bias,
        absolute_bias=absolute_bias,
    )


@dataclass(frozen=True, eq=False)
class _Crowd:
    """The n' images that take part: their rows, groups and galleries; and what prompts rank."""

    rows: np.ndarray
    groups: list[Any]
    galleries: tuple[str, ...]
    gallery_of_image: np.ndarray
    gallery_of_prompt: np.ndarray

    @classmethod
    def of(cls, images: int, prompts: int, groups: Any, galleries: Galleries | None) -> "_Crowd":
        of_all = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
        shown = galleries or Galleries([0] * images, [0] * prompts)
        place, asked = list(shown.of_images), list(shown.of_prompts)
        _check_length("groups", len(of_all), "images", images)
        _check_length("galleries of images", len(place), "images", images)
        _check_length("galleries of prompts", len(asked), "prompts", prompts)
        known = [
            not (is_unknown(group) or is_unknown(own))
            for group, own in zip(of_all, place, strict=True)
        ]
        rows = np.flatnonzero(known)
        own_groups = checked_groups([of_all[row] for row in rows])
        names = sorted({place[row] for row in rows} | set(asked), key=str)
        code = {name: at for at, name in enumerate(names)}
        return cls(
            rows,
            own_groups,
            tuple("the gallery" if galleries is None else f"gallery {name!r}" for name in names),
            np.array([code[place[row]] for row in rows]),
            np.array([code[name] for name in asked]),
        )

    def sizes(self, names: Sequence[Any]) -> np.ndarray:
        """Images of each group in each gallery, (galleries, G)."""
        found = np.zeros((len(self.galleries), len(names)))
        code = {name: at for at, name in enumerate(names)}
        np.add.at(found, (self.gallery_of_image, np.array([code[own] for own in self.groups])), 1)
        return found

    def members(self, gallery: int) -> np.ndarray:
        """Which of the n' images are in a gallery."""
        return np.flatnonzero(self.gallery_of_image == gallery)


def _check_length(what: str, many: int, of: str, wanted: int) -> None:
    if many != wanted:
        raise InputError(f"{many} {what} for {wanted} {of}; give one for each")


def _check_galleries(crowd: _Crowd, k: int, ndkl_k: int | None, compat: Compat) -> None:
    for code, name in enumerate(crowd.galleries):
        members = crowd.members(code)
        if code not in crowd.gallery_of_prompt:
            raise InputError(f"{name}: no prompt ranks it; leave out its images")
        present = {crowd.groups[member] for member in members}
        if len(present) < 2:
            raise InputError(
                f"{name}: {len(members)} images of known group, in {len(present)} "
                "groups: there is nothing to compare; give images of two groups or more"
            )
        check_depth(k, len(members), name)
        check_depth(len(members) if ndkl_k is None else ndkl_k, len(members), name)
        if k == len(members) and compat is None:
            raise InputError(
                f"k is {k}, all of {name}: every ranking then shows the same groups; "
                "give a smaller k or more images"
            )


@dataclass(frozen=True, eq=False)
class _Unbiased:
    """What each prompt shows where the top of an endless gallery is as the gallery; (P,).

    A gallery that may well be drawn from the reference shares is taken to be.
    """

    max_skew: np.ndarray
    ndkl: np.ndarray


def _unbiased(
    crowd: _Crowd, names: Sequence[Any], log_shares: np.ndarray, level: float
) -> _Unbiased:
    """From the galleries' own shares and the reference's, ln (galleries, G)."""
    sizes = crowd.sizes(names)
    images = sizes.sum(axis=1, keepdims=True)
    own, reference = sizes / images, np.where(sizes > 0, log_shares, 0.0)
    away = np.log(np.where(sizes > 0, own, 1.0)) - reference
    expected = images * np.where(sizes > 0, np.exp(reference), 0.0)
    # A reference may name groups that the gallery lacks; Pearson's sum leaves these out.
    squares = np.where(sizes > 0, (sizes - expected) ** 2 / np.where(sizes > 0, expected, 1.0), 0.0)
    alike = chi2.sf(squares.sum(axis=1), (sizes > 0).sum(axis=1) - 1) > 1 - level
    away[alike] = 0.0
    prompts = crowd.gallery_of_prompt
    return _Unbiased(
        max_skew=np.where(sizes > 0, away, -np.inf).max(axis=1)[prompts],
        ndkl=(own * away).sum(axis=1)[prompts],
    )


def _group_draws(
    crowd: _Crowd, names: list[Any], reference: Reference, resampling: Resampling
) -> tuple[GroupDraws, GroupDraws, GroupDraws]:
    """The groups as they are, in bootstrap resamples, and traded within galleries."""
    code = {name: at for at, name in enumerate(names)}
    codes = np.array([code[group] for group in crowd.groups], dtype=np.min_scalar_type(len(names)))
    copies = np.empty((resampling.resamples, len(codes)), dtype=np.uint16)
    galleries = [crowd.members(gallery) for gallery in range(len(crowd.galleries))]
    for name, members in zip(crowd.galleries, galleries, strict=True):
        of = "images" if len(galleries) == 1 else f"images of {name}"
        copies[:, members] = resampling.counts(len(members), of=of)
    in_group = np.eye(len(names))[codes]
    as_is = of_resamples = log_shares(crowd.sizes(names), names, reference)[None]
    if reference == "empirical":
        resampled = [copies[:, members] @ in_group[members] for members in galleries]
        of_resamples = log_empirical_shares(np.stack(resampled, axis=1))
    traded = codes[resampling.permuted(len(codes), crowd.gallery_of_image)]
    return (
        GroupDraws(codes[None], None, as_is),
        GroupDraws(codes[None], copies, of_resamples),
        GroupDraws(traded, None, as_is),
    )


@dataclass(frozen=True, eq=False)
class _Phrases:
    """Names of P prompts, and of the C clusters that they are in.

    Attributes
    ----------
    names, clusters : of prompts and of clusters
    within : (P, C), 1 over a cluster's prompts for each of them
    weights : (B, P), how often each prompt is in a bootstrap resample of clusters
    """

    names: tuple[str, ...]
    clusters: tuple[str, ...]
    within: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, clusters: Sequence[Any], resampling: Resampling) -> "_Phrases":
        """A prompt has the name of its cluster, with a number where the cluster has several."""
        sizes, met = Counter(clusters), Counter[Any]()
        names = []
        for cluster in clusters:
            met[cluster] += 1
            names.append(f"{cluster}" if sizes[cluster] == 1 else f"{cluster} {met[cluster]}")
        place = {cluster: at for at, cluster in enumerate(sizes)}
        own = [place[cluster] for cluster in clusters]
        counts = resampling.counts(len(sizes), of="prompts")
        within = np.eye(len(sizes))[own] / np.array(list(sizes.values()))
        return cls(tuple(names), tuple(map(str, sizes)), within, counts[:, own])

    def over(self, each: Draws) -> OverPrompts:
        mean = each.mean(ALL)
        weighted = (self.weights * each.bootstrap).sum(axis=1) / self.weights.sum(axis=1)
        return OverPrompts(
            each,
            self._by_cluster(each) if len(self.clusters) < len(self.names) else None,
            replace(mean, bootstrap=weighted[:, None]),
            None if each.tail == "both" else each.maximum(ALL),
        )

    def _by_cluster(self, each: Draws) -> Draws:
        assert each.null is not None
        return replace(
            each,
            measure=f"{each.measure}, mean over wordings",
            names=self.clusters,
            observed=each.observed @ self.within,
            bootstrap=each.bootstrap @ self.within,
            null=each.null @ self.within,
            unbiased=None if each.unbiased is None else each.unbiased @ self.within,
        )


def _pair(groups: list[Any], first: Hashable) -> tuple[Hashable, Hashable] | None:
    """The two groups of Bias@K, the positive one first; None where there are more than two."""
    names = sorted(set(groups), key=str)
    if first is not None and (first not in names or len(names) != 2):
        raise InputError(
            f"first is {first!r}, but the groups are {', '.join(map(str, names))}; name one of two "
            "groups, or leave it out"
        )
    if len(names) != 2:
        return None
    return (names[0], names[1]) if first in (None, names[0]) else (names[1], names[0])


def _bias(top: np.ndarray, first: int, second: int) -> np.ndarray:
    """Bias@K of each ranking in each draw, (draws, P), from `top_counts`; 0 if neither is there."""
    both = top[..., first] + top[..., second]
    return (top[..., first].astype(float) - top[..., second]) / np.maximum(both, 1)
