"""Embeddings of shards: computed once, for fitting heads and for annotating without a model."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.batches import read_parts
from pipelines.beam import Progress
from pipelines.metadata_tables import check_pictures
from pipelines.shards import Failure, ShardRef, find_shards
from vision.ahead import ahead
from vision.embedder import Embedder, load_embedder

COLUMN = "embedding"


class EmbedSettings(Model):
    """Settings of the command that embeds the pictures of shards."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    model: str = Field(description="an architecture of open_clip")
    pretrained: str = Field(description="its checkpoint, a file or a tag")
    preprocess_as: str | None = Field(
        default=None,
        description="tag of open_clip whose preprocessing a checkpoint file wants, where the tags "
        "of its architecture differ",
    )
    out: str = Field(description="folder; a parquet with uid, key, embedding for each shard")
    device: str = Field(default="auto", description="where it runs; auto: CUDA where there is one")
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of samples that may be unusable"
    )


class Embedded(Model):
    """What came out: samples embedded and left, and the embedding space, which heads ask for."""

    model: str
    dimension: int
    samples: int
    failures: dict[str, int]


def embed(settings: EmbedSettings, *, progress: Progress | None = None) -> Embedded:
    """Embed the pictures of shards, a table for each, which is written when it is whole.

    Raises `InputError` for unusable settings, and where more than `max_failures` could not be read.
    """
    shards = find_shards(settings.shards)
    check_pictures(shards, "embed")
    embedder = load_embedder(
        settings.model,
        settings.pretrained,
        device=settings.device,
        preprocess_as=settings.preprocess_as,
    )
    failures: list[Failure] = []
    samples = 0
    for done, shard in enumerate(shards, start=1):
        samples += _embed_shard(shard, embedder, settings.out, failures)
        if progress is not None:
            progress(done, len(shards))
    if len(failures) > settings.max_failures * (samples + len(failures)) or not samples:
        raise InputError(
            f"{len(failures)} of {samples + len(failures)} samples cannot be used, more than "
            f"max_failures {settings.max_failures:g} allows; the first: {failures[0]}"
        )
    return Embedded(
        model=embedder.name,
        dimension=embedder.dim,
        samples=samples,
        failures=dict(sorted(Counter(each.reason for each in failures).items())),
    )


def _embed_shard(shard: ShardRef, embedder: Embedder, folder: str, failures: list[Failure]) -> int:
    schema = pa.schema(
        [
            ("uid", pa.string()),
            ("key", pa.string()),
            (COLUMN, pa.list_(pa.float32(), embedder.dim)),
        ],
        metadata={"model": embedder.name},
    )
    rows = 0
    path = storage.join(folder, f"{shard.stem}.parquet")
    with (
        storage.atomic_output(path) as stream,
        pq.ParquetWriter(stream, schema, use_dictionary=False) as writer,
    ):
        for part in ahead(read_parts(shard, embedder.size)):
            batch = part.batch
            failures += part.failures
            if not batch.samples:
                continue
            numbers = pa.array(embedder.embed(batch.pictures).ravel())
            columns = [
                pa.array([each.uid for each in batch.samples]),
                pa.array([each.key for each in batch.samples]),
                pa.FixedSizeListArray.from_arrays(numbers, embedder.dim),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            rows += len(batch)
    return rows
