"""Annotating whole shards: tables, markers, failures, determinism, resuming."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from pipelines.annotation import AnnotationJob, annotate_shard
from pipelines.annotators.making import Models, make_annotators
from pipelines.beam import BeamSettings
from pipelines.record import read_run
from pipelines.settings import AnnotateSettings, AnnotatorName
from pipelines.shards import Sample, ShardRef, find_shards, read_samples
from pipelines.stages import annotate
from pipelines.tables import FAILURE_SCHEMA, Commit, annotation_schema, read_commit
from pipelines.tars import Member as TarMember
from pipelines.tars import TarReader

Member = tuple[str, bytes]
MakeTar = Callable[..., bytes]
MakePair = Callable[..., list[Member]]
People = Callable[[int], list[list[Member]]]
Write = Callable[[Path, bytes], ShardRef]
WriteShards = Callable[..., list[ShardRef]]


def tables(run: Path) -> dict[str, bytes]:
    """The content of every file of a run's annotations."""
    return {path.name: path.read_bytes() for path in sorted((run / "annotations").iterdir())}


@pytest.fixture
def settings(tmp_path: Path, catalogue_path: Path) -> AnnotateSettings:
    return AnnotateSettings(
        shards=(str(tmp_path / "shards"),),
        catalogue=str(catalogue_path),
        run=str(tmp_path / "run"),
        annotators=("captions", "fields"),
    )


# One shard


@pytest.fixture
def annotate_one(
    tmp_path: Path, catalogue: Catalogue, settings: AnnotateSettings
) -> Callable[..., Commit]:
    """Annotates one shard with annotators of these names into the run directory."""

    def one(shard: ShardRef, *names: AnnotatorName) -> Commit:
        chosen = settings.model_copy(update={"annotators": names})
        job = AnnotationJob(settings.run, catalogue, "first", "digest")
        return annotate_shard(shard, job, make_annotators(chosen, catalogue, Models()))

    return one


def test_a_table_has_a_row_for_each_sample(
    tmp_path: Path,
    catalogue: Catalogue,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
    annotate_one: Callable[..., Commit],
) -> None:
    members = [
        *pair(
            "a",
            "a girl and a cook",
            {"uid": "a" * 32, "faces": {"child": 0.5}, "url": "http://a.org/\u00e9.jpg"},
        ),
        *pair("b", None, {"caption": "a nurse", "gender": "both", "places": ["kitchen"]}),
        *pair("c", "nobody"),
    ]
    shard = write(tmp_path / "00000.tar", tar_bytes(members))
    commit = annotate_one(shard, "captions", "fields")
    table = pq.read_table(tmp_path / "run" / "annotations" / "00000.parquet")
    assert table.schema.equals(annotation_schema(catalogue))
    assert table.schema.metadata == annotation_schema(catalogue).metadata
    found = [each for each in read_samples(shard) if isinstance(each, Sample)]
    assert table.select(["uid", "key", "offset", "length"]).to_pylist() == [
        {
            "uid": each.uid,
            "key": each.key,
            "offset": each.span.offset,
            "length": each.span.length,
        }
        for each in found
    ]
    marks = table.drop_columns(["uid", "key", "offset", "length"]).to_pylist()
    unknown = dict.fromkeys(
        [
            *("gender.woman", "gender.man", "age.child", "gender:source", "age:source"),
            *("person", "person:source", "language"),
        ]
    )
    person = {"language": "en", "person": 1.0}
    assert marks == [
        {
            **person,
            "person:source": "captions",
            "gender.woman": 1.0,
            "gender.man": 0.0,
            "age.child": 1.0,
            "gender:source": "captions",
            "age:source": "captions",
            "labels": [1],
            "label_sources": ["captions"],
            "utility": 1.0,
            "url_sha256": hashlib.sha256(b"http://a.org/\xc3\xa9.jpg").digest()[:16],
        },
        {
            **person,
            "person:source": "fields",
            "gender.woman": 0.5,
            "gender.man": 0.5,
            "age.child": None,
            "gender:source": "fields",
            "age:source": None,
            "labels": [0, 3],
            "label_sources": ["captions", "fields"],
            "utility": 1.0,
            "url_sha256": None,
        },
        {
            **{**unknown, "language": "en", "labels": [], "label_sources": [], "utility": 1.0},
            "url_sha256": None,
        },
    ]
    assert commit == read_commit(str(tmp_path / "run" / "annotations"), "00000")
    assert commit.model_dump() == {
        "shard": shard.path,
        "size": shard.size,
        "modified": shard.modified,
        "settings": "digest",
        "rows": 3,
        "damaged": False,
        "failures": {},
        "drops": {},
        "examples": {},
        "counts": {"urls": 1},
    }


@pytest.mark.parametrize("url", ["", 7, None, ["http://a.org"], "http://a.org/\ud800"])
def test_what_is_no_url_is_null(
    tmp_path: Path,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
    annotate_one: Callable[..., Commit],
    url: object,
) -> None:
    shard = write(tmp_path / "00000.tar", tar_bytes(pair("a", "a photo", {"url": url})))
    commit = annotate_one(shard, "fields")
    table = pq.read_table(tmp_path / "run" / "annotations" / "00000.parquet")
    assert table["url_sha256"].to_pylist() == [None]
    assert (commit.rows, commit.counts) == (1, {"urls": 0})


def test_tables_with_other_columns_are_annotated_again(
    tmp_path: Path,
    settings: AnnotateSettings,
    people: People,
    write_shards: WriteShards,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an earlier version wrote, without a column of today's."""
    write_shards(tmp_path / "shards", people(4), 1)
    less = annotation_schema(load_catalogue(settings.catalogue)).remove(4)
    with monkeypatch.context() as earlier:
        earlier.setattr("pipelines.annotators.making.annotation_schema", lambda _: less)
        annotate(settings)
    before = tables(tmp_path / "run")
    annotate(settings)
    assert tables(tmp_path / "run")["00000.json"] != before["00000.json"]


def test_the_schema_names_types_and_what_may_be_null(catalogue: Catalogue) -> None:
    schema = annotation_schema(catalogue)
    assert schema.metadata == {b"catalogue": catalogue.digest.encode()}
    kinds = {field.name: field.type for field in schema}
    assert kinds["language"] == kinds["person:source"] == pa.string()
    assert kinds["person"] == pa.float32()
    assert kinds["offset"] == kinds["length"] == pa.int64()
    assert kinds["gender.woman"] == kinds["age.child"] == kinds["utility"] == pa.float32()
    assert kinds["labels"] == pa.list_(pa.int32())
    assert kinds["url_sha256"] == pa.binary(16)
    nullable = {field.name for field in schema if field.nullable}
    assert nullable == {
        *catalogue.value_names,
        *("gender:source", "age:source", "person:source", "person", "language", "url_sha256"),
    }


def test_a_commit_counts_failures_by_reason_with_the_first_of_each(
    tmp_path: Path,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
    annotate_one: Callable[..., Commit],
) -> None:
    members = [
        *pair("a"),
        ("b.txt", b"no picture"),
        ("c.txt", b"no picture"),
        *pair("d", None),
        *pair("e", "x", {"faces": {"child": 7}}),
    ]
    shard = write(tmp_path / "00000.tar", tar_bytes(members))
    commit = annotate_one(shard, "fields")
    assert (commit.rows, commit.failed) == (1, 4)
    assert commit.failures == {
        "field faces.child is not a probability": 1,
        "no caption": 1,
        "no image": 2,
    }
    assert commit.examples == {
        "field faces.child is not a probability": "e",
        "no caption": "d",
        "no image": "b",
    }

    lost = pq.read_table(tmp_path / "run" / "failures" / "00000.parquet")
    assert lost.schema.equals(FAILURE_SCHEMA)
    assert lost.to_pylist() == [
        {"shard": "00000.tar", "key": key, "reason": reason}
        for key, reason in [
            ("b", "no image"),
            ("c", "no image"),
            ("d", "no caption"),
            ("e", "field faces.child is not a probability"),
        ]
    ]


def test_what_was_set_aside_before_is_forgotten_once_it_is_mended(
    tmp_path: Path,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
    annotate_one: Callable[..., Commit],
) -> None:
    dead = tmp_path / "run" / "failures" / "00000.parquet"
    annotate_one(write(tmp_path / "00000.tar", tar_bytes([*pair("a"), *pair("b", None)])), "fields")
    assert dead.exists()
    annotate_one(write(tmp_path / "00000.tar", tar_bytes([*pair("a"), *pair("b")])), "fields")
    assert not dead.exists()


def test_a_storage_that_fails_amid_a_shard_sets_it_aside_whole(
    tmp_path: Path,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
    annotate_one: Callable[..., Commit],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = write(tmp_path / "00000.tar", tar_bytes([*pair("a"), *pair("b"), *pair("c")]))
    read, calls = TarReader.read, []

    def failing(tar: TarReader, member: TarMember) -> bytes:
        calls.append(member)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return read(tar, member)

    monkeypatch.setattr(TarReader, "read", failing)
    commit = annotate_one(shard, "fields")
    assert (commit.rows, commit.damaged) == (0, True)
    assert commit.failures == {"unreadable shard: Input/output error": 1}
    monkeypatch.undo()
    assert annotate_one(shard, "fields").rows == 3


# The stage


def test_every_shard_is_annotated_and_recorded(annotated: Path, catalogue: Catalogue) -> None:
    names = [f"0000{i}.{kind}" for i in range(4) for kind in ("json", "parquet")]
    assert sorted(path.name for path in (annotated / "annotations").iterdir()) == names
    found = [pq.read_table(annotated / "annotations" / name) for name in names[1::2]]
    assert [len(table) for table in found] == [60] * 4
    assert {uid for table in found for uid in table["uid"].to_pylist()} == {
        sample.uid
        for shard in find_shards(str(annotated.parent / "shards"))
        for sample in read_samples(shard)
        if isinstance(sample, Sample)
    }
    record = read_run(str(annotated))["annotate"]
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (240, 240, 0, 0)
    assert record.settings["annotators"] == ["captions", "fields"]
    assert record.versions["apache-beam"].startswith("2.")
    assert record.seconds > 0


def test_progress_ends_with_all_shards(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(6), 3)
    seen: list[tuple[int, int]] = []
    annotate(settings, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    assert sorted(seen) == seen


def bad_shards(folder: Path, tar_bytes: MakeTar, pair: MakePair, write: Write) -> None:
    """47 good samples; 3 bad ones in one shard, and the rest of another."""
    good = [pair(f"{i:03d}", "a woman") for i in range(47)]
    broken = [*pair("x1", None), *pair("x2", None), ("x3.txt", b"alone")]
    write(folder / "00000.tar", tar_bytes([*broken, *chain(*good[:30])]))
    whole = tar_bytes([*chain(*good[30:]), *pair("lost")])
    write(folder / "00001.tar", whole.rstrip(b"\0")[:-1])


def test_too_many_failures_end_the_run_after_everything_is_written(
    tmp_path: Path,
    settings: AnnotateSettings,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
) -> None:
    bad_shards(tmp_path / "shards", tar_bytes, pair, write)
    with pytest.raises(InputError) as error:
        annotate(settings.model_copy(update={"annotators": ("captions",)}))
    message = str(error.value)
    # How many samples the truncated shard lost nobody knows, so it counts as a whole shard.
    assert message.startswith("1 of 2 shards are damaged or empty: ")
    assert f"2 x no caption ({tmp_path}/shards/00000.tar: x1)" in message
    assert f"1 x no image ({tmp_path}/shards/00000.tar: x3)" in message
    assert f"1 x truncated shard ({tmp_path}/shards/00001.tar: (the rest" in message
    assert "max_failures (now 0.01)" in message
    assert set(tables(tmp_path / "run")) == {
        *("00000.json", "00000.parquet", "00001.json", "00001.parquet")
    }
    record = read_run(settings.run)["annotate"]
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (52, 47, 0, 5)
    assert record.failures == {
        "next to a damaged stretch": 1,
        "no caption": 2,
        "no image": 1,
        "truncated shard": 1,
    }
    assert record.examples["no caption"] == f"{tmp_path}/shards/00000.tar: x1"
    # What was allowed in time goes through, without another look at the shards.
    allowed = annotate(
        settings.model_copy(update={"annotators": ("captions",), "max_failures": 0.5})
    )
    assert (allowed.rows_in, allowed.failed) == (52, 5)


def test_a_shard_without_samples_counts_as_a_shard(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(400), 3)
    (tmp_path / "shards" / "00003.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 4 shards are damaged or empty") as error:
        annotate(settings)
    assert "1 x not a tar: empty file" in str(error.value)
    assert "00003.tar" in str(error.value)
    assert read_run(settings.run)["annotate"].kept == 400


def test_a_shard_that_gave_nothing_is_tried_again(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    """Its size and time are the same: what was wrong was the storage, and is over."""
    write_shards(tmp_path / "shards", people(20), 2)
    shard = tmp_path / "shards" / "00001.tar"
    content, at = shard.read_bytes(), shard.stat().st_mtime_ns
    replace_by_garbage(shard)
    with pytest.raises(InputError, match="1 of 2 shards are damaged or empty"):
        annotate(settings)
    shard.write_bytes(content)
    os.utime(shard, ns=(at, at))
    record = annotate(settings)
    assert (record.rows_in, record.kept, record.failed) == (20, 20, 0)


def test_the_catalogue_is_kept_in_the_run_directory(
    settings: AnnotateSettings, people: People, write_shards: WriteShards, tmp_path: Path
) -> None:
    write_shards(tmp_path / "shards", people(4), 1)
    annotate(settings)
    kept = Path(settings.run) / "catalogue.yaml"
    assert load_catalogue(kept).digest == load_catalogue(settings.catalogue).digest


def test_unusable_settings_are_refused_before_any_work(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(2), 1)
    changes: list[tuple[dict[str, object], str]] = [
        ({"catalogue": str(tmp_path / "none.yaml")}, "no such file"),
        ({"shards": (str(tmp_path / "none"),)}, "no shards"),
        ({"beam": BeamSettings(runner="DaskRunner")}, "refused"),
    ]
    for change, wrong in changes:
        with pytest.raises(InputError, match=wrong):
            annotate(settings.model_copy(update=change))
        assert not (tmp_path / "run").exists()


# The same bytes, always


def test_two_processes_and_a_second_run_give_the_same_bytes(
    annotated: Path, tmp_path: Path, catalogue_path: Path
) -> None:
    for name, processes in (("again", 1), ("parallel", 2)):
        annotate(
            AnnotateSettings(
                shards=(str(annotated.parent / "shards"),),
                catalogue=str(catalogue_path),
                run=str(tmp_path / name),
                annotators=("captions", "fields"),
                beam=BeamSettings(processes=processes),
            )
        )
        assert tables(tmp_path / name) == tables(annotated)


def test_remote_shards_and_runs_give_the_same_tables(
    tmp_path: Path, annotated: Path, catalogue_path: Path, shelf: Callable[[Path], str]
) -> None:
    annotate(
        AnnotateSettings(
            shards=(shelf(annotated.parent / "shards"),),
            catalogue=str(catalogue_path),
            run=shelf(tmp_path / "run"),
            annotators=("captions", "fields"),
        )
    )
    made, wanted = tables(tmp_path / "run"), tables(annotated)
    assert made.keys() == wanted.keys()
    assert all(made[name] == wanted[name] for name in made if name.endswith(".parquet"))
    assert read_run(shelf(tmp_path / "run"))["annotate"].kept == 240


# Resuming


def replace_by_garbage(path: Path) -> None:
    """Make a shard unreadable without a change of its size and time."""
    status = path.stat()
    path.write_bytes(b"?" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_unchanged_shards_are_not_read_again(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(30), 3)
    annotate(settings)
    before = tables(tmp_path / "run")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/annotations").iterdir()}
    for i in range(3):
        replace_by_garbage(tmp_path / "shards" / f"0000{i}.tar")
    record = annotate(settings)
    assert (record.rows_in, record.kept) == (30, 30)
    assert tables(tmp_path / "run") == before
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_only_a_changed_shard_is_annotated_again(
    tmp_path: Path,
    settings: AnnotateSettings,
    people: People,
    write_shards: WriteShards,
    tar_bytes: MakeTar,
    write: Write,
) -> None:
    write_shards(tmp_path / "shards", people(30), 3)
    annotate(settings)
    before = tables(tmp_path / "run")
    replace_by_garbage(tmp_path / "shards" / "00000.tar")
    replace_by_garbage(tmp_path / "shards" / "00002.tar")
    write(tmp_path / "shards" / "00001.tar", tar_bytes([*chain(*people(7))]))
    assert annotate(settings).kept == 27
    after = tables(tmp_path / "run")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"00001.json", "00001.parquet"}


@pytest.mark.parametrize("change", ["catalogue", "annotators"])
def test_other_settings_annotate_again(
    tmp_path: Path,
    settings: AnnotateSettings,
    people: People,
    write_shards: WriteShards,
    other_catalogue_path: Path,
    change: str,
) -> None:
    write_shards(tmp_path / "shards", people(30), 2)
    annotate(settings)
    before = tables(tmp_path / "run")
    if change == "catalogue":
        settings = settings.model_copy(update={"catalogue": str(other_catalogue_path)})
    else:
        settings = settings.model_copy(update={"annotators": ("fields", "captions")})
    annotate(settings)
    after = tables(tmp_path / "run")
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    schema = pq.read_schema(tmp_path / "run" / "annotations" / "00000.parquet")
    wanted = load_catalogue(settings.catalogue).digest
    assert schema.metadata[b"catalogue"].decode() == wanted


def test_a_table_without_its_marker_is_made_again(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(20), 2)
    annotate(settings)
    before = tables(tmp_path / "run")
    folder = tmp_path / "run" / "annotations"
    (folder / "00001.json").unlink()
    (folder / "00001.parquet").write_bytes(b"half a table")
    annotate(settings)
    assert tables(tmp_path / "run") == before


def test_a_marker_that_is_none_is_named(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(2), 1)
    marker = tmp_path / "run" / "annotations" / "00000.json"
    marker.parent.mkdir(parents=True)
    marker.write_text('{"successes": 12}')
    with pytest.raises(InputError, match=r"00000\.json: not a commit marker; delete it"):
        annotate(settings)


ANNOTATE = """
import sys
from pipelines.settings import AnnotateSettings
from pipelines.stages import annotate
annotate(AnnotateSettings.model_validate_json(sys.argv[1]))
"""


def kill_when(settings: AnnotateSettings, committed: int) -> None:
    """Annotate in a process of its own, and kill it as soon as so many shards are committed."""
    folder = Path(settings.run) / "annotations"
    worker = subprocess.Popen([sys.executable, "-c", ANNOTATE, settings.model_dump_json()])
    try:
        while len(list(folder.glob("*.json"))) < committed:
            assert worker.poll() is None, "ended before it could be killed"
            time.sleep(0.002)
    finally:
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL


def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, settings: AnnotateSettings, people: People, write_shards: WriteShards
) -> None:
    shards = write_shards(tmp_path / "shards", people(4800), 80)
    whole = settings.model_copy(update={"run": str(tmp_path / "whole")})
    annotate(whole)
    wanted = tables(tmp_path / "whole")
    for committed in (3, 30):
        kill_when(settings, committed)
        markers = {name for name in tables(tmp_path / "run") if name.endswith(".json")}
        assert committed <= len(markers) < len(shards)
        for name in markers:  # what is committed is whole
            table = name.replace(".json", ".parquet")
            assert tables(tmp_path / "run")[table] == wanted[table]
    record = annotate(settings)
    assert (record.rows_in, record.kept) == (4800, 4800)
    made = tables(tmp_path / "run")
    assert {name: made[name] for name in wanted} == wanted
    assert {Path(name).suffix for name in made.keys() - wanted.keys()} <= {".partial"}


def test_the_emoji_shards_are_annotated(
    tmp_path: Path, shared_data: Path, catalogue_path: Path
) -> None:
    """The perceived gender that the json states, against the table."""
    shard = find_shards(str(shared_data / "emoji" / "noto-00000.tar"))[0]
    record = annotate(
        AnnotateSettings(
            shards=(shard.path,),
            catalogue=str(catalogue_path),
            run=str(tmp_path / "run"),
            annotators=("fields",),
        )
    )
    states = {None: None, "male": (0.0, 1.0), "female": (1.0, 0.0), "both": (0.5, 0.5)}
    wanted = Counter(
        states[each.metadata["gender"]] for each in read_samples(shard) if isinstance(each, Sample)
    )
    table = pq.read_table(tmp_path / "run" / "annotations" / "noto-00000.parquet")
    pairs = zip(table["gender.woman"].to_pylist(), table["gender.man"].to_pylist(), strict=True)
    assert Counter(None if pair == (None, None) else pair for pair in pairs) == wanted
    assert len(wanted) > 2
    assert record.kept == wanted.total()
    marker = json.loads((tmp_path / "run" / "annotations" / "noto-00000.json").read_text())
    assert (marker["shard"], marker["size"]) == (shard.path, shard.size)
