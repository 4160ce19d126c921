"""The benchmark of indexing, at a size that takes a second."""

from pathlib import Path

import pytest

from benchmarks import indexing
from pipelines.index import index_shard
from pipelines.tables import read_table

SMALL = indexing.Settings(shards=2, samples=30, picture=900, repeats=1)


def test_all_ways_find_the_same_samples(tmp_path: Path) -> None:
    shards = indexing.write_shards(tmp_path / "shards", SMALL)
    assert len(shards) == 2
    for shard in shards:
        plain = indexing.by_tarfile(shard, uids=False)
        assert indexing.by_walk(shard) == plain and len(plain) == 30
        index_shard(shard, str(tmp_path))
        columns = read_table(str(tmp_path), shard.stem).to_pydict().values()
        assert list(zip(*columns, strict=True)) == indexing.by_tarfile(shard, uids=True)


def test_the_ways_take_turns(tmp_path: Path) -> None:
    shards = indexing.write_shards(tmp_path / "shards", SMALL)
    done: list[tuple[str, str]] = []
    ways = {
        name: lambda shard, name=name: done.append((name, shard.stem))  # type: ignore[misc]
        for name in "ab"
    }
    taken = indexing.seconds_of(ways, shards, 2)
    turn = [("a", "00000"), ("a", "00001"), ("b", "00000"), ("b", "00001")]
    assert done == turn * 2
    assert taken.keys() == {"a", "b"} and min(taken.values()) >= 0


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = indexing.Settings(
        shards=1, samples=20, picture=900, repeats=1, markdown=tmp_path / "report.md"
    )
    (table,) = indexing.main(settings).tables
    ratios = {row[0]: row[2] for row in table.rows}
    assert ratios["tarfile"] == ratios["tarfile, uids from json"] == "1"
    assert list(ratios)[1::2] == ["our walk", "`index_shard`"]
    out = capsys.readouterr().out
    assert "20 samples of a picture of 900 bytes" in out and "cores" in out
    assert (tmp_path / "report.md").read_text() == out
