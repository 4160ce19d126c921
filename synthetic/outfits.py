"""Clothes of each trade: the colours worn, chosen alike for everyone in the trade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from synthetic.palette import (
    BLUE,
    CLOTH_COLOURS,
    DENIM,
    NAVY,
    ORANGE,
    RED,
    SHIRT_COLOURS,
    STRAW,
    TEAL,
    TROUSER_COLOURS,
    VIOLET,
    WHITE,
    YELLOW,
    Colour,
    darker,
    lighter,
)


@dataclass(frozen=True)
class Outfit:
    """Colours and cut of what one person wears.

    `body` covers the torso, `sleeve` the arms, `under` is the shirt seen below the outer layer,
    `accent` a tie, scarf, band or badge, and `hat` the headgear. Without `long_sleeves` the
    forearms are bare. `variant` (0 or 1) picks between two details of the trade.
    """

    trade: str | None
    body: Colour
    sleeve: Colour
    under: Colour
    accent: Colour
    hat: Colour
    trousers: Colour
    long_sleeves: bool
    gloves: Colour | None
    variant: int


@dataclass(frozen=True)
class _Wardrobe:
    bodies: tuple[Colour, ...]
    unders: tuple[Colour, ...] = SHIRT_COLOURS
    accents: tuple[Colour, ...] = CLOTH_COLOURS
    hats: tuple[Colour, ...] = (WHITE,)
    long_sleeves: float = 1.0
    gloves: tuple[Colour, ...] = ()
    sleeve: Callable[[Colour, Colour], Colour] = lambda body, under: body
    trousers: tuple[Colour, ...] = TROUSER_COLOURS


_COATS: tuple[Colour, ...] = ((250, 248, 242), (244, 246, 246), (250, 246, 236))
_SCRUBS: tuple[Colour, ...] = (
    TEAL,
    (78, 152, 174),
    (84, 122, 182),
    (98, 160, 132),
    (150, 112, 164),
    (182, 92, 100),
)
_JACKETS: tuple[Colour, ...] = (NAVY, (88, 84, 96), (126, 92, 76), (72, 98, 96), (112, 66, 74))

_WARDROBES: dict[str | None, _Wardrobe] = {
    "nurse": _Wardrobe(_SCRUBS, accents=(RED,), long_sleeves=0.0),
    "doctor": _Wardrobe(_COATS, accents=(RED, NAVY, (46, 108, 92), (120, 60, 96))),
    "librarian": _Wardrobe(CLOTH_COLOURS),
    "scientist": _Wardrobe(
        _COATS,
        unders=((86, 96, 118), (120, 82, 120), (62, 118, 128), (70, 74, 82)),
        accents=((120, 196, 92), (92, 168, 214), (224, 110, 160), (240, 166, 60)),
        gloves=(VIOLET, (74, 142, 196), (92, 168, 148)),
    ),
    "teacher": _Wardrobe(
        ((150, 104, 70), (118, 120, 84), (96, 110, 130), (166, 88, 66), (132, 96, 116)),
        accents=((96, 66, 48), (74, 78, 92)),
    ),
    "secretary": _Wardrobe(_JACKETS, unders=(*SHIRT_COLOURS, (226, 168, 150), (150, 196, 196))),
    "cook": _Wardrobe(
        ((250, 248, 240), (246, 244, 240)),
        accents=(RED, BLUE, ORANGE, (78, 128, 84)),
        trousers=((72, 72, 80), (96, 100, 112)),
    ),
    "farmer": _Wardrobe(
        (DENIM, (86, 112, 150), (96, 92, 92)),
        unders=((196, 66, 56), (88, 132, 84), (212, 148, 62), (110, 150, 190)),
        accents=(YELLOW, (226, 206, 160)),
        hats=(STRAW, (214, 172, 92), (236, 206, 134)),
        sleeve=lambda body, under: under,
        long_sleeves=0.6,
        trousers=(DENIM,),
    ),
    "construction worker": _Wardrobe(
        (ORANGE, (250, 140, 36), (196, 214, 60), (214, 222, 70)),
        unders=((104, 118, 136), (74, 92, 122), (150, 146, 140), (92, 90, 96)),
        accents=((232, 234, 226),),
        hats=(YELLOW, (250, 210, 70), (246, 246, 240), (228, 92, 52)),
        sleeve=lambda body, under: under,
        long_sleeves=0.55,
        gloves=((198, 150, 92), (90, 92, 96)),
    ),
    "firefighter": _Wardrobe(
        ((66, 68, 84), (58, 62, 74), (190, 156, 98), (174, 140, 90)),
        accents=((246, 226, 80), (232, 240, 96)),
        hats=(RED, (196, 48, 44), (244, 196, 54), (58, 56, 62)),
        gloves=((72, 66, 66), (132, 96, 64)),
    ),
    None: _Wardrobe(CLOTH_COLOURS, long_sleeves=0.65),
}


def choose_outfit(random: Random, trade: str | None) -> Outfit:
    """Choose the clothes of a trade, or everyday clothes for None; gender plays no part."""
    wardrobe = _WARDROBES[trade]
    body, under = random.choice(wardrobe.bodies), random.choice(wardrobe.unders)
    trousers = random.choice(wardrobe.trousers)
    return Outfit(
        trade=trade,
        body=body,
        sleeve=wardrobe.sleeve(body, under),
        under=under,
        accent=random.choice(wardrobe.accents),
        hat=random.choice(wardrobe.hats),
        trousers=darker(body, 0.14) if trade in ("nurse", "farmer") else lighter(trousers, 0.05),
        long_sleeves=random.random() < wardrobe.long_sleeves,
        gloves=random.choice(wardrobe.gloves) if wardrobe.gloves else None,
        variant=random.randrange(2),
    )
