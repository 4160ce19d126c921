"""ABLE of a method on images held out: one figure to choose an epoch or a parameter by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from debias.method import Method, unit_rows
from evaluation import rank_measures
from evaluation.quality import zero_shot
from evaluation.rank_measures import Reference
from evaluation.ranking import rank
from m4.errors import InputError


@dataclass(frozen=True, eq=False)
class AbleScore:
    """ABLE = 2 / (1/accuracy + 1/exp(-MaxSkew)) of what a method makes of images held out.

    Called with a fitted `Method`, it moves all images and texts by it. MaxSkew@k is the mean over
    the queries; the accuracy is top-1 of zero-shot classification. Zhang, Guo and Kankanhalli
    (CVPR 2025) keep the epoch of highest ABLE: `JointDebias.fit(score=AbleScore(...))`. A
    parameter of any method, such as lam, can be chosen by it as well.

    The highest of several scores flatters: it is chosen for its luck too. Report figures on images
    that took no part in the choice.

    Parameters
    ----------
    images, groups : images of people (n, d) that queries rank, and the n groups they are of
    queries : texts (q, d) that say nothing of the groups
    class_images, labels : images (m, d) to classify, and for each the row of its text
    class_texts : one text of each class, (c, d)
    k : K of MaxSkew, at least 1 and below n
    reference : shares of the groups that MaxSkew compares with (`evaluation.max_skew`)

    Raises `InputError` where lengths disagree, a label is no row of the class texts, a group is
    not known or all are the same, or k is outside its range; when called, where a row has no
    direction or dimensions differ.
    """

    images: Any
    groups: Sequence[Any]
    queries: Any
    class_images: Any
    labels: Any
    class_texts: Any
    k: int = 1000
    reference: Reference = "uniform"

    def __post_init__(self) -> None:
        for what, given, of in (
            ("groups", self.groups, self.images),
            ("labels", self.labels, self.class_images),
        ):
            if len(given) != len(of):
                raise InputError(f"{len(given)} {what} for {len(of)} images; give one each")
        rank_measures.checked_groups(np.asarray(self.groups), self.reference)
        rank_measures.check_depth(self.k, len(self.images), "the gallery")
        if self.k == len(self.images):
            raise InputError(
                f"k is {self.k}, the whole gallery: every ranking then shows the same groups; give "
                "a smaller k or more images"
            )
        if not len(self.class_images):
            raise InputError("no images to classify; give at least one")
        labels, classes = np.asarray(self.labels), len(self.class_texts)
        if not np.issubdtype(labels.dtype, np.integer):
            raise InputError(f"labels are {labels.dtype}; give rows of class_texts, whole numbers")
        if not 0 <= labels.min() <= labels.max() < classes:
            raise InputError(
                f"labels go from {labels.min()} to {labels.max()}, but there are {classes} class "
                "texts; count rows from 0"
            )

    def __call__(self, method: Method) -> float:
        """ABLE of a fitted method, in [0, 1]; higher is better."""
        return rank_measures.able(accuracy=self.accuracy(method), max_skew=self.max_skew(method))

    def max_skew(self, method: Method) -> float:
        """MaxSkew@k, the mean over the queries."""
        images = method.transform_images(unit_rows(self.images, "images"))
        queries = method.transform_texts(unit_rows(self.queries, "queries"))
        groups = np.asarray(self.groups)
        found = [
            rank_measures.max_skew(groups[order], self.k, self.reference)
            for order in rank(images, queries)
        ]
        return float(np.mean(found))

    def accuracy(self, method: Method) -> float:
        """Top-1 of zero-shot classification, a share."""
        images = method.transform_images(unit_rows(self.class_images, "class images"))
        texts = method.transform_texts(unit_rows(self.class_texts, "class texts"))
        shown = np.eye(len(texts), dtype=bool)[np.asarray(self.labels)]
        return zero_shot(images, texts, shown, [str(each) for each in range(len(texts))]).top1
