"""Bias transfer of a run: each label once for each arm, from what the arm was trained on."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from evaluation.transfer import bias_transfer, data_associations
from reporting.charts import FEWEST
from reporting.contents import Contents, read_contents
from reporting.transfer_points import transfer_measurements, transfer_points

VALUE = "gender.woman"


@pytest.fixture(scope="module")
def contents(demo_run: Path) -> Contents:
    return read_contents(demo_run)


def test_points_are_of_the_data_and_the_models_of_their_arm(contents: Contents):
    points = transfer_points(contents.trials, contents.data)[VALUE]
    assert points["arm"].unique(maintain_order=True).to_list() == ["original", "balanced"]
    assert contents.data.drawn is not None
    for arm, table in (("original", contents.data.before), ("balanced", contents.data.drawn)):
        rows = points.filter(pl.col("arm") == arm)
        assert rows["concept"].n_unique() == len(rows) >= 3
        of_data = data_associations(table, VALUE)
        models = [
            trial.evaluation.label_associations[VALUE]
            for trial in contents.trials
            if trial.arm == arm
        ]
        for row in rows.iter_rows(named=True):
            assert row["data"] == of_data[row["concept"]]
            own = [model[row["concept"]] for model in models]
            assert row["model"] == pytest.approx(sum(own) / len(own))


def test_labels_of_few_examples_are_not_shown(contents: Contents):
    shown = transfer_points(contents.trials, contents.data)[VALUE]
    table = contents.data.before.association.filter(pl.col("value") == VALUE)
    small = set(table.filter(pl.col("examples") < FEWEST)["label"])
    original = shown.filter(pl.col("arm") == "original")
    assert small.isdisjoint(original["concept"])
    one = original["concept"][0]
    examples = pl.when(pl.col("label") == one).then(FEWEST - 1.0).otherwise(pl.col("examples"))
    fewer = contents.data.before.association.with_columns(examples=examples)
    data = replace(contents.data, before=replace(contents.data.before, association=fewer))
    left = transfer_points(contents.trials, data)[VALUE].filter(pl.col("arm") == "original")
    assert set(original["concept"]) - set(left["concept"]) == {one}


def test_an_arm_without_a_line_is_left_out(contents: Contents):
    def alike(trial):
        same = dict.fromkeys(trial.evaluation.label_associations[VALUE], 0.5)
        evaluation = trial.evaluation.model_copy(update={"label_associations": {VALUE: same}})
        return trial.model_copy(update={"evaluation": evaluation})

    trials = [alike(each) if each.arm == "balanced" else each for each in contents.trials]
    points = transfer_points(trials, contents.data)[VALUE]
    assert points["arm"].unique().to_list() == ["original"]
    without = replace(contents.data, drawn=None)
    assert transfer_points(contents.trials, without)[VALUE]["arm"].unique().to_list() == [
        "original"
    ]
    assert transfer_points([], contents.data) == {}


def test_each_arm_has_its_line_with_an_interval(contents: Contents):
    points = transfer_points(contents.trials, contents.data)[VALUE]
    for arm, figures in transfer_measurements(points).items():
        rows = points.filter(pl.col("arm") == arm)
        line = bias_transfer(rows["data"].to_numpy(), rows["model"].to_numpy())
        assert [each.value for each in figures] == pytest.approx(
            [line.r, line.r_squared, line.slope, line.sign_agreement]
        )
        assert all(each.images == len(rows) for each in figures)
        assert all(each.p_value is not None and each.p_value > 0 for each in figures)


def test_the_report_shows_it(contents: Contents, demo_run: Path):
    page = (demo_run / "report.html").read_text()
    assert "Does bias go from the data into the model?" in page
    assert page.count(">association in the model</text>") == 1
    assert page.count("<td>original: r squared</td>") == 1
