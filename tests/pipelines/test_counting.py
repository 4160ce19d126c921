"""Patterns: equal to a plain count, whatever the shards."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.beam import BeamSettings
from pipelines.counting import merge_patterns, pattern_columns, read_patterns, shard_patterns
from pipelines.record import read_run
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings
from pipelines.stages import annotate, apply, count

People = Callable[[int], list[Any]]
WriteShards = Callable[..., list[Any]]
Row = tuple[Any, ...]


def plain_count(
    run: Path, columns: list[str], copies: dict[str, int] | None = None
) -> Counter[Row]:
    """Patterns of a run's annotations, counted one row at a time."""
    found: Counter[Row] = Counter()
    for path in (run / "annotations").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            pattern = tuple(tuple(row[name]) if name == "labels" else row[name] for name in columns)
            found[pattern] += 1 if copies is None else copies[row["uid"]]
    return +found


def counted(path: Path) -> Counter[Row]:
    """Patterns of a table of patterns; each may stand there only once."""
    found: Counter[Row] = Counter()
    for row in pq.read_table(path).to_pylist():
        number = row.pop("count")
        pattern = tuple(tuple(each) if isinstance(each, list) else each for each in row.values())
        assert pattern not in found
        assert number > 0
        found[pattern] = number
    return found


def copies_of(run: Path) -> dict[str, int]:
    tables = [pq.read_table(path) for path in (run / "manifest").glob("*.parquet")]
    return {row["uid"]: row["copies"] for table in tables for row in table.to_pylist()}


def test_patterns_equal_a_plain_count(
    run: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    record = count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    wanted = plain_count(run, pattern_columns(catalogue))
    assert counted(run / "patterns.parquet") == wanted
    assert wanted.total() == 240
    assert 20 < len(wanted) < 120  # some join many rows
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (240, 240, 0, 0)
    assert read_run(str(run))["count"] == record
    assert set(read_run(str(run))) == {"annotate", "count"}


def test_the_patterns_table_is_read_as_patterns(
    run: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    patterns = read_patterns(str(run / "patterns.parquet"), catalogue)
    table = pq.read_table(run / "patterns.parquet").to_pylist()
    assert patterns.examples == 240
    assert np.array_equal(patterns.counts, [row["count"] for row in table])
    for k, name in enumerate(catalogue.value_names):
        assert patterns.s[:, k].tolist() == [row[name] or 0.0 for row in table]
        assert patterns.observed[:, k].tolist() == [row[name] is not None for row in table]
    ids = [np.flatnonzero(row).tolist() for row in patterns.y.toarray()]
    assert ids == [row["labels"] for row in table]


@pytest.mark.parametrize("shards", [1, 7])
def test_patterns_do_not_depend_on_the_sharding(
    run: Path,
    tmp_path: Path,
    catalogue_path: Path,
    people: People,
    write_shards: WriteShards,
    shards: int,
) -> None:
    pairs = people(240)
    random.Random(5).shuffle(pairs)
    write_shards(tmp_path / "shards", pairs, shards)
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=str(catalogue_path),
            run=str(tmp_path / "other"),
            annotators=("captions", "fields"),
        )
    )
    for folder in (run, tmp_path / "other"):
        count(CountSettings(run=str(folder), catalogue=str(catalogue_path)))
    wanted = (run / "patterns.parquet").read_bytes()
    assert (tmp_path / "other" / "patterns.parquet").read_bytes() == wanted


def test_two_processes_give_the_same_bytes(run: Path, catalogue_path: Path) -> None:
    settings = CountSettings(run=str(run), catalogue=str(catalogue_path))
    count(settings)
    wanted = (run / "patterns.parquet").read_bytes()
    (run / "patterns.parquet").unlink()
    count(settings.model_copy(update={"beam": BeamSettings(processes=2)}))
    assert (run / "patterns.parquet").read_bytes() == wanted


def test_progress_ends_with_all_tables(run: Path, catalogue_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    count(
        CountSettings(run=str(run), catalogue=str(catalogue_path)),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (4, 4)


# What a manifest drew


@pytest.fixture
def drawn_run(run: Path, catalogue_path: Path) -> Path:
    """A run whose manifest was drawn by hand: i mod 4 copies of the i-th sample."""
    apply(ApplySettings(run=str(run), catalogue=str(catalogue_path)))
    for path in (run / "manifest").glob("*.parquet"):
        table = pq.read_table(path)
        numbers = np.arange(len(table), dtype=np.int32) % 4
        column = table.schema.get_field_index("copies")
        pq.write_table(table.set_column(column, table.schema.field(column), [numbers]), path)
    return run


def test_drawn_counts_equal_the_manifests_copies(
    drawn_run: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    settings = CountSettings(run=str(drawn_run), catalogue=str(catalogue_path), drawn=True)
    record = count(settings)
    copies = copies_of(drawn_run)
    assert sum(copies.values()) == 360
    wanted = plain_count(drawn_run, pattern_columns(catalogue), copies)
    assert counted(drawn_run / "drawn.parquet") == wanted
    assert wanted.total() == 360
    assert len(wanted) < len(plain_count(drawn_run, pattern_columns(catalogue)))
    assert not (drawn_run / "patterns.parquet").exists()
    assert record.stage == "count drawn"


def test_a_manifest_of_other_samples_is_refused(drawn_run: Path, catalogue: Catalogue) -> None:
    manifest = drawn_run / "manifest" / "00000.parquet"
    manifest.write_bytes((drawn_run / "manifest" / "00001.parquet").read_bytes())
    with pytest.raises(InputError, match=r"00000\.parquet lists other samples.*run apply again"):
        shard_patterns(
            str(drawn_run / "annotations"),
            "00000",
            pattern_columns(catalogue),
            str(drawn_run / "manifest"),
        )


def test_drawn_without_a_manifest_is_refused(run: Path, catalogue_path: Path) -> None:
    with pytest.raises(InputError, match=r"00000\.parquet is missing; run apply first"):
        count(CountSettings(run=str(run), catalogue=str(catalogue_path), drawn=True))


def test_a_manifest_of_earlier_annotations_is_refused(
    drawn_run: Path, catalogue_path: Path
) -> None:
    marker = drawn_run / "annotations" / "00002.json"
    marker.write_text(marker.read_text().replace('"size": ', '"size": 1'))
    with pytest.raises(InputError, match=r"00002\.parquet was drawn from other annotations"):
        count(CountSettings(run=str(drawn_run), catalogue=str(catalogue_path), drawn=True))


# Refusals


def test_another_catalogue_is_refused(
    run: Path, catalogue: Catalogue, catalogue_path: Path, other_catalogue_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"made with catalogue {catalogue.digest[:12]}"):
        count(CountSettings(run=str(run), catalogue=str(other_catalogue_path)))
    assert not (run / "patterns.parquet").exists()
    count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    changed = catalogue.model_copy(update={"name": "another"})
    changed.__dict__.pop("digest", None)
    with pytest.raises(InputError, match=r"patterns\.parquet: made with catalogue"):
        read_patterns(str(run / "patterns.parquet"), changed)


def test_a_run_without_annotations_is_refused(
    tmp_path: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    with pytest.raises(InputError, match="no committed tables; run the stage that makes them"):
        count(CountSettings(run=str(tmp_path), catalogue=str(catalogue_path)))
    with pytest.raises(InputError, match="no such table; run count first"):
        read_patterns(str(tmp_path / "patterns.parquet"), catalogue)


def test_shards_without_rows_are_passed_over(
    tmp_path: Path, catalogue_path: Path, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(12), 2)
    (tmp_path / "shards" / "00001.tar").write_bytes(b"")
    stage = AnnotateSettings(
        shards=(str(tmp_path / "shards"),),
        catalogue=str(catalogue_path),
        run=str(tmp_path / "run"),
        max_failures=1.0,
    )
    annotate(stage)
    settings = CountSettings(run=str(tmp_path / "run"), catalogue=str(catalogue_path))
    assert count(settings).kept == 6
    (tmp_path / "shards" / "00000.tar").write_bytes(b"")
    annotate(stage)
    with pytest.raises(InputError, match="no annotated samples to count"):
        count(settings)


# Adding up tables

rows = st.tuples(
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.sampled_from([[], [0], [1], [0, 1], [10], [1, 0]]),
    st.integers(1, 2**40),
)


def frame(content: list[Any]) -> pl.DataFrame:
    schema: dict[str, Any] = {"woman": pl.Float32, "labels": pl.List(pl.Int32), "count": pl.Int64}
    return pl.DataFrame(content, schema=schema, orient="row")


@settings(deadline=None)
@given(content=st.lists(rows, min_size=1, max_size=20), data=st.data())
def test_adding_up_depends_on_content_alone(content: list[Any], data: st.DataObject) -> None:
    wanted: Counter[Row] = Counter()
    for value, labels, number in content:
        wanted[value, tuple(labels)] += number
    whole = merge_patterns([frame(content)])
    assert {(value, tuple(labels)): n for value, labels, n in whole.rows()} == wanted
    shuffled = data.draw(st.permutations(content))
    cut = data.draw(st.integers(0, len(content)))
    parts = [frame(shuffled[:cut]), frame(shuffled[cut:])]
    assert merge_patterns([merge_patterns(parts[1:]), parts[0]]).equals(whole)
