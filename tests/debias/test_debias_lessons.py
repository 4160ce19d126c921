"""Lessons: who is in which group and class, what prompts become, and what captions say."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from debias.lessons import Lesson, Material, caption_parts
from m4.errors import InputError
from tests.planted_lessons import (
    PROMPTS,
    direction,
    encode_texts,
    lesson,
    material,
    people,
    set_of,
    write_prompts,
)
from vision.directions import normalised


def of_labels(folder: Path, labels: dict[str, list[str | None]], **changes: Any) -> Lesson:
    """A lesson on images with these labels, whose embeddings are their numbers."""
    frame = pl.DataFrame(labels, schema=dict.fromkeys(labels, pl.String))
    return lesson(folder, set_of(1.0 + np.arange(len(frame))[:, None], frame), **changes)


def rows_of(images: Any) -> list[int]:
    """Numbers of images, which their embeddings are."""
    return [int(row) - 1 for row in images.embeddings[:, 0]]


def unit(*texts: str) -> np.ndarray:
    return normalised(encode_texts(texts), "texts")


class Said(list[str]):
    """Encodes texts as `encode_texts`, and keeps what was asked."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.extend(texts)
        return encode_texts(texts)

    def of(self, row: np.ndarray) -> str:
        """The text that a row is the embedding of."""
        (text,) = {text for text in self if np.allclose(unit(text)[0], row)}
        return text


class TestImages:
    def test_those_without_a_group_are_left_out_and_then_those_without_a_class(
        self, tmp_path: Path
    ):
        given = of_labels(
            tmp_path,
            {
                "gender": ["M", None, "F", "both", "F", "M"],
                "job": ["nurse", "nurse", None, "doctor", "doctor", "doctor"],
            },
            outside=("both",),
        )
        assert rows_of(given.known) == [0, 2, 4, 5]
        assert given.attributes(given.known) == ["male", "female", "female", "male"]
        assert rows_of(given.labelled) == [0, 4, 5]
        assert given.labels(given.labelled).tolist() == [0, 1, 1]
        assert given.attributes(given.labelled) == ["male", "female", "male"]

    def test_values_are_groups_of_their_own_name_and_several_may_be_one(self, tmp_path: Path):
        labels = {"age": ["young", "old", "child"]}
        given = {"attribute": "age", "groups": None, "caption": None}
        own = of_labels(tmp_path, labels, **given)
        assert own.attributes(own.known) == ["young", "old", "child"]
        names = {"young": "<60", "child": "<60", "old": ">=60"}
        joined = of_labels(tmp_path, labels, **(given | {"groups": names}))
        assert joined.attributes(joined.known) == ["<60", ">=60", "<60"]

    def test_classes_are_numbered_as_the_prompts_are(self, tmp_path: Path):
        labels = {"gender": ["F", "M", "F"], "job": ["2", "1", None]}
        given = of_labels(tmp_path, labels, class_names={"1": "nurse", "2": "doctor"})
        assert PROMPTS["jobs"]["phrases"].keys() == {"nurse", "doctor"}
        assert given.labels(given.labelled).tolist() == [1, 0]
        swapped = dict(reversed(PROMPTS["jobs"]["phrases"].items()))
        other = write_prompts(tmp_path, "swapped", templates=["{}"], phrases=swapped)
        changed = replace(given, material=given.material.model_copy(update={"classes": other}))
        assert changed.labels(changed.labelled).tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("gender", "job", "said"),
        [
            (["F", "X", "M"], ["nurse"] * 3, "label gender holds 'X'; known are F, M"),
            ([None] * 3, ["nurse"] * 3, "label gender is empty everywhere"),
            (["F", "M", "F"], ["nurse", "pilot", "nurse"], "label job holds 'pilot'; known are nu"),
            (["F", "M", "F"], [None] * 3, "label job is empty everywhere"),
            ([None, "M", "F"], ["nurse", None, None], "label job is empty everywhere"),
        ],
    )
    def test_strange_values_are_named(self, tmp_path: Path, gender: list, job: list, said: str):
        given = of_labels(tmp_path, {"gender": gender, "job": job})
        with pytest.raises(InputError, match=said):
            _ = given.labelled

    def test_labels_and_names_that_are_not_there(self, tmp_path: Path):
        with pytest.raises(InputError, match="no label 'age'; it has gender, job"):
            _ = lesson(tmp_path, attribute="age", caption=None).known
        with pytest.raises(InputError, match="no label 'occupation'"):
            _ = lesson(tmp_path, label="occupation").labelled
        with pytest.raises(InputError, match="class_names: 'pilot' is no name of prompts jobs; n"):
            _ = lesson(tmp_path, class_names={"p": "pilot"}).labelled

    @pytest.mark.parametrize(
        ("left_out", "ask", "said"),
        [
            ("classes", lambda given: given.class_prompts, "classes is missing"),
            ("classes", lambda given: given.labelled, "classes is missing"),
            ("label", lambda given: given.labelled, "label is missing"),
            ("spurious", lambda given: given.group_directions(), "spurious is missing"),
            ("candidates", lambda given: given.candidates, "candidates is missing"),
            ("caption", lambda given: given.captions(given.known), "caption is missing"),
        ],
    )
    def test_what_is_missing_is_named(self, tmp_path: Path, left_out: str, ask: Any, said: str):
        given = lesson(tmp_path, **{left_out: None})
        with pytest.raises(InputError, match=said):
            ask(given)


class TestPrompts:
    def test_every_template_with_every_phrase_and_the_name_it_is_of(self, tmp_path: Path):
        given = lesson(tmp_path)
        rows, positions = given.texts(given.class_prompts)
        said = ["a nurse", "a doctor", "a physician"]
        np.testing.assert_allclose(rows, unit(*[f"a photo of {each}" for each in said], *said))
        assert positions.tolist() == [0, 1, 1, 0, 1, 1]

    def test_a_group_is_a_name(self, tmp_path: Path):
        given = lesson(tmp_path)
        found = given.group_directions()
        np.testing.assert_allclose(found, given.spurious.embed(encode_texts))
        man = (direction("man") + direction("boy")) @ found.T  # the first name of the two
        assert man[0] > man[1]

    def test_or_a_category_where_there_are_any(self, tmp_path: Path):
        given = lesson(tmp_path, spurious=write_prompts(tmp_path, "w", **PROMPTS["words"]))
        mr, man, miss, woman = given.spurious.embed(encode_texts)
        wanted = normalised(np.stack([(mr + man) / 2, (miss + woman) / 2]), "means")
        np.testing.assert_allclose(given.group_directions(), wanted)

    def test_the_first_phrase_of_each_group_in_the_alphabets_order(self, tmp_path: Path):
        assert lesson(tmp_path).group_words() == {"female": "a woman", "male": "a man"}
        assert list(lesson(tmp_path).group_words()) == ["female", "male"]
        only = people(4, age=["x"] * 4)
        found = lesson(tmp_path, only, attribute="age", groups={"x": "male"}, caption=None)
        assert found.group_words() == {"male": "a man"}

    def test_a_group_without_a_phrase_is_named(self, tmp_path: Path):
        given = lesson(tmp_path, groups={"F": "female", "M": "masculine"})
        with pytest.raises(InputError, match="genders has no name 'masculine', a group of gender"):
            given.group_words()

    def test_candidates_without_pairs_are_refused(self, tmp_path: Path):
        path = write_prompts(tmp_path, "single", templates=["{}"], phrases={"a": "a", "b": "b"})
        with pytest.raises(InputError, match="candidates: prompt set single has no pairs"):
            _ = lesson(tmp_path, candidates=path).candidates

    def test_there_is_no_tower_without_a_model(self, tmp_path: Path):
        with pytest.raises(InputError, match="embeddings are given in place of the model"):
            _ = lesson(tmp_path).tower
        assert lesson(tmp_path, embedder="a model").tower == "a model"


class TestCaptions:
    def said(self, given: Lesson, images: Any) -> list[list[str]]:
        """The own text of each image, and its counterfactuals."""
        asked = Said()
        own, others = replace(given, encode_texts=asked).captions(images)
        assert own.shape == (len(images), 16) and others.shape[::2] == (len(images), 16)
        assert len(asked) == len(set(asked)), "each text is encoded once"
        return [
            [asked.of(row) for row in (own[number], *others[number])]
            for number in range(len(images))
        ]

    def test_words_by_group_class_and_value(self, tmp_path: Path):
        given = of_labels(
            tmp_path,
            {"gender": ["F", "M"], "job": ["2", "1"], "place": ["w", "indoors"]},
            class_names={"1": "nurse", "2": "doctor"},
            caption="{gender} the {job}, {place}, {gender}",
            words={"gender": {"female": "woman"}, "job": {"doctor": "MD"}, "place": {"w": "wood"}},
        )
        assert self.said(given, given.known) == [
            ["woman the MD, wood, woman", "male the MD, wood, male"],
            ["male the nurse, indoors, male", "woman the nurse, indoors, woman"],
        ]

    def test_of_three_groups_the_others_come_in_the_alphabets_order(self, tmp_path: Path):
        given = of_labels(
            tmp_path,
            {"race": ["c", "a", "b", "a"]},
            attribute="race",
            groups=None,
            caption="skin {race}",
        )
        assert self.said(given, given.known) == [
            ["skin c", "skin a", "skin b"],
            ["skin a", "skin b", "skin c"],
            ["skin b", "skin a", "skin c"],
            ["skin a", "skin b", "skin c"],
        ]

    def test_groups_are_those_of_all_images(self, tmp_path: Path):
        given = of_labels(
            tmp_path,
            {"race": ["c", "a", "b"]},
            attribute="race",
            groups=None,
            caption="skin {race}",
        )
        some = given.known.chosen(np.array([1]))
        assert self.said(given, some) == [["skin a", "skin b", "skin c"]]

    def test_braces_can_be_written_and_labels_may_have_any_name(self, tmp_path: Path):
        labels = {"gender": ["F", "M"], "hair.colour": ["red", "grey"], "a b": ["x", "y"]}
        given = of_labels(tmp_path, labels, caption="{{{gender}}} {hair.colour} {a b}")
        assert self.said(given, given.known) == [
            ["{female} red x", "{male} red x"],
            ["{male} grey y", "{female} grey y"],
        ]

    def test_words_with_braces_are_taken_as_they_are(self, tmp_path: Path):
        labels = {"gender": ["F", "M"], "place": ["{gender}", "}"]}
        given = of_labels(tmp_path, labels, caption="{gender} {place}")
        assert self.said(given, given.known)[0] == ["female {gender}", "male {gender}"]

    def test_an_image_without_a_word_is_named(self, tmp_path: Path):
        labels = {"gender": ["F", "M"], "job": ["nurse", None], "place": [None, "wood"]}
        by_place = of_labels(tmp_path, labels, caption="{gender} {place}")
        with pytest.raises(InputError, match="image image-0 has no place, which the caption names"):
            by_place.captions(by_place.known)
        by_job = of_labels(tmp_path, labels)
        with pytest.raises(InputError, match="image image-1 has no job, which the caption names"):
            by_job.captions(by_job.known)
        assert self.said(by_job, by_job.labelled) == [["a female nurse", "a male nurse"]]

    def test_a_column_that_is_not_there_is_named(self, tmp_path: Path):
        given = lesson(tmp_path, caption="a {gender} in {place}")
        with pytest.raises(InputError, match="no label 'place'; it has gender, job"):
            given.captions(given.known)

    def test_one_group_alone_has_no_counterfactual(self, tmp_path: Path):
        given = of_labels(tmp_path, {"gender": ["F", "F"], "job": ["nurse", "doctor"]})
        with pytest.raises(InputError, match="all images are in group 'female' of gender"):
            given.captions(given.known)

    def test_groups_of_one_word_are_refused(self, tmp_path: Path):
        given = lesson(tmp_path, words={"gender": {"female": "person", "male": "person"}})
        with pytest.raises(InputError, match="groups 'female' and 'male' of gender are both 'pers"):
            given.captions(given.known)

    @given(st.lists(st.tuples(st.sampled_from("FM"), st.sampled_from(["nurse", "doctor"]))))
    def test_only_the_attribute_differs(self, rows: list[tuple[str, str]]):
        rows = [*rows, ("F", "nurse"), ("M", "doctor")]
        images = people(len(rows))
        labels = pl.DataFrame({"gender": [row[0] for row in rows], "place": [r[1] for r in rows]})
        settings = Material(attribute="gender", caption="{gender}, {place}")
        given = Lesson(settings, replace(images, labels=labels), encode_texts)
        own, others = given.captions(given.known)
        swap = pl.col("gender").replace_strict({"F": "M", "M": "F"})
        swapped = replace(given, images=replace(images, labels=labels.with_columns(swap)))
        np.testing.assert_array_equal(others[:, 0], swapped.captions(swapped.known)[0])
        assert not np.isclose(own, others[:, 0]).all(axis=1).any()


class TestMaterial:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"caption": "a {job}"}, "'a {job}' has no {gender}; the attribute must be named in"),
            ({"caption": "{{gender}}"}, "has no {gender}"),
            ({"caption": "a {gender"}, "expected '}' before end of string; write {{ for a brace"),
            ({"caption": "a {gender} }"}, "Single '}' encountered"),
            ({"caption": "{gender} {}"}, "braces hold the name of a label and nothing else"),
            ({"caption": "{gender!r}"}, "braces hold the name of a label and nothing else"),
            ({"caption": "{gender:>9}"}, "braces hold the name of a label and nothing else"),
            ({"words": {"gendr": {"F": "f"}}}, "words: 'gendr' is not named in the caption, 'a {"),
            ({"words": {"gender": {}}, "caption": None}, "words: 'gender' is not named in the cap"),
            ({"class_names": {"1": "nurse"}, "label": None}, "class_names has no effect without"),
            ({"atribute": "gender"}, "atribute"),
        ],
    )
    def test_what_has_no_meaning_is_refused(self, tmp_path: Path, changes: dict, said: str):
        with pytest.raises(ValidationError) as refused:
            material(tmp_path, **changes)
        assert said in str(refused.value)

    def test_labels_of_the_caption(self):
        assert Material().caption_labels == set()
        given = Material(attribute="sex", caption="{{a}} {sex} in {place}, {sex}")
        assert given.caption_labels == {"sex", "place"}


@given(st.lists(st.tuples(st.text("ab {}"), st.text("xy. ", min_size=1)), max_size=4))
def test_parts_of_a_caption_are_what_it_was_made_of(made: list[tuple[str, str]]):
    escaped = [(text.replace("{", "{{").replace("}", "}}"), name) for text, name in made]
    parts = caption_parts("".join(f"{text}{{{name}}}" for text, name in escaped))
    found = "".join(text + ("" if name is None else f"<{name}>") for text, name in parts)
    assert found == "".join(f"{text}<{name}>" for text, name in made)
