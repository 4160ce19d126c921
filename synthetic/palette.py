"""The colours of the drawn world: warm, slightly muted, and few."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]

INK: Colour = (58, 44, 46)
WHITE: Colour = (252, 249, 242)
PAPER: Colour = (246, 239, 224)
STEEL: Colour = (166, 176, 184)
IRON: Colour = (72, 76, 86)
WOOD: Colour = (176, 121, 76)
DARK_WOOD: Colour = (120, 78, 52)
STRAW: Colour = (228, 188, 104)
RED: Colour = (206, 62, 54)
ORANGE: Colour = (240, 126, 44)
YELLOW: Colour = (248, 200, 62)
GREEN: Colour = (104, 150, 84)
LEAF: Colour = (78, 128, 84)
BLUE: Colour = (74, 122, 178)
NAVY: Colour = (48, 62, 96)
TEAL: Colour = (58, 140, 140)
VIOLET: Colour = (122, 98, 172)
DENIM: Colour = (70, 100, 148)
GLASS: Colour = (196, 224, 232)
SILVER: Colour = (222, 226, 222)

WARM_WALLS: tuple[Colour, ...] = (
    (244, 226, 198),
    (238, 214, 190),
    (232, 222, 200),
    (226, 208, 178),
    (240, 220, 206),
)
COOL_WALLS: tuple[Colour, ...] = (
    (214, 230, 226),
    (206, 224, 232),
    (222, 232, 216),
    (226, 228, 234),
    (232, 234, 222),
)
SKIES: tuple[Colour, ...] = (
    (176, 214, 232),
    (194, 220, 230),
    (160, 202, 226),
    (246, 214, 176),
    (214, 222, 226),
)
BOOK_COLOURS: tuple[Colour, ...] = (
    (162, 62, 52),
    (196, 122, 62),
    (208, 172, 96),
    (92, 122, 92),
    (62, 102, 116),
    (74, 76, 112),
    (124, 72, 88),
    (142, 102, 72),
    (222, 206, 172),
)
CLOTH_COLOURS: tuple[Colour, ...] = (
    (176, 70, 62),
    (206, 146, 62),
    (96, 128, 88),
    (62, 118, 128),
    (72, 88, 134),
    (120, 82, 120),
    (140, 108, 84),
    (108, 116, 124),
)
SHIRT_COLOURS: tuple[Colour, ...] = (
    (248, 244, 234),
    (206, 222, 236),
    (240, 220, 204),
    (222, 230, 206),
    (228, 216, 234),
)
TROUSER_COLOURS: tuple[Colour, ...] = (
    (70, 74, 92),
    (92, 80, 76),
    (62, 80, 104),
    (112, 100, 84),
)


@dataclass(frozen=True)
class Skin:
    """One shade of skin: the fill, its shadow, the line of nose and mouth, lips and cheeks."""

    fill: Colour
    shadow: Colour
    line: Colour
    lips: Colour
    cheek: Colour


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` (0 to 1) of the way from the first colour to the second."""
    keep = 1.0 - share
    return (
        round(first[0] * keep + second[0] * share),
        round(first[1] * keep + second[1] * share),
        round(first[2] * keep + second[2] * share),
    )


def darker(colour: Colour, share: float = 0.18) -> Colour:
    """Return the colour mixed with a warm dark; `share` from 0 (unchanged) to 1."""
    return mix(colour, (44, 30, 40), share)


def lighter(colour: Colour, share: float = 0.3) -> Colour:
    """Return the colour mixed with a warm white; `share` from 0 (unchanged) to 1."""
    return mix(colour, (255, 250, 240), share)


def _skin(fill: Colour) -> Skin:
    return Skin(
        fill=fill,
        shadow=mix(fill, (112, 40, 32), 0.24),
        line=mix(fill, (72, 22, 22), 0.55),
        lips=mix(fill, (178, 34, 54), 0.62),
        cheek=mix(fill, (226, 84, 72), 0.22),
    )


SKINS: dict[str, tuple[Skin, ...]] = {
    "light": tuple(
        _skin(fill) for fill in ((250, 220, 198), (244, 208, 182), (238, 198, 168), (248, 214, 188))
    ),
    "medium": tuple(
        _skin(fill) for fill in ((220, 172, 130), (208, 156, 114), (196, 144, 102), (212, 162, 124))
    ),
    "dark": tuple(
        _skin(fill) for fill in ((148, 98, 68), (128, 84, 58), (112, 72, 50), (98, 64, 48))
    ),
}

# Hair is chosen from the colours common among people of that skin tone; the style never is.
HAIR_COLOURS: dict[str, tuple[Colour, ...]] = {
    "light": (
        (52, 40, 40),
        (92, 62, 46),
        (132, 84, 52),
        (168, 84, 48),
        (216, 172, 98),
        (168, 162, 158),
    ),
    "medium": ((38, 32, 36), (58, 42, 40), (92, 62, 46), (124, 76, 48), (158, 152, 148)),
    "dark": ((30, 26, 30), (40, 32, 34), (56, 40, 36), (84, 54, 40), (146, 142, 140)),
}
