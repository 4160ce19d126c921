"""A manifest that is read: its rows, its copies, its fingerprint."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m4.errors import InputError
from m4.sampling import draw_copies
from pipelines.copies import TABLES_KEPT, Manifest
from pipelines.tables import read_commit, read_table, write_table
from tests.manifest_plans import write_plan

SHARDS = 3
EACH = 20


def once(folder: Path) -> str:
    """A manifest of three shards, each sample once, without weights."""
    return write_plan(folder, [[1] * EACH] * SHARDS)


def test_rows_are_those_of_the_tables(tmp_path: Path) -> None:
    planned = [[(shard + row) % 3 for row in range(EACH)] for shard in range(SHARDS)]
    manifest = Manifest(write_plan(tmp_path, planned))
    assert manifest.total_rows == SHARDS * EACH
    assert [part.stem for part in manifest.shards] == ["00000", "00001", "00002"]
    for part, copies in zip(manifest.shards, planned, strict=True):
        rows = manifest.rows(part, 7)
        table = read_table(str(tmp_path), part.stem)
        assert rows.copies.tolist() == copies and rows.weights is None
        assert rows.uids == table["uid"].to_pylist() and rows.keys == table["key"].to_pylist()
        assert (rows.span(2).offset, rows.span(2).length) == (2048, 1024)


def test_redrawn_copies_are_those_of_the_mathematics(tmp_path: Path) -> None:
    weights = np.arange(SHARDS * EACH).reshape(SHARDS, EACH) / 25
    folder = write_plan(tmp_path, [[9] * EACH] * SHARDS, lambda shard, row: weights[shard, row])
    manifest = Manifest(folder, redraw=True, seed=4)
    for epoch in (0, 1):
        rows = [manifest.rows(part, epoch) for part in manifest.shards]
        uids = [uid for each in rows for uid in each.uids]
        drawn = np.concatenate([each.copies for each in rows])
        expected = draw_copies(weights.ravel(), uids, seed=4, epoch=epoch)
        np.testing.assert_array_equal(drawn, expected)
    unused = Manifest(folder)
    assert {n for part in unused.shards for n in unused.rows(part, 0).copies.tolist()} == {9}


def test_redraw_needs_weights(tmp_path: Path) -> None:
    manifest = Manifest(once(tmp_path), redraw=True)
    with pytest.raises(InputError, match=r"00000.parquet: redraw .* run apply with weights"):
        manifest.rows(manifest.shards[0], 0)


def test_a_table_that_is_no_manifest(tmp_path: Path) -> None:
    folder = once(tmp_path)
    commit = read_commit(folder, "00000")
    assert commit is not None
    write_table(folder, "00000", pa.table({"uid": ["a"]}), commit)
    manifest = Manifest(folder)
    with pytest.raises(InputError, match="no column key"):
        manifest.rows(manifest.shards[0], 0)
    with pytest.raises(InputError, match="no committed tables"):
        Manifest(str(tmp_path / "nowhere"))


def test_a_manifest_of_metadata_alone_is_refused(tmp_path: Path) -> None:
    folder = once(tmp_path)
    commit = read_commit(folder, "00001")
    assert commit is not None
    made = commit.model_copy(update={"shard": "metadata/00001.parquet"})
    write_table(folder, "00001", read_table(folder, "00001"), made)
    said = r"made from tables of metadata \(metadata/00001\.parquet\), .*`m4-balance import-subset`"
    with pytest.raises(InputError, match=said):
        Manifest(folder)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    folder = once(tmp_path)
    before = Manifest(folder).fingerprint
    assert Manifest(folder).fingerprint == before
    commit = read_commit(folder, "00001")
    assert commit is not None
    changed = commit.model_copy(update={"settings": "another policy"})
    write_table(folder, "00001", read_table(folder, "00001"), changed)
    assert Manifest(folder).fingerprint != before


def test_few_tables_are_kept(tmp_path: Path) -> None:
    manifest = Manifest(write_plan(tmp_path, [[1]] * (TABLES_KEPT + 2)))
    for part in manifest.shards * 2:
        assert manifest.rows(part, 0).copies.tolist() == [1]
    assert len(manifest._kept) == TABLES_KEPT
