"""Pictures of a tool alone on a table, each with one thing that belongs beside it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from synthetic import hats
from synthetic.brush import UNITS, Brush
from synthetic.palette import (
    BOOK_COLOURS,
    CLOTH_COLOURS,
    COOL_WALLS,
    DARK_WOOD,
    GLASS,
    IRON,
    PAPER,
    RED,
    SILVER,
    STEEL,
    STRAW,
    WARM_WALLS,
    WHITE,
    WOOD,
    YELLOW,
    darker,
    lighter,
)
from synthetic.tools import LIQUIDS, LYING_TOOLS

_TABLE_AT = 62.0

# Where a tool lies: x, y, scale, and how far it may be turned either way, in degrees.
_PLACES: dict[str, tuple[float, float, float, float]] = {
    "stethoscope": (44, 54, 1.5, 25),
    "clipboard": (42, 74, 2.0, 12),
    "book": (46, 80, 2.1, 5),
    "flask": (44, 58, 2.0, 0),
    "pointer": (36, 80, 1.7, 15),
    "telephone": (44, 60, 1.9, 0),
    "frying pan": (56, 88, 2.0, 12),
    "pitchfork": (46, 66, 1.45, 8),
    "hammer": (44, 78, 2.3, 25),
    "hose": (40, 60, 1.35, 0),
}


def draw_still_life(brush: Brush, random: Random, tool: str) -> None:
    """Fill the picture with the tool on a table in front of a wall, and nobody there."""
    wall = random.choice((*WARM_WALLS, *COOL_WALLS, *(lighter(c, 0.55) for c in CLOTH_COLOURS)))
    wood = random.choice((WOOD, DARK_WOOD, (206, 162, 112), (190, 186, 178)))
    brush.rectangle(0, 0, UNITS, UNITS, wall)
    start = random.uniform(-20, 60)
    brush.polygon(
        ((start, 0), (start + 24, 0), (start + 58, 62), (start + 34, 62)), lighter(wall, 0.35)
    )
    brush.rectangle(0, _TABLE_AT, UNITS, UNITS, wood)
    for y in (_TABLE_AT, 74.0, 88.0):
        brush.rectangle(0, y, UNITS, y + 1.2, darker(wood, 0.12))
    mirrored = random.random() < 0.5
    table = brush.placed(UNITS if mirrored else 0.0, 0.0, mirrored=mirrored)
    _COMPANIONS[tool](table, random)
    x, y, scale, turn = _PLACES[tool]
    table.ellipse(x, min(y + 14 * scale, 92), 13 * scale, 2.4 * scale, darker(wood, 0.26))
    place = table.placed(
        x + random.uniform(-4, 4),
        y + random.uniform(-3, 3),
        scale=scale * random.uniform(0.88, 1.06),
        turn=random.uniform(-turn, turn),
    )
    LYING_TOOLS[tool](place, random)


def _pills(brush: Brush, random: Random) -> None:
    brush.rounded(80, 46, 92, 66, 1.6, (222, 138, 62))
    brush.rectangle(79, 42, 93, 48, WHITE)
    brush.rectangle(80, 52, 92, 60, PAPER)
    brush.rectangle(85, 53, 87, 59, RED)
    brush.rectangle(83, 55, 89, 57, RED)


def _pen(brush: Brush, random: Random) -> None:
    colour = random.choice(CLOTH_COLOURS)
    brush.stroke(((74, 84), (90, 70)), 2.6, colour)
    brush.polygon(((72.6, 86.6), (73.4, 83), (75.4, 84.8)), IRON)


def _book_stack(brush: Brush, random: Random) -> None:
    for level in range(4):
        colour = random.choice(BOOK_COLOURS)
        left = 70 + random.uniform(-2, 2)
        brush.rectangle(left, 57 - 6 * level, left + 26, 63 - 6 * level, colour)
        brush.rectangle(left + 2, 59 - 6 * level, left + 6, 61 - 6 * level, lighter(colour, 0.5))


def _test_tube(brush: Brush, random: Random) -> None:
    for x in (76, 84, 92):
        liquid = random.choice(LIQUIDS)
        brush.rounded(x - 2.6, 38, x + 2.6, 66, 2.5, GLASS)
        brush.rounded(x - 2.1, random.uniform(46, 54), x + 2.1, 65.4, 2.0, liquid)
    brush.rectangle(70, 48, 98, 51, WOOD)
    brush.rectangle(70, 65, 98, 68, WOOD)


def _slate(brush: Brush, random: Random) -> None:
    brush.rectangle(46, 14, 94, 56, WOOD)
    brush.rectangle(48.6, 16.6, 91.4, 53.4, (58, 98, 82))
    for y, length in ((24, 26), (32, 32), (40, 20)):
        brush.stroke(((54, y), (54 + length, y + random.uniform(-1, 1))), 1.3, (222, 230, 220))
    for left in (72, 80):
        brush.stroke(((left, 70), (left + 6, 70)), 2.0, WHITE)


def _notepad(brush: Brush, random: Random) -> None:
    brush.polygon(((72, 74), (92, 74), (96, 92), (70, 92)), random.choice((PAPER, (250, 230, 140))))
    for y in (78, 82, 86):
        brush.stroke(((75, y), (90, y)), 0.8, (150, 156, 170))
    brush.stroke(((74, 88), (88, 76)), 2.0, random.choice(CLOTH_COLOURS))


def _knife(brush: Brush, random: Random) -> None:
    """A chef's knife: broad blade, dark handle."""
    brush.polygon(((18, 70), (28, 70), (28, 36), (24, 28), (19, 44)), SILVER)
    brush.polygon(((25, 70), (28, 70), (28, 36), (26, 32)), STEEL)
    brush.rounded(20, 69, 28, 90, 2.0, DARK_WOOD)
    for y in (74, 80, 86):
        brush.dot(24, y, 0.9, SILVER)


def _hay(brush: Brush, random: Random) -> None:
    brush.rounded(60, 46, 98, 74, 3.0, STRAW)
    for cord in (68, 80, 91):
        brush.rectangle(cord, 46, cord + 2, 74, darker(STRAW, 0.3))
    for _ in range(10):
        x, y = random.uniform(61, 95), random.uniform(48, 72)
        brush.stroke(((x, y), (x + 3, y + random.uniform(-1, 1))), 0.7, darker(STRAW, 0.18))


def _nails(brush: Brush, random: Random) -> None:
    for _ in range(5):
        x, y = random.uniform(70, 90), random.uniform(72, 90)
        brush.stroke(((x, y), (x + 7, y + 3)), 1.2, STEEL)
        brush.dot(x, y, 1.7, IRON)


def _helmet_on_hook(brush: Brush, random: Random) -> None:
    """A firefighter's helmet that hangs on a hook on the wall."""
    brush.rectangle(64, 8, 96, 12, DARK_WOOD)
    brush.stroke(((80, 12), (80, 18), (83, 18)), 1.6, IRON)
    helmet = random.choice((RED, YELLOW, (196, 48, 44)))
    hats.draw_fire_helmet(brush.placed(80, 48, scale=1.3), helmet)


def _cup(brush: Brush, random: Random) -> None:
    cup = random.choice(CLOTH_COLOURS)
    brush.dot(91, 60, 4.6, cup)
    brush.dot(91, 60, 2.6, lighter(cup, 0.5))
    brush.rounded(76, 52, 90, 68, 2.4, cup)
    brush.ellipse(83, 53, 6.6, 1.8, darker(cup, 0.4))


def _cup_or(other: Callable[[Brush, Random], None]) -> Callable[[Brush, Random], None]:
    def draw(brush: Brush, random: Random) -> None:
        (_cup if random.random() < 0.35 else other)(brush, random)

    return draw


# A companion that captions mention (knife, helmet) is always drawn.
_COMPANIONS: dict[str, Callable[[Brush, Random], None]] = {
    "stethoscope": _pills,
    "clipboard": _cup_or(_pen),
    "book": _cup_or(_book_stack),
    "flask": _test_tube,
    "pointer": _slate,
    "telephone": _cup_or(_notepad),
    "frying pan": _knife,
    "pitchfork": _hay,
    "hammer": _nails,
    "hose": _helmet_on_hook,
}
