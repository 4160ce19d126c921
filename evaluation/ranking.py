"""Bias of retrieval: which groups prompts bring to the top of a gallery of images.

Each prompt ranks images by cosine similarity; `evaluation.rank_measures` says what is measured of
one ranking. Here it is measured of all of them, as they are, under resampling and without bias.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evaluation.draws import ROUNDING, Draws
from evaluation.rank_draws import (
    GroupDraws,
    Rankings,
    Unbiased,
    biases,
    log_empirical_shares,
    log_shares,
    max_skews,
    min_skews,
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
from evaluation.rank_prompts import OverPrompts, Phrases
from evaluation.resampling import Resampling
from m4.errors import InputError


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
class RetrievalSkew:
    """How far retrieval is from the reference shares of the groups.

    Attributes
    ----------
    sizes : images of each group, by name
    unknown : images left out, because their group or their gallery is not known
    max_skew : MaxSkew@K, max_a ln(p_a / q_a): `evaluation.rank_measures.max_skew` (Geyik et al.
        2019)
    min_skew : MinSkew@K, min_a ln(p_a / q_a): `evaluation.rank_measures.min_skew` (the same). It
        stands out on the lower side of the null. Above 0 only where K q_a is below 1 for a group,
        as where K is below the number of groups, or where `compat` counts more than K
    ndkl : NDKL of whole rankings, or of the top of them, (1/Z) sum_i KL(p_i, q) / log2(i + 1):
        `evaluation.rank_measures.ndkl` (the same)
    bias : Bias@K, (first - second) / (first + second) of two groups:
        `evaluation.rank_measures.bias_at_k` (Wang et al. 2021). None where no two are named and
        there are more
    absolute_bias : its absolute value, prompt by prompt
    """

    sizes: Mapping[Hashable, int]
    unknown: int
    max_skew: OverPrompts
    min_skew: OverPrompts
    ndkl: OverPrompts
    bias: OverPrompts | None
    absolute_bias: OverPrompts | None


def rank(images: Any, prompts: Any, *, compat: Compat | None = None, seed: int = 0) -> np.ndarray:
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
    second: Hashable = None,
    compat: Compat | None = None,
) -> RetrievalSkew:
    """MaxSkew@K, MinSkew@K, NDKL and Bias@K (`evaluation.rank_measures`) of every prompt's ranking.

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
    first, second : the groups that Bias@K counts as positive and as negative, whatever others
        there are; left out, where there are just two, they are these in order of their names
    compat : "oxai" ranks by products with images as long as they come, lets k be the whole gallery,
        and counts all that tie with the K-th: their shares, of K, then sum to more than 1, and
        NDKL goes beyond K, with Z of K

    Raises `InputError` where the numbers of images, groups, prompts, clusters and galleries
    disagree, where a gallery is too small for k or has one group, where `first` or `second` is no
    group or names one of several alone, and as `skew` and `rank` do.
    """
    check_compat(compat)
    images, prompts = np.asarray(images), np.asarray(prompts)
    crowd = _Crowd.of(len(images), len(prompts), groups, galleries)
    _check_galleries(crowd, k, ndkl_k, compat)
    pair = _pair(crowd.groups, first, second)
    phrases = Phrases.of(range(len(prompts)) if clusters is None else clusters, resampling)
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
    measured = _Measured(crowd, rankings, phrases, names, draws, tops, k, compat)
    source = "given shares" if isinstance(reference, Mapping) else reference
    bias, absolute_bias = (None, None) if pair is None else measured.bias_at_k(*pair)
    return RetrievalSkew(
        sizes=measured.group_sizes,
        unknown=len(images) - len(crowd.rows),
        max_skew=measured.max_skew(source),
        min_skew=measured.min_skew(source),
        ndkl=measured.ndkl(source, ndkl_k),
        bias=bias,
        absolute_bias=absolute_bias,
    )


@dataclass(frozen=True, eq=False)
class _Measured:
    """Rankings of a crowd, under the three draws of its groups, as they are first.

    Attributes
    ----------
    names : of the groups, G of them
    tops : images of each group in the top K of each ranking, for each of the draws
    """

    crowd: "_Crowd"
    rankings: Rankings
    phrases: Phrases
    names: list[Any]
    draws: tuple[GroupDraws, GroupDraws, GroupDraws]
    tops: list[np.ndarray]
    k: int
    compat: Compat | None

    @cached_property
    def group_sizes(self) -> dict[Hashable, int]:
        """Images of each group, in the order of the groups' names."""
        return dict(sorted(Counter(self.crowd.groups).items(), key=str))

    @cached_property
    def gallery_sizes(self) -> np.ndarray:
        """Images of each group in each gallery, (galleries, G)."""
        return self.crowd.sizes(self.names)

    @property
    def reference_shares(self) -> np.ndarray:
        """ln of the reference shares of each gallery as it is, (galleries, G)."""
        return self.draws[0].log_shares[0]

    @cached_property
    def unbiased(self) -> Unbiased:
        """What the galleries' own shares give against the reference."""
        return Unbiased.of(self.gallery_sizes, self.reference_shares, self.k)

    def max_skew(self, source: str) -> OverPrompts:
        """MaxSkew@K; `source` says what the reference is."""
        return self._over(
            f"max_skew@{self.k}, {source}",
            [max_skews(self.rankings, *each, self.k) for each in self._with_tops()],
            bounds=(0.0, np.inf),
            better="lower",
            unbiased=self._of_prompts(self.unbiased.max_skew),
        )

    def min_skew(self, source: str) -> OverPrompts:
        """MinSkew@K; `source` as for `max_skew`."""
        never_above_0 = (
            self.compat is None and self.k * np.exp(self.reference_shares.min()) > 1 - ROUNDING
        )
        return self._over(
            f"min_skew@{self.k}, {source}",
            [min_skews(self.rankings, *each, self.k) for each in self._with_tops()],
            bounds=(-np.inf, 0.0 if never_above_0 else np.inf),
            better="nearer 0",
            tail="lower",
            unbiased=self._of_prompts(self.unbiased.min_skew),
        )

    def ndkl(self, source: str, depth: int | None) -> OverPrompts:
        """NDKL of the top `depth`; None: of whole rankings. `source` as for `max_skew`."""
        return self._over(
            f"ndkl{'' if depth is None else f'@{depth}'}, {source}",
            [ndkls(self.rankings, each, depth, self.compat) for each in self.draws],
            bounds=(0.0, np.inf),
            better="lower",
            unbiased=self._of_prompts(self.unbiased.ndkl),
        )

    def bias_at_k(self, first: Hashable, second: Hashable) -> tuple[OverPrompts, OverPrompts]:
        """Bias@K of two groups, with its sign and without."""
        columns = self.names.index(first), self.names.index(second)
        signed = [biases(top, *columns) for top in self.tops]
        smallest = {"smallest_group": min(self.group_sizes[name] for name in (first, second))}
        label = f"bias@{self.k}, {first} over {second}"
        return (
            self._over(
                label, signed, bounds=(-1.0, 1.0), better="nearer 0", tail="both", **smallest
            ),
            self._over(
                f"absolute {label}",
                [np.abs(each) for each in signed],
                bounds=(0.0, 1.0),
                better="lower",
                unbiased=self._of_prompts(np.abs(biases(self.gallery_sizes, *columns))),
                **smallest,
            ),
        )

    def _with_tops(self) -> Iterator[tuple[GroupDraws, np.ndarray]]:
        return zip(self.draws, self.tops, strict=True)

    def _of_prompts(self, of_galleries: np.ndarray) -> np.ndarray:
        return of_galleries[self.crowd.gallery_of_prompt]

    def _over(self, measure: str, arrays: Sequence[np.ndarray], **facts: Any) -> OverPrompts:
        observed, bootstrap, null = arrays
        facts = {"smallest_group": min(self.group_sizes.values()), **facts}
        return self.phrases.over(
            Draws(
                measure if self.compat is None else f"{measure}, {self.compat}",
                self.phrases.names,
                observed[0],
                bootstrap,
                null,
                len(self.crowd.rows),
                **facts,
            )
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


def _check_galleries(crowd: _Crowd, k: int, ndkl_k: int | None, compat: Compat | None) -> None:
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
    as_is = of_resamples = log_shares(crowd.sizes(names), names, reference)[None]
    if reference == "empirical":
        cells = crowd.gallery_of_image * len(names) + codes
        # One resample at a time: counts of all of them as floats would fill the memory.
        resampled = [np.bincount(cells, own, len(galleries) * len(names)) for own in copies]
        of_resamples = log_empirical_shares(
            np.reshape(resampled, (len(copies), len(galleries), len(names)))
        )
    traded = codes[resampling.permuted(len(codes), crowd.gallery_of_image)]
    return (
        GroupDraws(codes[None], None, as_is),
        GroupDraws(codes[None], copies, of_resamples),
        GroupDraws(traded, None, as_is),
    )


def _pair(groups: list[Any], first: Hashable, second: Hashable) -> tuple[Hashable, Hashable] | None:
    """The two groups of Bias@K; None where none are named and there are more than two."""
    names = sorted(set(groups), key=str)
    for what, name in (("first", first), ("second", second)):
        if name is not None and name not in names:
            raise InputError(
                f"{what} is {name!r}, but the groups are {', '.join(map(str, names))}; name one of "
                "them, or leave it out"
            )
    if first is None and second is None:
        return (names[0], names[1]) if len(names) == 2 else None
    if first == second:
        raise InputError(f"first and second are both {first!r}; name two different groups")
    if first is not None and second is not None:
        return first, second
    if len(names) != 2:
        given, missing = ("first", "second") if second is None else ("second", "first")
        raise InputError(
            f"{given} is given without {missing}, but there are {len(names)} groups, "
            f"{', '.join(map(str, names))}; give both, or leave both out"
        )
    other = names[1 - names.index(second if first is None else first)]
    return (other, second) if first is None else (first, other)
