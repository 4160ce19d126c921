"""People as drawn: cues of perceived gender, clothes that do not depend on it, and arms."""

import math
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthetic.brush import Brush
from synthetic.figures import _HOLDS, _draw_head, _elbow, draw_person
from synthetic.hats import TRADES_WITH_HATS
from synthetic.looks import COVERED_TRADES, Look, choose_look
from synthetic.outfits import choose_outfit
from synthetic.palette import HAIR_COLOURS, SKINS, darker, lighter, mix
from synthetic.tools import HELD_TOOLS, LYING_TOOLS
from synthetic.world import GENDERS, OCCUPATIONS, TONES, TOOLS

TRADES = [occupation.name for occupation in OCCUPATIONS]


def looks(gender: str | None, count: int = 400, occupation: str | None = "teacher") -> list[Look]:
    return [choose_look(Random(seed), gender, "medium", occupation, 0.2) for seed in range(count)]


def test_no_single_cue_decides_the_perceived_gender() -> None:
    women, men = looks("woman"), looks("man")
    assert {look.cues.hair for look in women} & {look.cues.hair for look in men}
    assert any(not look.cues.lashes for look in women)
    assert any(look.cues.lips is None for look in women)
    assert any(look.cues.earrings is None for look in women)
    assert any(look.cues.beard == "none" for look in men)
    assert max(look.cues.shoulder for look in women) > min(look.cues.shoulder for look in men)
    assert max(look.cues.jaw for look in women) > min(look.cues.jaw for look in men)
    assert max(look.cues.brow for look in women) > min(look.cues.brow for look in men)


def test_nearly_everyone_shows_a_cue_which_is_rare_or_absent_in_the_other_gender() -> None:
    women, men = looks("woman"), looks("man")
    shared = {look.cues.hair for look in women} & {look.cues.hair for look in men}
    for group in (women, men):
        telling = [
            look.cues.hair not in shared
            or look.cues.lashes
            or look.cues.lips is not None
            or look.cues.earrings is not None
            or look.cues.beard != "none"
            for look in group
        ]
        assert np.mean(telling) > 0.9


def test_a_hidden_person_has_no_cue_and_hides_the_face() -> None:
    for occupation in (*TRADES, None):
        for look in looks(None, 60, occupation):
            assert look.view in ("behind", "covered")
            assert (look.cues.hair, look.cues.beard) == ("nape", "none")
            assert not look.cues.lashes and not look.cues.lips and not look.cues.earrings


def test_a_hidden_person_has_a_build_that_women_and_men_both_have() -> None:
    for measure in ("brow", "jaw", "shoulder"):
        hidden = [getattr(look.cues, measure) for look in looks(None)]
        for gender in GENDERS:
            seen = [getattr(look.cues, measure) for look in looks(gender)]
            assert min(seen) < np.median(hidden) < max(seen)


def test_a_hidden_portrait_is_covered_and_never_turned_away() -> None:
    assert {look.view for look in looks(None, 200, None)} == {"covered"}


@pytest.mark.parametrize("trade", [*sorted(COVERED_TRADES), None])
def test_a_cover_hides_hair_beard_lips_and_earrings(trade: str | None) -> None:
    def drawn(look: Look) -> bytes:
        image = Image.new("RGB", (128, 128), (255, 0, 255))
        head = Brush.on(image).placed(50, 50, scale=1.6)
        _draw_head(head, look, choose_outfit(Random(1), trade), trade in TRADES_WITH_HATS)
        return image.tobytes()

    covered = next(look for look in looks(None, 60, trade) if look.view == "covered")
    bare = replace(covered, view="front")
    for look in looks("woman", 60) + looks("man", 60):
        told = replace(covered.cues, hair=look.cues.hair, beard=look.cues.beard)
        told = replace(told, lips=look.cues.lips, earrings=look.cues.earrings)
        assert drawn(replace(covered, cues=told)) == drawn(covered) != drawn(bare)


def test_only_some_trades_cover_the_face_and_they_do_not_always() -> None:
    for occupation in TRADES:
        views = {look.view for look in looks(None, 60, occupation)}
        assert views == ({"behind", "covered"} if occupation in COVERED_TRADES else {"behind"})


def test_a_visible_person_faces_the_viewer() -> None:
    assert {look.view for look in looks("woman") + looks("man")} == {"front"}


def test_features_other_than_colour_are_drawn_alike_for_every_tone() -> None:
    for seed in range(60):
        same = [choose_look(Random(seed), "woman", tone, "cook", 0.2) for tone in TONES]
        alike = {(look.cues.hair, look.cues.jaw, look.smile, look.tilt) for look in same}
        assert len(alike) == 1


def test_tones_do_not_overlap_in_brightness() -> None:
    ranges = [
        sorted(sum(skin.fill) for skin in SKINS[tone]) for tone in ("dark", "medium", "light")
    ]
    assert ranges[0][-1] < ranges[1][0] and ranges[1][-1] < ranges[2][0]
    assert set(SKINS) == set(HAIR_COLOURS) == set(TONES)


@pytest.mark.parametrize("trade", [*TRADES, None])
def test_clothes_vary_within_a_trade(trade: str | None) -> None:
    outfits = [choose_outfit(Random(seed), trade) for seed in range(60)]
    assert len(set(outfits)) >= 12
    assert Counter(outfit.variant for outfit in outfits)[0] > 10


@given(
    side=st.sampled_from((-1, 1)),
    x=st.floats(-40, 40),
    y=st.floats(-25, 60),
)
def test_an_elbow_keeps_the_lengths_of_the_arm_where_the_hand_can_be_reached(
    side: int, x: float, y: float
) -> None:
    shoulder, hand = (side * 13.0, 7.4), (x, y)
    reach = math.dist(shoulder, hand)
    elbow = _elbow(shoulder, hand)
    assert math.isfinite(elbow[0]) and math.isfinite(elbow[1])
    if 2.0 < reach < 34.9:
        assert math.dist(shoulder, elbow) == pytest.approx(18.0, abs=0.01)
        assert math.dist(elbow, hand) == pytest.approx(17.0, abs=0.01)


def test_a_raised_hand_leaves_the_elbow_hanging() -> None:
    assert _elbow((13.0, 7.4), (21.0, 4.0))[1] > 15.0


def test_a_hanging_arm_bends_outwards() -> None:
    assert _elbow((13.0, 7.4), (13.0, 36.0))[0] > 15.0
    assert _elbow((-13.0, 7.4), (-13.0, 36.0))[0] < -15.0


def test_every_tool_can_be_held_and_can_lie() -> None:
    assert set(HELD_TOOLS) == set(LYING_TOOLS) == set(_HOLDS) == set(TOOLS)


def test_glasses_and_expression_do_not_depend_on_gender() -> None:
    for woman, man in zip(looks("woman", 60), looks("man", 60), strict=True):
        assert (woman.glasses, woman.smile, woman.tilt) == (man.glasses, man.smile, man.tilt)
        assert (woman.skin, woman.hair_colour) == (man.skin, man.hair_colour)


@pytest.mark.parametrize("trade", TRADES)
def test_a_tool_in_hand_is_seen_from_the_front_and_when_the_person_is_hidden(trade: str) -> None:
    tool = next(occupation.tool for occupation in OCCUPATIONS if occupation.name == trade)
    for gender in ("woman", "man", None):
        for seed in range(4):
            pictures = []
            for held in (tool, None):
                image = Image.new("RGB", (128, 128), (255, 0, 255))
                brush = Brush.on(image).placed(50, 58)
                draw_person(
                    brush, Random(seed), gender=gender, tone="medium", occupation=trade, tool=held
                )
                pictures.append(image)
            assert pictures[0].tobytes() != pictures[1].tobytes()


def test_colours_mix_from_one_to_the_other() -> None:
    assert mix((0, 0, 0), (200, 100, 50), 0.0) == (0, 0, 0)
    assert mix((0, 0, 0), (200, 100, 50), 1.0) == (200, 100, 50)
    assert mix((0, 0, 0), (200, 100, 50), 0.5) == (100, 50, 25)
    assert sum(darker((120, 120, 120))) < 360 < sum(lighter((120, 120, 120)))
