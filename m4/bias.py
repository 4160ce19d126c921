"""Bias of a dataset, cell by cell, under weights."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem

BOUNDARY = 1e-6  # a cell at its tolerance is inside it, up to what a solver's gap leaves


@dataclass(frozen=True, eq=False)
class BiasTable:
    """Representation and association bias of a dataset under weights q.

    Attributes
    ----------
    representation : one row per value k: `value`, `target` pi_k, `share` E[q o s]/E[q o], `bias`
        |share - pi_k|, `examples` (observed, unweighted), `tolerance`, `within`
    association : one row per value k and label r: `share` of k among the examples of r with its
        `target` and `gap`; `given_value` E[y | s=1] and `given_other` E[y | s=0] with their
        difference `association`; `examples` (observed and labelled, unweighted) and `kept`, the
        share of their weight that is left relative to the rate; `constrained`, `within`, `lost`
        (examples, but no weight left). A mean over nothing is null.
    """

    representation: pl.DataFrame
    association: pl.DataFrame

    @property
    def representation_bias(self) -> float:
        """RB = max_k |pi_k - E[o s]/E[o]| (methods of M4)."""
        return _largest(self.representation["bias"])

    @property
    def association_bias(self) -> float:
        """AB = max_kr |E[y | s=1] - E[y | s=0]| (methods of M4)."""
        return _largest(self.association["association"].abs())

    @property
    def all_within(self) -> bool:
        """Whether every constrained cell is inside its tolerance."""
        cells = self.association.filter("constrained")
        return bool(self.representation["within"].all() and cells["within"].all())

    @property
    def lost_labels(self) -> tuple[str, ...]:
        """Labels that had observed examples and have no weight left."""
        return tuple(self.association.filter("lost")["label"].unique(maintain_order=True))


def _largest(column: pl.Series) -> float:
    largest = column.max()
    return float(largest) if isinstance(largest, float) else 0.0


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=out, where=whole > 0)


def bias_table(
    problem: Problem, patterns: Patterns, weights: np.ndarray | None = None
) -> BiasTable:
    """Measure the bias of data under weights.

    Parameters
    ----------
    weights : (N,) weights q; None for the data as it is

    Raises `InputError` where weights or columns do not fit the data.
    """
    problem.check(patterns)
    share = patterns.share
    if weights is not None and weights.shape != share.shape:
        raise InputError(f"weights has shape {weights.shape}, but there are {len(share)} rows")
    weighted = share if weights is None else share * weights
    known = patterns.observed.astype(np.float64)
    mass = known.T @ weighted
    part = (known * patterns.s).T @ weighted
    targets = np.asarray(problem.targets)
    overall = _ratio(part, mass)
    representation = pl.DataFrame(
        {
            "value": problem.values,
            "target": targets,
            "share": overall,
            "bias": np.abs(overall - targets),
            "examples": known.T @ patterns.counts,
            "tolerance": np.full(len(targets), problem.eps_r),
        }
    ).with_columns(pl.col("share", "bias").fill_nan(None))
    representation = representation.with_columns(
        within=(pl.col("bias") <= problem.eps_r + BOUNDARY).fill_null(True)
    )
    return BiasTable(representation, _association(problem, patterns, weighted, mass, part))


def _association(
    problem: Problem,
    patterns: Patterns,
    weighted: np.ndarray,
    mass: np.ndarray,
    part: np.ndarray,
) -> pl.DataFrame:
    m, c = len(problem.values), len(problem.labels)
    known = patterns.observed.astype(np.float64)
    label_mass = (patterns.y.T @ (known * weighted[:, None])).T
    label_part = (patterns.y.T @ (known * patterns.s * weighted[:, None])).T
    before = (patterns.y.T @ (known * patterns.counts[:, None])).T
    share = _ratio(label_part, label_mass)
    given_value = _ratio(label_part, part[:, None])
    given_other = _ratio(label_mass - label_part, (mass - part)[:, None])
    relative = problem.tolerance == "relative"
    targets = np.asarray(problem.targets)
    goals = np.asarray(problem.label_targets).reshape(m, c) if relative else targets[:, None]
    goals = np.broadcast_to(goals, (m, c))
    # What the constraint bounds: the gap itself, or the gap times the label's rate.
    bounded = np.abs(
        _ratio(label_part - goals * label_mass, label_mass if relative else mass[:, None])
    )
    constrained = [
        not problem.leaves_out(value, label) for value in problem.values for label in problem.labels
    ]
    rate = float(weighted.sum())
    kept = _ratio(label_mass / rate if rate > 0 else label_mass, before / patterns.examples)
    frame = pl.DataFrame(
        {
            "value": np.repeat(np.array(problem.values, dtype=object), c).tolist(),
            "label": list(problem.labels) * m,
            "target": goals.ravel(),
            "share": share.ravel(),
            "gap": np.abs(share - goals).ravel(),
            "given_value": given_value.ravel(),
            "given_other": given_other.ravel(),
            "association": (given_value - given_other).ravel(),
            "examples": before.ravel(),
            "kept": kept.ravel(),
            "constrained": constrained,
            "within": np.nan_to_num(bounded.ravel(), nan=0.0) <= problem.eps_d + BOUNDARY,
            "lost": ((before > 0) & (label_mass <= 0)).ravel(),
        },
        schema_overrides={"value": pl.String, "label": pl.String, "constrained": pl.Boolean},
    )
    means = ["share", "gap", "given_value", "given_other", "association", "kept"]
    return frame.with_columns(pl.col(means).fill_nan(None))
