"""The benchmark of reshard, at sizes that take seconds: all ways write what they say."""

from pathlib import Path

import pytest

from benchmarks import resharding
from benchmarks.resharding import Settings, by_blocks, by_cat, by_reshard, by_webdataset
from pipelines.shards import Sample, find_shards, read_samples
from pipelines.tables import committed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resharding, "SHARD", 100)
    resharding.write_shards(tmp_path, 300, 700)
    return tmp_path


def keys(folder: Path) -> list[str]:
    found = [each for shard in find_shards(str(folder)) for each in read_samples(shard)]
    assert all(isinstance(each, Sample) for each in found)
    return sorted(each.key for each in found if isinstance(each, Sample))


def test_the_manifest_is_that_of_the_shards(folder: Path) -> None:
    markers = list(committed(str(folder / "run" / "manifest")))
    assert [stem for stem, _ in markers] == ["00000", "00001", "00002"]
    drawn = sum(commit.counts["copies"] for _, commit in markers)
    assert 100 < drawn < 200
    by_reshard(folder, 1)
    by_blocks(folder)
    assert len(keys(folder / "out")) == drawn
    assert keys(folder / "blocks") == keys(folder / "out")


def test_peers_do_what_they_are_timed_for(folder: Path) -> None:
    by_cat(folder, 2)
    sizes = [path.stat().st_size for path in sorted((folder / "shards").glob("*.tar"))]
    assert (folder / "cat.out").stat().st_size == sum(sizes[:2])
    by_webdataset(folder, 2)
    assert keys(folder / "webdataset") == [key for key in keys(folder / "shards")[:200:2]]


@pytest.mark.slow
def test_the_report_holds_every_way_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resharding, "SHARD", 100)
    settings = Settings(sizes=(100.0, 300.0), peers=100.0, picture=700, folder=tmp_path, repeats=1)
    ways, sizes = resharding.main(settings).tables
    assert [row[0] for row in ways.rows][:2] == ["cat", "webdataset, read and write"]
    assert [row[:2] for row in sizes.rows] == [("100", "1"), ("300", "1"), ("300", "2")]
    assert all(float(row[5]) > 0 for row in sizes.rows)
    assert all(float(row[3]) > 0 for row in ways.rows)
