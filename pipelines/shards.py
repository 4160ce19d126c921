"""WebDataset shards: finding them, and reading their samples with byte spans. Never written to."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.tars import Damage, Member, TarReader

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LONGEST_CAPTION = 10_000  # characters
LARGEST_TEXT = 1_000_000  # bytes of a txt or json member
BRACE_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
UID = re.compile(r"[0-9a-f]{32}")
REPEATED = "repeated or interleaved key"


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
    """One image-text pair. `image` is its encoded image, where that was asked for."""

    uid: str
    key: str
    span: SampleSpan
    caption: str
    metadata: dict[str, Any]
    image: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Failure:
    """A sample that was set aside, and why; or a shard, where `key` is None.

    `rest` says that it stands for a stretch of the shard, or for all of it: nobody knows how many
    samples that held. `key` then tells the stretch.
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
    """Consecutive members of one key, and where the shard is damaged next to them."""

    key: str
    start: int
    end: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    damage_before: bool = False
    damage_inside: bool = False
    damage_after: bool = False
    is_whole: bool = True

    @property
    def is_next_to_damage(self) -> bool:
        return self.damage_before or self.damage_inside or self.damage_after

    def has_all_kinds_of(self, *others: "_Group | None") -> bool:
        """Whether there is another group that is not next to damage, and no kind is missing."""
        known = [each for each in others if each is not None and not each.is_next_to_damage]
        return bool(known) and all(each.members.keys() <= self.members.keys() for each in known)


def _groups(tar: TarReader) -> Iterator[_Group | Damage]:
    """Group members by their keys. A stretch of damage comes before the group that it follows."""
    group: _Group | None = None
    after_damage = False
    for item in tar:
        if isinstance(item, Damage):
            after_damage = True
            yield item
            continue
        key, extension = split_member(item.name)
        if group is not None and key == group.key and extension not in group.members:
            group.damage_inside |= after_damage
        else:
            if group is not None:
                group.damage_after = after_damage
                yield group
            group = _Group(key, item.header_offset, damage_before=after_damage)
        after_damage = False
        group.end = item.end
        group.members[extension] = item
    if group is not None:
        group.damage_after = after_damage
        yield group


def _judged_groups(tar: TarReader) -> Iterator[_Group | Damage]:
    """Say of the groups next to damage whether they are whole.

    Nothing says that one lost no member, unless it has all kinds of members that the nearest
    undamaged group before it has, and the group after it.
    """
    undamaged: _Group | None = None
    waiting: _Group | None = None  # for the group after it
    for each in _groups(tar):
        if isinstance(each, Damage):
            yield each
            continue
        if waiting is not None:
            waiting.is_whole = waiting.has_all_kinds_of(undamaged, each)
            yield waiting
            waiting = None
        if not each.is_next_to_damage:
            undamaged = each
            yield each
        elif each.damage_inside or each.damage_after:
            each.is_whole = not each.damage_inside and each.has_all_kinds_of(undamaged)
            yield each
        else:
            waiting = each
    if waiting is not None:
        waiting.is_whole = waiting.has_all_kinds_of(undamaged)
        yield waiting


def read_samples(shard: ShardRef, *, images: bool = False) -> Iterator[Sample | Failure]:
    """Read a shard's samples in order, without decoding images.

    A sample that cannot be used is yielded as a `Failure`, and the rest is read on. So is each
    stretch of the shard that is damaged; the samples next to it are used where nothing speaks for
    a lost member. A shard that cannot be opened, is no tar, or holds nothing, yields one
    `Failure` whose key is None.

    Parameters
    ----------
    images : read the encoded images too

    Passes on the `OSError` of a storage that fails while the shard is read.
    """
    try:
        stream = storage.open_input(shard.path)
    except OSError as error:
        reason = f"unreadable shard: {error.strerror or error}"
        yield Failure(shard.name, None, reason, rest=True)
        return
    with stream:
        tar = TarReader(stream)
        used: set[str] = set()
        in_pieces: set[str] = set()
        is_empty = True
        for group in _judged_groups(tar):
            is_empty = False
            if isinstance(group, Damage):
                yield Failure(shard.name, _stretch(group, tar.size), group.reason, rest=True)
                continue
            key = group.key.encode(errors="backslashreplace").decode()
            try:
                if group.key in used:
                    raise UnusableSample(REPEATED)
                yield _sample(shard, tar, group, images=images)
                used.add(group.key)
            except UnusableSample as error:
                is_repeated = group.is_whole and group.key in in_pieces
                in_pieces.add(group.key)
                yield Failure(shard.name, key, REPEATED if is_repeated else str(error))
    if is_empty:
        yield Failure(shard.name, None, "empty shard", rest=True)


def _stretch(damage: Damage, size: int) -> str | None:
    """What stands for the key of a sample, of which the damage may have hit any number."""
    if damage.end < size:
        return f"(bytes {damage.offset} to {damage.end} of the shard)"
    return f"(the rest of the shard, from byte {damage.offset})" if damage.offset else None


def _sample(shard: ShardRef, tar: TarReader, group: _Group, *, images: bool) -> Sample:
    # No table can hold the surrogates that stand for bytes that are not UTF-8.
    if group.key != group.key.encode(errors="ignore").decode():
        raise UnusableSample("key is not UTF-8")
    if not group.is_whole:
        raise UnusableSample("next to a damaged stretch")
    kinds = [extension for extension in IMAGE_EXTENSIONS if extension in group.members]
    if not kinds:
        raise UnusableSample("no image")
    if any(member.sparse for member in group.members.values()):
        raise UnusableSample("sparse member")
    image = group.members[kinds[0]]
    if not image.size:
        raise UnusableSample("empty image")
    metadata = _metadata(tar, group)
    caption = _caption(tar, group, metadata)
    uid = metadata.get("uid") or derived_uid(shard.name, group.key)
    if not isinstance(uid, str) or not UID.fullmatch(uid):
        raise UnusableSample("uid is not 32 lower-case hexadecimal digits")
    span = SampleSpan(group.start, group.end - group.start)
    content = tar.read(image) if images else None
    return Sample(uid, group.key, span, caption, metadata, content)


def _text(tar: TarReader, group: _Group, extension: str) -> bytes:
    member = group.members[extension]
    if member.size > LARGEST_TEXT:
        raise UnusableSample(f"{extension} is larger than 1 MB")
    return tar.read(member)


def _metadata(tar: TarReader, group: _Group) -> dict[str, Any]:
    if "json" not in group.members:
        return {}
    try:
        metadata = json.loads(_text(tar, group, "json"))
    except (ValueError, RecursionError):  # also UnicodeDecodeError; nested too deeply
        raise UnusableSample("json cannot be parsed") from None
    if not isinstance(metadata, dict):
        raise UnusableSample("json is not an object")
    return metadata


def _caption(tar: TarReader, group: _Group, metadata: dict[str, Any]) -> str:
    if "txt" in group.members:
        try:
            caption = _text(tar, group, "txt").decode()
        except UnicodeDecodeError:
            raise UnusableSample("caption is not UTF-8") from None
    elif isinstance(metadata.get("caption"), str):
        caption = metadata["caption"]
    else:
        raise UnusableSample("no caption")
    caption = caption.strip()
    if not caption:
        raise UnusableSample("empty caption")
    if len(caption) > LONGEST_CAPTION:
        raise UnusableSample(f"caption is longer than {LONGEST_CAPTION:,} characters")
    return caption
