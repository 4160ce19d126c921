"""Arms and seeds."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import false_discovery_control

from evaluation.compare import (
    Comparison,
    MeasureComparison,
    Spread,
    Trial,
    comparison_table,
    paired_p_value,
    smallest_p_value,
)
from evaluation.evaluate import Evaluation, evaluate
from evaluation.gallery_measures import EvaluateSettings
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
    found = evaluation.measurements["zero_shot_top1"].model_copy(update={"value": top1})
    measurements = {**evaluation.measurements, "zero_shot_top1": found}
    changed = evaluation.model_copy(update={"measurements": measurements})
    return Trial(arm=arm, seed=seed, evaluation=changed)


def of(comparison: Comparison, measure: str) -> MeasureComparison:
    return next(row for row in comparison.measures if row.measure == measure)


def test_directions_are_those_of_the_measurements(evaluation: Evaluation) -> None:
    comparison = Comparison.of([trial(evaluation, arm, 1, 0.5) for arm in ("a", "b")])
    lower = {row.measure for row in comparison.measures if row.better == "lower"}
    assert lower == {
        "representation_bias",
        "association_bias_mean",
        "association_bias_max",
        "worst_group_gap",
    }
    assert {row.better for row in comparison.measures if row.measure not in lower} == {"higher"}


def test_a_measure_without_a_better_direction_is_not_compared(evaluation: Evaluation) -> None:
    found = evaluation.measurements["zero_shot_top1"].model_copy(update={"better": None})
    changed = evaluation.model_copy(
        update={"measurements": {**evaluation.measurements, "zero_shot_top1": found}}
    )
    trials = [Trial(arm=arm, seed=1, evaluation=changed) for arm in ("a", "b")]
    compared = {row.measure for row in Comparison.of(trials).measures}
    assert compared == evaluation.headline().keys() - {"zero_shot_top1"}


def test_a_figure_with_a_sign_is_better_nearer_0() -> None:
    arms = {"a": Spread.of({1: -0.3, 2: -0.2}), "b": Spread.of({1: 0.1, 2: 0.0})}
    row = MeasureComparison.of("resolution_bias", "nearer 0", arms)
    assert (row.best, row.separated) == ("b", True)


def test_spread_by_hand() -> None:
    spread = Spread.of({1: 0.1, 2: 0.2, 3: 0.6})
    assert spread.mean == pytest.approx(0.3)
    assert spread.standard_deviation == pytest.approx(0.07**0.5)
    assert (spread.smallest, spread.largest) == (0.1, 0.6)
    assert Spread.of({1: 0.4}).standard_deviation is None


def test_negative_figures_show_as_such() -> None:
    arms = {"original": Spread.of({1: -0.1, 2: -0.2}), "balanced": Spread.of({1: -0.3, 2: -0.4})}
    assert arms["original"].largest == -0.1
    row = MeasureComparison.of("worst_group_gap", "lower", arms)
    assert (row.best, row.separated) == ("balanced", True)
    assert MeasureComparison.of("zero_shot_top1", "higher", arms).best == "original"


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
    row = MeasureComparison.of("representation_bias", "lower", arms)
    assert (row.best, row.separated) == lower_is_better
    row = MeasureComparison.of("image_to_text_r5", "higher", arms)
    assert (row.best, row.separated) == higher_is_better


def test_three_arms_must_all_be_beaten() -> None:
    arms = {
        "a": Spread.of({1: 0.1, 2: 0.2}),
        "b": Spread.of({1: 0.8, 2: 0.9}),
        "c": Spread.of({1: 0.1, 2: 0.85}),
    }
    row = MeasureComparison.of("zero_shot_top1", "higher", arms)
    assert (row.best, row.separated) == ("b", False)


def test_one_seed_says_nothing_of_the_spread() -> None:
    arms = {"original": Spread.of({1: 0.3, 2: 0.4}), "balanced": Spread.of({1: 0.9})}
    row = MeasureComparison.of("zero_shot_top1", "higher", arms)
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


def spreads(changes: dict[int, float]) -> dict[str, Spread]:
    return {
        "original": Spread.of(dict.fromkeys(changes, 0.5)),
        "balanced": Spread.of({seed: 0.5 + change for seed, change in changes.items()}),
    }


def test_the_signed_rank_test_by_hand() -> None:
    # Of the 8 ways to give 1, 2 and 3 their signs, two are as far from even as all positive.
    assert paired_p_value(spreads({1: 0.1, 2: 0.2, 3: 0.3})) == 2 / 8
    # The sum of negative ranks is 1: as far from even are sums of 0, 1, 5 and 6.
    assert paired_p_value(spreads({1: -0.1, 2: 0.2, 3: 0.3})) == 4 / 8
    assert paired_p_value(spreads({1: 0.1, 2: 0.1, 3: 0.1})) == 2 / 8  # all ranks are 2
    assert paired_p_value(spreads({seed: seed / 10 for seed in range(1, 7)})) == 2 / 64


def test_seeds_without_a_difference_are_left_out() -> None:
    assert paired_p_value(spreads({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.0})) == 2 / 8
    assert paired_p_value(spreads({1: 0.0, 2: 0.0})) == 1.0
    assert paired_p_value(spreads({1: 0.0, 2: 0.1})) == 1.0


def test_differences_that_are_equal_but_for_rounding_tie() -> None:
    arms = {
        "original": Spread.of({1: 0.1, 2: 0.3, 3: 0.7, 4: 0.2}),
        "balanced": Spread.of({1: 0.2, 2: 0.4, 3: 0.8, 4: 0.1}),
    }
    assert len({x - y for x, y in zip((0.2, 0.4, 0.8), (0.1, 0.3, 0.7), strict=True)}) > 1
    # Four equal ranks: 1 + 1 + 4 + 4 of 16 ways have three or four of one sign.
    assert paired_p_value(arms) == 10 / 16


def test_more_ties_than_scipy_has_tables_for_stay_exact() -> None:
    changes = {seed: 0.1 if seed < 12 else -0.1 for seed in range(14)}
    # Two of 14 equal ranks are negative: a binomial tail.
    assert paired_p_value(spreads(changes)) == pytest.approx(2 * (1 + 14 + 91) / 2**14)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-0.4, 0.4), min_size=2, max_size=8))
def test_p_values_are_attainable_and_know_no_side(changes: list[float]) -> None:
    by_seed = dict(enumerate(changes))
    p_value = paired_p_value(spreads(by_seed))
    assert p_value is not None
    assert smallest_p_value(len(changes)) <= p_value <= 1.0
    mirrored = paired_p_value(spreads({seed: -change for seed, change in by_seed.items()}))
    assert mirrored == pytest.approx(p_value)


def test_only_two_arms_with_two_seeds_in_common_are_tested() -> None:
    two = Spread.of({1: 0.1, 2: 0.2})
    assert paired_p_value({"a": two, "b": two, "c": two}) is None
    assert paired_p_value({"a": two, "b": Spread.of({2: 0.3, 3: 0.4})}) is None
    assert paired_p_value({"a": two, "b": Spread.of({1: 0.3, 2: 0.4, 3: 0.0})}) == 0.5


def seeds_of(evaluation: Evaluation, seeds: int) -> Comparison:
    trials = [trial(evaluation, "original", seed, 0.01 * seed) for seed in range(seeds)]
    trials += [trial(evaluation, "balanced", seed, 0.02 * seed + 0.5) for seed in range(seeds)]
    return Comparison.of(trials)


def test_measures_are_corrected_together(evaluation: Evaluation) -> None:
    comparison = seeds_of(evaluation, 6)
    assert comparison.paired_seeds == 6
    p_values = [row.p_value for row in comparison.measures]
    assert p_values.count(2 / 64) == 1
    assert p_values.count(1.0) == len(p_values) - 1
    assert [row.p_fdr for row in comparison.measures] == pytest.approx(
        false_discovery_control(p_values)
    )
    assert of(comparison, "zero_shot_top1").p_fdr == pytest.approx(2 / 64 * len(p_values))


def test_arms_without_seeds_in_common_have_no_p_values(evaluation: Evaluation) -> None:
    trials = [trial(evaluation, "a", seed, 0.1) for seed in (1, 2)]
    comparison = Comparison.of(trials + [trial(evaluation, "b", seed, 0.2) for seed in (3, 4)])
    assert comparison.paired_seeds == 0
    assert {(row.p_value, row.p_fdr) for row in comparison.measures} == {(None, None)}
    assert "p-value" not in shown(comparison)


@pytest.mark.parametrize(("seeds", "least"), [(2, "0.5"), (3, "0.25"), (5, "0.062")])
def test_the_table_says_how_many_seeds_it_takes(
    evaluation: Evaluation, seeds: int, least: str
) -> None:
    text = " ".join(shown(seeds_of(evaluation, seeds)).split())
    assert f"{seeds} seeds give no p below {least}; 6 seeds are needed for one below 0.05" in text
    assert "FDR" not in text


def test_the_table_shows_p_values_of_six_seeds(evaluation: Evaluation) -> None:
    comparison = seeds_of(evaluation, 6)
    text = shown(comparison)
    line = next(line for line in text.splitlines() if "zero shot top1" in line)
    assert "0.031" in line
    assert f"{of(comparison, 'zero_shot_top1').p_fdr:.3f}" in line
    assert "6 seeds give no p below 0.031" in " ".join(text.split())
    assert "No p-values" not in text


def test_the_table_of_single_seeds_promises_nothing(evaluation: Evaluation) -> None:
    comparison = Comparison.of([trial(evaluation, arm, 1, 0.5) for arm in ("a", "b")])
    assert comparison.chance_separated is None
    text = shown(comparison)
    assert "one seed" in text
    assert "by chance" not in text
