"""Tar files, walked header by header, so that damage costs what it hit and nothing more.

Reads USTAR, GNU, PAX and V7 tars, as POSIX.1-2017 (pax) and the manual of GNU tar lay them down.
Never writes.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple
from zlib import adler32

from pipelines.headers import (
    BLOCK,
    GNU,
    KINDS,
    LAYOUT,
    LONG_LINK,
    LONG_NAME,
    MAGIC,
    MAGIC_OFFSET,
    PAX_GLOBAL,
    PLAIN,
    PREFIXES,
    REGULAR,
    SPARSE,
    SURROGATES,
    USTAR,
    WITHOUT_DATA,
    Header,
    expected_low_half,
    parse_header,
    parse_number,
    parse_records,
)

LARGEST_PREFIX = 1_000_000  # bytes of a long name or of PAX records
SMALLEST_READ = 8 * 1024
LARGEST_READ = 256 * 1024
SEARCH_READ = 1024 * 1024

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
    inherits : a PAX global header may say its name or size, which its own bytes then do not hold
    kind : of its header, as a byte; of files always `PLAIN`
    """

    name: str
    header_offset: int
    data_offset: int
    size: int
    end: int
    sparse: bool = False
    inherits: bool = False
    kind: int = PLAIN


class Damage(NamedTuple):
    """A stretch of a tar that cannot be read: its bytes from `offset` to `end`, and why.

    It is empty where nothing but the end mark of the tar is missing.
    """

    offset: int
    end: int
    reason: str


class Skipped(Member):
    """What is no file: a folder, link, device, PAX records for all that follows, or unknown."""


class _Unreadable(NamedTuple):
    """An entry at `offset` that cannot be read; what could be read of its headers ends at `floor`.

    Where that is nothing, the entry before may be what has the wrong length.
    """

    offset: int
    floor: int
    reason: str


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

    Parameters
    ----------
    skipped : yield what is no file too, as `Skipped`
    """

    def __init__(self, stream: IO[bytes], *, skipped: bool = False):
        self.size = stream.seek(0, io.SEEK_END)
        self._stream = stream
        self._unseen = () if skipped else Skipped
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
        while True:
            members = self._plain_members(offset)
            if members:
                if held is not None and not isinstance(held, self._unseen):
                    yield held
                held = members.pop()
                offset = held.end
                yield from members
            entry = self._entry(offset)
            if entry is None:
                break
            if isinstance(entry, _Unreadable):
                damage = self._damage(entry, held)
                if held is not None and damage.offset < held.end:
                    held = None  # belongs to the damage
                item: Member | Damage = damage
            else:
                item = entry
            if held is not None and not isinstance(held, self._unseen):
                yield held
            held, offset = item, item.end
            if offset == self.size and isinstance(item, Damage):
                break
        if held is not None and not isinstance(held, self._unseen):
            yield held

    def read(self, member: Member) -> bytes:
        """The content of a member. Mind its `size`: all of it comes into memory."""
        at = member.data_offset - self._window_offset
        if 0 <= at <= len(self._window) - member.size:
            return self._window[at : at + member.size]
        return self._read_at(member.data_offset, member.size)

    # Entries

    def _plain_members(self, start: int) -> list[Member]:
        """The members from `start` on, as long as they are plain and have headers in the window.

        Says of each what `_entry` says of it. Nearly all members are such, so this loop is what
        takes the time of a walk.
        """
        members: list[Member] = []
        at = start - self._window_offset
        if self._defaults or at < 0:
            return members
        window, last = self._window, len(self._window) - BLOCK
        while at <= last:
            name, digits, checksum, kind, _, folder = LAYOUT.unpack_from(window, at)
            low_half = adler32(window[at : at + BLOCK]) & 0xFFFF
            if kind != PLAIN or folder[0] or low_half != expected_low_half(checksum):
                break
            try:
                size = parse_number(digits)
            except ValueError:
                break
            data_offset = start + BLOCK
            end = data_offset + size + -size % BLOCK
            if not 0 <= size <= end <= self.size:
                break
            text = name.partition(b"\0")[0].decode("utf-8", SURROGATES)
            members.append(Member(text, start, data_offset, size, end))
            at += end - start
            start = end
        return members

    def _entry(self, start: int) -> Member | _Unreadable | None:
        """The entry whose first header is at `start`; None at the end, if the tar ends well."""
        offset = start
        prefix: _Prefix | None = None
        while True:
            block = self._bytes(offset, BLOCK)
            header = parse_header(block)
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
                return Skipped("", start, data_offset, header.size, offset, kind=PAX_GLOBAL)
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

    def _take(self, prefix: _Prefix, header: Header, data_offset: int) -> bool:
        """Add what a header before a member's own says; False where it cannot be read."""
        if header.size > LARGEST_PREFIX:
            return False
        content = self._bytes(data_offset, header.size)
        if header.kind == LONG_NAME:
            prefix.name = content.partition(b"\0")[0]
        elif header.kind != LONG_LINK:
            records = parse_records(content)
            if records is None:
                return False
            if header.kind == PAX_GLOBAL:
                defaults = {**self._defaults, **records}
                self._defaults = {name: value for name, value in defaults.items() if value}
            else:
                prefix.records.update(records)
        return True

    def _extended(
        self, start: int, data_offset: int, header: Header, prefix: _Prefix
    ) -> Member | _Unreadable:
        records = {**self._defaults, **prefix.records}
        size = records.get(b"size") or b"%d" % header.size
        if not size.isdigit() or len(size) > 20:
            return _Unreadable(start, data_offset, BAD_HEADER)
        name = records.get(b"GNU.sparse.name") or records.get(b"path") or prefix.name
        sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        whole = Header(header.kind, int(size), name or header.name)
        return self._checked(start, data_offset, whole, sparse)

    def _checked(
        self, start: int, data_offset: int, header: Header, sparse: bool = False
    ) -> Member | _Unreadable:
        kind, size, encoded = header
        sparse |= kind == SPARSE
        made = Member if kind in REGULAR or sparse else Skipped
        if kind in WITHOUT_DATA or (kind == 0 and encoded.endswith(b"/")):  # a folder of V7
            made, size = Skipped, 0
        end = data_offset + size + -size % BLOCK
        if end > self.size:
            return _Unreadable(start, data_offset, TRUNCATED)
        name = encoded.decode("utf-8", SURROGATES)
        kind = PLAIN if made is Member else kind
        return made(name, start, data_offset, size, end, sparse, bool(self._defaults), kind)

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
        header = parse_header(block)
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
