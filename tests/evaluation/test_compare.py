"""Arms and seeds."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from evaluation.compare import (
    Comparison,
    MeasureComparison,
    Spread,
    Trial,
    better,
    comparison_table,
)
from evaluation.evaluate import EvaluateSettings, Evaluation, evaluate
from m4.catalogue import Catalogue
from m4.errors import InputError


@pytest.fixture
def evaluation(scene: Any, encoder: Any, catalogue: Catalogue) -> Evaluation:
    for who in ("woman", "man"):
        scene.add(who, "young")
        for label in catalogue.labels:
            scene.add(who, "young", label).add(who, "old", label)
    return evaluate(scene.images, scene.gallery(), encoder, catalogue)


def trial(evaluation: Evaluation, arm: str, seed: int, top1: float) -> Trial:
    zero_shot = evaluation.zero_shot.model_copy(update={"top1": top1})
    changed = evaluation.model_copy(update={"zero_shot": zero_shot})
    return Trial(arm=arm, seed=seed, evaluation=changed)


def of(comparison: Comparison, measure: str) -> MeasureComparison:
    return next(row for row in comparison.measures if row.measure == measure)


def test_every_headline_measure_has_a_direction(evaluation: Evaluation) -> None:
    lower = {name for name in evaluation.headline() if better(name) == "lower"}
    assert lower == {
        "representation_bias",
        "association_bias_mean",
        "association_bias_max",
        "worst_group_gap",
    }
    with pytest.raises(KeyError):
        better("loss")


def test_spread_by_hand() -> None:
    spread = Spread.of({1: 0.1, 2: 0.2, 3: 0.6})
    assert spread.mean == pytest.approx(0.3)
    assert spread.standard_deviation == pytest.approx(0.07**0.5)
    assert (spread.smallest, spread.largest) == (0.1, 0.6)
    assert Spread.of({1: 0.4}).standard_deviation is None


def test_negative_figures_show_as_such() -> None:
    arms = {"original": Spread.of({1: -0.1, 2: -0.2}), "balanced": Spread.of({1: -0.3, 2: -0.4})}
    assert arms["original"].largest == -0.1
    row = MeasureComparison.of("worst_group_gap", arms)
    assert (row.best, row.separated) == ("balanced", True)
    assert MeasureComparison.of("zero_shot_top1", arms).best == "original"


@pytest.mark.parametrize(
    ("balanced", "lower_is_better", "higher_is_better"),
    [
        ((0.1, 0.2), ("balanced", True), ("original", True)),
        ((0.1, 0.35), ("balanced", False), ("original", False)),
        ((0.1, 0.3), ("balanced", False), ("original", False)),  # worst equals best: not better
        ((0.3, 0.4), (None, False), (None, False)),
    ],
)
def test_separated(
    balanced: tuple[float, float],
    lower_is_better: tuple[str | None, bool],
    higher_is_better: tuple[str | None, bool],
) -> None:
    arms = {
        "original": Spread.of({1: 0.3, 2: 0.4}),
        "balanced": Spread.of(dict(enumerate(balanced))),
    }
    row = MeasureComparison.of("representation_bias", arms)
    assert (row.best, row.separated) == lower_is_better
    row = MeasureComparison.of("image_to_text_r5", arms)
    assert (row.best, row.separated) == higher_is_better


def test_three_arms_must_all_be_beaten() -> None:
    arms = {
        "a": Spread.of({1: 0.1, 2: 0.2}),
        "b": Spread.of({1: 0.8, 2: 0.9}),
        "c": Spread.of({1: 0.1, 2: 0.85}),
    }
    row = MeasureComparison.of("zero_shot_top1", arms)
    assert (row.best, row.separated) == ("b", False)


def test_one_seed_says_nothing_of_the_spread() -> None:
    arms = {"original": Spread.of({1: 0.3, 2: 0.4}), "balanced": Spread.of({1: 0.9})}
    row = MeasureComparison.of("zero_shot_top1", arms)
    assert (row.best, row.separated) == ("balanced", None)


def test_trials_are_grouped_by_arm_and_seed(evaluation: Evaluation) -> None:
    figures = {("original", 1): 0.5, ("balanced", 7): 0.75, ("original", 2): 0.25}
    figures |= {("balanced", 8): 0.7, ("original", 3): 0.4, ("balanced", 9): 0.9}
    comparison = Comparison.of(
        [trial(evaluation, arm, seed, top1) for (arm, seed), top1 in figures.items()]
    )
    assert comparison.arms == ("original", "balanced")
    assert [row.measure for row in comparison.measures] == list(evaluation.headline())
    row = of(comparison, "zero_shot_top1")
    assert row.arms["original"].by_seed == {1: 0.5, 2: 0.25, 3: 0.4}
    assert (row.best, row.separated) == ("balanced", True)
    same = of(comparison, "representation_bias")
    assert (same.best, same.separated) == (None, False)
    assert comparison.chance_separated == pytest.approx(0.1)
    assert Comparison.model_validate(json.loads(comparison.to_json())) == comparison


def test_the_order_of_trials_within_an_arm_does_not_matter(evaluation: Evaluation) -> None:
    trials = [trial(evaluation, arm, seed, 0.1 * seed) for arm in ("a", "b") for seed in (1, 2, 3)]
    assert Comparison.of(trials) == Comparison.of([*trials[2::-1], *trials[:2:-1]])


def test_what_cannot_be_compared_is_refused(
    evaluation: Evaluation, scene: Any, encoder: Any, catalogue: Catalogue
) -> None:
    first = trial(evaluation, "original", 1, 0.5)
    with pytest.raises(InputError, match=r"\['original'\]: a comparison needs at least two"):
        Comparison.of([first])
    with pytest.raises(InputError, match="at least two"):
        Comparison.of([])
    with pytest.raises(InputError, match="arm original, seed 1 is given twice"):
        Comparison.of([first, first])
    settings = EvaluateSettings(ks=(1, 5))
    with pytest.raises(InputError, match="arm balanced, seed 2 were evaluated with different sett"):
        other = evaluate(scene.images, scene.gallery(), encoder, catalogue, settings)
        Comparison.of([first, Trial(arm="balanced", seed=2, evaluation=other)])
    with pytest.raises(InputError, match="different galleries"):
        scene.add("tree")
        other = evaluate(scene.images, scene.gallery(), encoder, catalogue)
        Comparison.of([first, Trial(arm="balanced", seed=2, evaluation=other)])
    with pytest.raises(InputError, match="different catalogues"):
        other = evaluation.model_copy(update={"catalogue_digest": "0"})
        Comparison.of([first, Trial(arm="balanced", seed=2, evaluation=other)])


def shown(comparison: Comparison, *, markup: bool = True) -> str:
    console = Console(width=200, record=True, file=io.StringIO(), markup=markup)
    console.print(comparison_table(comparison))
    return console.export_text()


@pytest.mark.parametrize("markup", [True, False])
def test_the_table_shows_figures_directions_and_verdicts(
    evaluation: Evaluation, markup: bool
) -> None:
    trials = [trial(evaluation, "[plain]", seed, 0.1 * seed) for seed in (1, 2, 3)]
    trials += [trial(evaluation, "balanced", seed, 0.5 + 0.1 * seed) for seed in (1, 2, 3)]
    text = shown(Comparison.of(trials), markup=markup)
    assert "[bold]" not in text
    line = next(line for line in text.splitlines() if "zero shot top1" in line)
    assert "0.200 ± 0.100 [0.100, 0.300]" in line
    assert "0.700 ± 0.100 [0.600, 0.800]" in line
    assert "higher" in line
    assert "yes" in line
    assert "[plain]" in text  # not taken for markup
    assert "10%" in text
    line = next(line for line in text.splitlines() if "representation bias" in line)
    assert "lower" in line
    assert "no" in line.split()


def test_the_table_of_single_seeds_promises_nothing(evaluation: Evaluation) -> None:
    comparison = Comparison.of([trial(evaluation, arm, 1, 0.5) for arm in ("a", "b")])
    assert comparison.chance_separated is None
    text = shown(comparison)
    assert "one seed" in text
    assert "by chance" not in text
