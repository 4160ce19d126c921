"""Whatever befalls the bytes of a shard, it loses no good sample, and makes up none."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.shards import Failure, Sample, ShardRef, read_samples

MakeTar = Callable[..., bytes]
Write = Callable[[Path, bytes], ShardRef]
KEYS = 9
# A member is smaller than any sample, so that one that claims bytes which were lost claims no more
# than the sample after it. Whatever it then hides there is next to what was changed.
LARGEST = 1400


@dataclass(frozen=True)
class Whole:
    """A shard, and what is read from it before anything befalls it."""

    content: bytes = field(repr=False)
    samples: tuple[Sample, ...] = field(repr=False)


def made(key: str, k: int) -> list[tuple[str, bytes]]:
    def noise(length: int) -> bytes:
        return b"".join(hashlib.sha256(f"{k}/{i}".encode()).digest() for i in range(44))[:length]

    metadata = {"uid": noise(16).hex(), "k": k, "more": "x" * (70 * k)}
    return [
        (f"{key}.jpg", noise(1 + LARGEST * k // KEYS)),
        (f"{key}.txt", f"caption {k} ".encode() * (1 + 5 * k)),
        (f"{key}.json", json.dumps(metadata).encode()),
    ]


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["ustar", "gnu", "pax"])
def whole(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tar_bytes: MakeTar,
    write: Write,
) -> Whole:
    keys = [f"{k:03d}" if k % 3 else f"{k:03d}" + "/folder" * (5 * k) for k in range(KEYS)]
    if request.param == 0:
        keys = [key[:90] for key in keys]
    content = tar_bytes([m for k, key in enumerate(keys) for m in made(key, k)], request.param)
    shard = write(tmp_path_factory.mktemp("whole") / "shard.tar", content)
    samples = list(read_samples(shard, images=True))
    assert len(samples) == KEYS
    return Whole(content, tuple(each for each in samples if isinstance(each, Sample)))


@dataclass(frozen=True)
class Edit:
    """Bytes `start` to `end` are replaced."""

    start: int
    end: int
    by: bytes


def edits_of(whole: Whole) -> st.SearchStrategy[list[Edit]]:
    size = len(whole.content)
    ends = [each.span.offset + each.span.length for each in whole.samples]
    near = st.builds(int.__add__, st.sampled_from([0, *ends]), st.integers(-600, 600))
    at = (st.integers(0, size) | near).map(lambda value: min(max(value, 0), size))
    lengths = st.integers(0, 40) | st.sampled_from([512, 1024, 4096]) | st.integers(0, 9000)
    some = st.binary(max_size=40) | lengths.map(bytes) | lengths.map(lambda n: b"\xa5" * n)

    def edit(kind: str, start: int, length: int, by: bytes) -> Edit:
        end = min(start + length, size)
        if kind == "insert":
            return Edit(start, start, by)
        if kind == "delete":
            return Edit(start, end, b"")
        if kind == "flip":
            end = min(start + 1, size)
            return Edit(
                start, end, bytes(byte ^ (1 + length % 255) for byte in whole.content[start:end])
            )
        if kind == "truncate":
            return Edit(start, size, b"")
        end = min(start + len(by), size)
        return Edit(start, end, by[: end - start])

    kinds = st.sampled_from(["insert", "delete", "flip", "overwrite", "truncate"])
    return st.lists(st.builds(edit, kinds, at, lengths, some), min_size=1, max_size=3)


def edited(content: bytes, edits: list[Edit]) -> tuple[bytes, list[tuple[int, int]]]:
    """The content with edits that do not overlap, and the stretches of the old one they touch.

    Where the same change could have been made elsewhere (one more zero in a row of zeros), the
    stretch covers all such places.
    """
    new = content
    touched = []
    last = len(content) + 1
    for edit in sorted(edits, key=lambda each: each.start, reverse=True):
        if edit.end >= last:
            continue
        last = edit.start
        before, old, after = (
            content[: edit.start],
            content[edit.start : edit.end],
            content[edit.end :],
        )
        new = new[: edit.start] + edit.by + new[edit.end :]
        if edit.by == old:
            continue
        if len(edit.by) == len(old):
            touched.append((edit.start, edit.end))
            continue
        alone = before + edit.by + after
        prefix = common(content, alone)
        suffix = common(content[::-1], alone[::-1])
        touched.append((min(edit.start, len(content) - suffix), max(edit.end, prefix)))
    return new, touched


def common(one: bytes, other: bytes) -> int:
    """How many bytes are the same from the start."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def touches(stretch: tuple[int, int], sample: Sample) -> bool:
    start, end = stretch
    sample_start, sample_end = sample.span.offset, sample.span.offset + sample.span.length
    if start == end:  # something was put in
        return sample_start <= start <= sample_end
    return start < sample_end and sample_start < end


def seen(sample: Sample) -> tuple[object, ...]:
    return sample.uid, sample.key, sample.caption, sample.metadata, sample.image


@settings(
    deadline=None,
    max_examples=220,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_good_sample_is_lost_and_none_is_made_up(
    tmp_path: Path, write: Write, whole: Whole, data: st.DataObject
) -> None:
    content, touched = edited(whole.content, data.draw(edits_of(whole), label="edits"))
    shard = write(tmp_path / "shard.tar", content)
    found = list(read_samples(shard, images=True))

    is_hit = [any(touches(stretch, each) for stretch in touched) for each in whole.samples]
    wanted = [
        seen(sample)
        for k, sample in enumerate(whole.samples)
        if not any(is_hit[max(0, k - 1) : k + 2])
    ]
    good = [each for each in found if isinstance(each, Sample)]
    assert [each for each in wanted if each not in [seen(sample) for sample in good]] == []
    original = {
        sample.key: (seen(sample), hit) for sample, hit in zip(whole.samples, is_hit, strict=True)
    }
    for sample in good:
        assert sample.key in original
        assert seen(sample) == original[sample.key][0] or original[sample.key][1]
    if len(good) < KEYS:
        lost = [each for each in original if each not in {sample.key for sample in good}]
        named = {each.key for each in found if isinstance(each, Failure)}
        assert named or all(original[key][1] for key in lost)


@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=3000))
def test_any_bytes_at_all_are_one_failure(tmp_path: Path, write: Write, content: bytes) -> None:
    (failure,) = read_samples(write(tmp_path / "shard.tar", content))
    assert isinstance(failure, Failure)
    assert (failure.key, failure.rest) == (None, True)
