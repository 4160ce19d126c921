"""Heads: neck, ears, face and what is worn on the face, in the frame of `synthetic.hair`."""

from __future__ import annotations

from synthetic.brush import Brush, both_sides
from synthetic.hair import draw_hair_before, draw_hair_from_behind
from synthetic.looks import Look
from synthetic.palette import GLASS, INK, IRON, STEEL, WHITE, Colour, darker, lighter, mix


def draw_head(brush: Brush, look: Look, hat: bool) -> None:
    """Draw the head without its headgear; `hat` says that a hat will follow."""
    skin = look.skin
    for side in (-1, 1):
        brush.ellipse(side * 11.0, 1.2, 2.2, 3.0, skin.fill)
        brush.ellipse(side * 11.2, 1.4, 1.0, 1.6, skin.shadow)
    if look.view == "behind":
        draw_hair_from_behind(brush, look)
        return
    jaw = look.cues.jaw
    right = ((0, -13), (7.6, -11), (10.9, -4), (10.6, 4), (jaw, 10), (3.4, 13))
    brush.blob(both_sides(right), skin.fill)
    if look.view == "covered":
        _draw_eyes(brush, look)
        return
    for side in (-1, 1):
        brush.ellipse(side * 6.6, 4.6, 2.4, 1.6, skin.cheek)
    _draw_beard(brush, look)
    _draw_eyes(brush, look)
    brush.curve(((0.6, 0.8), (1.5, 4.2), (-0.5, 4.8)), 0.8, skin.line)
    _draw_mouth(brush, look)
    draw_hair_before(brush, look, hat)
    if look.cues.earrings:
        for side in (-1, 1):
            brush.dot(side * 11.4, 5.2, 1.3, look.cues.earrings)
    if look.glasses:
        draw_glasses(brush)


def _draw_eyes(brush: Brush, look: Look) -> None:
    brow = darker(look.hair_colour, 0.3)
    for side in (-1, 1):
        brush.ellipse(side * 4.5, -0.6, 2.1, 1.6, WHITE)
        brush.dot(side * 4.4, -0.5, 1.35, INK)
        if look.cues.lashes:
            lash = ((side * 2.4, -1.8), (side * 4.6, -2.7), (side * 7.4, -2.5))
            brush.curve(lash, 0.9, INK)
        arch = 0.4 + 0.5 * look.smile
        corners = ((side * 2.4, -4.9), (side * 4.8, -5.0 - arch), (side * 7.0, -4.0))
        brush.curve(corners, look.cues.brow, brow)


def _draw_mouth(brush: Brush, look: Look) -> None:
    dip = 7.8 + look.smile
    if look.cues.lips:
        brush.blob(
            ((-3.6, 7.6), (0, 7.2), (3.6, 7.6), (1.8, dip + 0.5), (-1.8, dip + 0.5)), look.cues.lips
        )
        brush.curve(((-3.0, 7.9), (0, 8.2), (3.0, 7.9)), 0.5, darker(look.cues.lips, 0.4))
    elif look.smile > 1.35:
        brush.blob(((-3.8, 7.2), (0, 7.5), (3.8, 7.2), (1.9, dip + 1.2), (-1.9, dip + 1.2)), WHITE)
        brush.curve(((-4.0, 7.2), (0, dip + 1.8), (4.0, 7.2)), 0.7, look.skin.line)
    else:
        brush.curve(((-3.6, 7.5), (0, dip + 0.8), (3.6, 7.5)), 0.9, look.skin.line)


def _draw_beard(brush: Brush, look: Look) -> None:
    beard, jaw = look.cues.beard, look.cues.jaw
    if beard == "none":
        return
    full = mix(look.hair_colour, look.skin.fill, 0.06)
    colour = full if beard != "stubble" else mix(look.skin.fill, look.hair_colour, 0.34)
    if beard != "moustache":
        deep = 14.6 if beard == "beard" else 13.1
        outer = (
            (0.0, 5.4),
            (5.0, 5.8),
            (8.4, 4.6),
            (11.0, 1.0),
            (10.8, 6.0),
            (jaw, 11.4),
            (3.2, deep),
        )
        brush.blob(both_sides(outer), colour)
        brush.ellipse(0, 8.2, 3.6, 1.7, mix(look.skin.fill, look.skin.lips, 0.35))
    if beard in ("moustache", "beard"):
        brush.blob(both_sides(((0, 5.8), (2.6, 5.2), (5.4, 7.4), (0, 7.2))), full)


_RIM = (
    (1, 0),
    (0.7, 0.7),
    (0, 1),
    (-0.7, 0.7),
    (-1, 0),
    (-0.7, -0.7),
    (0, -1),
    (0.7, -0.7),
    (1, 0),
)


def draw_glasses(brush: Brush, frame: Colour = INK) -> None:
    """Draw round glasses: rims only, so that the eyes stay visible."""
    for side in (-1, 1):
        brush.curve([(side * 4.6 + 3.5 * x, -0.4 + 3.2 * y) for x, y in _RIM], 0.8, frame)
        brush.stroke(((side * 8.1, -1.0), (side * 10.8, -1.6)), 0.8, frame)
    brush.stroke(((-1.1, -1.0), (1.1, -1.0)), 0.8, frame)


def draw_safety_glasses(brush: Brush) -> None:
    """Draw the wide goggles of a laboratory over the eyes."""
    brush.rounded(-9.4, -4.4, 9.4, 3.0, 2.6, darker(GLASS, 0.35))
    brush.rounded(-8.4, -3.5, 8.4, 2.1, 2.0, lighter(GLASS, 0.3))
    brush.stroke(((9.2, -1), (11.2, -1.4)), 1.4, IRON)
    brush.stroke(((-9.2, -1), (-11.2, -1.4)), 1.4, IRON)


def draw_surgical_cover(brush: Brush, cloth: Colour) -> None:
    """Draw a surgical mask and a cap that takes in all the hair."""
    draw_face_mask(brush, lighter(cloth, 0.6))
    brush.blob(
        both_sides(((0, -17.4), (7, -16), (12.4, -9), (12, -3.6), (0, -6.4))),
        cloth,
    )
    brush.curve(((-12, -3.8), (0, -6.6), (12, -3.8)), 1.6, darker(cloth, 0.16))


def draw_face_mask(brush: Brush, cloth: Colour) -> None:
    """Draw a pleated mask over nose, mouth and chin."""
    brush.blob(both_sides(((0, 1.6), (4, 2.0), (10.6, 3), (8.8, 10.4), (3.6, 13.8))), cloth)
    for y in (5.4, 8.0, 10.6):
        brush.curve(((-7.4, y), (0, y - 0.5), (7.4, y)), 0.5, darker(cloth, 0.14))


def draw_winter_cover(brush: Brush, wool: Colour, scarf: Colour) -> None:
    """Draw a woollen hat over all the hair, and a scarf over mouth, chin and neck."""
    brush.blob(both_sides(((0, 2.4), (6, 3.0), (12.2, 5), (11.6, 14), (5, 19.5))), scarf)
    for y in (7.4, 11.8, 16.0):
        brush.curve(((-9.6, y), (0, y + 1.4), (9.6, y)), 0.9, darker(scarf, 0.16))
    brush.blob(both_sides(((0, -18.6), (7.4, -17), (13.0, -9), (12.6, -4.4), (0, -5.6))), wool)
    brush.rounded(-13.2, -9.6, 13.2, -4.2, 2.4, darker(wool, 0.14))
    brush.dot(0, -19.4, 3.2, lighter(wool, 0.25))


def draw_breathing_mask(brush: Brush) -> None:
    """Draw a full mask with a mirrored visor, as worn in smoke."""
    brush.blob(both_sides(((10.8, -9), (11.4, 3), (6.6, 13.4))), IRON)
    brush.blob(both_sides(((8.8, -6.6), (8.8, 2.4), (4.6, 6.4))), (94, 142, 158))
    brush.polygon(((-6.6, -5), (-2.0, -5), (-5.4, 3.4), (-7.4, 1.4)), (170, 206, 212))
    brush.dot(0, 10.4, 3.4, STEEL)
    brush.dot(0, 10.4, 1.7, darker(IRON, 0.3))


def draw_dust_hood(brush: Brush, cloth: Colour) -> None:
    """Draw a dark safety visor and a hood which together hide face and hair."""
    brush.blob(both_sides(((0, -15), (12.6, -10), (13.2, 4), (9, 14))), cloth)
    brush.rounded(-9.0, -5.4, 9.0, 3.4, 2.4, (64, 84, 98))
    brush.polygon(((-6, -4.8), (-2, -4.8), (-5, 2.8), (-7.4, 2.8)), (136, 166, 176))
    draw_face_mask(brush, lighter(cloth, 0.55))
