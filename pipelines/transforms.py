"""The Beam side of the stages: dataclasses whose `expand` only wires. One element is one shard."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from m4.catalogue import Catalogue
from pipelines.annotation import AnnotationJob, annotate_shard
from pipelines.annotators.making import Models, make_annotators
from pipelines.annotators.marks import Annotator
from pipelines.beam import quieten_beam
from pipelines.counting import merge_patterns, shard_patterns
from pipelines.manifests import ManifestJob, write_manifest
from pipelines.partitions import Part, Partitions
from pipelines.settings import AnnotateSettings
from pipelines.shards import ShardRef
from pipelines.totals import ExactSums, add_up

quieten_beam()  # in workers too, which import this module

MERGED_ROWS = 1 << 14  # fewer are not worth a merge of their own


class _Annotate(beam.DoFn):
    """Annotates shards. Models are shared by all threads of a process; annotators are not."""

    def __init__(self, job: AnnotationJob, settings: AnnotateSettings):
        self._job = job
        self._settings = settings
        self._models = Shared()
        self._annotators: list[Annotator] = []

    def setup(self) -> None:
        models = self._models.acquire(Models)
        self._annotators = make_annotators(self._settings, self._job.catalogue, models)

    def process(self, shard: ShardRef) -> None:
        commit = annotate_shard(shard, self._job, self._annotators)
        for name, count in (
            ("shards", 1),
            ("damaged shards", int(commit.damaged)),
            ("bytes", shard.size),
            ("samples", commit.rows),
            ("samples set aside", commit.failed),
        ):
            Metrics.counter("annotate", name).inc(count)


@dataclass
class AnnotateShards(beam.PTransform):
    """Annotates shards, largest first; each is committed by itself."""

    shards: tuple[ShardRef, ...]
    job: AnnotationJob
    settings: AnnotateSettings

    def expand(self, pipeline: Any) -> beam.PCollection:
        largest_first = sorted(self.shards, key=lambda shard: (-shard.size, shard.stem))
        work = _Annotate(self.job, self.settings)
        return pipeline | "Shards" >> beam.Create(largest_first) | "Annotate" >> beam.ParDo(work)


class _MergePatterns(beam.CombineFn):
    """Adds up tables of patterns.

    An accumulator is a list of tables, in memory or in files. Those in memory are merged when as
    many rows have come as the first has, so that the work grows with the rows, not with the number
    of tables as well. What leaves the worker is one table, by its path if it is large.
    """

    def __init__(self, partitions: Partitions):
        self._partitions = partitions

    def create_accumulator(self) -> list[Part]:
        return []

    def add_input(self, accumulator: list[Part], table: pa.Table) -> list[Part]:
        return self.merge_accumulators([accumulator, [table]])

    def merge_accumulators(self, accumulators: Iterable[list[Part]]) -> list[Part]:
        parts = [part for each in accumulators for part in each]
        tables = [part for part in parts if not isinstance(part, str)]
        come = sum(map(len, tables[1:]))
        if come < MERGED_ROWS or come < len(tables[0]):
            return parts
        return [*(part for part in parts if isinstance(part, str)), merge_patterns(tables)]

    def compact(self, accumulator: list[Part]) -> list[Part]:
        return [self._partitions.put(self.extract_output(accumulator))] if accumulator else []

    def extract_output(self, accumulator: list[Part]) -> pa.Table:
        tables = [self._partitions.get(part) for part in accumulator]
        return merge_patterns(tables) if len(tables) > 1 else tables[0]


@dataclass
class CountPatterns(beam.PTransform):
    """Counts the patterns of annotation tables into one table.

    Each shard's distinct patterns are divided into `partitions` by their signatures. Each partition
    is added up and written to a file of its own; then all are joined into `output`. A `share` below
    1 counts a sample, by hashes of uids.
    """

    stems: tuple[str, ...]
    annotated: str
    manifest: str | None
    catalogue: Catalogue
    output: str
    partitions: int
    share: float = 1.0

    def expand(self, pipeline: Any) -> beam.PCollection:
        annotations, manifest, catalogue = self.annotated, self.manifest, self.catalogue
        share = self.share
        parts = Partitions(self.output, self.partitions, uuid.uuid4().hex)

        def count(stem: str) -> Iterable[tuple[int, pa.Table]]:
            return parts.split(shard_patterns(annotations, stem, catalogue, manifest, share))

        return (
            pipeline
            | "Tables" >> beam.Create(self.stems)
            | "Count" >> beam.FlatMap(count)
            | "Add up" >> beam.CombinePerKey(_MergePatterns(parts))
            | "Write" >> beam.MapTuple(parts.write)
            | "Gather" >> beam.combiners.ToList()
            | "Join" >> beam.Map(lambda paths: parts.join(paths, catalogue))
            | "Joined" >> beam.Reshuffle()  # or a join that is tried again might miss its parts
            | "Remove" >> beam.Map(lambda _: parts.remove())
        )


@dataclass
class ApplyPolicy(beam.PTransform):
    """Draws the manifest of every annotated shard, a committed table each."""

    stems: tuple[str, ...]
    job: ManifestJob

    def expand(self, pipeline: Any) -> beam.PCollection:
        return pipeline | "Draw" >> ForEach(self.stems, partial(write_manifest, job=self.job))


class _Call(beam.DoFn):
    """Calls a function with every element; being of this module, it brings `quieten_beam` along."""

    def __init__(self, work: Callable[[Any], Any]):
        self._work = work

    def process(self, element: Any) -> Iterable[Any]:
        yield self._work(element)


@dataclass
class ForEach(beam.PTransform):
    """Calls `work` with every element: a shard, or whatever else is committed by itself.

    `work` leaves its result in files. Elements are taken in their order, so the largest come first.
    """

    elements: tuple[Any, ...]
    work: Callable[[Any], object]

    def expand(self, pipeline: Any) -> beam.PCollection:
        elements = beam.Create(self.elements)
        return pipeline | "Elements" >> elements | "Work" >> beam.ParDo(_Call(self.work))


@dataclass
class AddUpShards(beam.PTransform):
    """Adds up what `measure` gives for each shard, exactly, into a file."""

    stems: tuple[str, ...]
    measure: Callable[[str], ExactSums]
    output: str

    def expand(self, pipeline: Any) -> beam.PCollection:
        output = self.output
        return (
            pipeline
            | "Tables" >> beam.Create(self.stems)
            | "Measure" >> beam.ParDo(_Call(self.measure))
            | "Add up" >> beam.CombineGlobally(add_up).without_defaults()
            | "Write" >> beam.Map(lambda sums: sums.write(output))
        )
