"""Short relatives of the projections, for images and texts alike.

What is called published here is from notes on the papers, and was not checked against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from array_api_compat import array_namespace

from debias.labels import coded
from debias.method import Method, Modality, resolution, unit_rows
from debias.projection import outside, span_basis
from m4.errors import InputError

NEIGHBOURS = 3  # of the estimator of information; scikit-learn's own choice


def group_means(embeddings: Any, groups: Sequence[Any]) -> np.ndarray:
    """The mean direction of each group of embeddings (n, d), in the order of sorted labels.

    `groups` are n labels. Returns (k, d) float64 of unit length: the directions of the means of
    rows of unit length. Raises `InputError` where labels cannot be used (`coded`), or the images
    of a group cancel each other out.
    """
    rows = unit_rows(embeddings, "images")
    labels, codes = coded(groups, len(rows), "groups")
    means = np.stack([rows[codes == code].mean(axis=0) for code in range(len(labels))])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    gone = np.flatnonzero(lengths < resolution(embeddings, "images"))
    if len(gone):
        raise InputError(
            f"groups: the images of {labels[gone[0]]!r} cancel each other out, so that their mean "
            "has no direction; give other images of that group, or leave it out"
        )
    return np.asarray(means / lengths)


class _Both(Method):
    """A method that does the same to images and texts."""

    def _images(self, rows: Any) -> Any:
        return self._texts(rows)

    @property
    def image_matrix(self) -> np.ndarray | None:
        """That of texts."""
        return self.text_matrix


@dataclass(eq=False)
class ClipClip(_Both):
    """Drops the dimensions that tell most of an attribute: CLIP-clip.

    Wang, Liu and Wang, "Are Gender-Neutral Queries Really Gender-Neutral?" (2021, arXiv
    2109.05433): the d - keep dimensions of the images with the highest mutual information with
    the attribute are dropped from both modalities, so rows of `keep` numbers come out.

    Published: the rule, and keep = 400 of 512. Ours: scikit-learn's estimator of the information
    (by 3 nearest neighbours) with a fixed seed, and the normalisation afterwards.

    Does not help where the bias is spread over many dimensions, a little in each.

    Parameters
    ----------
    keep : dimensions that stay, at least 1
    seed : of the noise by which the estimator tells equal numbers apart
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("information_",)

    keep: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep < 1:
            raise InputError(f"keep is {self.keep}; give at least 1 dimension")

    def fit(self, *, images: Any, attributes: Sequence[Any]) -> Self:
        """Learn from embeddings of images (n, d) and the attribute's n labels.

        Raises `InputError` where `keep` is not below d or a group has fewer than 4 images, or
        labels cannot be used (`coded`).
        """
        from sklearn.feature_selection import mutual_info_classif

        rows = unit_rows(images, "images")
        if self.keep >= rows.shape[1]:
            raise InputError(
                f"keep is {self.keep} of {rows.shape[1]} dimensions, so that none would be "
                "dropped; keep fewer"
            )
        labels, codes = coded(attributes, len(rows), "attributes")
        for label, count in zip(labels, np.bincount(codes), strict=True):
            if count <= NEIGHBOURS:
                raise InputError(
                    f"attributes: {count} images of {label!r}, too few to estimate information "
                    f"from; give at least {NEIGHBOURS + 1} of each label"
                )
        information = mutual_info_classif(
            rows, codes, discrete_features=False, n_neighbors=NEIGHBOURS, random_state=self.seed
        )
        self.information_ = np.asarray(information, dtype=np.float64)
        return self._fitted(rows.shape[1])

    @property
    def kept(self) -> Any:
        """Positions of the dimensions that stay, ascending; of equal ones the first."""
        names = array_namespace(self.information_)
        return names.sort(names.argsort(self.information_, stable=True)[: self.keep])

    @property
    def text_matrix(self) -> np.ndarray:
        """The rows of the identity that choose the dimensions, (keep, d)."""
        chosen: np.ndarray = np.eye(self.dimension_)[self.kept]
        return chosen

    def _texts(self, rows: Any) -> Any:
        return array_namespace(rows).take(rows, self.kept, axis=1)


@dataclass(eq=False)
class GroupMeanProjection(_Both):
    """Turns each embedding inside the span of the groups, to be equally near to all: WRING.

    Gerych et al., "WRING Out the Bias: A Rotation-Based Alternative to Projection Debiasing"
    (ICLR 2026). With the k group directions as the columns of A and P the projection onto their
    span,
        v - Pv + ||Pv|| n(A(A'A)^-1 1).
    A row keeps its length, and its inner product with every group is the same. What lies outside
    the span keeps its size, where a plain projection lengthens it by ||v||/||v - Pv||. Two rows
    are so; this is the one nearer to the groups, and nearer to v too where v has a positive inner
    product with the direction between them.

    Published: the formula. Ours: group directions of unit length (else equal inner products are
    not equal angles), and the use on images and texts alike.

    Does not help where the group directions do not hold the bias of the images (see
    `OrthogonalProjection`); `group_means` of images do. Two groups that point in opposite
    directions have no direction between them in their span.
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("basis_", "between_")

    def fit(self, *, directions: Any) -> Self:
        """Learn from one embedding per group, (k, d): `group_means`, or prompts.

        Raises `InputError` where they depend on each other: (A'A)^-1 does not exist.
        """
        rows = unit_rows(directions, "directions")
        self.basis_ = span_basis(directions, "directions")
        if len(self.basis_) < len(rows) or len(rows) < 2:
            raise InputError(
                f"directions: {len(rows)} of rank {len(self.basis_)}; give at least two "
                "that do not depend on each other"
            )
        between = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
        self.between_ = between / np.linalg.norm(between)
        return self._fitted(rows.shape[1])

    def _texts(self, rows: Any) -> Any:
        left = outside(self.basis_, rows)
        lengths = _lengths(rows @ self.basis_.T)
        return left + lengths * self.between_


@dataclass(eq=False)
class ClosedForm(_Both):
    """Shrinks the attribute's part of each embedding to where bias and loss are balanced.

    Lian et al. (2026). For v of unit length, a is its part in the span of the attribute's
    differences and b the rest, p = ||a||, q = ||b||,
        E = p + (1 - q)/p,   alpha = (E - q sqrt(E^2 - p^2))/(E^2 + q^2),
        u = alpha n(a) + sqrt(1 - alpha^2) n(b).

    Published: these formulas. Derived by us: alpha is the smaller root of
    (1 - <u, v>)/(1 - q) = ||alpha n(a)||/p, so u is the point of the unit sphere where the larger
    of two shares is least: of the loss of full removal (u = n(b)) that is suffered, and of the
    bias that remains. It is computed by e = E/p = (2 + q)/(1 + q), which needs no division by p:
    as p goes to 0, so does what changes.

    Does not help as much as a projection, by intent: between .38 p and .5 p of the bias remain.
    As any method by directions, it rests on where these come from (see `OrthogonalProjection`).
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("basis_",)

    def fit(self, *, directions: Any) -> Self:
        """Learn from one embedding per group, (k, d): prompts, or `group_means`.

        The span is of the differences of groups, each at unit length, from the first one. Raises
        `InputError` where a group equals the first, to rounding.
        """
        rows = unit_rows(directions, "directions")
        differences = rows[1:] - rows[0]
        lengths = np.linalg.norm(differences, axis=1)
        if len(rows) < 2 or lengths.min() < resolution(directions, "directions"):
            raise InputError(
                f"directions: {len(rows)}, of which another equals the first or is "
                "missing; give at least two that differ"
            )
        self.basis_ = span_basis(differences, "differences of directions")
        return self._fitted(rows.shape[1])

    def remaining(self, rows: Any, modality: Modality) -> Any:
        """What is outside the span, b: a row inside has no n(b)."""
        return outside(self.basis_, rows)

    def _texts(self, rows: Any) -> Any:
        rest = outside(self.basis_, rows)
        q, p = _lengths(rest), _lengths(rows @ self.basis_.T)
        e = (2 + q) / (1 + q)
        share = (e - q * (e**2 - 1) ** 0.5) / ((e * p) ** 2 + q**2)  # alpha / p
        return share * (rows - rest) + (1 - (share * p) ** 2) ** 0.5 * (rest / q)


def _lengths(rows: Any) -> Any:
    return array_namespace(rows).linalg.vector_norm(rows, axis=1, keepdims=True)
