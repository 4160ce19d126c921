"""Annotate: who and what is in each pair. The work on one shard, and the stage over all."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pydantic import Field

from m4.catalogue import Catalogue, Model, load_catalogue
from pipelines import storage
from pipelines.annotators import (
    Annotator,
    AnnotatorName,
    UnusableSample,
    annotate_sample,
    make_annotators,
)
from pipelines.beam import BeamSettings, Progress, run, watch
from pipelines.record import StageRecord, Tally, digest_of, shard_inputs
from pipelines.shards import Failure, Sample, ShardRef, find_shards, read_samples
from pipelines.tables import Commit, annotation_schema, read_commit, source_column, write_table


class AnnotateSettings(Model):
    """Settings of the stage that annotates shards."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    catalogue: str = Field(description="YAML file that says what to look for")
    run: str = Field(description="run directory; annotations/ is written in it")
    annotators: tuple[AnnotatorName, ...] = Field(
        default=("captions",), description="who marks; the first that knows an attribute wins"
    )
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of samples or shards that may be set aside"
    )
    beam: BeamSettings = BeamSettings()


def annotate_shard(
    shard: ShardRef,
    folder: str,
    catalogue: Catalogue,
    annotators: Sequence[Annotator],
    settings: str,
) -> Commit:
    """Annotate one shard, write its table and its commit marker.

    A sample that cannot be used is set aside and counted by reason, with one example of each.
    """
    failures: Counter[str] = Counter()
    examples: dict[str, str] = {}
    damaged = False

    def marked() -> Iterator[dict[str, object]]:
        nonlocal damaged
        for sample in read_samples(shard):
            if isinstance(sample, Sample):
                try:
                    yield _row(sample, annotators, catalogue)
                    continue
                except UnusableSample as error:
                    sample = Failure(shard.name, sample.key, str(error))
            damaged |= sample.rest
            failures[sample.reason] += 1
            examples.setdefault(sample.reason, sample.key or shard.name)

    table = pa.Table.from_pylist(list(marked()), schema=annotation_schema(catalogue))
    commit = Commit(
        shard=shard.path,
        size=shard.size,
        modified=shard.modified,
        settings=settings,
        rows=len(table),
        damaged=damaged,
        failures=dict(sorted(failures.items())),
        examples=dict(sorted(examples.items())),
    )
    write_table(folder, shard.stem, table, commit)
    return commit


def _row(
    sample: Sample, annotators: Sequence[Annotator], catalogue: Catalogue
) -> dict[str, object]:
    marks = annotate_sample(sample, annotators)
    values = marks.values
    row: dict[str, object] = {
        "uid": sample.uid,
        "key": sample.key,
        "offset": sample.span.offset,
        "length": sample.span.length,
        "labels": list(marks.labels),
        "label_sources": list(marks.labels.values()),
        "utility": 1.0,
    }
    row.update({name: values.get(k) for k, name in enumerate(catalogue.value_names)})
    row.update({source_column(name): marks.sources.get(name) for name in catalogue.sensitive})
    return row


def annotate(settings: AnnotateSettings, *, progress: Progress | None = None) -> StageRecord:
    """Annotate shards into `<run>/annotations`, one table per shard.

    Shards that are committed with the same settings and unchanged input are not read again, so a
    run that was killed goes on where it stopped.

    Parameters
    ----------
    progress : called with (shards done, shards in all) from time to time

    Raises `InputError` for unusable settings, and where more than `max_failures` was set aside.
    """
    catalogue = load_catalogue(settings.catalogue)
    make_annotators(catalogue, settings.annotators)  # complain before any work is done
    shards = find_shards(settings.shards)
    folder = storage.join(settings.run, "annotations")
    digest = digest_of(catalogue.digest, *settings.annotators)
    tally = Tally("annotate", settings.run, settings, shard_inputs(shards))
    waiting = tuple(shard for shard in shards if not is_current(folder, shard, digest))
    if waiting:
        from pipelines.transforms import AnnotateShards  # imports Beam

        with watch(folder, [shard.stem for shard in shards], progress):
            job = AnnotateShards(waiting, folder, catalogue, settings.annotators, digest)
            run(job, settings.beam)
    for shard in shards:
        commit = read_commit(folder, shard.stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=commit.rows)
    return tally.finish(settings.max_failures)


def is_current(folder: str, shard: ShardRef, settings: str) -> bool:
    """Whether a shard's table stands, from the same settings and the same input.

    A shard that gave nothing at all is tried again: what was wrong may have been passing.
    """
    commit = read_commit(folder, shard.stem)
    return (
        commit is not None
        and commit.rows > 0
        and (commit.settings, commit.shard) == (settings, shard.path)
        and (commit.size, commit.modified) == (shard.size, shard.modified)
    )
