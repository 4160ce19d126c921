"""Things that stand about in several settings, drawn in picture units (0 to 100)."""

from __future__ import annotations

from random import Random

from synthetic.brush import UNITS, Brush
from synthetic.palette import (
    BOOK_COLOURS,
    CLOTH_COLOURS,
    DARK_WOOD,
    GLASS,
    GREEN,
    LEAF,
    WHITE,
    WOOD,
    YELLOW,
    Colour,
    darker,
    lighter,
    mix,
)


def draw_wall(brush: Brush, random: Random, wall: Colour, floor: Colour, floor_at: float) -> None:
    """Fill the picture with a wall, sometimes a slant of sunlight, a skirting and a floor."""
    brush.rectangle(0, 0, UNITS, floor_at, wall)
    if random.random() < 0.5:
        start = random.uniform(-20, 60)
        ray = ((start, 0), (start + 22, 0), (start + 52, floor_at), (start + 30, floor_at))
        brush.polygon(ray, lighter(wall, 0.4))
    brush.rectangle(0, floor_at, UNITS, UNITS, floor)
    brush.rectangle(0, floor_at - 2.2, UNITS, floor_at, darker(wall, 0.16))


def draw_window(brush: Brush, x: float, y: float, width: float, height: float, sky: Colour) -> None:
    """Draw a window with its upper left corner at (x, y)."""
    brush.rectangle(x - 1.6, y - 1.6, x + width + 1.6, y + height + 1.6, WHITE)
    brush.rectangle(x, y, x + width, y + height, sky)
    brush.polygon(
        (
            (x + width * 0.2, y),
            (x + width * 0.5, y),
            (x + width * 0.2, y + height),
            (x, y + height),
        ),
        lighter(sky, 0.4),
    )
    brush.rectangle(x + width / 2 - 0.7, y, x + width / 2 + 0.7, y + height, WHITE)
    brush.rectangle(x, y + height / 2 - 0.7, x + width, y + height / 2 + 0.7, WHITE)
    brush.rectangle(x - 2.6, y + height + 1.4, x + width + 2.6, y + height + 3.2, (226, 214, 196))


def draw_books(
    brush: Brush, random: Random, left: float, right: float, bottom: float, room: float
) -> None:
    """Draw a row of books standing on a board; the tallest reach 0.95 of `room`."""
    x = left
    while x < right - 3.0:
        width = random.uniform(2.4, 4.8)
        colour = random.choice(BOOK_COLOURS)
        top = bottom - room * random.uniform(0.66, 0.95)
        end = min(x + width, right)
        brush.rectangle(x, top, end, bottom, colour)
        if width > 3.4:
            brush.rectangle(x + 0.4, top + 2.0, end - 0.4, top + 3.2, lighter(colour, 0.5))
        x = end + (0.4 if random.random() < 0.9 else 3.0)


def draw_plant(brush: Brush, random: Random, x: float, bottom: float, scale: float = 1.0) -> None:
    """Draw a pot plant whose pot stands on y = bottom."""
    plant = brush.placed(x, bottom, scale=scale)
    leaf = random.choice((GREEN, LEAF, (98, 142, 106)))
    for tip_x, tip_y in ((-9, -18), (-5, -25), (1, -28), (6, -24), (10, -16)):
        plant.blob(
            (
                (0, -8),
                (tip_x * 0.7 - 2.2, tip_y * 0.7),
                (tip_x, tip_y),
                (tip_x * 0.7 + 2.2, tip_y * 0.6),
            ),
            leaf if tip_x % 2 else darker(leaf, 0.14),
        )
    pot = random.choice(((196, 112, 76), (222, 206, 180), (98, 124, 138)))
    plant.polygon(((-5.4, -9), (5.4, -9), (4.0, 0), (-4.0, 0)), pot)
    plant.rectangle(-6.0, -10.4, 6.0, -7.8, lighter(pot, 0.16))


def draw_clock(brush: Brush, random: Random, x: float, y: float) -> None:
    """Draw a round wall clock at a random hour."""
    brush.dot(x, y, 6.0, darker(random.choice(CLOTH_COLOURS), 0.2))
    brush.dot(x, y, 4.9, WHITE)
    brush.stroke(((x, y), (x + random.uniform(-2, 2), y - 3.2)), 0.8, (60, 56, 62))
    brush.stroke(((x, y), (x + 2.4, y + random.uniform(-1, 1.6))), 0.8, (60, 56, 62))


def draw_cloud(brush: Brush, x: float, y: float, scale: float, sky: Colour) -> None:
    """Draw a flat-bottomed cloud about (x, y)."""
    cloud = brush.placed(x, y, scale=scale)
    colour = lighter(sky, 0.72)
    cloud.dot(-7, -2, 4.2, colour)
    cloud.dot(0, -4.6, 6.2, colour)
    cloud.dot(7.4, -2.4, 4.6, colour)
    cloud.rounded(-12, -3.6, 12.6, 2.2, 2.8, colour)


def draw_sky(brush: Brush, random: Random, sky: Colour, ground_at: float) -> None:
    """Fill the picture down to a little below y = ground_at with a paling sky, sun and clouds."""
    bands = 4
    for band in range(bands):
        top = ground_at * band / bands
        brush.rectangle(0, top, UNITS, ground_at + 14, lighter(sky, 0.16 * band))
    if random.random() < 0.7:
        x, y = (
            random.choice((random.uniform(6, 22), random.uniform(78, 94))),
            random.uniform(10, 22),
        )
        brush.dot(x, y, 8.6, mix(sky, YELLOW, 0.34))
        brush.dot(x, y, 6.2, mix(YELLOW, WHITE, 0.25))
    for _ in range(random.randrange(3)):
        draw_cloud(
            brush, random.uniform(5, 95), random.uniform(8, 32), random.uniform(0.6, 1.1), sky
        )


def draw_tree(brush: Brush, random: Random, x: float, bottom: float, scale: float = 1.0) -> None:
    """Draw a round tree whose trunk stands on y = bottom."""
    tree = brush.placed(x, bottom, scale=scale)
    leaf = random.choice((GREEN, LEAF, (140, 160, 84), (206, 148, 70)))
    tree.polygon(((-1.8, 0), (1.8, 0), (1.2, -20), (-1.2, -20)), DARK_WOOD)
    tree.dot(-6.4, -22, 7.2, darker(leaf, 0.14))
    tree.dot(6.4, -22, 7.2, darker(leaf, 0.08))
    tree.dot(0, -29, 9.4, leaf)
    tree.dot(-2.6, -32, 4.2, lighter(leaf, 0.16))


def draw_desk(brush: Brush, left: float, right: float, top: float, wood: Colour = WOOD) -> None:
    """Draw a desk or counter seen from the front, down to the lower edge of the picture."""
    brush.rectangle(left, top, right, UNITS, darker(wood, 0.16))
    brush.rectangle(left - 1.5, top, right + 1.5, top + 3.6, lighter(wood, 0.16))
    brush.rectangle(left - 1.5, top + 3.6, right + 1.5, top + 4.6, darker(wood, 0.34))


def draw_monitor(brush: Brush, random: Random, x: float, bottom: float) -> None:
    """Draw a computer screen with a document, its foot on y = bottom."""
    brush.rounded(x - 5, bottom - 1.6, x + 5, bottom, 0.8, (96, 98, 106))
    brush.rectangle(x - 1.5, bottom - 6, x + 1.5, bottom - 1, (120, 122, 130))
    brush.rounded(x - 13, bottom - 24, x + 13, bottom - 5, 1.4, (62, 64, 74))
    brush.rectangle(
        x - 11.6, bottom - 22.6, x + 11.6, bottom - 7, random.choice((GLASS, (176, 206, 224)))
    )
    brush.rectangle(x - 7, bottom - 21, x + 7, bottom - 7, WHITE)
    for row in range(4):
        y = bottom - 19.0 + 2.8 * row
        brush.rectangle(x - 5.2, y, x + 5.2 - 2.6 * (row % 3), y + 1.0, (142, 150, 164))
