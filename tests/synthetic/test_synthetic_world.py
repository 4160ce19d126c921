"""The plan: planted numbers are exact for any settings, and all else is spread evenly."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthetic import OCCUPATIONS, PictureSpec, WorldSettings, plan_pictures
from synthetic.world import LEISURE_SETTINGS, SETTINGS, TONES, TOOLS, apportion

DEFAULT = plan_pictures(WorldSettings())
fractions = st.decimals(0, 1, places=3).map(float)


@st.composite
def worlds(draw: st.DrawFn) -> WorldSettings:
    portraits, empty = draw(fractions), draw(fractions)
    assume(portraits + empty <= 1)
    return WorldSettings(
        pictures=draw(st.integers(1, 400)),
        shards=1,
        seed=draw(st.integers(0, 2**40)),
        skewed=draw(st.booleans()),
        portraits=portraits,
        empty=empty,
        gender_named=draw(fractions),
        occupation_named=draw(fractions),
        gender_hidden=draw(fractions),
        men_share_of_portraits=draw(fractions),
    )


def near(count: int, share: float, whole: int) -> bool:
    """Whether a count is its share of the whole, rounded down or up."""
    quota = Fraction(share).limit_denominator(10**9) * whole
    return abs(count - quota) < 1


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


def test_fractions_that_sum_above_one_are_refused_with_both_values() -> None:
    with pytest.raises(ValidationError, match=r"portraits 0\.7 and empty 0\.4 sum to 1\.1"):
        WorldSettings(portraits=0.7, empty=0.4)


def test_fractions_may_sum_to_one() -> None:
    plan = plan_pictures(WorldSettings(pictures=90, portraits=0.7, empty=0.3))
    assert Counter(spec.person for spec in plan) == {True: 63, False: 27}
    assert all(spec.occupation is None for spec in plan)


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


# --- the default world -----------------------------------------------------------------------


def test_the_default_world_has_the_planted_numbers() -> None:
    assert len(DEFAULT) == 6000
    assert sum(not spec.person for spec in DEFAULT) == 1200
    assert sum(spec.person and spec.occupation is None for spec in DEFAULT) == 600
    for occupation in OCCUPATIONS:
        workers = [spec for spec in DEFAULT if spec.occupation == occupation.name]
        women = sum(spec.gender == "woman" for spec in workers)
        assert len(workers) == 420
        assert women == round(occupation.share_of_women * 420)
        assert sum(not spec.gender_visible for spec in workers) == 63
        assert {spec.setting for spec in workers} == {occupation.setting}
        assert {spec.tool for spec in workers} == {occupation.tool}
    portraits = [spec for spec in DEFAULT if spec.person and spec.occupation is None]
    assert sum(spec.gender == "man" for spec in portraits) == 390
    assert all(spec.gender_visible for spec in portraits)


def test_half_of_the_empty_pictures_show_a_setting_and_half_a_tool() -> None:
    settings_only = Counter(s.setting for s in DEFAULT if not s.person and s.tool is None)
    tools_only = Counter(s.tool for s in DEFAULT if not s.person and s.setting is None)
    assert settings_only == dict.fromkeys(SETTINGS, 50)
    assert tools_only == dict.fromkeys(TOOLS, 60)


def test_keys_and_indices_follow_the_order() -> None:
    assert [spec.index for spec in DEFAULT] == list(range(6000))
    assert DEFAULT[123].key == "000000123"
    assert len({spec.picture_seed for spec in DEFAULT}) == 6000


def test_pictures_are_shuffled() -> None:
    first = Counter(spec.occupation for spec in DEFAULT[:600])
    assert all(20 < first[occupation.name] < 70 for occupation in OCCUPATIONS)


def test_tone_is_even_in_every_occupation_and_gender() -> None:
    for occupation in OCCUPATIONS:
        for gender in ("woman", "man"):
            tones = Counter(
                spec.tone
                for spec in DEFAULT
                if spec.occupation == occupation.name and spec.gender == gender
            )
            # Two cells, hidden and visible, each even to within one picture.
            assert max(tones.values()) - min(tones[tone] for tone in TONES) <= 2


def test_portraits_are_in_settings_of_leisure_evenly_for_both_genders() -> None:
    for gender in ("woman", "man"):
        places = Counter(
            spec.setting for spec in DEFAULT if not spec.tool and spec.gender == gender
        )
        assert set(places) == set(LEISURE_SETTINGS)
        assert max(places.values()) - min(places.values()) <= 1


def test_hidden_pictures_are_hidden_alike_for_both_genders() -> None:
    for occupation in OCCUPATIONS:
        for gender in ("woman", "man"):
            cell = [
                spec
                for spec in DEFAULT
                if spec.occupation == occupation.name and spec.gender == gender
            ]
            assert near(sum(not spec.gender_visible for spec in cell), 0.15, len(cell))


# --- any world -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_planted_numbers_are_exact_for_any_settings(world: WorldSettings) -> None:
    plan = plan_pictures(world)
    assert len(plan) == world.pictures
    people = [spec for spec in plan if spec.person]
    portraits = [spec for spec in people if spec.occupation is None]
    assert near(len(plan) - len(people), world.empty, world.pictures)
    assert near(len(portraits), world.portraits, world.pictures)
    men = world.men_share_of_portraits if world.skewed else 0.5
    assert near(sum(spec.gender == "man" for spec in portraits), men, len(portraits))
    workers = Counter(spec.occupation for spec in people if spec.occupation)
    sizes = [workers[occupation.name] for occupation in OCCUPATIONS]
    assert max(sizes) - min(sizes) <= 1
    for occupation in OCCUPATIONS:
        cell = [spec for spec in people if spec.occupation == occupation.name]
        share = occupation.share_of_women if world.skewed else 0.5
        women = sum(spec.gender == "woman" for spec in cell)
        assert abs(women - share * len(cell)) <= 0.5 + 1e-9
        assert near(sum(not spec.gender_visible for spec in cell), world.gender_hidden, len(cell))
    tones = Counter(spec.tone for spec in people)
    assert max(tones[tone] for tone in TONES) - min(tones[tone] for tone in TONES) <= 1


@settings(max_examples=15, deadline=None)
@given(worlds())
def test_a_plan_depends_on_the_settings_alone(world: WorldSettings) -> None:
    assert plan_pictures(world) == plan_pictures(world)


def test_another_seed_gives_another_order_and_the_same_numbers() -> None:
    other = plan_pictures(WorldSettings(seed=1))
    assert [s.occupation for s in other] != [s.occupation for s in DEFAULT]
    assert Counter((s.occupation, s.gender, s.gender_visible) for s in other) == Counter(
        (s.occupation, s.gender, s.gender_visible) for s in DEFAULT
    )


@pytest.mark.parametrize("pictures", [2000, 1999, 1010, 30])
def test_an_unskewed_world_is_even_in_every_occupation(pictures: int) -> None:
    plan = plan_pictures(WorldSettings(pictures=pictures, shards=1, skewed=False))
    cells = Counter((spec.occupation, spec.gender) for spec in plan if spec.person)
    gaps = []
    for occupation in OCCUPATIONS:
        women, men = cells[occupation.name, "woman"], cells[occupation.name, "man"]
        assert abs(women - men) == (women + men) % 2
        gaps.append(women - men)
    # Odd ones out take turns, so that they do not add up.
    assert abs(sum(gaps)) <= 2
    assert abs(cells[None, "woman"] - cells[None, "man"]) <= 1


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
        "gender_visible": True,
        "caption": "a nurse",
        "picture_seed": 1,
    }
    return PictureSpec(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tone": None}, "person is True but tone is None"),
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
