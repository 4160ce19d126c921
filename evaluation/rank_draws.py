"""Many rankings under many draws of their groups: order, top K, skews, divergences."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from evaluation.embeddings import TIE, check_same_space, similarity
from evaluation.rank_kernels import count_top, discounted_divergence
from evaluation.rank_measures import Compat, Reference, check_compat, reference_shares
from m4.solving import processors
from vision.directions import normalised

PARTS = 4  # of the draws, for each thread
UNLIKELY = 0.01  # chance below which a gallery is not taken to be drawn from its reference shares


@dataclass(frozen=True, eq=False)
class Rankings:
    """Rankings of several prompts, laid end to end.

    Attributes
    ----------
    items : (total,) int32, items of one ranking after those of the other, in rank order
    tied : (total,) bool, whether an item ties with the one before it
    starts : (P + 1,) int64, where each ranking starts, and where the last one ends
    gallery : (P,) int64, the gallery that each ranking is of
    """

    items: np.ndarray
    tied: np.ndarray
    starts: np.ndarray
    gallery: np.ndarray

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        prompts: np.ndarray,
        gallery_of_image: np.ndarray,
        gallery_of_prompt: np.ndarray,
        compat: Compat | None,
        seed: int,
    ) -> "Rankings":
        """Each prompt's ranking of its own gallery; embeddings (n, d) and (P, d), codes of both."""
        generator = np.random.default_rng(seed)
        orders: list[Any] = [None] * len(prompts)
        ties: list[Any] = [None] * len(prompts)
        for gallery in np.unique(gallery_of_prompt):
            members = np.flatnonzero(gallery_of_image == gallery).astype(np.int32)
            asking = np.flatnonzero(gallery_of_prompt == gallery)
            order, tied = ranked(images[members], prompts[asking], compat, generator)
            for row, prompt in enumerate(asking):
                orders[prompt], ties[prompt] = members[order[row]], tied[row]
        starts = np.cumsum([0, *map(len, orders)])
        return cls(np.concatenate(orders), np.concatenate(ties), starts, gallery_of_prompt)


def ranked(
    images: Any, prompts: Any, compat: Compat | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Order of the images for each prompt, (P, n) int32, and which tie with the one before them."""
    if check_compat(compat) is None:
        scores = similarity(images, prompts).T
    else:
        unit = normalised(images, "images")  # refuses what has no direction
        lengths = np.einsum("nd,nd->n", unit, np.asarray(images, dtype=np.float64))
        check_same_space(unit, np.asarray(prompts), "prompts")
        # Divided by the longest, which keeps the order, so that TIE means the same.
        scores = normalised(prompts, "prompts") @ (unit * (lengths / lengths.max())[:, None]).T
    orders = np.empty(scores.shape, dtype=np.int32)
    ties = np.zeros(scores.shape, dtype=bool)
    for score, order, tied in zip(scores, orders, ties, strict=True):
        falling = np.argsort(-score)
        tied[1:] = score[falling[:-1]] - score[falling[1:]] <= TIE
        step = np.empty_like(falling)
        step[falling] = np.cumsum(~tied)
        order[:] = np.lexsort((generator.permutation(len(score)), step))
    return orders, ties


@dataclass(frozen=True, eq=False)
class GroupDraws:
    """Groups of n items, as they are or in several draws.

    Attributes
    ----------
    codes : (draws or 1, n), each item's group
    copies : (draws, n), how often each item is in a draw; None: once
    log_shares : (draws or 1, galleries, G), ln of each group's reference share; infinite where a
        gallery lacks a group, which then never is the one that is shown too much
    """

    codes: np.ndarray
    copies: np.ndarray | None
    log_shares: np.ndarray

    def __len__(self) -> int:
        return len(self.codes if self.copies is None else self.copies)


def log_shares(sizes: np.ndarray, names: Sequence[Any], reference: Reference) -> np.ndarray:
    """ln of the reference shares of each gallery, (galleries, G), from its groups' sizes."""
    table = np.full(sizes.shape, np.inf)
    for row, own in zip(table, sizes.tolist(), strict=True):
        present = {name: size for name, size in zip(names, own, strict=True) if size}
        for name, share in reference_shares(present, reference).items():
            row[names.index(name)] = math.log(share)
    return table


def log_empirical_shares(sizes: np.ndarray) -> np.ndarray:
    """ln of the groups' own shares, from their sizes (..., G)."""
    shares = sizes / sizes.sum(axis=-1, keepdims=True)
    return np.where(sizes > 0, np.log(np.where(sizes > 0, shares, 1)), np.inf)


def top_counts(rankings: Rankings, draws: GroupDraws, k: int, compat: Compat | None) -> np.ndarray:
    """Items of each group among the top K of each ranking; (draws, P, G) int32."""
    shape = len(draws), len(rankings.gallery), draws.log_shares.shape[-1]
    into = np.zeros(shape, dtype=np.int32)
    tied = None if compat is None else rankings.tied
    _in_threads(
        count_top,
        len(draws),
        (rankings.items, tied, rankings.starts, draws.codes, draws.copies, k, into),
    )
    return into


def max_skews(rankings: Rankings, draws: GroupDraws, top: np.ndarray, k: int) -> np.ndarray:
    """MaxSkew@K of each ranking in each draw, (draws, P), from `top_counts`."""
    return _skews(rankings, draws, top, k).max(axis=-1)


def min_skews(rankings: Rankings, draws: GroupDraws, top: np.ndarray, k: int) -> np.ndarray:
    """MinSkew@K of each ranking in each draw, (draws, P), from `top_counts`."""
    return _smallest(_skews(rankings, draws, top, k))


def _skews(rankings: Rankings, draws: GroupDraws, top: np.ndarray, k: int) -> np.ndarray:
    """Skew@K of each group, (draws, P, G); -inf where it takes no part."""
    return np.log(np.maximum(top, 1) / k) - draws.log_shares[:, rankings.gallery]


def _smallest(skews: np.ndarray) -> np.ndarray:
    return np.where(np.isneginf(skews), np.inf, skews).min(axis=-1)


def biases(top: np.ndarray, first: int, second: int) -> np.ndarray:
    """Bias@K of two groups in each draw, (draws, P), from `top_counts`; 0 if neither is there."""
    both = top[..., first] + top[..., second]
    return (top[..., first].astype(float) - top[..., second]) / np.maximum(both, 1)


def ndkls(
    rankings: Rankings, draws: GroupDraws, k: int | None, compat: Compat | None
) -> np.ndarray:
    """NDKL of the top K of each ranking, of all of it where k is None, in each draw; (draws, P)."""
    lengths = np.diff(rankings.starts)
    depth = lengths if k is None else np.full_like(lengths, k)
    place = np.arange(1, lengths.max() + 1)
    discount = 1 / np.log2(place + 1)
    count = np.arange(len(place) + 1)
    growth = np.diff(count * np.log(np.maximum(count, 1)))
    spent = np.cumsum([0.0, *(np.log(place) * discount)])
    into = np.empty((len(draws), len(lengths)))
    tied = None if compat is None else rankings.tied
    ranking = rankings.items, tied, rankings.starts, rankings.gallery
    tables = draws.log_shares, growth, discount / place, spent
    _in_threads(
        discounted_divergence,
        len(draws),
        (*ranking, draws.codes, draws.copies, depth, *tables, into),
    )
    # Not below 0, where rounding would leave a divergence of nothing.
    return np.maximum(into / np.cumsum(discount)[depth - 1], 0.0)


@dataclass(frozen=True, eq=False)
class Unbiased:
    """Figures of each gallery, (galleries,), where the top of an endless one is as the gallery.

    A gallery that may well be drawn from the reference shares is taken to be. A group that it
    lacks counts as if it had 1 / K of the top, as in any ranking.
    """

    max_skew: np.ndarray
    min_skew: np.ndarray
    ndkl: np.ndarray

    @classmethod
    def of(cls, sizes: np.ndarray, log_shares: np.ndarray, k: int) -> "Unbiased":
        """From the galleries' own groups and their reference, both (galleries, G)."""
        images = sizes.sum(axis=1, keepdims=True)
        own, reference = sizes / images, np.where(sizes > 0, log_shares, 0.0)
        away = np.log(np.where(sizes > 0, own, 1.0)) - reference
        asked = np.isfinite(log_shares)  # of the groups of other galleries it says nothing
        expected = images * np.exp(np.where(asked, log_shares, 0.0))
        squares = np.where(asked, (sizes - expected) ** 2 / expected, 0.0)
        alike = chi2.sf(squares.sum(axis=1), asked.sum(axis=1) - 1) > UNLIKELY
        away[alike] = 0.0
        skews = np.where(sizes > 0, away, -math.log(k) - log_shares)
        return cls(skews.max(axis=1), _smallest(skews), (own * away).sum(axis=1))


def _in_threads(kernel: Callable[..., None], draws: int, arguments: tuple[Any, ...]) -> None:
    """Run a kernel on ranges of the draws, in as many threads as there are processors."""
    ends = np.linspace(0, draws, min(draws, processors() * PARTS) + 1).astype(int)
    with ThreadPoolExecutor(processors()) as pool:
        # A list, so that an error in a thread is raised here.
        list(pool.map(lambda first, after: kernel(first, after, *arguments), ends[:-1], ends[1:]))
