"""Labels as numbers: whatever they are and however they are held."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from debias.labels import coded
from m4.errors import InputError

words, numbers = st.text(max_size=3), st.integers(-3, 3) | st.floats(-2, 2)


@pytest.mark.parametrize(
    ("labels", "distinct", "codes"),
    [
        (["b", "a", "c", "b"], ["a", "b", "c"], [1, 0, 2, 1]),
        (("b", "a"), ["a", "b"], [1, 0]),
        ([10, 9, 10], [9, 10], [1, 0, 1]),
        ([True, False, True], [False, True], [1, 0, 1]),
        ([2, "a", 1.5, "1", 10], [1.5, 2, 10, "1", "a"], [1, 4, 0, 3, 2]),
        (np.array(["b", "a"]), ["a", "b"], [1, 0]),
        (np.array([0.5, -1.0]), [-1.0, 0.5], [1, 0]),
        (np.array([3, "x", 3], dtype=object), [3, "x"], [0, 1, 0]),
        ([np.int64(2), 1, np.int32(2)], [1, 2], [1, 0, 1]),
        (np.array([True, False]), [False, True], [1, 0]),
        (torch.tensor([7, 5, 7]), [5, 7], [1, 0, 1]),
        (pl.Series(["b", "a"]), ["a", "b"], [1, 0]),
    ],
)
def test_codes_are_places_among_the_sorted_labels(labels: Any, distinct: list, codes: list):
    found, places = coded(labels, len(labels), "attributes")
    assert found == distinct
    assert not any(isinstance(each, np.generic) for each in found)
    assert places.tolist() == codes
    assert np.issubdtype(places.dtype, np.integer)


@given(labels=st.lists(words | numbers, min_size=2).filter(lambda found: len(set(found)) > 1))
def test_each_label_stands_at_its_place_whatever_the_order(labels: list):
    distinct, codes = coded(labels, len(labels), "attributes")
    assert [distinct[code] for code in codes] == labels
    assert len(set(distinct)) == len(distinct)
    assert coded(labels[::-1], len(labels), "attributes")[0] == distinct


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "attributes: 2 labels for 4 images; give one each"),
        (np.zeros((4, 2)), r"attributes: labels of shape \(4, 2\) for 4 images"),
        (np.array(1), r"attributes: labels of shape \(\) for 4 images"),
        (["a"] * 4, "attributes: all are 'a'; give images of at least two"),
        (np.array([1] * 4), "attributes: all are 1; give"),
        (["a", "b", "a", None], "attributes: row 3 has no label; leave such images out"),
        ([None] * 4, "attributes: row 0 has no label"),
        (["a", float("nan"), None, "b"], "attributes: row 1 has no label"),
        (np.array([0.0, 1.0, np.nan, 1.0]), "attributes: row 2 has no label"),
        (pl.Series(["a", None, "b", "b"]), "attributes: row 1 has no label"),
    ],
)
def test_what_are_no_labels_of_two_kinds_is_refused(labels: Any, message: str):
    with pytest.raises(InputError, match=f"^{message}"):
        coded(labels, 4, "attributes")
