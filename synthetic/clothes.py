"""Torsos in the clothes of each trade.

The frame of a torso: the origin is the base of the neck, shoulders lie near y = 6 and the waist
at y = 36. `wide` is half the width of the shoulders.
"""

from __future__ import annotations

from collections.abc import Callable

from synthetic.brush import Brush, both_sides
from synthetic.outfits import Outfit
from synthetic.palette import INK, RED, SILVER, STEEL, WHITE, YELLOW, Colour, Skin, darker, lighter

Dress = Callable[[Brush, Outfit, Skin, float], None]


def draw_torso(brush: Brush, outfit: Outfit, wide: float) -> None:
    """Draw trousers and the plain torso, shaded on one side."""
    waist = wide * 0.78
    brush.polygon(((-waist, 40), (waist, 40), (waist + 2, 72), (-waist - 2, 72)), outfit.trousers)
    side = (
        (wide - 5.0, 2.4),
        (wide + 0.6, 6.6),
        (wide + 1.2, 14.0),
        (waist + 1.0, 30.0),
        (waist + 1.6, 44.0),
    )
    brush.blob(both_sides(((5.0, -0.6), *side)), outfit.body)
    shade = (
        (waist * 0.5, 18),
        (wide, 12.0),
        (waist + 1.0, 30.0),
        (waist + 1.6, 44.0),
        (waist * 0.6, 44),
    )
    brush.blob(shade, darker(outfit.body, 0.09))


def draw_neck(brush: Brush, skin: Skin, turned_away: bool) -> None:
    """Draw the neck, in shadow below the chin when seen from the front."""
    brush.polygon(((-5.2, -10), (5.2, -10), (5.8, 2.4), (-5.8, 2.4)), skin.shadow)
    if turned_away:
        return
    brush.ellipse(0, 2.2, 5.8, 3.0, skin.fill)


def _open_front(brush: Brush, outfit: Outfit, deep: float) -> None:
    """Shirt seen in the opening of a coat or jacket, with its collar."""
    brush.polygon(
        ((-6.6, -0.4), (6.6, -0.4), (3.2, deep * 0.6), (0, deep), (-3.2, deep * 0.6)), outfit.under
    )


def _lapels(brush: Brush, colour: Colour, deep: float) -> None:
    for side in (-1, 1):
        brush.polygon(
            (
                (side * 6.0, -1.4),
                (side * 10.4, 4.6),
                (side * 8.0, 7.4),
                (side * 9.2, 9.6),
                (side * 0.4, deep),
                (side * 4.4, 5.0),
            ),
            colour,
        )


def _collar(brush: Brush, colour: Colour) -> None:
    for side in (-1, 1):
        brush.polygon(
            ((side * 5.2, -2.4), (side * 7.2, 1.6), (side * 3.2, 5.6), (0, 2.6), (side * 3.6, 0.6)),
            colour,
        )


def _buttons(brush: Brush, colour: Colour, x: float, *heights: float) -> None:
    for y in heights:
        brush.dot(x, y, 0.9, colour)


def _dress_nurse(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    trim = lighter(outfit.body, 0.42)
    brush.polygon(((-5.8, -1), (5.8, -1), (0, 10.5)), skin.fill)
    brush.stroke(((-6.2, -1), (0, 10.8), (6.2, -1)), 1.8, trim)
    brush.rounded(-12.6, 30, -4.6, 39, 1.0, darker(outfit.body, 0.12))
    brush.stroke(((-12.4, 31), (-4.8, 31)), 0.9, trim)
    tube = (58, 60, 70)
    brush.curve(((-6.4, -2), (-8.6, 8), (-5.6, 16), (-1.6, 20.5)), 1.5, tube)
    brush.curve(((6.4, -2), (8.6, 8), (5.6, 16), (1.6, 20.5), (-1.6, 20.5)), 1.5, tube)


def _dress_doctor(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    coat = outfit.body
    _open_front(brush, outfit, 25)
    brush.stroke(((0, 25), (0, 48)), 0.9, darker(coat, 0.22))
    if outfit.variant:
        brush.polygon(both_sides(((1.9, 3), (2.6, 20), (0, 24))), outfit.accent)
        brush.polygon(((-2.3, 2), (2.3, 2), (1.5, 6), (-1.5, 6)), darker(outfit.accent, 0.16))
    else:
        _buttons(brush, darker(outfit.under, 0.3), 0, 8, 13, 18)
    _collar(brush, lighter(outfit.under, 0.4))
    _lapels(brush, darker(coat, 0.1), 25)
    brush.rectangle(-13.0, 17, -6.4, 24, darker(coat, 0.1))
    brush.rectangle(-10.5, 18.2, -8.9, 23, RED)
    brush.rectangle(-12.1, 19.8, -7.3, 21.4, RED)


def _dress_scientist(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    coat = outfit.body
    _open_front(brush, outfit, 23)
    brush.rounded(-5.8, -3.0, 5.8, 2.4, 1.6, lighter(outfit.under, 0.12))
    brush.stroke(((0, 23), (0, 48)), 0.9, darker(coat, 0.22))
    _lapels(brush, darker(coat, 0.1), 23)
    brush.rectangle(-13.0, 17, -6.4, 24, darker(coat, 0.1))
    for x, colour in ((-11.6, RED), (-9.8, INK)):
        brush.stroke(((x, 14.2), (x, 18)), 0.9, colour)
    _buttons(brush, darker(coat, 0.3), 1.8, 28, 35)


def _dress_librarian(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    _open_front(brush, outfit, 30)
    _buttons(brush, darker(outfit.under, 0.3), 0, 9, 15, 21)
    _collar(brush, lighter(outfit.under, 0.35))
    edge = lighter(outfit.body, 0.22)
    for side in (-1, 1):
        brush.curve(((side * 6.8, -1), (side * 4.4, 14), (0, 30)), 1.8, edge)
    brush.stroke(((0, 30), (0, 48)), 1.6, edge)
    _buttons(brush, darker(outfit.body, 0.4), 1.8, 34, 40)


def _dress_teacher(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    if outfit.variant:
        _open_front(brush, outfit, 17)
        _collar(brush, lighter(outfit.under, 0.35))
        knit = lighter(outfit.body, 0.25)
        brush.stroke(((-6.4, 0), (0, 17.4), (6.4, 0)), 1.8, knit)
        for y in (24, 31, 38):
            for x in (-8, 0, 8):
                brush.polygon(((x - 2.6, y), (x, y - 3), (x + 2.6, y), (x, y + 3)), knit)
        return
    _open_front(brush, outfit, 24)
    _buttons(brush, darker(outfit.under, 0.3), 0, 8, 14, 19)
    _collar(brush, lighter(outfit.under, 0.35))
    _lapels(brush, lighter(outfit.body, 0.14), 24)
    brush.stroke(((0, 24), (0, 48)), 0.9, darker(outfit.body, 0.25))
    _buttons(brush, darker(outfit.body, 0.4), 1.8, 29, 36)


def _dress_secretary(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    _open_front(brush, outfit, 26)
    brush.polygon(((-4.0, -1), (4.0, -1), (0, 7)), skin.fill)
    _lapels(brush, lighter(outfit.body, 0.16), 26)
    brush.stroke(((0, 26), (0, 48)), 0.9, darker(outfit.body, 0.25))
    brush.rounded(-13.4, 16, -7.0, 20.4, 0.8, WHITE)
    brush.stroke(((-12.2, 17.6), (-8.4, 17.6)), 0.7, outfit.accent)
    brush.stroke(((-12.2, 19.0), (-9.6, 19.0)), 0.6, STEEL)


def _dress_cook(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    seam = darker(outfit.body, 0.16)
    brush.curve(((-6.0, 0), (7.6, 10), (8.0, 44)), 0.8, seam)
    for y in (13, 20, 27, 34):
        _buttons(brush, darker(outfit.body, 0.55), -4.6, y)
        _buttons(brush, darker(outfit.body, 0.55), 4.6, y)
    brush.blob(both_sides(((0, 0.6), (6.6, -2.4), (7.2, 2.4), (0, 5.6))), outfit.accent)
    knot = darker(outfit.accent, 0.14)
    brush.polygon(((0, 4), (-4.2, 10.4), (-0.4, 9)), knot)
    brush.polygon(((0, 4), (4.2, 10.4), (0.4, 9)), knot)
    brush.polygon(
        ((-wide * 0.8, 40), (wide * 0.8, 40), (wide * 0.86, 72), (-wide * 0.86, 72)), outfit.accent
    )


def _checks(brush: Brush, colour: Colour, wide: float) -> None:
    dark, light = darker(colour, 0.22), lighter(colour, 0.3)
    for y in (7.0, 13.0, 19.0):
        brush.rectangle(-wide + 0.4, y, wide - 0.4, y + 1.5, dark)
    for x in (-13.0, -8.0, 8.0, 13.0):
        brush.rectangle(x - 0.7, 4.0, x + 0.7, 25, light)


def _dress_farmer(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    denim = outfit.body
    brush.blob(
        ((-5, -0.6), (5, -0.6), (wide, 4.6), (wide, 26), (-wide, 26), (-wide, 4.6)), outfit.under
    )
    _checks(brush, outfit.under, wide)
    brush.polygon(((-3.6, -1), (3.6, -1), (0, 5)), skin.fill)
    _collar(brush, darker(outfit.under, 0.12))
    _bib(brush, denim, 14.0)
    for side in (-1, 1):
        brush.stroke(((side * 9.6, 1.0), (side * 8.2, 16)), 3.2, lighter(denim, 0.06))
        brush.dot(side * 8.2, 16.6, 1.3, outfit.accent)
    brush.rounded(-5.0, 20, 5.0, 29, 1.2, darker(denim, 0.16))
    brush.stroke(((-4.4, 21.6), (4.4, 21.6)), 0.7, lighter(denim, 0.36))


def _bib(brush: Brush, denim: Colour, top: float) -> None:
    brush.polygon(
        (
            (-9.6, top),
            (9.6, top),
            (11.6, 32),
            (17, 37),
            (17, 72),
            (-17, 72),
            (-17, 37),
            (-11.6, 32),
        ),
        denim,
    )


def _reflective(brush: Brush, outfit: Outfit, wide: float, *heights: float) -> None:
    for y in heights:
        brush.rectangle(-wide + 1.4, y, wide - 1.4, y + 4.6, outfit.accent)
        brush.rectangle(-wide + 1.4, y + 1.5, wide - 1.4, y + 3.1, SILVER)


def _vest(brush: Brush, outfit: Outfit, wide: float) -> None:
    """Reflective bands of a work vest over shoulders and waist."""
    band, edge = outfit.accent, (YELLOW if outfit.body[1] < 180 else (236, 120, 44))
    for side in (-1, 1):
        brush.stroke(((side * 9.8, 0.8), (side * 9.4, 44)), 4.6, edge)
        brush.stroke(((side * 9.8, 0.8), (side * 9.4, 44)), 2.6, band)
    brush.rectangle(-wide * 0.84, 26, wide * 0.84, 31.6, edge)
    brush.rectangle(-wide * 0.84, 27.2, wide * 0.84, 30.4, band)


def _dress_builder(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    brush.polygon(((-7.0, -0.6), (7.0, -0.6), (0, 15)), outfit.under)
    brush.polygon(((-3.4, -1), (3.4, -1), (0, 4.6)), skin.fill)
    _collar(brush, darker(outfit.under, 0.16))
    _vest(brush, outfit, wide)
    brush.stroke(((0, 15), (0, 44)), 0.9, darker(outfit.body, 0.3))


def _dress_firefighter(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    collar = darker(outfit.body, 0.24)
    brush.polygon(both_sides(((0, 3), (4.4, -3.4), (7.4, -3.4), (8.4, 4.6))), collar)
    _reflective(brush, outfit, wide, 14.0)
    _reflective(brush, outfit, wide * 0.84, 34.0)
    brush.rectangle(-1.7, 4, 1.7, 48, collar)
    for y in (10, 24, 30):
        brush.rectangle(-2.6, y, 2.6, y + 1.5, SILVER)


def _dress_everyday(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    if outfit.variant:
        brush.ellipse(0, 0.6, 7.0, 4.4, lighter(outfit.body, 0.24))
        brush.ellipse(0, 0.0, 5.8, 3.6, skin.fill)
        stripe = lighter(outfit.body, 0.42)
        for y in (14, 22, 30):
            brush.rectangle(-wide * 0.86, y, wide * 0.86, y + 2.6, stripe)
        return
    _open_front(brush, outfit, 20)
    _collar(brush, lighter(outfit.under, 0.35))
    brush.stroke(((0, 16), (0, 48)), 1.0, darker(outfit.body, 0.25))


_FRONTS: dict[str | None, Dress] = {
    "nurse": _dress_nurse,
    "doctor": _dress_doctor,
    "librarian": _dress_librarian,
    "scientist": _dress_scientist,
    "teacher": _dress_teacher,
    "secretary": _dress_secretary,
    "cook": _dress_cook,
    "farmer": _dress_farmer,
    "construction worker": _dress_builder,
    "firefighter": _dress_firefighter,
    None: _dress_everyday,
}


def draw_front(brush: Brush, outfit: Outfit, skin: Skin, wide: float) -> None:
    """Draw what the trade wears on the chest, over torso and neck."""
    _FRONTS[outfit.trade](brush, outfit, skin, wide)


def draw_back(brush: Brush, outfit: Outfit, wide: float) -> None:
    """Draw what the trade wears as seen from behind, over torso and neck."""
    seam = darker(outfit.body, 0.2)
    brush.polygon(((-6.6, -2.6), (6.6, -2.6), (8.2, 2.6), (-8.2, 2.6)), darker(outfit.body, 0.12))
    if outfit.trade == "farmer":
        brush.blob(
            ((-6, -2), (6, -2), (wide, 4.6), (wide, 26), (-wide, 26), (-wide, 4.6)), outfit.under
        )
        _checks(brush, outfit.under, wide)
        _bib(brush, outfit.body, 27)
        brush.stroke(((-9, 1), (7, 28)), 3.2, outfit.body)
        brush.stroke(((9, 1), (-7, 28)), 3.2, outfit.body)
    elif outfit.trade == "construction worker":
        _vest(brush, outfit, wide)
    elif outfit.trade == "firefighter":
        _reflective(brush, outfit, wide, 14.0)
        _reflective(brush, outfit, wide * 0.84, 34.0)
    elif outfit.trade == "cook":
        brush.blob(both_sides(((6.8, -3), (7.4, 2), (0, 8.6))), outfit.accent)
        brush.stroke(((-15, 36), (15, 36)), 1.8, outfit.accent)
        brush.polygon(((0, 36), (-5, 46), (-1.6, 46)), outfit.accent)
        brush.polygon(((0, 36), (5, 46), (1.6, 46)), outfit.accent)
    else:
        brush.stroke(((0, 4), (0, 48)), 0.9, seam)
