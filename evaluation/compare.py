"""Compare arms of an experiment: models trained in two or more ways, each from several seeds."""

import math
import statistics
from collections.abc import Sequence
from itertools import count

from rich.table import Table
from rich.text import Text
from scipy.stats import PermutationMethod, false_discovery_control, wilcoxon

from evaluation.draws import Better
from evaluation.evaluate import Evaluation
from m4.catalogue import Model
from m4.errors import InputError

ENUMERATED = 1 << 16  # ways to choose signs that are all looked at: exact up to 16 seeds
FALSE_ALARM = 0.05  # p-values are shown where they can fall below it


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

    `p_value` is that of `paired_p_value`; `p_fdr` its correction over all measures by Benjamini
    and Hochberg (1995): of the measures up to this bound, that share may be false discoveries.
    """

    measure: str
    better: Better
    arms: dict[str, Spread]
    best: str | None
    separated: bool | None
    p_value: float | None
    p_fdr: float | None

    @classmethod
    def of(cls, measure: str, better: Better, arms: dict[str, Spread]) -> "MeasureComparison":
        """Compare the arms on one measure; `p_fdr` is left open."""
        means = {arm: _merit(better, spread.mean) for arm, spread in arms.items()}
        leaders = [arm for arm, mean in means.items() if mean == max(means.values())]
        best = leaders[0] if len(leaders) == 1 else None
        separated: bool | None = None
        if all(len(spread.by_seed) > 1 for spread in arms.values()):
            own = min(_merit(better, x) for x in arms[leaders[0]].by_seed.values())
            others = [
                _merit(better, x)
                for arm, spread in arms.items()
                if arm != leaders[0]
                for x in spread.by_seed.values()
            ]
            separated = own > max(others)
        return cls(
            measure=measure,
            better=better,
            arms=arms,
            best=best,
            separated=separated,
            p_value=paired_p_value(arms),
            p_fdr=None,
        )


def _merit(better: Better, figure: float) -> float:
    """A number that is larger where the figure is better."""
    return {"higher": figure, "lower": -figure, "nearer 0": -abs(figure)}[better]


def paired_p_value(arms: dict[str, Spread]) -> float | None:
    """The Wilcoxon signed-rank test of two arms, paired by seed: two-sided, exact with ties too.

    Seeds are pairs where both arms share what a seed decides: the first weights, the order of
    the data. A seed without a difference is left out; 1 where none has any. Wilcoxon,
    "Individual Comparisons by Ranking Methods" (1945).

    None where there are more than two arms, or fewer than two seeds that both have.
    """
    seeds = _shared_seeds(arms)
    if len(seeds) < 2:
        return None
    one, other = arms.values()
    # Rounded, so that equal differences of shares tie.
    changes = [round(one.by_seed[seed] - other.by_seed[seed], 12) for seed in seeds]
    if not any(changes):
        return 1.0
    method = PermutationMethod(n_resamples=ENUMERATED, rng=0)
    return float(wilcoxon(changes, method=method).pvalue)


def _shared_seeds(arms: dict[str, Spread]) -> list[int]:
    if len(arms) != 2:
        return []
    one, other = arms.values()
    return sorted(one.by_seed.keys() & other.by_seed.keys())


def smallest_p_value(seeds: int) -> float:
    """Of the signed-rank test with so many pairs: 2 / 2^n, where all differences have one sign."""
    return 2.0 / 2**seeds


class Comparison(Model):
    """Every headline measure that has a better direction, over arms and seeds.

    `chance_separated` is the probability that a measure separates arms that do not differ:
    sum over arms of 1 / C(all seeds, seeds of the arm), which is 0.1 for three seeds and
    three. It is None where an arm has a single seed. `paired_seeds` is the number of seeds that
    p-values rest on; fewer than two give none.
    """

    arms: tuple[str, ...]
    measures: tuple[MeasureComparison, ...]
    chance_separated: float | None
    paired_seeds: int

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
        for measure, found in trials[0].evaluation.measurements.items():
            if found.better is None:
                continue
            spreads = {
                arm: Spread.of({seed: figures[measure] for seed, figures in seeds.items()})
                for arm, seeds in headlines.items()
            }
            measures.append(MeasureComparison.of(measure, found.better, spreads))
        seeds_of = [len(seeds) for seeds in headlines.values()]
        chance = sum(1 / math.comb(len(trials), seeds) for seeds in seeds_of)
        return cls(
            arms=tuple(headlines),
            measures=_corrected(measures),
            chance_separated=chance if min(seeds_of) > 1 else None,
            paired_seeds=len(_shared_seeds(measures[0].arms)),
        )

    def to_json(self) -> str:
        """The comparison as indented JSON."""
        return self.model_dump_json(indent=2)


def _corrected(measures: list[MeasureComparison]) -> tuple[MeasureComparison, ...]:
    p_values = [row.p_value for row in measures]
    if None in p_values:  # it then is of all: they have the same arms and seeds
        return tuple(measures)
    corrected = false_discovery_control(p_values)
    return tuple(
        row.model_copy(update={"p_fdr": float(p_fdr)})
        for row, p_fdr in zip(measures, corrected, strict=True)
    )


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
    """Table for the screen: mean, standard deviation and range of each measure, by arm.

    It has p-values where there are seeds enough for one below 0.05.
    """
    tested = _can_tell(comparison.paired_seeds)
    table = Table(title="Models compared", caption=Text(_caption(comparison)))
    table.add_column("measure")
    table.add_column("better")
    for arm in comparison.arms:
        table.add_column(Text(arm), justify="right")
    table.add_column("separated")
    for column in ("p", "p (FDR)") if tested else ():
        table.add_column(column, justify="right")
    for row in comparison.measures:
        cells = []
        for arm in comparison.arms:
            text = _figures(row.arms[arm])
            cells.append(Text(text, style="bold" if arm == row.best else ""))
        verdict = {True: "yes", False: "no", None: "one seed"}[row.separated]
        p_values = [f"{p:.3f}" for p in (row.p_value, row.p_fdr) if tested]
        table.add_row(row.measure.replace("_", " "), row.better, *cells, verdict, *p_values)
    return table


def _can_tell(seeds: int) -> bool:
    return smallest_p_value(seeds) < FALSE_ALARM


def _caption(comparison: Comparison) -> str:
    said = ["mean ± standard deviation over seeds [smallest, largest]; the best arm is bold."]
    if comparison.chance_separated is not None:
        said.append(
            "Separated: the worst seed of the best arm is better than the best of the others; "
            f"equal arms are separated by chance in {comparison.chance_separated:.0%} of measures."
        )
    seeds = comparison.paired_seeds
    if seeds >= 2:
        least = f"{seeds} seeds give no p below {smallest_p_value(seeds):.2g}"
        if _can_tell(seeds):
            said.append(
                f"p: Wilcoxon signed-rank test, paired by seed, where {least}; FDR: corrected for "
                f"{len(comparison.measures)} measures by Benjamini and Hochberg."
            )
        else:
            enough = next(n for n in count(seeds) if _can_tell(n))
            said.append(
                f"No p-values: by the Wilcoxon signed-rank test {least}; {enough} seeds are "
                f"needed for one below {FALSE_ALARM}."
            )
    return " ".join(said)


def _figures(spread: Spread) -> str:
    if spread.standard_deviation is None:
        return f"{spread.mean:.3f}"
    reach = f"[{spread.smallest:.3f}, {spread.largest:.3f}]"
    return f"{spread.mean:.3f} ± {spread.standard_deviation:.3f} {reach}"
