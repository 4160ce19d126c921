"""Purge: what names attributes of samples goes, what training takes stays, also when killed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines import storage
from pipelines.drifting import DriftSettings, drift
from pipelines.evidence import read_evidence
from pipelines.purging import Purge, PurgeSettings, purge
from pipelines.record import read_run, table_inputs
from pipelines.settings import (
    AnnotateSettings,
    ApplySettings,
    CountSettings,
    CurveSettings,
    SolveSettings,
    VerifyPolicySettings,
)
from pipelines.stages import annotate, apply, count, curve, solve, verify_policy
from pipelines.tables import committed, read_table
from reporting.contents import read_contents
from reporting.page import ReportSettings, report

GONE = {
    "annotations",
    "evidence",
    "truth",
    "gallery",
    "patterns.parquet",
    "drawn.parquet",
    "report.html",
}


@pytest.fixture(scope="module")
def whole(annotated: Path, catalogue_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a policy, two manifests, annotations of a truth and a gallery, and a report.

    The report shows pictures. Not changed.
    """
    run = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(annotated, run)
    shutil.copytree(annotated, run / "truth")
    shutil.copytree(annotated, run / "gallery")
    here: dict[str, Any] = {"run": str(run), "catalogue": str(catalogue_path)}
    count(CountSettings(**here))
    solve(SolveSettings(**here, eta=0.6, cap=2.0))
    apply(ApplySettings(**here, policy=str(run / "policy.json")))
    apply(ApplySettings(**here, manifest="manifest-original"))
    count(CountSettings(**here, drawn=True))
    report(ReportSettings(run=str(run), pictures=True))
    return run


@pytest.fixture
def standing(whole: Path, tmp_path: Path) -> Path:
    """The run, to be purged. What run.json says of the policy is that of this copy."""
    run = Path(shutil.copytree(whole, tmp_path / "standing"))
    record = run / "run.json"
    record.write_text(record.read_text().replace(str(whole), str(run)))
    (run / "patterns.parquet.0123.00001.partition").write_bytes(b"left over")
    (run / "sample.0123.partial").write_bytes(b"left over")
    (run / "failures").mkdir(exist_ok=True)
    (run / "failures" / "kept.parquet").write_bytes(b"keys and reasons")
    return run


def asked(run: Path | str, **changes: Any) -> PurgeSettings:
    return PurgeSettings(run=str(run), **{"yes": True, **changes})


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run by its path in it."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def first_part(path: str) -> str:
    return path.split("/")[0]


# What goes and what stays.


def test_annotations_go_and_all_else_stays(standing: Path) -> None:
    before = contents(standing)
    tables = list(committed(str(standing / "annotations")))
    found = purge(asked(standing))
    after = contents(standing)
    kept = {
        path: content
        for path, content in before.items()
        if first_part(path) not in GONE and not path.endswith((".partial", ".partition"))
    }
    assert {**kept, "run.json": after["run.json"]} == after
    assert {"policy.json", "catalogue.yaml", "evidence.json", "manifest", "failures"} <= {
        first_part(path) for path in after
    }
    assert not any((standing / name).exists() for name in GONE)
    lost = {path: content for path, content in before.items() if path not in after}
    assert sum(part.files for part in found.parts) == len(lost)
    assert sum(part.bytes for part in found.parts) == sum(map(len, lost.values()))
    assert len(tables) == 4


def test_run_json_says_what_was_deleted(standing: Path) -> None:
    tables = list(committed(str(standing / "annotations")))
    before = read_run(str(standing))
    found = purge(asked(standing))
    records = read_run(str(standing))
    record = records.pop("purge")
    assert records == before and record == found.record
    assert record.inputs == table_inputs(tables) == records["apply manifest"].inputs
    assert (record.rows_in, record.dropped, record.kept, record.failed) == (240, 240, 0, 0)
    deleted = record.deleted
    assert deleted is not None and deleted.finished
    assert (deleted.tables, deleted.annotated_with) == (4, tables[0][1].settings)
    assert deleted.files == sum(part.files for part in found.parts)
    assert deleted.bytes == sum(part.bytes for part in found.parts) > 10_000


def test_no_attribute_of_a_sample_is_left(standing: Path, catalogue: Catalogue) -> None:
    """No column of a table, no attribute's name beside a sample's uid, no picture, no caption."""
    attributes = {*catalogue.value_names, "labels", "person", "language", "utility"}
    identity = {"uid", "key", "offset", "length", "copies"}
    some = read_table(str(standing / "annotations"), "00000", ["uid"])["uid"][0].as_py()
    (standing / "failures" / "kept.parquet").unlink()
    assert attributes & columns(standing) and names_both(standing, some, "gender.woman")
    assert pictured(standing) == {"report.html"}
    purge(asked(standing))
    assert columns(standing) == identity
    assert not names_both(standing, some, "gender.woman")
    assert not pictured(standing)


def columns(run: Path) -> set[str]:
    return {name for path in run.rglob("*.parquet") for name in pq.read_schema(path).names}


def pictured(run: Path) -> set[str]:
    """Files with a picture, or with a caption of the shards."""
    marks = (b"data:image/jpeg;base64,", b", number ")
    return {name for name, text in contents(run).items() if any(mark in text for mark in marks)}


def names_both(run: Path, uid: str, attribute: str) -> list[Path]:
    """Files that name an attribute and a sample; strings in parquet are found in its columns."""
    found = []
    for path in (each for each in run.rglob("*") if each.is_file()):
        text = path.read_bytes()
        if path.suffix == ".parquet":
            text = json.dumps(pq.read_table(path).to_pydict(), default=str).encode()
        if uid.encode() in text and attribute.encode() in text:
            found.append(path)
    return found


def test_without_yes_nothing_changes(standing: Path) -> None:
    before = contents(standing)
    shown = purge(asked(standing, yes=False))
    assert contents(standing) == before and shown.record is None
    names = {part.name for part in shown.parts}
    assert names == GONE | {"*.partial", "*.partition"}
    assert purge(asked(standing)).parts == shown.parts


def test_linked_annotations_go_where_they_lie(standing: Path, tmp_path: Path) -> None:
    """And a purge that was killed between the folder and the link is finished by the next."""
    elsewhere = tmp_path / "elsewhere"
    (standing / "annotations").rename(elsewhere)
    (standing / "annotations").symlink_to(elsewhere)
    purge(asked(standing))
    assert not elsewhere.exists() and not (standing / "annotations").is_symlink()
    (standing / "annotations").symlink_to(elsewhere)
    purge(asked(standing))
    assert not (standing / "annotations").is_symlink()


def test_on_remote_storage(standing: Path, shelf: Callable[[Path], str]) -> None:
    local = Path(shutil.copytree(standing, standing.with_name("local")))
    record = local / "run.json"
    record.write_text(record.read_text().replace(str(standing), str(local)))
    far, near = purge(asked(shelf(standing))), purge(asked(local))
    assert far.parts == near.parts
    assert contents(standing).keys() == contents(local).keys()
    with pytest.raises(InputError, match="annotations were purged"):
        list(committed(shelf(standing / "annotations")))


# What is refused.


def refused(run: Path, message: str, **changes: Any) -> None:
    """Nothing is deleted, with or without yes."""
    before = contents(run)
    for yes in (False, True):
        with pytest.raises(InputError, match=message):
            purge(asked(run, yes=yes, **changes))
    assert contents(run) == before


def test_a_run_without_a_manifest(standing: Path) -> None:
    refused(standing, "no manifest 'another' was drawn; run apply first", manifest="another")


def test_a_manifest_that_misses_a_shard(standing: Path) -> None:
    (standing / "manifest" / "00002.json").unlink()
    refused(standing, r"00002\.parquet is missing; run apply first")


def test_a_manifest_whose_table_is_gone(standing: Path) -> None:
    (standing / "manifest" / "00002.parquet").unlink()
    refused(standing, r"00002\.parquet: cannot be read")


def test_a_manifest_that_was_cut(standing: Path) -> None:
    path = standing / "manifest" / "00001.parquet"
    pq.write_table(pq.read_table(path)[:-1], path)
    refused(standing, r"00001\.parquet was drawn from other annotations")


def test_a_shard_that_was_annotated_since(standing: Path) -> None:
    for suffix in (".json", ".parquet"):
        path = standing / "annotations" / f"00003{suffix}"
        shutil.copy(path, path.with_name(f"00004{suffix}"))
    refused(standing, "drawn from other annotations than these 5 tables; run apply again")


def test_annotations_that_were_made_anew(standing: Path, catalogue_path: Path) -> None:
    again(standing, catalogue_path, annotators=("captions",))
    refused(standing, "drawn from other annotations than these 4 tables; run apply again")


def test_a_policy_that_is_gone(standing: Path) -> None:
    (standing / "policy.json").unlink()
    refused(standing, r"policy\.json: gone, but manifest 'manifest' was drawn with this policy")
    found = purge(asked(standing, manifest="manifest-original"))  # drawn with none
    assert found.record is not None


def test_annotations_that_never_were(standing: Path) -> None:
    shutil.rmtree(standing / "annotations")
    refused(standing, "no annotations, and none are on record as purged")


def again(run: Path, catalogue_path: Path, **changes: Any) -> None:
    """Annotate the run's shards once more."""
    shards = read_run(str(run))["annotate"].settings["shards"]
    given = {"shards": shards, "catalogue": str(catalogue_path), "run": str(run), **changes}
    annotate(AnnotateSettings.model_validate(given))


# Killed, and run again.


@pytest.mark.parametrize("removals", [0, 1, 3, 6, 9, 12, 20, 25, 40])
def test_a_purge_that_was_killed_is_finished_by_the_next(
    standing: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    """Killed after any number of files: the same is gone and on record in the end."""
    wanted = Path(shutil.copytree(standing, standing.with_name("wanted")))
    record = wanted / "run.json"
    record.write_text(record.read_text().replace(str(standing), str(wanted)))
    whole = purge(asked(wanted)).record
    with monkeypatch.context() as patched:
        kill_after(removals, patched)
        with pytest.raises(KeyboardInterrupt):
            purge(asked(standing))
    begun = read_run(str(standing))["purge"]
    assert begun.deleted is not None and not begun.deleted.finished
    if (
        len(list((standing / "annotations").glob("*.parquet"))) < 4
    ):  # what is left is no smaller data set to the other stages
        with pytest.raises(InputError, match=r"cannot be read|purged"):
            count(CountSettings(run=str(standing), catalogue=str(catalogue_path)))
    finished = purge(asked(standing)).record
    assert finished is not None and whole is not None
    same = {"stage", "inputs", "rows_in", "dropped", "deleted"}
    assert finished.model_dump(include=same) == whole.model_dump(include=same)
    assert contents(standing).keys() == contents(wanted).keys()


def kill_after(removals: int, patched: pytest.MonkeyPatch) -> None:
    """Interrupt the removal of the next file of the run after so many."""
    left = [removals]
    real = os.unlink

    def unlink(path: Any, *args: Any, **options: Any) -> None:
        if "run.json" not in str(path):  # whose temporary file is removed if it is still there
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        real(path, *args, **options)

    patched.setattr("os.unlink", unlink)


def test_what_was_killed_may_be_annotated_again(
    standing: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        kill_after(25, patched)
        with pytest.raises(KeyboardInterrupt):
            purge(asked(standing))
    again(standing, catalogue_path, annotators=("captions",))
    refused(standing, "drawn from other annotations than these 4 tables")


def test_an_evaluation_later_is_purged_too(standing: Path, whole: Path) -> None:
    """It annotates its gallery again; the entry then counts both."""
    first = purge(asked(standing)).record
    shutil.copytree(whole / "gallery", standing / "gallery")
    second = purge(asked(standing))
    assert [part.name for part in second.parts] == ["gallery"]
    assert first is not None and second.record is not None
    one, both = first.deleted, second.record.deleted
    assert one is not None and both is not None and both.finished
    assert both.files == one.files + second.parts[0].files
    assert both.bytes == one.bytes + second.parts[0].bytes
    assert (second.record.inputs, second.record.rows_in) == (first.inputs, first.rows_in)
    assert not (standing / "gallery").exists()


# Afterwards.


@pytest.fixture
def purged(standing: Path) -> Path:
    assert isinstance(purge(asked(standing)), Purge)
    return standing


def test_what_takes_annotations_says_that_they_were_purged(
    purged: Path, catalogue_path: Path
) -> None:
    here: dict[str, Any] = {"run": str(purged), "catalogue": str(catalogue_path)}
    policy = str(purged / "policy.json")
    for attempt in (
        lambda: count(CountSettings(**here)),
        lambda: count(CountSettings(**here, drawn=True)),
        lambda: solve(SolveSettings(**here)),
        lambda: solve(SolveSettings(**here, method="passes")),
        lambda: curve(CurveSettings(**here)),
        lambda: apply(ApplySettings(**here, policy=policy)),
        lambda: verify_policy(VerifyPolicySettings(**here)),
        lambda: drift(DriftSettings(**here, policy=policy)),
        lambda: read_contents(purged),
    ):
        with pytest.raises(InputError, match=r"the annotations were purged, as run\.json says"):
            attempt()


def test_what_takes_the_manifest_goes_on(purged: Path, whole: Path) -> None:
    stems = [stem for stem, _ in committed(str(purged / "manifest"))]
    assert stems == [f"{i:05d}" for i in range(4)]
    for stem in stems:
        found = read_table(str(purged / "manifest"), stem)
        assert found == read_table(str(whole / "manifest"), stem)
    assert read_evidence(str(purged / "evidence.json")).terms


def test_after_annotating_again_it_is_as_ever(purged: Path, catalogue_path: Path) -> None:
    again(purged, catalogue_path, annotators=("captions", "fields"))
    here: dict[str, Any] = {"run": str(purged), "catalogue": str(catalogue_path)}
    with pytest.raises(InputError, match="no such table; run count first"):
        solve(SolveSettings(**here))
    count(CountSettings(**here))
    assert storage.exists(str(purged / "patterns.parquet"))
    assert purge(asked(purged)).record is not None  # the same annotations as before
    again(purged, catalogue_path, annotators=("captions",))
    refused(purged, "drawn from other annotations than these 4 tables")


def test_a_run_that_was_never_purged_says_what_it_always_did(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no committed tables; run the stage that makes them"):
        list(committed(str(tmp_path / "annotations")))
