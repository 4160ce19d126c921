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
    """A sample that was set aside, and why; or a shard, where `key` is None.

    `rest` says that it stands for everything in the shard from there on, nobody knows how much.
    """

    shard: str
    key: str | None
    reason: str
    rest: bool = False


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


class _Damaged(Exception):
    """A tar cannot be read on; the message is the reason."""


def _members(tar: tarfile.TarFile, stream: IO[bytes], size: int) -> Iterator[tarfile.TarInfo]:
    """Yield all members; raises `_Damaged` unless the tar then ends as a tar does.

    `tarfile` itself takes a header that it cannot read for the end of the archive.
    """
    try:
        for member in tar:
            if member.size < 0:  # tarfile would go back, and round for ever
                raise tarfile.ReadError("negative size")
            yield member
    except (tarfile.TarError, ValueError, OverflowError) as error:
        early = stream.tell() >= size
        raise _Damaged("truncated shard" if early else f"damaged shard: {error}") from None
    stream.seek(tar.offset)
    end = stream.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE:
        raise _Damaged("truncated shard")
    if end.strip(b"\0"):
        raise _Damaged("damaged shard: bad header")
    if stream.read(tarfile.RECORDSIZE).strip(b"\0"):
        raise _Damaged("damaged shard: more data after the end of the tar")


def _groups(tar: tarfile.TarFile, stream: IO[bytes], size: int) -> Iterator[_Group]:
    """Yield the groups of a tar of `size` bytes; of a damaged one, those that are whole."""
    group: _Group | None = None
    before: _Group | None = None
    try:
        for member in _members(tar, stream, size):
            if not member.isfile():
                continue
            key, extension = split_member(member.name)
            if group is None or key != group.key or extension in group.members:
                if group is not None:
                    yield group
                before, group = group, _Group(key, member.offset, 0, {})
            group.end = tar.offset  # where the next header starts
            group.members[extension] = member
    except _Damaged:
        # Nothing says that the last sample lost no member, unless it has all kinds that the one
        # before it has.
        if group and before and before.members.keys() <= group.members.keys() and group.end <= size:
            yield group
        raise
    if group is not None:
        yield group


def read_samples(shard: ShardRef) -> Iterator[Sample | Failure]:
    """Read a shard's samples in order, without decoding images.

    A sample that cannot be used is yielded as a `Failure`, and the rest is read on. A tar that
    ends early or is damaged yields its complete samples and one `Failure` for the rest; a shard
    that cannot be read at all, or holds nothing, yields one `Failure` whose key is None.
    """
    try:
        stream = storage.open_input(shard.path)
    except OSError as error:
        reason = f"unreadable shard: {error.strerror or error}"
        yield Failure(shard.name, None, reason, rest=True)
        return
    with stream:
        try:
            tar = tarfile.TarFile(fileobj=stream)
        except (tarfile.TarError, ValueError, OverflowError) as error:  # also an empty file
            yield Failure(shard.name, None, f"not a tar: {error}", rest=True)
            return
        seen: set[str] = set()
        try:
            for group in _groups(tar, stream, shard.size):
                yield _read_sample(shard, tar, group, repeated=group.key in seen)
                seen.add(group.key)
        except _Damaged as damage:
            key = "(the rest of the shard)" if seen else None
            yield Failure(shard.name, key, str(damage), rest=True)
            return
    if not seen:
        yield Failure(shard.name, None, "empty shard", rest=True)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream: IO[bytes] | None = tar.extractfile(member)
    assert stream is not None  # `_groups` keeps regular files only
    return stream.read()


def _read_sample(
    shard: ShardRef, tar: tarfile.TarFile, group: _Group, *, repeated: bool
) -> Sample | Failure:
    # `tarfile` passes on bytes that are not UTF-8 as surrogates, which no table can hold.
    key = group.key.encode(errors="backslashreplace").decode()

    def failed(reason: str) -> Failure:
        return Failure(shard.name, key, reason)

    if key != group.key:
        return failed("key is not UTF-8")
    if repeated:
        return failed("repeated or interleaved key")
    if not any(extension in group.members for extension in IMAGE_EXTENSIONS):
        return failed("no image")
    metadata: dict[str, Any] = {}
    if "json" in group.members:
        try:
            metadata = json.loads(_content(tar, group.members["json"]))
        except (ValueError, RecursionError):  # also UnicodeDecodeError; nested too deeply
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
        return failed("uid is not 32 lower-case hexadecimal digits")
    span = SampleSpan(group.start, group.end - group.start)
    return Sample(uid, group.key, span, caption.strip(), metadata)
