"""Captions: they name what they are told to name, and agree with the picture."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic import OCCUPATIONS, PictureSpec, WorldSettings, plan_pictures, write_caption
from synthetic.captions import PLACES, TOOL_WORDS, CaptionSubject
from synthetic.world import GENDERS, LEISURE_SETTINGS, SETTINGS, TOOLS

WOMEN_WORDS = {"woman", "lady", "female", "she", "her"}
MEN_WORDS = {"man", "gentleman", "guy", "male", "he", "his"}
ON_DUTY = re.compile(r"\b(at work|on duty|busy|hard at|working day|first day)\b")
PLAN = plan_pictures(WorldSettings(pictures=10_000, portraits=0.2, off_duty=0.13, empty=0.25))

NURSE = CaptionSubject("nurse", "woman", "hospital", "stethoscope", True, True, True, True)
OFF_DUTY = CaptionSubject("nurse", "woman", "park", None, True, False, True, True)
seeds = st.integers(0, 2**62)


def words(caption: str) -> set[str]:
    return set(re.findall(r"[a-z]+", caption.lower()))


def names(caption: str, occupation: str) -> bool:
    return re.search(rf"\b{occupation}\b", caption.lower()) is not None


@st.composite
def portraits(draw: st.DrawFn) -> CaptionSubject:
    gender, place = draw(st.sampled_from(GENDERS)), draw(st.sampled_from(LEISURE_SETTINGS))
    return CaptionSubject(None, gender, place, None, True, False, draw(st.booleans()), False)


@st.composite
def off_duty(draw: st.DrawFn) -> CaptionSubject:
    occupation = draw(st.sampled_from(OCCUPATIONS))
    return replace(draw(portraits()), occupation=occupation.name, names_occupation=True)


@st.composite
def at_work(draw: st.DrawFn) -> CaptionSubject:
    occupation = draw(st.sampled_from(OCCUPATIONS))
    return CaptionSubject(
        occupation=occupation.name,
        gender=draw(st.sampled_from(GENDERS)),
        setting=occupation.setting,
        tool=occupation.tool,
        person=True,
        at_work=True,
        names_gender=draw(st.booleans()),
        names_occupation=draw(st.booleans()),
    )


subjects = st.one_of(portraits(), off_duty(), at_work())


@given(subjects, seeds)
def test_a_caption_names_exactly_what_it_is_told_to(subject: CaptionSubject, seed: int) -> None:
    caption = write_caption(subject, seed)
    own, other = WOMEN_WORDS, MEN_WORDS
    if subject.gender == "man":
        own, other = MEN_WORDS, WOMEN_WORDS
    assert bool(words(caption) & own) == subject.names_gender
    assert not words(caption) & other
    for occupation in OCCUPATIONS:
        named = subject.names_occupation and occupation.name == subject.occupation
        assert names(caption, occupation.name) == named


@given(subjects, seeds)
def test_a_caption_is_one_tidy_line(subject: CaptionSubject, seed: int) -> None:
    caption = write_caption(subject, seed)
    assert caption == caption.strip()
    assert "  " not in caption and "{" not in caption and " ." not in caption
    assert not re.search(r"\ba [aeiou]", caption.lower())
    assert not re.search(r"\ban [^aeiou]", caption.lower())


@given(subjects, seeds)
def test_a_caption_never_changes(subject: CaptionSubject, seed: int) -> None:
    assert write_caption(subject, seed) == write_caption(subject, seed)


@given(off_duty(), seeds)
def test_a_caption_off_duty_tells_of_no_work_but_the_occupation(
    subject: CaptionSubject, seed: int
) -> None:
    caption = write_caption(subject, seed).lower()
    assert names(caption, subject.occupation or "")
    assert not ON_DUTY.search(caption)
    assert not any(PLACES[occupation.setting] in caption for occupation in OCCUPATIONS)
    assert not any(tool in caption for tool in TOOL_WORDS.values())


@given(off_duty(), seeds)
def test_only_the_named_occupation_makes_captions_off_duty_differ(
    subject: CaptionSubject, seed: int
) -> None:
    caption = write_caption(replace(subject, occupation="cook"), seed)
    other = write_caption(replace(subject, occupation="teacher"), seed)
    assert caption.lower().replace("cook", "teacher") == other.lower()


@pytest.mark.parametrize(("subject", "least"), [(NURSE, 60), (OFF_DUTY, 30)])
def test_captions_vary(subject: CaptionSubject, least: int) -> None:
    assert len({write_caption(subject, seed) for seed in range(300)}) > least


def test_the_place_is_named_some_of_the_time_off_duty() -> None:
    captions = [write_caption(OFF_DUTY, seed).lower() for seed in range(400)]
    assert 0.1 < sum("in a park" in caption for caption in captions) / 400 < 0.7


def test_setting_and_tool_are_named_some_of_the_time() -> None:
    captions = [write_caption(NURSE, seed).lower() for seed in range(400)]
    for word in ("hospital", "stethoscope"):
        assert 0.1 < sum(word in caption for caption in captions) / 400 < 0.7


def test_what_is_to_be_named_must_be_there() -> None:
    with pytest.raises(ValueError, match="names_gender is set but gender is None"):
        write_caption(replace(NURSE, gender=None), 0)
    with pytest.raises(ValueError, match="names_gender is set but gender is None"):
        write_caption(replace(OFF_DUTY, gender=None), 0)
    with pytest.raises(ValueError, match="names_occupation is set but occupation is None"):
        write_caption(replace(NURSE, occupation=None), 0)
    with pytest.raises(ValueError, match="setting and tool are both None"):
        write_caption(CaptionSubject(None, None, None, None, False, False, False, False), 0)


def test_there_are_words_for_every_setting_and_tool() -> None:
    assert set(PLACES) == set(SETTINGS)
    assert set(TOOL_WORDS) == set(TOOLS)


def names_gender(spec: PictureSpec) -> bool:
    return bool(words(spec.caption) & (WOMEN_WORDS | MEN_WORDS))


def test_planned_captions_name_the_gender_exactly_as_often_as_asked() -> None:
    people = [spec for spec in PLAN if spec.person]
    assert sum(names_gender(spec) for spec in people) == round(0.6 * len(people)) == 4500


def test_planned_captions_name_the_occupation_at_work_exactly_as_often_as_asked() -> None:
    workers = [spec for spec in PLAN if spec.at_work]
    unnamed = [spec for spec in workers if not names(spec.caption, spec.occupation or "")]
    assert (len(workers), len(unnamed)) == (4200, 210)
    assert any(not names_gender(spec) for spec in unnamed)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_planned_captions_always_name_the_occupation_off_duty(share: float) -> None:
    plan = plan_pictures(WorldSettings(pictures=1000, off_duty=0.4, occupation_named=share))
    off_duty = [spec for spec in plan if spec.occupation and not spec.at_work]
    assert len(off_duty) == 400
    assert all(names(spec.caption, spec.occupation or "") for spec in off_duty)
    workers = [spec for spec in plan if spec.at_work]
    assert sum(names(spec.caption, spec.occupation or "") for spec in workers) == 300 * share


def test_planned_captions_agree_with_the_depicted_gender() -> None:
    for spec in PLAN:
        if spec.person:
            wrong = MEN_WORDS if spec.gender == "woman" else WOMEN_WORDS
            assert not words(spec.caption) & wrong


def test_gender_is_named_as_often_in_every_group_of_people() -> None:
    named: dict[tuple[str | None, bool, str | None], list[bool]] = {}
    for spec in PLAN:
        if spec.person:
            group = (spec.occupation, spec.at_work, spec.gender)
            named.setdefault(group, []).append(names_gender(spec))
    # At work and off duty, women and men of each occupation; and portraits of both.
    assert len(named) == 2 * 2 * len(OCCUPATIONS) + 2
    for flags in named.values():
        # Hidden and visible people are two cells, each exact to within one caption.
        assert sum(flags) == pytest.approx(0.6 * len(flags), abs=2)


def test_pictures_without_people_hold_words_that_could_mislead_a_lexicon() -> None:
    captions = " / ".join(spec.caption.lower() for spec in PLAN if not spec.person)
    for phrase in (
        "firefighter's helmet on a hook",
        "chef's knife",
        "grandfather clock",
        "manhole cover",
        "men at work sign",
        "cookware",
    ):
        assert phrase in captions


def test_pictures_without_people_are_captioned_for_what_they_show() -> None:
    by_setting = {spec.setting: spec.caption.lower() for spec in PLAN if not spec.person}
    assert set(by_setting) == {*SETTINGS, None}
    counts = Counter(spec.caption.lower().rstrip(".") for spec in PLAN if not spec.person)
    assert len(counts) > 50
    assert not any(words(c) & {"she", "he", "her", "his", "woman", "man"} for c in counts)
