"""Tables of embeddings changed by a method: what is written, and what is left as NaN."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from debias import OrthogonalProjection, group_means
from debias.relatives import GroupMeanProjection
from m4.errors import InputError, UndefinedError
from pipelines import changed_embeddings, storage
from pipelines.annotators.embedding_tables import open_table
from pipelines.changed_embeddings import (
    NO_DIRECTION,
    NOTHING_LEFT,
    ROWS,
    Changed,
    change_embeddings,
)
from pipelines.labelled import NO_DIRECTION as LEFT_OUT
from pipelines.plain_embeddings import PlainSettings, read_plain

D = 6
RANDOM = np.random.default_rng(8)
GROUPS = np.repeat([0, 1], 20)
IMAGES = RANDOM.normal(size=(40, D)) + GROUPS[:, None]
METHOD = GroupMeanProjection().fit(directions=group_means(IMAGES, GROUPS))
AXIS = np.eye(D)[:1]
PROJECTION = OrthogonalProjection().fit(spurious=AXIS)
"""Leaves nothing of texts that lie along the first axis."""


def embeddings(rows: int, kind: type = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, D)).astype(kind)


def write_lists(path: Path, names: list[str], array: np.ndarray, identity: str = "uid") -> None:
    """A table as `m4-balance embed` writes it."""
    path.parent.mkdir(exist_ok=True)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    pq.write_table(pa.table({identity: names, "embedding": lists}), path)


def write_names(path: Path, names: list[str], identity: str = "uid") -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({identity: names, "caption": names}), path)


def names_of(rows: int) -> list[str]:
    return [f"uid-{row}" for row in range(rows)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestOneArray:
    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_rows_stay_in_their_order(self, tmp_path: Path, kind: type):
        array = embeddings(50, kind)
        np.save(tmp_path / "in.npy", array)
        out = str(tmp_path / "new" / "out.npy")
        found = change_embeddings(str(tmp_path / "in.npy"), out, METHOD.transform_images)
        assert found == Changed(tables=(out,), rows=50, undefined={})
        moved = np.load(out)
        assert moved.dtype == np.float32
        np.testing.assert_array_equal(moved, METHOD.transform_images(array.astype(np.float32)))
        np.testing.assert_array_equal(np.load(tmp_path / "in.npy"), array)
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out.npy"]

    def test_columns_first_in_memory(self, tmp_path: Path):
        np.save(tmp_path / "in.npy", np.asfortranarray(embeddings(9)))
        out = str(tmp_path / "out.npy")
        change_embeddings(str(tmp_path / "in.npy"), out, METHOD.transform_images)
        np.testing.assert_array_equal(np.load(out), METHOD.transform_images(embeddings(9)))

    def test_the_dimension_may_change(self, tmp_path: Path):
        np.save(tmp_path / "in.npy", embeddings(9))
        out = str(tmp_path / "out.npy")
        change_embeddings(str(tmp_path / "in.npy"), out, lambda rows: rows[:, :2])
        np.testing.assert_array_equal(np.load(out), embeddings(9)[:, :2])

    def test_rows_that_cannot_be_changed_are_nan_and_counted(self, tmp_path: Path):
        array = embeddings(30, np.float64)
        array[[2, 3]], array[7, 1], array[8, 2] = 0, np.nan, np.inf
        array[9], array[10] = 1e200, 1e-200  # more and less than single precision holds
        array[[4, 29]] = 5 * AXIS
        np.save(tmp_path / "in.npy", array)
        out = str(tmp_path / "out.npy")
        found = change_embeddings(str(tmp_path / "in.npy"), out, PROJECTION.transform_texts)
        assert found.undefined == {NO_DIRECTION: 6, NOTHING_LEFT: 2} and found.rows == 30
        moved, lost = np.load(out), [2, 3, 4, 7, 8, 9, 10, 29]
        assert np.isnan(moved[lost]).all()
        kept = np.delete(np.arange(30), lost)
        wanted = PROJECTION.transform_texts(array[kept].astype(np.float32))
        np.testing.assert_array_equal(moved[kept], wanted)

    @pytest.mark.parametrize(
        ("array", "out", "key", "said"),
        [
            (embeddings(5), "out", None, "out is no .npy, but .*in.npy is one array; name a .npy"),
            (embeddings(5), "out.parquet", None, "out.parquet is no .npy"),
            (embeddings(5), "out.npy", "l14", "embedding_key has no effect on one array"),
            (embeddings(5)[0], "out.npy", None, r"in.npy: an array of float32 of shape \(6,\)"),
            (embeddings(0), "out.npy", None, r"in.npy: an array of float32 of shape \(0, 6\)"),
            (np.ones((3, D), dtype=int), "out.npy", None, "in.npy: an array of int64"),
            (np.array([["a", "b"]]), "out.npy", None, "in.npy: an array of <U1"),
            (
                embeddings(5)[:, :4],
                "out.npy",
                None,
                "in.npy: images: embeddings of 4 numbers, but Gr",
            ),
            (np.zeros((3, D)), "out.npy", None, f"in.npy: none of 3 .*: 3 x {NO_DIRECTION}"),
        ],
    )
    def test_what_cannot_be_used(
        self, tmp_path: Path, array: np.ndarray, out: str, key: str | None, said: str
    ):
        np.save(tmp_path / "in.npy", array)
        before = files_of(tmp_path)
        with pytest.raises(InputError, match=said):
            change_embeddings(
                str(tmp_path / "in.npy"), str(tmp_path / out), METHOD.transform_images, key=key
            )
        assert files_of(tmp_path) == before

    def test_nothing_left_of_any(self, tmp_path: Path):
        np.save(tmp_path / "in.npy", np.repeat(AXIS, 3, axis=0))
        with pytest.raises(InputError, match=f"in.npy: none of 3 embeddings.*3 x {NOTHING_LEFT}"):
            change_embeddings(
                str(tmp_path / "in.npy"), str(tmp_path / "o.npy"), PROJECTION.transform_texts
            )
        assert not (tmp_path / "o.npy").exists()

    def test_a_file_that_is_not_there(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"in.npy: no such file"):
            change_embeddings(str(tmp_path / "in.npy"), str(tmp_path / "o.npy"), lambda rows: rows)


class TestHalves:
    @settings(max_examples=40, deadline=None)
    @given(st.sets(st.integers(0, 24)), st.integers(1, 10))
    def test_wherever_rows_are_lost_the_others_are_changed(
        self, tmp_path_factory: pytest.TempPathFactory, lost: set[int], at_once: int
    ):
        folder = tmp_path_factory.mktemp("halves")
        array = embeddings(25) if len(lost) < 25 else embeddings(26)
        array[sorted(lost)] = AXIS
        np.save(folder / "in.npy", array)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(changed_embeddings, "ROWS", at_once)
            found = change_embeddings(
                str(folder / "in.npy"), str(folder / "out.npy"), PROJECTION.transform_texts
            )
        assert found.undefined == ({NOTHING_LEFT: len(lost)} if lost else {})
        moved = np.load(folder / "out.npy")
        kept = sorted(set(range(len(array))) - lost)
        assert np.isnan(moved[sorted(lost)]).all()
        np.testing.assert_allclose(
            moved[kept], PROJECTION.transform_texts(array[kept]), rtol=0, atol=1e-6
        )

    def test_one_row_among_thousands_takes_few_tries(self, tmp_path: Path):
        rows = ROWS + 100
        array = embeddings(rows)
        array[5000] = AXIS
        np.save(tmp_path / "in.npy", array)
        tries = []

        def change(block: np.ndarray) -> np.ndarray:
            tries.append(len(block))
            return PROJECTION.transform_texts(block)

        found = change_embeddings(str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), change)
        assert found == Changed(
            tables=(str(tmp_path / "out.npy"),), rows=rows, undefined={NOTHING_LEFT: 1}
        )
        assert len(tries) == 2 * 13 + 1 + 1 and max(tries) == ROWS  # 2^13 rows in halves; the rest
        kept = np.arange(rows) != 5000
        np.testing.assert_array_equal(
            np.load(tmp_path / "out.npy")[kept], PROJECTION.transform_texts(array[kept])
        )

    def test_other_errors_end_it_and_leave_nothing(self, tmp_path: Path):
        np.save(tmp_path / "in.npy", embeddings(4))
        for error in (InputError("fit it again"), RuntimeError("out of memory")):

            def change(rows: np.ndarray, error: Exception = error) -> np.ndarray:
                raise error

            with pytest.raises(type(error), match=str(error)):
                change_embeddings(str(tmp_path / "in.npy"), str(tmp_path / "o.npy"), change)
        assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


class TestTables:
    @pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
    @pytest.mark.parametrize("identity", ["uid", "key"])
    def test_every_kind_becomes_a_parquet_by_its_names(
        self, tmp_path: Path, kind: str, identity: str
    ):
        array, names = embeddings(12, np.float16), names_of(12)
        if kind == "parquet":
            write_lists(tmp_path / "in" / "a.parquet", names, array.astype(np.float32), identity)
        else:
            write_names(tmp_path / "in" / "a.parquet", names, identity)
            arrays = {"b32": embeddings(12, seed=1), "l14": array}
            if kind == "npy":
                np.save(tmp_path / "in" / "a.npy", array)
            else:
                np.savez(tmp_path / "in" / "a.npz", **arrays)
        out = str(tmp_path / "out")
        found = change_embeddings(
            str(tmp_path / "in" / f"a.{kind}"),
            out,
            METHOD.transform_images,
            key="l14" if kind == "npz" else None,
            space="toy + GroupMeanProjection",
        )
        target = str(tmp_path / "out" / "a.parquet")
        assert found == Changed(tables=(target,), rows=12, undefined={})
        table = open_table(target)
        assert (table.identity, table.names) == (identity, names)
        wanted = METHOD.transform_images(array.astype(np.float32))
        np.testing.assert_array_equal(table.array, wanted)
        schema = pq.read_schema(target)
        assert schema.names == [identity, "embedding"]
        assert schema.field("embedding").type == pa.list_(pa.float32(), D)
        assert schema.metadata[b"model"] == b"toy + GroupMeanProjection"

    def test_a_folder_table_by_table(self, tmp_path: Path):
        given = {name: embeddings(5, seed=seed) for seed, name in enumerate("abc")}
        given["b"][3] = 0
        given["c"][[0, 4]] = 0
        for name, array in given.items():
            write_lists(tmp_path / "in" / f"{name}.parquet", [name + n for n in "vwxyz"], array)
        steps = []
        found = change_embeddings(
            str(tmp_path / "in"),
            str(tmp_path / "out"),
            METHOD.transform_images,
            progress=lambda *step: steps.append(step),
        )
        targets = [str(tmp_path / "out" / f"{name}.parquet") for name in "abc"]
        assert found == Changed(tables=tuple(targets), rows=15, undefined={NO_DIRECTION: 3})
        assert steps == [(1, 3), (2, 3), (3, 3)]
        assert pq.read_schema(targets[0]).metadata is None
        for target, (name, array) in zip(targets, given.items(), strict=True):
            table = open_table(target)
            assert table.names == [name + n for n in "vwxyz"]
            kept = array.any(axis=1)
            assert np.isnan(table.array[~kept]).all()
            np.testing.assert_array_equal(table.array[kept], METHOD.transform_images(array[kept]))

    def test_again_it_writes_the_same_bytes(self, tmp_path: Path):
        write_lists(tmp_path / "in" / "a.parquet", names_of(9), embeddings(9))
        said = []
        for _ in range(2):
            change_embeddings(
                str(tmp_path / "in"), str(tmp_path / "out"), METHOD.transform_images, space="s"
            )
            said.append(files_of(tmp_path / "out"))
        assert said[0] == said[1] and len(said[0]) == 1

    def test_evaluation_counts_what_is_nan_as_left_out(self, tmp_path: Path):
        array = embeddings(8)
        array[[1, 6]], array[3] = AXIS, 0
        write_lists(tmp_path / "in" / "a.parquet", names_of(8), array)
        change_embeddings(str(tmp_path / "in"), str(tmp_path / "out"), PROJECTION.transform_texts)
        labels = tmp_path / "labels.csv"
        labels.write_text("uid,x\n" + "".join(f"{name},1\n" for name in names_of(8)))
        found = read_plain(PlainSettings(embeddings=str(tmp_path / "out"), labels=str(labels)))
        assert found.left_out == {LEFT_OUT: 3}
        kept = [0, 2, 4, 5, 7]
        assert found.keys == tuple(f"uid-{row}" for row in kept)
        np.testing.assert_allclose(
            found.embeddings, PROJECTION.transform_texts(array[kept]), rtol=0, atol=1e-6
        )

    def test_rows_without_a_list_stay_away(self, tmp_path: Path):
        lists = [[1.0] * D, None, [2.0] + [0.0] * (D - 1)]
        column = pa.array(lists, pa.list_(pa.float32()))
        pq.write_table(pa.table({"uid": ["a", "b", "c"], "e": column}), tmp_path / "t.parquet")
        out = tmp_path / "out"
        found = change_embeddings(str(tmp_path / "t.parquet"), str(out), METHOD.transform_images)
        assert found.rows == 2
        assert open_table(str(out / "t.parquet")).names == ["a", "c"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda rows: METHOD.transform_images(rows[:, :3]),
                "b.parquet: images: embeddings of 3",
            ),
            (PROJECTION.transform_texts, f"b.parquet: none of 4 .*: 4 x {NOTHING_LEFT}$"),
        ],
    )
    def test_a_table_that_cannot_be_changed_is_named(
        self, tmp_path: Path, change: Callable, said: str
    ):
        write_lists(
            tmp_path / "in" / "a.parquet", list("wxyz"), np.vstack([embeddings(3), AXIS * 0])
        )
        write_lists(
            tmp_path / "in" / "b.parquet", list("stuv"), np.repeat(AXIS, 4, 0).astype(np.float32)
        )

        def of_some(rows: np.ndarray) -> Any:
            return change(rows) if (rows[:, 1:] == 0).all() else rows

        with pytest.raises(InputError, match=said):
            change_embeddings(str(tmp_path / "in"), str(tmp_path / "out"), of_some)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.parquet"]

    def test_tables_that_cannot_be_read(self, tmp_path: Path):
        (tmp_path / "in").mkdir()
        for source, said in (("in", "no embeddings"), ("in/a.parquet", "no such file")):
            with pytest.raises(InputError, match=said):
                change_embeddings(str(tmp_path / source), str(tmp_path / "o"), lambda rows: rows)
        np.save(tmp_path / "in" / "a.npy", embeddings(3))
        with pytest.raises(InputError, match=r"a.parquet: no such file"):
            change_embeddings(str(tmp_path / "in"), str(tmp_path / "o"), lambda rows: rows)
        write_names(tmp_path / "in" / "a.parquet", names_of(4))
        with pytest.raises(InputError, match=r"3 embeddings, but .* has 4 rows"):
            change_embeddings(str(tmp_path / "in"), str(tmp_path / "o"), lambda rows: rows)

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path):
        write_lists(tmp_path / "a.parquet", names_of(3), embeddings(3))
        for name in ("b.parquet", "b.npy", "b.npz"):
            with pytest.raises(
                InputError, match=f"{name} is a file, but tables are written to a f"
            ):
                change_embeddings(
                    str(tmp_path / "a.parquet"), str(tmp_path / name), METHOD.transform_images
                )


class TestSpace:
    """Tables that name the model they are of."""

    def write(self, path: Path, space: str | None, kind: str = "parquet") -> None:
        if kind == "parquet":
            write_lists(path, names_of(4), embeddings(4))
        else:
            write_names(path, names_of(4))
            array = path.with_suffix(f".{kind}")
            np.save(array, embeddings(4)) if kind == "npy" else np.savez(array, e=embeddings(4))
        if space is not None:
            pq.write_table(pq.read_table(path).replace_schema_metadata({"model": space}), path)

    def change(self, folder: Path, of: str | None, source: str = "in") -> Changed:
        return change_embeddings(
            str(folder / source), str(folder / "out"), METHOD.transform_images, of=of, space="S"
        )

    @pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
    @pytest.mark.parametrize("space", ["B-16/laion", "B-32/openai + OrthogonalProjection"])
    def test_another_one_is_refused_before_anything_is_written(
        self, tmp_path: Path, kind: str, space: str
    ):
        self.write(tmp_path / "in" / "a.parquet", "B-32/openai")
        self.write(tmp_path / "in" / "b.parquet", None)
        self.write(tmp_path / "in" / "c.parquet", space, kind)
        for source in ("in", f"in/c.{kind}"):
            with pytest.raises(InputError) as refused:
                self.change(tmp_path, "B-32/openai", source)
            said = str(refused.value)
            assert said.startswith(f"{tmp_path / 'in'}/c.{kind}: embeddings of {space}, but the ")
            assert "for those of B-32/openai;" in said
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(("space", "of"), [("A", "A"), ("A", None), (None, "A"), (None, None)])
    def test_the_same_or_none_goes_on(self, tmp_path: Path, space: str | None, of: str | None):
        self.write(tmp_path / "in" / "a.parquet", space)
        self.write(tmp_path / "in" / "b.parquet", space, "npy")
        assert self.change(tmp_path, of).rows == 8

    def test_what_it_wrote_is_of_another_one(self, tmp_path: Path):
        self.write(tmp_path / "in" / "a.parquet", "A")
        self.change(tmp_path, "A")
        with pytest.raises(InputError, match="embeddings of S, but the method is for those of A"):
            change_embeddings(
                str(tmp_path / "out"), str(tmp_path / "again"), METHOD.transform_images, of="A"
            )

    def test_on_remote_storage(self, tmp_path: Path, shelf: Callable):
        self.write(tmp_path / "in" / "a.parquet", "B")
        with pytest.raises(InputError, match=r"a\.parquet: embeddings of B, but"):
            change_embeddings(
                shelf(tmp_path / "in"), shelf(tmp_path / "out"), METHOD.transform_images, of="A"
            )

    def test_a_damaged_table_is_named(self, tmp_path: Path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(InputError, match=r"a\.parquet: cannot be read"):
            self.change(tmp_path, "A")
        np.save(tmp_path / "in" / "b.npy", embeddings(3))
        (tmp_path / "in" / "a.parquet").unlink()
        with pytest.raises(InputError, match=r"b\.parquet: no such file"):
            self.change(tmp_path, "A")


class TestWhatIsReadStays:
    """However the path is spelled."""

    @pytest.fixture(params=["same", "dots", "relative", "link", "slashes"])
    def spelled(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Path], str]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "aside").mkdir()
        (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
        ways = {
            "same": lambda path: str(path),
            "dots": lambda path: f"{tmp_path}/aside/../{path.relative_to(tmp_path)}",
            "relative": lambda path: str(path.relative_to(tmp_path)),
            "link": lambda path: str(tmp_path / "link" / path.relative_to(tmp_path)),
            "slashes": lambda path: f"{tmp_path}//{path.relative_to(tmp_path)}",
        }
        return ways[request.param]

    def check_refused(self, folder: Path, source: Path, out: str) -> None:
        before = files_of(folder)
        with pytest.raises(InputError, match="would be written over what is read; name another"):
            change_embeddings(str(source), out, METHOD.transform_images)
        assert files_of(folder) == before

    def test_one_array(self, tmp_path: Path, spelled: Callable):
        np.save(tmp_path / "in.npy", embeddings(4))
        self.check_refused(tmp_path, tmp_path / "in.npy", spelled(tmp_path / "in.npy"))

    def test_a_parquet(self, tmp_path: Path, spelled: Callable):
        source = tmp_path / "in" / "a.parquet"
        write_lists(source, names_of(4), embeddings(4))
        self.check_refused(tmp_path, source, spelled(tmp_path / "in"))
        self.check_refused(tmp_path, tmp_path / "in", spelled(tmp_path / "in"))

    @pytest.mark.parametrize("kind", ["npy", "npz"])
    def test_the_names_beside_an_array(self, tmp_path: Path, spelled: Callable, kind: str):
        write_names(tmp_path / "in" / "a.parquet", names_of(4))
        array = tmp_path / "in" / f"a.{kind}"
        np.save(array, embeddings(4)) if kind == "npy" else np.savez(array, e=embeddings(4))
        self.check_refused(tmp_path, array, spelled(tmp_path / "in"))
        self.check_refused(tmp_path, tmp_path / "in", spelled(tmp_path / "in"))

    def test_a_folder_below_is_another(self, tmp_path: Path):
        write_lists(tmp_path / "in" / "a.parquet", names_of(4), embeddings(4))
        before = (tmp_path / "in" / "a.parquet").read_bytes()
        for _ in range(2):
            found = change_embeddings(
                str(tmp_path / "in"), str(tmp_path / "in" / "new"), METHOD.transform_images
            )
        assert found.rows == 4 and (tmp_path / "in" / "a.parquet").read_bytes() == before


class TestStorage:
    @pytest.mark.parametrize("kind", ["npy", "table"])
    def test_a_write_that_is_interrupted_leaves_what_was_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ):
        if kind == "npy":
            np.save(tmp_path / "in.npy", embeddings(4))
            source, out, writer = "in.npy", "out.npy", (np, "save")
            old = tmp_path / "out.npy"
        else:
            write_lists(tmp_path / "in" / "a.parquet", names_of(4), embeddings(4))
            source, out, writer = "in", "out", (pq, "write_table")
            old = tmp_path / "out" / "a.parquet"
            old.parent.mkdir()
        old.write_bytes(b"of old")
        before = files_of(tmp_path)

        def cut(*given: Any, **more: Any) -> None:
            stream = next(each for each in given if isinstance(each, io.IOBase))
            stream.write(b"half")
            raise OSError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(*writer, cut)
            with pytest.raises(OSError, match="the disk is full"):
                change_embeddings(
                    str(tmp_path / source), str(tmp_path / out), METHOD.transform_images
                )
        assert files_of(tmp_path) == before
        change_embeddings(str(tmp_path / source), str(tmp_path / out), METHOD.transform_images)
        assert old.read_bytes() != b"of old"

    def test_remote_storage_gets_what_local_files_get(self, tmp_path: Path, shelf: Callable):
        write_names(tmp_path / "in" / "a.parquet", names_of(4))
        np.save(tmp_path / "in" / "a.npy", embeddings(4))
        write_lists(tmp_path / "in" / "b.parquet", names_of(3), embeddings(3))
        here = change_embeddings(
            str(tmp_path / "in"), str(tmp_path / "here"), METHOD.transform_images, space="s"
        )
        (tmp_path / "there").mkdir()
        there = change_embeddings(
            shelf(tmp_path / "in"), shelf(tmp_path / "there"), METHOD.transform_images, space="s"
        )
        assert there.tables == tuple(shelf(tmp_path / "there" / f"{name}.parquet") for name in "ab")
        assert there.rows == here.rows == 7
        for path in here.tables:
            other = tmp_path / "there" / Path(path).name
            assert Path(path).read_bytes() == other.read_bytes()

    def test_remote_files_are_not_written_over_either(self, tmp_path: Path, shelf: Callable):
        write_lists(tmp_path / "in" / "a.parquet", names_of(3), embeddings(3))
        np.save(tmp_path / "in.npy", embeddings(3))
        before = files_of(tmp_path)
        for source, out in (
            ("in", tmp_path / "in"),
            ("in", tmp_path / "aside" / ".." / "in"),
            ("in.npy", tmp_path / "in.npy"),
        ):
            with pytest.raises(InputError, match="would be written over what is read"):
                change_embeddings(shelf(tmp_path / source), shelf(out), METHOD.transform_images)
        assert files_of(tmp_path) == before and not storage.exists(shelf(tmp_path / "out"))


def test_undefined_is_an_input_error_that_names_the_row():
    with pytest.raises(UndefinedError, match="leaves nothing of row 1"):
        PROJECTION.transform_texts(np.vstack([embeddings(1), AXIS]))
