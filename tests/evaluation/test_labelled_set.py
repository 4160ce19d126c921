"""Labelled sets: rows, groups, and what is said of labels that do not fit."""

import numpy as np
import polars as pl
import pytest

from evaluation.labelled_set import LabelledSet
from m4.errors import InputError


@pytest.fixture
def faces() -> LabelledSet:
    return LabelledSet(
        name="faces",
        digest="d",
        keys=("a", "b", "c", "d"),
        embeddings=np.eye(4, dtype=np.float32),
        labels=pl.DataFrame(
            {"gender": ["0", "1", None, "0"], "split": ["2", "2", "2", "1"], "empty": [None] * 4}
        ),
        captions=(("one",), ("two", "too"), (), ("four",)),
    )


def test_groups_by_value_and_by_name(faces: LabelledSet):
    as_they_are = faces.groups("gender")
    assert {name: members.tolist() for name, members in as_they_are.items()} == {
        "0": [True, False, False, True],
        "1": [False, True, False, False],
    }
    named = faces.groups("gender", {"0": "men", "1": "women", "male": "men", "female": "women"})
    assert list(named) == ["men", "women"]
    assert named["men"].tolist() == [True, False, False, True]
    assert named["women"].tolist() == [False, True, False, False]


def test_a_group_that_nobody_is_in_stays(faces: LabelledSet):
    named = faces.groups("gender", {"0": "men", "1": "women", "2": "other"})
    assert not named["other"].any()


def test_values_can_be_left_outside_on_purpose(faces: LabelledSet):
    assert faces.group_of("gender", {"0": "men"}, outside=["1"]).to_list() == [
        "men", None, None, "men"
    ]  # fmt: skip
    assert list(faces.groups("gender", outside=["1"])) == ["0"]


def test_values_without_a_name_and_labels_without_values_are_refused(faces: LabelledSet):
    with pytest.raises(InputError, match="label gender holds '1'; known are 0"):
        faces.groups("gender", {"0": "men"})
    with pytest.raises(InputError, match="label empty is empty everywhere"):
        faces.groups("empty", {"0": "men"})
    with pytest.raises(InputError, match="no label 'race'; it has gender, split, empty"):
        faces.groups("race", None)


def test_rows_are_chosen_with_all_that_belongs_to_them(faces: LabelledSet):
    found = faces.where({"split": "2", "gender": "1"})
    assert found.keys == ("b",)
    assert found.captions == (("two", "too"),)
    np.testing.assert_array_equal(found.embeddings, np.eye(4)[[1]])
    assert found.labels.row(0) == ("1", "2", None)
    assert len(faces.where({})) == 4
    with pytest.raises(InputError, match="faces: no image has split 3"):
        faces.where({"split": "3"})


def test_lengths_must_agree(faces: LabelledSet):
    with pytest.raises(InputError, match="4 embeddings and 3 labels"):
        LabelledSet("x", "d", faces.keys, faces.embeddings, faces.labels[:3])
    with pytest.raises(InputError, match="no images"):
        LabelledSet("x", "d", (), np.zeros((0, 4)), faces.labels[:0])
