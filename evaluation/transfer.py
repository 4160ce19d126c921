"""Bias transfer: how much of a model's associations its training data explain.

After Girrbach et al., "Person-Centric Annotations of LAION-400M: Auditing Bias and Its Transfer to
Models" (2025, arXiv 2510.03721), who find that a linear fit on direct co-occurrence in the data
predicts 60-70 % of the gender bias of CLIP and Stable Diffusion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from evaluation.draws import ROUNDING, Better, Draws, Tail
from evaluation.groups import ratio
from evaluation.resampling import Resampling
from m4.bias import BiasTable
from m4.catalogue import Model
from m4.errors import InputError

FEWEST = 3  # a line through two concepts fits both


class BiasTransfer(Model):
    """A straight line through concepts: association in the data (x), in the model (y).

    Attributes
    ----------
    concepts : how many have both
    r : Pearson's correlation
    r_squared : share of the variance of the model's associations that the line explains
    slope, intercept : of the line, by least squares
    sign_agreement : share of concepts associated with the same side; one that is associated with
        neither counts half
    left_out : concepts that only the data or only the model has
    """

    concepts: int
    r: float
    r_squared: float
    slope: float
    intercept: float
    sign_agreement: float
    left_out: tuple[str, ...]


def bias_transfer(data: Any, model: Any) -> BiasTransfer:
    """Set a model's associations against those of its data, by `scipy.stats.linregress`.

    Parameters
    ----------
    data, model : association of each of c concepts with one group, signed; both (c,) in the same
        order, or both by the concept's name

    Raises `InputError` where fewer than three concepts have both, one is not finite, or the data
    or the model associate all concepts alike, which leaves r undefined.
    """
    from scipy.stats import linregress

    concepts = _Concepts.of(data, model)
    line = linregress(concepts.data, concepts.model)
    return BiasTransfer(
        concepts=len(concepts.data),
        r=line.rvalue,
        r_squared=line.rvalue**2,
        slope=line.slope,
        intercept=line.intercept,
        sign_agreement=float(_same_side(concepts.data, concepts.model).mean()),
        left_out=concepts.left_out,
    )


def bias_transfer_draws(
    data: Any, model: Any, resampling: Resampling, model_draws: Any = None
) -> tuple[Draws, ...]:
    """Pearson's r, R squared, slope and agreement of sign with what is needed to judge them.

    Interval: concepts are resampled. It covers which concepts were asked about; with `model_draws`
    also which images the model was measured on. Null: the model's associations trade concepts.

    Parameters
    ----------
    data, model : as for `bias_transfer`
    model_draws : (resamples, c), the model's associations in resamples of the images (a Draws'
        `bootstrap`), columns in the order of `model`; None: taken as exact

    Raises `InputError` as `bias_transfer`, and where `model_draws` has another shape.
    """
    found = bias_transfer(data, model)
    concepts = _Concepts.of(data, model)
    c = found.concepts
    x, y = concepts.data, concepts.model
    drawn = np.broadcast_to(y, (resampling.resamples, c))
    if model_draws is not None:
        expected = (resampling.resamples, len(model))
        if np.shape(model_draws) != expected:
            raise InputError(
                f"model_draws has shape {np.shape(model_draws)}, but {expected[0]} resamples of "
                f"{expected[1]} concepts need {expected}"
            )
        drawn = np.asarray(model_draws, dtype=np.float64)[:, concepts.columns]
    times = resampling.counts(c, of="concepts").astype(np.float64)
    once = np.ones((resampling.permutations, c))
    bootstrap = _lines(x, drawn, times)
    null = _lines(x, y[resampling.permuted(c)], once)
    figures: tuple[tuple[str, float, Better, Tail, tuple[float, float]], ...] = (
        ("r", found.r, "nearer 0", "both", (-1.0, 1.0)),
        ("r_squared", found.r_squared, "lower", "upper", (0.0, 1.0)),
        ("slope", found.slope, "nearer 0", "both", (-np.inf, np.inf)),
        ("sign_agreement", found.sign_agreement, "lower", "both", (0.0, 1.0)),
    )
    return tuple(
        Draws(
            measure=f"bias_transfer, {name}",
            names=("all concepts",),
            observed=np.array([value]),
            bootstrap=bootstrap[:, [column]],
            null=null[:, [column]],
            images=c,
            better=better,
            tail=tail,
            bounds=bounds,
        )
        for column, (name, value, better, tail, bounds) in enumerate(figures)
    )


def data_associations(table: BiasTable, value: str) -> dict[str, float]:
    """Association of each label with a sensitive value in the data.

        P(value | label) - P(value), among examples that show the label, and among all

    Both shares are of examples of which the value is known. A label without such examples has no
    association and is not among the labels returned.

    Parameters
    ----------
    table : of `m4.bias.bias_table`, with weights for the data as balanced
    value : "gender.woman"

    Raises `InputError` where the table has no such value, or it is known of no example.
    """
    shares = dict(table.representation.select("value", "share").iter_rows())
    if shares.get(value) is None:
        there = ", ".join(name for name, share in shares.items() if share is not None)
        raise InputError(f"{value!r} has no share in the data; the values that have are {there}")
    of_value = table.association.filter(pl.col("value") == value).drop_nulls("share")
    return {
        label: share - shares[value]
        for label, share in of_value.select("label", "share").iter_rows()
    }


@dataclass(frozen=True, eq=False)
class _Concepts:
    """Associations of c concepts: `data` (c,), `model` (c,), and which of the model's are these."""

    data: np.ndarray
    model: np.ndarray
    columns: np.ndarray
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, data: Any, model: Any) -> "_Concepts":
        if isinstance(data, Mapping) != isinstance(model, Mapping):
            raise InputError("one of data and model names its concepts; give names to both")
        if not isinstance(data, Mapping):
            x, y = (np.asarray(given, dtype=np.float64) for given in (data, model))
            if x.shape != y.shape or x.ndim != 1:
                raise InputError(
                    f"data of shape {x.shape} and model of shape {y.shape}; give one association "
                    "of each for every concept"
                )
            return cls._checked(x, y, [f"concept {row}" for row in range(len(x))], ())
        names = [name for name in model if name in data]
        alone = [name for name in (*data, *model) if (name in data) != (name in model)]
        x, y = (np.array([given[name] for name in names], dtype=float) for given in (data, model))
        order = {name: column for column, name in enumerate(model)}
        checked = cls._checked(x, y, names, tuple(alone))
        return cls(
            checked.data, checked.model, np.array([order[name] for name in names]), tuple(alone)
        )

    @classmethod
    def _checked(
        cls, data: np.ndarray, model: np.ndarray, names: Sequence[str], left_out: tuple[str, ...]
    ) -> "_Concepts":
        if len(names) < FEWEST:
            alone = f"; only one side has {', '.join(left_out)}" if left_out else ""
            raise InputError(
                f"{len(names)} concepts have an association in the data and in the model{alone}; "
                f"give at least {FEWEST}, or the line fits by construction"
            )
        for what, values in (("data", data), ("model", model)):
            if not np.isfinite(values).all():
                name = names[int(np.flatnonzero(~np.isfinite(values))[0])]
                raise InputError(f"the {what}'s association of {name} is not finite; leave it out")
            if np.ptp(values) <= ROUNDING:
                raise InputError(
                    f"the {what}'s association is {values[0]:g} for all {len(values)} concepts, so "
                    "r is undefined; give concepts that differ"
                )
        return cls(data, model, np.arange(len(data)), left_out)


def _lines(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """r, R squared, slope and agreement of sign in each draw; (draws, 4), NaN where undefined.

    Parameters
    ----------
    x : (c,)
    y : (draws, c)
    times : (draws, c), how often each concept counts
    """
    total = times.sum(axis=1, keepdims=True)
    from_mean = x - (times * x).sum(axis=1, keepdims=True) / total
    y_from_mean = y - (times * y).sum(axis=1, keepdims=True) / total
    together = (times * from_mean * y_from_mean).sum(axis=1)
    x_spread = (times * from_mean**2).sum(axis=1)
    y_spread = (times * y_from_mean**2).sum(axis=1)
    for spread in (x_spread, y_spread):
        # One concept drawn again and again has no spread; rounding would make a line of it.
        spread[spread <= total[:, 0] * ROUNDING**2] = 0.0
    r = ratio(together, np.sqrt(x_spread * y_spread))
    agreement = (times * _same_side(x, y)).sum(axis=1) / total[:, 0]
    return np.column_stack([r, r**2, ratio(together, x_spread), agreement])


def _same_side(data: np.ndarray, model: np.ndarray) -> np.ndarray:
    sides = [np.where(np.abs(part) <= ROUNDING, 0.0, np.sign(part)) for part in (data, model)]
    return (1 + sides[0] * sides[1]) / 2
