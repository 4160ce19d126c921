"""The headers of tars, as POSIX.1-2017 (ustar and pax) and the manual of GNU tar lay them down."""

import struct
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

BLOCK = 512
CACHED = 1 << 14  # number fields; the headers of a tar have few different checksums and sizes

# Of a header: name, size, checksum, kind, magic, prefix of the name.
LAYOUT = struct.Struct("100s 24x 12s 12x 8s B 100x 6s 82x 155s 12x")
NAME_LENGTH = 100
KIND_OFFSET = 156
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


class Header(NamedTuple):
    """What a block of 512 bytes says: the kind of an entry, the size of its content, its name."""

    kind: int
    size: int
    name: bytes


@lru_cache(maxsize=CACHED)
def parse_number(digits: bytes) -> int:
    """A number field: octal, or to the base 256 where the first bit is set. Raises ValueError."""
    if digits[0] & 0x80:
        return int.from_bytes(digits, signed=True) + (1 << (8 * len(digits) - 1))
    return int(digits.rstrip(b"\0 ") or b"0", 8)


def parse_header(block: bytes) -> Header | None:
    """What a block says; None unless it has the checksum of a header and a size.

    The low half of Adler-32 is 1 + the sum of all bytes, modulo 65521: far faster than a sum.
    """
    if len(block) < BLOCK:
        return None
    name, size_digits, checksum, kind, magic, folder = LAYOUT.unpack(block)
    if adler32(block) & 0xFFFF != expected_low_half(checksum):
        return None
    try:
        size = parse_number(size_digits)
    except ValueError:
        return None
    if size < 0:
        return None
    name = name.partition(b"\0")[0]
    if folder[0] and magic == USTAR:
        name = folder.partition(b"\0")[0] + b"/" + name
    return Header(kind, size, name)


@lru_cache(maxsize=CACHED)
def expected_low_half(checksum: bytes) -> int:
    """What the low half of a header's Adler-32 has to be; -1 where the checksum is no number.

    The checksum of tar is the sum of the header's bytes, with blanks in its own place.
    """
    try:
        total = parse_number(checksum) + sum(checksum) - 8 * ord(" ")
    except ValueError:
        return -1
    return (1 + total) % ADLER_MODULUS


def parse_records(content: bytes) -> dict[bytes, bytes] | None:
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
