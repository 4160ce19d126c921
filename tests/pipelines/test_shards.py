"""Finding shards, and reading their samples whatever state they are in."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.groups import split_member
from pipelines.shards import (
    LARGEST_TEXT,
    LONGEST_CAPTION,
    Failure,
    Sample,
    ShardRef,
    derived_uid,
    expand_braces,
    find_shards,
    read_samples,
)

Member = tuple[str, bytes]
MakeTar = Callable[..., bytes]
MakePair = Callable[..., list[Member]]
Write = Callable[[Path, bytes], ShardRef]
FORMATS = [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]
ZERO_BLOCKS = bytes(2 * tarfile.BLOCKSIZE)
NEXT_TO_DAMAGE = "next to a damaged stretch"

each_case = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def samples_of(shard: ShardRef) -> list[Sample]:
    return [each for each in read_samples(shard) if isinstance(each, Sample)]


def failures_of(shard: ShardRef) -> list[tuple[str | None, str]]:
    return [(each.key, each.reason) for each in read_samples(shard) if isinstance(each, Failure)]


# Finding shards


def test_braces_keep_the_padding() -> None:
    assert expand_braces("a/{098..101}.tar") == ["a/098.tar", "a/099.tar", "a/100.tar", "a/101.tar"]
    assert expand_braces("{8..10}") == ["8", "9", "10"]
    assert expand_braces("plain.tar") == ["plain.tar"]


def test_several_braces_count_like_digits() -> None:
    assert expand_braces("{0..1}/{00..01}.tar") == ["0/00.tar", "0/01.tar", "1/00.tar", "1/01.tar"]


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(InputError, match=r"range 9\.\.3 runs backwards"):
        expand_braces("{9..3}.tar")


@settings(deadline=None)
@given(low=st.integers(0, 300), more=st.integers(0, 40), width=st.integers(1, 6))
def test_a_range_has_all_numbers_in_order(low: int, more: int, width: int) -> None:
    first = f"{low:0{width}d}"
    found = expand_braces(f"{{{first}..{low + more}}}")
    assert [int(each) for each in found] == list(range(low, low + more + 1))
    assert all(len(each) >= len(first) for each in found)


@pytest.fixture
def shelves(tmp_path: Path, write: Write) -> Path:
    for name in ("one/00000.tar", "one/00001.tar", "one/00002.tar", "two/x.tar", "two/notes.txt"):
        write(tmp_path / name, b"tar")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{}/one", ["00000", "00001", "00002"]),
        ("{}/one/0000[02].tar", ["00000", "00002"]),
        ("{}/*/*.tar", ["00000", "00001", "00002", "x"]),
        ("{}/one/00001.tar", ["00001"]),
        ("{}/one/{{00001..00002}}.tar", ["00001", "00002"]),
        ("{}/two::{}/one/00000.tar", ["x", "00000"]),
        ("{}/one/00000.tar::{}/one", ["00000", "00001", "00002"]),
    ],
)
def test_shards_are_found_in_the_order_given(shelves: Path, pattern: str, names: list[str]) -> None:
    found = find_shards(pattern.replace("{}", str(shelves)).replace("{{", "{").replace("}}", "}"))
    assert [shard.stem for shard in found] == names
    assert all(shard.size == 3 and shard.modified > 0 for shard in found)


def test_several_patterns_are_one_after_the_other(shelves: Path) -> None:
    found = find_shards([str(shelves / "two"), str(shelves / "one" / "00002.tar")])
    assert [shard.name for shard in found] == ["x.tar", "00002.tar"]


def test_a_remote_folder_is_found(shelves: Path, shelf: Callable[[Path], str]) -> None:
    found = find_shards(shelf(shelves / "one"))
    assert [shard.path for shard in found] == [
        shelf(shelves / "one" / f"0000{i}.tar") for i in range(3)
    ]
    assert found == [
        ShardRef(shelf(shelves / "one" / local.name), local.size, local.modified)
        for local in find_shards(str(shelves / "one"))
    ]


def test_a_missing_shard_is_named(shelves: Path) -> None:
    with pytest.raises(InputError, match=r"00003\.tar: cannot be read: No such file"):
        find_shards(f"{shelves}/one/{{00000..00003}}.tar")


@pytest.mark.parametrize("pattern", ["{}/empty", "{}/nowhere", "{}/one/*.zip"])
def test_a_pattern_without_shards_is_named(shelves: Path, pattern: str) -> None:
    pattern = pattern.replace("{}", str(shelves))
    with pytest.raises(InputError, match="no shards") as error:
        find_shards([str(shelves / "two"), pattern])
    assert str(error.value).startswith(pattern)


@pytest.mark.parametrize("nothing", ["", "::", []])
def test_no_shards_at_all_is_an_error(nothing: str | list[str]) -> None:
    with pytest.raises(InputError, match="no shards given"):
        find_shards(nothing)


def test_two_shards_of_one_name_are_refused(shelves: Path, write: Write) -> None:
    write(shelves / "two" / "00001.tar", b"tar")
    with pytest.raises(InputError, match=r"two shards are named 00001\.tar") as error:
        find_shards([str(shelves / "one"), str(shelves / "two")])
    assert str(shelves / "one" / "00001.tar") in str(error.value)
    assert str(shelves / "two" / "00001.tar") in str(error.value)


# Names and uids


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a.jpg", ("a", "jpg")),
        ("a.JPG", ("a", "jpg")),
        ("a.b.c.jpg", ("a.b.c", "jpg")),
        ("x/y/a.jpg", ("x/y/a", "jpg")),
        ("x.y/a", ("x.y/a", "")),
        ("a", ("a", "")),
    ],
)
def test_a_members_name_splits_at_the_last_dot(name: str, split: tuple[str, str]) -> None:
    assert split_member(name) == split


def test_a_derived_uid_is_the_documented_hash() -> None:
    wanted = hashlib.sha256(b"00000.tar/000012").hexdigest()[:32]
    assert derived_uid("00000.tar", "000012") == wanted


# Good samples


@pytest.fixture
def shard_of(tmp_path: Path, tar_bytes: MakeTar, write: Write) -> Callable[..., ShardRef]:
    """Writes a shard of members."""

    def make(members: list[Member], tar_format: int = tarfile.USTAR_FORMAT) -> ShardRef:
        return write(tmp_path / "shard.tar", tar_bytes(members, tar_format))

    return make


ShardOf = Callable[..., ShardRef]


def test_a_sample_has_caption_metadata_and_uid(shard_of: ShardOf, pair: MakePair) -> None:
    metadata = {"uid": "0123456789abcdef" * 2, "caption": "not this one", "width": 8}
    shard = shard_of([*pair("a", " a café \n", metadata), *pair("b", "second")])
    first, second = samples_of(shard)
    assert (first.key, first.uid) == ("a", "0123456789abcdef" * 2)
    assert (first.caption, first.metadata) == ("a café", metadata)
    assert (second.key, second.uid) == ("b", derived_uid("shard.tar", "b"))
    assert (second.caption, second.metadata) == ("second", {})


def test_the_caption_may_be_in_the_json(shard_of: ShardOf, pair: MakePair) -> None:
    shard = shard_of(pair("a", None, {"caption": "from the json", "uid": None}))
    (sample,) = read_samples(shard)
    assert isinstance(sample, Sample)
    assert sample.caption == "from the json"
    assert sample.uid == derived_uid("shard.tar", "a")


@pytest.mark.parametrize("key", ["a.b.c", "x/y/000", "./a", "snow ☃", "a:b c"])
def test_keys_are_kept_as_they_are(shard_of: ShardOf, pair: MakePair, key: str) -> None:
    shard = shard_of([*pair(key), *pair("next")], tarfile.PAX_FORMAT)
    assert [sample.key for sample in samples_of(shard)] == [key, "next"]
    assert failures_of(shard) == []


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "JPG", "WebP"])
def test_all_image_kinds_are_images(shard_of: ShardOf, extension: str) -> None:
    shard = shard_of([(f"a.{extension}", b"picture"), ("a.txt", b"caption")])
    assert [sample.key for sample in samples_of(shard)] == ["a"]


def test_folders_and_links_are_no_members(tmp_path: Path, pair: MakePair, write: Write) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in pair("folder/a"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("folder/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        tar.addfile(link)
    shard = write(tmp_path / "shard.tar", stream.getvalue())
    assert [sample.key for sample in samples_of(shard)] == ["folder/a"]
    assert failures_of(shard) == []


def test_images_are_read_where_they_are_asked_for(shard_of: ShardOf, pair: MakePair) -> None:
    picture = bytes(range(256)) * 2000
    shard = shard_of(
        [*pair("a"), ("b.webp", b"not this"), ("b.JPEG", picture), ("b.txt", b"B"), *pair("c")]
    )
    assert [sample.image for sample in samples_of(shard)] == [None, None, None]
    jpeg = pair("a")[0][1]
    found = [each for each in read_samples(shard, images=True) if isinstance(each, Sample)]
    assert [sample.image for sample in found] == [jpeg, picture, jpeg]
    assert "image" not in repr(found[0])


# Spans

key_texts = st.text("ab.é/", min_size=1, max_size=8).map(lambda text: f"k{text}k")
long_keys = st.integers(60, 300).map(lambda length: "long/" * (length // 5) + "k")
contents = st.binary(min_size=1, max_size=1600)


@each_case
@given(
    keys=st.lists(key_texts | long_keys, min_size=1, max_size=5, unique=True),
    data=st.data(),
    tar_format=st.sampled_from(FORMATS[1:]),
)
def test_a_span_and_two_zero_blocks_are_a_tar_of_that_sample_alone(
    tmp_path: Path,
    tar_bytes: MakeTar,
    write: Write,
    keys: list[str],
    data: st.DataObject,
    tar_format: int,
) -> None:
    samples = []
    for key in keys:
        image, text = (
            data.draw(contents),
            data.draw(st.text("ab é\n", max_size=700)).encode() + b".",
        )
        samples.append([(f"{key}.png", image), (f"{key}.txt", text)])
    whole = tar_bytes([member for members in samples for member in members], tar_format)
    found = samples_of(write(tmp_path / "shard.tar", whole))
    assert [sample.key for sample in found] == keys
    end = 0
    for sample, members in zip(found, samples, strict=True):
        assert sample.span.offset == end
        end = sample.span.offset + sample.span.length
        assert members_of(whole[sample.span.offset : end] + ZERO_BLOCKS) == members


def members_of(content: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return [(member.name, read(tar, member)) for member in tar]


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream.read()


@pytest.mark.parametrize("tar_format", FORMATS)
@pytest.mark.parametrize("key", ["short", "folder/" * 17 + "prefixed", "folder/" * 20 + "x" * 90])
def test_spans_hold_in_every_tar_format(
    tmp_path: Path, tar_bytes: MakeTar, pair: MakePair, write: Write, tar_format: int, key: str
) -> None:
    samples = [pair("first"), pair(key, "middle", {"a": 1}), pair("last", "x" * 512)]
    whole = tar_bytes([member for members in samples for member in members], tar_format)
    found = samples_of(write(tmp_path / "shard.tar", whole))
    spans = [whole[each.span.offset :][: each.span.length] for each in found]
    assert b"".join(spans) == whole.rstrip(b"\0").ljust(sum(map(len, spans)), b"\0")
    assert [members_of(span + ZERO_BLOCKS) for span in spans] == samples


# Bad samples. Each stands between two good ones, which must come through.


def bad_samples() -> list[Any]:
    image, text = ("bad.jpg", b"picture"), ("bad.txt", b"caption")
    deep = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"

    def uid(value: object) -> Member:
        return ("bad.json", json.dumps({"uid": value}).encode())

    wrong_uid = "uid is not 32 lower-case hexadecimal digits"
    repeated = ("bad", "repeated or interleaved key")
    cases: dict[str, tuple[list[Member], list[tuple[str, str]]]] = {
        "no image": ([text], [("bad", "no image")]),
        "other file": ([("README", b"hello")], [("README", "no image")]),
        "empty image": ([("bad.jpg", b""), text], [("bad", "empty image")]),
        "empty png": ([("bad.png", b""), text], [("bad", "empty image")]),
        "no caption": ([image], [("bad", "no caption")]),
        "empty caption": ([image, ("bad.txt", b"")], [("bad", "empty caption")]),
        "blank caption": ([image, ("bad.txt", b" \n\t")], [("bad", "empty caption")]),
        "blank in json": ([image, ("bad.json", b'{"caption": " "}')], [("bad", "empty caption")]),
        "long caption": (
            [image, ("bad.txt", "é".encode() * (LONGEST_CAPTION + 1))],
            [("bad", "caption is longer than 10,000 characters")],
        ),
        "large txt": (
            [image, ("bad.txt", b"x" * (LARGEST_TEXT + 1))],
            [("bad", "txt is larger than 1 MB")],
        ),
        "large json": (
            [image, text, ("bad.json", b" " * LARGEST_TEXT + b"{}")],
            [("bad", "json is larger than 1 MB")],
        ),
        "caption no string": ([image, ("bad.json", b'{"caption": 3}')], [("bad", "no caption")]),
        "latin 1": ([image, ("bad.txt", b"caf\xe9")], [("bad", "caption is not UTF-8")]),
        "broken json": ([image, text, ("bad.json", b"{")], [("bad", "json cannot be parsed")]),
        "empty json": ([image, text, ("bad.json", b"")], [("bad", "json cannot be parsed")]),
        "binary json": ([image, text, ("bad.json", b"\xff{}")], [("bad", "json cannot be parsed")]),
        "deep json": ([image, text, ("bad.json", deep)], [("bad", "json cannot be parsed")]),
        "json list": ([image, text, ("bad.json", b"[]")], [("bad", "json is not an object")]),
        "short uid": ([image, text, uid("abc")], [("bad", wrong_uid)]),
        "upper uid": ([image, text, uid("A" * 32)], [("bad", wrong_uid)]),
        "uid and newline": ([image, text, uid("a" * 32 + "\n")], [("bad", wrong_uid)]),
        "uid number": ([image, text, uid(12)], [("bad", wrong_uid)]),
        "key no text": (
            [("b\udcff.jpg", b"picture"), ("b\udcff.txt", b"caption")],
            [("b\\udcff", "key is not UTF-8")],
        ),
        "part of a key": (
            [("bad.jpg", b"p"), ("bad.seg.png", b"p"), ("bad.txt", b"c")],
            [("bad", "no caption"), ("bad.seg", "no caption"), repeated],
        ),
        "interleaved": (
            [("bad.jpg", b"p"), ("worse.jpg", b"p"), ("bad.txt", b"c"), ("worse.txt", b"c")],
            [
                ("bad", "no caption"),
                ("worse", "no caption"),
                repeated,
                ("worse", "repeated or interleaved key"),
            ],
        ),
    }
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("members", "wanted"), bad_samples())
def test_a_bad_sample_is_set_aside_with_its_reason(
    shard_of: ShardOf, pair: MakePair, members: list[Member], wanted: list[tuple[str, str]]
) -> None:
    shard = shard_of([*pair("before"), *members, *pair("after")], tarfile.GNU_FORMAT)
    assert failures_of(shard) == wanted
    assert [sample.key for sample in samples_of(shard)] == ["before", "after"]
    assert {each.shard for each in read_samples(shard) if isinstance(each, Failure)} == {
        "shard.tar"
    }


@pytest.mark.parametrize("between", [[], ["other"]])
def test_of_a_repeated_key_the_first_sample_is_used(
    shard_of: ShardOf, pair: MakePair, between: list[str]
) -> None:
    others = [member for key in between for member in pair(key)]
    shard = shard_of([*pair("twice", "the first"), *others, *pair("twice", "the second")])
    assert [(each.key, each.caption) for each in samples_of(shard)] == [
        ("twice", "the first"),
        *((key, "a photo") for key in between),
    ]
    assert failures_of(shard) == [("twice", "repeated or interleaved key")]


def test_a_member_that_stands_twice_is_not_passed_over(shard_of: ShardOf, pair: MakePair) -> None:
    shard = shard_of([*pair("a", "the first"), ("a.txt", b"the second"), *pair("b")])
    assert [sample.caption for sample in samples_of(shard)] == ["the first", "a photo"]
    assert failures_of(shard) == [("a", "repeated or interleaved key")]


# Bad shards


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not a tar: empty file", id="zero bytes"),
        pytest.param(b"\x89PNG" + b"x" * 5000, "not a tar: ", id="another kind of file"),
        pytest.param(b"short", "not a tar: truncated header", id="short"),
        pytest.param(bytes(tarfile.RECORDSIZE), "empty shard", id="tar without members"),
    ],
)
def test_a_shard_without_samples_is_one_failure(
    tmp_path: Path, write: Write, content: bytes, reason: str
) -> None:
    (failure,) = read_samples(write(tmp_path / "shard.tar", content))
    assert isinstance(failure, Failure)
    assert (failure.shard, failure.key) == ("shard.tar", None)
    assert failure.reason.startswith(reason)


def test_a_gzipped_tar_is_not_a_tar(tmp_path: Path, tar_bytes: MakeTar, pair: MakePair) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    (failure,) = read_samples(ShardRef(str(path), path.stat().st_size, 0.0))
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("not a tar")


def test_a_shard_that_vanished_is_one_failure(tmp_path: Path) -> None:
    (failure,) = read_samples(ShardRef(str(tmp_path / "gone.tar"), 100, 0.0))
    reason = "unreadable shard: No such file or directory"
    assert failure == Failure("gone.tar", None, reason, rest=True)


def test_the_longest_caption_is_a_caption(shard_of: ShardOf, pair: MakePair) -> None:
    blank = " " * (LARGEST_TEXT - 2 * LONGEST_CAPTION)
    (sample,) = samples_of(shard_of(pair("a", "é" * LONGEST_CAPTION + blank)))
    assert sample.caption == "é" * LONGEST_CAPTION


def test_a_sample_with_a_sparse_member_is_set_aside(shard_of: ShardOf, pair: MakePair) -> None:
    shard = shard_of([*pair("a"), *pair("bad"), *pair("c")])
    content = bytearray(Path(shard.path).read_bytes())
    at = content.find(b"bad.jpg")
    content[at + 156] = ord("S")
    checksum = int(content[at + 148 : at + 154], 8) + ord("S") - ord("0")
    content[at + 148 : at + 154] = b"%06o" % checksum
    Path(shard.path).write_bytes(content)
    assert failures_of(shard) == [("bad", "sparse member")]
    assert [sample.key for sample in samples_of(shard)] == ["a", "c"]


def test_a_whole_sample_is_used_though_a_piece_of_its_key_came_before(
    shard_of: ShardOf, pair: MakePair
) -> None:
    shard = shard_of([("a.jpg", b"piece"), *pair("b"), *pair("a"), *pair("b")])
    assert [sample.key for sample in samples_of(shard)] == ["b", "a"]
    assert failures_of(shard) == [("a", "no caption"), ("b", "repeated or interleaved key")]


# Damaged shards

MORE = "damaged shard: more data after the end of the tar"
BAD_HEADER = "damaged shard: bad header"


@pytest.fixture
def damaged(tmp_path: Path, tar_bytes: MakeTar, write: Write) -> Callable[..., ShardRef]:
    """Writes a shard of samples of three members each, of which headers are broken."""

    def make(keys: str, *broken: str) -> ShardRef:
        members = [(f"{key}.{kind}", b"{}") for key in keys for kind in ("jpg", "txt", "json")]
        content = bytearray(tar_bytes(members))
        for name in broken:
            content[content.find(name.encode())] ^= 0xFF
        return write(tmp_path / "shard.tar", bytes(content))

    return make


@pytest.mark.parametrize(
    ("broken", "keys", "failures"),
    [
        (["c.jpg"], "abdef", [("(bytes 6144 to 7168 of the shard)", BAD_HEADER), "c"]),
        (["c.txt"], "abdef", [("(bytes 7168 to 8192 of the shard)", BAD_HEADER), "c"]),
        (["c.json"], "abdef", [("(bytes 8192 to 9216 of the shard)", BAD_HEADER), "c"]),
        (
            ["c.jpg", "c.txt", "c.json"],
            "abdef",
            [("(bytes 6144 to 9216 of the shard)", BAD_HEADER)],
        ),
        (["a.jpg"], "bcdef", [("(bytes 0 to 1024 of the shard)", BAD_HEADER), "a"]),
        # Nothing says that the sample before had no more members.
        (["b.jpg"], "cdef", [("(bytes 3072 to 4096 of the shard)", BAD_HEADER), "a", "b"]),
        (
            ["b.txt", "d.txt"],
            "acef",
            [
                ("(bytes 4096 to 5120 of the shard)", BAD_HEADER),
                "b",
                ("(bytes 10240 to 11264 of the shard)", BAD_HEADER),
                "d",
            ],
        ),
        (["f.json"], "abcde", [("(the rest of the shard, from byte 17408)", BAD_HEADER), "f"]),
    ],
)
def test_damage_costs_what_it_hit(
    damaged: Callable[..., ShardRef],
    broken: list[str],
    keys: str,
    failures: list[str | tuple[str, str]],
) -> None:
    shard = damaged("abcdef", *broken)
    assert [sample.key for sample in samples_of(shard)] == list(keys)
    wanted = [(each, NEXT_TO_DAMAGE) if isinstance(each, str) else each for each in failures]
    assert failures_of(shard) == wanted


def test_the_damage_stands_for_any_number_of_samples(damaged: Callable[..., ShardRef]) -> None:
    found = read_samples(damaged("abcd", "c.jpg"))
    assert [(each.key, each.rest) for each in found if isinstance(each, Failure)] == [
        ("(bytes 6144 to 7168 of the shard)", True),
        ("c", False),
    ]


def test_the_samples_on_both_sides_must_have_what_their_neighbours_have(
    tmp_path: Path, tar_bytes: MakeTar, write: Write
) -> None:
    def members(key: str, *kinds: str) -> list[Member]:
        return [(f"{key}.{kind}", b"{}") for kind in kinds]

    full, part = ("jpg", "txt", "json"), ("jpg", "txt")
    for kinds, good in (
        ((part, part, part, part, part), "abde"),
        ((part, part, part, part, full), "abe"),
        ((full, part, part, full, full), "ade"),
        ((full, part, part, part, part), "ae"),
        ((part, full, part, full, part), "abde"),
    ):
        rows = [members(key, *kinds[k]) for k, key in enumerate("abcde")]
        content = bytearray(tar_bytes([member for row in rows for member in row]))
        for name, _ in rows[2]:
            content[content.find(name.encode())] ^= 0xFF
        shard = write(tmp_path / "shard.tar", bytes(content))
        assert "".join(sample.key for sample in samples_of(shard)) == good
        lost = [(key, NEXT_TO_DAMAGE) for key in "bd" if key not in good]
        assert failures_of(shard)[1:] == lost


def test_a_tar_of_two_tars_does_not_lose_the_second(
    tmp_path: Path, tar_bytes: MakeTar, pair: MakePair, write: Write
) -> None:
    first = tar_bytes([*pair("a"), *pair("b")])
    shard = write(tmp_path / "shard.tar", first + tar_bytes(pair("c")))
    assert [sample.key for sample in samples_of(shard)] == ["a", "b", "c"]
    end = samples_of(shard)[1].span.offset + samples_of(shard)[1].span.length
    stretch = f"(bytes {end} to {len(first)} of the shard)"
    assert failures_of(shard) == [(stretch, MORE)]


@pytest.mark.parametrize("tar_format", FORMATS)
def test_after_a_damaged_header_the_shard_is_read_on(
    tmp_path: Path, tar_bytes: MakeTar, pair: MakePair, write: Write, tar_format: int
) -> None:
    keys = ["a", "b", "long/" * 30 + "c" if tar_format != tarfile.USTAR_FORMAT else "c", "d", "e"]
    whole = bytearray(tar_bytes([m for key in keys for m in pair(key)], tar_format))
    third = samples_of(write(tmp_path / "shard.tar", bytes(whole)))[2]
    whole[third.span.offset] ^= 0xFF
    shard = write(tmp_path / "shard.tar", bytes(whole))
    assert [sample.key for sample in samples_of(shard)] == ["a", "b", "d", "e"]
    (stretch, reason), *others = failures_of(shard)
    assert stretch is not None and stretch.startswith(f"(bytes {third.span.offset} to ")
    assert reason == BAD_HEADER
    # The header that gave the long name is lost, so that a part of it is the key of one member.
    assert (keys[2], NEXT_TO_DAMAGE if len(others) == 1 else "no image") in others


@dataclass(frozen=True)
class Whole:
    """A tar, where each of its samples ends, and where the content of its second one begins."""

    content: bytes = field(repr=False)
    ends: tuple[tuple[str, int], ...] = field(repr=False)
    second_seen: int


@pytest.fixture(scope="session", params=FORMATS, ids=["ustar", "pax", "gnu"])
def whole_tar(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tar_bytes: MakeTar,
    pair: MakePair,
    write: Write,
) -> Whole:
    keys = ["a", "b" * 90, "folder/" * 14 + "c", "d"]
    if request.param != tarfile.USTAR_FORMAT:
        keys[2] = "folder/" * 25 + "c"
        keys.insert(1, "much/" * 30 + "longer")
    content = tar_bytes([m for key in keys for m in pair(key, key, {"k": key})], request.param)
    found = samples_of(write(tmp_path_factory.mktemp("whole") / "shard.tar", content))
    ends = tuple((each.key, each.span.offset + each.span.length) for each in found)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        return Whole(content, ends, tar.getmembers()[4].offset)


def test_every_sample_that_is_whole_in_a_truncated_tar_is_read(
    tmp_path: Path, write: Write, whole_tar: Whole
) -> None:
    content, ends = whole_tar.content, whole_tar.ends
    cuts = {block + step for block in range(0, len(content), 512) for step in (0, 1, 300)}
    for cut in sorted(cut for cut in cuts if cut <= ends[-1][1] + 1024):
        shard = write(tmp_path / "shard.tar", content[:cut])
        whole = [key for key, end in ends if end <= cut]
        if len(whole) == 1 and cut < whole_tar.second_seen:
            whole = []  # nothing says that it had no further members
        assert [sample.key for sample in samples_of(shard)] == whole
        failures = failures_of(shard)
        if cut >= ends[-1][1] + tarfile.BLOCKSIZE:
            assert failures == []
            continue
        (stretch, reason), *others = failures
        assert all(reason == NEXT_TO_DAMAGE for _, reason in others) and len(others) <= 1
        if cut < tarfile.BLOCKSIZE:
            assert stretch is None and reason.startswith("not a tar: ")
        else:
            assert reason == "truncated shard"
            assert stretch is None or stretch.startswith("(the rest of the shard, from byte ")


# Real shards


def test_the_emoji_shards_are_read_whole(shared_data: Path) -> None:
    shards = find_shards(str(shared_data / "emoji"))
    read_of = {shard.name: list(read_samples(shard)) for shard in shards}
    everything = [each for found in read_of.values() for each in found]
    assert [each for each in everything if isinstance(each, Failure)] == []
    assert len(everything) == 7060
    assert len({each.uid for each in everything if isinstance(each, Sample)}) == 7060
    whole = Path(shards[0].path).read_bytes()
    sample = read_of[shards[0].name][100]
    assert isinstance(sample, Sample)
    part = whole[sample.span.offset :][: sample.span.length] + ZERO_BLOCKS
    names = [f"{sample.key}.{extension}" for extension in ("png", "txt", "json")]
    assert [name for name, _ in members_of(part)] == names
    assert members_of(part)[1][1].decode().strip() == sample.caption
