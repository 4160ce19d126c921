"""Noun phrases and ensembles of prompts."""

from collections.abc import Sequence

import numpy as np
import pytest

from m4.catalogue import Mark
from m4.errors import InputError, UndefinedError
from vision.prompts import (
    class_embedding,
    encode,
    mark_embedding,
    mean_directions,
    noun_phrase,
    noun_phrases,
)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("nurse", "a nurse"),
        ("engineer", "an engineer"),
        ("flight_attendant", "a flight attendant"),
        ("Air-traffic_controller", "an Air traffic controller"),
    ],
)
def test_a_name_becomes_a_noun_phrase(name: str, phrase: str) -> None:
    assert noun_phrase(name, Mark(terms=("x",))) == phrase


def test_a_prompt_is_taken_word_for_word() -> None:
    assert noun_phrase("user", Mark(terms=("x",), prompt="a user {of} tools_")) == (
        "a user {of} tools_"
    )


def test_every_template_is_filled_in_for_every_phrase() -> None:
    seen: list[str] = []

    def encoder(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return np.ones((len(texts), 2))

    class_embedding(["a cat", "a {x}"], ("{}", "{} at work"), encoder)
    assert seen == ["a cat", "a cat at work", "a {x}", "a {x} at work"]


def test_features_are_normalised_before_and_after_the_mean() -> None:
    vectors = {"one": [100.0, 0.0], "a one": [0.0, 1.0]}  # unnormalised, the first would win
    found = class_embedding(
        ["one"], ("{}", "a {}"), lambda texts: np.array([vectors[t] for t in texts])
    )
    assert np.allclose(found, [[np.sqrt(0.5), np.sqrt(0.5)]])


@pytest.mark.parametrize("templates", [(), ("a picture",), ("{} and {}",)])
def test_a_template_needs_one_place_for_the_name(templates: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="template"):
        class_embedding(["a cat"], templates, lambda texts: np.ones((len(texts), 2)))


def test_an_encoder_that_loses_a_text_is_caught() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 2\) for 2 texts"):
        encode(["a", "b"], "captions", lambda texts: np.ones((1, 2)))


def test_a_text_without_direction_is_named() -> None:
    with pytest.raises(InputError, match=r"captions: row 1 \('b'\) is all zeros"):
        encode(["a", "b"], "captions", lambda texts: np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_prompts_that_cancel_out_are_named() -> None:
    with pytest.raises(UndefinedError, match=r"means of prompts: row 0 \('x'\) is all zeros"):
        class_embedding(["x"], ("{}", "a {}"), lambda texts: np.array([[1.0], [-1.0]]))


def test_all_phrases_of_a_mark_in_order_and_once() -> None:
    mark = Mark(prompt="a nurse", prompts=("a medical nurse", "a nurse"))
    assert noun_phrases("nurse", mark) == ("a nurse", "a medical nurse")
    assert noun_phrases("engineer", Mark(prompts=("a builder",))) == ("an engineer", "a builder")


def test_a_thing_is_the_mean_of_its_phrases() -> None:
    vectors = {"one": [9.0, 0.0], "an one": [9.0, 0.0], "two": [0.0, 1.0], "an two": [0.0, 1.0]}
    found = mark_embedding(
        [("one", "two"), ("two",)],
        ("{}", "an {}"),
        lambda texts: np.array([vectors[t] for t in texts]),
    )
    assert np.allclose(found, [[np.sqrt(0.5), np.sqrt(0.5)], [0.0, 1.0]])


def test_directions_that_cancel_out_are_named() -> None:
    with pytest.raises(UndefinedError, match=r"means of prompts: row 1 \('man'\) is all zeros"):
        mean_directions([np.ones((1, 2)), np.array([[1.0, 0.0], [-2.0, 0.0]])], ["woman", "man"])
    with pytest.raises(InputError, match="man: row 1 is all zeros"):
        mean_directions([np.ones((1, 2)), np.array([[1.0, 0.0], [0.0, 0.0]])], ["woman", "man"])
