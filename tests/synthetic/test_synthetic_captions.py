"""Captions: they name what they are told to name, and agree with the picture."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthetic import OCCUPATIONS, WorldSettings, plan_pictures, write_caption
from synthetic.captions import PLACES, TOOL_WORDS, CaptionSubject
from synthetic.world import LEISURE_SETTINGS, SETTINGS, TOOLS

WOMEN_WORDS = {"woman", "lady", "female", "she", "her"}
MEN_WORDS = {"man", "gentleman", "guy", "male", "he", "his"}
PLAN = plan_pictures(WorldSettings())

NURSE = CaptionSubject("nurse", "woman", "hospital", "stethoscope", True, True, True)
seeds = st.integers(0, 2**62)


def words(caption: str) -> set[str]:
    return set(re.findall(r"[a-z]+", caption.lower()))


def names(caption: str, occupation: str) -> bool:
    return re.search(rf"\b{occupation}\b", caption.lower()) is not None


@st.composite
def subjects(draw: st.DrawFn) -> CaptionSubject:
    gender = draw(st.sampled_from(("woman", "man")))
    named = draw(st.booleans())
    occupation = draw(st.none() | st.sampled_from(OCCUPATIONS))
    if occupation is None:
        place = draw(st.sampled_from(LEISURE_SETTINGS))
        return CaptionSubject(None, gender, place, None, True, named, False)
    return CaptionSubject(
        occupation.name,
        gender,
        occupation.setting,
        occupation.tool,
        True,
        named,
        draw(st.booleans()),
    )


@given(subjects(), seeds)
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


@given(subjects(), seeds)
def test_a_caption_is_one_tidy_line(subject: CaptionSubject, seed: int) -> None:
    caption = write_caption(subject, seed)
    assert caption == caption.strip()
    assert "  " not in caption and "{" not in caption and " ." not in caption
    assert not re.search(r"\ba [aeiou]", caption.lower())
    assert not re.search(r"\ban [^aeiou]", caption.lower())


@given(subjects(), seeds)
def test_a_caption_never_changes(subject: CaptionSubject, seed: int) -> None:
    assert write_caption(subject, seed) == write_caption(subject, seed)


def test_captions_vary() -> None:
    assert len({write_caption(NURSE, seed) for seed in range(300)}) > 60


def test_setting_and_tool_are_named_some_of_the_time() -> None:
    captions = [write_caption(NURSE, seed).lower() for seed in range(400)]
    for word in ("hospital", "stethoscope"):
        assert 0.1 < sum(word in caption for caption in captions) / 400 < 0.7


def test_what_is_to_be_named_must_be_there() -> None:
    with pytest.raises(ValueError, match="names_gender is set but gender is None"):
        write_caption(replace(NURSE, gender=None), 0)
    with pytest.raises(ValueError, match="names_occupation is set but occupation is None"):
        write_caption(replace(NURSE, occupation=None), 0)
    with pytest.raises(ValueError, match="setting and tool are both None"):
        write_caption(CaptionSubject(None, None, None, None, False, False, False), 0)


def test_there_are_words_for_every_setting_and_tool() -> None:
    assert set(PLACES) == set(SETTINGS)
    assert set(TOOL_WORDS) == set(TOOLS)


def test_planned_captions_name_gender_and_occupation_exactly_as_often_as_asked() -> None:
    people = [spec for spec in PLAN if spec.person]
    workers = [spec for spec in people if spec.occupation]
    gendered = [spec for spec in people if words(spec.caption) & (WOMEN_WORDS | MEN_WORDS)]
    named = [spec for spec in workers if names(spec.caption, spec.occupation or "")]
    assert len(gendered) == round(0.6 * len(people)) == 2880
    assert len(named) == round(0.95 * len(workers)) == 3990
    assert any(spec not in gendered and spec not in named for spec in workers)


def test_planned_captions_agree_with_the_depicted_gender() -> None:
    for spec in PLAN:
        if spec.person:
            wrong = MEN_WORDS if spec.gender == "woman" else WOMEN_WORDS
            assert not words(spec.caption) & wrong


def test_gender_is_named_as_often_for_women_as_for_men() -> None:
    people = [spec for spec in PLAN if spec.person]
    for gender in ("woman", "man"):
        group = [spec for spec in people if spec.gender == gender]
        named = sum(bool(words(spec.caption) & (WOMEN_WORDS | MEN_WORDS)) for spec in group)
        assert named / len(group) == pytest.approx(0.6, abs=0.01)


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
