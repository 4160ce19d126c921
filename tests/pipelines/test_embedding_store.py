"""Embeddings in files: any pictures in any order, from whatever parts they are in."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.embedding_store import ArrayFolder, PictureStore

PARTS = st.lists(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True), min_size=1, max_size=4
)


def rows_of(digests: list[str]) -> np.ndarray:
    return np.array([[ord(each), 1, 2] for each in digests], dtype=np.float32)


@settings(deadline=None, max_examples=50)  # files are written, each for good
@given(PARTS, st.data())
def test_a_set_has_the_rows_that_are_asked_for(parts: list[list[str]], data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        store = PictureStore(folder)
        for part in parts:  # they may have pictures in common
            store.add(part, rows_of(part), {})
        known = sorted({each for part in parts for each in part})
        asked = data.draw(st.lists(st.sampled_from(known), min_size=1))
        for opened in (store, PictureStore(folder)):
            assert [each in opened for each in "abcdefgh"] == [each in known for each in "abcdefgh"]
            assert not opened.forget_damaged(asked)
            np.testing.assert_array_equal(opened.write_set(asked), rows_of(asked))
            again = opened.load_set(asked)
            assert again is not None and np.array_equal(again, rows_of(asked))
        assert store.load_set([*asked, known[0]]) is None


def test_equal_parts_are_equal_files(tmp_path: Path):
    for name in ("one", "other"):
        for _ in range(2):
            store = PictureStore(str(tmp_path / name))
            store.add(["a", "b"], rows_of(["a", "b"]), {"c": "not decoded"})
    contents = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "pictures").iterdir()}
        for name in ("one", "other")
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 2


def test_failures_are_kept(tmp_path: Path):
    PictureStore(str(tmp_path)).add([], np.zeros((0, 3)), {"x": "not decoded"})
    store = PictureStore(str(tmp_path))
    assert "x" in store and store.failure("x") == "not decoded" and store.failure("y") is None


def test_a_damaged_part_is_forgotten_and_the_others_stay(tmp_path: Path):
    store = PictureStore(str(tmp_path))
    for digest in "ab":
        store.add([digest], rows_of([digest]), {})
    for path in sorted(tmp_path.rglob("*.npy"))[:1]:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    opened = PictureStore(str(tmp_path))
    assert "a" in opened and "b" in opened  # the size is right
    with pytest.warns(UserWarning, match=r"npy: damaged, made again: .*SHA-256"):
        assert opened.forget_damaged(["a", "b"])
    left = PictureStore(str(tmp_path))
    assert ("a" in left) + ("b" in left) == 1
    assert not left.forget_damaged(["a" if "a" in left else "b"])


def test_arrays_on_remote_storage(tmp_path: Path, shelf: Callable[[Path], str]):
    store = PictureStore(shelf(tmp_path / "store"))
    store.add(["a", "b"], rows_of(["a", "b"]), {})
    np.testing.assert_array_equal(store.write_set(["b", "a"]), rows_of(["b", "a"]))
    assert PictureStore(str(tmp_path / "store")).load_set(["b", "a"]) is not None
    arrays = ArrayFolder(shelf(tmp_path / "texts"))
    assert arrays.names() == [] and arrays.load("x") is None
    arrays.write("x", ["a"], rows_of(["a"]), {})
    assert arrays.names() == ["x"] and np.array_equal(arrays.load("x"), rows_of(["a"]))
