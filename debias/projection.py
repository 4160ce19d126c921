"""Projections away from spurious prompts: orthogonal, and calibrated on pairs of prompts.

Chuang et al., "Debiasing Vision-Language Models via Biased Prompts" (2023, arXiv 2302.00070).
Embeddings are rows here; the paper's matrices act on columns, P z, so on rows as z P'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from debias.method import Method, Modality, as_array, resolution, unit_rows
from m4.errors import InputError


def span_basis(embeddings: Any, what: str) -> np.ndarray:
    """An orthonormal basis of the span of m embeddings (m, d), as rows (r, d).

    r is the numerical rank of the rows at unit length: singular values count that are above
    `resolution` (4 units of the type's relative rounding, at least 1e-6) times the Frobenius
    norm, since rounding moves none by more. Raises `InputError` where a row has no direction, or
    where they span all d dimensions.
    """
    array = as_array(embeddings)
    unusable = np.flatnonzero(~np.isfinite(array).all(axis=-1) | ~array.any(axis=-1))
    if len(unusable):
        raise InputError(
            f"{what}: row {unusable[0]} has no direction, as it is not finite, or all zeros like a "
            "difference of equal means; leave it out, or give directions that differ"
        )
    rows = unit_rows(embeddings, what)
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    basis = directions[sizes > resolution(embeddings, what) * math.sqrt(len(rows))]
    if len(basis) == rows.shape[1]:
        raise InputError(
            f"{what}: {len(rows)} rows span all {rows.shape[1]} dimensions, so that nothing would "
            "be left; give fewer"
        )
    return basis


def outside(basis: Any, rows: Any) -> Any:
    """What of rows (n, d), arrays or tensors, is orthogonal to an orthonormal basis (r, d)."""
    return rows - (rows @ basis.T) @ basis


class _TextsAlone(Method):
    """A method that leaves images as they are."""

    def _images(self, rows: Any) -> Any:
        return rows

    @property
    def image_matrix(self) -> np.ndarray:
        """The identity, (d, d)."""
        return np.eye(self.dimension_)


@dataclass(eq=False)
class OrthogonalProjection(_TextsAlone):
    """Projects texts away from the span of spurious prompts.

    With A (m, d) the spurious embeddings, P0 = I - A'(AA')^-1 A; computed as I - B'B, B an
    orthonormal basis by SVD (`span_basis`), so that prompts that depend on each other do no harm.

    Published: the formula, on texts alone; images come out normalised and else unchanged. Ours:
    the tolerance of the rank, and that a text inside the span is refused.

    Does not help where the prompts do not hold the bias that the images have: on a small set of
    ours with ViT-B/32, a gender direction of captions raised MaxSkew@100 from .182 to .381, and
    one of image group means lowered it to .076. It lengthens what is left of a text, and with it
    every bias that lies outside the span, by 1/||P0 z||.
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("basis_",)

    def fit(self, *, spurious: Any) -> Self:
        """Learn from embeddings of spurious prompts, (m, d).

        Raises `InputError` where a row has no direction, or where they span all dimensions.
        """
        self.basis_ = span_basis(spurious, "spurious")
        return self._fitted(self.basis_.shape[1])

    @property
    def text_matrix(self) -> np.ndarray:
        """P0, (d, d) float64."""
        moved: np.ndarray = self._texts(np.eye(self.dimension_))
        return moved.T

    def _texts(self, rows: Any) -> Any:
        return outside(self.basis_, rows)


@dataclass(eq=False)
class CalibratedProjection(_TextsAlone):
    """Projects texts away from spurious prompts, and pairs of candidates onto each other.

    With S the pairs of candidates that should coincide, and z of unit length,
        M  = 1/|S| sum_{(i,j) in S} (z_i - z_j)(z_i - z_j)'
        P* = P0 (I + lam M)^-1,
    the only minimiser of ||P - P0||_F^2 + lam/|S| sum ||P z_i - P z_j||^2. The inverse is taken
    in the form of Woodbury, I - D'(|S|/lam I + DD')^-1 D, rows of D the |S| differences; the SVD
    of D solves its |S| x |S| system, so that it stays accurate for any lam.

    Published: the formula, texts alone, normalised afterwards; lam = 1000 for zero-shot, and 500
    without P0 for generation. Ours: that a text inside the span of the spurious prompts is refused.

    Does not help where the spurious prompts or the pairs miss what the images' bias is made of
    (see `OrthogonalProjection`), nor where a difference of classes is among the pairs.

    Parameters
    ----------
    lam : price of pairs that differ, > 0
    orthogonal : whether to project with P0 too; if not, I stands in its place
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("basis_", "shrinking_")

    lam: float = 1000.0
    orthogonal: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.lam > 0 and math.isfinite(self.lam)):
            raise InputError(f"lam is {self.lam}; give a positive number, such as 1000")

    def fit(
        self, *, candidates: Any, pairs: Sequence[tuple[int, int]], spurious: Any = None
    ) -> Self:
        """Learn from embeddings of spurious prompts (m, d) and of candidates (c, d).

        `pairs` are rows of the candidates that should coincide; `spurious` is given if, and only
        if, the method is `orthogonal`. Raises `InputError` where that is not so, where a row has
        no direction, the dimensions differ, or a pair names no two rows.
        """
        if self.orthogonal == (spurious is None):
            raise InputError(
                f"orthogonal is {self.orthogonal}, but spurious prompts are "
                f"{'missing' if spurious is None else 'given'}; change one of them"
            )
        rows = unit_rows(candidates, "candidates")
        basis = span_basis(spurious, "spurious") if self.orthogonal else rows[:0]
        if basis.shape[1] != rows.shape[1]:
            raise InputError(
                f"spurious prompts have {basis.shape[1]} numbers, candidates {rows.shape[1]}; "
                "encode them with one model"
            )
        first, second = _checked_pairs(pairs, len(rows))
        _, sizes, directions = np.linalg.svd(rows[first] - rows[second], full_matrices=False)
        shares = sizes / np.sqrt(len(first) / self.lam + sizes**2)
        self.basis_, self.shrinking_ = basis, shares[:, None] * directions
        return self._fitted(rows.shape[1])

    @property
    def text_matrix(self) -> np.ndarray:
        """P*, (d, d) float64."""
        moved: np.ndarray = self._texts(np.eye(self.dimension_))
        return moved.T

    def remaining(self, rows: Any, modality: Modality) -> Any:
        """Of texts what is outside the span: the calibration would leave what means nothing."""
        return outside(self.basis_, rows) if modality == "texts" else rows

    def _texts(self, rows: Any) -> Any:
        calibrated = rows - (rows @ self.shrinking_.T) @ self.shrinking_
        return outside(self.basis_, calibrated)


def _checked_pairs(pairs: Sequence[tuple[int, int]], candidates: int) -> np.ndarray:
    """Pairs of rows as two arrays of positions, (2, |S|)."""
    try:
        array = np.array(pairs)
    except ValueError:  # of another length each
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
        raise InputError("pairs are pairs of row numbers, at least one, such as [(0, 1)]")
    for first, second in array.tolist():
        if first == second or not (0 <= first < candidates and 0 <= second < candidates):
            raise InputError(
                f"pair ({first}, {second}) names no two of the {candidates} candidates; count "
                "rows from 0"
            )
    return array.T
