"""Fitting heads: weights from labelled examples or from prompts, calibrated on held-out scores."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from m4.catalogue import Catalogue, Model
from m4.errors import InputError
from vision.calibrated import (
    Calibration,
    Method,
    calibration_error,
    fit_calibration,
    log_loss,
)
from vision.directions import normalised
from vision.heads import PERSON, Fit, Head, ValueFit, margins, shares
from vision.thresholds import (
    CONFIDENCE,
    Thresholds,
    lower_threshold,
    side_of,
    upper_threshold,
)

FEWEST = 10  # labelled examples that show a value, and that do not
ITERATIONS = 5000  # of the solver, which a few hundred suffice for


class Question(Model):
    """What a head is to answer, and about whose embeddings.

    Attributes
    ----------
    attribute, values, exclusive, model : as of `heads.Head`
    """

    attribute: str
    values: tuple[str, ...]
    exclusive: bool
    model: str

    @classmethod
    def of(cls, catalogue: Catalogue, attribute: str, model: str) -> "Question":
        """About an attribute of a catalogue, or "person"; raises `InputError` without one."""
        if attribute == PERSON:
            return cls(attribute=PERSON, values=(PERSON,), exclusive=False, model=model)
        if attribute not in catalogue.sensitive:
            raise InputError(
                f"attribute: catalogue {catalogue.name!r} has no {attribute!r}; it has "
                f"{', '.join([*catalogue.sensitive, PERSON])}"
            )
        found = catalogue.sensitive[attribute]
        return cls(
            attribute=attribute, values=tuple(found.values), exclusive=found.exclusive, model=model
        )

    @property
    def compete(self) -> bool:
        """Whether its values are judged against each other."""
        return self.exclusive and len(self.values) > 1


class FitSettings(Model):
    """How a head is fitted.

    Attributes
    ----------
    calibration : from scores to probabilities
    precision : that a decision has to reach, by a lower bound of confidence .95
    folds : of the cross-validation
    seed : which examples are in which fold
    regularisations : of the logistic regression, inverse strengths C that are tried
    """

    calibration: Method = "platt"
    precision: float = Field(default=0.95, gt=0.0, lt=1.0)
    folds: int = Field(default=5, ge=2, le=FEWEST)
    seed: int = Field(default=0, ge=0, lt=2**32)
    regularisations: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        default=(1.0, 10.0, 100.0, 1000.0), min_length=1
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """n examples, and their scores by weights that were not fitted on them.

    Attributes
    ----------
    scores : (n, k) float64; of an example without a label they do not matter
    labels : (n, k), NaN where there is none
    folds : (n, k) int, the fold that held it out; -1 where there is no label
    """

    scores: np.ndarray
    labels: np.ndarray
    folds: np.ndarray


def fit_linear(
    embeddings: np.ndarray,
    labels: np.ndarray,
    question: Question,
    settings: FitSettings | None = None,
) -> Head:
    """Fit weights by logistic regression: multinomial where values exclude each other.

    Parameters
    ----------
    embeddings : (n, d) of any length
    labels : (n, k), 1 where a value is shown, 0 where it is not, NaN where nobody knows; of values
        that exclude each other, each row has one 1 and else 0, or NaN throughout

    The strength of the penalty is the one with the least log loss on held-out folds. Weights are
    then fitted on all examples; calibrations on the held-out scores of all; what is said of the
    head, and its thresholds, come from calibrations that left out the fold they are judged on.
    Raises `InputError` where a value has too few examples.
    """
    settings = settings or FitSettings()
    embeddings, labels = _checked(embeddings, labels, question)
    folds = _folds(labels, question, settings)
    k = labels.shape[1]
    weights, bias = np.zeros((k, embeddings.shape[1])), np.zeros(k)
    scores, chosen = np.full(labels.shape, np.nan), []
    for block in _blocks(k, question):
        known = folds[:, block.start] >= 0
        x, y, fold = embeddings[known], labels[known, block], folds[known, block.start]
        tried = [(c, _held_out(x, y, fold, c)) for c in settings.regularisations]
        losses = [_loss(found, y) for _, found in tried]
        best, scores[known, block] = tried[int(np.argmin(losses))]
        weights[block], bias[block] = _weights(x, y, best)
        chosen.append(best)
    held = HeldOut(scores, labels, folds)
    return _head("linear", weights, bias, held, question, settings, tuple(chosen))


def prompt_head(
    prompts: np.ndarray,
    embeddings: np.ndarray,
    labels: np.ndarray,
    question: Question,
    settings: FitSettings | None = None,
) -> Head:
    """A head whose weights are embeddings of prompts; only its calibration is fitted.

    Parameters
    ----------
    prompts : (k, d), one per value, as `prompts.mark_embedding` makes them; for a person (2, d),
        of pictures with and without one, whose difference is the weight
    embeddings, labels : as of `fit_linear`

    Raises `InputError` where a value has too few examples.
    """
    settings = settings or FitSettings()
    embeddings, labels = _checked(embeddings, labels, question)
    weights = normalised(prompts, "prompts")
    rows = 2 if question.attribute == PERSON else len(question.values)
    if weights.shape != (rows, embeddings.shape[1]):
        raise InputError(
            f"prompts of shape {weights.shape} for {rows} prompts and embeddings of "
            f"{embeddings.shape[1]} numbers; encode both with {question.model}"
        )
    if question.attribute == PERSON:
        weights = weights[:1] - weights[1:]
    held = HeldOut(embeddings @ weights.T, labels, _folds(labels, question, settings))
    return _head("prompts", weights, np.zeros(len(weights)), held, question, settings)


def _checked(
    embeddings: np.ndarray, labels: np.ndarray, question: Question
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of unit length and labels, both float64, of rows of which anything is known."""
    labels = np.asarray(labels, dtype=np.float64)
    if labels.shape != (len(embeddings), len(question.values)):
        raise InputError(
            f"labels of shape {labels.shape} for {len(embeddings)} embeddings and "
            f"{len(question.values)} values; give one for each"
        )
    known = ~np.isnan(labels)
    if not np.isin(labels[known], (0.0, 1.0)).all():
        raise InputError("labels: only 1, 0 and not known (NaN) will do")
    if question.compete:
        rows = known.any(axis=1)
        if not (known[rows].all() and (labels[rows].sum(axis=1) == 1).all()):
            raise InputError(f"labels of {question.attribute}: exactly one value must be 1")
    counts = {
        value: (int((column == 1).sum()), int((column == 0).sum()))
        for value, column in zip(question.values, labels.T, strict=True)
    }
    if min(min(both) for both in counts.values()) < FEWEST:
        listed = ", ".join(f"{name} {yes} and {no} not" for name, (yes, no) in counts.items())
        raise InputError(
            f"too few labelled examples of {question.attribute}: {listed}; give at least {FEWEST} "
            "that show each value, and that do not"
        )
    rows = known.any(axis=1)
    return normalised(np.asarray(embeddings)[rows], "embeddings"), labels[rows]


def _blocks(k: int, question: Question) -> list[slice]:
    """Columns that are fitted together: all where values compete, else each by itself."""
    return [slice(0, k)] if question.compete else [slice(j, j + 1) for j in range(k)]


def _classes(labels: np.ndarray) -> np.ndarray:
    """Which value is shown, or of a single one whether it is; (n,) int."""
    return labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0].astype(np.int64)


def _folds(labels: np.ndarray, question: Question, settings: FitSettings) -> np.ndarray:
    """In which fold an example is held out, by value; (n, k) int, -1 where it has no label."""
    from sklearn.model_selection import StratifiedKFold  # a second to import

    folds = np.full(labels.shape, -1)
    splitter = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for block in _blocks(labels.shape[1], question):
        rows = np.flatnonzero(~np.isnan(labels[:, block]).any(axis=1))
        y = _classes(labels[rows, block])
        for fold, (_, held_out) in enumerate(splitter.split(rows, y)):
            folds[rows[held_out], block] = fold
    return folds


def _weights(x: np.ndarray, labels: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (k, d) and bias (k,) of a logistic regression on labels (n, k).

    One column is a question of its own; several are classes, of which each row shows one.
    """
    from sklearn.linear_model import LogisticRegression

    y = _classes(labels)
    model: Any = LogisticRegression(C=c, max_iter=ITERATIONS).fit(x, y)
    weights, bias = model.coef_, model.intercept_
    if labels.shape[1] == 2:  # scikit-learn gives the second's log-odds against the first
        weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    return weights, bias


def _held_out(x: np.ndarray, labels: np.ndarray, fold: np.ndarray, c: float) -> np.ndarray:
    """Scores (n, k) of each example by weights that were fitted on the other folds."""
    scores = np.empty(labels.shape)
    for held_out in np.unique(fold):
        rows = fold == held_out
        weights, bias = _weights(x[~rows], labels[~rows], c)
        scores[rows] = x[rows] @ weights.T + bias
    return scores


def _loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss of scores (n, k) as logits of k classes; of one column, against 0."""
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    right = scores[np.arange(len(scores)), _classes(labels)]
    return float((np.logaddexp.reduce(scores, axis=1) - right).mean())


def _head(
    method: Literal["linear", "prompts"],
    weights: np.ndarray,
    bias: np.ndarray,
    held: HeldOut,
    question: Question,
    settings: FitSettings,
    regularisation: tuple[float, ...] = (),
) -> Head:
    """A head of these weights, with calibrations and thresholds from its held-out scores."""
    if question.compete:
        held = replace(held, scores=margins(held.scores.T).T)
    probabilities = _cross_fitted(held, settings)
    if question.compete:
        probabilities = shares(probabilities.T).T
    known = held.folds >= 0
    judged = [
        _judged(probabilities[rows, j], held.labels[rows, j] == 1, question, settings)
        for j, rows in enumerate(known.T)
    ]
    fit = Fit(
        method=method,
        samples=len(held.labels),
        folds=settings.folds,
        seed=settings.seed,
        precision=settings.precision,
        confidence=CONFIDENCE,
        regularisation=regularisation,
        values=tuple(each for _, each in judged),
    )
    return Head(
        **question.model_dump(),
        dimension=weights.shape[1],
        bias=_single(bias),
        calibrations=tuple(_calibrate(held, j, rows, settings) for j, rows in enumerate(known.T)),
        thresholds=tuple(each for each, _ in judged),
        fit=fit,
        weights=tuple(_single(row) for row in weights),
    )


def _single(numbers: np.ndarray) -> tuple[float, ...]:
    """Numbers in single precision, with no more digits than tell them apart."""
    return tuple(float(str(each)) for each in numbers.astype(np.float32))


def _calibrate(held: HeldOut, j: int, rows: np.ndarray, settings: FitSettings) -> Calibration:
    return fit_calibration(held.scores[rows, j], held.labels[rows, j] == 1, settings.calibration)


def _cross_fitted(held: HeldOut, settings: FitSettings) -> np.ndarray:
    """Probabilities (n, k) of examples that neither weights nor calibration were fitted on."""
    found = np.full(held.scores.shape, np.nan)
    for j, folds in enumerate(held.folds.T):
        for fold in range(settings.folds):
            rows = folds == fold
            calibration = _calibrate(held, j, (folds >= 0) & ~rows, settings)
            found[rows, j] = calibration.probabilities(held.scores[rows, j])
    return found


def _judged(
    probabilities: np.ndarray, truth: np.ndarray, question: Question, settings: FitSettings
) -> tuple[Thresholds, ValueFit]:
    """Thresholds of one value, and how good it is, from held-out probabilities (n,)."""
    upper = upper_threshold(probabilities, truth, settings.precision)
    lower = None
    if not question.compete:
        lower = lower_threshold(probabilities, truth, settings.precision)
    thresholds = Thresholds(lower=lower, upper=upper)
    return thresholds, ValueFit(
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        log_loss=log_loss(probabilities, truth),
        calibration_error=calibration_error(probabilities, truth),
        yes=side_of(thresholds.yes(probabilities), truth),
        no=None if question.compete else side_of(thresholds.no(probabilities), ~truth),
    )


def undecided(head: Head) -> list[str]:
    """A sentence for each decision that a head can never take, as no threshold is good enough."""
    if head.fit is None:
        return []
    asked = f"precision {head.fit.precision:g}"
    said = []
    for value, thresholds in zip(head.values, head.thresholds, strict=True):
        name = value if value == head.attribute else f"{head.attribute}.{value}"
        if thresholds.upper is None:
            said.append(f'{name} is never a "yes": no threshold is known to reach {asked}')
        if thresholds.lower is None and not head.compete:
            said.append(f'{name} is never a "no": no threshold is known to reach {asked}')
    return said
