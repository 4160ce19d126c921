"""Fusing what several annotators say."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from pipelines.annotators.marks import Marks, share_out, unmarked
from pipelines.fusion import NOBODY, FusionRule, fuse

WOMAN, MAN, CHILD = range(3)  # columns of the catalogue of conftest.py
GENDER, AGE = range(2)  # attributes
NAN = float("nan")

Row = Sequence[float]


def marks(
    *rows: Row, person: Sequence[float] = (), labels: Sequence[tuple[int, int]] = ()
) -> Marks:
    values = np.array(rows, dtype=np.float32).reshape(-1, 3)
    pairs = np.array(labels, dtype=np.int64).reshape(-1, 2)
    seen = np.array(person or [NAN] * len(values), dtype=np.float32)
    return Marks(values, seen, pairs[:, 0], pairs[:, 1])


NOTHING = (NAN, NAN, NAN)
A_WOMAN = (1, 0, NAN)
A_MAN = (0, 1, NAN)
BOTH = (0.5, 0.5, NAN)


def fused_row(catalogue: Catalogue, rule: FusionRule, *said: Marks) -> tuple[list, list[int]]:
    fused = fuse(said, catalogue, rule)
    values = [None if np.isnan(p) else float(p) for p in fused.values[0]]
    return values, fused.sources[0].tolist()


@pytest.mark.parametrize(
    ("first", "second", "by_first", "by_agree"),
    [
        (A_WOMAN, A_MAN, ([1, 0, None], [0, NOBODY]), ([None] * 3, [NOBODY] * 2)),
        (A_WOMAN, A_WOMAN, ([1, 0, None], [0, NOBODY]), ([1, 0, None], [0, NOBODY])),
        (NOTHING, A_MAN, ([0, 1, None], [1, NOBODY]), ([0, 1, None], [1, NOBODY])),
        (A_MAN, NOTHING, ([0, 1, None], [0, NOBODY]), ([0, 1, None], [0, NOBODY])),
        (BOTH, A_MAN, ([0.5, 0.5, None], [0, NOBODY]), ([None] * 3, [NOBODY] * 2)),
        ((0.75, 0.25, 0.5), A_WOMAN, ([0.75, 0.25, 0.5], [0, 0]), ([0.75, 0.25, 0.5], [0, 0])),
        (A_WOMAN, (NAN, NAN, 0.25), ([1, 0, 0.25], [0, 1]), ([1, 0, 0.25], [0, 1])),
        (NOTHING, NOTHING, ([None] * 3, [NOBODY] * 2), ([None] * 3, [NOBODY] * 2)),
    ],
)
def test_the_rules(catalogue: Catalogue, first: Row, second: Row, by_first, by_agree) -> None:
    said = marks(first), marks(second)
    assert fused_row(catalogue, "first", *said) == by_first
    assert fused_row(catalogue, "agree", *said) == by_agree


def test_three_agree_only_if_all_do(catalogue: Catalogue) -> None:
    said = marks(A_WOMAN), marks(A_WOMAN), marks(A_MAN)
    assert fused_row(catalogue, "agree", *said)[0] == [None] * 3
    assert fused_row(catalogue, "agree", *said[:2])[0] == [1, 0, None]


def test_labels_are_joined_and_the_first_that_found_one_is_its_source(catalogue: Catalogue) -> None:
    one = marks(NOTHING, NOTHING, labels=[(0, 3), (1, 0)])
    other = marks(NOTHING, NOTHING, labels=[(0, 1), (0, 3), (1, 2)])
    fused = fuse([one, other], catalogue, "first")
    assert fused.label_rows.tolist() == [0, 0, 1, 1]
    assert fused.label_ids.tolist() == [1, 3, 0, 2]
    assert fused.label_sources.tolist() == [1, 0, 0, 1]


# Persons


@pytest.mark.parametrize("rule", ["first", "agree"])
def test_where_nobody_is_attributes_do_not_apply(catalogue: Catalogue, rule: FusionRule) -> None:
    detector = marks(NOTHING, NOTHING, NOTHING, person=[0, NAN, 1])
    fields = marks((NAN, NAN, 0), (NAN, NAN, 0), (NAN, NAN, 0))
    fused = fuse([detector, fields], catalogue, rule)
    assert np.isnan(fused.values[0]).all() and (fused.sources[0] == NOBODY).all()
    assert fused.values[1:, CHILD].tolist() == [0, 0]
    assert fused.person[0] == 0 and np.isnan(fused.person[1]) and fused.person[2] == 1
    assert fused.person_source.tolist() == [0, NOBODY, 0]


def test_a_caption_that_names_somebody_and_a_detector_that_sees_nobody(
    catalogue: Catalogue,
) -> None:
    caption, detector = marks(A_WOMAN, person=[1]), marks(NOTHING, person=[0])
    assert fused_row(catalogue, "first", caption, detector)[0] == [1, 0, None]
    assert fused_row(catalogue, "first", detector, caption)[0] == [None] * 3
    by_agree = fuse([caption, detector], catalogue, "agree")
    assert np.isnan(by_agree.person[0])  # they disagree: nobody knows
    assert by_agree.values[0, WOMAN] == 1  # only one knows the gender, and nothing rules it out


def test_what_one_cannot_use_is_unusable(catalogue: Catalogue) -> None:
    one, other = marks(A_WOMAN, A_MAN), marks(A_WOMAN, A_MAN)
    one.unusable.update({1: "first"})  # type: ignore[attr-defined]
    other.unusable.update({0: "other", 1: "second"})  # type: ignore[attr-defined]
    assert fuse([one, other], catalogue, "first").unusable == {0: "other", 1: "first"}


# Invariants


opinions = st.sampled_from([NOTHING, A_WOMAN, A_MAN, BOTH, (0.9, 0.1, 1.0), (NAN, NAN, 0.0)])
several = st.lists(st.lists(opinions, min_size=3, max_size=3), min_size=1, max_size=4)


@given(several, st.sampled_from(["first", "agree"]))
def test_what_is_fused_was_said_by_its_source(
    catalogue: Catalogue, given_rows: list[list[Row]], rule: FusionRule
) -> None:
    said = [marks(*rows) for rows in given_rows]
    fused = fuse(said, catalogue, rule)
    for attribute, own in ((GENDER, slice(0, 2)), (AGE, slice(2, 3))):
        for row in range(3):
            source = fused.sources[row, attribute]
            if source == NOBODY:
                assert np.isnan(fused.values[row, own]).all()
            else:
                np.testing.assert_array_equal(fused.values[row, own], said[source].values[row, own])


@given(several)
def test_agreeing_knows_no_more_than_the_first_that_knows(
    catalogue: Catalogue, given_rows: list[list[Row]]
) -> None:
    said = [marks(*rows) for rows in given_rows]
    first, agreed = (fuse(said, catalogue, rule).values for rule in ("first", "agree"))
    known = ~np.isnan(agreed)
    np.testing.assert_array_equal(agreed[known], first[known])
    backwards = fuse(said[::-1], catalogue, "agree").values
    np.testing.assert_array_equal(np.isnan(agreed), np.isnan(backwards))


@given(several)
def test_fusing_twice_the_same_changes_nothing(
    catalogue: Catalogue, given_rows: list[list[Row]]
) -> None:
    said = [marks(*rows) for rows in given_rows]
    once, twice = fuse(said, catalogue, "agree"), fuse(said * 2, catalogue, "agree")
    np.testing.assert_array_equal(once.values, twice.values)


# Sharing out


def test_values_of_an_exclusive_attribute_share_the_probability(catalogue: Catalogue) -> None:
    held = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=bool)
    values, _ = unmarked(5, catalogue)
    share_out(values, held, catalogue)
    np.testing.assert_array_equal(
        values, [[1, 0, NAN], [0.5, 0.5, NAN], [NAN, NAN, 1], [NAN] * 3, [0.5, 0.5, 1]]
    )
