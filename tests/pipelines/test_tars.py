"""Walking tars: in every format, and whatever has happened to them."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.tars import LARGEST_PREFIX, Damage, Member, Skipped, TarReader

MakeTar = Callable[..., bytes]
FORMATS = [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]
END = bytes(2 * tarfile.BLOCKSIZE)
LONG = "folder/" * 30 + "name.jpg"
GNU_TAR = shutil.which("tar")

needs_gnu_tar = pytest.mark.skipif(
    GNU_TAR is None
    or b"GNU tar" not in subprocess.run([GNU_TAR, "--version"], capture_output=True).stdout,
    reason="no GNU tar",
)


def walk(content: bytes) -> list[Member | Damage]:
    return list(TarReader(io.BytesIO(content)))


def members_of(content: bytes) -> list[tuple[str, bytes]]:
    tar = TarReader(io.BytesIO(content))
    return [(each.name, tar.read(each)) for each in list(tar) if isinstance(each, Member)]


def names_of(content: bytes) -> list[str]:
    return [name for name, _ in members_of(content)]


def damage_of(content: bytes) -> list[Damage]:
    return [each for each in walk(content) if isinstance(each, Damage)]


def by_tarfile(content: bytes) -> list[tuple[str, int, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:", encoding="utf-8") as tar:
        found = [each for each in tar if each.isfile() and not each.issparse()]
    return [(each.name, each.offset, each.offset_data, each.size) for each in found]


def by_us(content: bytes) -> list[tuple[str, int, int, int]]:
    found = walk(content)
    assert all(isinstance(each, Member) for each in found)
    return [each[:4] for each in found if isinstance(each, Member) and not each.sparse]


def header(name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    """A header with these very fields and a right checksum."""
    block = name.ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + size.ljust(12, b"\0")
    block += b"00000000000\0" + b" " * 8 + kind + bytes(100) + magic
    block = block.ljust(tarfile.BLOCKSIZE, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def entry(name: bytes, content: bytes, kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    return header(name, b"%011o\0" % len(content), kind, magic) + padded(content)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def record(keyword: str, value: str) -> bytes:
    rest = f" {keyword}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


# Whole tars

names = st.one_of(
    st.text("abc.é☃ /", min_size=1, max_size=12).map(lambda text: f"k{text}k"),
    st.integers(80, 300).map(lambda length: "long/" * (length // 5) + "k.jpg"),
    st.just("k\udcff.txt"),
)
kinds = st.sampled_from(
    [tarfile.REGTYPE] * 6
    + [tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]
    + [tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
entries = st.lists(st.tuples(names, st.binary(max_size=1200), kinds), min_size=1, max_size=8)


@settings(deadline=None, max_examples=150)
@given(
    entries=entries,
    tar_format=st.sampled_from(FORMATS),
    comments=st.booleans(),
    everywhere=st.booleans(),
)
@example([("k.jpg", b"x" * 512, tarfile.REGTYPE)], tarfile.PAX_FORMAT, True, True)
def test_a_whole_tar_is_read_as_tarfile_reads_it(
    entries: list[tuple[str, bytes, bytes]], tar_format: int, comments: bool, everywhere: bool
) -> None:
    stream = io.BytesIO()
    options: dict[str, Any] = {"format": tar_format, "encoding": "utf-8"}
    if everywhere and tar_format == tarfile.PAX_FORMAT:
        options["pax_headers"] = {"comment": "of all"}
    with tarfile.open(fileobj=stream, mode="w", **options) as tar:
        for name, content, kind in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "somewhere/" * (len(name) // 2)
            if comments:
                info.pax_headers = {"comment": "é" * len(name)}
            if kind in tarfile.REGULAR_TYPES:
                info.size = len(content)
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:  # too long a name for USTAR
                assert tar_format == tarfile.USTAR_FORMAT
    whole = stream.getvalue()
    assert by_us(whole) == by_tarfile(whole)
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:", encoding="utf-8") as tar:
        contents = [tar.extractfile(each) for each in tar if each.isfile()]
        assert [read for _, read in members_of(whole)] == [each.read() for each in contents if each]


def test_an_entry_ends_where_the_next_begins(tar_bytes: MakeTar) -> None:
    whole = tar_bytes([("a.jpg", b"x" * 513), (LONG, b""), ("c.txt", b"y")], tarfile.GNU_FORMAT)
    first, second, third = walk(whole)
    assert first == Member("a.jpg", 0, 512, 513, 1536)
    assert second == Member(LONG, 1536, 1536 + 3 * 512, 0, 3072)
    assert third == Member("c.txt", 3072, 3584, 1, 4096)
    assert not whole[4096:].strip(b"\0")


@pytest.mark.parametrize("name", ["v7.txt", "folder/v7.txt"])
def test_tars_of_version_7_are_read(name: str) -> None:
    folder = header(b"folder/", b"%011o\0" % 5, b"\0", b"")
    content = folder + entry(name.encode(), b"hello", b"\0", b"") + END
    assert members_of(content) == [(name, b"hello")]
    assert by_us(content) == by_tarfile(content)


def test_what_follows_a_gnu_name_is_no_prefix() -> None:
    """GNU tar keeps times where USTAR keeps the front of a long name."""
    block = bytearray(header(b"a.txt", b"%011o\0" % 0, b"0", b"ustar  \0"))
    block[345:357] = b"14000000000\0"
    checksum = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    block[148:156] = checksum
    assert names_of(bytes(block) + END) == ["a.txt"]


@pytest.mark.parametrize(
    "digits",
    [
        b"5",
        b"          5 ",
        b"00000000005\0",
        b"000000000005",
        b"5 \0",
        b"\x80" + bytes(10) + b"\5",
    ],
)
def test_sizes_are_read_in_every_spelling(digits: bytes) -> None:
    content = header(b"a.txt", digits) + padded(b"hello") + entry(b"b.txt", b"next") + END
    assert members_of(content) == [("a.txt", b"hello"), ("b.txt", b"next")]
    assert by_us(content) == by_tarfile(content)


def test_a_size_to_the_base_256_is_read_as_tarfile_writes_it() -> None:
    info = tarfile.TarInfo("large.jpg")
    info.size = 2**33 + 5
    (damage,) = walk(info.tobuf(tarfile.GNU_FORMAT) + END)
    assert damage == Damage(0, 512 + len(END), "truncated shard")


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return entry(b"PaxHeaders/a", records, kind)


def test_pax_records_have_the_last_word() -> None:
    records = (
        record("path", "é/" * 80 + "a.txt") + record("comment", "x\ny=z") + record("size", "5")
    )
    content = pax(records) + header(b"short", b"0") + padded(b"hello") + entry(b"b", b"") + END
    assert members_of(content) == [("é/" * 80 + "a.txt", b"hello"), ("b", b"")]
    assert by_us(content) == by_tarfile(content)


def test_pax_records_for_all_hold_until_others_come() -> None:
    content = pax(record("path", "all"), b"g") + entry(b"a", b"1") + pax(record("path", "one"))
    content += (
        entry(b"b", b"2") + pax(record("path", "")) + entry(b"c", b"3") + entry(b"d", b"") + END
    )
    assert names_of(content) == ["all", "one", "c", "all"]
    assert walk(content)[0] == Member("all", 1024, 1536, 1, 2048, inherits=True)


def test_members_that_a_global_header_may_name_or_measure_say_so() -> None:
    """Their own bytes, copied elsewhere, would be read as something else."""
    name, nothing = pax(record("path", "all"), b"g"), pax(record("path", ""), b"g")
    content = entry(b"a", b"1") + pax(record("comment", "x"), b"g") + entry(b"b", b"2") + name
    content += entry(b"c", b"3") + nothing + entry(b"d", b"4")
    size = pax(record("size", "5"), b"g") + header(b"e", b"0") + padded(b"hello")
    found = [each for each in walk(content + size + END) if isinstance(each, Member)]
    assert [each.inherits for each in found] == [False, False, True, False, True]
    alone = [members_of((content + size)[each.header_offset : each.end] + END) for each in found]
    assert alone == [[("a", b"1")], [("b", b"2")], [("c", b"3")], [("d", b"4")], [("e", b"")]]
    assert members_of(content + size + END)[2::2] == [("all", b"3"), ("e", b"hello")]


def test_what_is_no_file_is_yielded_where_it_is_asked_for() -> None:
    folder = header(b"folder/", b"0", b"5")
    link = header(b"folder/link", b"0", b"2")
    records = pax(record("comment", "x"), b"g")
    content = folder + entry(b"folder/a", b"1") + link + records + END
    everything = list(TarReader(io.BytesIO(content), skipped=True))
    assert [type(each) for each in everything] == [Skipped, Member, Skipped, Skipped]
    kinds = [each.kind for each in everything if isinstance(each, Member)]
    assert bytes(kinds) == b"502g"
    assert [each for each in everything if not isinstance(each, Skipped)] == walk(content)
    broken = content[:1024] + b"?" * 512 + content[1536:]
    assert next(iter(TarReader(io.BytesIO(broken), skipped=True))) == everything[0]


def test_a_pax_path_that_is_not_utf_8_is_escaped() -> None:
    content = pax(b"13 path=k\xff\n".replace(b"13", b"11")) + entry(b"k", b"") + END
    assert names_of(content) == ["k\udcff"]


@pytest.mark.parametrize(
    "records",
    [
        b"no record",
        b"12 path=abcd",
        b"13 path=abc\n",
        b"11 path=abc\n",
        b"0 path=abc\n",
        b"-3 path=abc\n",
        b"9" * 30 + b" path=abc\n",
        b"9999999999 path=abc\n",
        b"12 path abc\n",
        record("size", "-1"),
        record("size", "1" * 5000),
        record("size", "five"),
        record("path", "fine") + b"\0",
    ],
)
def test_bad_pax_records_are_damage(records: bytes) -> None:
    bad = pax(records)
    content = entry(b"a", b"1") + bad + entry(b"b", b"2") + entry(b"c", b"3") + END
    lost = 1024 if b" size=" in records else 0  # the member whose size that is
    assert damage_of(content) == [Damage(1024, 1024 + len(bad) + lost, "damaged shard: bad header")]
    assert names_of(content) == (["a", "c"] if lost else ["a", "b", "c"])


@needs_gnu_tar
@pytest.mark.parametrize("tar_format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_tars_of_gnu_tar_are_read(tmp_path: Path, tar_format: str) -> None:
    deep = "deep/" * (10 if tar_format == "v7" else 25)
    (tmp_path / deep).mkdir(parents=True)
    for k, name in enumerate(["a.jpg", f"{deep}b.jpg", f"{deep}c é.txt"]):
        (tmp_path / name).write_bytes(bytes([k]) * 700 * k)
    os.link(tmp_path / "a.jpg", tmp_path / "link.jpg")
    (tmp_path / "z.jpg").symlink_to("a.jpg")
    content = gnu_tar(tmp_path, [f"--format={tar_format}"], ["a.jpg", "deep", "link.jpg", "z.jpg"])
    assert by_us(content) == by_tarfile(content)
    assert len(by_us(content)) == 3


def gnu_tar(folder: Path, options: Sequence[str], files: Sequence[str]) -> bytes:
    assert GNU_TAR is not None
    command = [GNU_TAR, "-cf", "-", *options, *files]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


SPARSE_FORMATS = [
    ["--format=gnu"],
    ["--format=oldgnu"],
    ["--format=posix", "--sparse-version=0.0"],
    ["--format=posix", "--sparse-version=0.1"],
    ["--format=posix", "--sparse-version=1.0"],
]


@needs_gnu_tar
@pytest.mark.parametrize("options", SPARSE_FORMATS, ids=lambda options: "".join(options))
@pytest.mark.parametrize("pieces", [1, 4, 30])
def test_sparse_members_are_told_and_passed(
    tmp_path: Path, options: list[str], pieces: int
) -> None:
    with open(tmp_path / "holes.jpg", "wb") as stream:
        for k in range(pieces):
            stream.seek((2 * k + 1) * 65536)
            stream.write(b"piece")
        stream.truncate(200_000 + pieces * 131072)
    for name in ("a.txt", "z.txt"):
        (tmp_path / name).write_text(name)
    content = gnu_tar(tmp_path, ["-S", *options], ["a.txt", "holes.jpg", "z.txt"])
    found = walk(content)
    assert [(each.name, each.sparse) for each in found if isinstance(each, Member)] == [
        ("a.txt", False),
        ("holes.jpg", True),
        ("z.txt", False),
    ]
    assert by_us(content) == by_tarfile(content)
    assert members_of(content)[2] == ("z.txt", b"z.txt")


@pytest.mark.parametrize("kind", [b"D", b"V", b"M", b"Z", b"1", b"2", b"3", b"4", b"5", b"6"])
def test_what_is_no_file_is_passed_over(kind: bytes) -> None:
    data = b"" if kind in b"123456" else padded(b"data of its own")
    content = header(b"other", b"%011o\0" % 15, kind) + data + entry(b"a", b"1") + END
    assert names_of(content) == ["a"]
    assert by_us(content) == by_tarfile(content)


# Files that are no tars, or not all of one


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a tar: empty file"),
        (b"short", "not a tar: truncated header"),
        (bytes(100), "not a tar: truncated header"),
        (b"\x89PNG" + b"x" * 5000, "not a tar: bad header"),
        (b"ustar" * 3000, "not a tar: bad header"),
        (b"\xff" * 3000, "not a tar: bad header"),
    ],
)
def test_a_file_that_is_no_tar_is_one_stretch(content: bytes, reason: str) -> None:
    assert walk(content) == [Damage(0, len(content), reason)]


@pytest.mark.parametrize("blocks", [1, 2, 20, 3000])
def test_a_tar_without_members_is_empty(blocks: int) -> None:
    assert walk(bytes(512 * blocks)) == []


@pytest.mark.parametrize("tar_format", FORMATS)
def test_a_truncated_tar_has_the_members_that_are_whole(
    tar_bytes: MakeTar, tar_format: int
) -> None:
    long = LONG if tar_format != tarfile.USTAR_FORMAT else "short.jpg"
    whole = tar_bytes([("a.jpg", b"x" * 700), (long, b"y" * 512), ("c.txt", b"")], tar_format)
    everything = [each for each in walk(whole) if isinstance(each, Member)]
    end = everything[-1].end
    cuts = {cut + step for cut in range(0, end + 513, 512) for step in (-1, 0, 1, 200)}
    for cut in sorted(cut for cut in cuts if 0 < cut <= end + 513):
        found = walk(whole[:cut])
        kept = [each for each in everything if each.end <= cut]
        if cut >= end + 512:
            assert found == kept
        elif cut < 512:
            assert found == [Damage(0, cut, "not a tar: truncated header")]
        else:
            offset = kept[-1].end if kept else 0
            assert found == [*kept, Damage(offset, cut, "truncated shard")]


def test_one_block_of_zeros_is_an_end(tar_bytes: MakeTar) -> None:
    content = entry(b"a", b"1")
    assert damage_of(content + bytes(512)) == []
    assert damage_of(content + bytes(511)) == [Damage(1024, 1535, "truncated shard")]
    assert damage_of(content) == [Damage(1024, 1024, "truncated shard")]


MORE = "damaged shard: more data after the end of the tar"


def test_what_follows_the_end_of_a_tar_is_read_and_told() -> None:
    first, second = entry(b"a", b"1") + END, entry(b"b", b"2") + END
    assert names_of(first + second) == ["a", "b"]
    assert damage_of(first + second) == [Damage(1024, 2048, MORE)]
    assert damage_of(first + bytes(20_000) + b"x") == [Damage(1024, len(first) + 20_001, MORE)]


# Damage in the middle


@pytest.fixture
def row() -> list[bytes]:
    return [entry(b"%d.jpg" % k, bytes([65 + k]) * 700 * k) for k in range(6)]


def test_every_byte_of_a_header_is_guarded(row: list[bytes]) -> None:
    """Whatever is flipped in a header, the other members are found, and none is misread."""
    whole = b"".join(row) + END
    wanted = members_of(whole)
    start, end = len(b"".join(row[:2])), len(b"".join(row[:3]))
    for at in range(start, start + 512):
        content = bytearray(whole)
        content[at] ^= 0x11
        found = members_of(bytes(content))
        if found != wanted:  # the checksum of a header may be spelt in several ways
            assert found == [*wanted[:2], *wanted[3:]]
            assert damage_of(bytes(content)) == [Damage(start, end, "damaged shard: bad header")]


@pytest.mark.parametrize("tar_format", FORMATS[1:])
def test_a_bad_long_name_costs_its_member_only(tar_bytes: MakeTar, tar_format: int) -> None:
    whole = tar_bytes([("a.jpg", b"1"), (LONG, b"2"), ("c.jpg", b"3")], tar_format)
    first, long, last = [each for each in walk(whole) if isinstance(each, Member)]
    for at in range(long.header_offset, long.header_offset + 512, 7):
        content = bytearray(whole)
        content[at] ^= 0x91
        found = walk(bytes(content))
        assert found[0] == first and found[-1] == last
        assert isinstance(found[1], Damage) and found[1].offset == long.header_offset


@pytest.mark.parametrize("length", [1, 3, 511, 512, 513, 1024, 40_000])
@pytest.mark.parametrize("keep", [0, 5, 600])
def test_after_inserted_bytes_the_walk_goes_on(row: list[bytes], length: int, keep: int) -> None:
    third = row[2][: 512 + keep] + b"?" * length + row[2][512 + keep :]
    content = b"".join([*row[:2], third, *row[3:]]) + END
    wanted = [name for name in names_of(b"".join(row) + END) if name != "2.jpg"]
    assert [name for name in names_of(content) if name != "2.jpg"] == wanted
    assert len(damage_of(content)) == 1
    if length % 512:
        assert "2.jpg" not in names_of(content)


@pytest.mark.parametrize("length", [1, 3, 100, 511, 513, 700])
def test_after_lost_bytes_the_next_header_is_found_in_the_content(
    row: list[bytes], length: int
) -> None:
    fifth = row[4][:600] + row[4][600 + length :]
    content = b"".join([*row[:4], fifth, *row[5:]]) + END
    start = len(b"".join(row[:4]))
    assert damage_of(content) == [Damage(start, start + len(fifth), "damaged shard: bad header")]
    assert names_of(content) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "5.jpg"]


def test_members_that_a_shortened_one_would_swallow_are_found() -> None:
    large = entry(b"large.jpg", os.urandom(100_000))
    small = [entry(b"%d.txt" % k, b"small") for k in range(30)]
    content = entry(b"a", b"1") + large[:20_000] + large[99_000:] + b"".join(small) + END
    assert names_of(content) == ["a", *(f"{k}.txt" for k in range(30))]
    assert damage_of(content) == [
        Damage(1024, 1024 + len(large) - 79_000, "damaged shard: bytes are missing")
    ]


def test_a_bad_stretch_from_within_a_member_takes_that_member_too(row: list[bytes]) -> None:
    whole = bytearray(b"".join(row) + END)
    start, fourth = len(b"".join(row[:2])), len(b"".join(row[:4]))
    whole[start + 1500 : start + 4000] = os.urandom(2500)
    assert damage_of(bytes(whole)) == [Damage(start, fourth, "damaged shard: bad header")]
    assert names_of(bytes(whole)) == ["0.jpg", "1.jpg", "4.jpg", "5.jpg"]


def test_a_page_of_zeros_is_no_end(row: list[bytes]) -> None:
    whole = bytearray(b"".join(row) + END)
    start, end = len(b"".join(row[:2])), len(b"".join(row[:3]))
    whole[start:end] = bytes(end - start)
    assert damage_of(bytes(whole)) == [Damage(start, end, MORE)]
    assert names_of(bytes(whole)) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg"]


def test_a_damaged_front_is_damage(row: list[bytes]) -> None:
    content = b"?" + (b"".join(row) + END)[1:]
    assert walk(content)[0] == Damage(0, len(row[0]), "damaged shard: bad header")
    assert names_of(content) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]


@pytest.mark.parametrize("length", [1, 300, 512, 513])
def test_a_member_after_which_the_grid_is_another_may_hold_what_was_put_in(length: int) -> None:
    """One without padding: only the grid tells. A whole block may as well be a bad header."""
    content = entry(b"a", b"1" * 512) + b"?" * length + entry(b"b", b"2") + END
    is_on_grid = length % 512 == 0
    assert names_of(content) == (["a", "b"] if is_on_grid else ["b"])
    (damage,) = damage_of(content)
    assert (damage.offset, damage.end) == (1024 if is_on_grid else 0, 1024 + length)


def test_image_bytes_are_no_headers() -> None:
    """The magic alone, on the grid or off it, is not enough."""
    image = (bytes(257) + b"ustar\x0000" + bytes(247) + b"ustar  \0" * 40) * 5
    content = entry(b"a.jpg", b"") + b"?" * 512 + padded(image) + entry(b"b.jpg", image) + END
    assert names_of(content) == ["a.jpg", "b.jpg"]
    assert len(damage_of(content)) == 1


@pytest.mark.parametrize(
    "digits",
    [
        b"-1",
        b"77777777777\0",
        b"777777777777",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"\x80\x7f",
        b"9",
    ],
)
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"S", b"Z"])
def test_absurd_sizes_are_damage(digits: bytes, kind: bytes) -> None:
    bad = header(b"bad", digits, kind)
    content = entry(b"a", b"1") + bad + entry(b"b", b"2") + END
    assert names_of(content) == ["a", "b"]
    (damage,) = damage_of(content)
    assert (damage.offset, damage.end) == (1024, 1536)


def test_long_names_have_a_limit() -> None:
    fine, large = "n" * 100_000, "n" * (LARGEST_PREFIX + 1)
    for name, found in ((fine, [fine, "b"]), (large, ["n" * 100, "b"])):
        content = entry(b"././@LongLink", name.encode() + b"\0", b"L")
        content += entry(b"n" * 100, b"") + entry(b"b", b"") + END
        assert names_of(content) == found


def test_endless_holes_end() -> None:
    block = bytearray(header(b"holes", b"0", b"S"))
    block[482] = 1
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    content = entry(b"a", b"1") + bytes(block) + b"\1" * 512 * 20
    assert walk(content)[1:] == [Damage(1024, len(content), "truncated shard")]


@settings(deadline=None, max_examples=150)
@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from([b"0", b"x", b"L", b"g", b"S", b"5", b"Z"]).flatmap(
                lambda kind: st.binary(max_size=600).map(lambda data: entry(b"n", data, kind))
            ),
            st.binary(max_size=700),
            st.integers(0, 1100).map(bytes),
            st.just(b"ustar\x0000"),
        ),
        max_size=8,
    )
)
def test_whatever_the_bytes_are_the_walk_ends_and_is_in_order(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    end = 0
    for each in walk(content):
        offset = each.header_offset if isinstance(each, Member) else each.offset
        assert end <= offset <= each.end <= len(content)
        if isinstance(each, Member):
            assert offset + 512 <= each.data_offset <= each.data_offset + each.size <= each.end
        end = each.end


# How the stream is read


class Counted(io.BytesIO):
    """Counts what is read, and the leaps."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self.bytes_read = self.reads = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        self.reads += 1
        return content


def test_small_members_are_read_over_in_large_pieces(tar_bytes: MakeTar) -> None:
    whole = tar_bytes([(f"{k}.jpg", b"x" * 5000) for k in range(500)])
    stream = Counted(whole)
    assert len(list(TarReader(stream))) == 500
    assert stream.bytes_read <= len(whole)
    assert stream.reads < 25


def test_large_members_are_leapt_over(tar_bytes: MakeTar) -> None:
    kinds = (("jpg", 300_000), ("txt", 40), ("json", 300))
    whole = tar_bytes([(f"{k}.{kind}", b"x" * size) for k in range(20) for kind, size in kinds])
    stream = Counted(whole)
    assert len(list(TarReader(stream))) == 60
    assert stream.bytes_read < len(whole) / 10
    assert stream.reads <= 50


def test_contents_are_read_in_any_order(tar_bytes: MakeTar) -> None:
    wanted = [(f"{k}.jpg", os.urandom(k * 2000)) for k in range(100)]
    stream = io.BytesIO(tar_bytes(wanted))
    tar = TarReader(stream)
    late: list[Member] = []
    for each, (name, content) in zip(tar, wanted, strict=True):
        assert isinstance(each, Member)
        assert (each.name, tar.read(each)) == (name, content)
        late.append(each)
        first = late[len(late) // 3]
        assert tar.read(first) == dict(wanted)[first.name]
    assert [tar.read(each) for each in reversed(late)] == [read for _, read in reversed(wanted)]
    assert list(tar) == late
    assert not stream.closed


class Sluggish(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 1000))


def test_a_stream_may_give_less_than_asked_for(tar_bytes: MakeTar) -> None:
    whole = tar_bytes([(f"{k}.jpg", bytes([k]) * 7000) for k in range(50)])
    stream: IO[bytes] = Sluggish(whole)
    tar = TarReader(stream)
    assert [tar.read(each) for each in tar if isinstance(each, Member)] == [
        bytes([k]) * 7000 for k in range(50)
    ]


def test_a_file_that_shrinks_is_an_error_of_the_storage(tar_bytes: MakeTar) -> None:
    stream = io.BytesIO(tar_bytes([(f"{k}.jpg", b"x" * 7000) for k in range(50)]))
    tar = TarReader(stream)
    stream.truncate(100_000)
    with pytest.raises(OSError, match="ended at byte 100000 of"):
        list(tar)
