from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m4.errors import InputError
from m4.sampling import draw_copies
from pipelines.tables import read_commit, read_table, write_table
from training.manifest import TABLES_KEPT, Manifest


def test_rows_are_those_of_the_tables(tmp_path: Path, pictures):
    folder = pictures.manifest(tmp_path, lambda number: number % 3)
    manifest = Manifest(folder)
    assert manifest.total_rows == 60
    uids = [uid for part in manifest.shards for uid in manifest.rows(part, 0).uids]
    copies = [n for part in manifest.shards for n in manifest.rows(part, 7).copies.tolist()]
    assert uids == pictures.uids
    assert copies == [number % 3 for number in range(60)]


def test_redrawn_copies_are_those_of_the_mathematics(tmp_path: Path, pictures):
    weight = lambda number: number / 25  # noqa: E731
    folder = pictures.manifest(tmp_path, lambda number: 9, weight)
    manifest = Manifest(folder, redraw=True, seed=4)
    weights = np.array([weight(number) for number in range(60)])
    for epoch in (0, 1):
        drawn = np.concatenate([manifest.rows(part, epoch).copies for part in manifest.shards])
        expected = draw_copies(weights, pictures.uids, seed=4, epoch=epoch)
        np.testing.assert_array_equal(drawn, expected)
    unused = Manifest(folder)
    assert {n for part in unused.shards for n in unused.rows(part, 0).copies.tolist()} == {9}


def test_redraw_needs_weights(tmp_path: Path, pictures):
    manifest = Manifest(pictures.manifest(tmp_path), redraw=True)
    with pytest.raises(InputError, match=r"00000.parquet: redraw .* run apply with weights"):
        manifest.rows(manifest.shards[0], 0)


def test_a_table_that_is_no_manifest(tmp_path: Path, pictures):
    folder = pictures.manifest(tmp_path)
    commit = read_commit(folder, "00000")
    assert commit is not None
    write_table(folder, "00000", pa.table({"uid": ["a"]}), commit)
    manifest = Manifest(folder)
    with pytest.raises(InputError, match="no column key"):
        manifest.rows(manifest.shards[0], 0)
    with pytest.raises(InputError, match="no committed tables"):
        Manifest(str(tmp_path / "nowhere"))


def test_the_fingerprint_is_of_the_content(tmp_path: Path, pictures):
    folder = pictures.manifest(tmp_path)
    before = Manifest(folder).fingerprint
    assert Manifest(folder).fingerprint == before
    commit = read_commit(folder, "00001")
    assert commit is not None
    changed = commit.model_copy(update={"settings": "another policy"})
    write_table(folder, "00001", read_table(folder, "00001"), changed)
    assert Manifest(folder).fingerprint != before


def test_few_tables_are_kept(tmp_path: Path, draw_pictures: Callable):
    many = draw_pictures(tmp_path / "tars", shards=TABLES_KEPT + 2, each=1)
    manifest = Manifest(many.manifest(tmp_path / "manifest"))
    for part in manifest.shards * 2:
        assert manifest.rows(part, 0).copies.tolist() == [1]
    assert len(manifest._kept) == TABLES_KEPT
