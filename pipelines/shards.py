"""WebDataset shards: finding them, and reading their samples with byte spans. Never written to."""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from m4.errors import InputError
from pipelines import storage

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
BRACE_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
UID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class ShardRef:
    """One input tar. `stem` names everything made from it; `size` and `modified` fingerprint it."""

    path: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        return self.name.removesuffix(".tar")


@dataclass(frozen=True)
class SampleSpan:
    """Where a sample's members lie in its tar, headers and padding included, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Sample:
    """One image-text pair without its pixels."""

    uid: str
    key: str
    span: SampleSpan
    caption: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A sample, or a whole shard (`key` is None), that was set aside, and why."""

    shard: str
    key: str | None
    reason: str


def expand_braces(pattern: str) -> list[str]:
    """Expand the first `{00000..00999}` range (zero padding kept), then the others."""
    found = BRACE_RANGE.search(pattern)
    if not found:
        return [pattern]
    low, high = found.groups()
    if int(low) > int(high):
        raise InputError(f"{pattern}: the range {low}..{high} runs backwards; swap its ends")
    heads = (
        pattern[: found.start()] + f"{number:0{len(low)}d}" + pattern[found.end() :]
        for number in range(int(low), int(high) + 1)
    )
    return [path for head in heads for path in expand_braces(head)]


def _tars(pattern: str) -> list[str]:
    if any(sign in pattern for sign in "*?["):
        return storage.match(pattern)
    if pattern.endswith(".tar"):
        return [pattern]
    return storage.match(storage.join(pattern, "*.tar"))


def find_shards(shards: str | Iterable[str]) -> list[ShardRef]:
    """Find shards, in the order given.

    Parameters
    ----------
    shards : paths, directories, globs, `{00000..00999}` braces, or several joined by `::`.

    Raises `InputError` where a named shard does not exist, where nothing is found, and where two
    shards have the same name (all products are named after the shard).
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    patterns = [part for pattern in patterns for part in str(pattern).split("::") if part]
    found: dict[str, ShardRef] = {}
    for pattern in patterns:
        paths = [path for part in expand_braces(pattern) for path in _tars(part)]
        if not paths:
            raise InputError(f"{pattern}: no shards (*.tar) found; check the path")
        for path in paths:
            shard = _shard(path)
            other = found.setdefault(shard.stem, shard)
            if other.path != path:
                raise InputError(
                    f"two shards are named {shard.name}: {other.path} and {path}; rename one, or "
                    "process them in separate run directories"
                )
    if not found:
        raise InputError(
            "no shards given; name tars, a directory, a glob or a {00000..00999} range"
        )
    return list(found.values())


def _shard(path: str) -> ShardRef:
    try:
        size, modified = storage.size_and_time(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return ShardRef(path, size, modified)


def split_member(name: str) -> tuple[str, str]:
    """Split a member's name into the sample's key and the lower-case extension."""
    key, dot, extension = name.rpartition(".")
    return (key, extension.lower()) if dot and "/" not in extension else (name, "")


def derived_uid(shard_name: str, key: str) -> str:
    """The uid of a sample that brings none: 32 hex digits of SHA-256 of "shard name/key"."""
    return hashlib.sha256(f"{shard_name}/{key}".encode()).hexdigest()[:32]


@dataclass
class _Group:
    """Consecutive members of one key."""

    key: str
    start: int
    end: int
    members: dict[str, tarfile.TarInfo]


def _groups(tar: tarfile.TarFile) -> Iterator[_Group]:
    group: _Group | None = None
    for member in tar:
        if not member.isfile():
            continue
        key, extension = split_member(member.name)
        if group is None or key != group.key:
            if group is not None:
                yield group
            group = _Group(key, member.offset, 0, {})
        padded = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        group.end = member.offset_data + padded
        group.members[extension] = member
    if group is not None:
        yield group


def read_samples(shard: ShardRef) -> Iterator[Sample | Failure]:
    """Read a shard's samples in order, without decoding images.

    A sample that cannot be used is yielded as a `Failure`, and the rest is read on. A tar that
    ends early yields its complete samples and one `Failure` for the rest; a shard that cannot be
    read at all, or holds nothing, yields one `Failure` whose key is None.
    """
    try:
        stream = storage.open_input(shard.path)
    except OSError as error:
        yield Failure(shard.name, None, f"unreadable shard: {error.strerror or error}")
        return
    seen: set[str] = set()
    with stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for group in _groups(tar):
                    if group.key in seen:
                        yield Failure(shard.name, group.key, "repeated or interleaved key")
                        continue
                    seen.add(group.key)
                    if group.end > shard.size:
                        yield Failure(shard.name, group.key, "truncated shard")
                        return
                    yield _read_sample(shard, tar, group)
        except tarfile.TarError as error:
            key = None if not seen else "(the rest of the shard)"
            # An empty file and a file that is no tar at all both arrive here.
            reason = "truncated shard" if seen else f"not a tar: {error}"
            yield Failure(shard.name, key, reason)
            return
    if not seen:
        yield Failure(shard.name, None, "empty shard")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream: IO[bytes] | None = tar.extractfile(member)
    assert stream is not None  # `_groups` keeps regular files only
    return stream.read()


def _read_sample(shard: ShardRef, tar: tarfile.TarFile, group: _Group) -> Sample | Failure:
    def failed(reason: str) -> Failure:
        return Failure(shard.name, group.key, reason)

    if not any(extension in group.members for extension in IMAGE_EXTENSIONS):
        return failed("no image")
    metadata: dict[str, Any] = {}
    if "json" in group.members:
        try:
            metadata = json.loads(_content(tar, group.members["json"]))
        except ValueError:  # also UnicodeDecodeError
            return failed("json cannot be parsed")
        if not isinstance(metadata, dict):
            return failed("json is not an object")
    if "txt" in group.members:
        try:
            caption = _content(tar, group.members["txt"]).decode()
        except UnicodeDecodeError:
            return failed("caption is not UTF-8")
    elif isinstance(metadata.get("caption"), str):
        caption = metadata["caption"]
    else:
        return failed("no caption")
    uid = metadata.get("uid") or derived_uid(shard.name, group.key)
    if not isinstance(uid, str) or not UID.fullmatch(uid):
        return failed("uid is not 32 hexadecimal digits")
    span = SampleSpan(group.start, group.end - group.start)
    return Sample(uid, group.key, span, caption.strip(), metadata)
