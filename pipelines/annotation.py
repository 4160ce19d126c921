"""Annotate: who and what is in each pair. The work on one shard, and the stage over all."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from m4.catalogue import Catalogue
from m4.errors import UnusableSample
from pipelines.annotators import (
    Annotator,
    annotate_sample,
)
from pipelines.shards import Failure, Sample, ShardRef, read_samples
from pipelines.tables import Commit, annotation_schema, source_column, write_table


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
