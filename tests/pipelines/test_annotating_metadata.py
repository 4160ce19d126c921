"""Tables of metadata through the stages: annotated as tars are, refused where somebody looks."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.errors import InputError
from pipelines.annotators.making import check_shards
from pipelines.beam import BeamSettings
from pipelines.embed_shards import EmbedSettings, embed
from pipelines.record import read_run
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings, SolveSettings
from pipelines.shards import find_shards
from pipelines.stages import annotate, apply, count, solve
from pipelines.tables import committed, read_all, read_commit
from tests.pipelines.test_annotation import kill_when
from vision.calibrated import Platt
from vision.heads import Head
from vision.thresholds import Thresholds

Row = dict[str, Any]
LIES = ("key", "offset", "length")  # where a sample lies, which is not the same in a table

COLUMNS = pa.schema(
    {
        "uid": pa.string(),
        "url": pa.string(),
        "text": pa.string(),
        "face_bboxes": pa.list_(pa.list_(pa.float64())),
        "gender": pa.string(),
        "faces": pa.struct({"child": pa.float64()}),
    }
)


@pytest.fixture(scope="module")
def with_faces(catalogue_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The catalogue of the other tests, and a person wherever DataComp's metadata has a face."""
    path = tmp_path_factory.mktemp("faces") / "catalogue.yaml"
    path.write_text(
        catalogue_path.read_text()
        + "person: {terms: [person], field: {path: face_bboxes, filled: true}}\n"
    )
    return str(path)


@pytest.fixture(scope="module")
def rows(people: Callable[[int], list]) -> list[Row]:
    """240 pairs, most of people at work, as rows of metadata with fields of the catalogue."""
    made = []
    for number, members in enumerate(people(240)):
        content = dict(members)
        row = json.loads(content[f"{number:06d}.json"])
        row["text"] = content[f"{number:06d}.txt"].decode() if number % 7 else "an old kitchen"
        row["url"] = f"https://pictures.example/{number}.jpg"
        row["face_bboxes"] = [[0.1, 0.2, 0.3, 0.4]] * (number % 3)
        made.append(row)
    return made


def write_tables(folder: Path, rows: Sequence[Row], tables: int, **more: pa.DataType) -> None:
    """Deal rows out to tables as `write_shards` deals pairs out to tars."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([*COLUMNS, *pa.schema(more)])
    for number in range(tables):
        table = pa.Table.from_pylist(list(rows[number::tables]), schema)
        pq.write_table(table, folder / f"{number:05d}.parquet", row_group_size=50)


@pytest.fixture
def settings(tmp_path: Path, with_faces: str) -> AnnotateSettings:
    return AnnotateSettings(
        shards=(str(tmp_path / "metadata" / "*.parquet"),),
        catalogue=with_faces,
        run=str(tmp_path / "run"),
        annotators=("captions", "fields"),
    )


def annotations(run: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((Path(run) / "annotations").iterdir())}


def without_places(folder: str) -> pl.DataFrame:
    return read_all(folder).drop(LIES)


def drawn(run: str, catalogue: str) -> pl.DataFrame:
    """Count, solve and apply; the uids and their copies."""
    count(CountSettings(run=run, catalogue=catalogue))
    solve(SolveSettings(run=run, catalogue=catalogue, eta=0.6, cap=2.0))
    apply(ApplySettings(run=run, catalogue=catalogue, policy=f"{run}/policy.json"))
    return read_all(f"{run}/manifest").select("uid", "copies")


def test_metadata_alone_gives_the_annotations_and_the_manifest_of_the_tars(
    tmp_path: Path,
    settings: AnnotateSettings,
    rows: list[Row],
    pair: Callable[..., list],
    write_shards: Callable[..., list],
) -> None:
    write_tables(tmp_path / "metadata", rows, 4)
    pairs = [pair(f"{number:06d}", row["text"], row) for number, row in enumerate(rows)]
    write_shards(tmp_path / "tars", pairs, 4)
    record = annotate(settings)
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (240, 240, 0, 0)
    by_tars = settings.model_copy(
        update={"shards": (str(tmp_path / "tars"),), "run": str(tmp_path / "by tars")}
    )
    annotate(by_tars)
    found, told = (without_places(f"{each.run}/annotations") for each in (settings, by_tars))
    assert found.equals(told)
    assert set(found["person:source"]) == {"captions", "fields", None}
    assert found["url_sha256"].null_count() == 0
    table = read_all(f"{settings.run}/annotations")
    assert table["length"].to_list() == [0] * 240
    assert table["offset"].to_list() == [*range(60)] * 4
    assert table["key"].equals(table["uid"].rename("key"))
    mine, its = (drawn(each.run, settings.catalogue) for each in (settings, by_tars))
    assert mine.equals(its) and 0 < mine["copies"].sum() < 240


def test_processes_and_a_second_run_give_the_same_bytes(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", rows, 5)
    annotate(settings)
    parallel = settings.model_copy(
        update={"run": str(tmp_path / "parallel"), "beam": BeamSettings(processes=2)}
    )
    annotate(parallel)
    assert annotations(parallel.run) == annotations(settings.run)


def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", rows * 20, 80)
    whole = settings.model_copy(update={"run": str(tmp_path / "whole")})
    annotate(whole)
    kill_when(settings, 3)
    there = [name for name in annotations(settings.run) if name.endswith(".json")]
    assert 3 <= len(there) < 80
    record = annotate(settings)
    assert (record.rows_in, record.kept) == (4800, 4800)
    made = annotations(settings.run)
    assert {name: made[name] for name in annotations(whole.run)} == annotations(whole.run)


def test_only_a_changed_table_is_annotated_again(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", rows, 2)
    annotate(settings)
    table = tmp_path / "run/annotations/00000.parquet"
    before = table.stat().st_mtime_ns
    changed = tmp_path / "metadata/00001.parquet"
    pq.write_table(pa.Table.from_pylist(rows[:10], COLUMNS), changed)
    os.utime(changed, (1.0, 1.0))
    assert annotate(settings).kept == 130
    assert table.stat().st_mtime_ns == before


def test_tars_and_tables_in_one_run(
    tmp_path: Path,
    settings: AnnotateSettings,
    rows: list[Row],
    pair: Callable[..., list],
    write_shards: Callable[..., list],
) -> None:
    write_tables(tmp_path / "metadata", rows[:120], 1)
    (tmp_path / "metadata/00000.parquet").rename(tmp_path / "metadata/later.parquet")
    pairs = [pair(f"{i:06d}", row["text"], row) for i, row in enumerate(rows[120:])]
    write_shards(tmp_path / "tars", pairs, 2)
    both = (str(tmp_path / "tars"), *settings.shards)
    assert annotate(settings.model_copy(update={"shards": both})).kept == 240
    table = read_all(f"{settings.run}/annotations")
    assert sorted(table["uid"]) == sorted(row["uid"] for row in rows)
    assert [commit.rows for _, commit in committed(f"{settings.run}/annotations")] == [60, 60, 120]
    assert (table["length"] == 0).sum() == 120


# What is set aside, and what never was a sample


DOWNLOADED = {name: pa.string() for name in ("key", "status", "caption", "error_message")}


def downloaded(rows: Sequence[Row], failed: int, broken: int) -> list[Row]:
    """Rows as img2dataset leaves them: some were not downloaded, some have no caption."""
    made = []
    for number, row in enumerate(rows):
        status = "failed_to_download" if number < failed else "success"
        caption = None if failed <= number < failed + broken else row["text"]
        made.append({**row, "key": f"{number:09d}", "status": status, "caption": caption})
    return made


def test_what_was_not_downloaded_is_dropped_and_said(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", downloaded(rows, 100, 1), 1, **DOWNLOADED)
    record = annotate(settings)
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (240, 139, 100, 1)
    assert record.drops == {"not downloaded (failed_to_download)": 100}
    assert read_run(settings.run)["annotate"].drops == record.drops
    commit = read_commit(f"{settings.run}/annotations", "00000")
    assert commit is not None and not commit.damaged
    assert commit.drops == record.drops and commit.failures == {"no caption": 1}
    counted = count(CountSettings(run=settings.run, catalogue=settings.catalogue))
    assert (counted.rows_in, counted.kept, counted.dropped) == (139, 139, 0)


def test_failures_are_a_share_of_what_was_downloaded(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", downloaded(rows, 140, 2), 1, **DOWNLOADED)
    with pytest.raises(InputError, match=r"2 of 100 samples were set aside: 2 x no caption"):
        annotate(settings)
    assert annotate(settings.model_copy(update={"max_failures": 0.02})).kept == 98


def test_a_damaged_table_is_set_aside_whole(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", rows, 2)
    path = tmp_path / "metadata/00001.parquet"
    content = path.read_bytes()
    # The first page of the second row group: rows before it can be read.
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    path.write_bytes(content[:start] + b"\xff" * 40 + content[start + 40 :])
    with pytest.raises(InputError, match=r"1 of 2 shards are damaged .*00001\.parquet: cannot be"):
        annotate(settings)
    folder = f"{settings.run}/annotations"
    assert [(commit.rows, commit.damaged) for _, commit in committed(folder)] == [
        (120, False),
        (0, True),
    ]
    path.write_bytes(content)
    assert annotate(settings).kept == 240


def test_a_table_without_captions_is_set_aside_whole(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    write_tables(tmp_path / "metadata", rows, 1)
    path = tmp_path / "metadata/00000.parquet"
    pq.write_table(pq.read_table(path).drop(["text"]), path)
    with pytest.raises(InputError, match=r"not a table of metadata: it needs uid or key, and one"):
        annotate(settings)


# Pictures


@pytest.mark.parametrize("name", ["pixels", "onnx"])
def test_annotators_that_look_refuse_tables_before_any_work(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row], name: str
) -> None:
    write_tables(tmp_path / "metadata", rows, 1)
    needs: dict[str, dict[str, Any]] = {
        "pixels": {"model": "ViT-B-32", "pretrained": "none.pt", "heads": ("none.json",)},
        "onnx": {"onnx": ("none.yaml",)},
    }
    given = {**settings.model_dump(), "annotators": ("captions", name), **needs[name]}
    wrong = rf"00000\.parquet: a table of metadata has no pictures, and annotator '{name}' looks"
    with pytest.raises(InputError, match=wrong):
        annotate(AnnotateSettings.model_validate(given))
    assert not (tmp_path / "run").exists()
    check_shards(settings, find_shards(settings.shards))  # those that do not look may


def test_embed_refuses_tables_before_any_work(tmp_path: Path, rows: list[Row]) -> None:
    write_tables(tmp_path / "metadata", rows, 1)
    shards = (str(tmp_path / "metadata/*.parquet"),)
    given = EmbedSettings(
        shards=shards, model="ViT-B-32", pretrained="none.pt", out=str(tmp_path / "out")
    )
    with pytest.raises(InputError, match=r"no pictures, and embed looks at them; name the tars"):
        embed(given)
    assert not (tmp_path / "out").exists()


def test_embeddings_lie_beside_the_metadata(
    tmp_path: Path, settings: AnnotateSettings, rows: list[Row]
) -> None:
    """As DataComp ships them, in the order of the rows; a row that fails moves no other."""
    broken = [{**row, "text": None} if i in (0, 50, 51, 200) else row for i, row in enumerate(rows)]
    write_tables(tmp_path / "metadata", broken, 2)
    is_woman = {row["uid"]: bool(i % 5 < 2) for i, row in enumerate(rows)}
    for part in range(2):
        given = [is_woman[row["uid"]] for row in rows[part::2]]
        array = np.array([[1, 0, 0.5] if woman else [0, 1, 0.5] for woman in given])
        np.savez(
            tmp_path / f"metadata/{part:05d}.npz",
            b32_img=array.astype(np.float16),
            b32_txt=np.zeros_like(array, dtype=np.float16),
        )
    clear = Platt(slope=20.0, intercept=0.0)
    head = Head(
        attribute="gender",
        values=("woman", "man"),
        exclusive=True,
        model="clip b32",
        dimension=3,
        weights=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
        bias=(0.0, 0.0),
        calibrations=(clear, clear),
        thresholds=(Thresholds(lower=None, upper=0.9),) * 2,
    )
    head.save(tmp_path / "head.json")
    given = {
        **settings.model_dump(),
        "annotators": ("embeddings",),
        "embeddings": str(tmp_path / "metadata"),
        "embedding_key": "b32_img",
        "heads": (str(tmp_path / "head.json"),),
        "max_failures": 0.1,
    }
    record = annotate(AnnotateSettings.model_validate(given))
    assert (record.kept, record.failures) == (236, {"no caption": 4})
    table = read_all(f"{settings.run}/annotations")
    assert table["gender.woman"].to_list() == [float(is_woman[uid]) for uid in table["uid"]]
