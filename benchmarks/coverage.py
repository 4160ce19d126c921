"""How often do 95 % intervals of the measures hold the true figure, by kind of bootstrap interval?

python -m benchmarks.coverage

Populations are simulated, so that their figures are known. Measures are those of `evaluation`, on
embeddings whose similarities are what the population says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy import stats

from benchmarks.machine import describe
from benchmarks.report import Report, Table, progress
from evaluation.bias import association_bias_draws, representation_bias_draws
from evaluation.draws import Draws, Interval
from evaluation.quality import worst_group_draws, zero_shot_draws
from evaluation.ranking import retrieval_skew
from evaluation.resampling import Resampling

LEAVES_OUT = (
    "The true figure is that of the population. Where noise raises a figure, its expectation in a "
    "sample of n is larger: no interval that holds the one in 95 % of samples need hold the other.",
    "Images are drawn independently. Prompts are the same in each sample, and not resampled.",
    "Ranked galleries have four groups of a quarter each; K is a tenth of the gallery.",
)


@dataclass(frozen=True)
class Settings:
    """What is simulated.

    Attributes
    ----------
    images : sizes of samples
    trials : samples of each size
    resamples : of each sample
    markdown : file that the report is also written to
    """

    images: tuple[int, ...] = (200, 2000)
    trials: int = 500
    resamples: int = 500
    markdown: Path | None = None


@dataclass(frozen=True)
class Population:
    """Something to draw samples from, whose figure is known.

    Attributes
    ----------
    name : of the measure, and what is true
    figure : true figure, by the number of images where it depends on it
    sample : one figure of n images, and its resamples
    """

    name: str
    figure: Callable[[int], float]
    sample: Callable[[int, np.random.Generator, Resampling], Draws]


def ours(draws: Draws, level: float) -> Interval | None:
    """What the measures are printed with."""
    return draws.measurements(level)[0].interval


def percentile(draws: Draws, level: float) -> Interval:
    """The quantiles of the resamples."""
    return _between(draws, (1 - level) / 2, (1 + level) / 2, level)


def basic(draws: Draws, level: float) -> Interval:
    """The quantiles of the resamples, mirrored about the figure."""
    found, twice = percentile(draws, level), 2 * draws.observed[0]
    low, high = np.clip([twice - found.high, twice - found.low], *draws.bounds)
    return Interval(low=low, high=high, level=level)


def bias_corrected(draws: Draws, level: float) -> Interval:
    """Quantiles moved by how far the figure is from the resamples' median: Efron (1981), BC."""
    resampled = draws.bootstrap[:, 0]
    below = np.mean(resampled < draws.observed[0]) + np.mean(resampled == draws.observed[0]) / 2
    least = 1 / (1 + len(resampled))  # a figure below all resamples is as near as one can tell
    moved = 2 * stats.norm.ppf(np.clip(below, least, 1 - least))
    ends = stats.norm.cdf(moved + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2]))
    return _between(draws, *ends, level)


def of_excess(draws: Draws, level: float) -> Interval | None:
    """Of a bias: what it is above its null's mean, and the resamples' spread about their mean."""
    if draws.null is None or draws.better == "higher":
        return None
    found, mean = percentile(draws, level), draws.bootstrap.mean()
    centre = draws.observed[0] - draws.null.mean()
    low, high = np.clip([centre + found.low - mean, centre + found.high - mean], *draws.bounds)
    return Interval(low=low, high=high, level=level)


def _between(draws: Draws, first: float, last: float, level: float) -> Interval:
    low, high = np.nanquantile(draws.bootstrap[:, 0], [first, last])
    return Interval(low=low, high=high, level=level)


METHODS: dict[str, Callable[[Draws, float], Interval | None]] = {
    "ours": ours,
    "basic": basic,
    "percentile": percentile,
    "bias-corrected": bias_corrected,
    "of the excess": of_excess,
}


def accuracy(share: float) -> Population:
    """Three labels; so many answers are right."""

    def sample(n: int, generator: np.random.Generator, resampling: Resampling) -> Draws:
        truth = generator.integers(3, size=n)
        answer = (truth + (generator.random(n) >= share)) % 3
        one = np.eye(3)
        return zero_shot_draws(one[answer], one, one[truth] > 0, tuple("abc"), resampling)[0]

    return Population(f"top-1 accuracy {share:g}", lambda n: share, sample)


def worst_group_gap(worst: float) -> Population:
    """Four labels, two groups, an accuracy of .7; one of the eight cells has another."""

    def sample(n: int, generator: np.random.Generator, resampling: Resampling) -> Draws:
        label, group = generator.integers(4, size=n), generator.integers(2, size=n)
        right = np.where((label == 0) & (group == 0), worst, 0.7)
        answer = (label + (generator.random(n) >= right)) % 4
        one = np.eye(4)
        return worst_group_draws(
            one[answer], one, one[label] > 0, tuple("abcd"), np.eye(2)[group], "xy", resampling
        )[1]

    gap = (7 * 0.7 + worst) / 8 - worst
    what = "no gap" if gap < 1e-9 else "one cell is worse"
    return Population(f"worst-group gap of 8 cells, {what}", lambda n: gap, sample)


def representation(share: float) -> Population:
    """Two prompts; so many images prefer the first, and the target is half."""

    def sample(n: int, generator: np.random.Generator, resampling: Resampling) -> Draws:
        images = np.eye(2)[(generator.random(n) >= share).astype(int)]
        targets = {"first": 0.5, "second": 0.5}
        return representation_bias_draws(images, np.eye(2), targets, resampling)[1]

    what = "none" if share == 0.5 else "some"
    return Population(f"representation bias, {what}", lambda n: abs(share - 0.5), sample)


def association(differences: tuple[float, ...], which: str, what: str, figure: float) -> Population:
    """Pairs of labels; two groups differ by so much in their preference for the first."""
    pairs = [(f"{number} a", f"{number} b") for number in range(len(differences))]
    labels = [name for pair in pairs for name in pair]

    def sample(n: int, generator: np.random.Generator, resampling: Resampling) -> Draws:
        group = generator.random(n) < 0.5
        preference = 0.5 + np.where(group, 0.5, -0.5)[:, None] * np.array(differences)
        first = generator.random(preference.shape) < preference
        images = np.stack([first, ~first], axis=2).reshape(n, -1).astype(float)
        _, mean, largest = association_bias_draws(
            images, np.eye(len(labels)), labels, pairs, {"g": group, "h": ~group}, resampling
        )
        return {"mean": mean, "largest": largest}[which]

    return Population(f"association bias, {which} of 5 pairs, {what}", lambda n: figure, sample)


GROUPS, PROMPTS, TOP = 4, 8, 0.1


def ranking(measure: str, shift: float) -> Population:
    """Every prompt prefers one group, whose scores are higher by so many standard deviations."""

    def sample(n: int, generator: np.random.Generator, resampling: Resampling) -> Draws:
        group = generator.integers(GROUPS, size=n)
        scores = generator.normal(size=(n, PROMPTS))
        scores += shift * (group[:, None] == np.arange(PROMPTS) % GROUPS)
        scores /= 100  # the rest of the vector, to length 1, is orthogonal to all prompts
        rest = np.sqrt(1 - (scores**2).sum(axis=1))
        found = retrieval_skew(
            np.column_stack([scores, rest]),
            np.eye(PROMPTS, PROMPTS + 1),
            group,
            resampling=resampling,
            k=int(TOP * n),
        )
        each = getattr(found, measure).each
        return each.mean("all prompts")

    def figure(n: int) -> float:
        if measure == "max_skew":
            return float(np.log(GROUPS * favoured_share(np.array([TOP]), shift)[0]))
        place = np.arange(1, n + 1)
        share = favoured_share(place / n, shift)
        others = (1 - share) / (GROUPS - 1)
        divergence = share * np.log(GROUPS * share) + (1 - share) * np.log(GROUPS * others)
        discount = 1 / np.log2(place + 1)
        return float(divergence @ discount / discount.sum())

    name = {"max_skew": f"MaxSkew@{TOP:.0%}", "ndkl": "NDKL"}[measure]
    what = "no bias" if shift == 0 else "biased"
    return Population(f"{name}, mean of {PROMPTS} prompts, {what}", figure, sample)


def favoured_share(top: np.ndarray, shift: float) -> np.ndarray:
    """Share of the favoured group in the top so much of a very large ranking."""
    if shift == 0:
        return np.full(len(top), 1 / GROUPS)

    def above(threshold: float) -> float:
        own, other = stats.norm.sf(threshold - shift), stats.norm.sf(threshold)
        return (own + (GROUPS - 1) * other) / GROUPS

    # All rankings are read off one fine table: a root for each place would take minutes.
    thresholds = np.linspace(-10, 10, 200_001)
    reached = above(thresholds)
    found = np.interp(top, reached[::-1], thresholds[::-1])
    return stats.norm.sf(found - shift) / GROUPS / above(found)


POPULATIONS = (
    accuracy(0.7),
    accuracy(0.98),
    representation(0.5),
    representation(0.6),
    association((0.0,) * 5, "largest", "none", 0.0),
    association((0.3, 0.0, 0.0, 0.0, 0.0), "largest", "in one", 0.3),
    association((0.2,) * 5, "largest", "in all", 0.2),
    association((0.0,) * 5, "mean", "none", 0.0),
    association((0.3, 0.0, 0.0, 0.0, 0.0), "mean", "in one", 0.06),
    association((0.2,) * 5, "mean", "in all", 0.2),
    worst_group_gap(0.7),
    worst_group_gap(0.4),
    ranking("max_skew", 0.0),
    ranking("max_skew", 0.5),
    ranking("ndkl", 0.0),
    ranking("ndkl", 0.5),
)


@dataclass(frozen=True)
class Outcome:
    """Figures (trials,), and by method the ends of the intervals, (trials, 2)."""

    population: Population
    images: int
    estimates: np.ndarray
    ends: dict[str, np.ndarray]

    def coverage(self, method: str, figure: float) -> float:
        """Share of the intervals that hold a figure."""
        low, high = self.ends[method].T
        return float(np.mean((low - 1e-9 <= figure) & (figure <= high + 1e-9)))

    def width(self, method: str) -> float:
        """Mean width of the intervals."""
        return float(np.diff(self.ends[method]).mean())


def simulate(population: Population, images: int, trials: int, resamples: int) -> Outcome:
    """Draw samples, and take every kind of interval of each."""
    estimates = np.empty(trials)
    ends = {method: np.full((trials, 2), np.nan) for method in METHODS}
    for trial in range(trials):
        resampling = Resampling(resamples=resamples, permutations=100, seed=trial)
        draws = population.sample(images, np.random.default_rng([trial, images]), resampling)
        estimates[trial] = draws.observed[0]
        for method, interval in METHODS.items():
            found = interval(draws, resampling.level)
            if found is not None:
                ends[method][trial] = found.low, found.high
    return Outcome(population, images, estimates, ends)


def row(outcome: Outcome) -> tuple[str, ...]:
    true, expected = outcome.population.figure(outcome.images), outcome.estimates.mean()
    cells = [
        f"{outcome.coverage(method, true):.0%} / {outcome.coverage(method, expected):.0%}, "
        f"{outcome.width(method):.3f}"
        if np.isfinite(outcome.ends[method]).any()
        else ""
        for method in METHODS
    ]
    name = outcome.population.name
    return (name, str(outcome.images), f"{true:.3f}", f"{expected:.3f}", *cells)


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    rows = []
    for population in POPULATIONS:
        for images in settings.images:
            rows.append(row(simulate(population, images, settings.trials, settings.resamples)))
            progress(" | ".join(rows[-1]))
    columns = ("figure", "images", "true", "mean estimate", *METHODS)
    caption = (
        f"Coverage of the true figure / of the mean estimate, and mean width; {settings.trials} "
        f"samples, {settings.resamples} resamples of each; 95 % intervals."
    )
    table = Table(caption, columns, tuple(rows))
    report = Report("Coverage of bootstrap intervals", (table,), LEAVES_OUT, describe())
    report.show(settings.markdown)


if __name__ == "__main__":
    main()
