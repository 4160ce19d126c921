"""What can be asked of a world and of a picture, and how shares become whole numbers."""

import re
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from synthetic import OCCUPATIONS, PictureSpec, WorldSettings
from synthetic.world import apportion

# --- apportion -------------------------------------------------------------------------------


@given(
    total=st.integers(0, 10**6),
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    first=st.integers(0, 11),
)
def test_apportion_splits_exactly_and_by_quota(
    total: int, weights: list[float], first: int
) -> None:
    exact = [Fraction(weight).limit_denominator(10**9) for weight in weights]
    assume(sum(exact) > 0)
    counts = apportion(total, weights, first)
    assert sum(counts) == total
    for count, weight in zip(counts, exact, strict=True):
        assert abs(count - total * weight / sum(exact)) < 1
        assert count >= 0


def test_apportion_rounds_as_on_paper() -> None:
    assert apportion(420, (0.906, 0.094)) == [381, 39]
    assert apportion(1000, (0.7, 0.1, 0.2)) == [700, 100, 200]
    assert apportion(7, (0.5, 0.5)) == [4, 3]
    assert apportion(7, (0.5, 0.5), first=1) == [3, 4]
    assert apportion(10, (1.0, 1.0, 1.0)) == [4, 3, 3]
    assert apportion(10, (1.0, 1.0, 1.0), first=2) == [3, 3, 4]


def test_apportion_of_nothing_needs_no_weights() -> None:
    assert apportion(0, (0.0, 0.0)) == [0, 0]
    with pytest.raises(ValueError, match="total 3"):
        apportion(3, (0.0, 0.0))


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("portraits", "off_duty", "empty", "total"),
    [(0.7, 0.0, 0.4, "1.1"), (0.5, 0.3, 0.4, "1.2"), (0.0, 0.75, 0.5, "1.25")],
)
def test_fractions_that_sum_above_one_are_refused_with_every_value(
    portraits: float, off_duty: float, empty: float, total: str
) -> None:
    message = f"portraits {portraits}, off_duty {off_duty} and empty {empty} sum to {total}: lower"
    with pytest.raises(ValidationError, match=re.escape(message)):
        WorldSettings(portraits=portraits, off_duty=off_duty, empty=empty)


def test_more_shards_than_pictures_are_refused_with_both_values() -> None:
    with pytest.raises(ValidationError, match="shards 9 is above pictures 8"):
        WorldSettings(pictures=8, shards=9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pictures": 0},
        {"shards": 0},
        {"picture_size": 8},
        {"seed": -1},
        {"gender_named": 1.1},
        {"gender_hidden": -0.1},
        {"off_duty": -0.1},
        {"off_duty": 1.1, "portraits": 0.0, "empty": 0.0},
        {"portraits_hidden": 1.1},
        {"portraits_hidden": float("nan")},
        {"men_share_of_portraits": float("nan")},
        {"women_share": 0.5},
    ],
)
def test_settings_out_of_range_or_unknown_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        WorldSettings.model_validate(wrong)


def test_settings_do_not_change() -> None:
    world = WorldSettings()
    for field in WorldSettings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(world, field, getattr(world, field))


# --- occupations -----------------------------------------------------------------------------


def test_occupations_are_ten_with_their_published_shares() -> None:
    shares = {occupation.name: occupation.share_of_women for occupation in OCCUPATIONS}
    assert shares == {
        "nurse": 0.906,
        "doctor": 0.343,
        "librarian": 0.868,
        "scientist": 0.442,
        "teacher": 0.814,
        "secretary": 0.953,
        "cook": 0.377,
        "farmer": 0.245,
        "construction worker": 0.029,
        "firefighter": 0.034,
    }
    assert all("Kay, Matuszek" in occupation.source for occupation in OCCUPATIONS)


# --- PictureSpec -----------------------------------------------------------------------------


def spec_with(**changes: object) -> PictureSpec:
    values: dict[str, object] = {
        "index": 0,
        "key": "000000000",
        "occupation": "nurse",
        "gender": "woman",
        "tone": "dark",
        "setting": "hospital",
        "tool": "stethoscope",
        "person": True,
        "at_work": True,
        "gender_visible": True,
        "caption": "a nurse",
        "picture_seed": 1,
    }
    return PictureSpec(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tone": None}, "person is True but tone is None"),
        ({"occupation": None}, "at_work needs a person and an occupation"),
        ({"gender": None}, "gender_visible is True but gender is None"),
        ({"setting": "moon"}, "setting 'moon' has no drawing"),
        ({"tool": "sword"}, "tool 'sword' has no drawing"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spec_with(**changes)


def test_people_away_from_work_may_have_an_occupation_or_none() -> None:
    for occupation in ("nurse", None):
        away = spec_with(occupation=occupation, at_work=False, setting="park", tool=None)
        assert (away.occupation, away.at_work) == (occupation, False)
