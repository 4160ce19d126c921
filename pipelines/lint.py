"""Finding what is wrong with one shard, in one pass over its headers, captions and json."""

from collections.abc import Iterator
from typing import NamedTuple

from m4.errors import UnusableSample
from pipelines import storage
from pipelines.groups import IMAGE_EXTENSIONS, Group, judged_groups, split_member
from pipelines.headers import PAX_GLOBAL
from pipelines.mending import (
    DOTTED_KEY,
    FOLDER,
    HIDDEN_NAME,
    INTERLEAVED,
    LINK,
    NO_END_MARK,
    NOT_A_TAR,
    OTHER_ENTRY,
    REPEATED_KEY,
    SAME_UID,
    SEVERAL_IMAGES,
)
from pipelines.shards import (
    EMPTY_SHARD,
    NO_CAPTION,
    NO_IMAGE,
    UNREADABLE,
    ShardRef,
    identity_of,
    printable,
)
from pipelines.tars import TRUNCATED, Damage, Member, Skipped, TarReader

LINKS = frozenset(b"12")
FOLDERS = frozenset(b"5D\0")  # of V7, a file whose name ends with a slash


class Fault(NamedTuple):
    """One thing that is wrong: its kind, the member, key or shard, and the byte where it begins."""

    kind: str
    name: str
    offset: int


def lint_shard(shard: ShardRef) -> tuple[list[Fault], int]:
    """What is wrong with a shard, by offset, and how many of its samples can be used.

    A shard that cannot be opened or read is itself the one thing that is wrong.
    """
    try:
        with storage.open_input(shard.path) as stream:
            return _Lint(shard, TarReader(stream, skipped=True)).run()
    except OSError as error:
        return [Fault(UNREADABLE, f"{shard.name}: {error.strerror or error}", 0)], 0


class _Lint:
    """What has been found so far in a shard. Holds its keys and uids, no content."""

    def __init__(self, shard: ShardRef, tar: TarReader):
        self._shard = shard
        self._tar = tar
        self._faults: list[Fault] = []
        self._halves: list[Fault] = []  # may yet turn out to be pieces of one sample
        self._extensions: dict[str, frozenset[str]] = {}  # of each key
        self._in_pieces: set[str] = set()
        self._used: set[str] = set()
        self._uids: set[str] = set()

    def run(self) -> tuple[list[Fault], int]:
        is_empty = True
        for group in judged_groups(self._files()):
            is_empty = False
            if isinstance(group, Damage):
                self._damage(group)
            else:
                self._key(group)
                self._sample(group)
        if is_empty:
            self._add(EMPTY_SHARD, self._shard.name, 0)
        self._faults += (half for half in self._halves if half.name not in self._in_pieces)
        return sorted(self._faults, key=lambda fault: fault.offset), len(self._used)

    def _add(self, kind: str, name: str, offset: int) -> None:
        self._faults.append(Fault(kind, printable(name), offset))

    def _files(self) -> Iterator[Member | Damage]:
        """What may belong to samples; says of the names and of the rest what is wrong with them."""
        for entry in self._tar:
            if isinstance(entry, Skipped):
                self._skipped(entry)
                continue
            if isinstance(entry, Member):
                self._name(entry)
            yield entry

    def _skipped(self, entry: Skipped) -> None:
        if entry.kind == PAX_GLOBAL:
            return  # the members that it bears on are told
        kind = LINK if entry.kind in LINKS else FOLDER if entry.kind in FOLDERS else OTHER_ENTRY
        self._add(kind, entry.name, entry.header_offset)

    def _name(self, member: Member) -> None:
        name = member.name
        key, _ = split_member(name)
        if "." in key and "." in key.rpartition("/")[2]:
            self._add(DOTTED_KEY, name, member.header_offset)
        if name.startswith("__"):
            top = name.partition("/")[0]
            if len(top) >= 4 and top.endswith("__"):
                self._add(HIDDEN_NAME, name, member.header_offset)

    def _damage(self, damage: Damage) -> None:
        kind = damage.reason
        if kind.startswith(NOT_A_TAR):
            kind = NOT_A_TAR
        elif kind == TRUNCATED and damage.offset == damage.end:
            kind = NO_END_MARK
        self._add(kind, self._shard.name, damage.offset)

    def _key(self, group: Group) -> None:
        """Whether the key has come before: with the same extensions, or with other ones."""
        before = self._extensions.get(group.key, frozenset())
        now = frozenset(group.members)
        self._extensions[group.key] = before | now
        if before & now:
            self._add(REPEATED_KEY, group.key, group.start)
        elif before and group.key not in self._in_pieces:
            self._add(INTERLEAVED, group.key, group.start)
        if before:
            self._in_pieces.add(group.key)
        if len(now.intersection(IMAGE_EXTENSIONS)) > 1:
            self._add(SEVERAL_IMAGES, group.key, group.start)

    def _sample(self, group: Group) -> None:
        """Why a sample cannot be used; of those that can, whether a uid has come before."""
        try:
            uid = identity_of(self._shard, self._tar, group).uid
        except UnusableSample as error:
            reason = str(error)
            faults = self._halves if reason in (NO_IMAGE, NO_CAPTION) else self._faults
            faults.append(Fault(reason, printable(group.key), group.start))
            return
        if group.key in self._used:
            return  # the key is told
        self._used.add(group.key)
        if uid in self._uids:
            self._add(SAME_UID, group.key, group.start)
        self._uids.add(uid)
