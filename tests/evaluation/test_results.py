"""Results: kept, read again, set side by side with those of another model."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evaluation.draws import Draws
from evaluation.resampling import Resampling
from evaluation.results import ProtocolRun, SetUsed, compare_runs, load_result
from m4.errors import InputError

RESAMPLING = Resampling(resamples=200, permutations=150)


def run_of(model: str, shift: float = 0.0, **changes: object) -> ProtocolRun:
    """A run on 500 answers that all models share but for a shift."""
    answers = np.random.default_rng(1).normal(size=(500, 3)) + shift
    table = Draws(
        measure="mean",
        names=("one", "two", "three"),
        observed=answers.mean(axis=0),
        bootstrap=RESAMPLING.sums(answers) / 500,
        null=np.random.default_rng(2).normal(0, 500**-0.5, (150, 3)),
        images=500,
        tail="both",
    )
    given = {
        "draws": [table.mean("all"), table],
        "resampling": RESAMPLING,
        "protocol": "p",
        "title": "A protocol",
        "source": "Someone (2021)",
        "digest": "0",
        "model": model,
        "sets": {"images": SetUsed(name="s", digest="1", images=500)},
        "compat": None,
    }
    return ProtocolRun.of(**{**given, **changes})  # type: ignore[arg-type]


def test_figures_come_back_as_they_were_saved(tmp_path: Path):
    made = run_of("a")
    made.save(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.draws.npz", "a.json"]
    found = ProtocolRun.load(tmp_path / "a.json")
    assert found.result == made.result == load_result(tmp_path / "a.json")
    for kept, own in zip(found.draws, made.draws, strict=True):
        assert (kept.measure, kept.names, kept.images) == (own.measure, own.names, own.images)
        np.testing.assert_array_equal(kept.observed, own.observed)
        np.testing.assert_allclose(kept.bootstrap, own.bootstrap, atol=1e-6)


def test_the_table_has_a_row_for_each_figure_headlines_first(tmp_path: Path):
    made = run_of("a")
    made.save(tmp_path, "a")
    table = pl.read_csv(tmp_path / "a.csv")
    assert table["subject"].to_list() == ["all", "one", "two", "three"]
    assert table["p_fdr"].is_null().to_list() == [True, False, False, False]
    for row in table.iter_rows(named=True):
        assert row["low"] < row["value"] < row["high"]
        assert math.isclose(row["excess"], row["value"] - row["null_mean"])
    assert made.result.value("mean", "two") == table["value"][2]
    with pytest.raises(InputError, match="no mean of four; there are mean, mean of all"):
        made.result.value("mean", "four")


def test_the_same_run_gives_the_same_bytes(tmp_path: Path):
    for name in "ab":
        run_of("m").save(tmp_path / name, "r")
    for kind in ("json", "csv", "draws.npz"):
        one, other = (tmp_path / name / f"r.{kind}" for name in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_a_shift_that_all_answers_share_is_seen_however_they_scatter():
    found = compare_runs(run_of("before"), run_of("after", shift=-0.05))
    assert [each.subject for each in found.headlines] == ["all"]
    assert [each.subject for each in found.details] == ["one", "two", "three"]
    for each in (*found.headlines, *found.details):
        assert each.value == pytest.approx(-0.05)
        assert each.interval is not None
        # Alone each mean is known to +-.09; the resamples are shared, so the shift is exact.
        assert each.interval.high - each.interval.low < 1e-9
        assert each.p_value == pytest.approx(2 / 200)
    same = compare_runs(run_of("before"), run_of("again"))
    assert all(each.value == 0 and each.p_value == 1 for each in same.details)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("protocol", "q"),
        ("digest", "9"),
        ("compat", "oxai"),
        ("sets", {"images": SetUsed(name="s", digest="2", images=500)}),
        ("resampling", RESAMPLING.model_copy(update={"seed": 1})),
    ],
)
def test_runs_that_were_not_measured_alike_are_refused(what: str, other: object):
    with pytest.raises(InputError, match=f"a and b were measured with different {what}"):
        compare_runs(run_of("a"), run_of("b", **{what: other}))


def test_damaged_files_are_named(tmp_path: Path):
    run_of("a").save(tmp_path, "a")
    (tmp_path / "a.draws.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"a\.draws\.npz: cannot be read"):
        ProtocolRun.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"a\.json: not the result of a protocol: .*"):
        load_result(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        load_result(tmp_path / "b.json")
