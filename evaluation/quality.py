"""Quality of a model: retrieval, zero-shot classification and its worst group.

Ties favour nobody: each figure is its expected value if ties were broken at random, so a model
that sees no difference between its inputs scores at chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from evaluation.embeddings import (
    TIE,
    chance_in_top,
    check_same_space,
    similarity,
    votes,
)
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


class ZeroShot(Model):
    """Zero-shot classification of images that show exactly one of the evaluated labels.

    `top5` is None where five or fewer labels compete: it is 1 by construction. `recall` leaves
    out the labels that no image has alone, named in `empty`. `none` and `several` count the
    images left out because they show no or more than one label.
    """

    images: int
    none: int
    several: int
    top1: float
    top5: float | None
    mean_per_class_recall: float
    recall: dict[str, float]
    counts: dict[str, int]
    empty: tuple[str, ...]


class Cell(Model):
    """Images of one label and one group: how many, and the share classified rightly."""

    label: str
    group: str
    accuracy: float
    count: int


class WorstGroup(Model):
    """Zero-shot accuracy by label and group. `empty` names the (label, group) without images."""

    cells: tuple[Cell, ...]
    empty: tuple[tuple[str, str], ...]
    average: float
    worst: float
    gap: float


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
    recalls = []
    for side, (above, tied) in enumerate(_rivals(images, texts, *best)):
        tied = np.maximum(tied, right[side])  # the two products round differently
        recalls.append({k: float(chance_in_top(above, tied, right[side], k).mean()) for k in ks})
    return Retrieval(
        images=len(images), texts=len(texts), image_to_text=recalls[0], text_to_image=recalls[1]
    )


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


def zero_shot(images: Any, prompts: Any, shown: Any, labels: Sequence[str]) -> ZeroShot:
    """Classify images by the most similar prompt.

    Top-1 and top-5 accuracy, and the mean over labels of the recall of each, by scikit-learn.
    Images that show none or several of the labels are left out, and counted.

    Parameters
    ----------
    images : (n, d)
    prompts : (c, d), one per label
    shown : (n, c) bool, the labels that an image shows
    labels : c names

    Raises `InputError` where fewer than two labels compete, where no image shows exactly one of
    them, or where a row has no direction.
    """
    from sklearn.metrics import accuracy_score, recall_score

    shown = np.asarray(shown, dtype=bool)
    truth, scores = _single_label(images, prompts, shown, labels)
    # A tie is several predictions, each with its part of the image's weight.
    vote = votes(scores)
    image, predicted = np.nonzero(vote)
    weight = vote[image, predicted]
    counts = np.bincount(truth, minlength=len(labels))
    present = np.flatnonzero(counts).tolist()
    recall = recall_score(
        truth[image], predicted, labels=present, average=None, sample_weight=weight
    )
    shows = shown.sum(axis=1)
    return ZeroShot(
        images=len(truth),
        none=int((shows == 0).sum()),
        several=int((shows > 1).sum()),
        top1=float(accuracy_score(truth[image], predicted, sample_weight=weight)),
        top5=_in_top(scores, truth, 5) if len(labels) > 5 else None,
        mean_per_class_recall=float(recall.mean()),
        recall={labels[r]: float(value) for r, value in zip(present, recall, strict=True)},
        counts=dict(zip(labels, counts.tolist(), strict=True)),
        empty=tuple(name for name, count in zip(labels, counts, strict=True) if count == 0),
    )


def worst_group(
    images: Any,
    prompts: Any,
    shown: Any,
    labels: Sequence[str],
    groups: Any,
    group_names: Sequence[str],
) -> WorstGroup:
    """Zero-shot accuracy in each cell of a label and a group, by fairlearn's MetricFrame.

        gap = average - worst

    The average is over the images in any cell, one that is in two groups counted in both; images
    in no group, or without exactly one label, take no part. Source: Sagawa et al.,
    "Distributionally Robust Neural Networks for Group Shifts" (ICLR 2020). The worst of many
    small cells is low by chance alone: read it with the counts.

    Parameters
    ----------
    images, prompts, shown, labels : as for `zero_shot`
    groups : (n, g) bool, the groups of one attribute that an image belongs to
    group_names : g names

    Raises `InputError` as `zero_shot`, and where every cell is empty.
    """
    from fairlearn.metrics import MetricFrame, count, mean_prediction

    groups = np.asarray(groups, dtype=bool)
    shown = np.asarray(shown, dtype=bool)
    if groups.shape != (len(shown), len(group_names)):
        raise InputError(
            f"groups has shape {groups.shape}, but {len(shown)} images and {len(group_names)} "
            f"names need {(len(shown), len(group_names))}"
        )
    truth, scores = _single_label(images, prompts, shown, labels)
    # 1 where right, 0 where wrong, a part where the right label ties with others.
    correct = votes(scores)[np.arange(len(truth)), truth]
    image, group = np.nonzero(groups[shown.sum(axis=1) == 1])
    if len(image) == 0:
        raise InputError(f"no image with exactly one label is in any of {', '.join(group_names)}")
    frame = MetricFrame(
        metrics={"accuracy": mean_prediction, "count": count},
        y_true=np.ones(len(image)),
        y_pred=correct[image],
        sensitive_features={"label": truth[image], "group": group},
    )
    found = {key: row for key, row in frame.by_group.iterrows() if row["count"] > 0}
    cells = tuple(
        Cell(label=labels[r], group=group_names[g], accuracy=row["accuracy"], count=row["count"])
        for (r, g), row in found.items()
    )
    empty = tuple(
        (label, name)
        for (r, label), (g, name) in product(enumerate(labels), enumerate(group_names))
        if (r, g) not in found
    )
    average = float(frame.overall["accuracy"])
    worst = min(cell.accuracy for cell in cells)
    return WorstGroup(cells=cells, empty=empty, average=average, worst=worst, gap=average - worst)


def _single_label(
    images: Any, prompts: Any, shown: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The label and all similarities of the images that show exactly one label."""
    if len(labels) < 2:
        raise InputError(f"{len(labels)} labels; zero-shot needs at least two to choose between")
    scores = similarity(images, prompts)
    if not scores.shape == shown.shape == (len(scores), len(labels)):
        raise InputError(
            f"{len(scores)} images, {scores.shape[1]} prompts, {len(labels)} labels and `shown` "
            f"of shape {shown.shape} do not agree; give one prompt per label and one row per image"
        )
    single = shown.sum(axis=1) == 1
    if not single.any():
        raise InputError(
            f"no image shows exactly one of the {len(labels)} labels evaluated; give images that "
            "do, or other labels"
        )
    return shown[single].argmax(axis=1), scores[single]


def _in_top(scores: np.ndarray, truth: np.ndarray, k: int) -> float:
    own = scores[np.arange(len(truth)), truth][:, None]
    above = (scores > own + TIE).sum(axis=1)
    tied = (scores >= own - TIE).sum(axis=1) - above
    return float(chance_in_top(above, tied, np.ones(len(truth)), k).mean())
