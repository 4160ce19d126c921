"""FairCLIP: prototypes of attributes, and a matrix that makes images neutral to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from debias.labels import coded
from debias.method import Method, unit_rows, unit_rows_like
from debias.relatives import group_means
from m4.errors import InputError

Solver = Literal["closed form", "gradient"]
STEPS = 10_000  # of either descent, at most
DESCENTS = 5  # of the gradient solver, at most
EXACT = 1e-6  # the distance from the minimiser that the gradient solver is held to
SMALL_GRADIENT = 1e-9  # of the prototypes' loss, at which its descent ends


@dataclass(eq=False)
class FairCLIP(Method):
    """Makes images equally near to the prototypes of a bias attribute. A RECONSTRUCTION.

    After Wang, Zhang and Sang, "FairCLIP" (2022, arXiv 2210.14562). There is no public code, and
    the losses of the paper could not be read, so no number published for FairCLIP says anything
    about this class, nor a number of this class about FairCLIP.

    Prototypes: unit directions p_j of the bias attribute's values, and of the targets: learned in
    the embedding space by `learned_prototypes`, or given as they are, such as those of
    `debias.soft_prompts.learn_soft_prompts`. Then the re-representation matrix W minimises
        mean_i sum_{j<k} (<W f_i, p_j> - <W f_i, p_k>)^2         over bias prototypes
        + alpha mean_i sum_t (<W f_i, p_t> - <f_i, p_t>)^2       over target prototypes
        + beta ||W - I||_F^2.
    Images become W f; texts come out normalised and else unchanged.

    Published: two steps, prototypes of learned words and then a d x d matrix with constraints for
    the target and for the bias attribute. Ours: everything else, both losses, prototypes that need
    no text tower, the closed form and the defaults.

    Does not help where the images' bias does not lie along the prototypes' differences, nor where
    these are also what tells the targets apart: `alpha` then keeps the bias.

    Parameters
    ----------
    alpha : price of target similarities that change, >= 0; 0 if, and only if, there are no targets
    beta : price of the matrix's distance from I, > 0, without which it is not unique
    temperature : tau, by which cosines are divided in the softmax of prototypes that `fit` learns,
        > 0
    solver : how W is found; "gradient" (L-BFGS) is a check of "closed form", to 1e-6
    """

    LEARNED: ClassVar[tuple[str, ...]] = ("prototypes_", "target_prototypes_", "matrix_")

    alpha: float = 1.0
    beta: float = 1e-3
    temperature: float = 0.1
    solver: Solver = "closed form"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.alpha >= 0 and math.isfinite(self.alpha)):
            raise InputError(f"alpha is {self.alpha}; give 0 or a positive number, such as 1")
        for name in ("beta", "temperature"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; give a positive number, such as 0.01")
        if self.solver not in get_args(Solver):
            raise InputError(f"solver is {self.solver!r}; give one of {list(get_args(Solver))}")

    def fit(
        self,
        *,
        images: Any,
        attributes: Sequence[Any] | None = None,
        attribute_texts: Any = None,
        target_texts: Any = None,
        labels: Sequence[Any] | None = None,
    ) -> Self:
        """Learn from embeddings of images (n, d).

        The bias attribute is given by `attributes`, its n labels, by `attribute_texts` (k, d), or
        by both; targets likewise by `labels` and `target_texts` (c, d). Texts alone are the
        prototypes, as they are. Labels have theirs learned, from the texts, one per label in
        sorted order, or else from the means of the labels' images.

        Raises `InputError` where the attribute is missing, labels cannot be used (`coded`), the
        images of a label cancel each other out, numbers of rows or dimensions disagree, targets
        are given but `alpha` is 0 or the other way round, or a descent does not converge.
        """
        if (self.alpha > 0) == (target_texts is None and labels is None):
            raise InputError(
                f"alpha is {self.alpha}, but targets are {'missing' if self.alpha else 'given'}; "
                "give target_texts or labels if, and only if, alpha is above 0"
            )
        rows = unit_rows(images, "images")
        prototypes = self._prototypes(rows, attributes, attribute_texts, "attribute")
        if len(prototypes) < 2:
            raise InputError(
                f"attribute: {len(prototypes)} prototypes, but a bias is a difference; give "
                "attributes or attribute_texts of two values or more"
            )
        targets = self._prototypes(rows, labels, target_texts, "target")
        find = closed_form if self.solver == "closed form" else by_gradient
        self.matrix_ = find(rows, prototypes, targets, self.alpha, self.beta)
        self.prototypes_, self.target_prototypes_ = prototypes, targets
        return self._fitted(rows.shape[1])

    def _prototypes(
        self, rows: np.ndarray, labels: Sequence[Any] | None, texts: Any, what: str
    ) -> np.ndarray:
        """Those of labels, of texts, or of neither: (0, d)."""
        given = None if texts is None else unit_rows_like(rows, texts, f"{what} texts")
        if labels is None:
            return rows[:0] if given is None else given
        distinct, codes = coded(labels, len(rows), what)
        if given is None:
            given = group_means(rows, labels)
        if len(given) != len(distinct):
            raise InputError(
                f"{what}: {len(given)} texts for {len(distinct)} distinct labels; give one text "
                "per label, in sorted order"
            )
        return learned_prototypes(rows, codes, given, self.temperature)

    @property
    def image_matrix(self) -> np.ndarray:
        """W, (d, d)."""
        return self.matrix_

    @property
    def text_matrix(self) -> np.ndarray:
        """The identity, (d, d)."""
        return np.eye(self.dimension_)

    def _images(self, rows: Any) -> Any:
        return rows @ self.matrix_.T

    def _texts(self, rows: Any) -> Any:
        return rows


def learned_prototypes(
    rows: np.ndarray, codes: np.ndarray, start: np.ndarray, temperature: float
) -> np.ndarray:
    """Directions that classify: minimise `softmax_loss` by L-BFGS from `start` (k, d).

    For unit rows f (n, d) of classes a (n,). Returns (k, d) of unit length. Only differences of
    prototypes enter the loss, so that several sets are as good, and the start decides between
    them. Raises `InputError` where it does not converge.
    """

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = softmax_loss(rows, codes, flat.reshape(start.shape), temperature)
        return value, slope.ravel()

    found = _descended(loss, start, SMALL_GRADIENT)
    if found.nit >= STEPS:
        raise InputError(
            f"prototypes did not converge in {STEPS} steps at temperature {temperature}; raise it"
        )
    unit: np.ndarray = unit_rows(found.x.reshape(start.shape), "prototypes")
    return unit


def softmax_loss(
    rows: np.ndarray, codes: np.ndarray, prototypes: np.ndarray, temperature: float
) -> tuple[float, np.ndarray]:
    """-mean_i log softmax_j(cos(f_i, p_j) / tau)[a_i], and its gradient in the p_j, (k, d).

    For unit rows f (n, d) of classes a (n,); the p_j need not be of unit length.
    """
    wanted = np.eye(len(prototypes))[codes]
    lengths = np.linalg.norm(prototypes, axis=1, keepdims=True)
    unit = prototypes / lengths
    log_shares = log_softmax(rows @ unit.T / temperature, axis=1)
    excess = (np.exp(log_shares) - wanted) / (len(rows) * temperature)
    slope = excess.T @ rows
    along = np.sum(slope * unit, axis=1, keepdims=True)
    value = -np.sum(wanted * log_shares) / len(rows)
    return float(value), (slope - along * unit) / lengths


def closed_form(
    rows: np.ndarray, prototypes: np.ndarray, targets: np.ndarray, alpha: float, beta: float
) -> np.ndarray:
    """The only minimiser W (d, d) of the loss of `FairCLIP`, for unit rows (n, d).

    With D the differences of bias prototypes and P the target prototypes, as columns,
    A = DD' + alpha PP' = U diag(a) U' and F'F/n = V diag(s) V',
        W = I - U [(U' DD' V)_ij s_j / (a_i s_j + beta)] V'.
    U need only span D and P, to rounding: elsewhere U' D is zero.
    """
    differences = _differences(prototypes)
    stacked = np.concatenate([differences, math.sqrt(alpha) * targets])
    _, roots, basis = np.linalg.svd(stacked, full_matrices=False)
    # What is rounding would be divided by beta alone.
    held = roots > np.finfo(float).eps * max(stacked.shape) * roots[0]
    roots, basis = roots[held], basis[held]
    sizes, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    sizes = np.maximum(sizes, 0)  # rounding leaves zeros a little below
    inner = (basis @ differences.T) @ (differences @ directions)
    inner *= sizes / (np.outer(roots**2, sizes) + beta)
    matrix: np.ndarray = np.eye(rows.shape[1]) - basis.T @ inner @ directions.T
    return matrix


def by_gradient(
    rows: np.ndarray, prototypes: np.ndarray, targets: np.ndarray, alpha: float, beta: float
) -> np.ndarray:
    """As `closed_form`, by L-BFGS from W = I.

    The loss bends by 2 beta or more in every direction, so that W lies within ||gradient|| /
    (2 beta) of the minimiser. A descent ends where the loss no longer falls to rounding; the next
    one counts the loss from there. Raises `InputError` where the last is not within 1e-6.
    """
    differences = _differences(prototypes)
    bias = differences.T @ differences
    moments = rows.T @ rows / len(rows)
    curvature = bias + alpha * targets.T @ targets

    def bent(change: np.ndarray) -> np.ndarray:
        product: np.ndarray = curvature @ change @ moments + beta * change
        return product

    def loss(flat: np.ndarray, half: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient after a change, less the loss before it; `half` the gradient there."""
        change = flat.reshape(half.shape)
        new = bent(change) + half
        return float(np.sum(change * (new + half))), 2 * new.ravel()

    away, half = np.zeros_like(bias), bias @ moments  # W - I
    for _ in range(DESCENTS):
        found = _descended(
            lambda flat, half=half: loss(flat, half),
            np.zeros_like(bias),
            beta * EXACT / len(bias),
        )
        away = away + found.x.reshape(bias.shape)
        half = bias @ moments + bent(away)
        distance = float(np.linalg.norm(half)) / beta
        if distance <= EXACT:
            return away + np.eye(len(bias))
    raise InputError(
        f"the gradient solver may be {distance:.1e} from the minimiser at beta {beta}, more than "
        f"{EXACT}; raise beta, or take the closed form"
    )


def _descended(loss: Any, start: np.ndarray, gradient: float) -> Any:
    options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "maxcor": 20, "ftol": 0, "gtol": gradient}
    return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)


def _differences(prototypes: np.ndarray) -> np.ndarray:
    """p_j - p_k of all pairs j < k, as rows."""
    first, second = np.triu_indices(len(prototypes), 1)
    differences: np.ndarray = prototypes[first] - prototypes[second]
    return differences
