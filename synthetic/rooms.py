"""Settings indoors, drawn in picture units (0 to 100), with the middle left for a person."""

from __future__ import annotations

from random import Random

from synthetic import props
from synthetic.brush import UNITS, Brush
from synthetic.palette import (
    BOOK_COLOURS,
    CLOTH_COLOURS,
    COOL_WALLS,
    DARK_WOOD,
    GLASS,
    INK,
    IRON,
    PAPER,
    RED,
    SKIES,
    STEEL,
    STRAW,
    WARM_WALLS,
    WHITE,
    WOOD,
    Colour,
    darker,
    lighter,
)
from synthetic.tools import LIQUIDS


def draw_hospital(brush: Brush, random: Random) -> None:
    """Draw a ward: a bed, a drip stand, a monitor with a heart line, a red cross."""
    wall = random.choice(COOL_WALLS)
    props.draw_wall(brush, random, wall, (206, 208, 200), 84)
    brush.rectangle(
        0, 50, UNITS, 54, random.choice(((150, 200, 190), (160, 196, 214), (206, 214, 168)))
    )
    if random.random() < 0.6:
        props.draw_window(brush, random.uniform(34, 48), 8, 24, 26, random.choice(SKIES))
    _draw_bed(brush, random)
    _draw_drip(brush, random.uniform(17, 23))
    x = random.uniform(78, 84)
    brush.rounded(x - 9, 10, x + 9, 28, 1.2, WHITE)
    brush.rectangle(x - 2, 12.4, x + 2, 25.6, RED)
    brush.rectangle(x - 6.6, 17, x + 6.6, 21, RED)
    brush.rounded(x - 10, 58, x + 10, 74, 1.4, (226, 228, 226))
    brush.rectangle(x - 8.4, 59.6, x + 8.4, 70, (44, 62, 70))
    pulse = ((-7.6, 66), (-3.4, 66), (-1.8, 61.6), (0.4, 69), (2.2, 66), (7.6, 66))
    brush.stroke([(x + step, y) for step, y in pulse], 0.9, (122, 220, 142))
    brush.rectangle(x - 1.2, 74, x + 1.2, 92, STEEL)
    brush.rectangle(x - 8, 91, x + 8, 93, STEEL)


def _draw_bed(brush: Brush, random: Random) -> None:
    blanket = random.choice(((130, 182, 186), (150, 178, 206), (214, 190, 150)))
    brush.rectangle(-4, 62, 3.4, 96, STEEL)
    brush.rounded(-8, 68, 17, 76, 3.0, WHITE)
    brush.rounded(-8, 74, 31, 88, 2.4, blanket)
    brush.rectangle(14, 74, 19, 87, lighter(blanket, 0.5))
    brush.rectangle(28.6, 72, 31.4, 97, STEEL)


def _draw_drip(brush: Brush, x: float) -> None:
    brush.rectangle(x - 0.7, 18, x + 0.7, 90, STEEL)
    brush.rectangle(x - 5, 17.4, x + 5, 18.8, STEEL)
    brush.rounded(x - 5.4, 20, x + 0.6, 33, 1.6, GLASS)
    brush.rectangle(x - 5, 26, x + 0.2, 31.6, (236, 214, 140))
    brush.curve(((x - 2.4, 33), (x - 3.4, 46), (x - 7, 58), (x - 9, 70)), 0.7, (196, 200, 200))


def draw_laboratory(brush: Brush, random: Random) -> None:
    """Draw shelves of bottles, a molecule on a poster, a bench with test tubes and microscope."""
    wall = random.choice(COOL_WALLS)
    props.draw_wall(brush, random, wall, darker(wall, 0.2), 92)
    for board in (24.0, 46.0):
        for left, right in ((-2, 30), (70, 102)):
            x = left + random.uniform(3, 6)
            while x < right - 3:
                _draw_bottle(brush, random, x, board)
                x += random.uniform(6.5, 9.5)
            brush.rectangle(left, board, right, board + 2.0, (150, 158, 166))
    _draw_molecule(brush, random, random.uniform(46, 54))
    bench = random.choice(((222, 226, 226), (196, 206, 208), (210, 190, 160)))
    props.draw_desk(brush, -4, 104, 80, bench)
    _draw_microscope(brush, random.uniform(9, 15), 80)
    _draw_test_tubes(brush, random, random.uniform(78, 84), 80)


def _draw_bottle(brush: Brush, random: Random, x: float, bottom: float) -> None:
    liquid = random.choice((*LIQUIDS, (168, 120, 76), (126, 108, 176)))
    height = random.uniform(8, 14)
    if random.random() < 0.5:
        brush.rounded(x - 2.6, bottom - height, x + 2.6, bottom, 1.0, GLASS)
        brush.rectangle(x - 2.2, bottom - height * 0.6, x + 2.2, bottom - 0.6, liquid)
        brush.rectangle(x - 1.6, bottom - height - 2, x + 1.6, bottom - height + 0.4, IRON)
    else:
        brush.polygon(
            (
                (x - 1.2, bottom - height),
                (x + 1.2, bottom - height),
                (x + 3.6, bottom),
                (x - 3.6, bottom),
            ),
            GLASS,
        )
        brush.polygon(
            (
                (x - 2.2, bottom - height * 0.5),
                (x + 2.2, bottom - height * 0.5),
                (x + 3.4, bottom),
                (x - 3.4, bottom),
            ),
            liquid,
        )


def _draw_molecule(brush: Brush, random: Random, x: float) -> None:
    brush.rectangle(x - 15, 3, x + 15, 30, WHITE)
    ring = [
        (x - 5 + 5.4 * dx, 16 + 5.4 * dy)
        for dx, dy in (
            (0, -1),
            (0.87, -0.5),
            (0.87, 0.5),
            (0, 1),
            (-0.87, 0.5),
            (-0.87, -0.5),
            (0, -1),
        )
    ]
    brush.stroke(ring, 1.0, (96, 110, 130))
    brush.stroke((ring[1], (x + 5, 10), (x + 10, 14)), 1.0, (96, 110, 130))
    for (px, py), colour in zip(
        (*ring[:6:2], (x + 5, 10), (x + 10, 14)), (*LIQUIDS, RED), strict=True
    ):
        brush.dot(px, py, 2.0, colour)


def _draw_microscope(brush: Brush, x: float, bottom: float) -> None:
    brush.rounded(x - 8, bottom - 3, x + 8, bottom, 1.2, IRON)
    brush.curve(
        ((x + 2, bottom - 3), (x + 8, bottom - 10), (x + 5, bottom - 19)), 2.8, (98, 104, 116)
    )
    brush.rectangle(x - 7, bottom - 9, x + 4, bottom - 7.4, IRON)
    brush.stroke(((x - 3, bottom - 11), (x + 1.4, bottom - 24)), 4.4, (226, 228, 226))
    brush.stroke(((x + 1.6, bottom - 24.6), (x + 2.8, bottom - 28)), 3.0, INK)


def _draw_test_tubes(brush: Brush, random: Random, x: float, bottom: float) -> None:
    for place in (-8, -2.8, 2.4, 7.6):
        liquid = random.choice(LIQUIDS)
        brush.rounded(x + place - 1.6, bottom - 16, x + place + 1.6, bottom - 1, 1.5, GLASS)
        brush.rounded(
            x + place - 1.3,
            bottom - random.uniform(6, 12),
            x + place + 1.3,
            bottom - 1.2,
            1.2,
            liquid,
        )
    brush.rectangle(x - 11, bottom - 10.6, x + 11, bottom - 8.6, WOOD)
    brush.rectangle(x - 11, bottom - 2, x + 11, bottom, WOOD)


def draw_library(brush: Brush, random: Random) -> None:
    """Draw bookcases full of books up to the ceiling."""
    wood = random.choice((WOOD, DARK_WOOD, (158, 106, 70)))
    brush.rectangle(0, 0, UNITS, UNITS, darker(wood, 0.46))
    top = random.uniform(-10, -2)
    for row in range(5):
        bottom = top + 22.0 * (row + 1)
        props.draw_books(brush, random, 0, UNITS, bottom, 19)
        brush.rectangle(0, bottom, UNITS, bottom + 3.0, wood)
        brush.rectangle(0, bottom + 2.2, UNITS, bottom + 3.0, darker(wood, 0.3))
    for x in (random.uniform(-2, 6), random.uniform(46, 54), random.uniform(94, 102)):
        brush.rectangle(x - 1.8, 0, x + 1.8, UNITS, lighter(wood, 0.1))
    if random.random() < 0.4:
        x = random.choice((16.0, 84.0))
        for side in (-4, 4):
            brush.stroke(((x + side, 0), (x + side * 1.3, UNITS)), 1.6, STRAW)
        for y in range(8, 100, 13):
            brush.stroke(((x - 4.4, y), (x + 4.4, y)), 1.3, STRAW)


_GLYPHS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "A": (((0, 6), (2.4, 0), (4.8, 6)), ((1.2, 3.8), (3.6, 3.8))),
    "B": (
        ((0, 0), (0, 6), (3, 6), (4, 4.6), (2.8, 3), (0, 3)),
        ((0, 0), (2.8, 0), (3.6, 1.6), (2.8, 3)),
    ),
    "C": (((4.4, 1), (2.6, 0), (0.6, 1.4), (0.6, 4.6), (2.6, 6), (4.4, 5)),),
    "1": (((0.6, 1.6), (2.2, 0), (2.2, 6)),),
    "2": (((0.4, 1.4), (2, 0), (3.8, 1.4), (0.4, 6), (4, 6)),),
    "3": (((0.4, 0.4), (3, 0), (3.6, 1.6), (2, 2.8), (3.8, 4.2), (3, 6), (0.4, 5.6)),),
    "+": (((0.4, 3.2), (4, 3.2)), ((2.2, 1.4), (2.2, 5))),
    "=": (((0.4, 2.4), (4, 2.4)), ((0.4, 4.4), (4, 4.4))),
}  # fmt: skip


def _write(brush: Brush, text: str, x: float, y: float, size: float, chalk: Colour) -> None:
    for place, letter in enumerate(text):
        for line in _GLYPHS[letter]:
            points = [(x + (place * 6.4 + px) * size, y + py * size) for px, py in line]
            brush.stroke(points, 0.9, chalk)


def draw_classroom(brush: Brush, random: Random) -> None:
    """Draw a chalkboard with letters and sums, a globe, and a desk with an apple."""
    props.draw_wall(brush, random, random.choice(WARM_WALLS), (196, 158, 116), 88)
    board = random.choice(((58, 98, 82), (52, 88, 76), (66, 104, 90)))
    brush.rectangle(3, 6, 97, 62, WOOD)
    brush.rectangle(5.4, 8.4, 94.6, 59.4, board)
    brush.polygon(((5.4, 8.4), (30, 8.4), (12, 59.4), (5.4, 59.4)), lighter(board, 0.06))
    chalk = (232, 236, 226)
    words = ["ABC", "1+2=3"]
    random.shuffle(words)
    _write(brush, words[0], 9, random.uniform(12, 18), 0.95, chalk)
    _write(brush, words[1], 91 - 6.4 * len(words[1]) * 0.8, random.uniform(12, 18), 0.8, chalk)
    for x, y, length in ((9, 32, 15), (9, 39, 11), (9, 46, 14)):
        brush.stroke(((x, y), (x + length, y + random.uniform(-1, 1))), 0.9, lighter(board, 0.5))
    brush.polygon(((78, 50), (86, 36), (92, 50)), lighter(board, 0.16))
    brush.stroke(((78, 50), (86, 36), (92, 50), (78, 50)), 0.9, (244, 214, 120))
    props.draw_desk(brush, -4, 27, 80, (190, 138, 90))
    apple = random.uniform(6, 18)
    brush.dot(apple - 1.4, 76.6, 3.4, RED)
    brush.dot(apple + 1.4, 76.6, 3.4, RED)
    brush.stroke(((apple, 74), (apple + 1, 71)), 0.9, DARK_WOOD)
    _draw_globe(brush, random.uniform(84, 90), 86)


def _draw_globe(brush: Brush, x: float, bottom: float) -> None:
    props.draw_desk(brush, x - 14, x + 20, bottom, (190, 138, 90))
    brush.rounded(x - 5, bottom - 2, x + 5, bottom, 0.9, DARK_WOOD)
    brush.rectangle(x - 1, bottom - 5, x + 1, bottom - 1, DARK_WOOD)
    brush.dot(x, bottom - 13, 9.6, (196, 164, 92))
    brush.dot(x, bottom - 13, 8.6, (104, 164, 196))
    brush.blob(
        ((x - 6, bottom - 17), (x - 1, bottom - 20), (x + 1, bottom - 15), (x - 3, bottom - 10)),
        (126, 170, 102),
    )
    brush.blob(
        ((x + 2, bottom - 13), (x + 7, bottom - 14), (x + 5, bottom - 7), (x + 2, bottom - 8)),
        (126, 170, 102),
    )


def draw_office(brush: Brush, random: Random) -> None:
    """Draw a window on a town, a filing cabinet, a calendar, a plant and a desk with a computer."""
    props.draw_wall(brush, random, random.choice(WARM_WALLS), (176, 162, 152), 88)
    sky = random.choice(SKIES)
    x = random.uniform(30, 44)
    props.draw_window(brush, x, 8, 32, 32, sky)
    for left, top in ((2, 22), (8, 16), (20, 24), (26, 18)):
        brush.rectangle(x + left, top, x + left + 4.6, 39.6, darker(sky, 0.24))
    cabinet = random.choice(((150, 162, 160), (186, 176, 158), (122, 138, 152)))
    brush.rectangle(0, 40, 21, 90, cabinet)
    for y in (42, 57, 72):
        brush.rectangle(1.6, y, 19.4, y + 13, lighter(cabinet, 0.2))
        brush.rounded(7, y + 4.4, 14, y + 6.8, 1.0, darker(cabinet, 0.4))
    if random.random() < 0.6:
        props.draw_plant(brush, random, 10, 40, 0.8)
    else:
        for number in range(3):
            shade = random.choice(CLOTH_COLOURS)
            brush.rectangle(3 + 5.2 * number, 26, 7.6 + 5.2 * number, 40, shade)
            brush.rectangle(4.0 + 5.2 * number, 29, 6.6 + 5.2 * number, 33, WHITE)
    if random.random() < 0.5:
        props.draw_clock(brush, random, 88, 16)
    else:
        brush.rectangle(80, 8, 96, 26, WHITE)
        brush.rectangle(80, 8, 96, 12, RED)
        for row in range(3):
            for column in range(4):
                brush.rectangle(
                    81.6 + 3.6 * column,
                    14 + 3.8 * row,
                    83.8 + 3.6 * column,
                    16 + 3.8 * row,
                    (176, 180, 186),
                )
    if random.random() < 0.5:
        brush.rectangle(76, 34, 100, 36, WOOD)
        props.draw_books(brush, random, 80, 100, 34, 9)


def draw_office_desk(brush: Brush, random: Random) -> None:
    """Draw the desk that stands in front of whoever works in the office."""
    props.draw_desk(brush, -4, 104, 86, random.choice((WOOD, (196, 150, 106), (150, 104, 72))))
    x = random.uniform(15, 19)
    props.draw_monitor(brush, random, x, 86.8)
    brush.polygon(((x + 18, 88), (x + 36, 88), (x + 38, 91), (x + 16, 91)), (206, 206, 204))
    brush.stroke(((x + 19, 89), (x + 35, 89)), 0.6, (140, 142, 148))
    brush.rounded(88, 78.6, 94, 86.6, 1.2, random.choice(CLOTH_COLOURS))


def draw_kitchen(brush: Brush, random: Random) -> None:
    """Draw tiles, a rack of ladles and pans, a shelf of jars, and a stove with a steaming pot."""
    wall = random.choice((*WARM_WALLS, *COOL_WALLS))
    brush.rectangle(0, 0, UNITS, UNITS, wall)
    grout = darker(wall, 0.09)
    for line in range(7):
        y = 4.0 + 11.0 * line
        brush.rectangle(0, y, UNITS, y + 0.8, grout)
        for column in range(6):
            x = column * 18.0 + (9.0 if line % 2 else 0.0)
            brush.rectangle(x, y, x + 0.8, y + 11, grout)
    _draw_rack(brush, random)
    brush.rectangle(72, 30, 100, 32.4, WOOD)
    for x in (76, 83, 90, 97):
        jar = random.choice(
            ((214, 128, 68), (148, 166, 92), (222, 188, 110), (176, 84, 70), (236, 226, 206))
        )
        brush.rounded(x - 2.8, 20, x + 2.8, 30, 1.2, GLASS)
        brush.rectangle(x - 2.4, 23, x + 2.4, 29.6, jar)
        brush.rectangle(x - 2.4, 18, x + 2.4, 20.6, DARK_WOOD)
    props.draw_desk(
        brush, -4, 104, 80, random.choice(((206, 200, 190), (190, 148, 108), (150, 168, 166)))
    )
    _draw_stove(brush, random)
    if random.random() < 0.6:
        for place, vegetable in enumerate(((214, 72, 54), (238, 150, 54), (116, 160, 78))):
            brush.dot(7 + 6.4 * place, 77, 3.4, vegetable)
            brush.stroke(((7 + 6.4 * place, 74), (8 + 6.4 * place, 72)), 1.0, (84, 124, 66))


def _draw_rack(brush: Brush, random: Random) -> None:
    brush.rectangle(0, 10, 32, 11.8, IRON)
    for x, shape in zip((5, 13, 22), random.sample(("pan", "ladle", "pot"), 3), strict=True):
        brush.rectangle(x - 0.7, 11, x + 0.7, 24, IRON)
        if shape == "pan":
            brush.dot(x, 30, 6.0, (82, 84, 92))
            brush.dot(x, 30, 4.6, (110, 112, 120))
        elif shape == "ladle":
            brush.dot(x, 26, 3.4, STEEL)
        else:
            brush.rounded(x - 5, 22, x + 5, 31, 1.6, (190, 112, 72))


def _draw_stove(brush: Brush, random: Random) -> None:
    brush.rectangle(72, 79, 102, UNITS, (96, 100, 108))
    brush.rectangle(72, 79, 102, 82.4, IRON)
    for knob in (77, 84, 91):
        brush.dot(knob, 86, 1.7, (224, 224, 220))
    pot = random.choice(((190, 112, 72), (150, 158, 166), (182, 62, 56)))
    brush.rounded(77, 64, 97, 79, 2.0, pot)
    brush.rectangle(75, 66.4, 99, 68.8, darker(pot, 0.2))
    brush.rounded(78, 61.6, 96, 64.8, 1.2, lighter(pot, 0.2))
    for x in (82.0, 90.0):
        brush.curve(((x, 60), (x + 2.4, 55), (x - 1.4, 49), (x + 1.8, 42)), 1.6, (248, 246, 240))


def draw_living_room(brush: Brush, random: Random) -> None:
    """Draw a sofa, a picture, a lamp and a tall grandfather clock."""
    wall = random.choice((*WARM_WALLS, *COOL_WALLS))
    props.draw_wall(brush, random, wall, random.choice(((186, 142, 102), (168, 124, 90))), 84)
    x = random.uniform(30, 60)
    brush.rectangle(x, 8, x + 24, 28, WOOD)
    brush.rectangle(x + 1.8, 9.8, x + 22.2, 26.2, random.choice(SKIES))
    hill = random.choice(BOOK_COLOURS)
    brush.polygon(
        ((x + 1.8, 26.2), (x + 8, 17), (x + 13, 22), (x + 17, 15), (x + 22.2, 26.2)),
        lighter(hill, 0.2),
    )
    _draw_grandfather_clock(brush, random)
    brush.rectangle(92.4, 44, 93.8, 84, IRON)
    brush.polygon(((88, 30), (98, 30), (101, 44), (85, 44)), lighter(STRAW, 0.4))
    sofa = random.choice(CLOTH_COLOURS)
    brush.rounded(24, 60, 88, 84, 5.0, sofa)
    brush.rounded(18, 70, 94, 92, 4.0, darker(sofa, 0.12))
    brush.rectangle(27, 72, 55.4, 80, lighter(sofa, 0.14))
    brush.rectangle(56.6, 72, 85, 80, lighter(sofa, 0.14))


def _draw_grandfather_clock(brush: Brush, random: Random) -> None:
    wood = random.choice((DARK_WOOD, (134, 82, 54)))
    brush.polygon(((2, 24), (10, 17), (18, 24)), darker(wood, 0.2))
    brush.rectangle(3, 24, 17, 88, wood)
    brush.rectangle(1.4, 84, 18.6, 92, darker(wood, 0.2))
    brush.dot(10, 32, 5.4, PAPER)
    brush.stroke(((10, 32), (10, 28.6)), 0.8, INK)
    brush.stroke(((10, 32), (12.6, 33)), 0.8, INK)
    brush.rectangle(6, 42, 14, 80, darker(wood, 0.4))
    brush.rectangle(9.5, 42, 10.5, 68, (214, 172, 84))
    brush.dot(10, 69, 2.8, (236, 194, 92))
