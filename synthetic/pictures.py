"""Draws a planned picture: background, person or tool, foreground, and the light on it all."""

from __future__ import annotations

from random import Random

from PIL import Image

from synthetic.brush import UNITS, Brush
from synthetic.figures import draw_person
from synthetic.palette import WARM_WALLS
from synthetic.scenes import draw_background, draw_foreground
from synthetic.still_life import draw_still_life
from synthetic.world import PictureSpec

_SUPERSAMPLING = 2


def _light_table(red: float, green: float, blue: float) -> list[int]:
    return [min(255, round(value * gain)) for gain in (red, green, blue) for value in range(256)]


# Daylight, evening, lamp light, overcast, shade: gains of red, green and blue.
_LIGHTS = tuple(
    _light_table(*gains)
    for gains in (
        (1.0, 1.0, 1.0),
        (1.03, 0.99, 0.92),
        (1.0, 0.96, 0.87),
        (0.94, 0.98, 1.03),
        (0.9, 0.91, 0.92),
        (1.05, 1.04, 1.02),
    )
)


def draw_picture(spec: PictureSpec, size: int) -> Image.Image:
    """Draw the picture as RGB, `size` pixels wide and high; the same for the same arguments.

    Without `gender_visible` a person is drawn without any cue of gender, so that the pixels do
    not depend on `spec.gender`. Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size {size} is below 1: give the picture at least one pixel")
    seeds = Random(spec.picture_seed)
    # One stream for each part: changing the gender of a picture changes nothing behind it.
    behind, person, before, whole = (Random(seeds.getrandbits(64)) for _ in range(4))
    image = Image.new("RGB", (_SUPERSAMPLING * size,) * 2)
    brush = Brush.on(image)
    if spec.setting is not None:
        draw_background(brush, behind, spec.setting)
    elif spec.tool is not None and not spec.person:
        draw_still_life(brush, behind, spec.tool)
    else:
        brush.rectangle(0, 0, UNITS, UNITS, behind.choice(WARM_WALLS))
    if spec.person:
        _draw_figure(brush, person, spec)
    if spec.setting is not None:
        draw_foreground(brush, before, spec.setting)
    return image.reduce(_SUPERSAMPLING).point(whole.choice(_LIGHTS))


def _draw_figure(brush: Brush, random: Random, spec: PictureSpec) -> None:
    assert spec.tone is not None  # PictureSpec sees to it.
    # Away from work there is no tool to show, and the picture is a close-up.
    scale = random.uniform(1.22, 1.4) if spec.at_work else random.uniform(1.7, 2.0)
    mirrored = random.random() < 0.5
    # The side with the tool needs more room than the other.
    aside = random.uniform(-2.0, 9.0) if spec.tool else random.uniform(-6.0, 6.0)
    neck = 45.0 if spec.at_work else 40.0 + 16.0 * scale
    figure = brush.placed(
        50.0 + aside if mirrored else 50.0 - aside,
        neck + random.uniform(-1.0, 3.0),
        scale=scale,
        mirrored=mirrored,
    )
    draw_person(
        figure,
        random,
        gender=spec.gender if spec.gender_visible else None,
        tone=spec.tone,
        occupation=spec.occupation if spec.at_work else None,
        tool=spec.tool,
    )
