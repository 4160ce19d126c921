"""Tables of embeddings, written anew with every embedding changed."""

from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m4.catalogue import Model
from m4.errors import InputError, UndefinedError
from pipelines import storage
from pipelines.annotators.embedding_tables import find_tables, open_table, read_array
from pipelines.beam import Progress
from pipelines.embed_shards import COLUMN
from pipelines.encoded_sets import in_words
from vision.directions import without_direction

ROWS = 8192  # changed at once
NO_DIRECTION = "zero or not finite"
NOTHING_LEFT = "nothing is left of it"

Change = Callable[[np.ndarray], np.ndarray]
"""From embeddings (n, d) to (n, r), float32; raises `UndefinedError` where one has no image."""


class Changed(Model):
    """What was written: tables, rows, and by reason those that are NaN now."""

    tables: tuple[str, ...]
    rows: int
    undefined: dict[str, int]


def change_embeddings(
    source: str,
    out: str,
    change: Change,
    *,
    key: str | None = None,
    space: str | None = None,
    progress: Progress | None = None,
) -> Changed:
    """Change every embedding of a table, or of a folder of them.

    One .npy without a parquet beside it becomes one .npy, rows in their order. Tables become
    parquets as `embed` writes them, in the folder `out`: uid (or key) and embedding. Embeddings
    that cannot be changed are NaN, which all who read such tables count as left out.

    Parameters
    ----------
    key : array of an .npz, or column of a parquet
    space : name of the space that embeddings are then in, for the parquets

    Raises `InputError` where a table cannot be read, or `out` would be written over it.
    """
    alone = source.endswith(".npy") and not storage.exists(source.removesuffix("npy") + "parquet")
    if alone:
        return _change_array(source, out, change)
    counts: Counter[str] = Counter()
    written, rows = [], 0
    paths = find_tables(source)
    for done, path in enumerate(paths, start=1):
        target = storage.join(out, f"{PurePosixPath(path).stem}.parquet")
        _check_other(path, target)
        table = open_table(path, key)
        array = _changed(table.array, change, counts)
        schema = pa.schema(
            [(table.identity, pa.string()), (COLUMN, pa.list_(pa.float32(), array.shape[1]))],
            metadata={"model": space} if space else None,
        )
        lists = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        with storage.atomic_output(target) as stream:
            named = pa.Table.from_arrays([pa.array(table.names), lists], schema=schema)
            pq.write_table(named, stream, use_dictionary=False)
        written.append(target)
        rows += len(array)
        if progress is not None:
            progress(done, len(paths))
    return Changed(tables=tuple(written), rows=rows, undefined=dict(counts))


def _change_array(source: str, out: str, change: Change) -> Changed:
    if not out.endswith(".npy"):
        raise InputError(f"out: {out} is no .npy, but {source} is one array; name a .npy file")
    _check_other(source, out)
    array = read_array(source)
    if array.ndim != 2 or not array.size:
        raise InputError(f"{source}: an array of shape {array.shape}; embeddings are (n, d)")
    counts: Counter[str] = Counter()
    changed = _changed(array, change, counts)
    with storage.atomic_output(out) as stream:
        np.save(stream, changed, allow_pickle=False)
    return Changed(tables=(out,), rows=len(changed), undefined=dict(counts))


def _check_other(source: str, target: str) -> None:
    if source == target:
        raise InputError(f"out: {target} would be written over what is read; name another")


def _changed(array: np.ndarray, change: Change, counts: Counter[str]) -> np.ndarray:
    """Changed embeddings, (n, r) float32; NaN where there is none, which is counted."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for first in range(0, len(array), ROWS):
        unusable = np.logical_or(*without_direction(array[first : first + ROWS]))
        if unusable.any():
            counts[NO_DIRECTION] += int(unusable.sum())
        parts += _defined(array, first + np.flatnonzero(~unusable), change, counts)
    if not parts:
        raise InputError(f"none of {len(array)} embeddings can be changed: {in_words(counts)}")
    found = np.full((len(array), parts[0][1].shape[1]), np.nan, dtype=np.float32)
    for rows, part in parts:
        found[rows] = part
    return found


def _defined(
    array: np.ndarray, rows: np.ndarray, change: Change, counts: Counter[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Changed embeddings of some rows; halves are tried where one of them has none."""
    if not len(rows):
        return []
    try:
        return [(rows, change(np.asarray(array[rows], dtype=np.float32)))]
    except UndefinedError:
        if len(rows) == 1:
            counts[NOTHING_LEFT] += 1
            return []
    middle = len(rows) // 2
    return [
        *_defined(array, rows[:middle], change, counts),
        *_defined(array, rows[middle:], change, counts),
    ]
