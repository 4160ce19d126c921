"""Tables of embeddings: every kind, what is missing, and what cannot be used."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines.annotators.embedding_tables import EmbeddingTables, find_tables, open_table

N, D = 12, 4
UIDS = [f"{number:032x}" for number in range(100, 100 + N)]
KEYS = [f"{number:05d}" for number in range(N)]
KINDS = ("npz", "compressed", "npy", "list", "fixed")
DTYPES = (np.float16, np.float32, np.float64)


def rows(dtype: Any = np.float32, n: int = N, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, D)).astype(dtype)


def write(folder: Path, kind: str, array: np.ndarray, **columns: list) -> EmbeddingTables:
    """Write the table of shard "00000"."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns or {"uid": UIDS[: len(array)]})
    if kind == "npz":
        np.savez(folder / "00000.npz", l14_txt=-array, l14_img=array)
    elif kind == "compressed":
        np.savez_compressed(folder / "00000.npz", l14_txt=-array, l14_img=array)
    elif kind == "npy":
        np.save(folder / "00000.npy", array)
    else:
        flat = pa.array(array.reshape(-1))
        lists = (
            pa.FixedSizeListArray.from_arrays(flat, D)
            if kind == "fixed"
            else pa.ListArray.from_arrays(np.arange(0, flat.__len__() + 1, D, dtype=np.int32), flat)
        )
        table = table.append_column("l14_img", lists)
    pq.write_table(table, folder / "00000.parquet")
    return EmbeddingTables(str(folder), None if kind == "npy" else "l14_img")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("identity", ["uid", "key"])
def test_every_kind_gives_the_rows_asked_for(
    tmp_path: Path, kind: str, dtype: type, identity: str
) -> None:
    array = rows(dtype)
    ids = {"uid": UIDS, "key": KEYS}
    tables = write(tmp_path, kind, array, **{identity: ids[identity]}, caption=["x"] * N)
    order = [5, 0, 11]
    found = tables.read("00000", [UIDS[i] for i in order], [KEYS[i] for i in order])
    assert found.array.dtype == dtype and not found.missing.any()
    np.testing.assert_array_equal(found.array, array[order])
    run = tables.open("00000").read(UIDS[3:9], KEYS[3:9])
    np.testing.assert_array_equal(run.array, array[3:9])
    assert tables.read("00000", [], []).array.shape == (0, D)


def test_uids_go_before_keys(tmp_path: Path) -> None:
    tables = write(tmp_path, "npy", rows(), uid=UIDS, key=KEYS[::-1])
    np.testing.assert_array_equal(tables.read("00000", UIDS[:2], KEYS[:2]).array, rows()[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_told_from_what_is_broken(tmp_path: Path, kind: str) -> None:
    array = rows()
    array[2], array[3, 1], array[4] = np.nan, np.inf, 0
    tables = write(tmp_path, kind, array)
    found = tables.read("00000", [UIDS[2], "f" * 32, UIDS[3], UIDS[4], UIDS[0]], [""] * 5)
    assert found.missing.tolist() == [False, True, False, False, False]
    assert np.isnan(found.array[1]).all()
    np.testing.assert_array_equal(found.array[[0, 2, 3, 4]], array[[2, 3, 4, 0]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_list_is_missing(tmp_path: Path, dtype: type) -> None:
    array = rows(dtype)
    kind = pa.large_list(pa.from_numpy_dtype(dtype))
    lists = [None if i in (1, 5) else list(each) for i, each in enumerate(array)]
    table = pa.table({"uid": UIDS, "embedding": pa.array(lists, kind)})
    pq.write_table(table, tmp_path / "00000.parquet")
    found = EmbeddingTables(str(tmp_path)).read("00000", UIDS, KEYS)
    assert np.flatnonzero(found.missing).tolist() == [1, 5]
    np.testing.assert_array_equal(found.array[~found.missing], array[~found.missing])


def test_an_empty_number_is_not_finite(tmp_path: Path) -> None:
    lists = [[1.0, None], [2.0, 3.0]]
    table = pa.table({"uid": UIDS[:2], "e": pa.array(lists, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "00000.parquet")
    found = EmbeddingTables(str(tmp_path)).read("00000", UIDS[:2], KEYS[:2])
    assert not found.missing.any()
    np.testing.assert_array_equal(found.array, [[1, np.nan], [2, 3]])


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_local_arrays_are_mapped_and_runs_are_not_copied(tmp_path: Path, kind: str) -> None:
    table = write(tmp_path, kind, rows()).open("00000")
    assert not table.array.flags.owndata and not table.array.flags.writeable
    assert np.shares_memory(table.read(UIDS[2:6], KEYS[2:6]).array, table.array)
    gathered = table.read(UIDS[2:6:2], KEYS[2:6:2]).array
    assert not np.shares_memory(gathered, table.array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_mapped_zip_member_is_what_numpy_reads(
    tmp_path: Path, order: Any, version: tuple[int, int]
) -> None:
    """With names of any length, extra fields, and other members before it."""
    array = rows(np.float16).copy(order=order)
    with zipfile.ZipFile(tmp_path / "00000.npz", "w") as archive:
        for name, content in (("a-long-name-before", -array), ("l14_img", array), ("after", array)):
            with archive.open(f"{name}.npy", "w", force_zip64=name == "l14_img") as stream:
                np.lib.format.write_array(stream, content, version=version)
    pq.write_table(pa.table({"uid": UIDS}), tmp_path / "00000.parquet")
    table = EmbeddingTables(str(tmp_path), "l14_img").open("00000")
    np.testing.assert_array_equal(table.array, np.load(tmp_path / "00000.npz")["l14_img"])
    np.testing.assert_array_equal(table.array, array)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-3, N + 2), max_size=20))
def test_any_selection_is_the_rows_or_missing(tmp_path: Path, wanted: list[int]) -> None:
    table = write(tmp_path, "npy", rows()).open("00000")
    uids = [UIDS[i] if 0 <= i < N else "unknown" for i in wanted]
    found = table.read(uids, [""] * len(uids))
    assert found.array.shape == (len(wanted), D)
    for row, i in enumerate(wanted):
        assert found.missing[row] == (not 0 <= i < N)
        expected = rows()[i] if 0 <= i < N else np.full(D, np.nan)
        np.testing.assert_array_equal(found.array[row], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_remote_tables(tmp_path: Path, kind: str, shelf: Callable[[Path], str]) -> None:
    tables = write(tmp_path, kind, rows())
    remote = EmbeddingTables(shelf(tmp_path), tables.key)
    np.testing.assert_array_equal(remote.read("00000", UIDS, KEYS).array, rows())
    with pytest.raises(InputError, match=r"shelf://.*00001: no embeddings of this shard"):
        remote.open("00001")


def test_tables_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "npy", rows())
    write(tmp_path / "other", "list", rows())
    os.rename(tmp_path / "other" / "00000.parquet", tmp_path / "00001.parquet")
    (tmp_path / "notes.txt").write_text("x")
    found = [str(tmp_path / name) for name in ("00000.npy", "00001.parquet")]
    assert find_tables(str(tmp_path)) == found
    assert find_tables(found[0]) == found[:1]
    with pytest.raises(InputError, match=r"other: no embeddings \(\*\.npz"):
        find_tables(str(tmp_path / "other"))


class TestRefused:
    def refused(self, tables: EmbeddingTables, *said: str) -> None:
        with pytest.raises(InputError) as error:
            tables.open("00000")
        for part in (tables.folder, *said):
            assert part in str(error.value)

    def test_no_table(self, tmp_path: Path) -> None:
        self.refused(EmbeddingTables(str(tmp_path)), "no embeddings of this shard", "00000.npz")

    def test_two_tables(self, tmp_path: Path) -> None:
        write(tmp_path, "npz", rows())
        self.refused(write(tmp_path, "npy", rows()), "00000.npz and", "two tables")

    def test_no_uids(self, tmp_path: Path) -> None:
        tables = write(tmp_path, "npy", rows())
        os.remove(tmp_path / "00000.parquet")
        self.refused(tables, "00000.parquet: no such file")

    @pytest.mark.parametrize("kind", ["npz", "npy"])
    def test_another_number_of_rows(self, tmp_path: Path, kind: str) -> None:
        self.refused(
            write(tmp_path, kind, rows(), uid=UIDS[:7]), "12 embeddings, but", "has 7 rows"
        )

    def test_no_such_array(self, tmp_path: Path) -> None:
        write(tmp_path, "npz", rows())
        folder = str(tmp_path)
        self.refused(EmbeddingTables(folder, "b32"), "no array 'b32'; it has l14_txt, l14_img")
        self.refused(
            EmbeddingTables(folder), "which array has the embeddings? name one of l14_txt, l14_img"
        )

    def test_no_such_column(self, tmp_path: Path) -> None:
        write(tmp_path, "list", rows())
        self.refused(EmbeddingTables(str(tmp_path), "b32"), "no column of lists", "it has l14_img")
        pq.write_table(pa.table({"uid": UIDS}), tmp_path / "00000.parquet")
        self.refused(EmbeddingTables(str(tmp_path)), "has no column of lists of numbers")

    def test_a_name_for_an_array_without_one(self, tmp_path: Path) -> None:
        write(tmp_path, "npy", rows())
        self.refused(EmbeddingTables(str(tmp_path), "l14_img"), "key 'l14_img' has no effect")

    def test_no_identity(self, tmp_path: Path) -> None:
        self.refused(write(tmp_path, "npy", rows(), id=UIDS), "no column uid or key; it has id")
        self.refused(write(tmp_path, "npy", rows(), uid=list(range(N))), "uid holds int64")
        odd: list = [None, *UIDS[1:]]
        self.refused(write(tmp_path, "npy", rows(), uid=odd), "uid is empty in 1 rows")

    def test_a_uid_twice(self, tmp_path: Path) -> None:
        twice = [*UIDS[:-1], UIDS[2]]
        self.refused(
            write(tmp_path, "npy", rows(), uid=twice), f"rows 2 and 11 are both of uid {UIDS[2]}"
        )
        array = rows()
        array[-1] = array[2] = np.nan  # a row is itself, even where NaN is not
        found = write(tmp_path, "npy", array, uid=twice).read("00000", twice[:3], KEYS[:3])
        np.testing.assert_array_equal(found.array, array[:3])

    @pytest.mark.parametrize("shape", [(N,), (N, D, 2), (N, 0)])
    def test_no_rows_of_numbers(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        self.refused(write(tmp_path, "npy", np.zeros(shape)), f"shape {shape}")

    def test_integers(self, tmp_path: Path) -> None:
        self.refused(write(tmp_path, "npy", np.ones((N, D), dtype=int)), "an array of int64")

    def test_lists_of_different_lengths(self, tmp_path: Path) -> None:
        lists = [[1.0, 2.0], None, [1.0, 2.0, 3.0]]
        table = pa.table({"uid": UIDS[:3], "e": pa.array(lists, pa.list_(pa.float32()))})
        pq.write_table(table, tmp_path / "00000.parquet")
        self.refused(EmbeddingTables(str(tmp_path)), "2 numbers in its first row and 3 in row 2")

    def test_empty_lists_of_a_fixed_length(self, tmp_path: Path) -> None:
        """Arrow writes these, but cannot read them back."""
        table = pa.table({"uid": UIDS[:2], "e": pa.array([[1.0], None], pa.list_(pa.float32(), 1))})
        pq.write_table(table, tmp_path / "00000.parquet")
        self.refused(EmbeddingTables(str(tmp_path)), "cannot be read: Expected all lists")

    def test_python_objects(self, tmp_path: Path) -> None:
        array = np.array([{"a": 1}] * N, dtype=object)
        np.save(tmp_path / "00000.npy", array, allow_pickle=True)
        pq.write_table(pa.table({"uid": UIDS}), tmp_path / "00000.parquet")
        self.refused(EmbeddingTables(str(tmp_path)), "00000.npy: cannot be read")
        os.remove(tmp_path / "00000.npy")
        np.savez(tmp_path / "00000.npz", e=array, allow_pickle=True)
        self.refused(EmbeddingTables(str(tmp_path), "e"), "it holds Python objects")

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("left", [0, 3, 150])
    def test_truncated_files(self, tmp_path: Path, kind: str, left: int) -> None:
        tables = write(tmp_path, kind, rows())
        path = Path(find_tables(tables.folder)[0])
        path.write_bytes(path.read_bytes()[:left])
        self.refused(tables, f"{path}: cannot be read: ")

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_content(self, tmp_path: Path, kind: str) -> None:
        tables = write(tmp_path, kind, rows())
        Path(find_tables(tables.folder)[0]).write_bytes(b"not what it is called" * 20)
        self.refused(tables, "cannot be read")

    def test_a_zip_that_breaks_off_in_the_array(self, tmp_path: Path) -> None:
        """The directory of a zip is at its end, so the array itself may be cut short."""
        content = io.BytesIO()
        np.lib.format.write_array(content, rows())
        with zipfile.ZipFile(tmp_path / "00000.npz", "w") as archive:
            archive.writestr("e.npy", content.getvalue()[:-300])
        pq.write_table(pa.table({"uid": UIDS}), tmp_path / "00000.parquet")
        found = EmbeddingTables(str(tmp_path), "e")
        self.refused(found, "cannot be read")

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"x\.txt: not a table of embeddings; give one of"):
            open_table(str(tmp_path / "x.txt"))
