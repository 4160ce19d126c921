"""Embeddings of one model in files: of texts, and of pictures by their content.

    <folder>/pictures/<name>.npy     embeddings of some pictures, (n, d) float32
                      <name>.json    written last: which pictures, and which cannot be embedded
             sets/<name>.npy         those of a data set in its order, copied from the parts
             texts/<name>.npy .json  those of a list of texts

What is written is never changed, and a part is called by what it is of: two processes that write
the same part write the same file. Of the files in `pictures` and `texts` the SHA-256 is compared
whenever they are read. A set is mapped into memory and not read, so that its shape alone is looked
at; `sets` may be deleted at any time, and costs no encoding.
"""

import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import IO

import numpy as np

from m4.catalogue import Model
from pipelines import storage
from pipelines.record import digest_of


class Marker(Model):
    """Says that an array is there.

    Attributes
    ----------
    rows : digest of what each row embeds
    dimension : numbers in a row
    failures : by digest, why a picture has no row
    size, sha256 : of the array's file, in bytes
    """

    rows: tuple[str, ...]
    dimension: int
    failures: dict[str, str]
    size: int
    sha256: str


@dataclass(frozen=True)
class ArrayFolder:
    """Arrays (n, d) float32 by name, each with a marker."""

    folder: str

    def names(self) -> list[str]:
        """Of all that have a marker, sorted."""
        found = storage.files(self.folder, "*.json")
        return [PurePosixPath(path).name.removesuffix(".json") for path in found]

    def marker(self, name: str) -> Marker | None:
        """The marker of an array whose file has the right size; warns where it is damaged."""
        path = self._path(name, "json")
        try:
            marker = Marker.model_validate_json(storage.read_bytes(path))
            size, _ = storage.size_and_time(self._path(name, "npy"))
            if size != marker.size:
                raise ValueError(f"its array has {size} bytes, not {marker.size}")
            return marker
        except (OSError, ValueError) as error:
            _warn(path, error)
            return None

    def read(self, name: str, marker: Marker) -> np.ndarray | None:
        """An array; None, with a warning, where it is not what its marker says."""
        path = self._path(name, "npy")
        try:
            content = storage.read_bytes(path)
            if hashlib.sha256(content).hexdigest() != marker.sha256:
                raise ValueError("its content has another SHA-256 than its marker says")
            return np.load(io.BytesIO(content))
        except (OSError, ValueError) as error:
            _warn(path, error)
            return None

    def load(self, name: str) -> np.ndarray | None:
        """An array, if it is there whole; warns where it is damaged."""
        if not storage.exists(self._path(name, "json")):
            return None
        marker = self.marker(name)
        return None if marker is None else self.read(name, marker)

    def write(
        self, name: str, rows: Sequence[str], array: np.ndarray, failures: Mapping[str, str]
    ) -> Marker:
        """Write an array, and its marker after it."""
        stream = io.BytesIO()
        np.save(stream, array.astype(np.float32, copy=False))
        content = stream.getvalue()
        marker = Marker(
            rows=tuple(rows),
            dimension=array.shape[1],
            failures=dict(failures),
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        storage.write_bytes(self._path(name, "npy"), content)
        said = marker.model_dump_json(indent=1) + "\n"
        storage.write_bytes(self._path(name, "json"), said.encode())
        return marker

    def forget(self, name: str) -> None:
        """Remove a marker, so that its array counts as not there."""
        storage.remove(self._path(name, "json"))

    def _path(self, name: str, extension: str) -> str:
        return storage.join(self.folder, f"{name}.{extension}")


class PictureStore:
    """Embeddings of pictures, by the SHA-256 of the picture's file.

    A picture may be in several parts, where several processes encoded it: any of them is taken.
    """

    def __init__(self, folder: str) -> None:
        self._parts = ArrayFolder(storage.join(folder, "pictures"))
        self._sets = storage.join(folder, "sets")
        self._markers: dict[str, Marker] = {}
        self._places: dict[str, tuple[str, int]] = {}  # part and row by digest
        self._failures: dict[str, str] = {}
        self._written: set[str] = set()  # parts that need no check, as they are of this process
        for name in self._parts.names():
            marker = self._parts.marker(name)
            if marker is None:
                self._parts.forget(name)
            else:
                self._enter(name, marker)

    def __contains__(self, digest: str) -> bool:
        return digest in self._places or digest in self._failures

    def failure(self, digest: str) -> str | None:
        """Why a picture cannot be embedded; None where it can, or is not known."""
        return self._failures.get(digest)

    def add(self, rows: Sequence[str], array: np.ndarray, failures: Mapping[str, str]) -> None:
        """Keep embeddings (n, d) of the n pictures of these digests, and what failed beside them.

        The reason of a failure is by the picture's digest.
        """
        name = digest_of(*rows, *chain.from_iterable(failures.items()))
        self._enter(name, self._parts.write(name, rows, array, failures))
        self._written.add(name)

    def forget_damaged(self, digests: Sequence[str]) -> bool:
        """Remove the parts that have one of these pictures and are damaged; whether there are any.

        A new store then lacks their pictures.
        """
        used = {self._places[digest][0] for digest in digests} - self._written
        damaged = [name for name in sorted(used) if self._read(name) is None]
        for name in damaged:
            self._parts.forget(name)
        return bool(damaged)

    def load_set(self, digests: Sequence[str]) -> np.ndarray | None:
        """The embeddings of these pictures in this order, if they were written as a set before.

        They are mapped into memory where the store is local. Warns where the file is damaged.
        """
        path = self._set_path(digests)
        if not storage.exists(path):
            return None
        try:
            if storage.is_remote(path):
                array = np.load(io.BytesIO(storage.read_bytes(path)))
            else:
                array = np.lib.format.open_memmap(path, mode="r")
            if array.shape != self._shape(digests) or array.dtype != np.float32:
                raise ValueError(f"an array of {array.dtype}, {array.shape}")
            return array
        except (EOFError, OSError, ValueError) as error:
            _warn(path, error)
            return None

    def write_set(self, digests: Sequence[str]) -> np.ndarray:
        """Write the embeddings of these pictures, in this order, as a set; as `load_set` has it."""
        path = self._set_path(digests)
        if storage.is_remote(path):
            content = io.BytesIO()
            self._copy(digests, content)
            storage.write_bytes(path, content.getvalue())
        else:
            with storage.atomic_output(path) as stream:
                self._copy(digests, stream)
        array = self.load_set(digests)
        assert array is not None  # it was written just now
        return array

    def _enter(self, name: str, marker: Marker) -> None:
        self._markers[name] = marker
        self._failures |= marker.failures
        for row, digest in enumerate(marker.rows):
            self._places.setdefault(digest, (name, row))

    def _read(self, name: str) -> np.ndarray | None:
        return self._parts.read(name, self._markers[name])

    def _copy(self, digests: Sequence[str], stream: IO[bytes]) -> None:
        """Write a set to a file that can be sought in, part by part: one is in memory at a time."""
        wanted: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for position, digest in enumerate(digests):
            name, row = self._places[digest]
            wanted[name].append((position, row))
        shape = self._shape(digests)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        start, width = stream.tell(), 4 * shape[1]
        for name, pairs in wanted.items():
            array = self._read(name)
            assert array is not None  # `forget_damaged` has read it
            for position, row in pairs:
                stream.seek(start + position * width)
                stream.write(array[row].tobytes())

    def _shape(self, digests: Sequence[str]) -> tuple[int, int]:
        name, _ = self._places[digests[0]]
        return len(digests), self._markers[name].dimension

    def _set_path(self, digests: Sequence[str]) -> str:
        return storage.join(self._sets, f"{digest_of(*digests)}.npy")


def _warn(path: str, error: Exception) -> None:
    reason = " ".join(str(error).split())
    warnings.warn(f"{path}: damaged, made again: {reason}", stacklevel=3)
