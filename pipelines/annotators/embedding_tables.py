"""Embeddings that somebody computed already: a table for each shard, rows by uid."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m4.errors import InputError
from pipelines import storage

KINDS = (".npz", ".npy", ".parquet")
IDENTITIES = ("uid", "key")
FLOATS = (np.float16, np.float32, np.float64)
LOCAL_HEADER = 30  # bytes of a zip member's header before its name and extra field
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, pa.ArrowException)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of n samples.

    Attributes
    ----------
    array : (n, d) of the type in which they are kept, NaN where they are missing; not to be
        changed, as it may be a view of the file
    missing : (n,) bool, samples of which the table has no embedding
    """

    array: np.ndarray
    missing: np.ndarray


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """The embeddings of one shard.

    Attributes
    ----------
    path : the file
    array : (N, d) of half, single or double precision, from the file's memory map where possible
    identity : what its rows go by, "uid" or "key"
    names : the uid or key of each row that has an embedding
    rows : row of each of them
    """

    path: str
    array: np.ndarray
    identity: str
    names: list[str]
    rows: Mapping[str, int]

    def read(self, uids: list[str], keys: list[str]) -> Embeddings:
        """Embeddings of n samples by their uids, or by their keys where the table has no uids.

        Samples in the order of the table, without a gap, are not copied.
        """
        wanted = uids if self.identity == "uid" else keys
        first = self.rows.get(wanted[0], 0) if len(wanted) else 0
        if self.names[first : first + len(wanted)] == wanted:
            run = self.array[first : first + len(wanted)]
            return Embeddings(run, np.zeros(len(wanted), dtype=bool))
        found = map(self.rows.get, wanted, repeat(-1))
        rows = np.fromiter(found, dtype=np.int64, count=len(wanted))
        missing = rows < 0
        array = np.full((len(rows), self.array.shape[1]), np.nan, dtype=self.array.dtype)
        array[~missing] = self.array[rows[~missing]]
        return Embeddings(array, missing)


@dataclass(frozen=True)
class EmbeddingTables:
    """Tables of embeddings, one in `folder` for each shard, named by its stem X.

    X.npz       array `key`, such as DataComp's "l14_img", with a row for each of X.parquet
    X.npy       the same as a single array
    X.parquet   column `key` of lists of numbers

    X.parquet has a column `uid`, or else `key`, of strings. `key` of the array may be left out
    where there is only one. Local files are mapped into memory unless they are compressed.
    """

    folder: str
    key: str | None = None

    def open(self, stem: str) -> EmbeddingTable:
        """The table of a shard; raises `InputError` where there is none, or it cannot be used."""
        candidates = [storage.join(self.folder, f"{stem}{kind}") for kind in KINDS]
        there = [path for path in candidates if storage.exists(path)]
        if not there:
            raise InputError(
                f"{storage.join(self.folder, stem)}: no embeddings of this shard; give one of "
                f"{', '.join(stem + kind for kind in KINDS)}"
            )
        if candidates[:2] == there[:2]:
            raise InputError(
                f"{there[0]} and {there[1]}: two tables of embeddings for one shard; keep one"
            )
        return open_table(there[0], self.key)

    def read(self, stem: str, uids: list[str], keys: list[str]) -> Embeddings:
        """Embeddings of n samples of a shard; raises `InputError` as `open`."""
        return self.open(stem).read(uids, keys)


def find_tables(path: str) -> list[str]:
    """Tables of embeddings at a path: itself, or all of a folder, by name.

    Raises `InputError` where there is none.
    """
    if path.endswith(KINDS):
        return [path]
    files = storage.files(path, "*")
    stems: dict[str, str] = {}
    for kind in KINDS:  # the parquet beside an array is a part of its table
        for file in files:
            if file.endswith(kind):
                stems.setdefault(file.removesuffix(kind), file)
    if not stems:
        raise InputError(f"{path}: no embeddings (*.npz, *.npy, *.parquet) found; check the path")
    return [stems[stem] for stem in sorted(stems)]


def open_table(path: str, key: str | None = None) -> EmbeddingTable:
    """Open one table of embeddings.

    Raises `InputError` where a file is missing or damaged, holds no such array or column, has
    another number of rows than of uids, or two different rows of one uid.
    """
    stem, kind = _split(path)
    readers: Mapping[str, Callable[[str, str | None], Any]] = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".parquet": _read_lists,
    }
    beside = f"{stem}.parquet"
    array, present = _readable(path, lambda: readers[kind](path, key))
    identity, names = _readable(beside, lambda: _read_identities(beside))
    if present is not None:
        names = [name for name, there in zip(names, present, strict=True) if there]
    _check(path, array, beside, names)
    rows = dict(zip(names, range(len(names)), strict=True))
    if len(rows) < len(names):
        _check_repeated(path, array, names, rows, identity)
    return EmbeddingTable(path, array, identity, names, rows)


def _split(path: str) -> tuple[str, str]:
    kind = PurePosixPath(path).suffix
    if kind not in KINDS:
        raise InputError(f"{path}: not a table of embeddings; give one of {', '.join(KINDS)}")
    return path.removesuffix(kind), kind


def _readable(path: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a table of embeddings needs it") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from None


def _check(path: str, array: np.ndarray, beside: str, names: list[str]) -> None:
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.type not in FLOATS:
        raise InputError(
            f"{path}: an array of {array.dtype} of shape {array.shape}; embeddings are float16, "
            "float32 or float64, (n, d)"
        )
    if len(array) != len(names):
        raise InputError(
            f"{path}: {len(array)} embeddings, but {beside} has {len(names)} rows; the two belong "
            "to different data"
        )


def _check_repeated(
    path: str, array: np.ndarray, names: Sequence[str], rows: Mapping[str, int], identity: str
) -> None:
    """Raise `InputError` where two rows of one uid differ; the later one is taken otherwise."""
    for row, name in enumerate(names):
        other = rows[name]
        if other != row and array[row].tobytes() != array[other].tobytes():
            raise InputError(
                f"{path}: rows {row} and {other} are both of {identity} {name} and differ; keep one"
            )


def read_array(path: str, key: str | None = None) -> np.ndarray:
    """The array of an .npy. Raises `InputError` where there is none."""
    return _readable(path, lambda: _read_npy(path, key)[0])


def _read_npy(path: str, key: str | None) -> tuple[np.ndarray, None]:
    if key is not None:
        raise InputError(f"{path}: has one array without a name, so key {key!r} has no effect")
    if storage.is_remote(path):
        return np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False), None
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)), None


def _read_npz(path: str, key: str | None) -> tuple[np.ndarray, None]:
    source = io.BytesIO(storage.read_bytes(path)) if storage.is_remote(path) else path
    with zipfile.ZipFile(source) as archive:
        arrays = [name.removesuffix(".npy") for name in archive.namelist()]
        member = archive.getinfo(f"{_only(path, key, arrays, 'array')}.npy")
        if member.compress_type == zipfile.ZIP_STORED and isinstance(source, str):
            return _mapped(source, member), None
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False), None


def _mapped(path: str, member: zipfile.ZipInfo) -> np.ndarray:
    """An array that lies uncompressed in a zip, from the file's memory map."""
    with open(path, "rb") as stream:
        stream.seek(member.header_offset + LOCAL_HEADER - 4)
        lengths = [int.from_bytes(stream.read(2), "little") for _ in range(2)]  # name, extra field
        stream.seek(sum(lengths), io.SEEK_CUR)
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, columns_first, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        order: Any = "F" if columns_first else "C"
        mapped = np.memmap(path, dtype, "r", offset=stream.tell(), shape=shape, order=order)
    return np.asarray(mapped)


def _only(path: str, key: str | None, names: Sequence[str], what: str) -> str:
    """The name that is meant: `key`, or the only one there is."""
    if not names:
        raise InputError(f"{path}: has no {what}")
    if key is None and len(names) > 1:
        raise InputError(f"{path}: which {what} has the embeddings? name one of {', '.join(names)}")
    name = names[0] if key is None else key
    if name not in names:
        raise InputError(f"{path}: no {what} {name!r}; it has {', '.join(names)}")
    return name


def _read_identities(path: str) -> tuple[str, list[str]]:
    """Which column identifies the rows of a parquet, and its strings."""
    with storage.open_input(path) as stream:
        file = pq.ParquetFile(stream)
        names = file.schema_arrow.names
        identity = next((name for name in IDENTITIES if name in names), None)
        if identity is None:
            raise InputError(f"{path}: no column uid or key; it has {', '.join(names)}")
        column = file.read(columns=[identity])[identity]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InputError(f"{path}: column {identity} holds {column.type}; it must hold strings")
    if column.null_count:
        raise InputError(f"{path}: column {identity} is empty in {column.null_count} rows")
    return identity, column.to_pylist()


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in lists) and pa.types.is_floating(kind.value_type)


def _read_lists(path: str, key: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Lists of numbers as an array (N, d), and which rows of the parquet have one, if not all."""
    with storage.open_input(path) as stream:
        file = pq.ParquetFile(stream)
        lists = [field.name for field in file.schema_arrow if _is_list(field.type)]
        name = _only(path, key, lists, "column of lists of numbers")
        column = file.read(columns=[name])[name].combine_chunks()
    present = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.drop_null(pc.list_value_length(column)).to_numpy(zero_copy_only=False)
    if len(lengths) == 0:
        raise InputError(f"{path}: column {name} has no embedding in {len(column)} rows")
    different = np.flatnonzero(lengths != lengths[0])
    if len(different):
        row = int(np.flatnonzero(present)[different[0]])
        raise InputError(
            f"{path}: column {name} has {lengths[0]} numbers in its first row and "
            f"{lengths[different[0]]} in row {row}; give embeddings of one model"
        )
    numbers = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    array = numbers.reshape(len(lengths), int(lengths[0]))
    return array, None if present.all() else present
