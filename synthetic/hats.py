"""Headgear of the trades, in the frame of `synthetic.hair`."""

from __future__ import annotations

from synthetic.brush import Brush, both_sides
from synthetic.palette import RED, STRAW, WHITE, YELLOW, Colour, darker, lighter, mix

TRADES_WITH_HATS = frozenset({"nurse", "cook", "farmer", "construction worker", "firefighter"})


def draw_nurse_cap(brush: Brush) -> None:
    """Draw a folded white cap with a red cross."""
    brush.blob(both_sides(((0, -20.4), (11.4, -17.4), (9.6, -9.4), (0, -11.8))), WHITE)
    brush.curve(((-9.4, -10), (0, -12.2), (9.4, -10)), 1.3, (206, 214, 220))
    brush.rectangle(-1.2, -19.0, 1.2, -12.6, RED)
    brush.rectangle(-3.3, -17.0, 3.3, -14.6, RED)


def draw_toque(brush: Brush) -> None:
    """Draw the tall pleated hat of a cook."""
    fold = (216, 212, 206)
    brush.rounded(-11.4, -26, 11.4, -14, 3.0, WHITE)
    for x, y, radius in (
        (-9.4, -24.4, 5.4),
        (-3.2, -27.2, 5.8),
        (4.0, -27.0, 5.8),
        (9.6, -24.0, 5.4),
    ):
        brush.dot(x, y, radius, WHITE)
    for x in (-5.6, 0.0, 5.6):
        brush.curve(((x, -15), (x * 1.1, -19), (x * 1.2, -23)), 0.7, fold)
    brush.rounded(-12.0, -15.4, 12.0, -8.2, 1.6, (244, 240, 232))
    brush.stroke(((-11.6, -8.6), (11.6, -8.6)), 0.9, fold)


def draw_straw_hat(brush: Brush, straw: Colour = STRAW) -> None:
    """Draw a wide straw hat with a red band."""
    dark = darker(straw, 0.2)
    brush.ellipse(0, -8.2, 21.0, 5.0, dark)
    brush.ellipse(0, -9.0, 21.0, 4.6, straw)
    brush.blob(both_sides(((0, -20), (5, -21), (10.4, -18), (11.4, -9), (0, -6.8))), straw)
    brush.polygon(both_sides(((11.4, -12.4), (11.6, -9.0), (0, -6.8))), RED)
    for x in (-5.0, 0.0, 5.0):
        brush.stroke(((x, -18.6), (x * 1.1, -13.6)), 0.6, dark)


def draw_hard_hat(brush: Brush, shell: Colour) -> None:
    """Draw a hard hat with a ridge and a peak."""
    brush.blob(both_sides(((0, -20.8), (7, -19.4), (12.2, -13), (12.6, -6.4), (0, -7.4))), shell)
    brush.blob(((4, -19.6), (10, -17), (12.4, -9), (12.4, -6.6), (7.4, -7.2)), darker(shell, 0.12))
    brush.rounded(-2.2, -21.6, 2.2, -8, 1.8, lighter(shell, 0.36))
    brush.blob(both_sides(((0, -9.6), (12, -8.4), (14.4, -5.6), (0, -6.2))), darker(shell, 0.2))


def draw_fire_helmet(brush: Brush, shell: Colour, from_behind: bool = False) -> None:
    """Draw a fire helmet: combed shell, wide brim, and a badge on its front."""
    dark = darker(shell, 0.24)
    brush.blob(both_sides(((0, -21.6), (6, -20.4), (11.6, -15), (12.6, -8), (0, -8))), shell)
    for x in (-6.0, 6.0):
        brush.curve(((x * 1.3, -9), (x * 1.1, -15), (x * 0.4, -20.6)), 1.0, dark)
    brush.blob(both_sides(((0, -10.4), (12.6, -9.4), (17, -5.4), (10, -7), (0, -7.4))), dark)
    if from_behind:
        return
    badge = YELLOW if shell[1] < 150 else RED
    brush.polygon(both_sides(((4.4, -19.6), (5, -12), (0, -8.6))), badge)
    brush.polygon(both_sides(((2.4, -17.4), (2.8, -13), (0, -11))), mix(badge, WHITE, 0.62))


def draw_head_mirror(brush: Brush) -> None:
    """Draw the round mirror on a band that a doctor wears on the forehead."""
    brush.curve(((-11.6, -6.8), (0, -10.4), (11.6, -6.8)), 1.6, (86, 88, 98))
    brush.dot(0.6, -11.2, 4.4, (150, 160, 170))
    brush.dot(0.6, -11.2, 3.4, (224, 234, 238))
    brush.dot(0.6, -11.2, 0.9, (120, 130, 140))


def draw_hat(brush: Brush, trade: str | None, shell: Colour, from_behind: bool) -> None:
    """Draw the headgear of the trade, if it has any."""
    if trade == "nurse":
        draw_nurse_cap(brush)
    elif trade == "cook":
        draw_toque(brush)
    elif trade == "farmer":
        draw_straw_hat(brush, shell)
    elif trade == "construction worker":
        draw_hard_hat(brush, shell)
    elif trade == "firefighter":
        draw_fire_helmet(brush, shell, from_behind)
    elif trade == "doctor" and not from_behind:
        draw_head_mirror(brush)
