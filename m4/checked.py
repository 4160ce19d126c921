"""Examples whose truth was checked, and what they alone say of the balance."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem


@dataclass(frozen=True, eq=False)
class CheckedSample:
    """The truth of some examples.

    Attributes
    ----------
    rows : (n,) int, positions of the checked examples among the rows of the annotations
    s : (n, m) float64 in [0, 1], the truth; 0 where not observed
    observed : (n, m) bool, False where the check could not tell
    probability : (n,) float64 in (0, 1], with which the example was drawn for checking

    Raises `InputError` where shapes disagree or a number is out of its range.
    """

    rows: np.ndarray
    s: np.ndarray
    observed: np.ndarray
    probability: np.ndarray

    def __post_init__(self) -> None:
        checks = len(self.s)
        if self.rows.shape != (checks,) or self.probability.shape != (checks,):
            raise InputError(
                f"{checks} checked examples, but rows has shape {self.rows.shape} and probability "
                f"{self.probability.shape}; give one each"
            )
        if not ((self.s >= 0) & (self.s <= 1)).all():
            raise InputError("checked s holds a number outside [0, 1]; NaN says: could not tell")
        if not ((self.probability > 0) & (self.probability <= 1)).all():
            raise InputError("a checked example has a probability of being drawn outside (0, 1]")

    @classmethod
    def from_arrays(cls, rows: Any, s: Any, *, probability: Any) -> "CheckedSample":
        """Build from plain arrays: s is (n, m) or (n,), NaN where the check could not tell.

        `probability` is one number for a simple random sample (n/N), or one per checked example.
        """
        s = np.asarray(s, dtype=np.float64)
        s = s[:, None] if s.ndim == 1 else s
        known = ~np.isnan(s)
        rows = np.asarray(rows)
        if rows.size and not np.issubdtype(rows.dtype, np.integer):
            raise InputError(f"rows holds {rows.dtype}; give the positions of checked examples")
        drawn = np.asarray(probability, dtype=np.float64)
        drawn = np.full(len(s), drawn) if drawn.ndim == 0 else drawn
        return cls(rows.astype(np.int64), np.where(known, s, 0.0), known, drawn)

    def check(self, patterns: Patterns) -> None:
        """Raise `InputError` where the sample cannot be one of these examples."""
        if self.s.shape[1] != patterns.s.shape[1]:
            raise InputError(
                f"checked s has {self.s.shape[1]} columns, the annotations {patterns.s.shape[1]}"
            )
        outside = (self.rows < 0) | (self.rows >= len(patterns.s))
        if outside.any():
            raise InputError(
                f"row {self.rows[outside][0]} was checked, but there are {len(patterns.s)} rows"
            )
        often = np.bincount(self.rows, minlength=len(patterns.s)) > patterns.counts
        if often.any():
            raise InputError(
                f"row {np.flatnonzero(often)[0]} was checked more often than it has examples; "
                "give each checked example once"
            )


def estimate_true_bias(
    problem: Problem,
    patterns: Patterns,
    checked: CheckedSample,
    weights: np.ndarray | None = None,
) -> pl.DataFrame:
    """The true share of every constraint under weights, estimated from checked examples.

    The difference estimator of survey sampling (Saerndal, Swensson and Wretman 1992, 6.3), also
    known as prediction-powered inference: what the annotations say, plus the checked examples'
    errors, each divided by the probability P of its being drawn. With a = o_k y_r (y = 1 overall),

        estimate       = ( E[q a p] + E[1{checked} q a (s - p) / P] ) / E[q a]
        standard error = sqrt( sum over checked of (1 - P) (q a (s - p) / (N P))^2 ) / E[q a]

    The estimate is unbiased for any p, good or bad, and any weights that were fixed before the
    check, if every example with weight could be drawn; the error is that of independent draws
    (`CheckPlan.draw`). If p was calibrated on the same sample, both are a little too favourable:
    draw another for this.

    Parameters
    ----------
    patterns : the examples with p, marks or calibrated probabilities, in place of s
    weights : (N,) weights q; None for the data as it is

    Returns one row per constraint: `value`, `label` (null overall), `target`, `share` as annotated,
    `estimate`, `standard_error`, `checked` (examples). A share of nothing is null.
    """
    problem.check(patterns)
    checked.check(patterns)
    share = patterns.share
    if weights is not None and weights.shape != share.shape:
        raise InputError(f"weights has shape {weights.shape}, but there are {len(share)} rows")
    weights = np.ones(len(share)) if weights is None else weights
    rows, drawn = checked.rows, checked.probability
    of_labels = patterns.y[rows]
    known = checked.observed & patterns.observed[rows]
    error = np.where(known, checked.s - patterns.s[rows], 0.0)
    error *= (weights[rows] / drawn)[:, None] / patterns.examples
    table = []
    for constraint in problem.constraints():
        k = problem.values.index(constraint.value)
        weight, member, target = share * weights * patterns.observed[:, k], 1.0, problem.targets[k]
        if constraint.label is not None:
            r = problem.labels.index(constraint.label)
            weight = weight * patterns.y[:, [r]].toarray()[:, 0]
            member = of_labels[:, [r]].toarray()[:, 0]
            target = problem.label_targets[k][r]
        mass, part = weight.sum(), weight @ patterns.s[:, k]
        off = member * error[:, k]
        table.append(
            {
                "value": constraint.value,
                "label": constraint.label,
                "target": target,
                "share": part / mass if mass > 0 else None,
                "estimate": (part + off.sum()) / mass if mass > 0 else None,
                "standard_error": np.sqrt((1 - drawn) @ off**2) / mass if mass > 0 else None,
                "checked": float((known[:, k] * member > 0).sum()),
            }
        )
    schema = {name: pl.String if name in ("value", "label") else pl.Float64 for name in table[0]}
    return pl.DataFrame(table, schema=schema)
