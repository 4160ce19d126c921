"""Samples put into other tars: byte for byte, and never one that is not the one asked for."""

import errno
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines import spans as module
from pipelines import storage
from pipelines.shards import Failure, Sample, ShardRef, read_samples
from pipelines.spans import Spans, SpanWriter, Written, local_sources

TarBytes = Callable[..., bytes]
Write = Callable[[Path, bytes], ShardRef]
Pair = Callable[..., list[tuple[str, bytes]]]
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def samples_of(shard: ShardRef) -> list[Sample]:
    found = list(read_samples(shard))
    assert not any(isinstance(each, Failure) for each in found)
    return [each for each in found if isinstance(each, Sample)]


def spans_of(wanted: Sequence[tuple[int, Sample]]) -> Spans:
    """The spans of (number of the shard, sample)."""
    return Spans(
        np.array([source for source, _ in wanted], dtype=np.int64),
        np.array([sample.span.offset for _, sample in wanted], dtype=np.int64),
        np.array([sample.span.length for _, sample in wanted], dtype=np.int64),
        [sample.key.encode() for _, sample in wanted],
    )


def write_tar(path: Path, shards: Sequence[ShardRef], wanted: Spans) -> Written:
    with local_sources(shards) as sources:
        writer = SpanWriter(sources, [shard.stem for shard in shards])
        written = writer.write(str(path), wanted)
        writer.close()
    return written


def content_of(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar]
        return [(name, stream.read()) for name, stream in files if stream is not None]


@pytest.mark.parametrize("tar_format", FORMATS)
@pytest.mark.parametrize("folder", ["", "a/b/", "long" * 30 + "/", "ü" * 120 + "/"])
def test_samples_are_copied_byte_for_byte(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair, tar_format: int, folder: str
) -> None:
    if tar_format == tarfile.USTAR_FORMAT and len(folder) > 100:
        pytest.skip("USTAR has no such names")
    pairs = [pair(f"{folder}{i:04d}", f"number {i}", {"width": i}) for i in range(12)]
    members = [member for members in pairs for member in members]
    shard = write(tmp_path / "in.tar", tar_bytes(members, tar_format))
    samples = samples_of(shard)
    chosen = [samples[i] for i in (7, 3, 11, 0)]
    written = write_tar(tmp_path / "out.tar", [shard], spans_of([(0, each) for each in chosen]))
    assert written == Written(successes=4)
    whole = Path(shard.path).read_bytes()
    spans = [whole[s.span.offset : s.span.offset + s.span.length] for s in chosen]
    assert (tmp_path / "out.tar").read_bytes() == b"".join(spans) + bytes(1024)
    expected = [member for i in (7, 3, 11, 0) for member in pairs[i]]
    assert content_of(tmp_path / "out.tar") == expected
    new = ShardRef(str(tmp_path / "out.tar"), os.path.getsize(tmp_path / "out.tar"), 0.0)
    assert [each.key for each in samples_of(new)] == [each.key for each in chosen]


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=12),
    gathered=st.integers(1, 8000),
    data=st.data(),
)
def test_any_choice_in_any_order_with_any_memory(
    tmp_path: Path,
    tar_bytes: TarBytes,
    write: Write,
    sizes: list[int],
    gathered: int,
    data: Any,
) -> None:
    pairs = [
        [(f"{i:03d}.jpg", bytes([i]) * size), (f"{i:03d}.txt", b"caption %d" % i)]
        for i, size in enumerate(sizes)
    ]
    half = len(pairs) // 2
    shards = [
        write(tmp_path / f"{name}.tar", tar_bytes([m for each in part for m in each]))
        for name, part in (("0", pairs[:half]), ("1", pairs[half:]))
        if part
    ]
    found = [(number, each) for number, shard in enumerate(shards) for each in samples_of(shard)]
    chosen = data.draw(st.lists(st.sampled_from(range(len(found))), unique=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GATHERED", gathered)
        written = write_tar(tmp_path / "out.tar", shards, spans_of([found[i] for i in chosen]))
    assert written == Written(successes=len(chosen))
    assert content_of(tmp_path / "out.tar") == [member for i in chosen for member in pairs[i]]


def test_a_second_sample_of_a_key_is_renamed(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair
) -> None:
    shards = [
        write(tmp_path / f"{stem}.tar", tar_bytes(pair("a/0001", f"of {stem}")))
        for stem in ("first", "second", "third")
    ]
    wanted = spans_of([(number, samples_of(shards[number])[0]) for number in (1, 0, 2)])
    assert write_tar(tmp_path / "out.tar", shards, wanted).successes == 3
    names = [name for name, _ in content_of(tmp_path / "out.tar")]
    assert names[::2] == ["a/0001.jpg", "a/first-0001.jpg", "a/third-0001.jpg"]
    read = list(webdataset.WebDataset(str(tmp_path / "out.tar"), shardshuffle=False))
    assert [each["txt"].decode() for each in read] == ["of second", "of first", "of third"]
    pictures = {each["jpg"] for each in read}
    assert pictures == {dict(pair("x"))["x.jpg"]}


def test_a_stem_with_dots_does_not_end_a_new_key(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair
) -> None:
    shards = [write(tmp_path / f"part.{i}.tar", tar_bytes(pair("1", f"of {i}"))) for i in range(3)]
    wanted = spans_of([(number, samples_of(shards[number])[0]) for number in range(3)])
    assert write_tar(tmp_path / "out.tar", shards, wanted).successes == 3
    read = list(webdataset.WebDataset(str(tmp_path / "out.tar"), shardshuffle=False))
    assert [each["__key__"] for each in read] == ["1", "part_1-1", "part_2-1"]
    assert [each["txt"].decode() for each in read] == ["of 0", "of 1", "of 2"]


def test_what_a_header_may_be_in_a_picture_is_a_picture(
    tmp_path: Path, tar_bytes: TarBytes, write: Write
) -> None:
    """Long names are read member by member, also where the last content looks like a tar."""
    name = "k" * 120
    within = tar_bytes([("other.jpg", b"x" * 700)])
    members = [(f"{name}.txt", b"caption"), (f"{name}.jpg", within)]
    shard = write(tmp_path / "in.tar", tar_bytes(members, tarfile.GNU_FORMAT))
    wanted = spans_of([(0, each) for each in samples_of(shard)])
    assert write_tar(tmp_path / "out.tar", [shard], wanted).successes == 1
    assert content_of(tmp_path / "out.tar") == members


def test_a_read_that_gives_a_part_is_read_on(
    tmp_path: Path, two_shards: list[ShardRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.preadv

    def part(file: int, buffers: Sequence[Any], offset: int) -> int:
        return original(file, (buffers[0][:700],), offset)

    wanted = all_spans(two_shards)
    write_tar(tmp_path / "whole.tar", two_shards, wanted)
    monkeypatch.setattr(os, "preadv", part)
    assert write_tar(tmp_path / "parts.tar", two_shards, wanted).successes == 8
    assert (tmp_path / "parts.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()


def test_a_scratch_folder_that_is_not_there_is_no_fault_of_the_shards(
    tmp_path: Path, two_shards: list[ShardRef], shelf: Callable[[Path], str]
) -> None:
    remote = [ShardRef(shelf(Path(each.path)), each.size, each.modified) for each in two_shards]
    with (
        pytest.raises(InputError, match="nowhere: No such file"),
        local_sources(remote, str(tmp_path / "nowhere")),
    ):
        pass


def test_a_full_scratch_folder_is_no_fault_of_the_shards(
    two_shards: list[ShardRef], shelf: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    remote = [ShardRef(shelf(Path(each.path)), each.size, each.modified) for each in two_shards]
    monkeypatch.setattr(storage, "copy", full)
    with pytest.raises(InputError, match="no space for a copy of"), local_sources(remote):
        pass


def test_a_renamed_sample_keeps_its_times_and_takes_any_length(
    tmp_path: Path, write: Write
) -> None:
    shards = []
    for stem in ("first", "s" * 120):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name, content in (("k" * 90 + ".jpg", b"jpg"), ("k" * 90 + ".txt", b"text")):
                member = tarfile.TarInfo(name)
                member.size, member.mtime, member.mode = len(content), 1234567890, 0o640
                tar.addfile(member, io.BytesIO(content))
        shards.append(write(tmp_path / f"{stem}.tar", stream.getvalue()))
    wanted = spans_of([(number, samples_of(shards[number])[0]) for number in (0, 1)])
    assert write_tar(tmp_path / "out.tar", shards, wanted).successes == 2
    with tarfile.open(tmp_path / "out.tar") as tar:
        last = tar.getmembers()[-1]
    assert last.name == "s" * 120 + "-" + "k" * 90 + ".txt"
    assert (last.mtime, last.mode, last.size) == (1234567890, 0o640, 4)


def test_a_new_key_is_one_that_nobody_has(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair
) -> None:
    shards = [
        write(tmp_path / "0.tar", tar_bytes([*pair("k"), *pair("1-k"), *pair("1-k-2")])),
        write(tmp_path / "1.tar", tar_bytes(pair("k"))),
    ]
    found = [(number, each) for number, shard in enumerate(shards) for each in samples_of(shard)]
    assert write_tar(tmp_path / "out.tar", shards, spans_of(found)).successes == 4
    new = ShardRef(str(tmp_path / "out.tar"), 0, 0.0)
    assert [each.key for each in samples_of(new)] == ["k", "1-k", "1-k-2", "1-k-3"]


def test_more_shards_than_files_may_be_open(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES_OPEN", 2)
    shards = [write(tmp_path / f"{i}.tar", tar_bytes(pair(f"{i}"))) for i in range(7)]
    wanted = spans_of([(i, samples_of(shards[i])[0]) for i in (3, 0, 6, 1, 5, 2, 4)])
    assert write_tar(tmp_path / "out.tar", shards, wanted).successes == 7


@pytest.fixture
def two_shards(tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair) -> list[ShardRef]:
    return [
        write(
            tmp_path / f"{s}.tar",
            tar_bytes([m for i in range(4) for m in pair(f"{s}{i}", f"caption {s}{i}")]),
        )
        for s in range(2)
    ]


def all_spans(shards: Sequence[ShardRef]) -> Spans:
    return spans_of([(s, each) for s, shard in enumerate(shards) for each in samples_of(shard)])


def test_a_shard_that_is_gone_costs_its_own_samples(
    tmp_path: Path, two_shards: list[ShardRef]
) -> None:
    wanted = all_spans(two_shards)
    Path(two_shards[0].path).unlink()
    written = write_tar(tmp_path / "out.tar", two_shards, wanted)
    assert written.successes == 4
    assert written.failures == {"unreadable shard: No such file or directory": 4}
    assert written.examples == {"unreadable shard: No such file or directory": "00"}
    assert [name for name, _ in content_of(tmp_path / "out.tar")][::2] == [
        f"1{i}.jpg" for i in range(4)
    ]


def test_a_shard_of_another_size_is_not_read(tmp_path: Path, two_shards: list[ShardRef]) -> None:
    wanted = all_spans(two_shards)
    with open(two_shards[1].path, "ab") as stream:
        stream.write(bytes(512))
    written = write_tar(tmp_path / "out.tar", two_shards, wanted)
    assert written.failures == {module.CHANGED: 4}
    assert written.successes == 4


def test_another_sample_at_the_same_place_is_not_taken(
    tmp_path: Path, two_shards: list[ShardRef]
) -> None:
    wanted = all_spans(two_shards)
    path = Path(two_shards[0].path)
    path.write_bytes(path.read_bytes().replace(b"02.jpg", b"0X.jpg"))
    written = write_tar(tmp_path / "out.tar", two_shards, wanted)
    assert written.failures == {module.OTHER_SAMPLE: 1}
    assert written.examples == {module.OTHER_SAMPLE: "02"}
    assert written.successes == 7
    assert len(content_of(tmp_path / "out.tar")) == 14


def test_a_key_that_only_begins_alike_is_another(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, pair: Pair
) -> None:
    shard = write(tmp_path / "0.tar", tar_bytes(pair("0001.5")))
    wanted = spans_of([(0, samples_of(shard)[0])])
    for key in (b"0001", b"000", b"0001.5.jpg"):
        other = Spans(wanted.source, wanted.offset, wanted.length, [key])
        written = write_tar(tmp_path / "out.tar", [shard], other)
        assert written.failures == {module.OTHER_SAMPLE: 1}
    assert write_tar(tmp_path / "out.tar", [shard], wanted).successes == 1


@pytest.mark.parametrize(("offset", "length"), [(512, 1024), (0, 512), (10**6, 1024), (0, 1025)])
def test_a_span_that_is_none_is_left_out(
    tmp_path: Path, tar_bytes: TarBytes, write: Write, offset: int, length: int
) -> None:
    members = [("ä" * 80 + ".jpg", b"x" * 2000), ("ä" * 80 + ".txt", b"caption")]
    shard = write(tmp_path / "0.tar", tar_bytes(members, tarfile.PAX_FORMAT))
    wanted = Spans(np.array([0]), np.array([offset]), np.array([length]), [("ä" * 80).encode()])
    written = write_tar(tmp_path / "out.tar", [shard], wanted)
    assert written.successes == 0
    assert written.failures.total() == 1
    assert content_of(tmp_path / "out.tar") == []


def test_nothing_stands_where_writing_fails(
    tmp_path: Path, two_shards: list[ShardRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module.SpanWriter, "_gather", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        write_tar(tmp_path / "out" / "0.tar", two_shards, all_spans(two_shards))
    assert list((tmp_path / "out").iterdir()) == []


def test_shards_of_which_much_is_wanted_are_read_through_once(
    two_shards: list[ShardRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = module._read_through

    def read_through(path: str) -> None:
        read.append(path)
        original(path)

    monkeypatch.setattr(module, "_read_through", read_through)
    before = [Path(each.path).read_bytes() for each in two_shards]
    with local_sources(two_shards, dense=True):
        assert read == [each.path for each in two_shards]
    with local_sources(two_shards):
        assert len(read) == 2
    assert [Path(each.path).read_bytes() for each in two_shards] == before


def test_remote_shards_are_copied_once_and_removed(
    tmp_path: Path, two_shards: list[ShardRef], shelf: Callable[[Path], str]
) -> None:
    wanted = all_spans(two_shards)
    remote = [ShardRef(shelf(Path(each.path)), each.size, each.modified) for each in two_shards]
    (tmp_path / "scratch").mkdir()
    with local_sources(remote, str(tmp_path / "scratch")) as sources:
        copies = [Path(path) for path in sources.paths.values()]
        assert [path.read_bytes() for path in copies] == [
            Path(each.path).read_bytes() for each in two_shards
        ]
        writer = SpanWriter(sources, ["0", "1"])
        assert writer.write(str(tmp_path / "out.tar"), wanted).successes == 8
        writer.close()
    assert list((tmp_path / "scratch").iterdir()) == []
