"""Labels from files, and the embeddings that belong to them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.errors import InputError
from pipelines.labelled import (
    NO_DIRECTION,
    NO_EMBEDDING,
    NOT_ONE,
    labelled,
    read_labels,
)
from vision.fitting import Question

GENDER = Question(attribute="gender", values=("woman", "man"), exclusive=True, model="m")
SIGNS = Question(attribute="signs", values=("glasses", "beard"), exclusive=False, model="m")
PERSON = Question(attribute="person", values=("person",), exclusive=False, model="m")
NAN = np.nan


@pytest.fixture
def csv(tmp_path: Path) -> Callable[[str], str]:
    def write(content: str) -> str:
        path = tmp_path / "labels.csv"
        path.write_text(content)
        return str(path)

    return write


def test_a_column_of_names(csv: Callable[[str], str]) -> None:
    found = read_labels(csv("uid,gender\na,woman\nb, man \nc,\nd,woman\n"), GENDER)
    assert found.names == {"uid": ["a", "b", "d"]}
    assert found.answers.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert found.left_out == {NOT_ONE: 0}


def test_a_column_for_each_value(csv: Callable[[str], str]) -> None:
    """Of values that exclude each other, rows with two, with none, or half known are left out."""
    content = "key,man,gender.woman,other\na,0,1,9\nb,TRUE,no,9\nc,1,1,9\nd,0,0,9\ne,,1,9\nf,,,9\n"
    found = read_labels(csv(content), GENDER)
    assert found.names == {"key": ["a", "b"]}
    assert found.answers.tolist() == [[1, 0], [0, 1]]
    assert found.left_out == {NOT_ONE: 3}


def test_separate_questions(csv: Callable[[str], str]) -> None:
    found = read_labels(
        csv("uid,key,glasses,beard\na,1,1,1\nb,2,0,\nc,3,,\nd,4,false,yes\n"), SIGNS
    )
    assert found.names == {"uid": ["a", "b", "d"], "key": ["1", "2", "4"]}
    np.testing.assert_array_equal(found.answers, [[1, 1], [0, NAN], [0, 1]])
    assert found.left_out == {}


@pytest.mark.parametrize("kind", [pl.Boolean, pl.Int8, pl.Float32])
def test_parquet_of_any_type(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "labels.parquet"
    answers = pl.Series("person", [1, 0, None, 1]).cast(kind)
    pl.DataFrame({"uid": ["a", "b", "c", "d"], "person": answers}).write_parquet(path)
    found = read_labels(str(path), PERSON)
    assert found.names["uid"] == ["a", "b", "d"] and found.answers[:, 0].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("content", "question", "said"),
    [
        ("id,gender\na,woman\n", GENDER, "no column uid or key; it has id, gender"),
        ("uid,sex\na,woman\n", GENDER, "no column 'gender.woman' or 'woman'"),
        ("uid,woman\na,1\n", GENDER, "or one column 'gender' of their names"),
        ("uid,signs\na,beard\n", SIGNS, "no column 'signs.glasses' or 'glasses'"),
        ("uid,gender\na,Woman\n", GENDER, "holds 'Woman'; the values of gender are woman, man"),
        ("uid,person\na,0.7\n", PERSON, "'person' holds '0.7'"),
        ("uid,person\n,1\n", PERSON, "column uid is empty"),
        ("", PERSON, "cannot be read"),
        ("uid,person\na,1,2,3\n", PERSON, "cannot be read"),
    ],
)
def test_labels_that_cannot_be_used(
    csv: Callable[[str], str], content: str, question: Question, said: str
) -> None:
    path = csv(content)
    with pytest.raises(InputError) as error:
        read_labels(path, question)
    assert str(error.value).startswith(path) and said in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(InputError, match=rf"{name}: cannot be read"):
            read_labels(str(tmp_path / name), PERSON)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read"):
        read_labels(str(tmp_path / "x.parquet"), PERSON)


class TestJoined:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Callable[..., str]:
        """Writes a table of embeddings of the named samples; gives the folder."""

        def write(stem: str, names: str, array: np.ndarray, identity: str = "uid") -> str:
            folder = tmp_path / "embeddings"
            folder.mkdir(exist_ok=True)
            np.save(folder / f"{stem}.npy", array)
            pq.write_table(pa.table({identity: list(names)}), folder / f"{stem}.parquet")
            return str(folder)

        return write

    def test_samples_of_several_tables_by_name(
        self, csv: Callable[[str], str], table: Callable[..., str]
    ) -> None:
        folder = table("0", "xd", np.array([[1.0, 2], [3, 4]]))
        table("1", "bay", np.array([[5.0, 6], [7, 8], [9, 9]], dtype=np.float16))
        labels = read_labels(csv("uid,gender\nd,man\na,woman\nq,man\nb,woman\n"), GENDER)
        found = labelled(labels, folder, None)
        assert found.embeddings.dtype == np.float32
        assert found.embeddings.tolist() == [[7, 8], [5, 6], [3, 4]]  # a, b, d
        assert found.labels.tolist() == [[1, 0], [1, 0], [0, 1]]
        assert found.left_out == {NO_EMBEDDING: 1}
        one = labelled(labels, f"{folder}/1.npy", None)
        assert one.embeddings.tolist() == [[7, 8], [5, 6]]

    def test_the_order_of_the_labels_does_not_matter(
        self, csv: Callable[[str], str], table: Callable[..., str]
    ) -> None:
        folder = table("0", "abc", np.eye(3))
        for content in ("uid,person\nc,1\na,0\n", "uid,person\na,0\nc,1\na,0\n"):
            found = labelled(read_labels(csv(content), PERSON), folder, None)
            assert found.embeddings.tolist() == [[1, 0, 0], [0, 0, 1]]
            assert found.labels[:, 0].tolist() == [0, 1]

    def test_rows_without_direction_are_left_out(
        self, csv: Callable[[str], str], table: Callable[..., str]
    ) -> None:
        folder = table("0", "abcd", np.array([[1, 2], [0, 0], [np.nan, 1], [3, np.inf]]))
        labels = read_labels(csv("uid,person\na,1\nb,1\nc,1\nd,0\n"), PERSON)
        found = labelled(labels, folder, None)
        assert found.embeddings.tolist() == [[1, 2]] and found.left_out == {NO_DIRECTION: 3}

    def test_names_by_key(self, csv: Callable[[str], str], table: Callable[..., str]) -> None:
        folder = table("0", "xy", np.eye(2), "key")
        labels = read_labels(csv("uid,key,person\na,y,1\n"), PERSON)
        assert labelled(labels, folder, None).embeddings.tolist() == [[0, 1]]
        with pytest.raises(InputError, match=r"its rows go by key, but .* has no such column"):
            labelled(read_labels(csv("uid,person\na,1\n"), PERSON), folder, None)
        table("1", "a", np.eye(1, 2), "uid")
        with pytest.raises(InputError, match=r"1\.npy: its rows go by uid, those of .*0\.npy by"):
            labelled(labels, folder, None)

    def test_what_disagrees(self, csv: Callable[[str], str], table: Callable[..., str]) -> None:
        folder = table("0", "ab", np.eye(2))
        twice = read_labels(csv("uid,person\na,1\na,0\n"), PERSON)
        with pytest.raises(InputError, match="two rows of uid a have different labels"):
            labelled(twice, folder, None)
        labels = read_labels(csv("uid,person\na,1\n"), PERSON)
        table("1", "a", np.eye(1, 2))
        assert len(labelled(labels, folder, None).embeddings) == 1  # the same once more
        table("1", "a", np.ones((1, 2)))
        with pytest.raises(InputError, match=r"1\.npy: uid a has another embedding"):
            labelled(labels, folder, None)
        table("1", "c", np.ones((1, 3)))
        with pytest.raises(
            InputError, match=r"1\.npy: embeddings of 3 numbers, but .*0\.npy has 2"
        ):
            labelled(labels, folder, None)

    def test_nothing_in_common(self, csv: Callable[[str], str], table: Callable[..., str]) -> None:
        folder = table("0", "ab", np.eye(2))
        with pytest.raises(InputError, match=r"none of the 1 samples .* labels, such as z;"):
            labelled(read_labels(csv("uid,person\nz,1\n"), PERSON), folder, None)
        with pytest.raises(InputError, match="none of the 0 samples"):
            labelled(read_labels(csv("uid,person\nz,\n"), PERSON), folder, None)
