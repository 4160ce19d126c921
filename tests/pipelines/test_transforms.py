"""The transforms as another pipeline would use them, and the room's public face."""

import itertools
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
from pipelines import (
    AnnotateSettings,
    AnnotateShards,
    ApplyPolicy,
    ApplySettings,
    CountPatterns,
    find_shards,
    partitions,
    transforms,
)
from pipelines.annotation import AnnotationJob
from pipelines.counting import merge_patterns, shard_patterns
from pipelines.manifests import ManifestJob
from pipelines.partitions import Partitions
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
    out = tmp_path / "annotations"
    settings = AnnotateSettings(
        shards=("",), catalogue="", run=str(tmp_path), annotators=("captions", "fields")
    )
    job = AnnotationJob(str(tmp_path), catalogue, "first", "mine")
    run(AnnotateShards(shards, job, settings), nothing)
    for shard in shards:
        made = (out / f"{shard.stem}.parquet").read_bytes()
        assert made == (annotated / "annotations" / f"{shard.stem}.parquet").read_bytes()
        assert json.loads((out / f"{shard.stem}.json").read_text())["settings"] == "mine"


def test_counters_say_what_went_on(
    tmp_path: Path,
    catalogue: Catalogue,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., list[ShardRef]],
) -> None:
    shards = write_shards(tmp_path / "shards", people(30), 3)
    (tmp_path / "shards" / "00003.tar").write_bytes(b"no tar at all" * 100)
    found = find_shards(str(tmp_path / "shards"))
    settings = AnnotateSettings(shards=("",), catalogue="", run=str(tmp_path / "run"))
    job = AnnotationJob(settings.run, catalogue, "first", "")
    pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([]))
    _ = pipeline | AnnotateShards(tuple(found), job, settings)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        each.key.metric.name: each.committed
        for each in result.metrics().query()["counters"]
        if each.key.metric.namespace == "annotate"
    }
    assert counters == {
        "shards": 4,
        "damaged shards": 1,
        "bytes": sum(shard.size for shard in shards) + 1300,
        "samples": 30,
        "samples set aside": 1,
    }


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
    settings = AnnotateSettings(shards=("",), catalogue="", run=str(tmp_path))
    job = AnnotationJob(str(tmp_path), catalogue, "first", "")
    run(AnnotateShards(tuple(shards[::-1]), job, settings), nothing)
    assert given[0] == ["b", "c", "d", "a"]


def test_count_patterns_adds_up_all_tables(
    tmp_path: Path, annotated: Path, catalogue: Catalogue
) -> None:
    output = tmp_path / "patterns.parquet"
    annotations = str(annotated / "annotations")
    stems = tuple(f"0000{i}" for i in range(4))
    job = CountPatterns(stems, annotations, None, catalogue, str(output), partitions=4)
    run(job, lambda found: None)
    assert [path.name for path in tmp_path.iterdir()] == ["patterns.parquet"]
    table = pq.read_table(output)
    assert sum(table["count"].to_pylist()) == 240
    assert table.schema.metadata[b"catalogue"].decode() == catalogue.digest


@pytest.mark.parametrize("carried", [0, 1 << 20])
def test_accumulators_are_merged_in_any_order(
    tmp_path: Path,
    annotated: Path,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    carried: int,
) -> None:
    monkeypatch.setattr(partitions, "CARRIED_BYTES", carried)
    annotations = str(annotated / "annotations")
    tables = [shard_patterns(annotations, f"0000{i}", catalogue) for i in range(4)]
    merge = _MergePatterns(Partitions(str(tmp_path / "patterns.parquet"), 1, "x"))
    empty = merge.create_accumulator()
    assert merge.compact(merge.merge_accumulators([empty, empty])) == []
    one = merge.compact(merge.add_input(merge.create_accumulator(), tables[0]))
    two = merge.compact(merge.add_input(merge.add_input([], tables[1]), tables[2]))
    assert [isinstance(part, str) for part in [*one, *two]] == [not carried] * 2
    three = merge.add_input([], tables[3])
    wanted = merge_patterns(tables)
    assert wanted["count"].to_numpy().sum() == 240
    for order in itertools.permutations([empty, one, two, three]):
        assert merge.extract_output(merge.merge_accumulators(order)).equals(wanted)
    halves = [merge.merge_accumulators([one, three]), merge.merge_accumulators([two])]
    assert merge.extract_output(merge.merge_accumulators(halves)).equals(wanted)


def test_accumulators_merge_as_many_rows_as_they_have(
    annotated: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shard_patterns(str(annotated / "annotations"), "00000", catalogue)
    monkeypatch.setattr(transforms, "MERGED_ROWS", 2 * len(table))
    merge = _MergePatterns(Partitions("unused", 1, "x"))
    accumulator = merge.create_accumulator()
    lengths = []
    for _ in range(5):
        accumulator = merge.add_input(accumulator, table)
        lengths.append(len(accumulator))
    assert lengths == [1, 2, 1, 2, 1]
    assert merge.merge_accumulators([["a path"], accumulator]) == ["a path", *accumulator]
    total = merge.extract_output(accumulator)["count"].to_numpy()
    assert (total == 5 * table["count"].to_numpy()).all()


def test_apply_policy_writes_a_manifest_of_each_table(
    tmp_path: Path, annotated: Path, catalogue: Catalogue
) -> None:
    settings = ApplySettings(run="", catalogue="")
    annotations = str(annotated / "annotations")
    job = ManifestJob(annotations, str(tmp_path), catalogue, None, settings)
    run(ApplyPolicy(("00000", "00003"), job), lambda found: None)
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
