"""The baseline beside the debiasing methods: a linear probe on embeddings of images."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from array_api_compat import array_namespace

from debias.labels import coded
from debias.method import Method, unit_rows, unit_rows_like
from m4.errors import InputError

# Rounding to bfloat16 moves a row of unit length by at most .004, and it may happen twice.
SAME = 0.01  # distance below which two texts of unit length are one
TOLERANCE = 1e-6  # of the solver: the largest entry of the gradient of the mean loss


@dataclass(eq=False)
class LinearProbe(Method):
    """Logistic regression of the class on images, in the place of the prompts of the classes.

    With images f of unit length, their classes y and weights s, the weights w_c and intercepts b_c
    minimise
        C sum_i s_i (-log softmax_k(<w_k, f_i> + b_k)[y_i]) + 1/2 sum_k ||w_k||^2.
    `reweighted` gives each cell of a class and an attribute the same sum of weights s; else all
    are 1. Two classes have, as in scikit-learn, which does the fitting, one vector w with that
    penalty: their w_c are -w/2 and w/2.

    A probe knows its classes only. A text it was fitted with becomes the weights of its class; any
    other, which includes those of retrieval and association, is refused. With M the largest
    ||(w_c, b_c)||,
        image f -> n([f, 1, 0]),    text of class c -> n([w_c, b_c, sqrt(M^2 - ||(w_c, b_c)||^2)]),
    so that cosines rank the classes as the probe does: zero-shot classification of what comes out
    gives its predictions, also by the mean of several texts of a class.

    Published: a linear probe is the usual baseline, as in FairerCLIP (Dehdashtian et al., ICLR
    2024); its penalty there is not known to us. Ours: unit length on input, the weights of cells,
    and vectors in the place of texts.

    Does not help where the classes go with the attribute in the images it is fitted on: without
    `reweighted` it learns the one from the other. Reweighted, it rests on the few images of the
    rare cells.

    Parameters
    ----------
    reweighted : whether each cell of a class and an attribute weighs the same
    inverse_strength : of the penalty, > 0: C above, as scikit-learn calls it
    max_iter : iterations of the solver, at most, >= 1
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("weights_", "intercepts_", "texts_", "memberships_")
    OTHER_AXES: ClassVar[tuple[str, ...]] = ("intercepts_", "memberships_")

    reweighted: bool = False
    inverse_strength: float = 1.0
    max_iter: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.inverse_strength > 0 and math.isfinite(self.inverse_strength)):
            raise InputError(
                f"inverse_strength is {self.inverse_strength}; give a positive number, such as 1"
            )
        if self.max_iter < 1:
            raise InputError(f"max_iter is {self.max_iter}; give at least 1")

    def fit(
        self,
        *,
        images: Any,
        labels: Any,
        texts: Any,
        text_labels: Any = None,
        attributes: Sequence[Any] | None = None,
    ) -> Self:
        """Learn from images (n, d), their classes (n,) from 0, and prompts of the classes (m, d).

        `text_labels` (m,) are the classes of the texts; left out, text i is that of class i.
        `attributes`, n labels, are given if, and only if, the probe is `reweighted`. Raises
        `InputError` where lengths disagree, a class or a cell has no images, attributes cannot be
        used (`coded`), texts of two classes are the same, no image tells the classes apart, or the
        solver does not converge.
        """
        rows = unit_rows(images, "images")
        prompts = unit_rows_like(rows, texts, "texts")
        if self.reweighted == (attributes is None):
            raise InputError(
                f"reweighted is {self.reweighted}, but attributes are "
                f"{'missing' if attributes is None else 'given'}; give them if, and only if, the "
                "probe is reweighted"
            )
        of_texts = np.arange(len(prompts)) if text_labels is None else text_labels
        of_texts = _checked(of_texts, len(prompts), "text_labels")
        classes = int(of_texts.max()) + 1
        _check_all_there(of_texts, classes, "text_labels")
        codes = _checked(labels, len(rows), "labels")
        _check_all_there(codes, classes, "labels")
        _check_apart(prompts, of_texts)
        weights = None if attributes is None else _cell_weights(codes, attributes, classes)
        self.weights_, self.intercepts_ = self._solve(rows, codes, weights)
        if not (self.weights_.any() or self.intercepts_.any()):
            raise InputError(
                "images: the probe cannot tell one class from another, and all its weights are 0; "
                "give images of the classes that differ"
            )
        self.texts_, self.memberships_ = prompts, np.eye(classes)[of_texts]
        return self._fitted(rows.shape[1])

    def predict(self, images: Any) -> np.ndarray:
        """The class of each image, (n,): zero-shot by the texts the probe was fitted with."""
        moved = self.transform_images(unit_rows(images, "images"))
        found: np.ndarray = np.argmax(moved @ self._class_vectors().T, axis=1)
        return found

    def _refusal(self, row: str, least: float) -> str:
        return (
            f"{row} is none of the {len(self.texts_)} class prompts that LinearProbe was fitted "
            "with; it can be asked for these classes alone"
        )

    def _solve(
        self, rows: np.ndarray, codes: np.ndarray, weights: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights (c, d) and intercepts (c,)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.inverse_strength, tol=TOLERANCE, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(rows, codes, sample_weight=weights)
            except ConvergenceWarning:
                raise InputError(
                    f"max_iter is {self.max_iter}: the probe has not converged; raise it, or "
                    f"lower inverse_strength, which is {self.inverse_strength}"
                ) from None
        if len(model.coef_) == 1:
            halves = np.array([[-0.5], [0.5]])
            return halves * model.coef_, halves[:, 0] * model.intercept_
        return np.ascontiguousarray(model.coef_), model.intercept_  # as files hold them

    def _class_vectors(self) -> Any:
        """Of unit length, (c, d + 2)."""
        names = array_namespace(self.weights_)
        vectors = names.concat([self.weights_, self.intercepts_[:, None]], axis=1)
        squares = names.sum(vectors**2, axis=1, keepdims=True)
        largest = names.max(squares)
        return names.concat([vectors, (largest - squares) ** 0.5], axis=1) / largest**0.5

    def _images(self, rows: Any) -> Any:
        names, one = array_namespace(rows), rows[:, :1]
        return names.concat([rows, names.ones_like(one), names.zeros_like(one)], axis=1)

    def _texts(self, rows: Any) -> Any:
        """As `Method._texts`; zeros for a text that the probe was not fitted with."""
        names = array_namespace(rows)
        cosines = rows @ self.texts_.T
        known = names.max(cosines, axis=1, keepdims=True) > 1 - SAME**2 / 2
        nearest = names.take(self.memberships_, names.argmax(cosines, axis=1), axis=0)
        return known * (nearest @ self._class_vectors())


def _checked(values: Any, count: int, what: str) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (count,):
        raise InputError(
            f"{what}: shape {array.shape} for {count} embeddings; give one class for each"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{what} are {array.dtype}; give classes as whole numbers from 0")
    return array


def _check_all_there(codes: np.ndarray, classes: int, what: str) -> None:
    """Raises `InputError` where the numbers found are not exactly those from 0 to c - 1, c >= 2."""
    found = np.unique(codes)
    if classes < 2 or not np.array_equal(found, np.arange(classes)):
        raise InputError(
            f"{what}: classes {', '.join(map(str, found[:10]))}, but the texts are of {classes}; "
            f"give each class from 0 to {max(classes, 2) - 1} at least once, and no other"
        )


def _check_apart(texts: np.ndarray, labels: np.ndarray) -> None:
    same = texts @ texts.T > 1 - SAME**2 / 2
    pairs = np.argwhere(same & (labels[:, None] != labels))
    if len(pairs):
        first, second = pairs[0]
        raise InputError(
            f"texts: rows {first} and {second} are the same, but of classes {labels[first]} and "
            f"{labels[second]}; give each class texts of its own"
        )


def _cell_weights(codes: np.ndarray, attributes: Sequence[Any], classes: int) -> np.ndarray:
    """Weights with mean 1, (n,), of the same sum in each cell of a class and an attribute."""
    distinct, groups = coded(attributes, len(codes), "attributes")
    counts = np.zeros((classes, len(distinct)))
    np.add.at(counts, (codes, groups), 1)
    empty = np.argwhere(counts == 0)
    if len(empty):
        label, group = empty[0]
        raise InputError(
            f"attributes: no image of class {label} has {distinct[group]!r}, so that no weight "
            "makes that cell equal to the others; give such images, or leave the class or the "
            "attribute out"
        )
    weights: np.ndarray = len(codes) / (counts.size * counts[codes, groups])
    return weights
