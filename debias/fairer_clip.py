"""FairerCLIP: functions of images and of texts that depend on the class and not on the attribute.

Dehdashtian, Wang, Boddeti, "FairerCLIP: Debiasing CLIP's Zero-Shot Predictions using Functions in
RKHSs" (ICLR 2024, arXiv 2403.15593).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from array_api_compat import array_namespace
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.spatial.distance import pdist

from debias.labels import coded
from debias.method import Method, unit_rows, unit_rows_like
from m4.errors import InputError

ENERGY = 0.95  # share of the sum of squared eigenvalues that the kept ones reach
NOTHING = 1e-9  # sizes below this, of sizes of order 1, are rounding
SAMPLE = 1000  # rows whose distances set the width of a kernel


@dataclass(eq=False)
class FairerCLIP(Method):
    """Maps images and texts to r numbers that depend on the class and little on the attribute.

    With R (n, D) the random Fourier features of one modality, H the centring, and Q the classes
    Y, the attribute S or the other modality's Z,
        B_Q = (R'H phi_Q)(R'H phi_Q)'
        B   = B_Y/||B_Y|| + tau_z/(1 - tau_z) B_Z/||B_Z|| - tau/(1 - tau) B_S/||B_S||
        C   = R'HR + n gamma I,    B u = mu C u,    z(x) = sqrt(n) U'(phi(x) - mean of phi),
    norms being spectral. The images are solved for without Z; then, in turn, the texts and the
    images. A text stands beside each image, a prompt of its class. With labels there is one
    round. Without, the classes are predicted, by zero-shot at first, and again after each round
    from what came out; the attribute is given and stays.

    Of the at most `dimensions` largest eigenvalues that are positive, r are kept: as few as reach
    95 % of the sum of their squares; all where tau is 0. r is at least 1, or the fit is refused.

    Published: the measure of dependence (abstract); the closed form, the kernels and their widths
    from distances above 0, the rule for r, the sign of a single dimension and the loop (the
    authors' code). Recalled, not verified: the joint objective and the parameters of Waterbirds.
    Ours, and not theirs:
    - Features are pairs of cosine and sine, not cosines of random phase; those of Z are drawn
      anew for each solution.
    - phi is centred by the training mean also where z is computed.
    - u'Cu = 1, where their eigenvectors have length 1; with r > 1 this weighs the axes.
    - With r > 1, both modalities are rotated onto each other, without which their axes need not
      correspond; the objective stays the same.
    - Several prompts of a class stand beside its images in turn.
    - The attribute is what the caller gives. Theirs is predicted, even with labels, for Waterbirds
      and for hair in CelebA.
    - All images are used. They draw a share of each class, in CelebA of classes made equal first.

    Needs memory for several arrays of n x D. Does not help where zero-shot is already good for
    every group: on small sets of ours with ViT-B/32 it then hurts. Without labels it learns from
    its own predictions: of six classes on planted data, the worst group gained on average, and
    lost .08 on the worst of several seeds. For two classes of one prompt each, all that a text can
    hold is its class, so that tau_texts removes nothing but weighs against the class.

    The default parameters are the published ones of Waterbirds with ViT-L/14, for their subsampled
    data. Those of CelebA's hair are gamma 3e-5 and 3e-4, tau_z_images 0.3, 3 rounds and 4000
    features, else the same.

    Parameters
    ----------
    gamma_images, gamma_texts : ridge, > 0
    tau_images, tau_texts : weight against the attribute, in [0, 1); 0 removes nothing
    tau_z_images, tau_z_texts : weight of agreement with the other modality, in [0, 1)
    rounds : rounds where no labels are given, >= 1
    features : D, the number of random Fourier features, even
    dimensions : the largest r; left out, classes - 1
    seed : of the features
    """

    LEARNED: ClassVar[tuple[str, ...]] = (
        "image_frequencies_",
        "image_centre_",
        "image_map_",
        "text_frequencies_",
        "text_centre_",
        "text_map_",
    )
    OTHER_AXES: ClassVar[tuple[str, ...]] = (
        "image_centre_",
        "image_map_",
        "text_centre_",
        "text_map_",
    )

    gamma_images: float = 3e-4
    gamma_texts: float = 2e-4
    tau_images: float = 0.7
    tau_texts: float = 0.1
    tau_z_images: float = 0.7
    tau_z_texts: float = 0.1
    rounds: int = 2
    features: int = 1000
    dimensions: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gamma_images", "gamma_texts"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; give a positive number, such as 3e-4")
        for name in ("tau_images", "tau_texts", "tau_z_images", "tau_z_texts"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{name} is {value}; give a number from 0 to below 1")
        if self.features < 2 or self.features % 2:
            raise InputError(f"features is {self.features}; give an even number, such as 1000")
        for name, least in (("rounds", 1), ("dimensions", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}; give at least {least}")

    def fit(
        self,
        *,
        images: Any,
        attributes: Sequence[Any],
        texts: Any,
        labels: Any = None,
        text_labels: Any = None,
    ) -> Self:
        """Learn from images (n, d), their attributes (n,) and prompts of c classes (m, d).

        `labels`, (n,), are classes from 0; without them the classes are predicted. `text_labels`,
        (m,), are the classes of the texts; left out, text i is that of class i. Raises
        `InputError` where lengths disagree, a row has no direction, there is one attribute or
        class only, gamma is too small for the factor of C to exist, or no dimension depends more
        on the class than on the attribute.
        """
        rows = unit_rows(images, "images")
        prompts = unit_rows_like(rows, texts, "texts")
        groups = _indicators(attributes, len(rows), "attributes")
        told = _Prompts.of(len(prompts), text_labels)
        predicted = labels is None
        classes = _nearest(rows, told.means(prompts)) if predicted else told.checked(labels)
        random = np.random.default_rng(self.seed)
        image_frequencies = _frequencies(rows, "images", self.features, random)
        text_frequencies = _frequencies(prompts, "texts", self.features, random)
        image_side = _Side("images", fourier(rows, image_frequencies), self.gamma_images)
        text_side, image_map, text_map = self._alternate(
            image_side, fourier(prompts, text_frequencies), told, groups, classes, predicted, random
        )
        self.image_frequencies_, self.text_frequencies_ = image_frequencies, text_frequencies
        self.image_centre_, self.text_centre_ = image_side.centre, text_side.centre
        self.image_map_, self.text_map_ = image_map, text_map
        return self._fitted(rows.shape[1])

    def _alternate(
        self,
        images: "_Side",
        prompts: np.ndarray,
        told: "_Prompts",
        groups: np.ndarray,
        classes: np.ndarray,
        predicted: bool,
        random: np.random.Generator,
    ) -> tuple["_Side", np.ndarray, np.ndarray]:
        """The side of the texts, whose features are the prompts' (m, D), and the map of each."""
        most = self.dimensions or told.classes - 1
        what = "classes predicted" if predicted else "labels"
        wanted = _indicators(classes, len(groups), what)
        image_map = images.solve(_terms(wanted, groups, self.tau_images), most)
        for _ in range(self.rounds if predicted else 1):
            wanted = _indicators(classes, len(groups), what)
            texts = _Side("texts", prompts[told.beside(classes)], self.gamma_texts)
            other = _kernel(images.project(image_map), "images", self.features, random)
            terms = _terms(wanted, groups, self.tau_texts, other, self.tau_z_texts)
            text_map = texts.solve(terms, most)
            other = _kernel(texts.project(text_map), "texts", self.features, random)
            terms = _terms(wanted, groups, self.tau_images, other, self.tau_z_images)
            image_map = images.solve(terms, most)
            turns = _turns(images.project(image_map), texts.project(text_map))
            image_map, text_map = turns[0] @ image_map, turns[1] @ text_map
            if predicted:
                moved = (prompts - texts.centre) @ text_map.T
                classes = _nearest(images.project(image_map), told.means(moved))
        return texts, image_map, text_map

    def predict(self, images: Any, texts: Any) -> np.ndarray:
        """The class of each image, a row of the texts: the text of highest cosine, both debiased.

        With r = 1 it is the text of the same sign, and more than two texts are refused.
        """
        return _nearest(
            np.asarray(self.transform_images(unit_rows(images, "images"))),
            np.asarray(self.transform_texts(unit_rows(texts, "texts"))),
        )

    def _images(self, rows: Any) -> Any:
        features = fourier(rows, self.image_frequencies_)
        return _unit((features - self.image_centre_) @ self.image_map_.T)

    def _texts(self, rows: Any) -> Any:
        features = fourier(rows, self.text_frequencies_)
        return _unit((features - self.text_centre_) @ self.text_map_.T)


def fourier(rows: Any, frequencies: Any) -> Any:
    """Random Fourier features (n, D) of rows (n, d), for frequencies (D/2, d); arrays or tensors.

    Their inner products estimate the Gaussian kernel whose Fourier transform the frequencies are
    drawn from (Rahimi and Recht 2007).
    """
    names = array_namespace(rows)
    angles = rows @ frequencies.T
    pairs = names.concat([names.cos(angles), names.sin(angles)], axis=1)
    return pairs / math.sqrt(len(frequencies))


@dataclass(frozen=True)
class _Term:
    """One B_Q of the objective: features of Q, (n, q), and the signed weight of their share."""

    features: np.ndarray
    weight: float


class _Side:
    """One modality: its centred features (n, D), and the Cholesky factor of C."""

    def __init__(self, what: str, features: np.ndarray, gamma: float) -> None:
        self.what = what
        self.centre = features.mean(axis=0)
        self.centred = features - self.centre
        ridge = len(features) * gamma * np.eye(features.shape[1])
        try:
            self.factor = cholesky(self.centred.T @ self.centred + ridge, lower=True)
        except np.linalg.LinAlgError:
            raise InputError(
                f"gamma_{what} is {gamma}, which with {len(features)} rows is lost in rounding; "
                "raise it, such as to 3e-4"
            ) from None

    def solve(self, terms: Sequence[_Term], most: int) -> np.ndarray:
        """sqrt(n) U', (r, D), with L^-1 B L^-T v = mu v and u = L^-T v."""
        whitened = np.zeros_like(self.factor)
        for term in terms:
            # the features of Q need no centring, since those of this side are centred
            shared = self.centred.T @ term.features
            size = np.linalg.norm(shared, 2)
            if size > NOTHING * len(self.centred):
                half = solve_triangular(self.factor, shared / size, lower=True)
                whitened += term.weight * (half @ half.T)
        values, vectors = eigh(whitened)
        values, vectors = values[::-1], vectors[:, ::-1]
        positive = values[values > NOTHING * np.abs(values).max()][:most]
        if not len(positive):
            raise InputError(
                f"{self.what}: no dimension depends more on the class than on the attribute, so "
                "that r would be 0; lower tau, or give labels that differ from the attributes"
            )
        kept = len(positive)
        if any(term.weight < 0 for term in terms):
            energy = np.cumsum(positive**2)
            kept = 1 + int(np.searchsorted(energy, ENERGY * energy[-1]))
        solved = solve_triangular(self.factor, vectors[:, :kept], lower=True, trans="T")
        return math.sqrt(len(self.centred)) * solved.T

    def project(self, map_: np.ndarray) -> np.ndarray:
        return self.centred @ map_.T


def _terms(
    classes: np.ndarray,
    groups: np.ndarray,
    tau: float,
    other: np.ndarray | None = None,
    tau_z: float = 0.0,
) -> list[_Term]:
    terms = [_Term(classes, 1.0), _Term(groups, -tau / (1 - tau))]
    return terms if other is None else [*terms, _Term(other, tau_z / (1 - tau_z))]


def _indicators(values: Any, count: int, what: str) -> np.ndarray:
    """One-hot rows, (n, q): centred and normalised they are the published +-1 coding."""
    found, positions = coded(values, count, what)
    return np.eye(len(found))[positions]


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Which prompts stand for which of the classes; `rows` are those of each class."""

    rows: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, texts: int, text_labels: Any) -> "_Prompts":
        labels = np.arange(texts) if text_labels is None else np.asarray(text_labels)
        if labels.shape != (texts,) or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"text_labels: {labels.dtype} of shape {labels.shape} for {texts} texts; give the "
                "class of each, a whole number from 0"
            )
        found = np.unique(labels)
        if not np.array_equal(found, np.arange(len(found))):
            raise InputError(
                f"text_labels go from {found[0]} to {found[-1]}, but {len(found)} classes have "
                "texts; count classes from 0, and give each a text"
            )
        return cls(tuple(np.flatnonzero(labels == each) for each in found))

    @property
    def classes(self) -> int:
        return len(self.rows)

    def means(self, texts: np.ndarray) -> np.ndarray:
        """The mean of each class's texts (m, r), each at unit length; (c, r)."""
        unit = _unit(texts)
        return np.stack([unit[rows].mean(axis=0) for rows in self.rows])

    def beside(self, classes: np.ndarray) -> np.ndarray:
        """The prompt that stands beside each image, by its class (n,): all of a class in turn."""
        shown = np.empty(len(classes), dtype=int)
        for number, rows in enumerate(self.rows):
            images = np.flatnonzero(classes == number)
            shown[images] = np.resize(rows, len(images))
        return shown

    def checked(self, labels: Any) -> np.ndarray:
        array = np.asarray(labels)
        if not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"labels are {array.dtype}; give classes, whole numbers from 0")
        if array.size and not 0 <= array.min() <= array.max() < self.classes:
            raise InputError(
                f"labels go from {array.min()} to {array.max()}, but there are texts of "
                f"{self.classes} classes; count classes from 0"
            )
        return array


def _frequencies(
    rows: np.ndarray, what: str, features: int, random: np.random.Generator
) -> np.ndarray:
    """Frequencies of the Gaussian kernel, sigma^2 half the median squared distance above 0."""
    sample = rows[random.permutation(len(rows))[:SAMPLE]]
    distances = pdist(sample, "sqeuclidean")
    apart = distances[distances > NOTHING**2]
    if not len(apart):
        raise InputError(
            f"{what}: all {len(rows)} rows are the same; give at least two that differ"
        )
    width = math.sqrt(np.median(apart) / 2)
    return random.normal(size=(features // 2, rows.shape[1])) / width


def _kernel(rows: np.ndarray, what: str, features: int, random: np.random.Generator) -> np.ndarray:
    return fourier(rows, _frequencies(rows, what, features, random))


def _turns(images: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What turns images (n, r) and texts (n, s) onto each other, (k, r) and (k, s).

    One dimension: the texts change sign where most signs disagree. More: the rotations of
    orthogonal Procrustes, k = min(r, s).
    """
    if images.shape[1] == texts.shape[1] == 1:
        agree = np.mean(np.sign(images) == np.sign(texts))
        return np.eye(1), np.eye(1) if agree >= 0.5 else -np.eye(1)
    left, _, right = np.linalg.svd(images.T @ texts, full_matrices=False)
    return left.T, right


def _nearest(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    if texts.shape[1] == 1 and len(texts) > 2:
        raise InputError(
            f"one dimension tells 2 classes apart, not {len(texts)}; lower tau or raise dimensions"
        )
    return np.argmax(images @ _unit(texts).T, axis=1)


def _unit(rows: Any) -> Any:
    """Rows of unit length; those that are rounding alone stay short, for `Method` to refuse.

    The images nearest to the boundary are short too, with r = 1, but their sign has a meaning.
    """
    names = array_namespace(rows)
    lengths = names.linalg.vector_norm(rows, axis=1, keepdims=True)
    return rows / names.clip(lengths, NOTHING, None)
