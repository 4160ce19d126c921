"""Which annotations to check first: where a wrong mark would say most about the balanced data."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import optimize, sparse

from m4.calibration import CellCalibration, with_ones
from m4.checked import CheckedSample
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem
from m4.sampling import uniform_draws


@dataclass(frozen=True, eq=False)
class CheckPlan:
    """How many examples of each cell to check, and with which probability each example is drawn.

    Attributes
    ----------
    cells : one row per cell, the most urgent first: `value`, `label` (null for all examples) and
        the interval of scores [`at_least`, `below`); `examples` left to check, observed and with
        weight; `weight` W, the cell's part of the weight of its constraint; `probability` p of the
        value in it; `uncertainty` W * (standard error of p), what it adds to that of the
        constraint's true share; `priority`; `checks`, the expected number of drawn examples, to
        which one example adds in each of its cells; and `uncertainty_after` them
    probability : (N,) with which each row's examples are drawn unless checked already; over those
        that are left, the budget
    left : (N,) examples of each row that are left to check
    """

    cells: pl.DataFrame
    probability: np.ndarray
    left: np.ndarray

    def draw(self, uids: Iterable[str], *, seed: int, batch: int = 0) -> np.ndarray:
        """Rows of the examples to check, rising; each is drawn by a hash of its uid alone.

        Their number is the budget on average. Put `probability[rows]` into the `CheckedSample`.
        Another batch draws afresh. A batch planned with `checked` leaves those out, so alone it is
        no sample of all examples; give both together, with 1 - (1 - P_1) (1 - P_2) for each.

        Raises `InputError` where there is not one uid per row.
        """
        # Negative epochs are never trained on, so a check says nothing of what training draws.
        draws = uniform_draws(uids, seed=seed, epoch=-1 - batch)
        if draws.shape != self.probability.shape:
            raise InputError(
                f"{len(draws)} uids, but the plan is for {len(self.probability)} rows; plan for "
                "examples, one row each, to draw from them"
            )
        return np.flatnonzero((draws < self.probability) & (self.left > 0))


@dataclass(frozen=True, eq=False)
class _Block:
    """The cells of one value in one interval of scores: (1 + c,) numbers each, and their rows."""

    rows: np.ndarray
    member: sparse.csr_array  # (rows, 1 + c), 1 where a row lies in a cell
    left: sparse.csr_array  # the same, with the examples behind it that are left to check
    weight: np.ndarray
    chance: np.ndarray
    error: np.ndarray

    @property
    def examples(self) -> np.ndarray:
        return self.left.sum(axis=0)

    @property
    def deviation(self) -> np.ndarray:
        """W sqrt(p (1 - p)), what one check leaves open."""
        return self.weight * np.sqrt(self.chance * (1.0 - self.chance))

    @property
    def worth(self) -> np.ndarray:
        """The number of checks that what is known already is worth, p (1 - p) / error^2."""
        return self.chance * (1.0 - self.chance) / self.error**2

    def rates(self, level: float) -> np.ndarray:
        """Which part of each cell to check at a level of urgency, in [0, 1]."""
        size = np.maximum(self.examples, 1e-300)
        return np.clip((level * self.deviation - self.worth) / size, 0.0, 1.0)

    def wanted(self, level: float) -> np.ndarray:
        """The largest of the rates of each row's cells."""
        return (self.member @ sparse.diags_array(self.rates(level))).max(axis=1).toarray()


def cells_to_check(
    problem: Problem,
    patterns: Patterns,
    calibration: CellCalibration,
    budget: float,
    weights: np.ndarray | None = None,
    checked: CheckedSample | None = None,
) -> CheckPlan:
    """Plan which examples to check, so that the true share of every constraint is known best.

    A constraint's true share is sum_c W_c p_c over its cells c (score intervals), with W_c =
    E[q o y_r in c] / E[q o y_r] and p_c known as well as nu_c checks would tell it,
    nu_c = p_c (1 - p_c) / (standard error of p_c)^2: by the prior, and by what was checked
    already. With n_c more checks the variances of all constraints sum to

        sum_c W_c^2 p_c (1 - p_c) / (nu_c + n_c)

    which is smallest, for a given number of checks, at n_c = max(L D_c - nu_c, 0) with
    D_c = W_c sqrt(p_c (1 - p_c)): Neyman's (1934) allocation, with what is known beforehand. Cells
    open in the order of D_c / nu_c, the `priority`. An example lies in many cells and is drawn at
    the largest of their rates n_c / N_c; L is such that the budget is met.

    Parameters
    ----------
    patterns : annotated examples, as they were before calibration
    calibration : what is known so far: `calibrate_from_rates` before the first check,
        `calibrate_cells` after
    budget : examples to check
    weights : (N,) weights q; None for the data as it is. Solve once with what is known so far:
        balancing puts weight on the rare cells, and that is where errors matter
    checked : what was checked already, which is not drawn again

    Raises `InputError` where the budget is not positive or exceeds what can be checked.
    """
    problem.check(patterns)
    if (problem.values, problem.labels) != (calibration.values, calibration.labels):
        raise InputError("the calibration has other values or labels than the problem")
    done = np.zeros(len(patterns.s))
    if checked is not None:
        checked.check(patterns)
        done += np.bincount(checked.rows, minlength=len(done))
    joined, inverse = patterns.distinct()
    if weights is None:
        weights = np.ones(len(patterns.s))
    if weights.shape != patterns.counts.shape:
        raise InputError(f"weights has shape {weights.shape}, not {patterns.counts.shape}")
    mass = np.bincount(inverse, weights * patterns.share)
    left = (patterns.counts - done) * (weights > 0)
    joined_left = np.bincount(inverse, left)
    blocks = _blocks(problem, joined, calibration, mass, joined_left)

    def probability(level: float) -> np.ndarray:
        found = np.zeros(len(joined.s))
        for block in blocks.values():
            found[block.rows] = np.maximum(found[block.rows], block.wanted(level))
        return found

    highest = max(
        float(np.max((block.examples + block.worth)[open_] / block.deviation[open_], initial=0.0))
        for block in blocks.values()
        for open_ in [block.deviation > 0]
    )
    possible = float(joined_left @ probability(highest))
    if not 0 < budget <= possible:
        raise InputError(
            f"a budget of {budget:g} checks is not between 0 and the {possible:g} examples that "
            "are observed, have weight and were not checked yet"
        )
    level = optimize.brentq(lambda level: joined_left @ probability(level) - budget, 0.0, highest)
    drawn = probability(level)
    cells = _cells(problem, calibration, blocks, drawn)
    return CheckPlan(cells, drawn[inverse] * (weights > 0), left)


def _blocks(
    problem: Problem,
    patterns: Patterns,
    calibration: CellCalibration,
    mass: np.ndarray,
    left: np.ndarray,
) -> dict[tuple[int, int], _Block]:
    """The cells by value and interval; `mass` is each row's share of all examples, times q.

    `left` are its examples that are left to check.
    """
    labels = (None, *problem.labels)
    errors = {
        (cell.value, cell.label, cell.at_least): cell.standard_error for cell in calibration.cells
    }
    chances = calibration.probabilities(patterns)
    features = with_ones(patterns.y)
    blocks = {}
    for k, value in enumerate(problem.values):
        known = patterns.observed[:, k] & (mass > 0)
        whole = features.T @ (mass * known)
        bounded = [label is None or not problem.leaves_out(value, label) for label in labels]
        interval = np.digitize(patterns.s[:, k], calibration.edges)
        for h, start in enumerate((0.0, *calibration.edges)):
            rows = np.flatnonzero(known & (interval == h))
            inside, counts = features[rows], patterns.counts[rows]
            size = inside.T @ counts
            true = inside.T @ (counts * chances[rows, k])
            chance = np.divide(true, size, out=np.full(len(size), 0.5), where=size > 0)
            chance = chance.clip(1e-9, 1.0 - 1e-9)
            prior = calibration.spread * chance * (1.0 - chance)
            error = [errors.get((value, label, start), prior[r]) for r, label in enumerate(labels)]
            weight = inside.T @ mass[rows]
            weight = np.divide(weight, whole, out=np.zeros(len(size)), where=whole > 0)
            blocks[k, h] = _Block(
                rows=rows,
                member=sparse.csr_array(inside > 0, dtype=np.float64),
                left=sparse.csr_array(inside * left[rows, None]),
                weight=weight * bounded,
                chance=chance,
                error=np.array(error),
            )
    return blocks


def _cells(
    problem: Problem,
    calibration: CellCalibration,
    blocks: dict[tuple[int, int], _Block],
    drawn: np.ndarray,
) -> pl.DataFrame:
    ends = (0.0, *calibration.edges, 1.0)
    labels = [None, *problem.labels]
    parts = []
    for (k, h), block in blocks.items():
        checks = block.left.T @ drawn[block.rows]
        frame = {
            "value": [problem.values[k]] * len(labels),
            "label": labels,
            "at_least": np.full(len(labels), ends[h]),
            "below": np.full(len(labels), ends[h + 1]),
            "examples": block.examples,
            "weight": block.weight,
            "probability": block.chance,
            "uncertainty": block.weight * block.error,
            "priority": block.deviation / block.worth,
            "checks": checks,
            "uncertainty_after": block.deviation / np.sqrt(block.worth + checks),
        }
        parts.append(pl.DataFrame(frame, schema_overrides={"label": pl.String}))
    table = pl.concat(parts).filter(pl.col("examples") > 0)
    return table.sort("priority", descending=True, maintain_order=True)
