"""Hugging Face datasets: the places of the drawn samples in a dataset loaded from the tars.

    shards.json       the tars, in the order that the places are counted in; written last
    indices.parquet   index: of each copy its place, for `dataset.select`
    weights.parquet   weight: of each place, where the manifest has weights; for a sampler

A manifest has no row for a sample that was set aside, but the dataset has. So places are known
only where the rows' byte spans fill the tar.
"""

import json
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m4.errors import InputError
from pipelines import storage
from pipelines.beam import Progress
from pipelines.exports.drawn import DrawnShard, Exported, columns_of, drawn_shards
from pipelines.exports.webdataset import check_keys
from pipelines.headers import BLOCK

INDICES = pa.schema([pa.field("index", pa.int64(), nullable=False)])
WEIGHTS = pa.schema([pa.field("weight", pa.float64(), nullable=False)])


def export_datasets(manifest: str, output: str, progress: Progress | None = None) -> Exported:
    """Write places, and weights where there are some, into a folder.

    Raises `InputError` where places are not known: where a tar holds samples that the manifest does
    not, where it cannot be read, and where the manifest was made from metadata.
    """
    names = ("shards.json", "indices.parquet", "weights.parquet")
    order, indices, weights = (storage.join(output, name) for name in names)
    weighted = "weight" in columns_of(manifest)
    for path in (order, weights):
        storage.remove(path)
    counts: Counter[str] = Counter()
    paths: list[str] = []
    columns = ["key", "offset", "length", *(["weight"] if weighted else [])]
    with ExitStack() as files:
        to_indices = _writer(files, indices, INDICES)
        to_weights = _writer(files, weights, WEIGHTS) if weighted else None
        for shard in drawn_shards(manifest, columns, progress):
            _check_places(shard)
            check_keys(shard.path, shard.table["key"].to_pylist())
            paths.append(shard.path)
            copies = shard.copies
            places = np.repeat(np.arange(len(copies)) + counts["places"], copies)
            to_indices.write_table(pa.table([places], INDICES))
            if to_weights is not None:
                to_weights.write_table(pa.table([shard.table["weight"]], WEIGHTS))
            counts.update(shards=1, places=len(copies), copies=len(places))
    storage.write_bytes(order, (json.dumps(paths, indent=1) + "\n").encode())
    written = (indices, weights, order) if weighted else (indices, order)
    return Exported(format="datasets", counts=counts, files=written)


def _writer(files: ExitStack, path: str, schema: pa.Schema) -> pq.ParquetWriter:
    stream = files.enter_context(storage.atomic_output(path))
    return files.enter_context(pq.ParquetWriter(stream, schema, compression="zstd"))


def _check_places(shard: DrawnShard) -> None:
    """Raise `InputError` unless the rows are all samples of the tar, in its order."""
    offsets, lengths = (shard.table[name].to_numpy() for name in ("offset", "length"))
    if not lengths.all():
        raise InputError(
            f"{shard.path}: the manifest was made from metadata, so places in tars are not known; "
            "lay its uids over the tars first (m4-balance export --format datacomp, m4-balance "
            "import-subset)"
        )
    starts = np.append(0, offsets + lengths)
    gaps = np.flatnonzero(offsets != starts[:-1])
    end = int(starts[gaps[0]] if len(gaps) else starts[-1])
    if len(gaps) or _goes_on(shard.path, end):
        raise InputError(
            f"{shard.path}: holds something at byte {end} that the manifest has no row for, such "
            "as a sample that was set aside, so places in a dataset are not known; draw by keys "
            "instead (--format webdataset), or reshard"
        )


def _goes_on(path: str, end: int) -> bool:
    """Whether a tar has another member at a byte."""
    try:
        with storage.open_input(path) as stream:
            stream.seek(end)
            return any(stream.read(BLOCK))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
