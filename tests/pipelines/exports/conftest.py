"""Manifests to hand on: made of nothing but uids, or of real tars."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from pipelines.shards import Sample, ShardRef, read_samples
from pipelines.tables import Commit, manifest_schema, write_table

Row = dict[str, Any]
WriteTables = Callable[[Path, Mapping[str, Sequence[Row]]], str]


@dataclass(frozen=True)
class Drawn:
    """Tars with a manifest, and how often each (stem, key) is used."""

    shards: Path
    manifest: Path
    copies: Counter[tuple[str, str]]
    uids: Counter[str]


def _commit(shard: ShardRef, rows: Sequence[Row]) -> Commit:
    copies = [row["copies"] for row in rows]
    return Commit(
        shard=shard.path,
        size=shard.size,
        modified=shard.modified,
        settings="test",
        rows=len(rows),
        counts={
            "used": sum(each > 0 for each in copies),
            "copies": sum(copies),
            "most": max(copies, default=0),
        },
    )


@pytest.fixture(scope="session")
def write_tables() -> WriteTables:
    """Writes a manifest of rows by stem; what a row lacks is made up, as of metadata."""

    def write(folder: Path, tables: Mapping[str, Sequence[Row]]) -> str:
        for stem, rows in tables.items():
            made_up = {"offset": 0, "length": 0}
            whole = [{"key": row["uid"], **made_up, **row} for row in rows]
            weighted = any("weight" in row for row in rows)
            table = pa.Table.from_pylist(whole, manifest_schema(weights=weighted))
            shard = ShardRef(str(folder / f"{stem}.tar"), 1, 1.0)
            write_table(str(folder), stem, table, _commit(shard, rows))
        return str(folder)

    return write


@pytest.fixture(scope="session")
def write_drawn() -> Callable[..., Drawn]:
    """Writes a manifest over tars, with copies from 0 to 3."""

    def write(shards: Sequence[ShardRef], manifest: Path, *, weights: bool = False) -> Drawn:
        draw = Random(7)
        copies: Counter[tuple[str, str]] = Counter()
        uids: Counter[str] = Counter()
        for shard in shards:
            rows = []
            for each in read_samples(shard):
                if not isinstance(each, Sample):
                    continue
                used = draw.choice([0, 1, 1, 2, 3])
                copies[shard.stem, each.key] += used
                uids[each.uid] += used
                span = {"offset": each.span.offset, "length": each.span.length}
                row = {"uid": each.uid, "key": each.key, **span, "copies": used}
                rows.append({**row, "weight": used / 2} if weights else row)
            table = pa.Table.from_pylist(rows, manifest_schema(weights=weights))
            write_table(str(manifest), shard.stem, table, _commit(shard, rows))
        folder = Path(shards[0].path).parent
        return Drawn(folder, manifest, +copies, +uids)

    return write


@pytest.fixture
def drawn(
    tmp_path: Path,
    people: Callable[[int], Any],
    write_shards: Callable[..., list[ShardRef]],
    write_drawn: Callable[..., Drawn],
) -> Drawn:
    """60 pairs in 3 tars, whose keys are the same in each tar."""
    pairs = people(60)
    for i, members in enumerate(pairs):
        pairs[i] = [(f"{i // 3:06d}.{name.split('.')[1]}", content) for name, content in members]
    shards = write_shards(tmp_path / "data", pairs, 3)
    return write_drawn(shards, tmp_path / "runs" / "mine" / "manifest")
