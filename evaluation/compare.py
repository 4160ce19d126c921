"""Compare arms of an experiment: models trained in two or more ways, each from several seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from evaluation.evaluate import Evaluation
from m4.catalogue import Model
from m4.errors import InputError

Direction = Literal["lower", "higher"]

_BETTER: dict[str, Direction] = {
    "representation_bias": "lower",
    "association_bias_mean": "lower",
    "association_bias_max": "lower",
    "image_to_text_r": "higher",
    "text_to_image_r": "higher",
    "zero_shot_top": "higher",
    "mean_per_class_recall": "higher",
    "worst_group_accuracy": "higher",
    "worst_group_gap": "lower",
}


def better(measure: str) -> Direction:
    """Which direction of a headline measure is better, "lower" or "higher"."""
    return _BETTER[measure.rstrip("0123456789")]


class Trial(Model):
    """One trained model: its arm ("original", "balanced"), its seed and what it is worth."""

    arm: str
    seed: int
    evaluation: Evaluation


class Spread(Model):
    """One measure of one arm over its seeds.

    `standard_deviation` is the sample's (n - 1), None for a single seed.
    """

    by_seed: dict[int, float]
    mean: float
    standard_deviation: float | None
    smallest: float
    largest: float

    @classmethod
    def of(cls, by_seed: dict[int, float]) -> "Spread":
        """Summarise the figures of an arm's seeds."""
        figures = list(by_seed.values())
        return cls(
            by_seed=dict(sorted(by_seed.items())),
            mean=statistics.fmean(figures),  # exactly rounded: the same in any order
            standard_deviation=statistics.stdev(figures) if len(figures) > 1 else None,
            smallest=min(figures),
            largest=max(figures),
        )


class MeasureComparison(Model):
    """One headline measure, by arm.

    `best` is the arm with the best mean, None where arms share it. `separated` says whether the
    worst seed of that arm is better than the best seed of every other; None where an arm has a
    single seed, as nothing is then known of the spread.
    """

    measure: str
    better: Direction
    arms: dict[str, Spread]
    best: str | None
    separated: bool | None

    @classmethod
    def of(cls, measure: str, arms: dict[str, Spread]) -> "MeasureComparison":
        """Compare the arms on one measure."""
        sign = 1.0 if better(measure) == "higher" else -1.0
        means = {arm: sign * spread.mean for arm, spread in arms.items()}
        leaders = [arm for arm, mean in means.items() if mean == max(means.values())]
        best = leaders[0] if len(leaders) == 1 else None
        separated: bool | None = None
        if all(len(spread.by_seed) > 1 for spread in arms.values()):
            own = min(sign * x for x in arms[leaders[0]].by_seed.values())
            others = [
                sign * x
                for arm, spread in arms.items()
                if arm != leaders[0]
                for x in spread.by_seed.values()
            ]
            separated = own > max(others)
        return cls(
            measure=measure, better=better(measure), arms=arms, best=best, separated=separated
        )


class Comparison(Model):
    """Every headline measure over arms and seeds.

    `chance_separated` is the probability that a measure separates arms that do not differ:
    sum over arms of 1 / C(all seeds, seeds of the arm), which is 0.1 for three seeds and
    three. It is None where an arm has a single seed.
    """

    arms: tuple[str, ...]
    measures: tuple[MeasureComparison, ...]
    chance_separated: float | None

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> "Comparison":
        """Group trials by arm, in the order of their first appearance.

        Raises `InputError` where there is one arm only, a seed is repeated, or trials were not
        evaluated on the same gallery with the same catalogue and settings.
        """
        headlines: dict[str, dict[int, dict[str, float]]] = {}
        for trial in trials:
            _check_comparable(trials[0], trial)
            seeds = headlines.setdefault(trial.arm, {})
            if trial.seed in seeds:
                raise InputError(
                    f"arm {trial.arm}, seed {trial.seed} is given twice; leave one out"
                )
            seeds[trial.seed] = trial.evaluation.headline()
        if len(headlines) < 2:
            raise InputError(f"arms {list(headlines)}: a comparison needs at least two")
        measures = []
        for measure in trials[0].evaluation.headline():
            spreads = {
                arm: Spread.of({seed: figures[measure] for seed, figures in seeds.items()})
                for arm, seeds in headlines.items()
            }
            measures.append(MeasureComparison.of(measure, spreads))
        seeds_of = [len(seeds) for seeds in headlines.values()]
        chance = sum(1 / math.comb(len(trials), seeds) for seeds in seeds_of)
        return cls(
            arms=tuple(headlines),
            measures=tuple(measures),
            chance_separated=chance if min(seeds_of) > 1 else None,
        )

    def to_json(self) -> str:
        """The comparison as indented JSON."""
        return self.model_dump_json(indent=2)


def _check_comparable(first: Trial, trial: Trial) -> None:
    for what, field in (
        ("catalogues", "catalogue_digest"),
        ("galleries", "gallery"),
        ("settings", "settings"),
    ):
        if getattr(first.evaluation, field) != getattr(trial.evaluation, field):
            raise InputError(
                f"arm {first.arm}, seed {first.seed} and arm {trial.arm}, seed {trial.seed} were "
                f"evaluated with different {what}; evaluate all with the same"
            )


def comparison_table(comparison: Comparison) -> Table:
    """Table for the screen: mean, standard deviation and range of each measure, by arm."""
    caption = "mean ± standard deviation over seeds [smallest, largest]; the best arm is bold."
    if comparison.chance_separated is not None:
        caption += (
            " Separated: the worst seed of the best arm is better than the best of the others; "
            f"equal arms are separated by chance in {comparison.chance_separated:.0%} of measures."
        )
    table = Table(title="Models compared", caption=Text(caption))
    table.add_column("measure")
    table.add_column("better")
    for arm in comparison.arms:
        table.add_column(Text(arm), justify="right")
    table.add_column("separated")
    for row in comparison.measures:
        cells = []
        for arm in comparison.arms:
            text = _figures(row.arms[arm])
            cells.append(Text(text, style="bold" if arm == row.best else ""))
        verdict = {True: "yes", False: "no", None: "one seed"}[row.separated]
        table.add_row(row.measure.replace("_", " "), row.better, *cells, verdict)
    return table


def _figures(spread: Spread) -> str:
    if spread.standard_deviation is None:
        return f"{spread.mean:.3f}"
    reach = f"[{spread.smallest:.3f}, {spread.largest:.3f}]"
    return f"{spread.mean:.3f} ± {spread.standard_deviation:.3f} {reach}"
