"""The Beam side of the stages: dataclasses whose `expand` only wires. One element is one shard."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import polars as pl

from m4.catalogue import Catalogue
from m4.policy import Policy
from pipelines.annotation import annotate_shard
from pipelines.annotators import Annotator, AnnotatorName, make_annotators
from pipelines.counting import merge_patterns, pattern_columns, shard_patterns, write_patterns
from pipelines.manifests import write_manifest
from pipelines.settings import ApplySettings
from pipelines.shards import ShardRef


class _Annotate(beam.DoFn):
    def __init__(
        self,
        folder: str,
        catalogue: Catalogue,
        annotators: tuple[AnnotatorName, ...],
        settings: str,
    ):
        self._folder = folder
        self._catalogue = catalogue
        self._names = annotators
        self._settings = settings
        self._annotators: list[Annotator] = []

    def setup(self) -> None:
        self._annotators = make_annotators(self._catalogue, self._names)

    def process(self, shard: ShardRef) -> None:
        annotate_shard(shard, self._folder, self._catalogue, self._annotators, self._settings)


@dataclass
class AnnotateShards(beam.PTransform):
    """Annotates shards, largest first, and writes a committed table for each into `folder`."""

    shards: tuple[ShardRef, ...]
    folder: str
    catalogue: Catalogue
    annotators: tuple[AnnotatorName, ...]
    settings: str

    def expand(self, pipeline: Any) -> beam.PCollection:
        largest_first = sorted(self.shards, key=lambda shard: (-shard.size, shard.stem))
        work = _Annotate(self.folder, self.catalogue, self.annotators, self.settings)
        return pipeline | "Shards" >> beam.Create(largest_first) | "Annotate" >> beam.ParDo(work)


class _MergePatterns(beam.CombineFn):
    """Adds up tables of patterns; each accumulator is one table or nothing yet."""

    def create_accumulator(self) -> list[pl.DataFrame]:
        return []

    def add_input(self, accumulator: list[pl.DataFrame], table: pl.DataFrame) -> list[pl.DataFrame]:
        return [merge_patterns([*accumulator, table])]

    def merge_accumulators(self, accumulators: Iterable[list[pl.DataFrame]]) -> list[pl.DataFrame]:
        tables = [table for accumulator in accumulators for table in accumulator]
        return [merge_patterns(tables)] if tables else []

    def extract_output(self, accumulator: list[pl.DataFrame]) -> pl.DataFrame:
        return accumulator[0]


@dataclass
class CountPatterns(beam.PTransform):
    """Counts the patterns of annotation tables, joined shard by shard, into one table."""

    stems: tuple[str, ...]
    annotated: str
    manifest: str | None
    catalogue: Catalogue
    output: str

    def expand(self, pipeline: Any) -> beam.PCollection:
        columns = pattern_columns(self.catalogue)
        digest, output = self.catalogue.digest, self.output
        annotations, manifest = self.annotated, self.manifest
        return (
            pipeline
            | "Tables" >> beam.Create(self.stems)
            | "Count" >> beam.Map(lambda stem: shard_patterns(annotations, stem, columns, manifest))
            | "Add up" >> beam.CombineGlobally(_MergePatterns()).without_defaults()
            | "Write" >> beam.Map(lambda table: write_patterns(output, table, digest))
        )


@dataclass
class ApplyPolicy(beam.PTransform):
    """Draws the manifest of every annotated shard, a committed table each, into `folder`."""

    stems: tuple[str, ...]
    annotated: str
    folder: str
    catalogue: Catalogue
    policy: Policy | None
    settings: ApplySettings
    digest: str

    def expand(self, pipeline: Any) -> beam.PCollection:
        fixed = (self.folder, self.catalogue, self.policy, self.settings, self.digest)
        annotations = self.annotated
        return (
            pipeline
            | "Tables" >> beam.Create(self.stems)
            | "Draw" >> beam.Map(lambda stem: write_manifest(annotations, stem, *fixed))
        )
