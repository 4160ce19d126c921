"""Plurals of English terms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.inflection import PRONOUNS, inflections, plurals


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("woman", "women"),
        ("fireman", "firemen"),
        ("policewoman", "policewomen"),
        ("gentleman", "gentlemen"),
        ("secretary", "secretaries"),
        ("boy", "boys"),
        ("boss", "bosses"),
        ("waitress", "waitresses"),
        ("bus", "buses"),
        ("coach", "coaches"),
        ("chef", "chefs"),
        ("knife", "knives"),
        ("housewife", "housewives"),
        ("child", "children"),
        ("grandchild", "grandchildren"),
        ("tooth", "teeth"),
        ("specimen", "specimens"),
        ("omen", "omens"),
        # nobody's men
        ("human", "humans"),
        ("german", "germans"),
        ("shaman", "shamans"),
        ("roman", "romans"),
    ],
)
def test_plural(word: str, wanted: str) -> None:
    assert plurals(word) == (wanted,)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("person", {"people", "persons"}),
        ("salesperson", {"salespeople", "salespersons"}),
        ("cactus", {"cactuses", "cacti"}),
        ("banjo", {"banjoes", "banjos"}),
        ("thief", {"thiefs", "thieves"}),  # inflect has the right one under classical ones only
    ],
)
def test_two_plurals(word: str, wanted: set[str]) -> None:
    assert set(plurals(word)) == wanted


@pytest.mark.parametrize(
    "word",
    [
        *["men", "women", "policewomen", "children", "schoolchildren", "people", "salespeople"],
        *["teeth", "mice", "alumni", "sheep", "fish", "scissors"],
        *sorted(PRONOUNS),
        *["'s", "", "4", "x1"],
    ],
)
def test_no_plural(word: str) -> None:
    assert plurals(word) == ()


@pytest.mark.parametrize("word", ["clothes", "glasses", "jeans", "police", "physics", "knives"])
def test_the_plural_of_a_plural_never_occurs(word: str) -> None:
    """No word that any caption has: an "s" or "es" too many."""
    assert set(plurals(word)) <= {f"{word}s", f"{word}es"}


def test_a_phrase_is_inflected_at_its_end_and_at_its_head() -> None:
    def made(phrase: str) -> set[str]:
        return {" ".join(form) for form in inflections(tuple(phrase.split()))}

    assert made("police officer") == {"police officers"}
    assert made("mother in law") == {"mothers in law", "mother in laws"}
    assert made("officer of the police") >= {"officers of the police"}
    assert made("man at work sign") == {"men at work sign", "man at work signs"}
    assert made("nurse 's") == set()
    assert made("of course") == {"of courses"}


@given(word=st.text(alphabet="abdehimnorsy'", min_size=1, max_size=9))
def test_a_plural_is_another_word(word: str) -> None:
    for plural in plurals(word):
        assert plural and plural != word
