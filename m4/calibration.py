"""A calibration of noisy annotations: scores and labels in, probabilities out; kept as JSON."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field, ValidationError, model_validator
from scipy import sparse
from scipy.special import expit, logit

from m4.catalogue import Model, explain
from m4.errors import InputError
from m4.patterns import Patterns

RAREST = 1e-3  # prevalences are kept this far from 0 and 1: no mark is beyond doubt


def with_ones(labels: sparse.csr_array) -> sparse.csr_array:
    """Labels after a column of ones, (N, 1 + c) CSR."""
    ones = sparse.csr_array(np.ones((labels.shape[0], 1)))
    return sparse.csr_array(sparse.hstack([ones, labels], format="csr"))


class Cell(Model):
    """One cell: the examples of a label (of any, where None) with a score in [at_least, below).

    Attributes
    ----------
    examples : observed examples of the cell
    checked : those whose truth is known
    true_share : share of the value among the checked; None where none was checked
    probability : calibrated share of the value in the cell
    standard_error : of `probability`
    low, high : 95 % interval of `probability`, symmetric in log-odds
    """

    value: str
    label: str | None
    at_least: float
    below: float
    examples: float
    checked: float
    true_share: float | None
    probability: float
    standard_error: float
    low: float
    high: float


class ValueCalibration(Model):
    """The calibration of one value.

    Attributes
    ----------
    mean_if_true, mean_if_false : E[score | s=1] and E[score | s=0]
    evidence : log P(interval | s=1) / P(interval | s=0), one per score interval
    prevalence : log-odds of the machine's marks: of no label, then what each label adds
    corrections : per score interval, what the checks add to the log-odds: to all, to each label
    """

    value: str
    mean_if_true: float
    mean_if_false: float
    evidence: tuple[float, ...]
    prevalence: tuple[float, ...]
    corrections: tuple[tuple[float, ...], ...]

    def prior_log_odds(self, labels: sparse.csr_array) -> np.ndarray:
        """Log-odds of s=1 given the labels alone, by Rogan and Gladen's correction; (N,)."""
        marked = expit(labels @ np.asarray(self.prevalence))
        true = (marked - self.mean_if_false) / (self.mean_if_true - self.mean_if_false)
        return logit(np.clip(true, RAREST, 1.0 - RAREST))

    def log_odds(self, labels: sparse.csr_array, interval: np.ndarray) -> np.ndarray:
        """Log-odds of s=1 given labels (with a leading column of ones) and score interval; (N,)."""
        added = labels @ np.asarray(self.corrections).T
        own = np.take_along_axis(added, interval[:, None], axis=1)[:, 0]
        return self.prior_log_odds(labels) + np.asarray(self.evidence)[interval] + own


class CellCalibration(Model):
    """Turns annotations into calibrated probabilities. Immutable; made by `calibrate_cells`.

    Attributes
    ----------
    values, labels : names of the m sensitive values and of the c labels and proxies
    edges : inner edges of the score intervals
    exclusive : groups of values whose probabilities are scaled to sum to 1
    spread : prior standard deviation of a cell's log-odds around what is expected of it
    per_value : m calibrations
    cells : what is known of each cell, before the scaling of exclusive groups
    """

    values: tuple[str, ...]
    labels: tuple[str, ...]
    edges: tuple[float, ...] = (0.5,)
    exclusive: tuple[tuple[int, ...], ...] = ()
    spread: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    per_value: tuple[ValueCalibration, ...]
    cells: tuple[Cell, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "CellCalibration":
        if tuple(one.value for one in self.per_value) != self.values:
            raise ValueError("per_value does not list the values in their order")
        intervals, columns = len(self.edges) + 1, len(self.labels) + 1
        for one in self.per_value:
            if not one.mean_if_true > one.mean_if_false:
                raise ValueError(f"{one.value}: mean_if_true is not above mean_if_false")
            shape = {len(row) for row in one.corrections} | {len(one.prevalence)}
            if shape != {columns} or {len(one.corrections), len(one.evidence)} != {intervals}:
                raise ValueError(
                    f"{one.value}: does not fit {intervals} score intervals, {columns - 1} labels"
                )
        return self

    def check(self, patterns: Patterns) -> None:
        """Raise `InputError` where the data has other columns than the calibration."""
        given = (patterns.s.shape[1], patterns.y.shape[1])
        wanted = (len(self.values), len(self.labels))
        if given != wanted:
            raise InputError(
                f"the data has {given[0]} sensitive values and {given[1]} labels, the calibration "
                f"{wanted[0]} and {wanted[1]}; use the annotations of the same catalogue"
            )

    def probabilities(self, patterns: Patterns) -> np.ndarray:
        """P(s_k = 1 | score, labels) of any examples, (N, m); 0 where not observed."""
        self.check(patterns)
        labels, interval = with_ones(patterns.y), np.digitize(patterns.s, self.edges)
        columns = [one.log_odds(labels, interval[:, k]) for k, one in enumerate(self.per_value)]
        found = np.where(patterns.observed, expit(np.column_stack(columns)), 0.0)
        for group in map(list, self.exclusive):
            whole = patterns.observed[:, group].all(axis=1, keepdims=True)
            total = found[:, group].sum(axis=1, keepdims=True)
            found[:, group] /= np.where(whole, total, 1.0)
        return found

    def apply(self, patterns: Patterns) -> Patterns:
        """The same examples with calibrated probabilities in place of their scores."""
        found = self.probabilities(patterns)
        return Patterns(found, patterns.observed, patterns.y, patterns.utility, patterns.counts)

    def table(self) -> pl.DataFrame:
        """The cells as a frame, one row each."""
        schema = {
            name: pl.String if name in ("value", "label") else pl.Float64
            for name in Cell.model_fields
        }
        return pl.DataFrame([cell.model_dump() for cell in self.cells], schema=schema)

    def to_json(self) -> str:
        """As JSON; `load` gives back the same calibration, to the last bit of every number."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    @classmethod
    def load(cls, path: Path | str) -> "CellCalibration":
        """Read a calibration; raises `InputError` naming the file where it is not one."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except FileNotFoundError:
            raise InputError(f"{path}: no such calibration; write to_json() of one first") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        except ValidationError as error:
            raise InputError(f"{path}: not a calibration: {explain(error)}") from None
