"""Annotate one shard: read it in batches, ask the annotators, fuse, write what came out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines import storage
from pipelines.annotators.marks import Annotator, Batch
from pipelines.batches import read_parts
from pipelines.evidence import Evidence, evidence_of, write_evidence
from pipelines.fusion import Fused, FusionRule, fuse
from pipelines.opt_out import url_key
from pipelines.shards import Failure, Sample, ShardRef, unreadable_reason
from pipelines.tables import (
    Commit,
    annotation_schema,
    remove_failures,
    source_column,
    write_failures,
    write_table,
)
from vision.ahead import ahead

ANNOTATIONS = "annotations"
EVIDENCE = "evidence"
FAILURES = "failures"
URL = "url"  # what metadata calls the address of a picture


@dataclass(frozen=True)
class AnnotationJob:
    """What is the same for all shards of a job.

    Attributes
    ----------
    run : directory in which annotations/, evidence/ and failures/ are written
    catalogue : what to look for
    fusion : how the annotators are put together
    digest : of everything that decides the content of a table
    """

    run: str
    catalogue: Catalogue
    fusion: FusionRule
    digest: str

    def folder(self, name: str) -> str:
        return storage.join(self.run, name)


def annotate_shard(shard: ShardRef, job: AnnotationJob, annotators: Sequence[Annotator]) -> Commit:
    """Annotate one shard; write its failures, its evidence, its table, and last its marker.

    A sample that cannot be used is set aside with its reason. A shard is set aside whole where an
    annotator has not what it needs, or where the storage fails while the shard is read.
    """
    try:
        for annotator in annotators:
            annotator.begin(shard.stem)
        table, failures, drops, evidence = _annotated(shard, job, annotators)
    except (InputError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = unreadable_reason(error)
        failures = [Failure(shard.name, None, reason, rest=True)]
        table, evidence = annotation_schema(job.catalogue).empty_table(), Evidence()
        drops = Counter()
    urls = len(table) - table["url_sha256"].null_count
    commit = Commit.of(shard, job.digest, len(table), failures, drops=drops, counts={"urls": urls})
    if failures:
        write_failures(job.folder(FAILURES), shard.stem, failures)
    else:
        remove_failures(job.folder(FAILURES), shard.stem)
    write_evidence(job.folder(EVIDENCE), shard.stem, evidence)
    write_table(job.folder(ANNOTATIONS), shard.stem, table, commit)
    return commit


def _annotated(
    shard: ShardRef, job: AnnotationJob, annotators: Sequence[Annotator]
) -> tuple[pa.Table, list[Failure], Counter[str], Evidence]:
    """The annotations of a shard, what was set aside or dropped, the evidence of the rest."""
    failures: list[Failure] = []
    drops: Counter[str] = Counter()
    parts = [annotation_schema(job.catalogue).empty_table()]
    evidence = Evidence()
    names = [annotator.name for annotator in annotators]
    size = max(each.size for each in annotators)
    fields = [URL, *(name for each in annotators for name in each.fields)]
    for part in ahead(read_parts(shard, size, fields)):
        batch = part.batch
        failures += part.failures
        drops += part.drops
        if not batch.samples:
            continue
        said = [annotator.annotate(batch) for annotator in annotators]
        fused = fuse(said, job.catalogue, job.fusion)
        evidence = evidence + evidence_of(fused, said, names, job.catalogue)
        parts.append(_table(batch, fused, names, job.catalogue))
        failures += (
            Failure(shard.name, batch.samples[row].key, reason)
            for row, reason in sorted(fused.unusable.items())
        )
    return pa.concat_tables(parts), failures, drops, evidence


def _table(batch: Batch, fused: Fused, names: Sequence[str], catalogue: Catalogue) -> pa.Table:
    """The annotations of a batch, without its unusable samples."""
    known_by = pa.array([*names, None], pa.string())  # NOBODY is the last

    def sources(positions: np.ndarray) -> pa.Array:
        return known_by.take(pa.array(positions % len(known_by)))

    ends = np.searchsorted(fused.label_rows, np.arange(len(batch) + 1))
    offsets = pa.array(ends, pa.int32())
    columns = {
        "uid": pa.array([each.uid for each in batch.samples], pa.string()),
        "key": pa.array([each.key for each in batch.samples], pa.string()),
        "offset": pa.array([each.span.offset for each in batch.samples], pa.int64()),
        "length": pa.array([each.span.length for each in batch.samples], pa.int64()),
        "language": pa.array(fused.languages, pa.string()),
        "person": _nullable(fused.person),
        source_column("person"): sources(fused.person_source),
        "labels": pa.ListArray.from_arrays(offsets, pa.array(fused.label_ids, pa.int32())),
        "label_sources": pa.ListArray.from_arrays(offsets, sources(fused.label_sources)),
        "utility": pa.array(np.ones(len(batch)), pa.float32()),
        "url_sha256": pa.array([_url_key(each) for each in batch.samples], pa.binary(16)),
    }
    columns.update(
        {name: _nullable(fused.values[:, k]) for k, name in enumerate(catalogue.value_names)}
    )
    columns.update(
        {
            source_column(name): sources(fused.sources[:, a])
            for a, name in enumerate(catalogue.sensitive)
        }
    )
    schema = annotation_schema(catalogue)
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    if not fused.unusable:
        return table
    usable = np.ones(len(batch), dtype=bool)
    usable[list(fused.unusable)] = False
    return table.filter(pa.array(usable))


def _url_key(sample: Sample) -> bytes | None:
    """The key of the URL that a sample's metadata states; None where it is none in UTF-8."""
    url = sample.metadata.get(URL)
    if not isinstance(url, str) or not url:
        return None
    try:
        return url_key(url)
    except UnicodeEncodeError:
        return None


def _nullable(probabilities: np.ndarray) -> pa.Array:
    return pa.array(probabilities, pa.float32(), mask=np.isnan(probabilities))
