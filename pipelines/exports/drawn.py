"""What all formats share: a manifest, read shard by shard, and what an export says of itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.beam import Progress
from pipelines.tables import committed, read_table


class Exported(Model):
    """What was handed on.

    Attributes
    ----------
    format : the format's name
    counts : what it holds, by a plain word: shards, samples, copies, ...
    files : what was written
    text : what is to be pasted, instead of files: arguments, or lines of Python
    notes : sentences that a person should read
    """

    format: str
    counts: Mapping[str, int]
    files: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class DrawnShard:
    """One shard's table in a manifest; n rows.

    Attributes
    ----------
    stem, path : the shard's name and where it lay when its table was made
    table : the columns that were asked for
    """

    stem: str
    path: str
    table: pa.Table

    @property
    def copies(self) -> np.ndarray:
        """How often each sample is used, (n,) int32."""
        return self.table["copies"].to_numpy()

    @property
    def used(self) -> pa.Table:
        """The rows of samples that are used at least once."""
        return self.table.filter(self.copies > 0)


def drawn_shards(
    manifest: str, columns: Sequence[str], progress: Progress | None = None
) -> Iterator[DrawnShard]:
    """Read a manifest's tables in the order of their names.

    Parameters
    ----------
    columns : of each table, beside `copies`
    progress : called with (tables read, tables in all)

    Raises `InputError` where the folder is no manifest.
    """
    if storage.exists(storage.join(manifest, "run.json")):
        inside = storage.join(manifest, "manifest")
        raise InputError(f"{manifest}: a run directory; name the manifest in it, such as {inside}")
    markers = list(committed(manifest))
    wanted = [*columns, "copies"]
    known = columns_of(manifest)
    if missing := [name for name in wanted if name not in known]:
        raise InputError(f"{manifest}: no column {missing[0]}; name a manifest, which apply writes")
    for number, (stem, commit) in enumerate(markers, start=1):
        yield DrawnShard(stem, commit.shard, read_table(manifest, stem, wanted))
        if progress is not None:
            progress(number, len(markers))


def columns_of(manifest: str) -> list[str]:
    """The columns of a manifest's tables; its first one tells."""
    stem, _ = next(committed(manifest))
    return read_table(manifest, stem).column_names
