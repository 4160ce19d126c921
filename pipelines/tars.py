"""Tar files, walked header by header, so that damage costs what it hit and nothing more.

Reads USTAR, GNU, PAX and V7 tars, as POSIX.1-2017 (pax) and the manual of GNU tar lay them down.
Never writes.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple
from zlib import adler32

BLOCK = 512
LARGEST_PREFIX = 1_000_000  # bytes of a long name or of PAX records
SMALLEST_READ = 8 * 1024
LARGEST_READ = 256 * 1024
SEARCH_READ = 1024 * 1024

# Of a header: name, size, checksum, kind, magic, prefix of the name.
LAYOUT = struct.Struct("100s 24x 12s 12x 8s B 100x 6s 82x 155s 12x")
MAGIC_OFFSET = 257
MAGIC = b"ustar"
USTAR = b"ustar\0"
GNU = b"ustar "
ADLER_MODULUS = 65521

SURROGATES = "surrogateescape"

PLAIN = ord("0")
REGULAR = frozenset({0, PLAIN, ord("7")})  # 0 in V7; "7" is contiguous
WITHOUT_DATA = frozenset(b"123456")  # links, devices, folders, queues
SPARSE = ord("S")
LONG_NAME = ord("L")
LONG_LINK = ord("K")
PAX_GLOBAL = ord("g")
PREFIXES = frozenset({LONG_NAME, LONG_LINK, PAX_GLOBAL, ord("x"), ord("X")})
KINDS = REGULAR | WITHOUT_DATA | PREFIXES | frozenset(b"SDMNV")

TRUNCATED = "truncated shard"
BAD_HEADER = "damaged shard: bad header"
MISSING_BYTES = "damaged shard: bytes are missing"
MORE_DATA = "damaged shard: more data after the end of the tar"


class Member(NamedTuple):
    """A regular file in a tar. Offsets and sizes are in bytes, from the start of the tar.

    Attributes
    ----------
    name : as the tar says; bytes that are not UTF-8 are surrogate escapes
    header_offset : where its headers begin, those of its long name and its PAX records included
    data_offset, size : where its content is
    end : where the next header is, padding included
    sparse : the file had holes, so that what the tar holds is not its content
    """

    name: str
    header_offset: int
    data_offset: int
    size: int
    end: int
    sparse: bool = False


class Damage(NamedTuple):
    """A stretch of a tar that cannot be read: its bytes from `offset` to `end`, and why.

    It is empty where nothing but the end mark of the tar is missing.
    """

    offset: int
    end: int
    reason: str


class _Skipped(Member):
    """A folder, link, device or something unknown: walked over, and not yielded."""


class _Unreadable(NamedTuple):
    """An entry at `offset` that cannot be read; what could be read of its headers ends at `floor`.

    Where that is nothing, the entry before may be what has the wrong length.
    """

    offset: int
    floor: int
    reason: str


class _Header(NamedTuple):
    kind: int
    size: int
    name: bytes


@dataclass
class _Prefix:
    """What the headers before a member's own say of it."""

    name: bytes = b""
    records: dict[bytes, bytes] = field(default_factory=dict)


class TarReader:
    """Walks a tar. Iterating yields its `Member`s and `Damage`s in order; they never overlap.

    After a header that cannot be read, the bytes that follow are searched for the next one, on
    the grid of 512 bytes and off it. The search begins in the content of the member before, which
    may have lost bytes: a member that has a header in its content, or padding that is not zero,
    or after which the grid is another one, belongs to the damage.

    Headers are read in large pieces where members are small; members larger than the piece read
    last are leapt over. Contents are read by `read` alone.

    The stream must be seekable, and is not closed. What it raises (`OSError`) is passed on, also
    where it ends early; whatever its bytes are, nothing else is raised.
    """

    def __init__(self, stream: IO[bytes]):
        self.size = stream.seek(0, io.SEEK_END)
        self._stream = stream
        self._position = self.size
        self._window = b""
        self._window_offset = 0
        self._read_length = SMALLEST_READ
        self._defaults: dict[bytes, bytes] = {}  # PAX records that hold for all that follows

    def __iter__(self) -> Iterator[Member | Damage]:
        self._defaults = {}
        offset = 0
        # Held back until what follows is known to be a header, or the end.
        held: Member | Damage | None = None
        while (entry := self._entry(offset)) is not None:
            if isinstance(entry, _Unreadable):
                damage = self._damage(entry, held)
                if held is not None and damage.offset < held.end:
                    held = None  # belongs to the damage
                item: Member | Damage = damage
            else:
                item = entry
            if held is not None and not isinstance(held, _Skipped):
                yield held
            held, offset = item, item.end
            if offset == self.size and isinstance(item, Damage):
                break
        if held is not None and not isinstance(held, _Skipped):
            yield held

    def read(self, member: Member) -> bytes:
        """The content of a member. Mind its `size`: all of it comes into memory."""
        at = member.data_offset - self._window_offset
        if 0 <= at <= len(self._window) - member.size:
            return self._window[at : at + member.size]
        return self._read_at(member.data_offset, member.size)

    # Entries

    def _entry(self, start: int) -> Member | _Unreadable | None:
        """The entry whose first header is at `start`; None at the end, if the tar ends well."""
        header = _parse_header(self._bytes(start, BLOCK))
        if header is not None and header.kind == PLAIN and not self._defaults:  # nearly always
            _, size, name = header
            data_offset = start + BLOCK
            end = data_offset + size + -size % BLOCK
            if end <= self.size:
                return Member(name.decode("utf-8", SURROGATES), start, data_offset, size, end)
        return self._any_entry(start)

    def _any_entry(self, start: int) -> Member | _Unreadable | None:
        """The same, for all that a tar may hold."""
        offset = start
        prefix: _Prefix | None = None
        while True:
            block = self._bytes(offset, BLOCK)
            header = _parse_header(block)
            if header is None:
                return self._no_header(start, offset, block)
            data_offset = offset + BLOCK
            if header.kind not in PREFIXES:
                break
            offset = data_offset + _padded(header.size)
            if offset > self.size:
                return _Unreadable(start, data_offset, TRUNCATED)
            prefix = prefix or _Prefix()
            if not self._take(prefix, header, data_offset):
                return _Unreadable(start, data_offset, BAD_HEADER)
            if header.kind == PAX_GLOBAL and data_offset == start + BLOCK:
                return _Skipped("", start, data_offset, header.size, offset)
        if header.kind == SPARSE:
            more = block[482]
            while more:  # further blocks of the map of its holes
                block = self._bytes(data_offset, BLOCK)
                data_offset += len(block)
                if len(block) < BLOCK:
                    return _Unreadable(start, data_offset, TRUNCATED)
                more = block[504]
        if prefix is not None or self._defaults:
            return self._extended(start, data_offset, header, prefix or _Prefix())
        return self._checked(start, data_offset, header)

    def _no_header(self, start: int, offset: int, block: bytes) -> _Unreadable | None:
        if len(block) < BLOCK:
            return _Unreadable(start, offset, TRUNCATED)
        if any(block):
            return _Unreadable(start, offset, BAD_HEADER)
        if start == offset and self._only_zeros(offset):
            return None
        return _Unreadable(start, offset, MORE_DATA)

    def _take(self, prefix: _Prefix, header: _Header, data_offset: int) -> bool:
        """Add what a header before a member's own says; False where it cannot be read."""
        if header.size > LARGEST_PREFIX:
            return False
        content = self._bytes(data_offset, header.size)
        if header.kind == LONG_NAME:
            prefix.name = content.partition(b"\0")[0]
        elif header.kind != LONG_LINK:
            records = _parse_records(content)
            if records is None:
                return False
            if header.kind == PAX_GLOBAL:
                self._defaults = {**self._defaults, **records}
            else:
                prefix.records.update(records)
        return True

    def _extended(
        self, start: int, data_offset: int, header: _Header, prefix: _Prefix
    ) -> Member | _Unreadable:
        records = {**self._defaults, **prefix.records}
        size = records.get(b"size") or b"%d" % header.size
        if not size.isdigit() or len(size) > 20:
            return _Unreadable(start, data_offset, BAD_HEADER)
        name = records.get(b"GNU.sparse.name") or records.get(b"path") or prefix.name
        sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        whole = _Header(header.kind, int(size), name or header.name)
        return self._checked(start, data_offset, whole, sparse)

    def _checked(
        self, start: int, data_offset: int, header: _Header, sparse: bool = False
    ) -> Member | _Unreadable:
        kind, size, encoded = header
        sparse |= kind == SPARSE
        made = Member if kind in REGULAR or sparse else _Skipped
        if kind in WITHOUT_DATA or (kind == 0 and encoded.endswith(b"/")):  # a folder of V7
            made, size = _Skipped, 0
        end = data_offset + size + -size % BLOCK
        if end > self.size:
            return _Unreadable(start, data_offset, TRUNCATED)
        name = encoded.decode("utf-8", SURROGATES)
        return made(name, start, data_offset, size, end, sparse)

    # Damage

    def _damage(self, bad: _Unreadable, before: Member | Damage | None) -> Damage:
        """The stretch from an entry that cannot be read to the next header, or to the end.

        It begins with what comes before, where that is damaged too.
        """
        offset, search_from, reason = bad
        if isinstance(before, Member) and bad.floor == bad.offset:
            found = self._next_header(before.data_offset)
            if self._is_hit(before, found):
                offset = before.header_offset
        else:
            found = self._next_header(search_from)
            if isinstance(before, Damage):
                offset, reason = before.offset, before.reason
        if found is not None:
            return Damage(offset, found, MISSING_BYTES if reason == TRUNCATED else reason)
        if bad.floor == 0:
            what = "bad header" if self.size >= BLOCK else "truncated header"
            reason = f"not a tar: {what if self.size else 'empty file'}"
        return Damage(offset, self.size, reason)

    def _is_hit(self, member: Member, found: int | None) -> bool:
        """Whether a member before damage was hit too; `found` is the next header."""
        content_end = member.data_offset + member.size
        if any(self._bytes(content_end, member.end - content_end)):
            return True
        return found is not None and (found < member.end or (found - member.end) % BLOCK != 0)

    def _next_header(self, start: int) -> int | None:
        """Where the first plausible header at `start` or after it begins, on any offset."""
        while start + BLOCK <= self.size:
            piece = self._read_at(start, min(SEARCH_READ, self.size - start))
            at = piece.find(MAGIC, MAGIC_OFFSET) - MAGIC_OFFSET
            while 0 <= at <= len(piece) - BLOCK:
                if self._is_plausible(start + at, piece[at : at + BLOCK]):
                    return start + at
                at = piece.find(MAGIC, at + MAGIC_OFFSET + 1) - MAGIC_OFFSET
            start += len(piece) - BLOCK + 1
        return None

    def _is_plausible(self, offset: int, block: bytes) -> bool:
        header = _parse_header(block)
        if header is None or block[MAGIC_OFFSET : MAGIC_OFFSET + 6] not in (USTAR, GNU):
            return False
        size = 0 if header.kind in WITHOUT_DATA else _padded(header.size)
        return header.kind in KINDS and bool(header.name) and offset + BLOCK + size <= self.size

    def _only_zeros(self, start: int) -> bool:
        while start < self.size:
            piece = self._read_at(start, min(SEARCH_READ, self.size - start))
            if piece.count(0) < len(piece):
                return False
            start += len(piece)
        return True

    # Bytes

    def _bytes(self, offset: int, length: int) -> bytes:
        """Bytes that are likely to be followed by others; fewer at the end of the tar."""
        at = offset - self._window_offset
        found = self._window[at : at + length] if at >= 0 else b""
        if len(found) == length:
            return found
        self._move_window(offset, length)
        return self._window[:length]

    def _move_window(self, offset: int, length: int) -> None:
        """Begin the window at `offset`. It grows while it moves on, and is small after a leap."""
        window_end = self._window_offset + len(self._window)
        moved_on = self._window_offset <= offset <= window_end + self._read_length
        kept = self._window[offset - self._window_offset :] if moved_on else b""
        self._read_length = min(2 * self._read_length, LARGEST_READ) if moved_on else SMALLEST_READ
        more = min(max(length, self._read_length), self.size - offset) - len(kept)
        self._window = kept + self._read_at(offset + len(kept), more) if more > 0 else kept
        self._window_offset = offset

    def _read_at(self, offset: int, length: int) -> bytes:
        if offset != self._position:
            self._stream.seek(offset)
        self._position = offset + length
        content = self._stream.read(length)
        while len(content) < length:  # a stream without a buffer may give less than asked for
            more = self._stream.read(length - len(content))
            if not more:
                raise OSError(f"the file ended at byte {offset + len(content)} of {self.size}")
            content += more
        return content


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _number(digits: bytes) -> int:
    """A number field: octal, or to the base 256 where the first bit is set. Raises ValueError."""
    if digits[0] & 0x80:
        return int.from_bytes(digits, signed=True) + (1 << (8 * len(digits) - 1))
    return int(digits.rstrip(b"\0 ") or b"0", 8)


def _parse_header(block: bytes) -> _Header | None:
    """What a block says; None unless it has the checksum of a header and a size.

    The low half of Adler-32 is 1 + the sum of all bytes, modulo 65521: far faster than a sum. The
    checksum of tar is that sum with blanks in its own place.
    """
    if len(block) < BLOCK:
        return None
    name, size_digits, checksum, kind, magic, folder = LAYOUT.unpack(block)
    try:
        expected = _number(checksum) + sum(checksum) - 8 * ord(" ") + 1
        if (adler32(block) & 0xFFFF) != expected % ADLER_MODULUS:
            return None
        size = _number(size_digits)
    except ValueError:
        return None
    if size < 0:
        return None
    name = name.partition(b"\0")[0]
    if folder[0] and magic == USTAR:
        name = folder.partition(b"\0")[0] + b"/" + name
    return _Header(kind, size, name)


def _parse_records(content: bytes) -> dict[bytes, bytes] | None:
    """The records of a PAX header that matter here; None unless all of it is records.

    A record is "%d %s=%s\\n" of its own length, keyword and value, all in UTF-8.
    """
    records = {}
    at = 0
    while at < len(content):
        digits, _, _ = content[at : at + 20].partition(b" ")
        if not digits.isdigit():
            return None
        end = at + int(digits)
        keyword, equals, value = content[at + len(digits) + 1 : end].partition(b"=")
        if end > len(content) or not equals or not value.endswith(b"\n"):
            return None
        if keyword in (b"path", b"size") or keyword.startswith(b"GNU.sparse."):
            records[keyword] = value[:-1]
        at = end
    return records
