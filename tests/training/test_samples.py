import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from m4.errors import UnusableSample
from pipelines.shards import SampleSpan, ShardRef, read_samples
from training.samples import STREAMS_KEPT, SpanReader, parse_span


@pytest.fixture
def reader():
    reader = SpanReader()
    yield reader
    reader.close()


def test_every_span_that_annotation_notes_is_read_back(
    tmp_path: Path, tar_of: Callable[..., ShardRef], jpeg: Callable[..., bytes], reader: SpanReader
):
    long = "folder/" + "x" * 150  # does not fit a plain tar header
    shard = tar_of(
        tmp_path / "0.tar",
        [
            ("a.jpg", jpeg()),
            ("a.txt", b" first "),
            ("a.b.JPG", jpeg()),  # a dot in the key must not split the sample
            ("a.b.json", json.dumps({"caption": "second", "uid": "0" * 32}).encode()),
            (f"{long}.webp", jpeg()),
            (f"{long}.txt", "dritte, größer".encode()),
        ],
    )
    found = [
        (sample.key, parse_span(reader.read(shard, sample.span), sample.key).caption)
        for sample in read_samples(shard)
    ]
    assert found == [("a", "first"), ("a.b", "second"), (long, "dritte, größer")]


def test_a_span_that_holds_another_sample_is_refused(
    tmp_path: Path, tar_of: Callable[..., ShardRef], jpeg: Callable[..., bytes], reader: SpanReader
):
    members = [("a.jpg", jpeg()), ("b.jpg", jpeg()), ("a.txt", b"one"), ("b.txt", b"two")]
    shard = tar_of(tmp_path / "0.tar", members)
    content = reader.read(shard, SampleSpan(0, shard.size))
    with pytest.raises(UnusableSample, match="holds another sample"):
        parse_span(content, "a")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.txt", b"no picture")], "no image"),
        ([("a.jpg", b"x")], "no caption"),
        ([("a.jpg", b"x"), ("a.json", b"{}")], "no caption"),
        ([("a.jpg", b"x"), ("a.json", b'["caption"]')], "no caption"),
        ([("a.jpg", b"x"), ("a.json", b"{")], "json cannot be parsed"),
        ([("a.jpg", b"x"), ("a.txt", b"\xff\xfe")], "caption is not UTF-8"),
    ],
)
def test_reasons(
    tmp_path: Path,
    tar_of: Callable[..., ShardRef],
    reader: SpanReader,
    members: list[tuple[str, bytes]],
    reason: str,
):
    shard = tar_of(tmp_path / "0.tar", members)
    with pytest.raises(UnusableSample, match=reason):
        parse_span(reader.read(shard, SampleSpan(0, shard.size)), "a")


def test_a_span_of_no_tar_member(
    tmp_path: Path, tar_of: Callable[..., ShardRef], jpeg: Callable[..., bytes], reader: SpanReader
):
    shard = tar_of(tmp_path / "0.tar", [("a.jpg", jpeg(64)), ("a.txt", b"one")])
    with pytest.raises(UnusableSample, match="does not begin with a tar member"):
        parse_span(reader.read(shard, SampleSpan(512, 512)), "a")
    with pytest.raises(UnusableSample, match="ends outside the shard"):
        reader.read(shard, SampleSpan(shard.size - 512, 1024))


def test_a_shard_that_is_gone_or_changed(
    tmp_path: Path, tar_of: Callable[..., ShardRef], jpeg: Callable[..., bytes], reader: SpanReader
):
    shard = tar_of(tmp_path / "0.tar", [("a.jpg", jpeg()), ("a.txt", b"one")])
    with pytest.raises(UnusableSample, match="has changed since"):
        reader.read(replace(shard, size=shard.size + 512), SampleSpan(0, 512))
    with pytest.raises(UnusableSample, match="unreadable shard: No such file"):
        reader.read(replace(shard, path=str(tmp_path / "1.tar")), SampleSpan(0, 512))


def test_only_a_few_shards_are_kept_open(
    tmp_path: Path, tar_of: Callable[..., ShardRef], reader: SpanReader
):
    shards = [
        tar_of(tmp_path / f"{number}.tar", [("a.txt", str(number).encode())])
        for number in range(STREAMS_KEPT + 3)
    ]
    for _ in range(2):
        for number, shard in enumerate(shards):
            assert reader.read(shard, SampleSpan(512, 2)).rstrip(b"\0") == str(number).encode()
    assert len(reader._streams) == STREAMS_KEPT
