"""Tables of embeddings, written anew with every embedding changed."""

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m4.catalogue import Model
from m4.errors import InputError, UndefinedError
from pipelines import storage
from pipelines.annotators.embedding_tables import (
    FLOATS,
    KINDS,
    find_tables,
    open_table,
    read_array,
)
from pipelines.beam import Progress
from pipelines.embed_shards import COLUMN
from pipelines.encoded_sets import in_words
from vision.directions import without_direction

ROWS = 8192  # changed at once
SPACE = "model"  # in the metadata of parquets
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
    of: str | None = None,
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
    of : name of the space that `change` is for; tables that name none are taken to be of it
    space : name of the space that embeddings are then in, for the parquets

    Raises `InputError` where a table is of another space, which is asked of all of them first, or
    cannot be read or changed, `out` would be written over it or is no folder, or a setting has no
    effect.
    """
    alone = source.endswith(".npy") and not storage.exists(source.removesuffix("npy") + "parquet")
    if alone:
        if key is not None:
            raise InputError(f"{source}: embedding_key has no effect on one array; leave it out")
        return _change_array(source, out, change)
    if out.endswith(KINDS):
        raise InputError(f"out: {out} is a file, but tables are written to a folder; name one")
    undefined: Counter[str] = Counter()
    written, rows = [], 0
    paths = find_tables(source)
    _check_space(paths, of)
    for done, path in enumerate(paths, start=1):
        target = storage.join(out, f"{PurePosixPath(path).stem}.parquet")
        _check_other(_parquet(path), target)
        table = open_table(path, key)
        array = _changed(path, table.array, change, undefined)
        schema = pa.schema(
            [(table.identity, pa.string()), (COLUMN, pa.list_(pa.float32(), array.shape[1]))],
            metadata={SPACE: space} if space else None,
        )
        lists = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        with storage.atomic_output(target) as stream:
            named = pa.Table.from_arrays([pa.array(table.names), lists], schema=schema)
            pq.write_table(named, stream, use_dictionary=False)
        written.append(target)
        rows += len(array)
        if progress is not None:
            progress(done, len(paths))
    return Changed(tables=tuple(written), rows=rows, undefined=dict(undefined))


def _change_array(source: str, out: str, change: Change) -> Changed:
    if not out.endswith(".npy"):
        raise InputError(f"out: {out} is no .npy, but {source} is one array; name a .npy file")
    _check_other(source, out)
    array = read_array(source)
    if array.ndim != 2 or not array.size or array.dtype.type not in FLOATS:
        raise InputError(
            f"{source}: an array of {array.dtype} of shape {array.shape}; embeddings are float16, "
            "float32 or float64, (n, d)"
        )
    undefined: Counter[str] = Counter()
    changed = _changed(source, array, change, undefined)
    with storage.atomic_output(out) as stream:
        np.save(stream, changed, allow_pickle=False)
    return Changed(tables=(out,), rows=len(changed), undefined=dict(undefined))


def _parquet(path: str) -> str:
    """The parquet of a table: the file itself, or the one that names the rows of an array."""
    return f"{path.removesuffix(PurePosixPath(path).suffix)}.parquet"


def _check_space(paths: Sequence[str], of: str | None) -> None:
    """Raise `InputError` where a table names another space than the one it is changed in."""
    if of is None:
        return
    for path in paths:
        found = _space(_parquet(path))
        if found not in (None, of):
            raise InputError(
                f"{path}: embeddings of {found}, but the method is for those of {of}; give such "
                "embeddings, as they were before any method, or a method for these"
            )


def _space(path: str) -> str | None:
    """The space that a parquet names, as `embed` writes it."""
    try:
        with storage.open_input(path) as stream:
            metadata = pq.read_schema(stream).metadata or {}
    except (OSError, pa.ArrowException):
        return None  # `open_table` says what is wrong with it
    name = metadata.get(SPACE.encode())
    return None if name is None else name.decode(errors="replace")


def _check_other(source: str, target: str) -> None:
    """Raise `InputError` where both are one file, however their paths are spelled."""
    if storage.is_remote(source) or storage.is_remote(target):
        same = posixpath.normpath(source) == posixpath.normpath(target)
    else:
        same = os.path.exists(source) and os.path.exists(target)
        same = same and os.path.samefile(source, target)
    if same:
        raise InputError(f"out: {target} would be written over what is read; name another")


def _changed(path: str, array: np.ndarray, change: Change, undefined: Counter[str]) -> np.ndarray:
    """Changed embeddings, (n, r) float32; NaN where there is none, which is counted."""
    counts: Counter[str] = Counter()
    parts: list[_Part] = []
    for first in range(0, len(array), ROWS):
        with np.errstate(over="ignore"):  # what single precision cannot hold is infinite
            block = array[first : first + ROWS].astype(np.float32)
        unusable = np.logical_or(*without_direction(block))
        counts[NO_DIRECTION] += int(unusable.sum())
        try:
            found = _defined(block, np.flatnonzero(~unusable), change, counts)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        parts += [_Part(first + part.rows, part.embeddings) for part in found]
    if not parts:
        raise InputError(
            f"{path}: none of {len(array)} embeddings can be changed: {in_words(counts) or 'empty'}"
        )
    undefined.update({reason: count for reason, count in counts.items() if count})
    changed = np.full((len(array), parts[0].embeddings.shape[1]), np.nan, dtype=np.float32)
    for part in parts:
        changed[part.rows] = part.embeddings
    return changed


@dataclass(frozen=True, eq=False)
class _Part:
    """Changed embeddings (k, r), and their rows (k,)."""

    rows: np.ndarray
    embeddings: np.ndarray


def _defined(
    block: np.ndarray, rows: np.ndarray, change: Change, counts: Counter[str]
) -> list[_Part]:
    """Changed embeddings of some rows; halves are tried where one of them has none."""
    if not len(rows):
        return []
    try:
        return [_Part(rows, change(block[rows]))]
    except UndefinedError:
        if len(rows) == 1:
            counts[NOTHING_LEFT] += 1
            return []
    first, second = np.array_split(rows, 2)
    return [*_defined(block, first, change, counts), *_defined(block, second, change, counts)]
