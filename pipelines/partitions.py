"""Partitions of a table of patterns: counted apart, each in a file, then joined into one table.

A partition is a range of signatures, given by their first bits. So the partitions one after the
other are in the order of signatures, whatever their number.
"""

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from m4.catalogue import Catalogue
from pipelines import storage
from pipelines.counting import GROUP_ROWS, pattern_schema, write_patterns
from pipelines.signatures import signatures

CARRIED_BYTES = 1 << 20  # a larger table is not carried through Beam's memory, but by its path

Part: TypeAlias = pa.Table | str  # a table of patterns, or its path


@dataclass(frozen=True)
class Partitions:
    """The partitions of one count, in files beside its output.

    Attributes
    ----------
    output : the table that they are joined into
    number : how many there are, a power of two
    token : names this count among all others of the same output, so that what one that was
        killed left behind is never taken for its own
    """

    output: str
    number: int
    token: str

    def split(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Yield (partition, its rows) of patterns in the order of signatures, where it has any."""
        bits = self.number.bit_length() - 1
        first = signatures(table)[0]
        owner = first >> np.uint64(64 - bits) if bits else np.zeros(len(first), dtype=np.uint64)
        ends = np.searchsorted(owner, np.arange(self.number + 1, dtype=np.uint64))
        for partition in np.flatnonzero(np.diff(ends)).tolist():
            # A copy: a slice would carry the whole table through Beam.
            yield partition, table.take(np.arange(ends[partition], ends[partition + 1]))

    def put(self, table: pa.Table) -> Part:
        """What stands for a table on its way between workers: its path where it is large."""
        return self._write(uuid.uuid4().hex, table) if table.nbytes > CARRIED_BYTES else table

    def get(self, part: Part) -> pa.Table:
        """The table that `put` was given."""
        return pa.Table.from_batches(_batches(part)) if isinstance(part, str) else part

    def write(self, partition: int, table: pa.Table) -> str:
        """Write a whole partition and return its path."""
        return self._write(f"{partition:05d}", table)

    def _write(self, name: str, table: pa.Table) -> str:
        path = f"{self.output}.{self.token}.{name}.partition"
        with (
            storage.atomic_output(path) as stream,
            pa.ipc.new_stream(stream, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=GROUP_ROWS)
        return path

    def join(self, paths: Iterable[str], catalogue: Catalogue) -> None:
        """Write the output from the partitions at `paths`, one row group in memory at a time."""
        rows = (batch for path in sorted(paths) for batch in _batches(path))
        schema = pattern_schema(catalogue)
        reader = pa.RecordBatchReader.from_batches(schema, rows)
        write_patterns(self.output, reader, catalogue.digest)

    def remove(self) -> None:
        """Remove all files of this count but its output."""
        folder, name = os.path.split(self.output)
        _remove(storage.files(folder, f"{name}.{self.token}.*.partition"))


def remove_leftovers(output: str) -> None:
    """Remove what counts of the same output left behind when they were killed."""
    folder, name = os.path.split(output)
    for pattern in (f"{name}.*.partition", f"{name}.*.partial"):
        _remove(storage.files(folder, pattern))


def _batches(path: str) -> Iterator[pa.RecordBatch]:
    with storage.open_input(path) as stream, pa.ipc.open_stream(stream) as reader:
        yield from reader


def _remove(paths: list[str]) -> None:
    from apache_beam.io.filesystems import FileSystems  # over a second to import

    if paths:
        FileSystems.delete(paths)
