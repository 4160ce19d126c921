"""A whole person: body, clothes, head, arms, and the tool in hand.

The frame of a figure: the origin is the base of the neck, the middle of the face lies at
y = -16 and the hips at y = 46; the tool is on the side of positive x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from synthetic import hats, heads
from synthetic.brush import Brush, Point
from synthetic.clothes import draw_back, draw_front, draw_neck, draw_torso
from synthetic.hair import draw_hair_behind
from synthetic.looks import Look, choose_look
from synthetic.outfits import Outfit, choose_outfit
from synthetic.palette import Colour, darker, lighter
from synthetic.tools import HELD_TOOLS

_UPPER_ARM, _FOREARM = 18.0, 17.0

_GLASSES = {"librarian": 0.8, "teacher": 0.4, "secretary": 0.35, "doctor": 0.25, "nurse": 0.1}
_GLASSES_ELSEWHERE = 0.12


@dataclass(frozen=True)
class _Hold:
    """How a tool is held: where the hand is, how the tool is turned, where the other hand helps."""

    hand: Point
    turn: float
    helping_hand: Point | None = None


_HOLDS: dict[str, tuple[_Hold, ...]] = {
    "stethoscope": (_Hold((13.0, 31.0), 12.0), _Hold((16.0, 27.0), -6.0)),
    "clipboard": (
        _Hold((11.0, 37.0), 9.0, (-3.0, 34.0)),
        _Hold((17.0, 31.0), 14.0),
    ),
    "book": (_Hold((3.0, 34.0), 0.0, (-9.0, 34.0)), _Hold((16.0, 26.0), 12.0)),
    "flask": (_Hold((21.0, 4.0), 8.0), _Hold((20.0, 10.0), -8.0)),
    "pointer": (_Hold((22.0, 12.0), 32.0), _Hold((20.0, 18.0), 20.0)),
    "telephone": (_Hold((14.6, -13.0), 6.0),),
    "frying pan": (_Hold((20.0, 24.0), 34.0), _Hold((21.0, 19.0), 20.0)),
    "pitchfork": (_Hold((24.0, 14.0), 4.0), _Hold((23.0, 20.0), 9.0)),
    "hammer": (_Hold((23.0, 6.0), 10.0), _Hold((22.0, 14.0), 26.0)),
    "hose": (_Hold((17.0, 27.0), 56.0, (2.0, 36.0)), _Hold((18.0, 24.0), 44.0, (4.0, 34.0))),
}
_HOLD_FROM_BEHIND = {"telephone": (14.6, -13.0), "pitchfork": (25.0, 14.0), "book": (25.0, 20.0)}


def draw_person(
    brush: Brush,
    random: Random,
    *,
    gender: str | None,
    tone: str,
    occupation: str | None,
    tool: str | None,
) -> None:
    """Draw a person at the origin of the brush.

    `gender` is the perceived gender to suggest, or None to hide face and hair and draw no cue;
    `tone` is a key of `palette.SKINS`. Clothes, pose and tool never depend on `gender`.
    """
    # Separate streams keep clothes and pose the same when only the gender of a picture differs.
    look_random, other_random = Random(random.getrandbits(64)), Random(random.getrandbits(64))
    glasses = _GLASSES.get(occupation or "", _GLASSES_ELSEWHERE)
    look = choose_look(look_random, gender, tone, occupation, glasses)
    outfit = choose_outfit(other_random, occupation)
    if look.view == "covered":
        # Bare hands: the tone of the skin stays visible when the face does not.
        outfit = replace(outfit, gloves=None)
    head = brush.placed(0, -16, turn=look.tilt)
    hat = occupation in hats.TRADES_WITH_HATS
    wide = look.cues.shoulder
    behind = look.view == "behind"
    if look.view == "front":
        draw_hair_behind(head, look, hat)
    if not behind:
        draw_torso(brush, outfit, wide)
        draw_neck(brush, look.skin, turned_away=False)
        draw_front(brush, outfit, look.skin, wide)
        _draw_head(head, look, outfit, hat)
        _draw_arms(brush, other_random, look, outfit, tool)
        return
    _draw_arms(brush, other_random, look, outfit, tool)
    draw_torso(brush, outfit, wide)
    draw_neck(brush, look.skin, turned_away=True)
    draw_back(brush, outfit, wide)
    _draw_head(head, look, outfit, hat)


def _draw_head(head: Brush, look: Look, outfit: Outfit, hat: bool) -> None:
    heads.draw_head(head, look, hat)
    if look.view == "covered":
        _draw_cover(head, outfit)
        return
    if outfit.trade == "scientist" and look.view == "front":
        heads.draw_safety_glasses(head)
    hats.draw_hat(head, outfit.trade, outfit.hat, look.view == "behind")


def _draw_cover(head: Brush, outfit: Outfit) -> None:
    """Draw what hides face and hair: what the trade wears, or a woollen hat and a scarf."""
    if outfit.trade == "firefighter":
        hood = ((-12.4, -8), (0, -15), (12.4, -8), (12.8, 6), (9, 15), (-9, 15), (-12.8, 6))
        head.blob(hood, darker(outfit.body, 0.4))
        heads.draw_breathing_mask(head)
        hats.draw_fire_helmet(head, outfit.hat)
    elif outfit.trade == "construction worker":
        heads.draw_dust_hood(head, outfit.under)
        hats.draw_hard_hat(head, outfit.hat)
    elif outfit.trade == "scientist":
        heads.draw_surgical_cover(head, lighter(outfit.under, 0.45))
        heads.draw_safety_glasses(head)
    elif outfit.trade is None:
        heads.draw_winter_cover(head, outfit.accent, lighter(outfit.accent, 0.3))
    else:
        cloth = outfit.body if outfit.trade == "nurse" else (112, 170, 158)
        heads.draw_surgical_cover(head, cloth)


def _draw_arms(brush: Brush, random: Random, look: Look, outfit: Outfit, tool: str | None) -> None:
    """Draw both arms; the arm with the tool lies on top."""
    wide = look.cues.shoulder
    rest = random.choice(((-(wide + 3.5), 44.0), (-(wide - 3.0), 39.0)))
    if tool is None:
        other_side = (wide + 3.5, 44.0) if random.random() < 0.5 else (wide - 3.0, 39.0)
        for hand in (rest, other_side):
            _draw_arm(brush, look, outfit, math.copysign(wide, hand[0]), hand)
            _draw_hand(brush, look, outfit, hand)
        return
    hold = random.choice(_HOLDS[tool])
    if look.view == "behind":
        # In front of the chest a tool would be hidden by the back, so it is held out sideways.
        hold = _Hold(_HOLD_FROM_BEHIND.get(tool, (25.0, 12.0)), max(hold.turn, 10.0))
    jitter_x, jitter_y = random.uniform(-1.5, 1.5), random.uniform(-2.0, 2.0)
    hand = hold.hand[0] + jitter_x, hold.hand[1] + jitter_y
    helping = hold.helping_hand
    other = (helping[0] + jitter_x, helping[1] + jitter_y) if helping else rest
    _draw_arm(brush, look, outfit, -wide, other)
    if helping is None:
        _draw_hand(brush, look, outfit, other)
    _draw_arm(brush, look, outfit, wide, hand)
    tool_brush = brush.placed(*hand, turn=hold.turn + random.uniform(-6.0, 6.0))
    HELD_TOOLS[tool](tool_brush, random)
    _draw_hand(brush, look, outfit, hand)
    if helping is not None:
        _draw_hand(brush, look, outfit, other)


def _elbow(shoulder: Point, hand: Point) -> Point:
    """Return where the elbow lies for fixed lengths of upper arm and forearm."""
    across, down = hand[0] - shoulder[0], hand[1] - shoulder[1]
    reach = max(math.hypot(across, down), 1e-6)
    along = (reach**2 + _UPPER_ARM**2 - _FOREARM**2) / (2 * reach)
    if reach >= _UPPER_ARM + _FOREARM:
        along = reach * _UPPER_ARM / (_UPPER_ARM + _FOREARM)
    bend = math.sqrt(max(_UPPER_ARM**2 - along**2, 0.0))
    unit = across / reach, down / reach
    middle = shoulder[0] + unit[0] * along, shoulder[1] + unit[1] * along
    outward = math.copysign(0.6, shoulder[0])
    # An elbow hangs: of the two places which fit, take the lower, or else the outer one.
    side = 1.0 if unit[1] * outward >= unit[0] else -1.0
    return middle[0] + side * unit[1] * bend, middle[1] - side * unit[0] * bend


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _draw_arm(brush: Brush, look: Look, outfit: Outfit, wide: float, hand: Point) -> None:
    """Draw the arm of the side to which `wide`, half the signed shoulder width, points."""
    shoulder = wide - math.copysign(4.2, wide), 7.4
    elbow = _elbow(shoulder, hand)
    sleeve, edge = outfit.sleeve, darker(outfit.sleeve, 0.24)
    if outfit.long_sleeves:
        brush.limb(shoulder, elbow, 11.2, 9.4, edge)
        brush.limb(elbow, hand, 9.4, 7.6, edge)
        brush.limb(elbow, hand, 8.2, 6.4, sleeve)
        brush.limb(shoulder, elbow, 10.0, 8.2, sleeve)
    else:
        hem = _between(shoulder, elbow, 0.62)
        for width, colour in ((1.0, look.skin.shadow), (0.0, look.skin.fill)):
            brush.limb(shoulder, elbow, 7.2 + width, 6.6 + width, colour)
            brush.limb(elbow, hand, 6.6 + width, 5.0 + width, colour)
        brush.limb(shoulder, hem, 11.2, 10.6, edge)
        brush.limb(shoulder, hem, 10.0, 9.4, sleeve)
    if outfit.trade == "firefighter":
        brush.limb(_between(elbow, hand, 0.5), _between(elbow, hand, 0.68), 7.2, 6.9, outfit.accent)
    elif outfit.trade in ("cook", "doctor"):
        brush.limb(_between(elbow, hand, 0.8), hand, 7.4, 7.2, darker(sleeve, 0.07))


def _draw_hand(brush: Brush, look: Look, outfit: Outfit, hand: Point) -> None:
    x, y = hand
    fill: Colour = outfit.gloves or look.skin.fill
    line = darker(fill, 0.25) if outfit.gloves else look.skin.shadow
    brush.ellipse(x, y, 4.0, 3.7, line)
    brush.ellipse(x, y - 0.3, 3.6, 3.3, fill)
    for finger in (-1.2, 0.9):
        brush.stroke(((x - 0.6, y + finger), (x + 2.6, y + finger)), 0.6, line)
