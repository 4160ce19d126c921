"""What is suspicious in a catalogue: each finding, what resembles it but is fine, their order."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue, load_catalogue
from pipelines.captions.check import Finding, check_catalogue

CLEAN = """
name: people at work
purpose: a catalogue in which nothing is suspicious
surnames: [cook]
person:
  terms: [person, human being]
  ignore: [personal computer person]
sensitive:
  gender:
    describes: gender as perceived
    values:
      woman:
        target: 0.5
        terms: [woman, girl, policewoman]
        ignore: ["women's watch"]
        names: [mary, jean]
        translations: {es: {terms: [mujer, mujeres], ignore: [mujer maravilla]}}
      man:
        target: 0.5
        terms: [man, boy, policeman]
        ignore: [man page]
        names: [john]
        translations: {es: {terms: [hombre, hombres]}}
  age:
    describes: age as perceived
    exclusive: false
    values:
      child: {target: 0.3, terms: [girl, boy, child]}
      young: {target: 0.3, terms: [young, child]}
labels:
  cook: {terms: [cook, chef], ignore: ["chef's knife"]}
  police officer: {terms: [policewoman, policeman, police officer]}
proxies:
  kitchen: {field: {path: places, equals: [kitchen]}}
  glass: {terms: [glass]}
  spectacles: {terms: [glasses], ignore: []}
"""
Change = Callable[[dict[str, Any]], Any]


def changed(change: Change) -> Catalogue:
    content = yaml.safe_load(CLEAN)
    change(content)
    return Catalogue.model_validate(content)


def woman(content: dict[str, Any]) -> dict[str, Any]:
    return content["sensitive"]["gender"]["values"]["woman"]


def man(content: dict[str, Any]) -> dict[str, Any]:
    return content["sensitive"]["gender"]["values"]["man"]


def test_a_clean_catalogue() -> None:
    """What looks alike and is fine.

    A girl is a woman and a child, a child is young (these values do not exclude each other), a
    policewoman is a woman and an officer, glasses are no plural of glass where they are listed.
    """
    assert check_catalogue(Catalogue.model_validate(yaml.safe_load(CLEAN))) == []


MISTAKES: dict[str, tuple[Change, str, str]] = {
    "a term listed twice": (
        lambda content: woman(content)["terms"].append("girl"),
        "gender.woman",
        "terms: 'girl' is listed twice",
    ),
    "a term listed twice, spelt in two ways": (
        lambda content: content["labels"]["police officer"]["terms"].append("Police-Officer"),
        "police officer",
        "terms: 'Police-Officer' is listed and so is 'police officer', the same words",
    ),
    "a term without words": (
        lambda content: content["labels"]["cook"]["terms"].append("!?"),
        "cook",
        "terms: '!?' holds no word",
    ),
    "a phrase to be ignored without words": (
        lambda content: content["person"]["ignore"].append(""),
        "person",
        "ignore: '' holds no word",
    ),
    "a phrase that is ignored twice": (
        lambda content: man(content)["ignore"].append("man-page"),
        "gender.man",
        "ignore: 'man-page' is listed and so is 'man page', the same words",
    ),
    "a name twice": (
        lambda content: man(content)["names"].append("john"),
        "gender.man",
        "names: 'john' is listed twice",
    ),
    "a translation twice": (
        lambda content: man(content)["translations"]["es"]["terms"].append("hombre"),
        "gender.man",
        "terms in es: 'hombre' is listed twice",
    ),
    "a term of two values": (
        lambda content: man(content)["terms"].append("Girl"),
        "gender",
        "'girl' stands for gender.woman and gender.man, which exclude each other",
    ),
    "the plural of another value's term": (
        lambda content: (
            woman(content)["terms"].append("men"),
            man(content)["terms"].append("men"),
        ),
        "gender",
        "'men' stands for gender.woman and gender.man, which exclude each other",
    ),
    "a term of two values with a possessive": (
        lambda content: (
            woman(content)["terms"].append("Baker's bride"),
            man(content)["terms"].append("baker\u2019s bride"),
        ),
        "gender",
        '"baker\'s bride" stands for gender.woman and gender.man, which exclude each other',
    ),
    "a name of two values": (
        lambda content: man(content)["names"].append("jean"),
        "gender",
        "'jean' stands for gender.woman and gender.man, which exclude each other",
    ),
    "a translation of two values": (
        lambda content: man(content)["translations"]["es"]["terms"].append("mujer"),
        "gender",
        "'mujer' (es) stands for gender.woman and gender.man, which exclude each other",
    ),
    "a term that is ignored": (
        lambda content: content["labels"]["cook"]["ignore"].append("Chef"),
        "cook",
        "'chef' is ignored, but it is a term as well",
    ),
    "a translation that is ignored": (
        lambda content: woman(content)["translations"]["es"]["ignore"].append("mujeres"),
        "gender.woman",
        "'mujeres' (es) is ignored, but it is a term as well",
    ),
    "a surname of two words": (
        lambda content: content["surnames"].append("police officer"),
        "surnames",
        "'police officer' is not one word",
    ),
}
NOTES: dict[str, tuple[Change, str, str]] = {
    "a term of two labels": (
        lambda content: content["proxies"]["glass"]["terms"].append("chef"),
        "cook",
        "'chef' marks cook and glass",
    ),
    "a phrase that holds no term": (
        lambda content: man(content)["ignore"].append("manual page"),
        "gender.man",
        "'manual page' is ignored, but it holds no term",
    ),
    "a phrase that holds a part of a term": (
        lambda content: content["person"]["ignore"].append("human error"),
        "person",
        "'human error' is ignored, but it holds no term",
    ),
    "a phrase that holds a term of another language": (
        lambda content: woman(content)["ignore"].append("mujer maravilla"),
        "gender.woman",
        "'mujer maravilla' is ignored, but it holds no term",
    ),
    "a translated phrase that holds no term": (
        lambda content: woman(content)["translations"]["es"]["ignore"].append("woman"),
        "gender.woman",
        "'woman' (es) is ignored, but it holds no term",
    ),
    "nothing that captions or fields say": (
        lambda content: content["labels"].update(pilot={"prompt": "a pilot"}),
        "pilot",
        "only a head or model finds it: no terms, no field",
    ),
    "surnames that are no terms": (
        lambda content: content["surnames"].extend(["smith", "Mary Jones", "cook"]),
        "surnames",
        "no English terms: smith, Mary Jones",
    ),
    "a surname that is a term of another language": (
        lambda content: content["surnames"].append("hombre"),
        "surnames",
        "no English terms: hombre",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake(case: str) -> None:
    change, where, says = MISTAKES[case]
    assert Finding(level="mistake", where=where, says=says) in check_catalogue(changed(change))


@pytest.mark.parametrize("case", NOTES)
def test_a_note_and_nothing_else(case: str) -> None:
    change, where, says = NOTES[case]
    assert check_catalogue(changed(change)) == [Finding(level="note", where=where, says=says)]


FINE: dict[str, Change] = {
    "a phrase that holds a plural": lambda content: man(content)["ignore"].append("menswear men"),
    "a phrase that holds a term of another mark": (
        lambda content: woman(content)["ignore"].append("chef salad")
    ),
    "a phrase whose plural holds a plural that is a term": (
        lambda content: (
            content["proxies"].pop("glass"),
            content["proxies"]["spectacles"]["ignore"].append("magnifying glass"),
        )
    ),
    "a phrase that is a term of another mark": (
        lambda content: content["proxies"]["glass"]["terms"].append("chef's knife")
    ),
    "a phrase that holds a name": lambda content: man(content)["ignore"].append("john deere"),
    "a plural that is ignored": lambda content: content["labels"]["cook"]["ignore"].append("cooks"),
    "what only a translation finds": (
        lambda content: content["labels"].update(
            pilot={"prompt": "a pilot", "translations": {"es": {"terms": ["piloto"]}}}
        )
    ),
    "a plural that is spelt out": lambda content: woman(content)["terms"].append("women"),
    "one word in two languages": (
        lambda content: man(content)["translations"]["es"]["terms"].append("girl")
    ),
    "a name that is a term of its own mark": lambda content: man(content)["names"].append("boy"),
    "no person, no surnames": lambda content: (content.pop("person"), content.pop("surnames")),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_fine(case: str) -> None:
    assert check_catalogue(changed(FINE[case])) == []


def test_a_contradiction_is_told_once_not_again_of_its_plural() -> None:
    found = check_catalogue(changed(lambda content: man(content)["terms"].append("girl")))
    assert [each.says for each in found] == [
        "'girl' stands for gender.woman and gender.man, which exclude each other"
    ]


def test_a_repeated_term_does_not_contradict_itself() -> None:
    found = check_catalogue(changed(lambda content: man(content)["terms"].append("man")))
    assert [each.says for each in found] == ["terms: 'man' is listed twice"]


def test_three_values_and_three_labels_are_all_named() -> None:
    def change(content: dict[str, Any]) -> None:
        values = content["sensitive"]["gender"]["values"]
        values["other"] = {"target": 0.0, "terms": ["girl"]}
        man(content)["terms"].append("girl")
        for name in ("glass", "spectacles"):
            content["proxies"][name]["terms"].append("chef")

    assert [each.says for each in check_catalogue(changed(change))] == [
        "'girl' stands for gender.woman and gender.man and gender.other, which exclude each other",
        "'chef' marks cook and glass and spectacles",
    ]


def test_mistakes_come_first_and_the_rest_in_the_order_of_the_catalogue() -> None:
    def change(content: dict[str, Any]) -> None:
        content["surnames"] += ["smith", "miller"]
        content["labels"]["pilot"] = {"prompt": "a pilot"}
        content["labels"]["cook"]["ignore"] += ["soup spoon", "chef", "tea spoon"]
        woman(content)["terms"].append("woman")

    found = check_catalogue(changed(change))
    assert [(each.level, each.where) for each in found] == [
        ("mistake", "gender.woman"),
        ("mistake", "cook"),
        ("note", "pilot"),
        ("note", "surnames"),
        ("note", "cook"),
        ("note", "cook"),
    ]
    assert [each.says.split("'")[1] for each in found[-2:]] == ["soup spoon", "tea spoon"]
    assert check_catalogue(changed(change)) == found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["cat", "dog", "cats", "Dog", "a cat", "-"]), min_size=1))
def test_terms_are_told_exactly_where_words_repeat(terms: list[str]) -> None:
    """However terms are listed, there is a mistake for each that adds no words to those before."""
    found = check_catalogue(changed(lambda content: content["labels"]["cook"].update(terms=terms)))
    told = [each for each in found if each.where == "cook" and each.says.startswith("terms: ")]
    distinct = {term.casefold() for term in terms} - {"-"}
    assert len(told) == len(terms) - len(distinct)


def test_the_built_in_catalogue_holds_no_mistake() -> None:
    people = load_catalogue("builtin:people")
    assert people.surnames and any(mark.names for _, mark in people.each_mark())
    found = check_catalogue(people)
    assert [each for each in found if each.level == "mistake"] == []
