"""Manifests: what the policy's weights and the hash of each uid say, in any order."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.patterns import Patterns
from m4.policy import Policy
from m4.realised import Realised, realised_totals
from m4.sampling import draw_copies
from pipelines.beam import BeamSettings
from pipelines.manifests import Thresholds
from pipelines.record import read_run
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings
from pipelines.stages import annotate, apply, count
from pipelines.tables import check_manifest, committed, read_commit, to_patterns

People = Callable[[int], list[Any]]
WriteShards = Callable[..., list[Any]]
IDENTITY = ["uid", "key", "offset", "length"]


@pytest.fixture
def settings(run: Path, catalogue_path: Path, policy_path: Path) -> ApplySettings:
    return ApplySettings(
        run=str(run), catalogue=str(catalogue_path), policy=str(policy_path), seed=3
    )


def manifest(run: Path, name: str = "manifest") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / name).iterdir())}


def copies_of(run: Path, name: str = "manifest") -> dict[str, int]:
    tables = [pq.read_table(path) for path in (run / name).glob("*.parquet")]
    return {row["uid"]: row["copies"] for table in tables for row in table.to_pylist()}


def weights_of(table: pa.Table, catalogue: Catalogue, policy_path: Path) -> np.ndarray:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    patterns = Patterns.from_frame(frame, catalogue.value_names, len(catalogue.label_names))
    return Policy.load(policy_path).weights(patterns)


def test_copies_are_drawn_from_the_policys_weights(
    run: Path, settings: ApplySettings, catalogue: Catalogue, policy_path: Path
) -> None:
    record = apply(settings)
    seen: list[int] = []
    for i in range(4):
        annotations = pq.read_table(run / "annotations" / f"0000{i}.parquet")
        made = pq.read_table(run / "manifest" / f"0000{i}.parquet")
        assert made.select(IDENTITY).equals(annotations.select(IDENTITY))
        weights = weights_of(annotations, catalogue, policy_path)
        wanted = draw_copies(weights, annotations["uid"].to_pylist(), seed=3)
        assert made["copies"].to_pylist() == wanted.tolist()
        seen += wanted.tolist()
        commit = read_commit(str(run / "manifest"), f"0000{i}")
        assert commit is not None
        assert (commit.rows, commit.failures) == (60, {})
        assert commit.counts["most"] == wanted.max()
        assert commit.counts.keys() == {"used", "copies", "most", "opted_out"}
        assert commit.counts["opted_out"] == 0
        assert commit.counts["used"] == np.count_nonzero(wanted)
        assert commit.counts["copies"] == wanted.sum()
    assert set(seen) == {0, 1, 2}  # all kinds occur, or the test would prove little
    used = np.count_nonzero(seen)
    assert (record.rows_in, record.kept, record.dropped) == (240, used, 240 - used)
    assert read_run(str(run))["apply manifest"] == record


def test_copies_do_not_depend_on_the_sharding(
    run: Path,
    tmp_path: Path,
    settings: ApplySettings,
    people: People,
    write_shards: WriteShards,
) -> None:
    apply(settings)
    pairs = people(240)
    random.Random(1).shuffle(pairs)
    write_shards(tmp_path / "shards", pairs, 3)
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=str(other),
            annotators=("captions", "fields"),
        )
    )
    apply(settings.model_copy(update={"run": str(other)}))
    assert len(copies_of(other)) == 240
    assert copies_of(other) == copies_of(run)


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(run: Path, settings: ApplySettings) -> None:
    apply(settings)
    apply(settings.model_copy(update={"manifest": "parallel", "beam": BeamSettings(processes=2)}))
    assert manifest(run, "parallel") == manifest(run)


def test_without_a_policy_every_sample_is_used_once(run: Path, settings: ApplySettings) -> None:
    record = apply(settings.model_copy(update={"policy": None}))
    assert set(copies_of(run).values()) == {1}
    assert len(copies_of(run)) == 240
    assert (record.kept, record.dropped) == (240, 0)


def test_weights_stand_in_the_manifest_only_where_asked_for(
    run: Path, settings: ApplySettings, catalogue: Catalogue, policy_path: Path
) -> None:
    apply(settings)
    count(CountSettings(run=str(run), catalogue=settings.catalogue))
    apply(settings.model_copy(update={"manifest": "weighted", "weights": True}))
    wanted: list[float] = []
    written: list[float] = []
    for i in range(4):
        plain = pq.read_table(run / "manifest" / f"0000{i}.parquet")
        weighted = pq.read_table(run / "weighted" / f"0000{i}.parquet")
        assert plain.column_names == [*IDENTITY, "copies"]
        assert weighted.column_names == [*IDENTITY, "copies", "weight"]
        assert weighted.drop_columns("weight").equals(plain)
        annotations = pq.read_table(run / "annotations" / f"0000{i}.parquet")
        wanted += weights_of(annotations, catalogue, policy_path).tolist()
        written += weighted["weight"].to_pylist()
    # A level is the mean weight of its examples, of all shards together.
    for level in set(written):
        held = [exact for exact, each in zip(wanted, written, strict=True) if each == level]
        assert level == pytest.approx(np.mean(held))


def test_a_manifest_carries_no_attributes(run: Path, settings: ApplySettings) -> None:
    apply(settings)
    schema = pq.read_schema(run / "manifest" / "00000.parquet")
    assert schema.names == [*IDENTITY, "copies"]
    assert not any(b"gender" in part for pair in (schema.metadata or {}).items() for part in pair)


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 4}])
def test_another_epoch_or_seed_draws_afresh(
    run: Path, settings: ApplySettings, change: dict[str, int]
) -> None:
    apply(settings)
    first = copies_of(run)
    apply(settings.model_copy(update=change))
    second = copies_of(run)
    assert first.keys() == second.keys()
    assert first != second
    apply(settings)
    assert copies_of(run) == first


def test_under_the_manifests_weights_each_label_is_nearly_within_its_tolerance(
    run: Path, settings: ApplySettings, catalogue: Catalogue
) -> None:
    """Planned: with 240 samples in levels of 20, within .06 of it."""
    count(CountSettings(run=str(run), catalogue=settings.catalogue))
    apply(settings.model_copy(update={"weights": True}))
    for r, label in enumerate(catalogue.label_names):
        women: list[float] = []
        weights: list[float] = []
        for path in sorted((run / "annotations").glob("*.parquet")):
            marks = pq.read_table(path).to_pylist()
            drawn = pq.read_table(run / "manifest" / path.name).to_pylist()
            for mark, draw in zip(marks, drawn, strict=True):
                if r in mark["labels"] and mark["gender.woman"] is not None:
                    women.append(mark["gender.woman"])
                    weights.append(draw["weight"])
        assert abs(np.average(women, weights=weights) - 0.5) <= 0.15 + 0.06, label
        if label in ("nurse", "chef"):
            assert abs(np.mean(women) - 0.5) > 0.15, label


# Calibrated thresholds


@pytest.fixture
def calibrated(run: Path, settings: ApplySettings) -> ApplySettings:
    """Settings of a calibrated design, in a run with its patterns counted."""
    count(CountSettings(run=str(run), catalogue=settings.catalogue))
    return settings.model_copy(update={"design": "calibrated"})


def test_the_largest_number_of_copies_is_on_the_marker(
    tmp_path: Path, settings: ApplySettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(240), 1)
    (tmp_path / "shards" / "empty.tar").write_bytes(b"")
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=str(other),
            annotators=("captions", "fields"),
            max_failures=1.0,
        )
    )
    apply(settings.model_copy(update={"run": str(other)}))
    most = {}
    for stem in ("00000", "empty"):
        commit = read_commit(str(other / "manifest"), stem)
        assert commit is not None
        most[stem] = commit.counts["most"]
    assert most == {"00000": max(copies_of(other).values()), "empty": 0}
    assert most["00000"] == 2


def thresholds_of(run: Path, name: str = "manifest") -> Thresholds:
    return Thresholds.model_validate_json((run / f"{name}-thresholds.json").read_bytes())


def realised_of(run: Path, catalogue: Catalogue, policy_path: Path) -> Realised:
    """Measured from the manifest and the annotations, put together."""
    stems = [path.stem for path in sorted((run / "manifest").glob("*.parquet"))]
    folders = (run / "annotations", run / "manifest")
    marks, drawn = (
        pa.concat_tables([pq.read_table(folder / f"{stem}.parquet") for stem in stems])
        for folder in folders
    )
    problem = Policy.load(policy_path).problem
    patterns = to_patterns(marks, catalogue)
    return Realised.of(problem, realised_totals(problem, patterns, drawn["copies"].to_numpy()))


@pytest.mark.parametrize("seed", [0, 1])
def test_calibrated_copies_are_nearer_to_what_was_asked_for(
    run: Path, calibrated: ApplySettings, catalogue: Catalogue, policy_path: Path, seed: int
) -> None:
    """Planned: with 240 samples at least a third less violation than Poisson's, on each seed."""
    calibrated = calibrated.model_copy(update={"seed": seed})
    apply(calibrated.model_copy(update={"design": "poisson"}))
    poisson = realised_of(run, catalogue, policy_path)
    apply(calibrated)
    thresholds = thresholds_of(run)
    assert thresholds.rounds[0] == poisson
    assert realised_of(run, catalogue, policy_path) == thresholds.realised
    assert thresholds.realised.total_violation < poisson.total_violation / 1.5
    assert poisson.total_violation > 0.01


def test_calibrated_copies_are_drawn_with_the_thresholds_beside_the_manifest(
    run: Path, calibrated: ApplySettings, catalogue: Catalogue, policy_path: Path
) -> None:
    apply(calibrated.model_copy(update={"weights": True, "design": "poisson"}))
    poisson = [pq.read_table(run / "manifest" / f"0000{i}.parquet") for i in range(4)]
    apply(calibrated.model_copy(update={"weights": True}))
    thresholds, policy = thresholds_of(run), Policy.load(policy_path)
    planned = copies_of(run)
    for i in range(4):
        annotations = pq.read_table(run / "annotations" / f"0000{i}.parquet")
        made = pq.read_table(run / "manifest" / f"0000{i}.parquet")
        drawn = thresholds.weights(policy.problem, to_patterns(annotations, catalogue))
        wanted = draw_copies(drawn, annotations["uid"].to_pylist(), seed=3)
        assert made["copies"].to_pylist() == wanted.tolist()
        # What is redrawn each epoch is redrawn from the policy: thresholds are for one draw.
        assert made["weight"].equals(poisson[i]["weight"])
        assert np.abs(drawn - weights_of(annotations, catalogue, policy_path)).max() > 0
    assert sum(planned.values()) == thresholds.realised.copies


def test_no_sharding_changes_a_calibrated_copy(
    run: Path,
    tmp_path: Path,
    calibrated: ApplySettings,
    people: People,
    write_shards: WriteShards,
) -> None:
    apply(calibrated)
    pairs = people(240)
    random.Random(2).shuffle(pairs)
    write_shards(tmp_path / "shards", pairs, 3)
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=calibrated.catalogue,
            run=str(other),
            annotators=("captions", "fields"),
        )
    )
    count(CountSettings(run=str(other), catalogue=calibrated.catalogue))
    apply(calibrated.model_copy(update={"run": str(other)}))
    assert copies_of(other) == copies_of(run)
    same, here = thresholds_of(other), thresholds_of(run)
    assert (same.duals, same.rate_dual, same.rounds) == (here.duals, here.rate_dual, here.rounds)


@pytest.mark.slow
def test_two_processes_calibrate_to_the_same_bytes(run: Path, calibrated: ApplySettings) -> None:
    apply(calibrated)
    apply(calibrated.model_copy(update={"manifest": "two", "beam": BeamSettings(processes=2)}))
    assert manifest(run, "two") == manifest(run)
    assert thresholds_of(run, "two") == thresholds_of(run)


def test_calibration_is_not_done_again_and_can_be(
    run: Path, calibrated: ApplySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while manifests were written: the thresholds stand, what is missing is drawn."""
    apply(calibrated)
    wanted, path = manifest(run), run / "manifest-thresholds.json"
    made = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.thresholds.calibrate_thresholds", None)
        (run / "manifest" / "00001.json").unlink()
        apply(calibrated)
    assert manifest(run) == wanted
    path.unlink()
    apply(calibrated)
    assert (path.read_bytes(), manifest(run)) == (made, wanted)
    assert not list(run.glob("*.partial"))
    apply(calibrated.model_copy(update={"seed": 4}))
    assert path.read_bytes() != made
    assert manifest(run) != wanted


def test_poisson_manifests_take_no_patterns(run: Path, settings: ApplySettings) -> None:
    apply(settings)
    assert not (run / "patterns.parquet").exists()
    assert not (run / "manifest-thresholds.json").exists()
    with pytest.raises(InputError, match=r"patterns\.parquet: no such table; run count first"):
        apply(settings.model_copy(update={"design": "calibrated"}))


def test_patterns_of_other_annotations_are_refused(
    run: Path, annotated: Path, calibrated: ApplySettings
) -> None:
    """As many samples, otherwise marked."""
    annotate(
        AnnotateSettings(
            shards=(str(annotated.parent / "shards"),),
            catalogue=calibrated.catalogue,
            run=str(run),
            annotators=("fields", "captions"),
        )
    )
    with pytest.raises(InputError, match=r"patterns\.parquet: counts other samples"):
        apply(calibrated)
    assert not (run / "manifest").exists()


def test_patterns_that_were_not_counted_in_this_run_are_refused(
    run: Path, calibrated: ApplySettings
) -> None:
    """For thresholds and for levels alike; the same patterns, but nobody says of what."""
    (run / "run.json").unlink()
    for how in ({}, {"design": "poisson", "weights": True}):
        with pytest.raises(InputError, match=r"annotations holds; run count again"):
            apply(calibrated.model_copy(update=how))
    assert not (run / "manifest").exists()


def test_what_lies_beside_a_manifest_belongs_to_it(run: Path, calibrated: ApplySettings) -> None:
    """Thresholds and levels of an earlier draw are removed, those of other manifests are not."""
    poisson: dict[str, object] = {"design": "poisson"}
    both = calibrated.model_copy(update={"weights": True})
    apply(both.model_copy(update={"manifest": "other"}))
    for change, wanted in (
        ({}, {"levels", "thresholds"}),
        ({"weights": False}, {"thresholds"}),
        (poisson, {"levels"}),
        ({}, {"levels", "thresholds"}),
        ({**poisson, "policy": None}, set()),
    ):
        apply(both.model_copy(update=change))
        found = {path.stem.removeprefix("manifest-") for path in run.glob("manifest-*.json")}
        assert found == wanted
    assert len(list(run.glob("other-*.json"))) == 2


def test_what_are_no_thresholds_is_refused(run: Path, calibrated: ApplySettings) -> None:
    (run / "manifest-thresholds.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest-thresholds\.json: not thresholds; delete it"):
        apply(calibrated)


# Resuming


def test_what_is_drawn_is_not_drawn_again(run: Path, settings: ApplySettings) -> None:
    apply(settings)
    wanted = manifest(run)
    times = {path: path.stat().st_mtime_ns for path in (run / "manifest").iterdir()}
    (run / "manifest" / "00001.json").unlink()
    (run / "manifest" / "00002.json").unlink()
    (run / "manifest" / "00002.parquet").write_bytes(b"half")
    record = apply(settings)
    assert manifest(run) == wanted
    again = {path.stem for path, at in times.items() if path.stat().st_mtime_ns != at}
    assert again == {"00001", "00002"}
    assert record.rows_in == 240


def test_progress_ends_with_all_shards(settings: ApplySettings) -> None:
    seen: list[tuple[int, int]] = []
    apply(settings, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)


def test_new_annotations_are_drawn_anew(
    run: Path, annotated: Path, settings: ApplySettings, catalogue: Catalogue, policy_path: Path
) -> None:
    """The same shards and catalogue, but other annotators: as many rows, other marks."""
    apply(settings)
    before = copies_of(run)
    annotate(
        AnnotateSettings(
            shards=(str(annotated.parent / "shards"),),
            catalogue=settings.catalogue,
            run=str(run),
            annotators=("fields", "captions"),
        )
    )
    apply(settings)
    assert copies_of(run) != before
    annotations = pq.read_table(run / "annotations" / "00000.parquet")
    weights = weights_of(annotations, catalogue, policy_path)
    wanted = draw_copies(weights, annotations["uid"].to_pylist(), seed=3).tolist()
    assert pq.read_table(run / "manifest" / "00000.parquet")["copies"].to_pylist() == wanted


def test_a_shard_without_samples_has_an_empty_manifest(
    tmp_path: Path,
    settings: ApplySettings,
    people: People,
    write_shards: WriteShards,
) -> None:
    write_shards(tmp_path / "shards", people(8), 1)
    (tmp_path / "shards" / "empty.tar").write_bytes(b"")
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=str(other),
            max_failures=1.0,
        )
    )
    assert apply(settings.model_copy(update={"run": str(other)})).rows_in == 8
    assert pq.read_table(other / "manifest" / "empty.parquet").num_rows == 0


# Refusals


def test_a_manifest_of_other_annotations_is_named(run: Path, settings: ApplySettings) -> None:
    apply(settings)
    folder, tables = run / "manifest", list(committed(str(run / "annotations")))
    check_manifest(str(folder), tables)
    stem, first = tables[0]
    other = [(stem, first.model_copy(update={"size": first.size + 1})), *tables[1:]]
    with pytest.raises(InputError, match=r"00000\.parquet was drawn from other annotations"):
        check_manifest(str(folder), other)
    table = pq.read_table(folder / "00001.parquet")
    pq.write_table(table[:-1], folder / "00001.parquet")
    with pytest.raises(InputError, match=r"00001\.parquet was drawn from other annotations"):
        check_manifest(str(folder), tables)
    (folder / "00000.json").unlink()
    with pytest.raises(InputError, match=r"00000\.parquet is missing; run apply first"):
        check_manifest(str(folder), tables)


def test_a_policy_of_another_catalogue_is_refused(
    run: Path, settings: ApplySettings, other_catalogue_path: Path, catalogue: Catalogue
) -> None:
    with pytest.raises(
        InputError, match=rf"policy\.json: made with catalogue {catalogue.digest[:12]}"
    ):
        apply(settings.model_copy(update={"catalogue": str(other_catalogue_path)}))
    assert not (run / "manifest").exists()


def test_annotations_of_another_catalogue_are_refused(
    run: Path, settings: ApplySettings, other_catalogue_path: Path
) -> None:
    with pytest.raises(InputError, match=r"00000\.parquet: made with catalogue"):
        apply(settings.model_copy(update={"catalogue": str(other_catalogue_path), "policy": None}))
    assert not (run / "manifest").exists()


def test_what_is_no_policy_is_refused(
    run: Path, settings: ApplySettings, catalogue_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such policy; run solve first"):
        apply(settings.model_copy(update={"policy": str(tmp_path / "none.json")}))
    with pytest.raises(InputError, match=r"catalogue\.yaml: not a policy"):
        apply(settings.model_copy(update={"policy": str(catalogue_path)}))


def test_a_run_without_annotations_is_refused(tmp_path: Path, settings: ApplySettings) -> None:
    with pytest.raises(InputError, match="no committed tables"):
        apply(settings.model_copy(update={"run": str(tmp_path / "nothing")}))
