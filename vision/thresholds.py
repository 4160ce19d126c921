"""Thresholds of a three-way decision, "yes", "no" and "not known", that keep a precision."""

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from scipy.special import betaincinv

from m4.catalogue import Model

Probability = Annotated[float, Field(ge=0.0, le=1.0)]

CONFIDENCE = 0.95  # of the lower bound of a precision
EVEN = 0.5  # "yes" is never said of what is more probably not so, nor the other way round


class Thresholds(Model):
    """Yes from `upper` on, no down from `lower` on, not known between; None is never reached."""

    lower: Probability | None = None
    upper: Probability | None = None

    @model_validator(mode="after")
    def _apart(self) -> "Thresholds":
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower {self.lower:g} is not below upper {self.upper:g}")
        return self

    def yes(self, probabilities: np.ndarray) -> np.ndarray:
        """Which of any number of probabilities are a yes."""
        return probabilities >= (np.inf if self.upper is None else self.upper)

    def no(self, probabilities: np.ndarray) -> np.ndarray:
        """Which of any number of probabilities are a no."""
        return probabilities <= (-np.inf if self.lower is None else self.lower)


class Side(Model):
    """What one side of a decision, the yes or the no, came to on held-out examples.

    Attributes
    ----------
    share : of the examples that it is said of
    precision : share of those of which it is true; None where it is never said
    bound : lower confidence bound of the precision
    recall : share of the examples of which it is true and said, among those of which it is true
    """

    share: Probability
    precision: Probability | None
    bound: Probability | None
    recall: Probability


def precision_bound(
    right: np.ndarray | float, said: np.ndarray | float, confidence: float = CONFIDENCE
) -> np.ndarray:
    """One-sided lower bound of a precision, of which `right` of `said` (both (n,)) were right.

    The (1 - confidence) quantile of Beta(right, said - right + 1), and 0 where none was right:
    Clopper and Pearson (1934). It holds for each threshold by itself.
    """
    right, said = np.asarray(right, dtype=np.float64), np.asarray(said, dtype=np.float64)
    some = np.maximum(right, 1)
    bound = betaincinv(some, np.maximum(said, some) - some + 1, 1 - confidence)
    return np.where(right > 0, bound, 0.0)


def upper_threshold(probabilities: np.ndarray, truth: np.ndarray, precision: float) -> float | None:
    """The smallest threshold above one half from which on a "yes" keeps the precision.

    Parameters
    ----------
    probabilities, truth : (n,) of held-out examples
    precision : what `precision_bound` of those at or above the threshold has to reach

    Returns None where no threshold reaches it. Being above one half, only one of several
    probabilities that sum to 1 can reach its own.
    """
    found = _threshold(probabilities, truth, precision, probabilities > EVEN)
    return None if found is None else float(probabilities[found])


def lower_threshold(probabilities: np.ndarray, truth: np.ndarray, precision: float) -> float | None:
    """The largest threshold below one half down from which a "no" keeps the precision."""
    found = _threshold(-probabilities, ~truth, precision, probabilities < EVEN)
    return None if found is None else float(probabilities[found])


def _threshold(
    strength: np.ndarray, right: np.ndarray, precision: float, allowed: np.ndarray
) -> int | None:
    """The weakest example at which all that are as strong or stronger keep the precision."""
    order = np.argsort(-strength, kind="stable")
    bound = precision_bound(np.cumsum(right[order]), np.arange(1, len(order) + 1))
    weakest = np.append(np.diff(strength[order]) < 0, True)  # of those that are as strong
    good = np.flatnonzero(weakest & allowed[order] & (bound >= precision))
    return int(order[good[-1]]) if len(good) else None


def side_of(said: np.ndarray, truth: np.ndarray) -> Side:
    """What came of saying so, (n,) bool, where it is true or not, (n,) bool."""
    right, count = int((said & truth).sum()), int(said.sum())
    return Side(
        share=count / len(said),
        precision=right / count if count else None,
        bound=float(precision_bound(right, count)) if count else None,
        recall=right / max(int(truth.sum()), 1),
    )
