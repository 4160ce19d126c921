"""Sets of uids, against Python's own sets and against the dtype that DataComp documents."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.uids import counts_in, read_subset, sort_pairs, to_pairs, to_uids

# Few halves, so that uids share their first or their second one.
halves = st.sampled_from(["0" * 16, "0" * 15 + "1", "f" * 16, "80" + "0" * 14, "a1" * 8])
uids = st.builds(lambda first, second: first + second, halves, halves)


@given(st.lists(uids))
def test_pairs_give_the_uids_back(given_uids: list[str]) -> None:
    assert to_uids(to_pairs(given_uids)) == given_uids


@given(st.lists(uids))
def test_the_order_of_pairs_is_that_of_uids(given_uids: list[str]) -> None:
    assert to_uids(sort_pairs(to_pairs(given_uids))) == sorted(given_uids)


@given(st.lists(uids), st.lists(uids))
def test_counts_are_those_of_a_counter(subset: list[str], asked: list[str]) -> None:
    expected = Counter(subset)
    counts = counts_in(sort_pairs(to_pairs(subset)), to_pairs(asked))
    assert counts.tolist() == [expected[uid] for uid in asked]


def test_the_first_half_of_a_uid_is_the_first_number() -> None:
    pairs = to_pairs(["00000000000000ff" + "0000000000000001"])
    assert pairs.dtype == np.dtype("u8,u8")
    assert pairs[0].item() == (255, 1)


@pytest.mark.parametrize("bad", ["", "a" * 31, "g" * 32, "a" * 33, "a" * 30 + "  "])
def test_what_is_no_uid_is_named(bad: str) -> None:
    with pytest.raises(InputError, match="is no uid"):
        to_pairs(["0" * 32, bad])


def test_uids_whose_wrong_lengths_add_up_are_refused() -> None:
    with pytest.raises(InputError, match="is no uid"):
        to_pairs(["a" * 31, "a" * 33])


def test_a_subset_file_is_sorted_and_keeps_copies(tmp_path: Path) -> None:
    path = tmp_path / "subset.npy"
    np.save(path, sort_pairs(to_pairs(["f" * 32, "0" * 32, "f" * 32])))
    assert to_uids(np.load(path)) == ["0" * 32, "f" * 32, "f" * 32]
    assert to_uids(read_subset(str(path))) == ["0" * 32, "f" * 32, "f" * 32]


def test_an_unsorted_subset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "subset.npy"
    np.save(path, to_pairs(["0" * 32, "f" * 32, "1" * 32]))
    with pytest.raises(InputError, match="row 2 is smaller"):
        read_subset(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros(3), "holds float64"),
        (np.zeros((2, 2), dtype="u8,u8"), r"\(2, 2\)"),
        (np.array(["a"], dtype=object), "cannot be read"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, content: np.ndarray, reason: str) -> None:
    path = tmp_path / "subset.npy"
    np.save(path, content)
    with pytest.raises(InputError, match=reason):
        read_subset(str(path))


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "subset.npy"
    path.write_bytes(b"no array")
    with pytest.raises(InputError, match="cannot be read"):
        read_subset(str(path))
