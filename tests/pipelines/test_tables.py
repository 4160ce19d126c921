"""Tables and their commit markers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.tables import (
    Commit,
    annotated_tables,
    annotation_schema,
    committed,
    manifest_schema,
    read_commit,
    read_table,
    to_patterns,
    write_table,
)


def commit(rows: int = 2, **changes: object) -> Commit:
    given = {"shard": "a.tar", "size": 10, "modified": 1.25, "settings": "x", "rows": rows}
    return Commit.model_validate({**given, **changes})


def manifest(copies: list[int]) -> pa.Table:
    rows = [
        {"uid": f"{i:032x}", "key": str(i), "offset": i * 512, "length": 512, "copies": number}
        for i, number in enumerate(copies)
    ]
    return pa.Table.from_pylist(rows, schema=manifest_schema(weights=False))


def test_a_table_and_its_marker_are_read_back(tmp_path: Path, shelf: Callable[[Path], str]) -> None:
    for folder in (str(tmp_path / "local"), shelf(tmp_path / "remote")):
        marker = commit(failures={"no image": 3}, examples={"no image": "k"}, counts={"used": 1})
        write_table(folder, "a", manifest([1, 2]), marker)
        assert read_commit(folder, "a") == marker
        assert marker.failed == 3
        assert read_table(folder, "a").equals(manifest([1, 2]))
        assert read_table(folder, "a", ["copies"]).to_pylist() == [{"copies": 1}, {"copies": 2}]
        assert list(committed(folder)) == [("a", marker)]


def test_equal_tables_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_table(str(tmp_path / name), "a", manifest([0, 1, 2] * 100), commit(300))
    for name in ("a.parquet", "a.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_marker_is_written_last(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()  # the marker cannot be put there
    with pytest.raises(OSError, match=r"a\.json"):
        write_table(str(tmp_path), "a", manifest([1]), commit(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.parquet"]


def test_a_table_without_a_marker_is_not_committed(tmp_path: Path) -> None:
    write_table(str(tmp_path), "b", manifest([1]), commit(1))
    write_table(str(tmp_path), "a", manifest([1]), commit(1))
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    assert [stem for stem, _ in committed(str(tmp_path))] == ["a", "b"]
    assert read_commit(str(tmp_path), "c") is None


@pytest.mark.parametrize("content", ["", "{}", '{"successes": 5}', "[1]"])
def test_what_is_no_marker_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: not a commit marker; delete it"):
        read_commit(str(tmp_path), "a")


def test_a_folder_without_markers_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: no committed tables"):
        list(committed(str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"settings": "y"}, True),
        ({"counts": {"used": 1.0}}, True),
        ({"shard": "b.tar"}, False),
        ({"size": 11}, False),
        ({"modified": 1.5}, False),
        ({"rows": 3}, False),
    ],
)
def test_the_same_input_is_the_same_shard_unchanged(change: dict[str, object], same: bool) -> None:
    other = Commit.model_validate({**commit().model_dump(), **change})
    assert commit().same_input(other) is same


def test_annotations_of_another_catalogue_are_named(tmp_path: Path, catalogue: Catalogue) -> None:
    table = annotation_schema(catalogue).empty_table()
    write_table(str(tmp_path), "a", table, commit(0))
    assert annotated_tables(str(tmp_path), catalogue) == [("a", commit(0))]
    foreign = table.replace_schema_metadata({"catalogue": "0123456789abcdef"})
    write_table(str(tmp_path), "b", foreign, commit(0))
    with pytest.raises(InputError, match=r"b\.parquet: made with catalogue 0123456789ab, but"):
        annotated_tables(str(tmp_path), catalogue)


def test_annotations_made_with_different_settings_do_not_mix(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    table = annotation_schema(catalogue).empty_table()
    write_table(str(tmp_path), "a", table, commit(0))
    write_table(str(tmp_path), "b", table, commit(0, settings="y"))
    with pytest.raises(InputError, match=r"b\.parquet: annotated with other settings than a\."):
        annotated_tables(str(tmp_path), catalogue)


@pytest.mark.parametrize("content", [None, b"", b"no parquet at all"])
def test_a_table_that_is_gone_or_damaged_is_named(
    tmp_path: Path, catalogue: Catalogue, content: bytes | None
) -> None:
    write_table(str(tmp_path), "a", annotation_schema(catalogue).empty_table(), commit(0))
    path = tmp_path / "a.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read .* delete .*a\.json"):
        read_table(str(tmp_path), "a")


def test_a_manifest_has_weights_only_where_asked_for() -> None:
    plain, weighted = manifest_schema(weights=False), manifest_schema(weights=True)
    assert plain.names == ["uid", "key", "offset", "length", "copies"]
    assert weighted.names == [*plain.names, "weight"]
    assert plain.field("copies").type == pa.int32()


def test_annotations_become_patterns(annotated: Path, catalogue: Catalogue) -> None:
    table = pq.read_table(annotated / "annotations" / "00000.parquet")
    patterns = to_patterns(table, catalogue)
    rows = table.to_pylist()
    assert patterns.s.shape == (60, 3)
    assert patterns.y.shape == (60, 4)
    for k, name in enumerate(catalogue.value_names):
        assert patterns.s[:, k].tolist() == [row[name] or 0.0 for row in rows]
        assert patterns.observed[:, k].tolist() == [row[name] is not None for row in rows]
    assert [np.flatnonzero(y).tolist() for y in patterns.y.toarray()] == [
        row["labels"] for row in rows
    ]
    assert patterns.counts.tolist() == [1.0] * 60
