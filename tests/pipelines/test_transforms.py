"""The transforms as another pipeline would use them, and the room's public face."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that

import pipelines
from m4.catalogue import Catalogue
from pipelines import AnnotateShards, ApplyPolicy, ApplySettings, CountPatterns, find_shards
from pipelines.counting import pattern_columns, shard_patterns
from pipelines.shards import ShardRef
from pipelines.transforms import _MergePatterns


def run(transform: beam.PTransform, check: Callable[[list[object]], None]) -> None:
    """Run a transform alone and check its output."""
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        assert_that(pipeline | transform, check)


def nothing(found: list[object]) -> None:
    assert not found, f"image bytes or rows went through Beam: {found}"


def test_annotate_shards_writes_tables_and_passes_nothing_on(
    tmp_path: Path, annotated: Path, catalogue: Catalogue
) -> None:
    shards = tuple(find_shards(str(annotated.parent / "shards")))
    out = tmp_path / "tables"
    run(AnnotateShards(shards, str(out), catalogue, ("captions", "fields"), "mine"), nothing)
    for shard in shards:
        made = (out / f"{shard.stem}.parquet").read_bytes()
        assert made == (annotated / "annotations" / f"{shard.stem}.parquet").read_bytes()
        assert json.loads((out / f"{shard.stem}.json").read_text())["settings"] == "mine"


def test_the_largest_shards_come_first(
    tmp_path: Path,
    catalogue: Catalogue,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., list[ShardRef]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, pairs in [("a", 1), ("b", 40), ("c", 20), ("d", 20)]:
        write_shards(tmp_path / name, people(pairs), 1)
        (tmp_path / name / "00000.tar").rename(tmp_path / f"{name}.tar")
    shards = find_shards(str(tmp_path))
    given: list[list[str]] = []
    create = beam.Create

    def watched(shards: list[ShardRef]) -> beam.PTransform:
        given.append([shard.stem for shard in shards])
        return create(shards)

    monkeypatch.setattr(beam, "Create", watched)
    job = AnnotateShards(tuple(shards[::-1]), str(tmp_path), catalogue, ("captions",), "")
    run(job, nothing)
    assert given[0] == ["b", "c", "d", "a"]


def test_count_patterns_adds_up_all_tables(
    tmp_path: Path, annotated: Path, catalogue: Catalogue
) -> None:
    output = tmp_path / "patterns.parquet"
    annotations = str(annotated / "annotations")
    stems = tuple(f"0000{i}" for i in range(4))
    job = CountPatterns(stems, annotations, None, catalogue, str(output))
    run(job, lambda found: None)
    table = pq.read_table(output)
    assert sum(table["count"].to_pylist()) == 240
    assert table.schema.metadata[b"catalogue"].decode() == catalogue.digest


def test_accumulators_without_tables_add_nothing(annotated: Path, catalogue: Catalogue) -> None:
    annotations, columns = str(annotated / "annotations"), pattern_columns(catalogue)
    tables = [shard_patterns(annotations, f"0000{i}", columns) for i in range(3)]
    merge = _MergePatterns()
    empty = merge.create_accumulator()
    one = merge.add_input(merge.create_accumulator(), tables[0])
    two = merge.add_input(merge.add_input(merge.create_accumulator(), tables[1]), tables[2])
    assert merge.merge_accumulators([empty, empty]) == []
    joined = merge.extract_output(merge.merge_accumulators([empty, two, one]))
    assert joined["count"].sum() == 180
    assert joined.equals(merge.extract_output(merge.merge_accumulators([one, two])))


def test_apply_policy_writes_a_manifest_of_each_table(
    tmp_path: Path, annotated: Path, catalogue: Catalogue
) -> None:
    settings = ApplySettings(run="", catalogue="")
    annotations = str(annotated / "annotations")
    job = ApplyPolicy(
        ("00000", "00003"), annotations, str(tmp_path), catalogue, None, settings, "mine"
    )
    run(job, lambda found: None)
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == [
        *("00000.parquet", "00003.parquet")
    ]
    assert set(pq.read_table(tmp_path / "00003.parquet")["copies"].to_pylist()) == {1}


def test_every_public_name_is_there() -> None:
    assert len(pipelines.__all__) > 15
    for name in pipelines.__all__:
        assert getattr(pipelines, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'annotates'"):
        _ = pipelines.annotates


def test_beam_is_not_imported_before_it_is_needed() -> None:
    """The training loader reads shards and tables, and must not wait for Beam."""
    script = (
        "import sys, pipelines\n"
        "from pipelines import annotate, apply, count, read_samples, solve, BeamSettings\n"
        "import pipelines.tables\n"
        "loaded = {'apache_beam', 'torch', 'cvxpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
