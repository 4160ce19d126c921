"""Calibrate noisy annotations with a small checked sample, so that balancing balances the truth.

Weights are solved for what the annotations say. A moment of the truth differs from the one that
was balanced by E[q o (s - p) y_r], with p what the solver took s to be. That is 0 for all weights
that depend on the annotations only if p = P(s=1 | annotations). A hard mark is not that.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import optimize, sparse
from scipy.special import expit, log_expit, logit

from m4.calibration import Cell, CellCalibration, ValueCalibration, with_ones
from m4.checked import CheckedSample
from m4.errors import InputError
from m4.noise_bounds import ErrorRates
from m4.patterns import Patterns

RATE_SPREAD = 10.0  # prior standard deviation of the log-odds of a mark, over all examples
LABEL_SPREAD = 2.0  # and of what a label adds to them
TWO_SIDED_95 = 1.959964


def calibrate_cells(
    patterns: Patterns,
    checked: CheckedSample,
    *,
    values: Sequence[str] = (),
    labels: Sequence[str] = (),
    edges: Sequence[float] = (0.5,),
    exclusive: Sequence[Sequence[str]] = (),
    spread: float = 1.0,
) -> CellCalibration:
    """Learn P(s_k=1 | score, labels) of every example from the checked ones.

    An example with several labels lies in several cells (value, label, score interval), so one
    probability has to be right for all of them at once. For each value and interval h

        logit P = logit pi(y) + log(P(h | s=1) / P(h | s=0)) + b_h0 + sum_r b_hr y_r

    1. pi(y), the prevalence, comes from all N annotations: a logistic regression of the scores on
       the labels gives m(y), and pi = (m - E[score | s=0]) / (E[score | s=1] - E[score | s=0])
       (Rogan and Gladen 1978). Here the error rates are those of the checked sample, weighted by
       one over its drawing probabilities, plus Jeffreys' half a count.
    2. The first two terms are Bayes' rule for errors that do not depend on the label. That is the
       parent to which a cell without checks falls back; b holds what checks say beyond it.
    3. b maximises the likelihood of the checked truths times a normal prior N(0, spread^2), so a
       cell with few checks stays near its parent. At the maximum, for each cell,
       sum over its checked examples of y_r (s - P) = b_hr / spread^2: every one of the overlapping
       cells is calibrated, up to a shrinkage that a growing sample forgets.

    Why not raw shares per cell: they are of no use for a cell with few checks, and contradict each
    other where cells overlap. Why not scikit-learn: its logistic regression has no fixed offset,
    and without one a value of which no error was found among 50 checks is called certain.

    Step 3 does not weight by drawing probabilities: they may depend on scores and labels only
    (`cells_to_check`), which the model conditions on, and weights would throw away the many
    checks of a rare cell. What remains: within a cell, errors may depend on something else that
    the weights depend on, another label or value. `estimate_true_bias` sees that.

    Parameters
    ----------
    patterns : all N annotated examples; `s` holds the scores, hard marks or not
    checked : the truth of some of them
    values, labels : names; s0, s1, ... and y0, y1, ... where left out
    edges : inner edges of the score intervals; scores within one are treated alike
    exclusive : groups of values of which exactly one is true; probabilities scaled to sum to 1
    spread : prior standard deviation of a cell's log-odds around its parent

    Raises `InputError` where the truth of a value was never seen, or the scores do not tell it.
    """
    checked.check(patterns)
    inner = np.asarray(edges, dtype=np.float64)
    if not ((np.diff(inner) > 0).all() and (inner > 0).all() and (inner < 1).all()):
        raise InputError(f"edges {list(edges)} do not rise within 0 and 1; give (0.5,) for marks")
    evidence = {
        name: _measured(name, patterns, checked, k, inner)
        for k, name in enumerate(_names("values", values, "s", patterns.s.shape[1]))
    }
    return _calibrate(patterns, checked, evidence, labels, inner, exclusive, spread)


def calibrate_from_rates(
    patterns: Patterns,
    rates: Mapping[str, ErrorRates],
    *,
    values: Sequence[str] = (),
    labels: Sequence[str] = (),
    exclusive: Sequence[Sequence[str]] = (),
    spread: float = 1.0,
) -> CellCalibration:
    """P(s_k=1 | mark, labels) from known error rates, without a checked sample.

    The first two steps of `calibrate_cells`, with rates that hold exactly and for every label;
    a mark holds where its score is at least 1/2. It says what to expect before anything is
    checked, and so what to check first (`cells_to_check`).

    Parameters
    ----------
    rates : for each value its `false_positive` and `false_negative` rate, below 1 together

    Raises `InputError` where a value has no such rates, or its marks are no better than chance.
    """
    edges = np.array([0.5])
    evidence = {}
    for k, name in enumerate(_names("values", values, "s", patterns.s.shape[1])):
        if name not in rates:
            raise InputError(f"rates: none for {name!r}; give false_positive and false_negative")
        false, missed = rates[name].known()
        if_true, if_false = np.clip([[missed, 1 - missed], [1 - false, false]], 1e-9, 1.0)
        evidence[name] = _Evidence.of(if_true, if_false, _mean_scores(patterns, k, edges))
    nothing = CheckedSample.from_arrays(
        np.zeros(0, dtype=int), np.zeros((0, patterns.s.shape[1])), probability=1.0
    )
    return _calibrate(patterns, nothing, evidence, labels, edges, exclusive, spread)


class _Evidence(NamedTuple):
    """What a score says of one value: E[score | s=1], E[score | s=0], log ratios per interval."""

    mean_if_true: float
    mean_if_false: float
    log_ratio: np.ndarray

    @classmethod
    def of(cls, if_true: np.ndarray, if_false: np.ndarray, scores: np.ndarray) -> "_Evidence":
        """From P(interval | s=1), P(interval | s=0) and the intervals' mean scores."""
        return cls(float(if_true @ scores), float(if_false @ scores), np.log(if_true / if_false))


def _mean_scores(patterns: Patterns, k: int, edges: np.ndarray) -> np.ndarray:
    """Mean score of each interval; its middle where it has no examples."""
    bins = np.digitize(patterns.s[:, k], edges)
    counts = patterns.counts * patterns.observed[:, k]
    size = np.bincount(bins, counts, len(edges) + 1)
    total = np.bincount(bins, counts * patterns.s[:, k], len(edges) + 1)
    middle = (np.append(0.0, edges) + np.append(edges, 1.0)) / 2
    return np.divide(total, size, out=middle, where=size > 0)


def _measured(
    name: str, patterns: Patterns, checked: CheckedSample, k: int, edges: np.ndarray
) -> _Evidence:
    """Error rates of value k in the checked sample, weighted as it was drawn."""
    known = checked.observed[:, k] & patterns.observed[checked.rows, k]
    truth, weight = checked.s[known, k], 1.0 / checked.probability[known]
    bins = np.digitize(patterns.s[checked.rows[known], k], edges)
    likelihood = []
    for share, what in ((truth, "has"), (1.0 - truth, "lacks")):
        mass = weight * share
        if mass.sum() == 0:
            raise InputError(
                f"no checked example truly {what} {name!r}, so its error rates are not known; "
                "check more examples, or calibrate from known rates"
            )
        independent = mass.sum() / (mass @ mass)  # Kish: so many checks is a unit of mass worth
        found = np.bincount(bins, mass * independent, len(edges) + 1) + 0.5
        likelihood.append(found / found.sum())
    said = _Evidence.of(likelihood[0], likelihood[1], _mean_scores(patterns, k, edges))
    if said.mean_if_true <= said.mean_if_false:
        raise InputError(
            f"the scores of {name!r} are no higher where it is true ({said.mean_if_true:.3f}) than "
            f"where it is not ({said.mean_if_false:.3f}); are they annotations of this value?"
        )
    return said


def _names(what: str, given: Sequence[str], letter: str, wanted: int) -> tuple[str, ...]:
    names = tuple(given) or tuple(f"{letter}{number}" for number in range(wanted))
    if len(names) != wanted or len(set(names)) < wanted:
        raise InputError(
            f"{what} has the names {list(names)}, but {wanted} columns; give each its own"
        )
    return names


def _calibrate(
    patterns: Patterns,
    checked: CheckedSample,
    evidence: Mapping[str, _Evidence],
    labels: Sequence[str],
    edges: np.ndarray,
    exclusive: Sequence[Sequence[str]],
    spread: float,
) -> CellCalibration:
    values = tuple(evidence)
    names = _names("labels", labels, "y", patterns.y.shape[1])
    for name in (name for group in exclusive for name in group):
        if name not in values:
            raise InputError(f"exclusive: no value {name!r}; known: {', '.join(values)}")
    if not 0 < spread < np.inf:
        raise InputError(f"spread {spread} is not a positive number; 1 is the usual one")
    features = with_ones(patterns.y)
    per_value: list[ValueCalibration] = []
    cells: list[Cell] = []
    for k, said in enumerate(evidence.values()):
        parent = _expected(values[k], patterns, features, k, said)
        interval = np.digitize(patterns.s[:, k], edges)
        log_odds = parent.log_odds(features, interval)
        counts = patterns.counts * patterns.observed[:, k]
        known = checked.observed[:, k] * patterns.observed[checked.rows, k] * 1.0
        trials = np.bincount(checked.rows, known, len(counts))
        true = np.bincount(checked.rows, known * checked.s[:, k], len(counts))
        corrections = []
        for h in range(len(edges) + 1):
            at = np.flatnonzero(interval == h)
            added, table = _corrected(
                features[at], log_odds[at], counts[at], trials[at], true[at], spread
            )
            corrections.append(tuple(added.tolist()))
            ends = {"at_least": ([0.0, *edges])[h], "below": ([*edges, 1.0])[h]}
            cells += [
                Cell(value=values[k], label=label, **ends, **row)
                for label, row in zip((None, *names), table.iter_rows(named=True), strict=True)
                if row["examples"] > 0
            ]
        per_value.append(parent.model_copy(update={"corrections": tuple(corrections)}))
    return CellCalibration(
        values=values,
        labels=names,
        edges=tuple(edges.tolist()),
        exclusive=tuple(tuple(map(values.index, group)) for group in exclusive),
        spread=spread,
        per_value=tuple(per_value),
        cells=tuple(cells),
    )


def _expected(
    name: str, patterns: Patterns, features: sparse.csr_array, k: int, said: _Evidence
) -> ValueCalibration:
    """Bayes' rule with the same errors for every label: the calibration before any correction."""
    columns = features.shape[1]
    precision = np.append(RATE_SPREAD**-2, np.full(columns - 1, LABEL_SPREAD**-2))
    counts = patterns.counts * patterns.observed[:, k]
    prevalence = _fit(features, patterns.s[:, k], counts, np.zeros(len(counts)), precision)
    return ValueCalibration(
        value=name,
        mean_if_true=said.mean_if_true,
        mean_if_false=said.mean_if_false,
        evidence=tuple(said.log_ratio.tolist()),
        prevalence=tuple(prevalence.tolist()),
        corrections=((0.0,) * columns,) * len(said.log_ratio),
    )


def _corrected(
    features: sparse.csr_array,
    log_odds: np.ndarray,
    counts: np.ndarray,
    trials: np.ndarray,
    true: np.ndarray,
    spread: float,
) -> tuple[np.ndarray, pl.DataFrame]:
    """Corrections of one score interval, (1 + c,), and what is then known of its 1 + c cells.

    The standard error is that of the posterior's normal approximation at its maximum (Laplace).
    """
    precision = np.full(features.shape[1], spread**-2)
    seen = np.flatnonzero(trials)
    share = true[seen] / trials[seen]
    added = _fit(features[seen], share, trials[seen], log_odds[seen], precision)
    chance = expit(log_odds + features @ added)
    spreading = chance * (1.0 - chance)
    covariance = np.linalg.inv(_information(features, trials * spreading) + np.diag(precision))
    size, checks = features.T @ counts, features.T @ trials
    mean = _ratio(features.T @ (counts * chance), size)
    slope = _information(features, counts * spreading)
    variance = np.einsum("ij,ij->i", slope @ covariance, slope)
    error = _ratio(np.sqrt(np.maximum(variance, 0.0)), size)
    inside = np.clip(mean, 1e-12, 1 - 1e-12)
    wide = TWO_SIDED_95 * error / (inside * (1.0 - inside))
    table = pl.DataFrame(
        {
            "examples": size,
            "checked": checks,
            "true_share": _ratio(features.T @ true, checks),
            "probability": mean,
            "standard_error": error,
            "low": expit(logit(inside) - wide),
            "high": expit(logit(inside) + wide),
        }
    )
    return added, table.with_columns(pl.col("true_share").fill_nan(None))


def _fit(
    features: sparse.csr_array,
    share: np.ndarray,
    trials: np.ndarray,
    offset: np.ndarray,
    precision: np.ndarray,
) -> np.ndarray:
    """Maximum of the posterior of a logistic regression with an offset and a normal prior."""

    scale = max(float(trials.sum()), 1.0)  # so that one tolerance fits all sizes

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = offset + features @ beta
        likelihood = share * log_expit(log_odds) + (1.0 - share) * log_expit(-log_odds)
        slope = features.T @ (trials * (expit(log_odds) - share)) + precision * beta
        return float(0.5 * precision @ beta**2 - trials @ likelihood) / scale, slope / scale

    def curvature(beta: np.ndarray) -> np.ndarray:
        chance = expit(offset + features @ beta)
        information = _information(features, trials * chance * (1.0 - chance))
        return (information + np.diag(precision)) / scale

    start = np.zeros(features.shape[1])
    found = optimize.minimize(
        loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9}
    )
    if float(np.abs(found.jac).max()) > 1e-7:
        raise RuntimeError(f"the calibration did not converge: {found.message}")
    return found.x


def _information(features: sparse.csr_array, mass: np.ndarray) -> np.ndarray:
    return (features.T @ (features * mass[:, None])).toarray()


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
