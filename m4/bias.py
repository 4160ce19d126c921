"""Bias of a dataset, cell by cell, under weights."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem
from m4.totals import Totals, measure

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
    intersections : as `representation`, one row per pair of values with a joint target
    """

    representation: pl.DataFrame
    association: pl.DataFrame
    intersections: pl.DataFrame

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
        parts = (self.representation, cells, self.intersections)
        return all(bool(part["within"].all()) for part in parts)

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
    if weights is not None and weights.shape != patterns.counts.shape:
        raise InputError(
            f"weights has shape {weights.shape}, but there are {len(patterns.counts)} rows"
        )
    plain = measure(problem, patterns)
    return bias_of(
        problem, plain, plain if weights is None else measure(problem, patterns, weights)
    )


def bias_of(problem: Problem, plain: Totals, weighted: Totals) -> BiasTable:
    """Bias from totals of the data as it is, and of the same data under weights."""
    m = len(problem.values)
    pairs = problem.intersections
    return BiasTable(
        _overall(
            problem.values, np.array(problem.targets), problem.eps_r, slice(0, m), plain, weighted
        ),
        _association(problem, plain, weighted),
        _overall(
            tuple(str(pair) for pair in pairs),
            np.array([pair.target for pair in pairs]),
            problem.eps_x,
            slice(m, None),
            plain,
            weighted,
        ),
    )


def _overall(
    names: tuple[str, ...],
    targets: np.ndarray,
    tolerance: float,
    features: slice,
    plain: Totals,
    weighted: Totals,
) -> pl.DataFrame:
    share = _ratio(weighted.held[features, 0], weighted.known[features, 0])
    frame = pl.DataFrame(
        {
            "value": names,
            "target": targets,
            "share": share,
            "bias": np.abs(share - targets),
            "examples": plain.known[features, 0],
            "tolerance": np.full(len(targets), tolerance),
        },
        schema_overrides={"value": pl.String},
    ).with_columns(pl.col("share", "bias").fill_nan(None))
    return frame.with_columns(within=(pl.col("bias") <= tolerance + BOUNDARY).fill_null(True))


def _association(problem: Problem, plain: Totals, weighted: Totals) -> pl.DataFrame:
    m, c = len(problem.values), len(problem.labels)
    before = plain.known[:m, 1:]
    mass, part = weighted.known[:m, :1], weighted.held[:m, :1]
    label_mass, label_part = weighted.known[:m, 1:], weighted.held[:m, 1:]
    share = _ratio(label_part, label_mass)
    given_value = _ratio(label_part, part)
    given_other = _ratio(label_mass - label_part, mass - part)
    relative = problem.tolerance == "relative"
    targets = np.asarray(problem.targets)
    goals = np.asarray(problem.label_targets).reshape(m, c) if relative else targets[:, None]
    goals = np.broadcast_to(goals, (m, c))
    # What the constraint bounds: the gap itself, or the gap times the label's rate.
    bounded = np.abs(_ratio(label_part - goals * label_mass, label_mass if relative else mass))
    constrained = [
        not problem.leaves_out(value, label) for value in problem.values for label in problem.labels
    ]
    rate = weighted.weight
    kept = _ratio(label_mass / rate if rate > 0 else label_mass, before / plain.examples)
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
