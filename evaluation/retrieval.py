"""Retrieval: whether an image's captions, and a caption's images, are among the most similar.

Ties favour nobody: each figure is its expected value if ties were broken at random, so a model
that sees no difference between its inputs scores at chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.stats import hypergeom

from evaluation.draws import Draws
from evaluation.embeddings import TIE, chance_in_top, check_same_space
from evaluation.resampling import Resampling
from m4.catalogue import Model
from m4.errors import InputError
from vision.directions import normalised

BLOCK = 2048
"""Rows and columns of similarities held at a time."""


@dataclass(frozen=True, eq=False)
class CaptionPairs:
    """Distinct captions and whose they are.

    `texts` are t different strings; `pairs` (p, 2) int are different (image row, text row).
    """

    texts: tuple[str, ...]
    pairs: np.ndarray

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]]) -> "CaptionPairs":
        """Join equal strings into one text that belongs to all of its images.

        `captions` holds, for each image, its captions.
        """
        row = {text: 0 for of_image in captions for text in of_image}
        row = {text: position for position, text in enumerate(row)}
        pairs = {(image, row[text]) for image, own in enumerate(captions) for text in own}
        return cls(tuple(row), np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2))


class Retrieval(Model):
    """Recall by k, in both directions, among `images` images and `texts` texts."""

    images: int
    texts: int
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]


def retrieval_recall(
    images: Any, texts: Any, pairs: Any, ks: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Recall at k from image to text and from text to image.

        R@k = share of queries with at least one right answer among their k most similar items

    Any caption of an image is right for it, and any image of a text. Source: Karpathy and
    Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (2015).

    Parameters
    ----------
    images : (n, d)
    texts : (t, d), no string twice (`CaptionPairs`)
    pairs : (p, 2) int, (image row, text row)
    ks : sizes of the list looked at, each smaller than n and t

    Similarities are held in blocks, never n x t. Raises `InputError` where a k is not smaller
    than the number of items (recall is then 1 by construction), where an image has no text or a
    text no image, or where a row has no direction.
    """
    hits = _Hits.of(images, texts, pairs, ks)
    return Retrieval(
        images=hits.own.shape[0],
        texts=hits.own.shape[1],
        image_to_text={k: float(hits.of_image[k].mean()) for k in ks},
        text_to_image={k: float(hits.of_text[k].mean()) for k in ks},
    )


def retrieval_draws(
    images: Any, texts: Any, pairs: Any, resampling: Resampling, ks: Sequence[int] = (1, 5, 10)
) -> tuple[Draws, ...]:
    """Recall at each k, from image to text and from text to image.

    Figures, parameters and errors as for `retrieval_recall`. Interval: resamples of the images,
    each with its texts, for the texts of one image are found or missed together; a text of
    several images counts as often as they do on average. Queries are resampled; what they search
    stays as it is. Null, "chance": every query ranks all items in random order. One with p right
    answers among N items then has one in its top k with probability 1 - C(N - p, k) / C(N, k).
    """
    hits = _Hits.of(images, texts, pairs, ks)
    n, t = hits.own.shape
    of_image = _Queries("image_to_text", hits.of_image, eye_array(n), hits.own.sum(axis=1), t)
    parts = hits.own / hits.own.sum(axis=0)
    of_text = _Queries("text_to_image", hits.of_text, parts, hits.own.sum(axis=0), n)
    return (*of_image.draws(resampling), *of_text.draws(resampling))


@dataclass(frozen=True, eq=False)
class _Hits:
    """Chance that each query has a right answer in its top k, by k.

    `own` (n, t) of 0 and 1: whose text is whose; `of_image` (n,) and `of_text` (t,) for each k
    """

    own: csr_array
    of_image: dict[int, np.ndarray]
    of_text: dict[int, np.ndarray]

    @classmethod
    def of(cls, images: Any, texts: Any, pairs: Any, ks: Sequence[int]) -> "_Hits":
        images, texts = normalised(images, "images"), normalised(texts, "texts")
        check_same_space(images, texts, "texts")
        pairs = np.unique(np.asarray(pairs, dtype=np.int64).reshape(-1, 2), axis=0)
        _check_retrieval(len(images), len(texts), pairs, ks)
        scores = np.concatenate(
            [
                np.einsum("pd,pd->p", images[block[:, 0]], texts[block[:, 1]])
                for block in np.array_split(pairs, len(pairs) // BLOCK + 1)
            ]
        )
        best = [np.full(len(side), -np.inf) for side in (images, texts)]
        right = [np.zeros(len(side)) for side in (images, texts)]
        for side in range(2):
            np.maximum.at(best[side], pairs[:, side], scores)
            np.add.at(right[side], pairs[:, side], scores >= best[side][pairs[:, side]] - TIE)
        found = []
        for side, (above, tied) in enumerate(_rivals(images, texts, *best)):
            tied = np.maximum(tied, right[side])  # the two products round differently
            found.append({k: chance_in_top(above, tied, right[side], k) for k in ks})
        own = csr_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(images), len(texts)))
        return cls(own, *found)


def _check_retrieval(images: int, texts: int, pairs: np.ndarray, ks: Sequence[int]) -> None:
    for k in ks:
        if not 1 <= k < min(images, texts):
            raise InputError(
                f"R@{k} among {images} images and {texts} distinct texts: k must be at least 1 "
                "and smaller than both, or recall is 1 by construction; give a smaller k or more "
                "images"
            )
    for column, (items, name, other) in enumerate(
        ((images, "image", "text"), (texts, "text", "image"))
    ):
        if len(pairs) and not 0 <= pairs[:, column].min() <= pairs[:, column].max() < items:
            raise InputError(f"pairs name a row of {name}s outside 0 to {items - 1}")
        alone = np.setdiff1d(np.arange(items), pairs[:, column])
        if len(alone):
            raise InputError(f"{name} {alone[0]} has no {other}; leave it out or pair it")


def _rivals(
    images: np.ndarray, texts: np.ndarray, best_text: np.ndarray, best_image: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Items that score above, and the same as, the best right one: by image, and by text."""
    above = np.zeros(len(images)), np.zeros(len(texts))
    tied = np.zeros(len(images)), np.zeros(len(texts))
    for i in range(0, len(images), BLOCK):
        rows = slice(i, i + BLOCK)
        for j in range(0, len(texts), BLOCK):
            columns = slice(j, j + BLOCK)
            scores = images[rows] @ texts[columns].T
            of_image, of_text = best_text[rows, None], best_image[None, columns]
            for side, part, best in ((0, rows, of_image), (1, columns, of_text)):
                higher = np.count_nonzero(scores > best + TIE, axis=1 - side)
                above[side][part] += higher
                tied[side][part] += np.count_nonzero(scores >= best - TIE, axis=1 - side) - higher
    return (above[0], tied[0]), (above[1], tied[1])


@dataclass(frozen=True, eq=False)
class _Queries:
    """Queries of one direction.

    Attributes
    ----------
    hit : (q,) by k
    parts : (n, q), how each query is shared among the images
    right : (q,), right answers of each query
    items : that each query searches
    """

    direction: str
    hit: dict[int, np.ndarray]
    parts: Any
    right: np.ndarray
    items: int

    def draws(self, resampling: Resampling) -> Iterator[Draws]:
        """Recall at each k."""
        shared = [self.parts @ hit for hit in self.hit.values()]
        sums = resampling.sums(np.column_stack([self.parts.sum(axis=1), *shared]))
        bootstrap, null = sums[:, 1:] / sums[:, :1], self.by_chance(resampling)
        for column, (k, hit) in enumerate(self.hit.items()):
            yield Draws(
                measure=f"{self.direction}_r{k}",
                names=("all queries",),
                observed=hit.mean(keepdims=True),
                bootstrap=bootstrap[:, [column]],
                null=null[:, [column]],
                null_kind="chance",
                images=self.parts.shape[0],
                better="higher",
                bounds=(0.0, 1.0),
            )

    def by_chance(self, resampling: Resampling) -> np.ndarray:
        """Recall at each k where every query ranks all items at random; (permutations, ks)."""
        generator = resampling.generator(len(self.right), f"chance of {self.direction}")
        ks = np.array(list(self.hit))
        order = np.argsort(ks)
        hits = np.zeros((resampling.permutations, len(ks)))
        for right, queries in zip(*np.unique(self.right, return_counts=True), strict=True):
            # Where its first right answer stands: up to the least k, from there to the next ...
            reached = hypergeom.sf(0, self.items, int(right), ks[order])
            places = np.diff([0.0, *reached, 1.0])
            drawn = generator.multinomial(queries, places, size=resampling.permutations)
            hits[:, order] += drawn[:, :-1].cumsum(axis=1)
        return hits / len(self.right)
