"""Hair, drawn in two layers: what hangs behind the neck, and what frames the face.

The frame of a head: the origin is the middle of the face, ears lie at x = -11 and 11, the crown
at y = -13 and the chin at y = 13.
"""

from __future__ import annotations

from synthetic.brush import Brush, Point, both_sides
from synthetic.looks import HairStyle, Look
from synthetic.palette import Colour, darker, lighter

LONG_STYLES: frozenset[HairStyle] = frozenset({"long", "waves", "shoulder", "bob"})

_CAP: tuple[Point, ...] = (
    (-11.6, 1.0),
    (-12.3, -6.0),
    (-8.6, -13.4),
    (0.0, -15.8),
    (8.6, -13.4),
    (12.3, -6.0),
    (11.6, 1.0),
    (10.0, -2.4),
    (8.6, -6.6),
)


def draw_hair_behind(brush: Brush, look: Look, hat: bool) -> None:
    """Draw the hair that hangs behind the neck; nothing for short styles."""
    style, colour = look.cues.hair, darker(look.hair_colour, 0.14)
    if style == "long":
        brush.blob(both_sides(((0, -15), (12, -8), (14, 10), (14, 27), (0, 30))), colour)
    elif style == "waves":
        for x, y, radius in (
            (-9, -8, 7), (9, -8, 7), (-12, 2, 6.5), (12, 2, 6.5),
            (-12.5, 11, 6.5), (12.5, 11, 6.5), (-11, 19, 5.5), (11, 19, 5.5), (0, 12, 10),
        ):  # fmt: skip
            brush.dot(x, y, radius, colour)
    elif style == "shoulder":
        brush.blob(both_sides(((0, -14), (12, -8), (13.4, 8), (12.4, 17), (0, 19))), colour)
    elif style == "bob":
        brush.blob(both_sides(((0, -14), (12, -8), (14.4, 5), (13, 12.5), (0, 12))), colour)
    elif style == "ponytail":
        brush.blob(((7, -9), (15, -10), (18, 2), (17, 15), (13.4, 22), (13, 10), (11, -2)), colour)
    elif style == "bun":
        place: Point = (8.5, 9.5) if hat else (0.0, -17.0)
        brush.dot(*place, 5.6, colour)
        brush.dot(place[0] - 1, place[1] - 1.2, 3.4, look.hair_colour)
    elif style == "curls":
        for x, y in ((-11, -5), (11, -5), (-10.5, -10), (10.5, -10)):
            brush.dot(x, y, 3.6, colour)


def draw_hair_before(brush: Brush, look: Look, hat: bool) -> None:
    """Draw the hair that frames the face, over the face."""
    style, colour = look.cues.hair, look.hair_colour
    if style == "balding":
        _sides(brush, colour)
        return
    if style == "curls":
        _curls(brush, colour)
        return
    hairline: tuple[Point, ...] = ((3.0, -9.2), (-3.0, -9.2))
    if style in ("parted", "long", "ponytail"):
        hairline = ((5.6, -7.6), (-4.6, -10.8))
    elif style == "crop":
        hairline = ((3.6, -9.8), (-3.6, -9.8))
    elif look.fringe and style in ("bob", "long", "pixie", "shoulder"):
        hairline = ((4.0, -5.2), (-4.0, -5.2))
    brush.blob((*_CAP, *hairline, (-8.6, -6.6), (-10.0, -2.4)), colour)
    if style == "parted":
        brush.blob(((-6, -11), (-2, -16.8), (7, -16), (12.2, -9), (8, -8.6), (0, -11.4)), colour)
    if style == "pixie":
        brush.blob(((8, -12), (-3, -10.5), (-8.6, -4.6), (-6, -10), (-2, -14)), darker(colour, 0.1))
    if style in LONG_STYLES:
        _locks(brush, style, colour)
    if not hat:
        brush.curve(((-7.2, -10.6), (-3.4, -13.2), (1.2, -13.8)), 0.9, lighter(colour, 0.22))


def _sides(brush: Brush, colour: Colour) -> None:
    for side in (-1, 1):
        brush.blob(
            (
                (side * 11.8, 2.4),
                (side * 12.2, -4.0),
                (side * 10.4, -8.6),
                (side * 8.8, -8.2),
                (side * 9.6, -3.0),
            ),
            colour,
        )


def _curls(brush: Brush, colour: Colour) -> None:
    for x, y, radius in (
        (-10.6, -4.4, 3.0), (10.6, -4.4, 3.0), (-9.4, -9.6, 4.0), (9.4, -9.6, 4.0),
        (-5.2, -12.8, 4.4), (5.2, -12.8, 4.4), (0, -13.8, 4.6),
        (-2.6, -10.8, 3.0), (3.2, -10.8, 3.0),
    ):  # fmt: skip
        brush.dot(x, y, radius, colour)
    for x, y in ((-5, -13.4), (1, -14.6), (6.4, -12)):
        brush.dot(x, y, 1.2, lighter(colour, 0.18))


def _locks(brush: Brush, style: HairStyle, colour: Colour) -> None:
    length = {"long": 25.0, "waves": 20.0, "shoulder": 15.5, "bob": 10.6}[style]
    for side in (-1, 1):
        brush.blob(
            (
                (side * 9.4, -8.0),
                (side * 12.4, -4.0),
                (side * 13.4, length * 0.45),
                (side * 12.8, length),
                (side * 10.2, length + 0.6),
                (side * 9.6, length * 0.5),
                (side * 10.4, 0.0),
            ),
            colour,
        )


def draw_hair_from_behind(brush: Brush, look: Look) -> None:
    """Draw a head of hair seen from behind, cut at the nape, alike for everyone."""
    colour = look.hair_colour
    right = ((0, -15.8), (6, -14.8), (11.2, -9), (11.6, -2), (10.4, 6), (7, 10.4), (0, 11.4))
    brush.blob(both_sides(right), colour)
    for x in (-5.0, 0.0, 5.0):
        brush.curve(((x, -9.0), (x * 1.15, -1.0), (x * 0.9, 7.0)), 0.7, darker(colour, 0.25))
    brush.curve(((-7.6, -9.6), (-3.4, -12.8), (1.4, -13.4)), 0.9, lighter(colour, 0.2))
