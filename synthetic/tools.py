"""Tools of the trades. The origin of each is where a hand grips it; they are drawn upright."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from synthetic.brush import Brush, both_sides
from synthetic.palette import (
    BOOK_COLOURS,
    DARK_WOOD,
    GLASS,
    INK,
    IRON,
    PAPER,
    RED,
    SILVER,
    STEEL,
    WHITE,
    WOOD,
    YELLOW,
    Colour,
    darker,
    lighter,
)

_TELEPHONES: tuple[Colour, ...] = ((190, 58, 52), (232, 216, 184), (62, 138, 138), (224, 150, 60))

LIQUIDS: tuple[Colour, ...] = ((108, 190, 92), (84, 164, 214), (224, 104, 156), (244, 164, 52))


def draw_stethoscope(brush: Brush, random: Random) -> None:
    """Draw the end piece of a stethoscope and the tube that leads to it from the chest."""
    brush.curve(((-13, -10), (-10, 0.5), (-3.5, 2.5), (0, -2)), 1.5, (58, 60, 70))
    brush.dot(0, -3.4, 4.4, IRON)
    brush.dot(0, -3.4, 3.3, SILVER)
    brush.dot(0, -3.4, 1.7, STEEL)


def draw_whole_stethoscope(brush: Brush, random: Random) -> None:
    """Draw a stethoscope lying by itself: ear pieces, tube and end piece."""
    tube = random.choice(((58, 60, 70), (46, 92, 120), (140, 52, 60)))
    for side in (-1, 1):
        brush.curve(((side * 4, -21), (side * 9, -16), (side * 7, -6), (0, 0)), 1.8, STEEL)
        brush.dot(side * 3.6, -21.2, 1.8, tube)
    brush.curve(((0, 0), (-2, 10), (6, 18), (16, 14), (18, 4)), 2.4, tube)
    brush.curve(((-7.2, -8), (-4, -2), (0, 0), (4, -2), (7.2, -8)), 2.4, tube)
    brush.dot(18, 1, 5.4, IRON)
    brush.dot(18, 1, 4.2, SILVER)
    brush.dot(18, 1, 2.0, STEEL)


def draw_clipboard(brush: Brush, random: Random) -> None:
    """Draw a clipboard with a form on it, gripped at its lower edge."""
    brush.rounded(-9.4, -24, 9.4, 2, 1.6, random.choice((WOOD, (150, 98, 62), (88, 112, 130))))
    brush.rectangle(-7.8, -21, 7.8, 0.4, WHITE)
    brush.rectangle(-3.6, -25.6, 3.6, -21.6, STEEL)
    brush.dot(0, -25.4, 1.7, STEEL)
    brush.rectangle(-6.2, -17.2, -1.2, -15.4, RED)
    brush.rectangle(-4.6, -18.8, -2.8, -13.8, RED)
    for row, y in enumerate((-17.6, -14.8, -11.0, -8.2, -5.4, -2.6)):
        brush.rectangle(0.6 if row < 2 else -6.2, y, 6.2 - (row % 3), y + 0.9, (150, 152, 160))


def draw_book(brush: Brush, random: Random) -> None:
    """Draw an open book, gripped at the lower end of its spine."""
    cover = random.choice(BOOK_COLOURS[:-1])
    brush.polygon(both_sides(((0, -15), (15, -18), (15, -1.6), (0, 1.6))), cover)
    brush.polygon(((0, 0.2), (-13.6, -2.8), (-13.6, -18.4), (0, -15.4)), WHITE)
    brush.polygon(((0, 0.2), (13.6, -2.8), (13.6, -18.4), (0, -15.4)), PAPER)
    for row in range(4):
        y = -12.2 + 3.0 * row
        brush.stroke(((-11.4, y - 2.6), (-2.2, y - 0.6)), 0.8, (166, 158, 152))
        brush.stroke(((11.4, y - 2.6), (2.2, y - 0.6)), 0.8, (166, 158, 152))
    brush.stroke(((0, -15.4), (0, 0.6)), 0.8, darker(PAPER, 0.3))


def draw_flask(brush: Brush, random: Random) -> None:
    """Draw a conical flask with coloured liquid and bubbles, gripped at its neck."""
    liquid = random.choice(LIQUIDS)
    glass = darker(GLASS, 0.16)
    brush.polygon(both_sides(((2.8, -8), (2.8, -1), (9.8, 12.6), (8, 15))), glass)
    brush.polygon(
        both_sides(((1.9, -7.4), (1.9, -0.6), (8.6, 12.6), (7.4, 14))), lighter(GLASS, 0.4)
    )
    brush.polygon(both_sides(((5.0, 5.4), (8.6, 12.6), (7.4, 14))), liquid)
    brush.ellipse(0, 5.4, 5.0, 1.2, lighter(liquid, 0.35))
    brush.rectangle(-3.8, -9.4, 3.8, -7.6, glass)
    for x, y, radius in ((-2.6, 10.4, 1.1), (2.2, 8.4, 1.4), (4.4, 11.8, 0.9)):
        brush.dot(x, y, radius, lighter(liquid, 0.55))
    for x, y, radius in ((0.4, -12.0, 1.3), (-1.6, -15.2, 1.0), (1.8, -18.0, 1.5)):
        brush.dot(x, y, radius, lighter(liquid, 0.3))


def draw_pointer(brush: Brush, random: Random) -> None:
    """Draw a long wooden pointer."""
    brush.stroke(((0, 7), (0, -34)), 1.7, DARK_WOOD)
    brush.stroke(((0, -20), (0, -34)), 1.2, WOOD)
    brush.dot(0, -34.6, 1.7, RED)


def draw_telephone(brush: Brush, random: Random) -> None:
    """Draw the receiver of a telephone with its cord, gripped in the middle."""
    shell = random.choice(_TELEPHONES)
    cord = [(1.6 * (-1) ** turn, 9.0 + 3.4 * turn) for turn in range(9)]
    brush.stroke(cord, 1.1, darker(shell, 0.2))
    brush.stroke(((0.8, -8), (2.2, 0), (0.8, 8)), 4.2, shell)
    brush.rounded(-4.0, -12.4, 3.2, -5.6, 2.2, shell)
    brush.rounded(-4.0, 5.6, 3.2, 12.4, 2.2, shell)


def draw_whole_telephone(brush: Brush, random: Random) -> None:
    """Draw a desk telephone with its receiver on the hook."""
    shell = random.choice(_TELEPHONES)
    brush.blob(both_sides(((6, -6), (11, 0), (13, 12), (0, 13))), shell)
    brush.dot(0, 3.4, 6.2, darker(shell, 0.3))
    brush.dot(0, 3.4, 5.2, WHITE)
    brush.dot(0, 3.4, 2.0, shell)
    for x, y in (
        (0, -0.4),
        (2.8, 0.8),
        (3.8, 3.6),
        (2.6, 6.4),
        (-2.8, 0.8),
        (-3.8, 3.6),
        (-2.6, 6.4),
    ):
        brush.dot(x, y, 0.8, INK)
    brush.stroke(((-13, -9), (-6, -11.4), (6, -11.4), (13, -9)), 4.0, darker(shell, 0.12))
    for side in (-1, 1):
        brush.rounded(side * 13 - 3.8, -11, side * 13 + 3.8, -4.4, 2.4, darker(shell, 0.12))
    cord = [(-14.0 - 2.0 * turn, 9.0 + 1.6 * (-1) ** turn) for turn in range(9)]
    brush.stroke(cord, 1.2, darker(shell, 0.3))


def draw_frying_pan(brush: Brush, random: Random) -> None:
    """Draw a frying pan with a fried egg, gripped at its handle."""
    brush.stroke(((0, 3), (0, -10)), 3.0, DARK_WOOD)
    brush.dot(0, -20, 11.6, IRON)
    brush.dot(0, -20, 9.8, (46, 48, 56))
    brush.blob(((-6, -21), (-2, -26), (4, -25), (7, -20), (3, -14.6), (-4, -15.4)), WHITE)
    brush.dot(0.6, -20.4, 3.0, YELLOW)
    brush.dot(-0.2, -21.2, 0.9, lighter(YELLOW, 0.6))


def draw_pitchfork(brush: Brush, random: Random) -> None:
    """Draw a pitchfork with its prongs up, gripped at the middle of its shaft."""
    brush.stroke(((0, 60), (0, -20)), 2.2, random.choice((WOOD, DARK_WOOD)))
    tine = (112, 118, 128)
    for x in (-7.0, -2.4, 2.4, 7.0):
        brush.stroke(((x, -22), (x, -37)), 1.4, tine)
        brush.polygon(((x - 0.8, -37), (x + 0.8, -37), (x, -40)), tine)
    brush.stroke(((-7, -22), (-5, -20), (5, -20), (7, -22)), 1.7, tine)
    brush.rectangle(-1.5, -21.6, 1.5, -15, tine)


def draw_hammer(brush: Brush, random: Random) -> None:
    """Draw a claw hammer, gripped near the end of its handle."""
    brush.stroke(((0, 6), (0, -16)), 2.8, random.choice((WOOD, (196, 74, 52), (222, 164, 62))))
    brush.stroke(((0, 6), (0, -2)), 3.4, IRON)
    head = (104, 110, 120)
    brush.rectangle(-3, -20.6, 7, -14.6, head)
    brush.rectangle(6.4, -21.6, 10, -13.6, darker(head, 0.16))
    brush.blob(((-2, -20.6), (-8, -20), (-12.6, -15), (-7, -16.4), (-2, -14.6)), head)
    brush.stroke(((-1, -19.4), (6, -19.4)), 0.8, lighter(head, 0.4))


def draw_hose(brush: Brush, random: Random) -> None:
    """Draw the nozzle of a fire hose and its jet of water, pointing up."""
    water = (150, 206, 236)
    brush.polygon(((-1.4, -14), (1.4, -14), (9, -74), (-9, -74)), water)
    brush.polygon(((-0.5, -14), (0.5, -14), (3, -74), (-4, -74)), lighter(water, 0.6))
    for x, y in ((-6, -40), (6.4, -46), (-8, -54), (9, -60), (3, -33)):
        brush.dot(x, y, 1.3, lighter(water, 0.5))
    cloth = random.choice(((214, 186, 128), (226, 206, 150), (204, 160, 104)))
    brush.curve(((0, 5), (1, 18), (10, 26), (14, 40), (8, 60)), 5.4, darker(cloth, 0.3))
    brush.curve(((0, 5), (1, 18), (10, 26), (14, 40), (8, 60)), 4.2, cloth)
    brush.polygon(((-3, 6), (3, 6), (2, -14), (-2, -14)), (196, 64, 48))
    brush.rectangle(-3.6, 2, 3.6, 6.6, (212, 172, 84))
    brush.rectangle(-2.8, -15, 2.8, -11.4, (212, 172, 84))


def draw_coiled_hose(brush: Brush, random: Random) -> None:
    """Draw a rolled-up fire hose with its nozzle."""
    cloth = random.choice(((214, 186, 128), (196, 74, 52), (226, 206, 150)))
    for ring, radius in enumerate((19.0, 15.6, 12.2, 8.8, 5.4)):
        brush.dot(0, 0, radius, darker(cloth, 0.3))
        brush.dot(0, 0, radius - 0.9, cloth if ring % 2 else lighter(cloth, 0.14))
    brush.dot(0, 0, 2.0, darker(cloth, 0.5))
    brush.stroke(((8, 17.4), (27, 17.4)), 3.6, cloth)
    brush.polygon(((26, 14.4), (36, 15.8), (36, 19.0), (26, 20.4)), RED)
    brush.rectangle(25, 14, 28.4, 20.8, (212, 172, 84))


ToolDrawing = Callable[[Brush, Random], None]

HELD_TOOLS: dict[str, ToolDrawing] = {
    "stethoscope": draw_stethoscope,
    "clipboard": draw_clipboard,
    "book": draw_book,
    "flask": draw_flask,
    "pointer": draw_pointer,
    "telephone": draw_telephone,
    "frying pan": draw_frying_pan,
    "pitchfork": draw_pitchfork,
    "hammer": draw_hammer,
    "hose": draw_hose,
}

LYING_TOOLS: dict[str, ToolDrawing] = HELD_TOOLS | {
    "stethoscope": draw_whole_stethoscope,
    "telephone": draw_whole_telephone,
    "hose": draw_coiled_hose,
}
