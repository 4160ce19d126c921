"""Captions annotated: values, persons, labels, languages and counts, a batch at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from pipelines.annotators.marks import Batch, Marks
from pipelines.captions.annotator import CaptionAnnotator
from pipelines.shards import Sample, SampleSpan

SYNTHETIC = Path(__file__).resolve().parents[3] / "synthetic" / "catalogue.yaml"
CATALOGUE = Catalogue.model_validate(
    {
        "name": "words",
        "purpose": "tests",
        "sensitive": {
            "gender": {
                "describes": "gender as perceived",
                "values": {
                    "woman": {
                        "target": 0.5,
                        "terms": ["woman", "policewoman", "lady"],
                        "ignore": ["lady bug", "women's watch"],
                        "names": ["Mary"],
                        "translations": {"es": {"terms": ["mujer", "mujeres"]}},
                    },
                    "man": {
                        "target": 0.5,
                        "terms": ["man", "mr"],
                        "ignore": ["men's watch", "mr coffee"],
                        "names": ["Tom"],
                        "translations": {"es": {"terms": ["hombre", "hombres"]}},
                    },
                },
            },
            "age": {
                "describes": "age as perceived",
                "exclusive": False,
                "values": {
                    "child": {"target": 0.2, "terms": ["child"]},
                    "old": {"target": 0.2, "terms": ["elderly"]},
                },
            },
        },
        "labels": {
            "police officer": {"terms": ["police officer", "policewoman"]},
            "baker": {
                "terms": ["baker"],
                "translations": {"es": {"terms": ["panadera", "panadero"]}},
            },
        },
        "proxies": {"kitchen": {"terms": ["kitchen", "cuisine"]}},
        "person": {"terms": ["person", "baker"], "ignore": ["person shooter"]},
        "surnames": ["baker"],
    }
)


def batch_of(captions: Sequence[str]) -> Batch:
    return Batch(
        [Sample(f"{i:032x}", str(i), SampleSpan(0, 0), each, {}) for i, each in enumerate(captions)]
    )


def annotate(*captions: str, catalogue: Catalogue = CATALOGUE, **options: Any) -> Marks:
    return CaptionAnnotator(catalogue, **options).annotate(batch_of(captions))


def labels(marks: Marks) -> list[tuple[int, int]]:
    return list(zip(marks.label_rows.tolist(), marks.label_ids.tolist(), strict=True))


NAN = np.nan


@pytest.mark.parametrize(
    ("caption", "values", "person", "ids"),
    [
        ("a woman at the window", [1, 0, NAN, NAN], 1, []),
        ("a woman and two men at the window", [0.5, 0.5, NAN, NAN], 1, []),
        ("two women and a woman", [1, 0, NAN, NAN], 1, []),
        ("an elderly child with the dog", [NAN, NAN, 1, 1], 1, []),
        ("the policewomen in the kitchen", [1, 0, NAN, NAN], 1, [0, 2]),
        ("the baker in the kitchen of the baker", [NAN] * 4, 1, [1, 2]),
        ("a person in the background", [NAN] * 4, 1, []),
        ("the kitchen with a table", [NAN] * 4, NAN, [2]),
        ("a police officer with a dog", [NAN] * 4, NAN, [0]),
        ("view of the mountains", [NAN] * 4, NAN, []),
        # what is not meant
        ("a men's watch and a women's watch", [NAN] * 4, NAN, []),
        ("the lady bug on a leaf", [NAN] * 4, NAN, []),
        ("the first person shooter game", [NAN] * 4, NAN, []),
        ("Ada Baker by the river", [NAN] * 4, NAN, []),
        ("Mr. Coffee in the kitchen", [NAN] * 4, NAN, [2]),
        ("Mr. Baker in the kitchen", [0, 1, NAN, NAN], 1, [2]),
        ("", [NAN] * 4, NAN, []),
    ],
)
def test_a_caption_says(caption: str, values: list[float], person: float, ids: list[int]) -> None:
    marks = annotate("nothing here", caption)
    assert marks.values.dtype == marks.person.dtype == np.float32
    assert marks.label_rows.dtype == marks.label_ids.dtype == np.int64
    np.testing.assert_array_equal(marks.values, [[NAN] * 4, values])
    np.testing.assert_array_equal(marks.person, [NAN, person])
    assert labels(marks) == [(1, r) for r in ids]
    assert len(marks) == 2
    assert marks.unusable == {}


def test_terms_are_counted_as_they_are_listed() -> None:
    marks = annotate(
        "two policewomen and a Woman", "women, a BAKER and people", "the lady bug", "Mr. Baker"
    )
    assert marks.found == Counter(
        {
            ("gender.woman", "policewoman"): 1,
            ("gender.woman", "woman"): 2,
            ("gender.man", "mr"): 1,
            ("police officer", "policewoman"): 1,
            ("baker", "baker"): 1,
            ("person", "baker"): 1,
            ("person", "person"): 1,
        }
    )


def test_a_language_without_terms_marks_nothing() -> None:
    marks = annotate(
        "the woman in the kitchen", "la femme dans la cuisine man", "die Frau und der man"
    )
    assert marks.languages == ["en", "fr", "de"]
    assert labels(marks) == [(0, 2)]
    np.testing.assert_array_equal(marks.person, [1, NAN, NAN])
    assert sum(marks.found.values()) == 2


def test_each_caption_is_read_in_its_language() -> None:
    marks = annotate(
        "una mujer en la playa con su perro",
        "a woman and a mujer at the beach",
        "dos hombres y una panadera en la calle, a woman",
        "das ist eine Frau mit einem Hund",
        languages=("en", "es"),
    )
    assert marks.languages == ["es", "en", "es", "de"]
    np.testing.assert_array_equal(marks.values[:, 0], [1, 1, 0, NAN])
    assert labels(marks) == [(2, 1)]
    assert marks.found[("gender.woman", "mujer")] == 1
    assert marks.found[("baker", "panadera")] == 1


def test_one_language_that_is_not_english() -> None:
    marks = annotate("una mujer en la playa con su perro", "the woman", "Chef", languages=("es",))
    assert marks.languages == ["es", "en", None]  # "Chef": English is not read, so not assumed
    np.testing.assert_array_equal(marks.person, [1, NAN, NAN])


def test_languages_need_not_be_identified() -> None:
    captions = ("la femme dans la cuisine man", "une lady", "?")
    marks = annotate(*captions, languages=())
    assert marks.languages is None
    np.testing.assert_array_equal(marks.person, [1, 1, NAN])
    assert labels(marks) == [(0, 2)]


def test_short_captions_are_english_where_english_is_read() -> None:
    marks = annotate("man", "Baker", "lady")
    assert marks.languages == ["en"] * 3
    np.testing.assert_array_equal(marks.person, [1, 1, 1])


def test_names_count_where_asked_for() -> None:
    captions = ("Mary and the dog on the beach", "Tom Baker with a dog in the kitchen")
    np.testing.assert_array_equal(annotate(*captions).person, [NAN, NAN])
    marks = annotate(*captions, names=True)
    np.testing.assert_array_equal(marks.values[:, :2], [[1, 0], [0, 1]])
    assert labels(marks) == [(1, 2)]


@pytest.mark.parametrize(
    ("languages", "says"), [(("fr",), "'fr'.*include a translation"), (("en", "de"), "'de'")]
)
def test_a_language_needs_terms(languages: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CaptionAnnotator(CATALOGUE, languages=languages)


def test_a_catalogue_needs_terms() -> None:
    content = {
        "name": "none",
        "purpose": "tests",
        "sensitive": {"a": {"describes": "a", "values": {"b": {"target": 1.0, "prompt": "a b"}}}},
    }
    with pytest.raises(InputError, match="'none' has no `terms`"):
        CaptionAnnotator(Catalogue.model_validate(content))


def test_a_catalogue_without_labels() -> None:
    content = CATALOGUE.model_dump(exclude={"labels", "proxies", "person", "surnames"})
    marks = annotate("the woman in the kitchen", catalogue=Catalogue.model_validate(content))
    assert labels(marks) == []
    np.testing.assert_array_equal(marks.person, [1])


def test_an_empty_batch() -> None:
    marks = annotate()
    assert (marks.values.shape, marks.person.shape, labels(marks)) == ((0, 4), (0,), [])
    assert marks.languages == []
    assert annotate(languages=()).languages is None


def test_it_does_not_look_at_pictures() -> None:
    annotator = CaptionAnnotator(CATALOGUE)
    annotator.begin("00000")
    assert (annotator.name, annotator.size) == ("captions", 0)


def test_long_and_odd_captions() -> None:
    captions = [
        "the woman and the dog " * 5000,
        "the woman\u0131 and the \ufb01reman \U0001f469\U0001f3fd with a dog",
        "the\nwoman\nand the\ndog",
        "\N{FULLWIDTH LATIN SMALL LETTER M}an with the dog and his ball",
    ]
    marks = annotate(*captions)
    np.testing.assert_array_equal(marks.person, [1, NAN, 1, 1])
    assert marks.found[("gender.woman", "woman")] == 5001


def test_the_demonstration_reads_its_captions() -> None:
    marks = annotate(
        "a nurse looks after her patients in the hospital",
        "the nurse's hat and the men's room with a hammer",
        catalogue=load_catalogue(SYNTHETIC),
    )
    catalogue = load_catalogue(SYNTHETIC)
    names = [catalogue.label_names[r] for r in marks.label_ids]
    assert list(zip(marks.label_rows.tolist(), names, strict=True)) == [
        (0, "nurse"),
        (0, "hospital"),
        (1, "hammer"),
    ]
    np.testing.assert_array_equal(marks.person, [1, NAN])


phrases = st.sampled_from(
    [
        *[
            "a woman",
            "two men",
            "a baker",
            "Ada Baker",
            "the policewoman",
            "in the kitchen",
            "Mary",
        ],
        *["una mujer", "con un hombre", "en la playa", "lady bug", "person", "\n", "caf\xe9", "!"],
    ]
)
batches = st.lists(st.lists(phrases, max_size=6).map(" ".join), max_size=6)
ANNOTATOR = CaptionAnnotator(CATALOGUE, languages=("en", "es"), names=True)


def assert_same(one: Marks, other: Marks) -> None:
    for field in fields(Marks):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


def joined(parts: Sequence[Marks]) -> Marks:
    """Marks of batches, one behind the other."""
    first = np.cumsum([0, *map(len, parts)])[:-1]
    rows = [each.label_rows + start for each, start in zip(parts, first, strict=True)]
    return Marks(
        np.concatenate([each.values for each in parts]),
        np.concatenate([each.person for each in parts]),
        np.concatenate(rows),
        np.concatenate([each.label_ids for each in parts]),
        [language for each in parts for language in each.languages or ()],
        {},
        sum((each.found for each in parts), Counter()),
    )


@settings(deadline=None)
@given(captions=batches)
def test_a_batch_is_its_captions_one_by_one(captions: list[str]) -> None:
    together = ANNOTATOR.annotate(batch_of(captions))
    empty = ANNOTATOR.annotate(batch_of([]))
    parts = [ANNOTATOR.annotate(batch_of([caption])) for caption in captions]
    assert_same(together, joined([empty, *parts]))


@settings(deadline=None, max_examples=30)
@given(captions=batches, piece=st.integers(1, 3))
def test_pieces_change_nothing(captions: list[str], piece: int) -> None:
    whole = ANNOTATOR.annotate(batch_of(captions))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.captions.words.PIECE", piece)
        assert_same(ANNOTATOR.annotate(batch_of(captions)), whole)


@settings(deadline=None)
@given(captions=batches)
def test_marks_hold_together(captions: list[str]) -> None:
    marks = ANNOTATOR.annotate(batch_of(captions))
    gender = marks.values[:, :2]
    known = ~np.isnan(gender[:, 0])
    np.testing.assert_allclose(gender[known].sum(axis=1), 1)
    assert np.isnan(gender[~known]).all()
    assert (marks.person[known] == 1).all()
    assert set(marks.person[~np.isnan(marks.person)].tolist()) <= {1.0}
    pairs = labels(marks)
    assert pairs == sorted(set(pairs))
    assert all(count > 0 for count in marks.found.values())
