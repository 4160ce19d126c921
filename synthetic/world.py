"""The drawn world: which pictures there are, with exactly the planted stereotypes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from synthetic.captions import CaptionSubject, write_caption

Gender = Literal["woman", "man"]
Tone = Literal["light", "medium", "dark"]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]

GENDERS: tuple[Gender, ...] = ("woman", "man")
TONES: tuple[Tone, ...] = ("light", "medium", "dark")

_STATISTICS = (
    "US Bureau of Labor Statistics, as printed by Kay, Matuszek and Munson (CHI 2015), "
    "Unequal Representation and Gender Stereotypes in Image Search Results for Occupations"
)


@dataclass(frozen=True)
class Occupation:
    """A trade: its share of women (0 to 1) with the source of it, its setting and its tool."""

    name: str
    share_of_women: float
    source: str
    setting: str
    tool: str


OCCUPATIONS: tuple[Occupation, ...] = (
    Occupation("nurse", 0.906, _STATISTICS, "hospital", "stethoscope"),
    Occupation("doctor", 0.343, _STATISTICS, "hospital", "clipboard"),
    Occupation("librarian", 0.868, _STATISTICS, "library", "book"),
    Occupation(
        "scientist",
        0.442,
        f"{_STATISTICS}; there: chemists and materials scientists",
        "laboratory",
        "flask",
    ),
    Occupation("teacher", 0.814, _STATISTICS, "classroom", "pointer"),
    Occupation(
        "secretary",
        0.953,
        f"{_STATISTICS}; there: secretaries and administrative assistants",
        "office",
        "telephone",
    ),
    Occupation("cook", 0.377, _STATISTICS, "kitchen", "frying pan"),
    Occupation("farmer", 0.245, _STATISTICS, "field", "pitchfork"),
    Occupation("construction worker", 0.029, _STATISTICS, "building site", "hammer"),
    Occupation("firefighter", 0.034, _STATISTICS, "fire", "hose"),
)

LEISURE_SETTINGS: tuple[str, ...] = ("street", "park", "living room")
"""Where people are shown who are not at work."""

SETTINGS: tuple[str, ...] = tuple(dict.fromkeys(o.setting for o in OCCUPATIONS)) + LEISURE_SETTINGS
TOOLS: tuple[str, ...] = tuple(occupation.tool for occupation in OCCUPATIONS)


class WorldSettings(BaseModel):
    """What to draw. Sizes are in pixels, fractions run from 0 to 1.

    `portraits` and `empty` are fractions of all pictures: people with no occupation, and
    pictures without people (half a setting alone, half a tool alone). `off_duty` is the fraction
    of pictures of people whom the caption calls by an occupation that the picture does not show:
    in their own clothes, away from work. All others are at work. `gender_named` is a fraction of
    the captions of people, `occupation_named` of those of people at work; `gender_hidden` is a
    fraction of the people at work, `portraits_hidden` of the portraits. Without `skewed`, women
    and men are as many as each other in every occupation and among the portraits.

    Raises pydantic.ValidationError (a ValueError) for values that do not fit together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: Annotated[int, Field(ge=1, le=100_000_000)] = 6000
    picture_size: Annotated[int, Field(ge=32, le=1024)] = 128
    shards: Annotated[int, Field(ge=1, le=100_000)] = 8
    seed: Annotated[int, Field(ge=0)] = 0
    skewed: bool = True
    portraits: Share = 0.10
    off_duty: Share = 0.0
    empty: Share = 0.20
    gender_named: Share = 0.6
    occupation_named: Share = 0.95
    gender_hidden: Share = 0.15
    portraits_hidden: Share = 0.0
    men_share_of_portraits: Share = 0.65

    @model_validator(mode="after")
    def _agrees(self) -> WorldSettings:
        together = self.portraits + self.off_duty + self.empty
        if together > 1.0 + 1e-9:
            raise ValueError(
                f"portraits {self.portraits}, off_duty {self.off_duty} and empty {self.empty} sum "
                f"to {together:g}: lower one until they sum to 1 or less"
            )
        if self.shards > self.pictures:
            raise ValueError(
                f"shards {self.shards} is above pictures {self.pictures}: "
                "ask for fewer shards or more pictures"
            )
        return self


@dataclass(frozen=True)
class PictureSpec:
    """One planned picture; drawing it needs nothing else.

    `gender` and `tone` are the perceived ones which the drawing is meant to suggest, None where
    no person is shown; without `gender_visible` the drawing shows no cue of the gender. `key`
    is the index in nine digits.

    Raises ValueError for a person without a tone, for a visible gender that is None, for someone at
    work without an occupation, and for a setting or a tool which has no drawing.
    """

    index: int
    key: str
    occupation: str | None
    gender: Gender | None
    tone: Tone | None
    setting: str | None
    tool: str | None
    person: bool
    at_work: bool
    gender_visible: bool
    caption: str
    picture_seed: int

    def __post_init__(self) -> None:
        if self.person and self.tone is None:
            raise ValueError(f"picture {self.key}: person is True but tone is None: give a tone")
        if self.at_work and (self.occupation is None or not self.person):
            raise ValueError(
                f"picture {self.key}: at_work needs a person and an occupation: give both"
            )
        if self.gender_visible and self.gender is None:
            raise ValueError(
                f"picture {self.key}: gender_visible is True but gender is None: give a gender"
            )
        for field, value, known in (
            ("setting", self.setting, SETTINGS),
            ("tool", self.tool, TOOLS),
        ):
            if value is not None and value not in known:
                raise ValueError(
                    f"picture {self.key}: {field} {value!r} has no drawing: "
                    f"choose one of {', '.join(known)}"
                )


def apportion(total: int, weights: Sequence[float], first: int = 0) -> list[int]:
    """Split `total` in proportion to the weights, by largest remainder.

    Equal remainders go to the groups in order, beginning with group `first`.
    Raises ValueError if there is something to split and no weight is above 0.
    """
    # Exact fractions, so that quotas which are whole or tied on paper are so here too.
    shares = [Fraction(weight).limit_denominator(10**9) for weight in weights]
    whole = sum(shares)
    if whole <= 0:
        if total:
            raise ValueError(f"total {total} has no group to go to: all weights are 0")
        return [0] * len(weights)
    quotas = [total * share / whole for share in shares]
    counts = [math.floor(quota) for quota in quotas]
    order = sorted(
        range(len(weights)),
        key=lambda group: (counts[group] - quotas[group], (group - first) % len(weights)),
    )
    for group in order[: total - sum(counts)]:
        counts[group] += 1
    return counts


@dataclass(frozen=True)
class _Cell:
    """People who are alike in all that is planted: occupation, gender, and whether they show."""

    occupation: Occupation | None
    at_work: bool
    gender: Gender
    gender_visible: bool
    count: int


@dataclass(frozen=True)
class _Draft:
    """A picture before it has its place, caption and seed."""

    subject: CaptionSubject
    gender: Gender | None
    tone: Tone | None
    gender_visible: bool


def _cells(settings: WorldSettings, at_work: int, off_duty: int, portraits: int) -> Iterator[_Cell]:
    """Yield the cells of people; the number of each gender is exact in every group."""
    for working, people in ((True, at_work), (False, off_duty)):
        per_occupation = apportion(people, [1.0] * len(OCCUPATIONS))
        for place, (occupation, count) in enumerate(zip(OCCUPATIONS, per_occupation, strict=True)):
            women = occupation.share_of_women if settings.skewed else 0.5
            hidden = settings.gender_hidden if working else 0.0
            yield from _by_gender(occupation, working, count, women, hidden, first=place % 2)
    women = 1.0 - settings.men_share_of_portraits if settings.skewed else 0.5
    yield from _by_gender(None, False, portraits, women, settings.portraits_hidden, first=0)


def _by_gender(
    occupation: Occupation | None, at_work: bool, count: int, women: float, hide: float, first: int
) -> Iterator[_Cell]:
    by_gender = apportion(count, (women, 1.0 - women), first=first)
    hidden, _ = apportion(count, (hide, 1.0 - hide))
    hidden_by_gender = apportion(hidden, by_gender, first=first)
    for gender, total, unseen in zip(GENDERS, by_gender, hidden_by_gender, strict=True):
        yield _Cell(occupation, at_work, gender, False, unseen)
        yield _Cell(occupation, at_work, gender, True, total - unseen)


def _flags(generator: np.random.Generator, sizes: Sequence[int], share: float) -> list[list[bool]]:
    """Mark a share of each cell, exact over all cells together; return one list per cell."""
    marked, _ = apportion(sum(sizes), (share, 1.0 - share))
    flags = []
    for size, count in zip(sizes, apportion(marked, sizes), strict=True):
        cell = np.arange(size) < count
        generator.shuffle(cell)
        flags.append([bool(flag) for flag in cell])
    return flags


def _people(
    settings: WorldSettings, generator: np.random.Generator, cells: Sequence[_Cell]
) -> Iterator[_Draft]:
    gender_named = _flags(generator, [cell.count for cell in cells], settings.gender_named)
    # Off duty, only the caption knows the occupation, so it always names it.
    working = [cell.count if cell.at_work else 0 for cell in cells]
    occupation_named = _flags(generator, working, settings.occupation_named)
    done = 0
    for number, cell in enumerate(cells):
        # Counting on from cell to cell keeps tones and places equal in every cell and overall.
        tones = generator.permutation((done + np.arange(cell.count)) % len(TONES))
        places = generator.permutation((done + np.arange(cell.count)) % len(LEISURE_SETTINGS))
        done += cell.count
        for member in range(cell.count):
            trade = cell.occupation
            shown = trade if cell.at_work else None
            subject = CaptionSubject(
                occupation=trade.name if trade else None,
                gender=cell.gender,
                setting=shown.setting if shown else LEISURE_SETTINGS[places[member]],
                tool=shown.tool if shown else None,
                person=True,
                at_work=cell.at_work,
                names_gender=gender_named[number][member],
                names_occupation=trade is not None
                and (not cell.at_work or occupation_named[number][member]),
            )
            yield _Draft(subject, cell.gender, TONES[tones[member]], cell.gender_visible)


def _without_people(count: int) -> Iterator[_Draft]:
    settings_only, tools_only = apportion(count, (1.0, 1.0))
    wanted: list[tuple[str | None, str | None]] = []
    for setting, number in zip(
        SETTINGS, apportion(settings_only, [1.0] * len(SETTINGS)), strict=True
    ):
        wanted += [(setting, None)] * number
    for tool, number in zip(TOOLS, apportion(tools_only, [1.0] * len(TOOLS)), strict=True):
        wanted += [(None, tool)] * number
    for place, thing in wanted:
        subject = CaptionSubject(
            occupation=None,
            gender=None,
            setting=place,
            tool=thing,
            person=False,
            at_work=False,
            names_gender=False,
            names_occupation=False,
        )
        yield _Draft(subject, None, None, False)


def plan_pictures(settings: WorldSettings) -> list[PictureSpec]:
    """Plan every picture of the world, in a seeded order; the same for the same settings.

    All planted numbers are exact: each is the share of its whole by largest remainder, and
    never a matter of chance. Tones of skin are equally many and independent of all else.
    """
    generator = np.random.default_rng(settings.seed)
    others = (settings.off_duty, settings.portraits, settings.empty)
    at_work, off_duty, portraits, empty = apportion(
        settings.pictures, (max(0.0, 1.0 - sum(others)), *others)
    )
    cells = list(_cells(settings, at_work, off_duty, portraits))
    drafts = [*_people(settings, generator, cells), *_without_people(empty)]
    order = generator.permutation(len(drafts))
    seeds = generator.integers(0, 2**62, size=(len(drafts), 2))
    plan = []
    for index, (place, (picture_seed, caption_seed)) in enumerate(
        zip(order.tolist(), seeds.tolist(), strict=True)
    ):
        draft = drafts[place]
        plan.append(
            PictureSpec(
                index=index,
                key=f"{index:09d}",
                occupation=draft.subject.occupation,
                gender=draft.gender,
                tone=draft.tone,
                setting=draft.subject.setting,
                tool=draft.subject.tool,
                person=draft.subject.person,
                at_work=draft.subject.at_work,
                gender_visible=draft.gender_visible,
                caption=write_caption(draft.subject, caption_seed),
                picture_seed=picture_seed,
            )
        )
    return plan
