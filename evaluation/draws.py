"""What is known of a measure: its figures as they are, under resampling, and without bias.

Intervals, p-values, corrections for many figures and comparisons of models are functions of these
three arrays; none of them knows which measure it looks at.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control

from m4.catalogue import Model
from m4.errors import InputError

NullKind = Literal["permutation", "multinomial", "chance"]
Better = Literal["lower", "higher", "nearer 0"]
Tail = Literal["upper", "lower", "both"]
MOST_UNDEFINED = 0.05  # share of resamples in which a figure may be undefined: a group is empty
ROUNDING = 1e-9  # figures this close, for their size, are equal


class Null(Model):
    """What a measure shows where there is nothing to find.

    Attributes
    ----------
    kind : "permutation": items trade their groups. "multinomial": preferences are drawn from the
        target shares. "chance": answers are guessed
    mean, low, high : of its distribution; the band holds as much of it as the intervals' level
    """

    kind: NullKind
    mean: float
    low: float
    high: float


class Interval(Model):
    """A confidence interval of a measure's figure, by the bootstrap."""

    low: float
    high: float
    level: float


class Measurement(Model):
    """One figure of a measure.

    Attributes
    ----------
    measure, subject : what was measured, of what; "max_skew@1000" of "gender"
    value : the figure
    better : which direction is better; "nearer 0" of a figure with a sign. None: neither
    images : items that it was measured on
    smallest_group : of those, in the smallest group that it compares; None: it compares none
    null, p_value : without bias, and how often the figure is then as large by chance; None where
        there is no such distribution
    p_max : as `p_value`, for the largest of all figures of its table: the chance that any of them
        is as large (maximum statistic, Westfall and Young 1993). None for a single figure
    p_fdr : by Benjamini and Hochberg (1995) over its table: of the figures up to this bound, that
        share may be false discoveries. None for a single figure
    interval : None where the figure is undefined in more than 5 % of resamples. That of a
        measure of bias reaches to the figure of no bias if its p-value is above 1 - level
    """

    measure: str
    subject: str
    value: float
    better: Better | None
    images: int
    smallest_group: int | None
    null: Null | None
    interval: Interval | None
    p_value: float | None
    p_max: float | None
    p_fdr: float | None

    @property
    def excess(self) -> float | None:
        """The figure above what chance alone gives."""
        return None if self.null is None else self.value - self.null.mean


@dataclass(frozen=True, eq=False)
class Draws:
    """m figures of one measure, and how they vary.

    Attributes
    ----------
    measure : its name, "max_skew@1000"
    names : of the m figures
    observed : (m,)
    bootstrap : (resamples, m), NaN where a figure is undefined; resample b is the same choice of
        items for every measure, and for every model
    null : (permutations, m), or None
    null_kind : how `null` was drawn
    better : which direction is better
    tail : on which side of the null a figure stands out: "upper", "lower" or "both"; None: on
        neither, it has no p-value
    bounds : the smallest and the largest figure that the measure can give
    images : items that it was measured on
    images_of_each : (m,), where each figure is of some of them only; None: of all
    smallest_group : images of the smallest group, where groups are compared
    unbiased : the figure, or (m,), that endless images would give where there is no bias; None:
        not known
    """

    measure: str
    names: tuple[str, ...]
    observed: np.ndarray
    bootstrap: np.ndarray
    null: np.ndarray | None
    images: int
    better: Better | None
    null_kind: NullKind = "permutation"
    tail: Tail | None = "upper"
    bounds: tuple[float, float] = (-np.inf, np.inf)
    images_of_each: np.ndarray | None = None
    smallest_group: int | None = None
    unbiased: float | np.ndarray | None = None

    def __post_init__(self) -> None:
        m = len(self.names)
        arrays = {"observed": self.observed[None], "bootstrap": self.bootstrap, "null": self.null}
        for what, array in arrays.items():
            if array is not None and (array.ndim != 2 or array.shape[1] != m):
                raise InputError(
                    f"{self.measure}: {what} of shape {array.shape} for {m} names; give a column "
                    "for each"
                )

    def reduced(self, measure: str, name: str, how: Callable[[np.ndarray], np.ndarray]) -> "Draws":
        """One figure made of the m, where `how` takes (..., m) to (...)."""
        return replace(
            self,
            measure=measure,
            names=(name,),
            observed=np.atleast_1d(how(self.observed)),
            bootstrap=how(self.bootstrap)[:, None],
            null=None if self.null is None else how(self.null)[:, None],
            images_of_each=None,
            unbiased=None if self.unbiased is None else how(self._each(self.unbiased))[None],
        )

    def maximum(self, name: str) -> "Draws":
        """The largest figure; its null is the distribution of the largest under the null."""
        return self.reduced(f"{self.measure}, largest", name, lambda array: array.max(axis=-1))

    def mean(self, name: str) -> "Draws":
        """The mean of the figures."""
        return self.reduced(f"{self.measure}, mean", name, lambda array: array.mean(axis=-1))

    def measurements(self, level: float) -> tuple[Measurement, ...]:
        """Each figure with its interval, its null and its p-values."""
        intervals = bootstrap_intervals(self.observed, self.bootstrap, level, self.bounds)
        counts = self._each(self.images if self.images_of_each is None else self.images_of_each)
        nulls: list[Null | None] = [None] * len(self.names)
        p_values, p_max, p_fdr = ([None] * len(self.names) for _ in range(3))
        if self.null is not None:
            low, high = np.quantile(self.null, _ends(level), axis=0)
            nulls = [
                Null(kind=self.null_kind, mean=mean, low=least, high=most)
                for mean, least, most in zip(self.null.mean(axis=0), low, high, strict=True)
            ]
        if self.null is not None and self.tail is not None:
            found = p_values_of(self.observed, self.null, self.tail)
            p_values = found.tolist()
            if self.unbiased is not None:
                intervals = [
                    _reaching(interval, none) if p_value > 1 - level else interval
                    for interval, none, p_value in zip(
                        intervals, self._each(self.unbiased), p_values, strict=True
                    )
                ]
            if len(self.names) > 1:
                p_max = p_values_of_maximum(self.observed, self.null, self.tail).tolist()
                p_fdr = false_discovery_control(found).tolist()
        return tuple(
            Measurement(
                measure=self.measure,
                subject=name,
                value=self.observed[column],
                better=self.better,
                images=int(counts[column]),
                smallest_group=self.smallest_group,
                null=nulls[column],
                interval=intervals[column],
                p_value=p_values[column],
                p_max=p_max[column],
                p_fdr=p_fdr[column],
            )
            for column, name in enumerate(self.names)
        )

    def _each(self, number: float | np.ndarray) -> np.ndarray:
        return np.broadcast_to(number, self.observed.shape)


def _reaching(interval: Interval | None, unbiased: float) -> Interval | None:
    """The interval with the figure of no bias in it, where the test does not rule that out.

    Noise alone keeps a measure of bias away from there, in every resample: that it could be
    there, only the null tells.
    """
    if interval is None:
        return None
    low, high = min(interval.low, unbiased), max(interval.high, unbiased)
    return interval.model_copy(update={"low": low, "high": high})


def bootstrap_intervals(
    observed: np.ndarray, bootstrap: np.ndarray, level: float, bounds: tuple[float, float]
) -> list[Interval | None]:
    """The interval x - r to x + r of each figure x, where r = max(q_high - x, x - q_low).

    The quantiles q are those of the resamples. It is the least interval that holds both common
    ones, the percentile interval [q_low, q_high] and the basic one [2x - q_high, 2x - q_low]
    (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, chapter 5). Noise
    raises a largest difference or a skew, and raises it once more in each resample: the
    percentile interval is then too high, and may leave out the figure itself. Where it is skewed
    for other reasons the basic one is too short on one side. Neither holds the true figure as
    often as both (benchmarks/README.md); where the resamples are symmetric all three are the same.
    It is cut to the bounds of the measure.

    It still falls short for a mean of several differences of which few are real (78 to 84 % of
    nominal 95 %), and for the NDKL of a strong bias, of which noise makes up much (15 to 57 %):
    what is above the null's mean says more there.

    Parameters
    ----------
    observed : (m,)
    bootstrap : (resamples, m), NaN where undefined
    """
    found: list[Interval | None] = []
    for value, draws in zip(observed, bootstrap.T, strict=True):
        if _mostly_undefined(draws):
            found.append(None)
            continue
        q_low, q_high = np.nanquantile(draws, _ends(level))
        reach = max(q_high - value, value - q_low)
        low, high = np.clip([value - reach, value + reach], *bounds)
        found.append(Interval(low=low, high=high, level=level))
    return found


def _mostly_undefined(draws: np.ndarray) -> bool:
    return bool(np.isnan(draws).mean() > MOST_UNDEFINED)


def p_values_of(observed: np.ndarray, null: np.ndarray, tail: Tail) -> np.ndarray:
    """How often each figure is as large by chance: (1 + #{null >= observed}) / (1 + draws).

    Phipson and Smyth (2010): never 0, and never too small for permutations. For the tail "lower"
    as small; for "both" twice the smaller of the two.

    Parameters
    ----------
    observed : (m,)
    null : (permutations, m)
    """
    if tail == "lower":
        return _as_large(-observed, -null)
    if tail == "upper":
        return _as_large(observed, null)
    sides = _as_large(observed, null), _as_large(-observed, -null)
    return np.minimum(1.0, 2 * np.minimum(*sides))


def p_values_of_maximum(observed: np.ndarray, null: np.ndarray, tail: Tail) -> np.ndarray:
    """How often the largest of all figures is as large by chance, for each figure.

    Figures are put in standard deviations first, so that those of small groups, which vary most,
    do not rule the maximum. The observed figures are a draw like any other for that: were they
    left out, they would be put by another rule than the null, and too often come out on top.
    Controls the chance of any false alarm: Westfall and Young, "Resampling-Based Multiple
    Testing" (1993), single-step maxT. Parameters as for `p_values_of`.
    """
    together = np.vstack([observed, null])
    centre = together.mean(axis=0)
    rounding = ROUNDING * np.maximum(1.0, np.abs(centre))
    # A figure that never varies under the null stands out if it differs by more than rounding.
    spread = np.maximum(together.std(axis=0), rounding)
    away = together - centre
    away = np.where(np.abs(away) > rounding, away, 0.0) / spread
    away = {"upper": away, "lower": -away, "both": np.abs(away)}[tail]
    largest = _as_large(away[0], away[1:].max(axis=1, keepdims=True))
    # Of one figure alone the two sides are taken otherwise: never less than that.
    return np.maximum(largest, p_values_of(observed, null, tail))


def _as_large(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    reached = null >= observed - ROUNDING * np.maximum(1.0, np.abs(observed))
    return (1 + np.count_nonzero(reached, axis=0)) / (1 + len(null))


def _ends(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


class Difference(Model):
    """How one figure differs between two models that were measured on the same items.

    `value` is second - first. The interval comes from the differences of the same resamples, so
    what both models share (which images there are) cancels. `p_value` is the smallest 1 - level
    at which the interval leaves out 0, twice the larger share of resamples that are as far from
    the difference as 0 is, on either side; `p_fdr` its correction over the table.
    """

    measure: str
    subject: str
    better: Better | None
    first: float
    second: float
    value: float
    interval: Interval | None
    p_value: float | None
    p_fdr: float | None


def differences(first: Draws, second: Draws, level: float) -> tuple[Difference, ...]:
    """Compare two models on one measure, figure by figure.

    Raises `InputError` where they were not measured alike.
    """
    for what in ("measure", "names", "images"):
        one, other = getattr(first, what), getattr(second, what)
        if one != other:
            raise InputError(
                f"{what}: {one} of the first model, {other} of the second; measure both by the "
                "same protocol on the same images"
            )
    if len(first.bootstrap) != len(second.bootstrap):
        raise InputError(
            f"{first.measure}: {len(first.bootstrap)} and {len(second.bootstrap)} resamples; "
            "measure both with the same"
        )
    change = second.observed - first.observed
    draws = second.bootstrap - first.bootstrap
    intervals = bootstrap_intervals(change, draws, level, (-np.inf, np.inf))
    p_values = np.array(list(map(_p_value_of_difference, change, draws.T)))
    p_fdr, known = np.full(len(change), np.nan), ~np.isnan(p_values)
    if known.any():
        p_fdr[known] = false_discovery_control(p_values[known])
    return tuple(
        Difference(
            measure=first.measure,
            subject=name,
            better=first.better,
            first=first.observed[column],
            second=second.observed[column],
            value=change[column],
            interval=intervals[column],
            p_value=p_values[column] if known[column] else None,
            p_fdr=p_fdr[column] if known[column] and len(change) > 1 else None,
        )
        for column, name in enumerate(first.names)
    )


def _p_value_of_difference(change: float, draws: np.ndarray) -> float:
    """NaN where the difference is undefined in too many resamples."""
    if _mostly_undefined(draws):
        return np.nan
    away = draws[~np.isnan(draws)] - change
    reach = abs(change) - ROUNDING
    side = max(np.mean(away >= reach), np.mean(away <= -reach), 1 / len(away))
    return min(1.0, 2 * side)
