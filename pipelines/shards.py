"""WebDataset shards: finding them, and reading their samples with byte spans. Never written to.

A shard may also be a table of metadata (`pipelines.metadata_tables`); it is found here.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.groups import Group, judged_groups
from pipelines.tars import Damage, Member, TarReader

TAR, TABLE = ".tar", ".parquet"
LONGEST_CAPTION = 10_000  # characters
LARGEST_TEXT = 1_000_000  # bytes of a txt or json member
BRACE_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
UID = re.compile(r"[0-9a-f]{32}")
DECODER = json.JSONDecoder()

UNREADABLE = "unreadable shard"
EMPTY_SHARD = "empty shard"
REPEATED = "repeated or interleaved key"
KEY_NOT_UTF8 = "key is not UTF-8"
NEXT_TO_DAMAGE = "next to a damaged stretch"
NO_IMAGE = "no image"
EMPTY_IMAGE = "empty image"
LARGE_TXT = "txt is larger than 1 MB"
LARGE_JSON = "json is larger than 1 MB"
BAD_JSON = "json cannot be parsed"
NO_OBJECT = "json is not an object"
CAPTION_NOT_UTF8 = "caption is not UTF-8"
NO_CAPTION = "no caption"
EMPTY_CAPTION = "empty caption"
LONG_CAPTION = f"caption is longer than {LONGEST_CAPTION:,} characters"
BAD_UID = "uid is not 32 lower-case hexadecimal digits"

T = TypeVar("T")


@dataclass(frozen=True)
class ShardRef:
    """One input: a tar, or a parquet of metadata (`is_table`).

    `stem` names everything made from it; `size` and `modified` fingerprint it.
    """

    path: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def is_table(self) -> bool:
        return self.path.endswith(TABLE)

    @property
    def stem(self) -> str:
        return self.name.removesuffix(TABLE if self.is_table else TAR)


@dataclass(frozen=True)
class SampleSpan:
    """Where a sample's members lie in its tar, headers and padding included, in bytes.

    A sample of a table of metadata lies in no tar: its length is 0, its offset the row's number.
    """

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


class Identity(NamedTuple):
    """Who a sample is, and its span in bytes, as tables hold them."""

    uid: str
    key: str
    offset: int
    length: int


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


def _paths(pattern: str) -> list[str]:
    if any(sign in pattern for sign in "*?["):
        return storage.match(pattern)
    if pattern.endswith((TAR, TABLE)):
        return [pattern]
    return storage.files(pattern, f"*{TAR}")


def find_shards(shards: str | Iterable[str]) -> list[ShardRef]:
    """Find shards, in the order given.

    Parameters
    ----------
    shards : paths, directories, globs, `{00000..00999}` braces, or several joined by `::`.
        A directory stands for its tars; tables of metadata are named, as in `folder/*.parquet`

    Raises `InputError` where a named shard does not exist, where nothing is found, and where two
    shards have the same name or stem (all products are named after it).
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    patterns = [part for pattern in patterns for part in str(pattern).split("::") if part]
    found: dict[str, ShardRef] = {}
    for pattern in patterns:
        paths = [path for part in expand_braces(pattern) for path in _paths(part)]
        if not paths:
            raise InputError(
                f"{pattern}: no shards (*.tar) found; check the path, or name tables of metadata "
                "as in folder/*.parquet"
            )
        for path in paths:
            shard = _shard(path)
            other = found.setdefault(shard.stem, shard)
            if other.is_table != shard.is_table:
                raise InputError(
                    f"{other.path} and {path}: a tar and a table of metadata of the same name; "
                    "give only one of them"
                )
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


def check_tars(manifest: str, shards: Iterable[ShardRef]) -> None:
    """Raise `InputError` where a manifest was made from tables of metadata, which hold no bytes."""
    for shard in shards:
        if shard.is_table:
            raise InputError(
                f"{manifest}: made from tables of metadata ({shard.path}), which hold no pictures; "
                "export its uids (`m4-balance export --format datacomp`) and lay them over the "
                "downloaded tars (`m4-balance import-subset`)"
            )


def _shard(path: str) -> ShardRef:
    try:
        size, modified = storage.size_and_time(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return ShardRef(path, size, modified)


def unreadable_reason(error: OSError) -> str:
    """Why a shard was set aside whose storage failed."""
    return f"{UNREADABLE}: {error.strerror or error}"


def derived_uid(shard_name: str, key: str) -> str:
    """The uid of a sample that brings none: 32 hex digits of SHA-256 of "shard name/key"."""
    return hashlib.sha256(f"{shard_name}/{key}".encode()).hexdigest()[:32]


def usable_uid(uid: object) -> str:
    """What a sample brings as its uid, if it is one. Raises `UnusableSample`."""
    if not isinstance(uid, str) or not UID.fullmatch(uid):
        raise UnusableSample(BAD_UID)
    return uid


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
    return read_groups(shard, partial(_sample, images=images))


def read_identities(shard: ShardRef) -> Iterator[Identity | Failure]:
    """The same without what the samples hold: their uids, keys and spans.

    What is set aside is what `read_samples` sets aside. Pictures are not read.
    """
    return read_groups(shard, identity_of)


def read_groups(
    shard: ShardRef, make: Callable[[ShardRef, TarReader, Group], T]
) -> Iterator[T | Failure]:
    """What `make` makes of each sample of a shard, in order, and each failure.

    A sample is set aside where `make` raises `UnusableSample`. Passes on the `OSError` of a
    storage that fails while the shard is read.
    """
    try:
        stream = storage.open_input(shard.path)
    except OSError as error:
        reason = unreadable_reason(error)
        yield Failure(shard.name, None, reason, rest=True)
        return
    with stream:
        tar = TarReader(stream)
        used: set[str] = set()
        in_pieces: set[str] = set()
        is_empty = True
        for group in judged_groups(tar):
            is_empty = False
            if isinstance(group, Damage):
                yield Failure(shard.name, _stretch(group, tar.size), group.reason, rest=True)
                continue
            try:
                if group.key in used:
                    raise UnusableSample(REPEATED)
                yield make(shard, tar, group)
                used.add(group.key)
            except UnusableSample as error:
                is_repeated = group.is_whole and group.key in in_pieces
                in_pieces.add(group.key)
                reason = REPEATED if is_repeated else str(error)
                yield Failure(shard.name, printable(group.key), reason)
    if is_empty:
        yield Failure(shard.name, None, EMPTY_SHARD, rest=True)


def printable(name: str) -> str:
    """A name as it can be shown and kept in tables: bytes that are not UTF-8 as \\udcff."""
    return name.encode(errors="backslashreplace").decode()


def _stretch(damage: Damage, size: int) -> str | None:
    """What stands for the key of a sample, of which the damage may have hit any number."""
    if damage.end < size:
        return f"(bytes {damage.offset} to {damage.end} of the shard)"
    return f"(the rest of the shard, from byte {damage.offset})" if damage.offset else None


def identity_of(shard: ShardRef, tar: TarReader, group: Group) -> Identity:
    """Who a sample is, and where. Raises `UnusableSample` with the reason where it is unusable."""
    return _content(shard, tar, group)[0]


def _sample(shard: ShardRef, tar: TarReader, group: Group, *, images: bool) -> Sample:
    (uid, key, offset, length), caption, metadata = _content(shard, tar, group)
    assert group.image is not None  # it has an identity
    image = tar.read(group.image) if images else None
    return Sample(uid, key, SampleSpan(offset, length), caption, metadata, image)


def usable_image(group: Group) -> Member:
    """The picture of a sample. Raises `UnusableSample` where its members cannot be used."""
    # No table can hold the surrogates that stand for bytes that are not UTF-8.
    if not group.key.isascii() and group.key != group.key.encode(errors="ignore").decode():
        raise UnusableSample(KEY_NOT_UTF8)
    if not group.is_whole:
        raise UnusableSample(NEXT_TO_DAMAGE)
    image = group.image
    if image is None:
        raise UnusableSample(NO_IMAGE)
    if group.refusal:
        raise UnusableSample(group.refusal)
    if not image.size:
        raise UnusableSample(EMPTY_IMAGE)
    return image


def _content(shard: ShardRef, tar: TarReader, group: Group) -> tuple[Identity, str, dict[str, Any]]:
    """A sample's identity, caption and metadata."""
    usable_image(group)
    metadata = read_metadata(tar, group)
    caption = _caption(tar, group, metadata)
    uid = usable_uid(metadata.get("uid") or derived_uid(shard.name, group.key))
    return Identity(uid, group.key, group.start, group.end - group.start), caption, metadata


def read_text(tar: TarReader, member: Member, too_large: str) -> bytes:
    """A small member's content. Raises `UnusableSample` where it is not small."""
    if member.size > LARGEST_TEXT:
        raise UnusableSample(too_large)
    return tar.read(member)


def _parsed(content: bytes) -> Any:
    """`json.loads`, which takes half of its time to look for encodings and white space."""
    if content.startswith(b'{"'):  # in UTF-8
        text = content.decode("utf-8", "surrogatepass")
        value, end = DECODER.raw_decode(text)
        if end == len(text):
            return value
    return json.loads(content)


def read_metadata(tar: TarReader, group: Group) -> dict[str, Any]:
    """What a sample's json says; empty without one. Raises `UnusableSample`."""
    if "json" not in group.members:
        return {}
    try:
        metadata = _parsed(read_text(tar, group.members["json"], LARGE_JSON))
    except (ValueError, RecursionError):  # also UnicodeDecodeError; nested too deeply
        raise UnusableSample(BAD_JSON) from None
    if not isinstance(metadata, dict):
        raise UnusableSample(NO_OBJECT)
    return metadata


def _caption(tar: TarReader, group: Group, metadata: dict[str, Any]) -> str:
    if "txt" in group.members:
        try:
            caption = read_text(tar, group.members["txt"], LARGE_TXT).decode()
        except UnicodeDecodeError:
            raise UnusableSample(CAPTION_NOT_UTF8) from None
    elif isinstance(metadata.get("caption"), str):
        caption = metadata["caption"]
    else:
        raise UnusableSample(NO_CAPTION)
    return usable_caption(caption)


def usable_caption(caption: str) -> str:
    """A caption as it is used, without space around it. Raises `UnusableSample`."""
    caption = caption.strip()
    if not caption:
        raise UnusableSample(EMPTY_CAPTION)
    if len(caption) > LONGEST_CAPTION:
        raise UnusableSample(LONG_CAPTION)
    return caption
