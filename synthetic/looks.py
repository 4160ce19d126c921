"""What one drawn person looks like: every choice made before a line is drawn.

The cues of perceived gender are conventional and mild (hair, lashes, lips, earrings, beard,
brows, jaw, shoulders). Each is a matter of chance, so that no single cue decides; a person
whose gender is hidden gets none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from synthetic.palette import HAIR_COLOURS, SKINS, Colour, Skin, mix

Choice = TypeVar("Choice")

View = Literal["front", "behind", "covered"]
"""Seen from the front, from behind, or from the front with face and hair covered."""

Beard = Literal["none", "stubble", "moustache", "beard"]

HairStyle = Literal[
    "nape",
    "crop",
    "parted",
    "curls",
    "balding",
    "pixie",
    "shoulder",
    "bob",
    "long",
    "waves",
    "bun",
    "ponytail",
]

_WOMEN_HAIR: dict[HairStyle, float] = {
    "long": 0.27,
    "waves": 0.22,
    "bob": 0.20,
    "bun": 0.09,
    "ponytail": 0.12,
    "shoulder": 0.06,
    "pixie": 0.02,
    "curls": 0.02,
}
_MEN_HAIR: dict[HairStyle, float] = {
    "crop": 0.30,
    "parted": 0.32,
    "curls": 0.18,
    "balding": 0.10,
    "pixie": 0.04,
    "shoulder": 0.06,
}
_BEARDS: dict[Beard, float] = {"none": 0.05, "stubble": 0.20, "moustache": 0.15, "beard": 0.60}
_EARRINGS: tuple[Colour, ...] = ((236, 190, 72), (226, 228, 228), (198, 72, 82), (70, 140, 150))

# Trades in which face and hair can be covered on duty; in others people are seen from behind.
COVERED_TRADES = frozenset({"nurse", "doctor", "scientist", "construction worker", "firefighter"})


@dataclass(frozen=True)
class Cues:
    """The cues of perceived gender that a drawing shows; lengths in figure units."""

    hair: HairStyle
    beard: Beard
    lashes: bool
    lips: Colour | None
    earrings: Colour | None
    brow: float
    jaw: float
    shoulder: float


@dataclass(frozen=True)
class Look:
    """A person as drawn, apart from clothes and pose."""

    skin: Skin
    hair_colour: Colour
    cues: Cues
    view: View
    glasses: bool
    smile: float
    tilt: float
    fringe: bool


def _weighted(random: Random, weights: dict[Choice, float]) -> Choice:
    return random.choices(list(weights), list(weights.values()))[0]


def _evenly(random: Random, choices: Sequence[Choice]) -> Choice:
    # Uses up the same randomness for any number of choices, unlike Random.choice: what follows
    # must not depend on how many colours a tone has.
    return choices[int(random.random() * len(choices))]


def _cues_of_a_woman(random: Random, skin: Skin) -> Cues:
    hair = _weighted(random, _WOMEN_HAIR)
    painted = random.random() < 0.85
    lips = mix(skin.lips, random.choice(((190, 40, 60), (206, 84, 92), (168, 48, 84))), 0.4)
    return Cues(
        hair=hair,
        beard="none",
        lashes=random.random() < 0.85,
        lips=lips if painted else None,
        earrings=random.choice(_EARRINGS) if random.random() < 0.55 else None,
        brow=random.uniform(0.9, 1.3),
        jaw=random.uniform(6.2, 7.6),
        shoulder=random.uniform(15.5, 18.0),
    )


def _cues_of_a_man(random: Random) -> Cues:
    hair = _weighted(random, _MEN_HAIR)
    beard = _weighted(random, _BEARDS)
    return Cues(
        hair=hair,
        beard=beard,
        lashes=False,
        lips=None,
        earrings=random.choice(_EARRINGS) if random.random() < 0.03 else None,
        brow=random.uniform(1.2, 1.9),
        jaw=random.uniform(7.2, 8.8),
        shoulder=random.uniform(17.2, 20.0),
    )


def _no_cues(random: Random) -> Cues:
    return Cues(
        hair="nape",
        beard="none",
        lashes=False,
        lips=None,
        earrings=None,
        brow=1.25,
        jaw=7.4,
        shoulder=random.uniform(16.4, 19.0),
    )


def choose_look(
    random: Random, gender: str | None, tone: str, occupation: str | None, glasses: float
) -> Look:
    """Choose a look.

    `gender` is "woman", "man", or None for a person drawn without any cue of gender;
    `tone` a key of SKINS; `glasses` the probability of glasses.
    """
    skin = _evenly(random, SKINS[tone])
    hair_colour = _evenly(random, HAIR_COLOURS[tone])
    wears_glasses, fringe = random.random() < glasses, random.random() < 0.35
    smile, tilt = random.uniform(0.6, 1.7), random.uniform(-5.0, 5.0)
    view: View = "front"
    if gender is None:
        # Without an occupation people are wrapped up against the cold.
        cover = 0.7 if occupation in COVERED_TRADES else float(occupation is None)
        view = "covered" if random.random() < cover else "behind"
        cues = _no_cues(random)
    elif gender == "woman":
        cues = _cues_of_a_woman(random, skin)
    else:
        cues = _cues_of_a_man(random)
    return Look(
        skin=skin,
        hair_colour=hair_colour,
        cues=cues,
        view=view,
        glasses=wears_glasses,
        smile=smile,
        tilt=tilt,
        fringe=fringe,
    )
