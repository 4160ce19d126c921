"""Embeddings that somebody has already: joined with labels, and texts by lookup."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.encoded_sets import EncodedSet
from pipelines.labelled import NO_DIRECTION, NO_EMBEDDING
from pipelines.labelled_images import OTHER_LABELS
from pipelines.plain_embeddings import PlainSettings, TextTable, read_plain, read_texts

ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3) + 1


@pytest.fixture
def plain(tmp_path: Path) -> Callable[..., EncodedSet]:
    """Writes a csv, and reads embeddings that are there with it."""

    def read(csv: str, embeddings: str = "images.npy", **settings: object) -> EncodedSet:
        (tmp_path / "labels.csv").write_text(csv)
        return read_plain(
            PlainSettings(
                embeddings=str(tmp_path / embeddings),
                labels=str(tmp_path / "labels.csv"),
                **settings,
            )
        )

    return read


def write_table(path: Path, names: list[str], array: np.ndarray, identity: str = "uid") -> None:
    """A table as `m4-balance embed` writes it."""
    numbers = pa.array(array.ravel().astype(np.float32))
    lists = pa.FixedSizeListArray.from_arrays(numbers, array.shape[1])
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({identity: names, "embedding": lists}), path)


class TestInOrder:
    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_rows_belong_to_rows(self, plain: Callable, tmp_path: Path, kind: type):
        np.save(tmp_path / "images.npy", ARRAY.astype(kind))
        found = plain("gender,caption,age\nf,a nurse,007\nm,,\n,x,1\nm,,2\n")
        np.testing.assert_array_equal(found.embeddings, ARRAY)
        assert found.embeddings.dtype == np.float32 and found.name == "labels"
        assert found.keys == ("0", "1", "2", "3") and found.left_out == {}
        assert found.labels.to_dict(as_series=False) == {
            "age": ["007", None, "1", "2"],
            "gender": ["f", "m", None, "m"],
        }
        assert found.captions == (("a nurse",), (), ("x",), ())

    def test_names_and_a_choice(self, plain: Callable, tmp_path: Path):
        np.save(tmp_path / "images.npy", ARRAY)
        found = plain(
            "uid,Male,split\na,1,2\nb,-1,1\nc,-1,2\nd,,2\n",
            columns={"gender": "Male"},
            where={"split": "2"},
        )
        assert found.keys == ("a", "c", "d") and found.left_out == {OTHER_LABELS: 1}
        np.testing.assert_array_equal(found.embeddings, ARRAY[[0, 2, 3]])
        assert found.labels["gender"].to_list() == ["1", "-1", None]

    def test_values_are_replaced_and_blank_is_not_known(self, plain: Callable, tmp_path: Path):
        np.save(tmp_path / "images.npy", ARRAY)
        found = plain(
            "Male,age\n1,  \n -1 ,NA\n0,nan\n1, 7\n",
            columns={"gender": "Male"},
            values={"gender.1": "male", "gender.-1": "female", "gender.0": ""},
        )
        assert found.labels.to_dict(as_series=False) == {
            "age": [None, "NA", "nan", "7"],
            "gender": ["male", "female", None, "male"],
        }
        other = plain("g\n1\n2\n1\n2\n", values={"g.1": "male"}, where={"g": "male"})
        assert other.keys == ("0", "2") and other.labels["g"].to_list() == ["male", "male"]

    def test_a_label_that_is_blank_everywhere(self, plain: Callable, tmp_path: Path):
        np.save(tmp_path / "images.npy", ARRAY)
        with pytest.raises(InputError, match=r"no image has a label 'Male' to be 'gender'.*has x"):
            plain("x,Male\n1,\n2, \n3,\n4,\n", columns={"gender": "Male"})

    def test_rows_without_a_direction_are_left_out(self, plain: Callable, tmp_path: Path):
        array = ARRAY.copy()
        array[1], array[2, 0] = 0, np.nan
        np.save(tmp_path / "images.npy", array)
        found = plain("uid,x\na,1\nb,2\nc,3\nd,4\n")
        assert found.keys == ("a", "d") and found.left_out == {NO_DIRECTION: 2}
        np.testing.assert_array_equal(found.embeddings, ARRAY[[0, 3]])
        np.save(tmp_path / "images.npy", np.zeros((4, 3)))
        with pytest.raises(InputError, match=f"no embedding can be used: 4 x {NO_DIRECTION}"):
            plain("uid,x\na,1\nb,2\nc,3\nd,4\n")

    def test_what_does_not_belong_together(self, plain: Callable, tmp_path: Path):
        np.save(tmp_path / "images.npy", ARRAY)
        with pytest.raises(InputError, match=r"4 embeddings, but .*labels.csv has 3 rows"):
            plain("x\n1\n2\n3\n")
        rows = "uid,x\na,1\nb,2\nc,3\na,4\n"
        with pytest.raises(InputError, match="uid a stands in more than one row"):
            plain(rows)
        whole = rows.replace("a,4", "d,4")
        with pytest.raises(InputError, match="no column 'gender'"):
            plain(whole, where={"gender": "f"})
        with pytest.raises(InputError, match=r"values: no image has 'x\.7'.*it has x"):
            plain(whole, values={"x.7": "seven"})
        with pytest.raises(InputError, match="where x 5 holds in none of 4 rows"):
            plain(whole, where={"x": "5"})
        with pytest.raises(InputError, match="embedding_key has no effect"):
            plain(whole, embedding_key="l14")
        with pytest.raises(InputError, match=r"other.npy: no such file"):
            plain(whole, "other.npy")

    @pytest.mark.parametrize("array", [np.ones(4), np.ones((4, 2), dtype=int), np.ones((4, 0))])
    def test_arrays_that_are_no_embeddings(
        self, plain: Callable, tmp_path: Path, array: np.ndarray
    ):
        np.save(tmp_path / "images.npy", array)
        with pytest.raises(InputError, match="embeddings are float16, float32 or float64"):
            plain("x\n1\n2\n3\n4\n")

    def test_a_damaged_array(self, plain: Callable, tmp_path: Path):
        np.save(tmp_path / "images.npy", ARRAY)
        content = (tmp_path / "images.npy").read_bytes()
        for cut in (0, 20, len(content) - 5):
            (tmp_path / "images.npy").write_bytes(content[:cut])
            with pytest.raises(InputError, match=r"images.npy: cannot be read"):
                plain("x\n1\n2\n3\n4\n")


class TestByName:
    def test_tables_of_a_folder_in_the_order_of_the_labels(self, plain: Callable, tmp_path: Path):
        write_table(tmp_path / "tables" / "0.parquet", ["b", "z", "a"], ARRAY[[1, 3, 0]])
        write_table(tmp_path / "tables" / "1.parquet", ["c"], ARRAY[2:3])
        found = plain("uid,x\nc,3\nnone,9\na,1\nb,2\n", "tables")
        assert found.keys == ("c", "a", "b") and found.left_out == {NO_EMBEDDING: 1}
        np.testing.assert_array_equal(found.embeddings, ARRAY[[2, 0, 1]])
        assert found.labels["x"].to_list() == ["3", "1", "2"]

    def test_by_key_and_with_an_array_beside(self, plain: Callable, tmp_path: Path):
        np.save(tmp_path / "images.npy", ARRAY)
        pl.DataFrame({"key": list("abcd")}).write_parquet(tmp_path / "images.parquet")
        found = plain("uid,key,x\nu,d,1\nv,a,2\n")
        assert found.keys == ("u", "v")
        np.testing.assert_array_equal(found.embeddings, ARRAY[[3, 0]])
        with pytest.raises(InputError, match=r"rows go by key, but .* has no such column"):
            plain("uid,x\nu,1\n")
        with pytest.raises(InputError, match="two rows of key d"):
            plain("uid,key,x\nu,d,1\nv,d,2\n")

    def test_only_what_is_asked_for_needs_an_embedding(self, plain: Callable, tmp_path: Path):
        write_table(tmp_path / "t" / "0.parquet", ["a", "b"], ARRAY[:2])
        found = plain("uid,x\na,1\nc,2\nb,1\n", "t", where={"x": "1"})
        assert found.keys == ("a", "b") and found.left_out == {OTHER_LABELS: 1}

    def test_the_order_of_tables_does_not_matter_but_that_of_labels_does(
        self, plain: Callable, tmp_path: Path
    ):
        write_table(tmp_path / "t" / "0.parquet", ["a", "b"], ARRAY[:2])
        write_table(tmp_path / "u" / "0.parquet", ["b", "a"], ARRAY[[1, 0]])
        one, other = (plain("uid,x\na,1\nb,2\n", name) for name in "tu")
        assert one.digest == other.digest
        np.testing.assert_array_equal(one.embeddings, other.embeddings)
        assert plain("uid,x\nb,2\na,1\n", "t").digest != one.digest
        assert plain("uid,x\na,1\nb,3\n", "t").digest != one.digest


@pytest.fixture
def texts(tmp_path: Path) -> Callable[..., TextTable]:
    def read(array: np.ndarray, names: object) -> TextTable:
        np.save(tmp_path / "texts.npy", array)
        (tmp_path / "texts.json").write_text(json.dumps(names))
        return read_texts(str(tmp_path / "texts.npy"), str(tmp_path / "texts.json"))

    return read


class TestTexts:
    def test_texts_are_looked_up(self, texts: Callable):
        table = texts(ARRAY.astype(np.float16), ["a", "b", "c", "d"])
        found = table.encode_texts(["c", "a", "c"])
        np.testing.assert_array_equal(found, ARRAY[[2, 0, 2]])
        assert found.dtype == np.float32 and table.encode_texts([]).shape == (0, 3)

    def test_missing_texts_are_named(self, texts: Callable):
        table = texts(ARRAY[:2], ["a", "b"])
        asked = ["a", "x", "y", "x", "z", "w"]
        assert table.missing(asked) == ["x", "y", "z", "w"] and table.missing(["b"]) == []
        with pytest.raises(InputError, match=r"4 of 5 texts .*the first: 'x', 'y', 'z'; encode"):
            table.encode_texts(asked)

    def test_a_text_twice(self, texts: Callable):
        table = texts(ARRAY[[0, 1, 0]], ["a", "b", "a"])
        np.testing.assert_array_equal(table.encode_texts(["a", "b"]), ARRAY[:2])
        with pytest.raises(InputError, match="rows 0 and 1 are both of 'a'"):
            texts(ARRAY[:2], ["a", "a"])

    @pytest.mark.parametrize(
        ("array", "names", "said"),
        [
            (ARRAY, ["a"], "1 texts, but .* has 4 rows"),
            (ARRAY, {"a": 1}, "must be a list of strings"),
            (ARRAY, ["a", "b", "c", 4], "must be a list of strings"),
            (np.ones(4), ["a"] * 4, "embeddings are float16"),
        ],
    )
    def test_files_that_cannot_be_used(
        self, texts: Callable, array: np.ndarray, names: object, said: str
    ):
        with pytest.raises(InputError, match=said):
            texts(array, names)

    def test_files_that_are_not_there(self, texts: Callable, tmp_path: Path):
        texts(ARRAY, list("abcd"))
        array, names = str(tmp_path / "texts.npy"), str(tmp_path / "texts.json")
        with pytest.raises(InputError, match="no such file"):
            read_texts(array + "x", names)
        with pytest.raises(InputError, match="cannot be read"):
            read_texts(array, names + "x")
        Path(names).write_bytes(b"\xff")
        with pytest.raises(InputError, match="cannot be read"):
            read_texts(array, names)

    def test_real_text_features(self, shared_data: Path):
        folder = shared_data / "clip_features"
        names = json.loads((folder / "imagenet1k_text_vitb32_names.json").read_text())
        table = read_texts(
            str(folder / "imagenet1k_text_vitb32.npy"),
            str(folder / "imagenet1k_text_vitb32_names.json"),
        )
        found = table.encode_texts(names[:50])
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=2e-3)
        nearest = (table.array @ found.T).argmax(axis=0)
        assert [names[row] for row in nearest] == names[:50]
        assert table.missing(["no such class of ImageNet"]) == ["no such class of ImageNet"]


@given(st.lists(st.text("abc", max_size=2), unique=True, min_size=1), st.data())
def test_any_texts_in_any_order(names: list[str], data: st.DataObject):
    array = np.arange(len(names), dtype=np.float32)[:, None]
    table = TextTable("texts.json", array, {name: row for row, name in enumerate(names)})
    asked = data.draw(st.lists(st.sampled_from(names)))
    assert table.encode_texts(asked)[:, 0].tolist() == [names.index(text) for text in asked]
