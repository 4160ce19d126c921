"""The plan: planted numbers are exact for any settings, and all else is spread evenly."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic import OCCUPATIONS, PictureSpec, WorldSettings, plan_pictures
from synthetic.world import (
    GENDERS,
    LEISURE_SETTINGS,
    SETTINGS,
    TONES,
    TOOLS,
    Occupation,
)

DEFAULT = plan_pictures(WorldSettings())
VARIED = plan_pictures(
    WorldSettings(pictures=10_000, portraits=0.2, off_duty=0.13, empty=0.25, portraits_hidden=0.25)
)
fractions = st.decimals(0, 1, places=3).map(float)
cuts = st.lists(st.integers(0, 1000), min_size=3, max_size=3).map(sorted)


@st.composite
def worlds(draw: st.DrawFn) -> WorldSettings:
    # Cutting a thousand in four gives three fractions which sum to one or less.
    first, second, third = draw(cuts)
    portraits, off_duty, empty = first / 1000, (second - first) / 1000, (third - second) / 1000
    return WorldSettings(
        pictures=draw(st.integers(1, 400)),
        shards=1,
        seed=draw(st.integers(0, 2**40)),
        skewed=draw(st.booleans()),
        portraits=portraits,
        off_duty=off_duty,
        empty=empty,
        gender_named=draw(fractions),
        occupation_named=draw(fractions),
        gender_hidden=draw(fractions),
        portraits_hidden=draw(fractions),
        men_share_of_portraits=draw(fractions),
    )


def near(count: int, share: float, whole: int) -> bool:
    """Whether a count is its share of the whole, rounded down or up."""
    quota = Fraction(share).limit_denominator(10**9) * whole
    return abs(count - quota) < 1


def at_work(plan: list[PictureSpec]) -> list[PictureSpec]:
    return [spec for spec in plan if spec.at_work]


def off_duty(plan: list[PictureSpec]) -> list[PictureSpec]:
    return [spec for spec in plan if spec.occupation and not spec.at_work]


def portraits(plan: list[PictureSpec]) -> list[PictureSpec]:
    return [spec for spec in plan if spec.person and spec.occupation is None]


def women_and_men(people: list[PictureSpec]) -> list[list[PictureSpec]]:
    return [[spec for spec in people if spec.gender == gender] for gender in GENDERS]


def spread(counts: Counter[str | None], groups: tuple[str, ...]) -> int:
    """How many more the largest group has than the smallest; none may lie outside the groups."""
    assert set(counts) <= set(groups)
    return max(counts[group] for group in groups) - min(counts[group] for group in groups)


# --- the default world -----------------------------------------------------------------------


def test_the_default_world_has_the_planted_numbers() -> None:
    assert len(DEFAULT) == 6000
    assert sum(not spec.person for spec in DEFAULT) == 1200
    assert len(portraits(DEFAULT)) == 600
    assert not off_duty(DEFAULT)
    for occupation in OCCUPATIONS:
        workers = [spec for spec in DEFAULT if spec.occupation == occupation.name]
        women = sum(spec.gender == "woman" for spec in workers)
        assert len(workers) == 420
        assert women == round(occupation.share_of_women * 420)
        assert sum(not spec.gender_visible for spec in workers) == 63
        assert {spec.setting for spec in workers} == {occupation.setting}
        assert {spec.tool for spec in workers} == {occupation.tool}
    assert sum(spec.gender == "man" for spec in portraits(DEFAULT)) == 390
    assert all(spec.gender_visible for spec in portraits(DEFAULT))


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


def test_hidden_pictures_are_hidden_alike_for_both_genders() -> None:
    for occupation in OCCUPATIONS:
        workers = [spec for spec in DEFAULT if spec.occupation == occupation.name]
        for cell in women_and_men(workers):
            assert near(sum(not spec.gender_visible for spec in cell), 0.15, len(cell))


# --- people off duty, and portraits that hide the gender -----------------------------------------

# Women among 420 people at work and among 130 people off duty: the published shares, rounded.
PLANTED_WOMEN = {
    "nurse": (381, 118),
    "doctor": (144, 45),
    "librarian": (365, 113),
    "scientist": (186, 57),
    "teacher": (342, 106),
    "secretary": (400, 124),
    "cook": (158, 49),
    "farmer": (103, 32),
    "construction worker": (12, 4),
    "firefighter": (14, 4),
}


def test_a_varied_world_has_the_planted_numbers() -> None:
    assert len(at_work(VARIED)) == 4200
    assert len(off_duty(VARIED)) == 1300
    assert len(portraits(VARIED)) == 2000
    assert sum(not spec.person for spec in VARIED) == 2500


@pytest.mark.parametrize("occupation", OCCUPATIONS, ids=lambda occupation: occupation.name)
def test_women_are_planted_among_people_at_work_and_off_duty_separately(
    occupation: Occupation,
) -> None:
    everyone = [spec for spec in VARIED if spec.occupation == occupation.name]
    working, resting = at_work(everyone), off_duty(everyone)
    assert (len(working), len(resting)) == (420, 130)
    women = tuple(len(women_and_men(group)[0]) for group in (working, resting))
    assert women == PLANTED_WOMEN[occupation.name]
    assert sum(not spec.gender_visible for spec in working) == 63
    assert all(spec.gender_visible for spec in resting)


def test_hidden_portraits_are_as_many_as_asked_and_alike_for_both_genders() -> None:
    women, men = women_and_men(portraits(VARIED))
    assert (len(women), len(men)) == (700, 1300)
    assert sum(not spec.gender_visible for spec in women) == 175
    assert sum(not spec.gender_visible for spec in men) == 325


def test_what_surrounds_a_hidden_portrait_does_not_tell_the_gender() -> None:
    for group in women_and_men([spec for spec in portraits(VARIED) if not spec.gender_visible]):
        assert spread(Counter(spec.setting for spec in group), LEISURE_SETTINGS) <= 1
        assert spread(Counter(spec.tone for spec in group), TONES) <= 1


def test_the_place_of_people_off_duty_does_not_tell_the_occupation() -> None:
    for occupation in OCCUPATIONS:
        everyone = [spec for spec in VARIED if spec.occupation == occupation.name]
        for cell in women_and_men(off_duty(everyone)):
            assert spread(Counter(spec.setting for spec in cell), LEISURE_SETTINGS) <= 1


@pytest.mark.parametrize("plan", [DEFAULT, VARIED], ids=["default", "varied"])
def test_tone_is_even_in_every_occupation_and_gender(plan: list[PictureSpec]) -> None:
    for occupation in OCCUPATIONS:
        everyone = [spec for spec in plan if spec.occupation == occupation.name]
        for cell in women_and_men(at_work(everyone)):
            # Two cells, hidden and visible, each even to within one picture.
            assert spread(Counter(spec.tone for spec in cell), TONES) <= 2
        for cell in women_and_men(off_duty(everyone)):
            assert spread(Counter(spec.tone for spec in cell), TONES) <= 1


def test_portraits_are_in_settings_of_leisure_evenly_for_both_genders() -> None:
    for group in women_and_men(portraits(DEFAULT)):
        assert spread(Counter(spec.setting for spec in group), LEISURE_SETTINGS) <= 1


def test_fractions_may_sum_to_one() -> None:
    plan = plan_pictures(WorldSettings(pictures=90, portraits=0.5, off_duty=0.2, empty=0.3))
    assert (len(portraits(plan)), len(off_duty(plan)), len(at_work(plan))) == (45, 18, 0)
    assert sum(not spec.person for spec in plan) == 27


def test_everyone_may_be_off_duty() -> None:
    world = WorldSettings(pictures=200, off_duty=1.0, portraits=0, empty=0, gender_hidden=1.0)
    plan = plan_pictures(world)
    assert len(off_duty(plan)) == 200
    assert all(spec.gender_visible for spec in plan)


# --- any world -------------------------------------------------------------------------------


def check_planted_women(world: WorldSettings, people: list[PictureSpec], hidden: float) -> None:
    """Assert the planted numbers of every occupation among people at work, or all off duty."""
    workers = Counter(spec.occupation for spec in people)
    sizes = [workers[occupation.name] for occupation in OCCUPATIONS]
    assert max(sizes) - min(sizes) <= 1
    for occupation in OCCUPATIONS:
        cell = [spec for spec in people if spec.occupation == occupation.name]
        share = occupation.share_of_women if world.skewed else 0.5
        women, _ = women_and_men(cell)
        assert abs(len(women) - share * len(cell)) <= 0.5 + 1e-9
        check_hidden(cell, hidden)


def check_hidden(people: list[PictureSpec], share: float) -> None:
    """Assert that the share of people is hidden, and as near as can be of women and of men."""
    unseen = sum(not spec.gender_visible for spec in people)
    assert near(unseen, share, len(people))
    for group in women_and_men(people):
        of_group = sum(not spec.gender_visible for spec in group)
        assert abs(of_group * len(people) - unseen * len(group)) < max(1, len(people))


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_planted_numbers_are_exact_for_any_settings(world: WorldSettings) -> None:
    plan = plan_pictures(world)
    assert len(plan) == world.pictures
    people = [spec for spec in plan if spec.person]
    assert near(len(plan) - len(people), world.empty, world.pictures)
    assert near(len(portraits(plan)), world.portraits, world.pictures)
    assert near(len(off_duty(plan)), world.off_duty, world.pictures)
    assert len(at_work(plan)) + len(off_duty(plan)) + len(portraits(plan)) == len(people)
    men_share = world.men_share_of_portraits if world.skewed else 0.5
    _, men = women_and_men(portraits(plan))
    assert near(len(men), men_share, len(portraits(plan)))
    check_hidden(portraits(plan), world.portraits_hidden)
    check_planted_women(world, at_work(plan), world.gender_hidden)
    check_planted_women(world, off_duty(plan), 0.0)
    assert spread(Counter(spec.tone for spec in people), TONES) <= 1


@settings(max_examples=25, deadline=None)
@given(worlds())
def test_only_people_at_work_are_shown_at_work(world: WorldSettings) -> None:
    shown = {occupation.name: (occupation.setting, occupation.tool) for occupation in OCCUPATIONS}
    for spec in plan_pictures(world):
        if spec.at_work:
            assert spec.person and spec.occupation
            assert (spec.setting, spec.tool) == shown[spec.occupation]
        elif spec.person:
            assert spec.setting in LEISURE_SETTINGS and spec.tool is None
        else:
            assert spec.occupation is spec.gender is spec.tone is None


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


@pytest.mark.parametrize("hidden", [0.0, 0.5, 1.0])
def test_hiding_portraits_changes_no_other_number(hidden: float) -> None:
    world = WorldSettings(pictures=1000, off_duty=0.2)
    usual = plan_pictures(world)
    other = plan_pictures(world.model_copy(update={"portraits_hidden": hidden}))
    assert sum(not spec.gender_visible for spec in portraits(other)) == round(100 * hidden)
    assert Counter((s.occupation, s.at_work, s.gender) for s in other) == Counter(
        (s.occupation, s.at_work, s.gender) for s in usual
    )
    for group in (at_work, off_duty):
        unseen = [sum(not spec.gender_visible for spec in group(plan)) for plan in (usual, other)]
        assert unseen[0] == unseen[1]


@pytest.mark.parametrize("pictures", [2000, 1999, 1010, 30])
@pytest.mark.parametrize("resting", [0.0, 0.23])
def test_an_unskewed_world_is_even_in_every_occupation(pictures: int, resting: float) -> None:
    world = WorldSettings(pictures=pictures, shards=1, skewed=False, off_duty=resting)
    plan = plan_pictures(world)
    for people in (at_work(plan), off_duty(plan)):
        cells = Counter((spec.occupation, spec.gender) for spec in people)
        gaps = []
        for occupation in OCCUPATIONS:
            women, men = cells[occupation.name, "woman"], cells[occupation.name, "man"]
            assert abs(women - men) == (women + men) % 2
            gaps.append(women - men)
        # Odd ones out take turns, so that they do not add up.
        assert abs(sum(gaps)) <= 2
    women_alone, men_alone = women_and_men(portraits(plan))
    assert abs(len(women_alone) - len(men_alone)) <= 1
