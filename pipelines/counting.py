"""Count: distinct patterns of the annotations, all that a solver needs.

A pattern is what a row's weight may depend on, in one form only: sensitive values as float32 (no
NaN, no negative zero), ids of labels in ascending order, utility in steps of `UTILITY_STEP`. A row
on which no sensitive value is known enters no constraint (each is masked by what is observed), so
its weight does not depend on its labels, and its pattern has none.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.hashing import order_of
from m4.patterns import Patterns
from m4.sampling import uniform_draws
from pipelines import storage
from pipelines.signatures import ragged, signatures
from pipelines.tables import check_digest, read_table, round_utility, to_patterns, why_missing

SAMPLE_SEED = 0x4D34  # of the hashes that choose a sample; not one that a person would draw with
GROUP_ROWS = 1 << 18  # rows in a row group of a table of patterns, and in memory when it is written


def pattern_schema(catalogue: Catalogue) -> pa.Schema:
    """Columns of a table of patterns: those that make a pattern, and `count`."""
    return pa.schema(
        [
            *(pa.field(name, pa.float32()) for name in catalogue.value_names),
            pa.field("labels", pa.list_(pa.int32()), nullable=False),
            pa.field("utility", pa.float32(), nullable=False),
            pa.field("count", pa.int64(), nullable=False),
        ],
        metadata={"catalogue": catalogue.digest},
    )


def shard_patterns(
    annotations: str,
    stem: str,
    catalogue: Catalogue,
    manifest: str | None = None,
    share: float = 1.0,
) -> pa.Table:
    """Distinct patterns of one shard with their counts; examples, or copies that a manifest drew.

    The rows are in the order of their signatures, as `merge_patterns` gives them.

    Parameters
    ----------
    share : below 1, only this share of the examples: those with the smallest hashes of their uids

    Raises `InputError` where the manifest lists other samples than the annotations, and where an
    annotation is not what its column may hold.
    """
    columns = [*catalogue.value_names, "labels", "utility"]
    if manifest is None and share < 1.0:
        table = read_table(annotations, stem, ["uid", *columns])
        draws = uniform_draws(table["uid"].to_pylist(), seed=SAMPLE_SEED)
        table = table.filter(pa.array(draws < share)).drop_columns("uid")
        counts = np.ones(len(table), dtype=np.int64)
    elif manifest is None:
        table = read_table(annotations, stem, columns)
        counts = np.ones(len(table), dtype=np.int64)
    else:
        table = read_table(annotations, stem, ["uid", *columns])
        drawn = read_table(manifest, stem, ["uid", "copies"])
        if drawn["uid"] != table["uid"]:
            raise InputError(
                f"{manifest}/{stem}.parquet lists other samples than the annotations of the same "
                "shard; run apply again"
            )
        counts = drawn["copies"].to_numpy().astype(np.int64)
    try:
        rows = in_one_form(table, counts, catalogue)
    except InputError as error:
        path = storage.join(annotations, f"{stem}.parquet")
        raise InputError(f"{path}: {error}; run annotate again") from None
    return merge_patterns([rows if manifest is None else rows.filter(pa.array(counts > 0))])


def merge_patterns(tables: Sequence[pa.Table]) -> pa.Table:
    """Join tables of patterns, adding counts; rows in ascending order of their signatures.

    Associative and commutative: the result depends on the patterns and their counts alone. Rows
    are found by signature and then compared in full, so that no two different ones are joined.
    """
    table = pa.concat_tables(tables).combine_chunks()
    if not len(table):
        return table
    words = signatures(table)
    order = order_of(words)
    new = np.ones(len(table), dtype=bool)
    new[1:] = (words[:, order[1:]] != words[:, order[:-1]]).any(axis=0)
    starts = np.flatnonzero(new)
    first = order[starts]
    again, same = order[~new], first[np.cumsum(new) - 1][~new]
    counts = table["count"].to_numpy()
    table = table.drop_columns("count")
    if not table.take(again).equals(table.take(same)):  # one chance in 2**64
        raise RuntimeError("two different patterns share a 128-bit signature")
    total = pa.array(np.add.reduceat(counts[order], starts))
    return table.take(first).append_column(pa.field("count", pa.int64(), nullable=False), total)


def in_one_form(table: pa.Table, counts: np.ndarray, catalogue: Catalogue) -> pa.Table:
    """Annotations as patterns, a row each. Raises `InputError` for what cannot be counted."""
    columns = []
    observed = np.zeros(len(table), dtype=bool)
    for name in catalogue.value_names:
        numbers = table[name].cast(pa.float32()).to_numpy() + np.float32(0)  # no negative zero
        unknown = np.isnan(numbers)
        bad = ~unknown & ~((numbers >= 0) & (numbers <= 1))
        if bad.any():
            raise InputError(f"{name} holds {numbers[bad][0]}, outside [0, 1]")
        observed |= ~unknown
        columns.append(pa.array(numbers, mask=unknown))
    columns.append(_labels(table["labels"], observed, len(catalogue.label_names)))
    columns.append(pa.array(round_utility(table["utility"].to_numpy()), pa.float32()))
    return pa.Table.from_arrays([*columns, pa.array(counts)], schema=pattern_schema(catalogue))


def _labels(column: pa.ChunkedArray, observed: np.ndarray, known: int) -> pa.ListArray:
    """Ascending ids of each row; none where nothing is observed."""
    if column.null_count:
        raise InputError(f"labels is null in {column.null_count} rows; an empty list is no label")
    lists = column.cast(pa.list_(pa.int32()))
    if any(chunk.flatten().null_count for chunk in lists.chunks):
        raise InputError("labels holds a null among its ids")
    ids, ends = ragged(lists)
    unknown = (ids < 0) | (ids >= known)
    if unknown.any():
        raise InputError(f"labels holds the id {ids[unknown][0]}, but there are {known} labels")
    lengths = np.diff(ends)
    row = np.repeat(np.arange(len(lengths)), lengths)
    if not _ascending(ids, row):
        ids = ids[np.lexsort((ids, row))]
        if not _ascending(ids, row):
            twice = np.flatnonzero((ids[1:] == ids[:-1]) & (row[1:] == row[:-1]))[0]
            raise InputError(f"row {row[twice]} holds label {ids[twice]} twice")
    ends = np.concatenate([[0], np.cumsum(np.where(observed, lengths, 0))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(ids[observed[row]]))


def _ascending(ids: np.ndarray, row: np.ndarray) -> bool:
    return bool(((ids[1:] > ids[:-1]) | (row[1:] != row[:-1])).all())


def write_patterns(path: str, rows: Any, catalogue: str) -> None:
    """Write a table of patterns, atomically, with the digest of its catalogue.

    Parameters
    ----------
    rows : a table, or a stream of batches; anything with `__arrow_c_stream__`. How it is cut into
        batches does not change the bytes written.
    """
    reader = pa.RecordBatchReader.from_stream(rows)
    schema = reader.schema.with_metadata({"catalogue": catalogue})
    with (
        storage.atomic_output(path) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for group in _groups(reader):
            writer.write_table(group.replace_schema_metadata(schema.metadata), GROUP_ROWS)


def read_patterns(path: str, catalogue: Catalogue) -> Patterns:
    """Read a table of patterns.

    Raises `InputError` where it is missing or was counted with another catalogue.
    """
    if not storage.exists(path):
        raise InputError(f"{path}: no such table; {why_missing(path, 'run count first')}")
    with storage.open_input(path) as stream:
        table: pa.Table = pq.read_table(stream)
    metadata = table.schema.metadata or {}
    check_digest(path, metadata.get(b"catalogue", b"").decode(), catalogue.digest)
    return to_patterns(table, catalogue)


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of `GROUP_ROWS` rows in one chunk each, and one of what is left."""
    held: list[pa.RecordBatch] = []
    room = GROUP_ROWS
    for batch in batches:
        while len(batch):
            held.append(batch[:room])
            batch = batch[room:]
            room -= len(held[-1])
            if not room:
                yield pa.Table.from_batches(held).combine_chunks()
                held, room = [], GROUP_ROWS
    if held:
        yield pa.Table.from_batches(held).combine_chunks()
