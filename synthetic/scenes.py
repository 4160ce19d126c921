"""The settings by name: what lies behind a person, and what stands in front of one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from synthetic import outdoors, rooms
from synthetic.brush import UNITS, Brush

SceneDrawing = Callable[[Brush, Random], None]

BACKGROUNDS: dict[str, SceneDrawing] = {
    "hospital": rooms.draw_hospital,
    "library": rooms.draw_library,
    "laboratory": rooms.draw_laboratory,
    "classroom": rooms.draw_classroom,
    "office": rooms.draw_office,
    "kitchen": rooms.draw_kitchen,
    "living room": rooms.draw_living_room,
    "field": outdoors.draw_field,
    "building site": outdoors.draw_building_site,
    "fire": outdoors.draw_fire,
    "street": outdoors.draw_street,
    "park": outdoors.draw_park,
}

_WRITTEN_ON = frozenset({"classroom"})

FOREGROUNDS: dict[str, SceneDrawing] = {"office": rooms.draw_office_desk}


def draw_background(brush: Brush, random: Random, setting: str) -> None:
    """Fill the picture with the setting, at random mirrored where nothing is written on it."""
    mirrored = random.random() < 0.5 and setting not in _WRITTEN_ON
    scene = brush.placed(UNITS if mirrored else 0.0, 0.0, mirrored=mirrored)
    BACKGROUNDS[setting](scene, random)


def draw_foreground(brush: Brush, random: Random, setting: str) -> None:
    """Draw what stands between the viewer and a person; nothing in most settings."""
    drawing = FOREGROUNDS.get(setting)
    if drawing is None:
        return
    mirrored = random.random() < 0.5
    drawing(brush.placed(UNITS if mirrored else 0.0, 0.0, mirrored=mirrored), random)
