"""Results: kept, read again, set side by side with those of another model."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.draws import Draws
from evaluation.resampling import Resampling
from evaluation.results import (
    Conditions,
    ProtocolRun,
    SetUsed,
    compare_runs,
    load_result,
)
from m4.errors import InputError

RESAMPLING = Resampling(resamples=200, permutations=150)


def conditions_of(model: str, **changes: object) -> Conditions:
    given = {
        "resampling": RESAMPLING,
        "protocol": "p",
        "title": "A protocol",
        "source": "Someone (2021)",
        "digest": "0",
        "model": model,
        "sets": {"images": SetUsed(name="s", digest="1", images=500)},
        "compat": None,
    }
    return Conditions.model_validate({**given, **changes})


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
        better="nearer 0",
        tail="both",
    )
    return ProtocolRun.of(conditions_of(model, **changes), [table.mean("all")], [table])


def test_figures_come_back_as_they_were_saved(tmp_path: Path):
    made = run_of("a")
    made.save(tmp_path, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.draws.npz", "a.json"]
    found = ProtocolRun.load(tmp_path / "a.json")
    assert found.result == load_result(tmp_path / "a.json")
    assert found.result.model_copy(update={"draws_digest": None}) == made.result
    for kept, own in ((found.headlines, made.headlines), (found.tables, made.tables)):
        (kept_one,), (own_one,) = kept, own
        for what in ("measure", "names", "images", "better"):
            assert getattr(kept_one, what) == getattr(own_one, what)
        np.testing.assert_array_equal(kept_one.observed, own_one.observed)
        np.testing.assert_array_equal(kept_one.bootstrap, own_one.bootstrap)


def noisy_run(model: str, seed: int) -> ProtocolRun:
    """A run whose answers differ from those of another seed by noise, image by image."""
    made = run_of(model)
    answers = np.random.default_rng(seed).binomial(1, 0.5, size=(500, 3)).astype(float)
    (table,) = made.tables
    table = replace(table, observed=answers.mean(axis=0), bootstrap=RESAMPLING.sums(answers) / 500)
    return ProtocolRun.of(conditions_of(model), [table.mean("all")], [table])


def test_a_comparison_is_the_same_before_and_after_saving(tmp_path: Path):
    runs = [noisy_run(name, seed) for seed, name in enumerate("ab")]
    for run in runs:
        run.save(tmp_path, run.result.model)
    kept = [ProtocolRun.load(tmp_path / f"{name}.json") for name in "ab"]
    assert compare_runs(*kept) == compare_runs(*runs)


def test_a_table_of_one_figure_is_no_headline(tmp_path: Path):
    made = run_of("a")
    alone = replace(made.headlines[0], measure="recall")
    run = ProtocolRun.of(conditions_of("a"), made.headlines, [alone])
    run.save(tmp_path, "a")
    for each in (run, ProtocolRun.load(tmp_path / "a.json")):
        assert [found.measure for found in each.result.headlines] == ["mean, mean"]
        assert [found.measure for found in each.result.details] == ["recall"]
        compared = compare_runs(each, each)
        assert [found.measure for found in compared.headlines] == ["mean, mean"]
        assert [found.measure for found in compared.details] == ["recall"]


def test_losses_are_said_in_words():
    lost = {"race": {"not split 2": 1200, "race not known": 3}, "age": {"age not known": 1}}
    empty = {"race": ("Other",), "things": tuple("abcdefghij")}
    assert run_of("a", left_out=lost, empty=empty).result.losses == (
        "race: 1,200 left out (not split 2), 3 left out (race not known), no images of Other.",
        "age: 1 left out (age not known).",
        "things: no images of a; b; c; d; e; f; g; h and 2 more.",
    )
    assert run_of("a").result.losses == ()


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


DAMAGED = r"a\.draws\.npz: is damaged, or was not saved with a\.json; run the protocol again"


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_file_of_draws_that_is_cut_off_is_named(tmp_path: Path, kept: int):
    run_of("a").save(tmp_path, "a")
    path = tmp_path / "a.draws.npz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=DAMAGED):
        ProtocolRun.load(tmp_path / "a.json")


@settings(max_examples=30, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_a_file_of_draws_with_a_wrong_byte_is_named(
    tmp_path_factory: pytest.TempPathFactory, place: float, byte: int
):
    folder = tmp_path_factory.mktemp("damaged")
    run_of("a").save(folder, "a")
    content = bytearray((folder / "a.draws.npz").read_bytes())
    content[int(place * len(content))] ^= byte
    (folder / "a.draws.npz").write_bytes(content)
    with pytest.raises(InputError, match=DAMAGED):
        ProtocolRun.load(folder / "a.json")


def test_draws_of_another_run_are_not_taken_for_its_own(tmp_path: Path):
    """Two processes that saved at once under one name may leave a mixed pair."""
    run_of("a").save(tmp_path, "a")
    run_of("b", shift=0.1).save(tmp_path, "b")
    (tmp_path / "b.draws.npz").rename(tmp_path / "a.draws.npz")
    with pytest.raises(InputError, match=DAMAGED):
        ProtocolRun.load(tmp_path / "a.json")


def test_damaged_files_are_named(tmp_path: Path):
    run_of("a").save(tmp_path, "a")
    (tmp_path / "a.draws.npz").unlink()
    with pytest.raises(InputError, match=r"a\.draws\.npz: cannot be read.*run the protocol again"):
        ProtocolRun.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"a\.json: not the result of a protocol: .*"):
        load_result(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        load_result(tmp_path / "b.json")
