"""Samples as byte spans of tars: gathered, checked, and put into other tars as they are."""

import errno
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import IO

import numpy as np

from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.groups import split_member
from pipelines.headers import BLOCK, KIND_OFFSET, NAME_LENGTH, REGULAR, SURROGATES
from pipelines.shards import ShardRef, unreadable_reason
from pipelines.tars import Damage, Member, TarReader

GATHERED = 32 * 1024 * 1024  # bytes in memory at a time, unless a single sample is larger
READ_THROUGH = 1024 * 1024  # bytes at a time
FILES_OPEN = 256
END_OF_TAR = bytes(2 * BLOCK)

CHANGED = "the shard has changed since its table was made"
OUTSIDE = "the span ends outside the shard"
OTHER_SAMPLE = "the span holds another sample"


@dataclass(frozen=True, eq=False)
class Spans:
    """Samples in the order in which they are wanted; n of them.

    Attributes
    ----------
    source : (n,) the number of the shard that each lies in
    offset, length : (n,) int64, in bytes
    keys : n keys in UTF-8
    """

    source: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    keys: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.offset)

    def part(self, start: int, stop: int) -> "Spans":
        """Those from `start` to `stop`."""
        part = slice(start, stop)
        return Spans(self.source[part], self.offset[part], self.length[part], self.keys[part])


@dataclass(frozen=True)
class Sources:
    """Shards by their number: the local files that they can be read from, or why they cannot."""

    paths: Mapping[int, str]
    unreadable: Mapping[int, str]


@contextmanager
def local_sources(
    shards: Sequence[ShardRef], scratch: str | None = None, *, dense: bool = False
) -> Iterator[Sources]:
    """Shards as local files. Remote ones are copied, each once, and the copies removed at the end.

    Parameters
    ----------
    dense : much of the shards is wanted, so they are read through once, from front to back: the
        system then has their spans in memory, which costs far less than to fetch them one by one
    scratch : folder for the copies, which take as many bytes as the shards; the system's temporary
        one where it is left out
    """
    paths: dict[int, str] = {}
    unreadable: dict[int, str] = {}
    with ExitStack() as stack:
        folder = ""
        if any(storage.is_remote(shard.path) for shard in shards):
            folder = stack.enter_context(_scratch_folder(scratch))
        for number, shard in enumerate(shards):
            path = shard.path
            try:
                if storage.is_remote(path):
                    path = os.path.join(folder, f"{number}.tar")
                    storage.copy(shard.path, path)
                if os.stat(path).st_size != shard.size:
                    unreadable[number] = CHANGED
                    continue
                if dense and not storage.is_remote(shard.path):
                    _read_through(path)
                paths[number] = path
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise InputError(
                        f"{folder}: no space for a copy of {shard.path}, {shard.size:,} bytes; "
                        "make room, or name another folder with scratch"
                    ) from None
                unreadable[number] = unreadable_reason(error)
        yield Sources(paths, unreadable)
        for path in paths.values() if dense else ():
            with suppress(OSError), open(path, "rb") as stream:
                storage.let_go_of(stream)


def _read_through(path: str) -> None:
    buffer = bytearray(READ_THROUGH)
    with open(path, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


@contextmanager
def _scratch_folder(scratch: str | None) -> Iterator[str]:
    try:
        folder = TemporaryDirectory(dir=scratch)
    except OSError as error:
        raise InputError(f"scratch {scratch}: {error.strerror or error}; name another") from None
    with folder as name:
        yield name


@dataclass
class Written:
    """What became of the samples of a tar.

    Attributes
    ----------
    successes : samples that it holds
    failures : samples that were left out, by reason
    examples : the first key for each reason
    """

    successes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


class SpanWriter:
    """Writes samples of some shards into new tars, headers and all, byte for byte.

    Where a tar would hold two samples of one key, which readers take for one, the second is
    renamed: its headers are made anew, its contents are not touched.

    Parameters
    ----------
    sources : the shards
    stems : of the shards, by number; they go before the keys of samples that are renamed
    """

    def __init__(self, sources: Sources, stems: Sequence[str]):
        self._sources = sources
        self._stems = stems
        self._files: dict[int, int] = {}
        self._buffer = bytearray()

    def close(self) -> None:
        """Close the shards that were read."""
        while self._files:
            os.close(self._files.popitem()[1])

    def write(self, path: str, spans: Spans) -> Written:
        """Write one tar, atomically. Samples that cannot be read are left out, and counted."""
        written = Written()
        renamed = new_keys(spans, self._stems)
        with storage.atomic_output(path, reread=False) as stream:
            for start, stop in _pieces(spans.length):
                piece = spans.part(start, stop)
                here = {row - start: key for row, key in renamed.items() if start <= row < stop}
                self._write_piece(stream, piece, here, written)
            stream.write(END_OF_TAR)
        return written

    def _write_piece(
        self, stream: IO[bytes], spans: Spans, renamed: Mapping[int, bytes], written: Written
    ) -> None:
        ends = np.cumsum(spans.length)
        begins = ends - spans.length
        if len(self._buffer) < ends[-1]:
            self._buffer = bytearray(max(int(ends[-1]), GATHERED))
        failures = self._gather(spans, begins)
        changed: dict[int, bytes] = {}
        for row in sorted({*self._to_look_at(spans, begins), *renamed} - failures.keys()):
            content = bytes(self._buffer[begins[row] : ends[row]])
            try:
                members = _members(content, spans.keys[row])
            except UnusableSample as error:
                failures[row] = str(error)
                continue
            if row in renamed:
                changed[row] = _with_key(content, members, spans.keys[row], renamed[row])
        view = memoryview(self._buffer)
        done = 0  # bytes of the buffer that are written or left out
        for row in sorted({*failures, *changed}):
            stream.write(view[done : begins[row]])
            stream.write(changed.get(row, b""))
            done = int(ends[row])
        stream.write(view[done : ends[-1]])
        written.successes += len(spans) - len(failures)
        written.failures.update(failures.values())
        for row in sorted(failures):
            written.examples.setdefault(failures[row], spans.keys[row].decode())

    def _gather(self, spans: Spans, begins: np.ndarray) -> dict[int, str]:
        """Read spans to their places in the buffer; shard by shard, from front to back.

        Returns the rows that cannot be read, and why.
        """
        failures = {}
        view = memoryview(self._buffer)
        rows = np.lexsort((spans.offset, spans.source))
        wanted = (rows, spans.source[rows], spans.offset[rows], spans.length[rows], begins[rows])
        for row, source, offset, length, begin in zip(
            *(each.tolist() for each in wanted), strict=True
        ):
            try:
                file = self._files.get(source)
                if file is None:
                    file = self._open(source)
                place = view[begin : begin + length]
                found = os.preadv(file, (place,), offset)
                if found < length and not _read_on(file, place, offset, found):
                    failures[row] = OUTSIDE
            except OSError as error:
                failures[row] = unreadable_reason(error)
            except UnusableSample as error:
                failures[row] = str(error)
        return failures

    def _open(self, source: int) -> int:
        if source in self._sources.unreadable:
            raise UnusableSample(self._sources.unreadable[source])
        while len(self._files) >= FILES_OPEN:
            os.close(self._files.pop(next(iter(self._files))))
        self._files[source] = os.open(self._sources.paths[source], os.O_RDONLY)
        return self._files[source]

    def _to_look_at(self, spans: Spans, begins: np.ndarray) -> Iterator[int]:
        """Rows that do not begin with the plain header of a member with their key."""
        buffer = self._buffer
        for row, (begin, key) in enumerate(zip(begins.tolist(), spans.keys, strict=True)):
            name = key + b"."
            extension = begin + len(name)
            if (
                buffer[begin:extension] != name
                or buffer.find(b".", extension, begin + NAME_LENGTH) >= 0
                or buffer[begin + KIND_OFFSET] not in REGULAR
            ):
                yield row


def _read_on(file: int, view: memoryview, offset: int, found: int) -> bool:
    """Read the rest of a span, of which the system gave but a part; False where there is none."""
    while found < len(view):
        more = os.preadv(file, (view[found:],), offset + found)
        if not more:
            return False
        found += more
    return True


def _pieces(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut a row of lengths into pieces of at most `GATHERED` bytes, and at least one span."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        most = (ends[start - 1] if start else 0) + GATHERED
        stop = max(int(np.searchsorted(ends, most, side="right")), start + 1)
        yield start, stop
        start = stop


def new_keys(spans: Spans, stems: Sequence[str]) -> dict[int, bytes]:
    """Keys for samples that come after another with the same key, by row."""
    taken = set(spans.keys)
    if len(taken) == len(spans):
        return {}
    seen: set[bytes] = set()
    found = {}
    for row, key in enumerate(spans.keys):
        if key in seen:
            folder, slash, name = key.rpartition(b"/")
            # A dot would end the key for webdataset.
            stem = stems[int(spans.source[row])].replace(".", "_").encode()
            renamed = folder + slash + stem + b"-" + name
            number = 1
            while renamed in taken:
                number += 1
                renamed = folder + slash + stem + b"-" + name + b"-%d" % number
            taken.add(renamed)
            found[row] = renamed
        seen.add(key)
    return found


def _members(content: bytes, key: bytes) -> list[Member]:
    """The members of a span. Raises `UnusableSample` unless they are all of one key, and whole."""
    members = []
    for item in TarReader(io.BytesIO(content + END_OF_TAR)):
        if isinstance(item, Damage) or split_member(item.name)[0] != key.decode():
            raise UnusableSample(OTHER_SAMPLE)
        members.append(item)
    if not members:
        raise UnusableSample(OTHER_SAMPLE)
    return members


def _with_key(content: bytes, members: Sequence[Member], key: bytes, new_key: bytes) -> bytes:
    """A sample with another key: its headers are made anew, with what they say of times and modes.

    PAX records that are neither of a name nor of a size are not kept.
    """
    pieces = []
    for member in members:
        header = content[member.data_offset - BLOCK : member.data_offset]
        info = tarfile.TarInfo.frombuf(header, "utf-8", SURROGATES)
        info.name = new_key.decode() + member.name[len(key.decode()) :]
        info.size = member.size
        pieces.append(info.tobuf(tarfile.PAX_FORMAT, "utf-8", SURROGATES))
        pieces.append(content[member.data_offset : member.end])
    return b"".join(pieces)
