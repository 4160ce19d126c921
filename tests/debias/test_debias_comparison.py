"""One table of models and methods: its columns, its seeds, and what it keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from debias.comparison import PLAIN, SCHEMA, Column, ComparedRow, Comparison, Spread, arms_of
from evaluation.results import ProtocolRun, SetUsed, compare_runs
from tests.measured_runs import draws_of, run_of

SKEW, TOP1 = Column("max_skew@10, mean", "gender: all"), Column("zero_shot_top1", "jobs: all")


def run(model: str, skew: float, top1: float) -> ProtocolRun:
    draws = [
        draws_of(SKEW.measure, {SKEW.subject: skew}),
        draws_of("max_skew@10, largest", {"gender: all": 2 * skew}),
        draws_of(TOP1.measure, {TOP1.subject: top1}, better="higher", null=None),
    ]
    return run_of(model, draws)


def row(model: str, skew: float = 0.5, top1: float = 0.75, **more: Any) -> ComparedRow:
    return ComparedRow(model=model, figures=run(model, skew, top1).result.headlines, **more)


def table_of(*rows: ComparedRow) -> Comparison:
    return Comparison(
        protocol="p",
        title="A protocol",
        published="Someone (2021)",
        sets={"images": SetUsed(name="faces", digest="1", images=500)},
        level=0.95,
        rows=rows,
    )


def headlines(*measures: tuple[str, str]) -> ComparedRow:
    draws = [draws_of(measure, {subject: 0.25}) for measure, subject in measures]
    return ComparedRow(model="m", figures=run_of("m", draws).result.headlines)


def shown(*measures: tuple[str, str]) -> list[tuple[str, str]]:
    columns = table_of(headlines(*measures)).columns
    return [(column.measure, column.subject) for column in columns]


class TestColumns:
    def test_the_largest_is_left_out_where_its_task_has_a_mean(self):
        mean, largest = "max_skew@10, uniform, mean", "max_skew@10, uniform, largest"
        found = shown((mean, "gender: all"), (largest, "gender: all"), (largest, "race: all"))
        assert found == [(mean, "gender: all"), (largest, "race: all")]
        found = shown(("association, mean", "gender: all"), ("association, largest", "gender: x"))
        assert found == [("association, mean", "gender: all")]

    def test_but_not_for_the_mean_of_another_measure(self):
        given = [
            ("association, largest", "gender: jobs"),
            ("group_entropy@9, mean", "gender: jobs"),
        ]
        assert shown(*given) == given
        given = [("max_skew@10, mean", "gender: all"), ("max_skew@100, largest", "gender: all")]
        assert shown(*given) == given
        given = [("representation_bias, largest", "gender: all values"), ("able", "ABLE: all")]
        assert shown(*given) == given

    def test_skews_that_others_stand_for_are_left_out(self):
        kept = [("max_skew@10, mean", "gender: all"), ("ndkl@10, mean", "gender: all")]
        others = [
            "min_skew@10, mean",
            "bias@10, m over f, mean",
            "absolute bias@10, m over f, mean",
        ]
        assert shown(*kept, *((name, "gender: all") for name in others)) == kept
        given = [("association_bias, mean", "gender: all pairs"), ("resolution_bias", "x: all")]
        assert shown(*given) == given

    def test_they_are_those_of_any_row_in_the_order_of_the_first(self):
        first = headlines(("a", "one: all"), ("c", "three: all"))
        second = headlines(("a", "one: all"), ("b", "two: all"), ("c", "three: all"))
        failed = ComparedRow(model="m", method="x", failure="no")
        found = table_of(failed, first, second)
        assert [column.measure for column in found.columns] == ["a", "c", "b"]
        assert table_of(failed).columns == ()

    def test_all_of_them_are_kept_aside(self):
        found = table_of(row("m"))
        assert found.columns == (SKEW, TOP1)
        assert found.all_columns == (SKEW, Column("max_skew@10, largest", "gender: all"), TOP1)
        assert (SKEW.task, TOP1.task) == ("gender", "jobs")


class TestRows:
    def test_a_figure_and_a_change_are_looked_up(self):
        plain, moved = run("m", 0.5, 0.75), run("m + x", 0.25, 0.5)
        changes = compare_runs(plain, moved).headlines
        found = ComparedRow(model="m", method="x", figures=moved.result.headlines, changes=changes)
        figure, change = found.figure(SKEW), found.change(SKEW)
        assert figure is not None and figure.value == 0.25
        assert change is not None and change.value == -0.25
        change = found.change(TOP1)
        assert change is not None and (change.first, change.second) == (0.75, 0.5)
        other = Column(SKEW.measure, "race: all")
        assert found.figure(other) is None and found.change(other) is None
        assert row("m").change(SKEW) is None

    def test_an_unknown_key_is_refused(self):
        with pytest.raises(ValidationError):
            ComparedRow(model="m", figure=())


class TestSeeds:
    @pytest.mark.parametrize(
        ("models", "arms"),
        [
            (["a-0", "a-1", "b-0"], ["a", "a", "b"]),
            (["a-1", "a-0", "very-a-1", "very-a-0"], ["a", "a", "very-a", "very-a"]),
            (["ViT-B-32", "ViT-B-16"], ["ViT-B-32", "ViT-B-16"]),
            (["a-0", "a-2"], ["a-0", "a-2"]),
            (["a-0", "a-01"], ["a-0", "a-01"]),
            (["-0", "-1", "7", "a-", "a"], ["-0", "-1", "7", "a-", "a"]),
            ([f"a-{number}" for number in range(12)], 12 * ["a"]),
            (["a", "a-0"], ["a", "a-0"]),
        ],
    )
    def test_models_that_count_from_0_are_seeds_of_an_arm(self, models, arms):
        assert list(arms_of(models).values()) == arms

    def test_the_mean_the_least_and_the_most(self):
        skews = {"a-0": 0.5, "a-1": 0.25, "a-2": 0.75, "b-0": 9.0}
        rows = [row(model, skew) for model, skew in skews.items()]
        rows += [row(model, skew / 2, method="x") for model, skew in skews.items()]
        found = table_of(*rows)
        assert found.seeded
        assert found.spread("a", PLAIN, SKEW) == Spread(0.5, 0.25, 0.75, 3, pytest.approx(0.1))
        assert found.spread("a", "x", SKEW) == Spread(0.25, 0.125, 0.375, 3, pytest.approx(0.1))
        assert found.spread("b", PLAIN, SKEW) == Spread(9.0, 9.0, 9.0, 1, pytest.approx(0.1))

    def test_none_where_any_of_them_has_none(self):
        failed = ComparedRow(model="a-1", method="x", failure="no")
        found = table_of(row("a-0"), row("a-1"), row("a-0", method="x"), failed)
        assert found.spread("a", PLAIN, SKEW) is not None
        assert found.spread("a", "x", SKEW) is None
        assert found.spread("a", "y", SKEW) is None and found.spread("b", PLAIN, SKEW) is None
        assert found.spread("a", PLAIN, Column("ndkl", "gender: all")) is None

    def test_one_seed_of_each_arm_is_no_spread(self):
        assert not table_of(row("a-0"), row("b-0"), row("a-0", method="x")).seeded
        assert not table_of(row("a"), row("b")).seeded


class TestTable:
    def comparison(self) -> Comparison:
        plain, moved = run("m-0", 0.5, 0.75), run("m-0 + x", 0.25, 0.5)
        changes = [each for each in compare_runs(plain, moved).headlines if each.better != "higher"]
        return table_of(
            ComparedRow(model="m-0", figures=plain.result.headlines),
            ComparedRow(
                model="m-0",
                method="x",
                source="118 images",
                fit_seconds=1.5,
                figures=moved.result.headlines,
                changes=tuple(changes),
                undefined={"race": "nothing is left"},
                seen=7,
            ),
            ComparedRow(model="m-0", method="y", failure="label is missing"),
        )

    def test_a_row_for_each_headline_and_one_for_a_failure(self):
        found = self.comparison().table()
        assert dict(found.schema) == SCHEMA
        assert found["method"].to_list() == [PLAIN] * 3 + ["x"] * 3 + ["y"]
        assert found["value"].to_list() == [0.5, 1.0, 0.75, 0.25, 0.5, 0.5, None]
        assert found["source"].to_list() == [None] * 3 + ["118 images"] * 3 + [None]
        assert found["fit_seconds"].to_list() == [None] * 3 + [1.5] * 3 + [None]
        assert found["change"].to_list() == [None] * 3 + [-0.25, -0.5, None, None]
        moved = found.row(3, named=True)
        assert moved["change_low"] <= -0.25 <= moved["change_high"]
        assert moved["null_mean"] == pytest.approx(0.1) and moved["p_value"] is not None
        assert set(found.row(6, named=True).values()) == {"m-0", "y", None}

    def test_a_failure_may_come_first(self):
        failed = ComparedRow(model="a", method="x", failure="no")
        found = table_of(failed, row("a")).table()
        assert dict(found.schema) == SCHEMA and found["images"].to_list() == [None, 500, 500, 500]

    def test_nothing_at_all_has_the_same_columns(self):
        assert dict(table_of().table().schema) == SCHEMA

    def test_it_comes_back_from_its_files(self, tmp_path: Path):
        made = self.comparison()
        made.save(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "comparison.csv",
            "comparison.json",
        ]
        kept = (tmp_path / "comparison.json").read_bytes()
        found = Comparison.model_validate_json(kept)
        assert found == made
        table = pl.read_csv(tmp_path / "comparison.csv", schema=SCHEMA)
        assert table.equals(made.table())
        made.save(tmp_path)
        assert (tmp_path / "comparison.json").read_bytes() == kept

    def test_figures_that_numpy_made_come_back_too(self, tmp_path: Path):
        draws = draws_of("able", {"ABLE: all": np.float64(1 / 3)}, null=None)
        made = table_of(ComparedRow(model="m", figures=run_of("m", [draws]).result.headlines))
        made.save(tmp_path)
        content = (tmp_path / "comparison.json").read_text()
        found = Comparison.model_validate_json(content)
        assert found == made and found.rows[0].figures[0].value == 1 / 3
