"""How biased the truth can be behind annotations with errors of a given rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import model_validator
from scipy import sparse

from m4.catalogue import Model, Share
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Constraint, Problem

NOTHING = 1e-12  # a mass below this, of all examples, is none
SHARE_COLUMNS = ("target", "share", "low", "high", "bound")
PAIR_COLUMNS = ("association", "association_low", "association_high", "estimate")


class ErrorRates(Model):
    """How often the marks of a value are wrong; each rate holds at most, and at least one form is.

    Attributes
    ----------
    overall : share of wrong marks among the examples
    false_positive : share marked among those that truly lack the value, P(mark | s=0)
    false_negative : share not marked among those that truly have it, P(no mark | s=1)
    """

    overall: Share | None = None
    false_positive: Share | None = None
    false_negative: Share | None = None

    @model_validator(mode="after")
    def _bounding(self) -> "ErrorRates":
        if (self.false_positive is None) != (self.false_negative is None):
            raise ValueError("give both false_positive and false_negative, or neither")
        if self.overall is None and self.false_positive is None:
            raise ValueError("give `overall`, or `false_positive` and `false_negative`")
        return self

    @property
    def informative(self) -> bool:
        """Whether both rates are given, and a mark is likelier where the value is true."""
        false, missed = self.false_positive, self.false_negative
        return false is not None and missed is not None and false + missed < 1

    def known(self) -> tuple[float, float]:
        """(false_positive, false_negative); raises `InputError` unless informative."""
        if not self.informative or self.false_positive is None or self.false_negative is None:
            raise InputError(
                f"{self!r} tells nothing of single marks; give false_positive and "
                "false_negative, with a sum below 1"
            )
        return self.false_positive, self.false_negative

    def budgets(self, marked: float, unmarked: float) -> np.ndarray:
        """What the rates allow, as rows (a, b, g): a * missed + b * false <= g; (rows, 3).

        `marked` and `unmarked` are masses of examples, `missed` that of wrong ones among the
        unmarked, `false` among the marked. With true = marked - false + missed, the condition
        missed <= false_negative * true is linear in the two, and so is its counterpart.
        """
        rows = []
        if self.overall is not None:
            rows.append((1.0, 1.0, self.overall * (marked + unmarked)))
        if self.false_positive is not None and self.false_negative is not None:
            missed, false = self.false_negative, self.false_positive
            rows.append((1.0 - missed, missed, missed * marked))
            rows.append((false, 1.0 - false, false * unmarked))
        return np.array(rows)


@dataclass(frozen=True, eq=False)
class BiasBound:
    """Between what the true bias lies, by value and by value and label.

    Attributes
    ----------
    representation : `value`, `target`, `share` as annotated, `low` and `high` of the true share,
        `bound` of |true share - target|
    association : `value`, `label`, `target`, `share`, `low`, `high`, `bound` as above, among the
        examples of the label; `association` E[y | s=1] - E[y | s=0] as annotated, with
        `association_low`, `association_high` of the true one; `estimate` of the true share where
        informative rates of this very cell are given. What does not exist is null.
    """

    representation: pl.DataFrame
    association: pl.DataFrame

    @property
    def representation_bias(self) -> float:
        """The largest RB = max_k |pi_k - E[o s]/E[o]| that the truth can have."""
        return _largest(self.representation["bound"])

    @property
    def association_bias(self) -> float:
        """The largest AB = max_kr |E[y | s=1] - E[y | s=0]| that the truth can have."""
        ends = ("association_low", "association_high")
        return max(_largest(self.association[end].abs()) for end in ends)


def _largest(column: pl.Series) -> float:
    largest = column.max()
    return float(largest) if isinstance(largest, float) else 0.0


@dataclass(frozen=True, eq=False)
class _Marks:
    """Masses of marked and unmarked examples, one number per distinct weight; (D,) each."""

    marked: np.ndarray
    unmarked: np.ndarray

    def masses(self) -> tuple[float, float]:
        return float(self.marked.sum()), float(self.unmarked.sum())

    def opposite(self) -> "_Marks":
        return _Marks(self.unmarked, self.marked)

    def without(self, part: "_Marks") -> "_Marks":
        rest = (self.marked - part.marked, self.unmarked - part.unmarked)
        return _Marks(*(np.maximum(mass, 0.0) for mass in rest))


@dataclass(frozen=True, eq=False)
class _Knapsack:
    """The most weight that wrong marks can carry: a fractional knapsack, heaviest first."""

    count: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, levels: np.ndarray, mass: np.ndarray) -> "_Knapsack":
        """For masses at weights `levels`, which fall."""
        return cls(np.append(0.0, np.cumsum(mass)), np.append(0.0, np.cumsum(mass * levels)))

    def take(self, budget: np.ndarray | float) -> np.ndarray:
        return np.interp(budget, self.count, self.weight)


def predictive_values(share: float, rates: ErrorRates) -> tuple[float, float]:
    """P(s=1 | mark) and P(s=1 | no mark) where a share is marked at known error rates.

    pi = (share - fp) / (1 - fp - fn) (Rogan and Gladen 1978), then Bayes' rule.
    """
    false, missed = rates.known()
    true = min(max((share - false) / (1.0 - false - missed), 0.0), 1.0)
    marked = true * (1.0 - missed) + (1.0 - true) * false
    return (
        true * (1.0 - missed) / marked if marked > 0 else 0.0,
        true * missed / (1.0 - marked) if marked < 1 else 1.0,
    )


def bound_true_bias(
    problem: Problem,
    patterns: Patterns,
    rates: ErrorRates | Mapping[str, ErrorRates],
    weights: np.ndarray | None = None,
) -> BiasBound:
    """Bound the bias of the truth under weights, given how often annotations of s are wrong.

    Shares. Raising s from 0 to 1 on an example of weight q adds q to the numerator of a share and
    changes nothing else, and lowering it elsewhere helps no rate: `budgets` has no negative
    coefficient. So the largest true share comes from missed marks alone, as many as allowed, on
    the heaviest unmarked examples of the cell: a fractional knapsack, whose greedy solution is
    optimal. The smallest comes from false marks alone. Nothing but the weights says where errors
    are, hence they may all be in one label's cell, unless rates of that cell are given too.

    Association. f = A/S - (Y - A)/(M - S), with A = E[q y s], S = E[q s], Y = E[q y], M = E[q],
    over observed examples. With a = A/S and b = (Y - A)/(M - S), df/ds = q (1 - a)/S +
    q (1 - b)/(M - S) >= 0 where y = 1 and <= 0 where y = 0. So f is largest with x missed marks,
    all in the label, and w(x) false ones, all outside it and as many as the rest of the budget
    allows, both on the heaviest. Between two kinks of the knapsacks and of w, A and S are linear
    in x and f' = P/S^2 + R/(M - S)^2 with constant P and R; its root and all kinks are tried.

    The bounds are sharp: errors within the rates reach them, up to rounding to whole examples (or
    come as near as one likes, where the last of them would leave no example with, or without, the
    value). Scores or labels strictly between 0 and 1 are read as shares of the row's examples; if
    the row is one example the bounds are valid, but may be wide, and the error rate of a soft score
    is its mean absolute distance from the truth. Threshold probabilities first, or use
    `estimate_true_bias`.
    Labels, masks and targets are taken as they are.

    Parameters
    ----------
    rates : for all values, or by name: each value ("gender.woman"), and single cells besides
        ("gender.woman & nurse"), whose rates then hold as well. Rates are shares of the examples
        as they are, without weights
    weights : (N,) weights q, not negative; None for the data as it is

    The column `estimate` has P(s=1 | mark) and P(s=1 | no mark) of the cell before weighting, by
    `predictive_values`, under the weights. It assumes that, given the mark, an error says nothing
    of the weight. Putting the *weighted* share into Rogan and Gladen's formula would be wrong:
    weights that depend on marks change P(mark | s). For shares overall, and for associations, take
    the `bias_table` of calibrated examples (`calibrate_from_rates`, `calibrate_cells`).

    Raises `InputError` where rates or weights do not fit the problem.
    """
    problem.check(patterns)
    named = _named(problem, rates)
    share = patterns.share
    weights = np.ones(len(share)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != share.shape:
        raise InputError(f"weights has shape {weights.shape}, but there are {len(share)} rows")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("a weight is negative or not finite")
    rising, position = np.unique(weights, return_inverse=True)
    data = _Levels(rising[::-1], len(rising) - 1 - position)
    labels = sparse.csc_array(patterns.y)
    representation, association = [], []
    for k, value in enumerate(problem.values):
        known = share * patterns.observed[:, k]
        everyone = data.marks(np.arange(len(share)), known, patterns.s[:, k])
        budgets = named[value].budgets(*everyone.masses())
        overall = _share_row(data.levels, everyone, budgets, problem.targets[k])
        representation.append({"value": value} | overall)
        for r, label in enumerate(problem.labels):
            ends = slice(*labels.indptr[r : r + 2])
            rows = labels.indices[ends]
            cell = data.marks(rows, labels.data[ends] * known[rows], patterns.s[rows, k])
            own = named.get(str(Constraint(value=value, label=label)))
            row = _cell_row(data.levels, everyone, cell, budgets, own, problem.label_targets[k][r])
            association.append({"value": value, "label": label} | row)
    return BiasBound(_frame(representation, ()), _frame(association, ("label", *PAIR_COLUMNS)))


def _named(
    problem: Problem, rates: ErrorRates | Mapping[str, ErrorRates]
) -> Mapping[str, ErrorRates]:
    if isinstance(rates, ErrorRates):
        return dict.fromkeys(problem.values, rates)
    known = set(problem.values) | {
        str(Constraint(value=value, label=label))
        for value in problem.values
        for label in problem.labels
    }
    for name in rates:
        if name not in known:
            raise InputError(f"rates: the problem has no value or cell {name!r}")
    for value in problem.values:
        if value not in rates:
            raise InputError(f"rates: none for {value!r}; ErrorRates(overall=1) says: not known")
    return rates


@dataclass(frozen=True, eq=False)
class _Levels:
    """The distinct weights, falling, and each row's position among them."""

    levels: np.ndarray
    position: np.ndarray

    def marks(self, rows: np.ndarray, mass: np.ndarray, s: np.ndarray) -> _Marks:
        at, size = self.position[rows], len(self.levels)
        return _Marks(
            np.bincount(at, mass * s, size),
            np.bincount(at, mass * (1.0 - s), size),
        )


def _frame(rows: list[dict[str, Any]], further: tuple[str, ...]) -> pl.DataFrame:
    names = ["value", *further[:1], *SHARE_COLUMNS, *further[1:]]
    text = {"value", "label"}
    return pl.DataFrame(rows, schema={n: pl.String if n in text else pl.Float64 for n in names})


def _largest_share(levels: np.ndarray, marks: _Marks, budgets: np.ndarray) -> float | None:
    """Largest true share of the value under weights; a * missed <= g for each budget."""
    part, mass = levels @ marks.marked, levels @ (marks.marked + marks.unmarked)
    if mass <= NOTHING:
        return None
    limits = [g / a for a, _, g in budgets if a > 0]
    gained = _Knapsack.of(levels, marks.unmarked).take(min(limits, default=np.inf))
    return float(min((part + gained) / mass, 1.0))


def _share_row(
    levels: np.ndarray, marks: _Marks, budgets: np.ndarray, target: float
) -> dict[str, float | None]:
    high = _largest_share(levels, marks, budgets)
    least = _largest_share(levels, marks.opposite(), budgets[:, [1, 0, 2]])
    if high is None or least is None:
        return {"target": target} | dict.fromkeys(SHARE_COLUMNS[1:])
    low = 1.0 - least
    share = float(levels @ marks.marked / (levels @ (marks.marked + marks.unmarked)))
    bound = max(high - target, target - low)
    return {"target": target, "share": share, "low": low, "high": high, "bound": bound}


def _cell_row(
    levels: np.ndarray,
    everyone: _Marks,
    cell: _Marks,
    budgets: np.ndarray,
    own: ErrorRates | None,
    target: float,
) -> dict[str, float | None]:
    in_cell = np.zeros((0, 3)) if own is None else own.budgets(*cell.masses())
    row = _share_row(levels, cell, np.concatenate([budgets, in_cell]), target)
    rest = everyone.without(cell)
    # Rates of the cell limit what is wrong inside it, which is only one of the two kinds.
    inside = in_cell * [1.0, 0.0, 1.0]
    high = _largest_association(levels, cell, rest, np.concatenate([budgets, inside]))
    inside = in_cell[:, [1, 0, 2]] * [1.0, 0.0, 1.0]
    least = _largest_association(
        levels,
        cell.opposite(),
        rest.opposite(),
        np.concatenate([budgets[:, [1, 0, 2]], inside]),
    )
    found = _association(levels, cell, rest)
    estimate = None
    if own is not None and own.informative and row["share"] is not None:
        marked, unmarked = cell.masses()
        if_marked, if_not = predictive_values(marked / (marked + unmarked), own)
        estimate = row["share"] * if_marked + (1.0 - row["share"]) * if_not
    low = None if least is None else -least
    return row | dict(zip(PAIR_COLUMNS, (found, low, high, estimate), strict=True))


def _association(levels: np.ndarray, cell: _Marks, rest: _Marks) -> float | None:
    a, b, c, d = (
        float(levels @ mass) for mass in (cell.marked, cell.unmarked, rest.marked, rest.unmarked)
    )
    return None if min(a + c, b + d) <= NOTHING else a / (a + c) - b / (b + d)


def _largest_association(
    levels: np.ndarray, cell: _Marks, rest: _Marks, budgets: np.ndarray
) -> float | None:
    """Largest true E[y | s=1] - E[y | s=0]; x missed in the cell, w false in the rest."""
    a, b, c, d = (
        levels @ mass for mass in (cell.marked, cell.unmarked, rest.marked, rest.unmarked)
    )
    if a + b + c + d <= NOTHING:
        return None
    gain, loss = _Knapsack.of(levels, cell.unmarked), _Knapsack.of(levels, rest.marked)
    x, w = _frontier(budgets, gain.count, loss.count)
    u, v = gain.take(x), loss.take(w)
    # Between two kinks: its slope vanishes where S = M / (1 + k), if anywhere.
    s, m = a + c + u - v, a + b + c + d
    du, dv = np.diff(u), np.diff(v)
    ds = du - dv
    p = du * s[:-1] - (a + u[:-1]) * ds
    q = du * (m - s[:-1]) - (b - u[:-1]) * ds
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = m / (1.0 + np.sqrt(-q / p))
        at = np.nan_to_num((wanted - s[:-1]) / ds).clip(0.0, 1.0)
    inner_u, inner_v = u[:-1] + at * du, v[:-1] + at * dv
    inner = _share_of(a + inner_u, c - inner_v) - _share_of(b - inner_u, d + inner_v)
    # S grows with x: from 0, A/S keeps its limit up to the next kink; to M, the other its last.
    among_value = _filled(_share_of(a + u, c - v)[::-1], 0.0)[::-1]
    among_other = _filled(_share_of(b - u, d + v), 1.0)
    return float(max((among_value - among_other).max(), inner[~np.isnan(inner)].max(initial=-1.0)))


def _share_of(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """part / (part + rest); NaN where there is neither."""
    part, rest = np.maximum(part, 0.0), np.maximum(rest, 0.0)
    whole = part + rest
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > NOTHING)


def _filled(shares: np.ndarray, otherwise: float) -> np.ndarray:
    """With NaN replaced by the number before it, or by `otherwise` where there is none."""
    last = np.maximum.accumulate(np.where(np.isnan(shares), -1, np.arange(len(shares))))
    return np.where(last < 0, otherwise, shares[last])


def _frontier(
    budgets: np.ndarray, missed: np.ndarray, false: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All kinks of the best of (x missed, w false), with those of both knapsacks; sorted by x."""
    a, b, g = budgets.T
    limits, slopes = budgets[b > 0], budgets[a > 0]
    largest = min([missed[-1], *(slopes[:, 2] / slopes[:, 0])])

    def most(x: np.ndarray) -> np.ndarray:
        allowed = (limits[:, [2]] - limits[:, [0]] * x) / limits[:, [1]]
        return np.clip(allowed.min(axis=0, initial=np.inf), 0.0, false[-1])

    crossings = [
        (g[i] * b[j] - g[j] * b[i]) / (a[i] * b[j] - a[j] * b[i])
        for i in range(len(g))
        for j in range(i)
        if a[i] * b[j] != a[j] * b[i]
    ]
    kinks = [(row[2] - row[1] * false) / row[0] for row in slopes]
    x = np.concatenate([[0.0, largest], missed, crossings, *kinks])
    x = np.unique(x[(x >= 0) & (x <= largest)])
    return x, most(x)
