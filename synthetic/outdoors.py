"""Settings in the open air, drawn in picture units (0 to 100)."""

from __future__ import annotations

from random import Random

from synthetic import props
from synthetic.brush import UNITS, Brush
from synthetic.palette import (
    DARK_WOOD,
    GLASS,
    INK,
    IRON,
    ORANGE,
    RED,
    SKIES,
    STEEL,
    STRAW,
    WHITE,
    WOOD,
    YELLOW,
    Colour,
    darker,
    lighter,
    mix,
)


def draw_field(brush: Brush, random: Random) -> None:
    """Draw a red barn with its silo, hills, and rows of a crop that run to the horizon."""
    sky = random.choice(SKIES)
    horizon = random.uniform(50, 58)
    props.draw_sky(brush, random, sky, horizon)
    hill = random.choice(((146, 176, 112), (166, 178, 108), (132, 166, 118)))
    brush.ellipse(random.uniform(10, 40), horizon + 12, 56, 20, lighter(hill, 0.2))
    brush.ellipse(random.uniform(66, 90), horizon + 13, 50, 18, hill)
    soil = random.choice(((206, 168, 84), (156, 170, 84), (182, 140, 88)))
    brush.rectangle(0, horizon + 4, UNITS, UNITS, soil)
    row = darker(soil, 0.16)
    for near in range(-60, 170, 23):
        far = 50 + (near - 50) * 0.24
        corners = (
            (far - 0.6, horizon + 4),
            (far + 0.6, horizon + 4),
            (near + 5, UNITS),
            (near - 5, UNITS),
        )
        brush.polygon(corners, row)
    _draw_barn(brush, random, random.uniform(12, 20), horizon + 6)
    if random.random() < 0.5:
        bale = random.uniform(82, 92)
        brush.dot(bale, horizon + 14, 7.6, darker(STRAW, 0.1))
        brush.dot(bale, horizon + 14, 5.0, STRAW)
        brush.dot(bale, horizon + 14, 2.0, darker(STRAW, 0.2))
    else:
        props.draw_tree(brush, random, random.uniform(84, 94), horizon + 8, 0.8)
    for x in range(70, 104, 8):
        brush.rectangle(x, horizon + 18, x + 1.8, horizon + 34, WHITE)
    brush.rectangle(68, horizon + 22, UNITS, horizon + 24, WHITE)
    brush.rectangle(68, horizon + 28, UNITS, horizon + 30, WHITE)


def _draw_barn(brush: Brush, random: Random, x: float, bottom: float) -> None:
    red = random.choice(((186, 68, 56), (170, 76, 60), (158, 62, 58)))
    barn = brush.placed(x, bottom)
    barn.rounded(11, -32, 20, 0, 3.0, (198, 202, 204))
    barn.ellipse(15.5, -31, 4.6, 3.4, (168, 174, 180))
    barn.polygon(((-15, 0), (-15, -18), (-9, -27), (0, -31), (9, -27), (13, -18), (13, 0)), red)
    barn.stroke(
        ((-16, -17), (-9.4, -27.4), (0, -31.6), (9.4, -27.4), (14, -17)), 1.8, darker(red, 0.4)
    )
    barn.rectangle(-6, -13, 6, 0, WHITE)
    barn.rectangle(-5, -12, 5, 0, darker(red, 0.16))
    barn.stroke(((-5, -12), (5, 0)), 1.0, WHITE)
    barn.stroke(((5, -12), (-5, 0)), 1.0, WHITE)
    barn.rectangle(-2.6, -23, 2.6, -18, WHITE)


def draw_building_site(brush: Brush, random: Random) -> None:
    """Draw a crane, a brick wall going up, scaffolding, a cone and a works sign."""
    sky = random.choice(SKIES)
    props.draw_sky(brush, random, sky, 74)
    _draw_crane(brush, random.uniform(76, 86))
    steel = (170, 96, 74)
    for x in (36, 52, 68):
        brush.rectangle(x, 26, x + 2.2, 78, lighter(steel, 0.34))
    for y in (26, 44, 62):
        brush.rectangle(30, y, 76, y + 2.4, lighter(steel, 0.26))
    brush.rectangle(
        0, 76, UNITS, UNITS, random.choice(((198, 164, 118), (178, 152, 122), (186, 172, 152)))
    )
    _draw_bricks(brush, random)
    for x in (2, 27):
        brush.rectangle(x, 16, x + 1.5, 86, STEEL)
    for y in (22, 46, 68):
        brush.rectangle(0, y, 32, y + 1.4, STEEL)
    brush.rectangle(0, 47.4, 32, 50, WOOD)
    _draw_works_sign(brush, random.uniform(84, 90), 70)
    cone = random.uniform(72, 78)
    brush.polygon(((cone - 5, 94), (cone + 5, 94), (cone + 0.8, 78), (cone - 0.8, 78)), ORANGE)
    brush.polygon(((cone - 3.4, 88), (cone + 3.4, 88), (cone + 2.2, 84), (cone - 2.2, 84)), WHITE)
    brush.rectangle(cone - 7, 93, cone + 7, 95.4, darker(ORANGE, 0.2))


def _draw_crane(brush: Brush, x: float) -> None:
    yellow = (240, 190, 66)
    brush.rectangle(x - 1.8, 8, x + 1.8, 78, yellow)
    for y in range(12, 76, 7):
        brush.stroke(((x - 1.4, y), (x + 1.4, y + 5)), 0.7, darker(yellow, 0.4))
    brush.rectangle(x - 56, 12, x + 16, 15, yellow)
    brush.stroke(((x - 50, 12), (x, 3), (x + 14, 12)), 0.8, darker(yellow, 0.4))
    brush.rectangle(x + 10, 14, x + 16, 20, IRON)
    brush.rectangle(x - 40.4, 15, x - 39.6, 24, IRON)
    brush.rectangle(x - 46, 24, x - 34, 28, (176, 112, 84))


def _draw_bricks(brush: Brush, random: Random) -> None:
    brick = random.choice(((190, 98, 70), (176, 88, 66), (200, 122, 84)))
    brush.rectangle(0, 52, 28, 88, lighter(brick, 0.5))
    for row in range(7):
        y = 52.6 + 5.0 * row
        for place in range(5):
            x = place * 8.0 - (4.0 if row % 2 else 0.0)
            if row == 0 and place > 2:
                continue
            brush.rectangle(
                max(x, 0),
                y,
                min(x + 7.2, 28),
                y + 4.2,
                brick if (row + place) % 3 else darker(brick, 0.12),
            )


def _draw_works_sign(brush: Brush, x: float, top: float) -> None:
    """A triangular warning sign with a small digging figure: a "men at work" sign."""
    brush.rectangle(x - 0.9, top, x + 0.9, top + 26, STEEL)
    brush.polygon(((x, top - 20), (x + 12, top + 1), (x - 12, top + 1)), RED)
    brush.polygon(((x, top - 15.4), (x + 8.4, top - 1.2), (x - 8.4, top - 1.2)), YELLOW)
    brush.dot(x - 0.6, top - 10.2, 1.4, INK)
    brush.stroke(((x - 0.8, top - 8), (x - 1.2, top - 5), (x - 2.8, top - 2)), 1.3, INK)
    brush.stroke(((x - 1.2, top - 5), (x + 0.8, top - 2)), 1.2, INK)
    brush.stroke(((x - 0.8, top - 7.4), (x + 4.4, top - 2.2)), 0.9, INK)


def draw_fire(brush: Brush, random: Random) -> None:
    """Draw a house on fire against a glowing, smoky sky."""
    dusk = random.choice(((96, 72, 88), (120, 80, 78), (86, 78, 100), (150, 96, 76)))
    for band in range(4):
        brush.rectangle(0, 20 * band, UNITS, 92, mix(dusk, (246, 160, 82), 0.2 * band))
    for _ in range(5):
        x, y = random.uniform(0, 100), random.uniform(-2, 22)
        brush.dot(x, y, random.uniform(9, 16), mix(dusk, (70, 62, 70), 0.5))
    house = random.choice(((136, 84, 72), (122, 98, 92), (150, 112, 86)))
    brush.rectangle(6, 34, 94, 92, house)
    brush.polygon(((1, 35), (50, 12), (99, 35)), darker(house, 0.4))
    for x in (12, 74):
        for y in (42, 64):
            brush.rectangle(x - 1, y - 1, x + 15, y + 15, darker(house, 0.3))
            brush.rectangle(x, y, x + 14, y + 14, (255, 206, 96))
            _draw_flame(brush, random, x + 7, y + 14, 0.62)
    for x in (14, 34, 66, 86):
        _draw_flame(
            brush,
            random,
            x + random.uniform(-4, 4),
            30 - abs(50 - x) * -0.1,
            random.uniform(0.7, 1.0),
        )
    brush.rectangle(0, 90, UNITS, UNITS, (92, 84, 88))
    for x in (7, 24, 78, 94):
        _draw_flame(brush, random, x + random.uniform(-3, 3), 94, random.uniform(0.9, 1.3))


def _draw_flame(brush: Brush, random: Random, x: float, bottom: float, scale: float) -> None:
    flame = brush.placed(x, bottom, scale=scale, mirrored=random.random() < 0.5)
    flame.blob(
        (
            (-8, -3),
            (-8.6, -10),
            (-4.6, -17),
            (-4, -24),
            (1, -18),
            (3.4, -30),
            (7.6, -15),
            (8.6, -5),
            (4, 0),
            (-4, 0),
        ),
        (236, 92, 44),
    )
    flame.blob(
        ((-5, -2), (-5.4, -8), (-2, -14), (0.6, -11), (3, -19), (5.4, -8), (4.4, -1)),
        (250, 162, 54),
    )
    flame.blob(((-2.6, -1), (-2.4, -5), (0.6, -10), (2.8, -4), (2, -0.6)), (255, 226, 124))


def draw_street(brush: Brush, random: Random) -> None:
    """Draw a row of houses, a pavement with a lamp, and a road with a manhole cover."""
    sky = random.choice(SKIES)
    props.draw_sky(brush, random, sky, 40)
    fronts: tuple[Colour, ...] = (
        (214, 152, 116),
        (232, 206, 160),
        (176, 190, 178),
        (202, 128, 104),
        (192, 178, 196),
    )
    x = -random.uniform(0, 14)
    while x < UNITS:
        width, top = random.uniform(22, 30), random.uniform(14, 28)
        _draw_house(brush, random, x, x + width, top, random.choice(fronts))
        x += width
    brush.rectangle(0, 76, UNITS, 84, (206, 198, 186))
    brush.rectangle(0, 83, UNITS, UNITS, (134, 132, 136))
    brush.ellipse(random.choice((15.0, 85.0)), 93, 10, 3.4, (86, 84, 90))
    lamp = random.choice((8.0, 92.0))
    brush.rectangle(lamp - 0.9, 28, lamp + 0.9, 80, IRON)
    brush.rounded(lamp - 3.4, 20, lamp + 3.4, 29, 1.8, mix(YELLOW, WHITE, 0.5))
    brush.rectangle(lamp - 4.2, 18.6, lamp + 4.2, 20.8, IRON)


def _draw_house(
    brush: Brush, random: Random, left: float, right: float, top: float, front: Colour
) -> None:
    brush.rectangle(left, top, right, 77, front)
    brush.rectangle(left - 0.6, top - 2.4, right, top + 1.2, darker(front, 0.34))
    pane = random.choice((GLASS, (252, 226, 150), (150, 178, 190)))
    step = (right - left) / 3
    for floor in range(2):
        y = top + 6 + 17 * floor
        for column in range(3):
            x = left + step * (column + 0.24)
            brush.rectangle(x - 0.7, y - 0.7, x + step * 0.56 + 0.7, y + 10.7, WHITE)
            brush.rectangle(x, y, x + step * 0.56, y + 10, pane)
    door = left + step * random.choice((0.3, 1.2, 2.1))
    brush.rectangle(door, 61, door + 6, 77, darker(front, 0.5))
    brush.rectangle(
        left, 58, right, 60.6, random.choice(((196, 84, 72), (92, 128, 116), (232, 220, 196)))
    )


def draw_park(brush: Brush, random: Random) -> None:
    """Draw trees on a lawn, a winding path, a bench and a few flowers."""
    sky = random.choice(SKIES)
    horizon = random.uniform(46, 54)
    props.draw_sky(brush, random, sky, horizon)
    lawn = random.choice(((152, 182, 112), (140, 174, 104), (172, 184, 110)))
    brush.ellipse(30, horizon + 8, 60, 16, darker(lawn, 0.14))
    brush.rectangle(0, horizon + 5, UNITS, UNITS, lawn)
    bend = random.uniform(20, 80)
    path = (
        (bend - 3, horizon + 5),
        (bend + 3, horizon + 5),
        (60, 76),
        (84, UNITS),
        (24, UNITS),
        (44, 76),
    )
    brush.polygon(path, (226, 204, 164))
    for x in (
        random.uniform(6, 18),
        random.uniform(28, 44),
        random.uniform(62, 74),
        random.uniform(84, 96),
    ):
        props.draw_tree(brush, random, x, horizon + random.uniform(7, 14), random.uniform(0.7, 1.2))
    bench = random.choice((2.0, 74.0))
    for y in (66, 70.4, 76):
        brush.rectangle(bench, y, bench + 24, y + 3, WOOD)
    for x in (bench + 2.0, bench + 20.0):
        brush.rectangle(x, 66, x + 2, 86, DARK_WOOD)
    for _ in range(5):
        x, y = random.uniform(2, 98), random.uniform(86, 98)
        brush.dot(x, y, 1.4, random.choice((RED, YELLOW, WHITE, (206, 120, 170))))
