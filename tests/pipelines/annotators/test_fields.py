"""Marks that somebody made already: json fields, and tables joined by uid."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.annotators.fields import FieldAnnotator, Rules, TableAnnotator
from pipelines.annotators.joined import JoinedTable
from pipelines.annotators.marks import Batch, Marks
from pipelines.shards import Sample, SampleSpan

WOMAN, MAN, CHILD = range(3)  # columns of the catalogue of conftest.py
NURSE, CHEF, OFFICER, KITCHEN = range(4)

Given = dict[str, Any]


def samples(*metadata: Given, uids: Sequence[str] = ()) -> Batch:
    uids = uids or [f"{i:032x}" for i in range(len(metadata))]
    return Batch(
        [
            Sample(uid, f"key {uid[-2:]}", SampleSpan(0, 512), "", each)
            for uid, each in zip(uids, metadata, strict=True)
        ]
    )


def known(marks: Marks, row: int = 0) -> dict[int, float]:
    """The values of a sample that are known, by column."""
    return {k: float(p) for k, p in enumerate(marks.values[row]) if not np.isnan(p)}


def labels(marks: Marks, row: int = 0) -> list[int]:
    return marks.label_ids[marks.label_rows == row].tolist()


CASES: list[tuple[Given, dict[int, float]]] = [
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
]


@pytest.mark.parametrize(("metadata", "values"), CASES)
def test_fields_give_the_probability_of_each_value(
    catalogue: Catalogue, metadata: Given, values: dict[int, float]
) -> None:
    assert known(FieldAnnotator(catalogue).annotate(samples(metadata))) == values


def test_samples_of_a_batch_do_not_see_each_other(catalogue: Catalogue) -> None:
    marks = FieldAnnotator(catalogue).annotate(samples(*(metadata for metadata, _ in CASES)))
    assert [known(marks, row) for row in range(len(CASES))] == [values for _, values in CASES]


@pytest.mark.parametrize("number", [1.5, -0.1, "0.5", True, [0.5], float("nan"), float("inf")])
def test_what_is_not_a_probability_makes_its_sample_unusable(
    catalogue: Catalogue, number: object
) -> None:
    good: Given = {"faces": {"child": 0.5}}
    marks = FieldAnnotator(catalogue).annotate(samples(good, {"faces": {"child": number}}, good))
    assert marks.unusable == {1: "field faces.child is not a probability"}
    assert known(marks, 0) == known(marks, 2) == {CHILD: 0.5}


@pytest.mark.parametrize(
    ("places", "found"),
    [("kitchen", True), (["street", "galley"], True), ("street", False), (None, False)],
)
def test_fields_give_labels(catalogue: Catalogue, places: object, found: bool) -> None:
    marks = FieldAnnotator(catalogue).annotate(samples({"places": places}))
    assert labels(marks) == ([KITCHEN] if found else [])


def catalogue_with(**more: Any) -> Catalogue:
    woman = {"target": 1.0, "terms": ["woman"]}
    gender = {"describes": "gender as perceived", "values": {"woman": woman}}
    return Catalogue.model_validate(
        {"name": "scores", "purpose": "tests", "sensitive": {"gender": gender}, **more}
    )


@pytest.mark.parametrize(("score", "found"), [(0.5, True), (0.49, False), (1, True), (0, False)])
def test_a_label_holds_from_one_half_on(score: float, found: bool) -> None:
    catalogue = catalogue_with(labels={"dog": {"field": {"path": "scores.animals.dog"}}})
    marks = FieldAnnotator(catalogue).annotate(samples({"scores": {"animals": {"dog": score}}}))
    assert labels(marks) == ([0] if found else [])


def test_whoever_states_a_value_speaks_of_a_person(catalogue: Catalogue) -> None:
    given = [{"gender": "female"}, {"faces": {"child": 0.0}}, {"faces": {"child": 0.1}}, {}]
    person = FieldAnnotator(catalogue).annotate(samples(*given)).person
    np.testing.assert_array_equal(person, [1, np.nan, 1, np.nan])


BOXES = catalogue_with(person={"field": {"path": "face_bboxes", "filled": True}})


@pytest.mark.parametrize(
    ("content", "person"),
    [([[0, 0, 1, 1]], 1.0), ([], None), (None, None), ("none", None), (1, None)],
)
def test_a_face_says_that_a_person_is_there_and_no_face_says_nothing(
    content: object, person: float | None
) -> None:
    marks = FieldAnnotator(BOXES).annotate(samples({"face_bboxes": content}))
    assert (None if np.isnan(marks.person[0]) else marks.person[0]) == person
    assert known(marks) == {}


def test_rules_name_the_columns_that_a_table_needs(catalogue: Catalogue) -> None:
    assert Rules.of(catalogue).columns == ("gender", "faces", "places")
    assert Rules.of(BOXES).columns == ("face_bboxes",)


# Tables


UIDS = [f"{i:032x}" for i in range(4)]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    """Writes a table of the columns that the catalogue of conftest.py needs; gives its path."""

    def make(name: str = "marks.parquet", uids: Sequence[str] = UIDS, **columns: Any) -> str:
        content = {
            "gender": ["female", "male", None, "both"],
            "faces": [{"child": 0.5}, None, {"child": None}, {"child": 1.0}],
            "places": [["kitchen"], [], None, ["street"]],
        }
        given = {name: each for name, each in {**content, **columns}.items() if each is not None}
        rows = {name: each[: len(uids)] for name, each in given.items()}
        made = pa.table({"uid": list(uids), **rows})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(made, path)
        return str(path)

    return make


def test_rows_are_joined_by_uid_in_any_order(
    catalogue: Catalogue, table: Callable[..., str]
) -> None:
    annotator = TableAnnotator(catalogue, JoinedTable(table()))
    annotator.begin("00000")
    uids = [UIDS[3], "f" * 32, UIDS[0], UIDS[1]]
    marks = annotator.annotate(samples(*({} for _ in uids), uids=uids))
    assert known(marks, 0) == {WOMAN: 0.5, MAN: 0.5, CHILD: 1.0}
    assert known(marks, 1) == {}
    assert known(marks, 2) == {WOMAN: 1.0, MAN: 0.0, CHILD: 0.5}
    assert known(marks, 3) == {WOMAN: 0.0, MAN: 1.0}
    assert [labels(marks, row) for row in range(4)] == [[], [], [KITCHEN], []]
    assert marks.notes == {"tables: no row of this uid": 1}


def test_a_folder_holds_a_file_for_each_shard(
    tmp_path: Path, catalogue: Catalogue, table: Callable[..., str]
) -> None:
    table("marks/00000.parquet", UIDS[:1])
    table("marks/00001.parquet", UIDS[1:2], gender=["male"])
    annotator = TableAnnotator(catalogue, JoinedTable(str(tmp_path / "marks")))
    for stem, uid, woman in (("00001", UIDS[1], 0.0), ("00000", UIDS[0], 1.0)):
        annotator.begin(stem)
        marks = annotator.annotate(samples({}, uids=[uid]))
        assert marks.values[0, WOMAN] == woman
        assert not marks.notes
    with pytest.raises(InputError, match=r"00002\.parquet: cannot be read: .*No such file"):
        annotator.begin("00002")


def test_a_table_that_cannot_be_used_says_why(
    tmp_path: Path, catalogue: Catalogue, table: Callable[..., str]
) -> None:
    def begin(path: str) -> None:
        TableAnnotator(catalogue, JoinedTable(path)).begin("00000")

    with pytest.raises(InputError, match=r"no column 'places'; it has uid, gender, faces$"):
        begin(table("lacking.parquet", places=None))
    with pytest.raises(InputError, match="4 rows, but 3 different uids"):
        begin(table("twice.parquet", [*UIDS[:3], UIDS[0]]))
    (tmp_path / "text.parquet").write_text("uid\n")
    with pytest.raises(InputError, match=r"text\.parquet: cannot be read"):
        begin(str(tmp_path / "text.parquet"))


def test_a_shard_without_its_table_leaves_no_rows_of_the_one_before(
    tmp_path: Path, catalogue: Catalogue, table: Callable[..., str]
) -> None:
    table("marks/00000.parquet")
    joined = JoinedTable(str(tmp_path / "marks"))
    joined.begin("00000", ("gender",))
    with pytest.raises(InputError):
        joined.begin("00001", ("gender",))
    with pytest.raises(AssertionError):
        joined.records(UIDS)
