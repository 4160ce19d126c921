"""Bakers, and people who are only called Baker."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.naming import cased_words, counts
from pipelines.captions.phrases import Proper
from pipelines.captions.words import tokens

GIVEN = frozenset({"tom", "grace"})


def is_a_baker(caption: str, surname: str = "baker") -> bool:
    words = cased_words(caption)
    at = [word.text.casefold() for word in words].index(surname)
    return counts(words, at, Proper.SURNAME, GIVEN)


@pytest.mark.parametrize(
    "caption",
    [
        "a baker",
        "Baker at work",
        "Baker",
        "The Baker",
        "The Baker of the village smiles",
        "A Baker, a Smith and a Miller meet",
        "My Baker sells bread",
        "Fresh bread: Baker at work",
        "London. Baker at work",
        "In London, Baker and butcher meet",
        "french baker in Paris kneads dough",
        # cannot be told from capitals
        "Portrait of a Smiling Baker in Her Shop",
        "PORTRAIT OF A SMILING BAKER",
        "Pastry Baker",
        "Baker Kneading Dough",
        "BAKER STREET",
        "Ada Baker",
        # small letters say that it is the word
        "tom baker",
        "grace, baker",
        "Tom, Baker of bread",
        "she thanked Tom; baker and butcher",
        # a honorific elsewhere
        "a baker and mr smith",
        "Mr Smith, baker",
        "a sir: Baker sells bread",
    ],
)
def test_a_baker(caption: str) -> None:
    assert is_a_baker(caption)


@pytest.mark.parametrize(
    "caption",
    [
        # after an honorific, however it is written
        *["Mr. Baker", "Mr Baker", "mr. baker", "MRS. BAKER", "miss baker smiles", "dr.baker"],
        *["Professor Baker Talks About Bread", "Sir Baker", "Ms.  Baker"],
        # after a given name of the catalogue
        *["Tom Baker", "Tom Baker as the Doctor", "TOM BAKER", "Portrait of Grace Baker"],
        "Grace-Baker",
        # capitalised side by side, where others are not
        *["Ada Baker smiles", "tea in Baker Street", "the Baker Hotel at dusk"],
        *["photo by A. Baker", "photo by A.Baker", "Ada Baker's shop window"],
        *["the actor Colin Baker, born in London", "Smith-Baker wedding in june"],
        "\xc9milie Baker rides a horse",
    ],
)
def test_somebody_called_baker(caption: str) -> None:
    assert not is_a_baker(caption)


@pytest.mark.parametrize(
    ("caption", "surname", "wanted"),
    [
        ("Judge Judy speaks", "judge", True),
        ("a picture of Judge Judy", "judge", True),
        ("the pitch of Aaron Judge was fast", "judge", False),
        ("King Charles waves", "king", True),
        ("Burger King with cars", "king", False),
        ("a book by Stephen King", "king", False),
        ("Mr. Coffee machine", "coffee", False),
        ("the house of a Carpenter in Iowa", "carpenter", True),
        ("the house of Karen Carpenter in Iowa", "carpenter", False),
    ],
)
def test_titles_and_others(caption: str, surname: str, wanted: bool) -> None:
    assert is_a_baker(caption, surname) == wanted


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("Grace waves", True),
        ("grace waves", True),
        ("Grace Under Pressure", True),
        ("GRACE", True),
        ("She moves with grace", False),
        ("a dancer in New York with grace", False),
        ("with grace, at 5 o'clock", True),
    ],
)
def test_a_given_name_is_capitalised_if_anything_is(caption: str, wanted: bool) -> None:
    words = cased_words(caption)
    at = [word.text.casefold() for word in words].index("grace")
    assert counts(words, at, Proper.GIVEN_NAME, GIVEN) == wanted


def test_cased_words_know_the_signs_before_them() -> None:
    found = [
        (word.text, word.signs) for word in cased_words("Mr. Baker\N{RIGHT SINGLE QUOTATION MARK}s")
    ]
    assert found == [("Mr", ""), ("Baker", ". "), ("'s", "")]


@settings(deadline=None, max_examples=300)
@given(
    caption=st.text(
        alphabet=st.one_of(
            st.characters(categories=["L", "N", "P", "Z", "So"]), st.sampled_from("aB'S sİßŉﬃ-_")
        ),
        max_size=40,
    )
)
def test_cased_words_stand_where_folded_words_stand(caption: str) -> None:
    words = cased_words(caption)
    folded = tokens(caption)
    assert len(words) == len(folded)
    for word, small in zip(words, folded, strict=True):
        assert small in word.text.casefold()


@settings(deadline=None)
@given(
    caption=st.lists(
        st.sampled_from(["a", "baker", "Baker", "Tom", "mr", "smiles", "London", "of"])
    )
)
def test_small_letters_are_only_judged_by_honorifics(caption: list[str]) -> None:
    words = cased_words(" ".join(caption).lower())
    for at, word in enumerate(words):
        if word.text == "baker":
            after_honorific = at > 0 and words[at - 1].text == "mr"
            assert counts(words, at, Proper.SURNAME, GIVEN) == (not after_honorific)
