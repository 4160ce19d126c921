"""From a score to a probability: Platt's and isotonic calibration, and how good one is."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from m4.catalogue import Model

Finite = Annotated[float, Field(allow_inf_nan=False)]
Method = Literal["platt", "isotonic"]

BINS = 10  # of the calibration error
UNPENALISED = 1e8  # inverse strength of a penalty that does not matter to two coefficients


class Platt(Model):
    """p(x) = 1 / (1 + exp(-(slope * x + intercept))).

    Platt, "Probabilistic outputs for support vector machines" (1999).
    """

    kind: Literal["platt"] = "platt"
    slope: Finite
    intercept: Finite

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of scores, of the same shape and type; NaN where it is NaN."""
        dtype = scores.dtype.type
        return logistic(scores * dtype(self.slope) + dtype(self.intercept))


class Isotonic(Model):
    """Straight lines between knots, x and y not decreasing; constant beyond the outermost.

    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
    estimates" (2002).
    """

    kind: Literal["isotonic"] = "isotonic"
    x: tuple[Finite, ...] = Field(min_length=1)
    y: tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Isotonic":
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} knots x, but {len(self.y)} y; give one for each")
        for name, knots in (("x", self.x), ("y", self.y)):
            if np.any(np.diff(knots) < 0):
                raise ValueError(f"the knots {name} go down somewhere; they must not")
        return self

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of scores, of the same shape and type; NaN where it is NaN."""
        return np.interp(scores, self.x, self.y).astype(scores.dtype)


Calibration = Annotated[Platt | Isotonic, Field(discriminator="kind")]


def logistic(log_odds: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of the type of x."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite, then the probability is 0
        return 1 / (1 + np.exp(-log_odds))


def fit_calibration(scores: np.ndarray, truth: np.ndarray, method: Method) -> Calibration:
    """Calibrate scores (n,) with their truth (n,) bool, of which both must occur.

    With n1 that are true and n0 that are not, Platt's targets are (n1 + 1) / (n1 + 2) and
    1 / (n0 + 2); isotonic probabilities are kept in [1 / (n + 2), 1 - 1 / (n + 2)]. So neither is
    certain of anything after finitely many examples.
    """
    return _platt(scores, truth) if method == "platt" else _isotonic(scores, truth)


def _platt(scores: np.ndarray, truth: np.ndarray) -> Platt:
    from sklearn.linear_model import LogisticRegression  # a second to import

    positives, negatives = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = scores.mean(), scores.std()
    if spread == 0:  # all scores are the same: they say nothing
        share = target.mean()
        return Platt(slope=0.0, intercept=float(np.log(share / (1 - share))))
    standard = np.tile((scores - centre) / spread, 2)[:, None]
    answers = np.repeat([1, 0], len(scores))  # each example once as either, weighted by its target
    model = LogisticRegression(C=UNPENALISED, solver="newton-cholesky", tol=1e-8)
    model.fit(standard, answers, sample_weight=np.concatenate([target, 1 - target]))
    slope = model.coef_[0, 0] / spread
    return Platt(slope=float(slope), intercept=float(model.intercept_[0] - slope * centre))


def _isotonic(scores: np.ndarray, truth: np.ndarray) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (len(scores) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    model.fit(scores, truth)
    return Isotonic(x=model.X_thresholds_.tolist(), y=model.y_thresholds_.tolist())


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error over `BINS` bins of equal size.

    sum over bins b of n_b / n * |mean probability in b - share of the true in b|: Nguyen and
    O'Connor, "Posterior calibration and exploratory analysis for NLP models" (2015). With few
    examples it is above 0 even for perfect probabilities, by about .4 / sqrt(n / BINS) at most.
    """
    order = np.argsort(probabilities, kind="stable")
    bins = np.array_split(probabilities[order] - truth[order], min(BINS, len(order)))
    return float(sum(abs(found.sum()) for found in bins) / len(order))


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log of the probability of what is true, in nats; below 1e-15 counts as 1e-15."""
    given = np.where(truth, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(given, 1e-15)).mean())
