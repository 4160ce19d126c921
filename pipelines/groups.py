"""Samples in tars: consecutive members of one key, and which of them damage has hit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipelines.tars import Damage, Member

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
SPARSE_MEMBER = "sparse member"
INHERITING_MEMBER = "name or size from a PAX global header"


def split_member(name: str) -> tuple[str, str]:
    """Split a member's name into the sample's key and the lower-case extension."""
    key, dot, extension = name.rpartition(".")
    return (key, extension.lower()) if dot and "/" not in extension else (name, "")


@dataclass(slots=True)
class Group:
    """Consecutive members of one key, and where the shard is damaged next to them.

    `refusal` says why its bytes cannot be used as they lie; it is empty where they can.
    """

    key: str
    start: int
    damage_before: bool = False
    end: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    refusal: str = ""
    damage_inside: bool = False
    damage_after: bool = False
    is_whole: bool = True

    @property
    def is_next_to_damage(self) -> bool:
        return self.damage_before or self.damage_inside or self.damage_after

    @property
    def image(self) -> Member | None:
        """The picture that is used, if there is one."""
        for extension in IMAGE_EXTENSIONS:
            if extension in self.members:
                return self.members[extension]
        return None

    def has_all_kinds_of(self, *others: "Group | None") -> bool:
        """Whether there is another group that is not next to damage, and no kind is missing."""
        known = [each for each in others if each is not None and not each.is_next_to_damage]
        return bool(known) and all(each.members.keys() <= self.members.keys() for each in known)


def _groups(entries: Iterable[Member | Damage]) -> Iterator[Group | Damage]:
    """Group members by their keys. A stretch of damage comes before the group that it follows."""
    group: Group | None = None
    after_damage = False
    for item in entries:
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
            group = Group(key, item.header_offset, after_damage)
        after_damage = False
        group.end = item.end
        group.members[extension] = item
        if item.sparse or item.inherits:
            group.refusal = SPARSE_MEMBER if item.sparse else INHERITING_MEMBER
    if group is not None:
        group.damage_after = after_damage
        yield group


def judged_groups(entries: Iterable[Member | Damage]) -> Iterator[Group | Damage]:
    """Group a tar's members by their keys, and say of those next to damage whether they are whole.

    Nothing says that one lost no member, unless it has all kinds of members that the nearest
    undamaged group before it has, and the group after it.
    """
    undamaged: Group | None = None
    waiting: Group | None = None  # for the group after it
    for each in _groups(entries):
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
