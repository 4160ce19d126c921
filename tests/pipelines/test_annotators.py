"""What annotators say of one sample, and how several are put together."""

from typing import Any

import pytest

from m4.catalogue import Catalogue
from m4.errors import InputError, UnusableSample
from pipelines.annotators import (
    AnnotatorName,
    CaptionAnnotator,
    FieldAnnotator,
    Marks,
    annotate_sample,
    make_annotators,
)
from pipelines.shards import Sample, SampleSpan

WOMAN, MAN, CHILD = range(3)  # columns of the catalogue of conftest.py
NURSE, CHEF, OFFICER, KITCHEN = range(4)


def sample(caption: str = "", **metadata: Any) -> Sample:
    return Sample("0" * 32, "key", SampleSpan(0, 512), caption, metadata)


# Captions


@pytest.mark.parametrize(
    ("caption", "values"),
    [
        ("a woman", {WOMAN: 1.0, MAN: 0.0}),
        ("a man", {WOMAN: 0.0, MAN: 1.0}),
        ("a man and a woman", {WOMAN: 0.5, MAN: 0.5}),
        ("a man, a man and a woman", {WOMAN: 0.5, MAN: 0.5}),
        ("a child", {CHILD: 1.0}),
        ("a girl", {WOMAN: 1.0, MAN: 0.0, CHILD: 1.0}),
        ("a girl and a boy", {WOMAN: 0.5, MAN: 0.5, CHILD: 1.0}),
        ("a nurse", {}),
        ("", {}),
    ],
)
def test_a_caption_gives_the_probability_of_each_value(
    catalogue: Catalogue, caption: str, values: dict[int, float]
) -> None:
    marks = CaptionAnnotator(catalogue).annotate(sample(caption))
    assert marks.values == values
    known = {"gender"} if WOMAN in values else set()
    known |= {"age"} if CHILD in values else set()
    assert marks.sources == dict.fromkeys(known, "captions")


def test_values_that_are_not_exclusive_do_not_share() -> None:
    catalogue = Catalogue.model_validate(
        {
            "name": "ages",
            "purpose": "tests",
            "sensitive": {
                "age": {
                    "describes": "age as perceived",
                    "exclusive": False,
                    "values": {
                        "young": {"target": 0.5, "terms": ["young"]},
                        "old": {"target": 0.5, "terms": ["old"]},
                        "any": {"target": 0.5, "terms": ["ageless"]},
                    },
                }
            },
        }
    )
    marks = CaptionAnnotator(catalogue).annotate(sample("young and old"))
    assert marks.values == {0: 1.0, 1: 1.0, 2: 0.0}


def test_a_caption_gives_labels_and_proxies_with_their_source(catalogue: Catalogue) -> None:
    marks = CaptionAnnotator(catalogue).annotate(sample("a policewoman and a cook in a kitchen"))
    assert marks.labels == dict.fromkeys((CHEF, OFFICER, KITCHEN), "captions")
    assert marks.values == {WOMAN: 1.0, MAN: 0.0}


def test_an_ignored_phrase_marks_nothing(catalogue: Catalogue) -> None:
    assert CaptionAnnotator(catalogue).annotate(sample("chef's knife, women's watch")) == Marks()


# Fields


@pytest.mark.parametrize(
    ("metadata", "values"),
    [
        ({"gender": "female"}, {WOMAN: 1.0, MAN: 0.0}),
        ({"gender": "both"}, {WOMAN: 0.5, MAN: 0.5}),
        ({"gender": ["male", "unclear"]}, {WOMAN: 0.0, MAN: 1.0}),
        ({"gender": ["male", "female"]}, {WOMAN: 0.5, MAN: 0.5}),
        ({"gender": []}, {}),
        ({"gender": "unclear"}, {}),
        ({"gender": None}, {}),
        ({"gender": {"female": 1}}, {}),
        ({"gender": [["female"], {"a": 1}]}, {}),
        ({"Gender": "female"}, {}),
        ({"faces": {"child": 0.25}}, {CHILD: 0.25}),
        ({"faces": {"child": 0}}, {CHILD: 0.0}),
        ({"faces": {"child": None}}, {}),
        ({"faces": {}}, {}),
        ({"faces": [0.25]}, {}),
        ({"faces": "child"}, {}),
        ({"gender": "male", "faces": {"child": 1}}, {WOMAN: 0.0, MAN: 1.0, CHILD: 1.0}),
    ],
)
def test_fields_give_the_probability_of_each_value(
    catalogue: Catalogue, metadata: dict[str, Any], values: dict[int, float]
) -> None:
    marks = FieldAnnotator(catalogue).annotate(sample(**metadata))
    assert marks.values == values
    assert set(marks.sources.values()) <= {"fields"}
    assert ("gender" in marks.sources, "age" in marks.sources) == (WOMAN in values, CHILD in values)


@pytest.mark.parametrize("number", [1.5, -0.1, "0.5", True, [0.5], float("nan"), float("inf")])
def test_what_is_not_a_probability_makes_the_sample_unusable(
    catalogue: Catalogue, number: object
) -> None:
    with pytest.raises(UnusableSample, match=r"^json field faces\.child is not a probability$"):
        FieldAnnotator(catalogue).annotate(sample(faces={"child": number}))


@pytest.mark.parametrize(
    ("places", "found"),
    [("kitchen", True), (["street", "galley"], True), ("street", False), (None, False)],
)
def test_fields_give_labels(catalogue: Catalogue, places: object, found: bool) -> None:
    marks = FieldAnnotator(catalogue).annotate(sample(places=places))
    assert marks.labels == ({KITCHEN: "fields"} if found else {})


@pytest.mark.parametrize(("score", "found"), [(0.5, True), (0.49, False), (1, True), (0, False)])
def test_a_label_holds_from_one_half_on(score: float, found: bool) -> None:
    catalogue = Catalogue.model_validate(
        {
            "name": "scores",
            "purpose": "tests",
            "sensitive": {
                "gender": {
                    "describes": "gender as perceived",
                    "values": {"woman": {"target": 1.0, "terms": ["woman"]}},
                }
            },
            "labels": {"dog": {"field": {"path": "scores.animals.dog"}}},
        }
    )
    given = sample(scores={"animals": {"dog": score}})
    assert FieldAnnotator(catalogue).annotate(given).labels == ({0: "fields"} if found else {})


# Several annotators


def annotate(catalogue: Catalogue, given: Sample, *names: AnnotatorName) -> Marks:
    return annotate_sample(given, make_annotators(catalogue, names))


def test_the_first_annotator_that_knows_an_attribute_wins(catalogue: Catalogue) -> None:
    given = sample("a woman", gender="male", faces={"child": 0.25})
    first = annotate(catalogue, given, "captions", "fields")
    assert first.values == {WOMAN: 1.0, MAN: 0.0, CHILD: 0.25}
    assert first.sources == {"gender": "captions", "age": "fields"}
    second = annotate(catalogue, given, "fields", "captions")
    assert second.values == {WOMAN: 0.0, MAN: 1.0, CHILD: 0.25}
    assert second.sources == {"gender": "fields", "age": "fields"}


def test_an_annotator_that_knows_nothing_leaves_it_to_the_next(catalogue: Catalogue) -> None:
    marks = annotate(catalogue, sample("a nurse", gender="male"), "captions", "fields")
    assert marks.values == {WOMAN: 0.0, MAN: 1.0}
    assert marks.sources == {"gender": "fields"}


def test_labels_of_all_annotators_are_joined_in_order(catalogue: Catalogue) -> None:
    given = sample("a chef and a nurse", places=["kitchen"])
    for names in (("fields", "captions"), ("captions", "fields")):
        marks = annotate(catalogue, given, *names)
        assert list(marks.labels.items()) == [
            (NURSE, "captions"),
            (CHEF, "captions"),
            (KITCHEN, "fields"),
        ]
    both = annotate(catalogue, sample("a kitchen", places="kitchen"), "fields", "captions")
    assert both.labels == {KITCHEN: "fields"}


def test_values_of_an_exclusive_attribute_sum_to_one(catalogue: Catalogue) -> None:
    for caption in ("a woman", "a man and a woman", "girl boy man"):
        marks = annotate(catalogue, sample(caption), "captions")
        assert marks.values[WOMAN] + marks.values[MAN] == 1.0


# Making annotators


def bare(**mark: Any) -> Catalogue:
    return Catalogue.model_validate(
        {
            "name": "bare",
            "purpose": "tests",
            "sensitive": {
                "gender": {
                    "describes": "gender as perceived",
                    "values": {"woman": {"target": 1.0, **mark}},
                }
            },
        }
    )


def test_an_annotator_with_nothing_to_look_for_is_refused() -> None:
    with pytest.raises(InputError, match=r"'captions' has nothing to look for.*'bare' has `terms`"):
        make_annotators(bare(field={"path": "gender"}), ["captions"])
    with pytest.raises(InputError, match=r"'fields' has nothing to look for.*'bare' has `field`"):
        make_annotators(bare(terms=["woman"]), ["captions", "fields"])


def test_no_or_unknown_annotators_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(InputError, match="no annotators given"):
        make_annotators(catalogue, [])
    with pytest.raises(InputError, match="'faces' is not one of captions, fields"):
        make_annotators(catalogue, ["faces"])  # type: ignore[list-item]
