"""Manifests without shards, and receipts of consumers that read them in some order."""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.copies import Manifest
from pipelines.receipt_check import ReceiptCheck, check_receipt
from pipelines.receipts import Receipt, Use, UseCounter
from pipelines.tables import Commit, manifest_schema, write_table

WEIGHTS = (0.25, 0.5, 1.0, 2.5)


def write_plan(
    folder: Path,
    copies: Sequence[Sequence[int]],
    weights: Callable[[int, int], float] | None = None,
) -> str:
    """A manifest with a table for each list of copies; samples of 1024 bytes each."""
    for number, column in enumerate(copies):
        rows = range(len(column))
        columns = {
            "uid": [f"{number:016x}{row:016x}" for row in rows],
            "key": [f"{number:05d}-{row:04d}" for row in rows],
            "offset": [1024 * row for row in rows],
            "length": [1024] * len(column),
            "copies": list(column),
        }
        if weights is not None:
            columns["weight"] = [weights(number, row) for row in rows]
        table = pa.table(columns, schema=manifest_schema(weights=weights is not None))
        commit = Commit(
            shard=f"{number:05d}.tar", size=1, modified=0.5, settings="test", rows=len(column)
        )
        write_table(str(folder), f"{number:05d}", table, commit)
    return str(folder)


def write_weighted_plan(folder: Path) -> str:
    """Twelve shards of 600 samples, of four weights and with copies drawn from them."""
    generator = np.random.default_rng(5)
    chosen = generator.choice(WEIGHTS, size=(12, 600), p=(0.2, 0.4, 0.3, 0.1))
    copies = np.floor(chosen + generator.random(chosen.shape)).astype(int)
    return write_plan(folder, copies.tolist(), lambda shard, row: float(chosen[shard, row]))


def planned_uses(manifest: Manifest, epoch: int = 0, seed: int = 0) -> list[Use]:
    """Every use of an epoch as our loader comes to them: shards shuffled, second copies last."""
    generator = random.Random(seed)
    found: list[Use] = []
    number = 0
    while True:
        shards = list(manifest.shards)
        generator.shuffle(shards)
        before = len(found)
        for part in shards:
            rows = manifest.rows(part, epoch)
            weights = [None] * len(rows.keys) if rows.weights is None else rows.weights.tolist()
            found += [
                Use(part.stem, int(rows.offsets[row]), rows.keys[row], weights[row])
                for row in np.flatnonzero(rows.copies > number)
            ]
        if len(found) == before:
            return found
        number += 1


def receipt_of(manifest: Manifest, uses: Iterable[Use], *, epoch: int = 0, **more: bool) -> Receipt:
    counter = UseCounter.begin(manifest, epoch)
    counter.count(uses)
    return counter.receipt(**more)


def check(folder: str, *receipts: Receipt) -> ReceiptCheck:
    return check_receipt(folder, {f"{number}.json": each for number, each in enumerate(receipts)})


def differences(found: ReceiptCheck) -> dict[str, str]:
    assert found.agrees == (not any(each.differences for each in found.epochs))
    return {each.where: each.says for epoch in found.epochs for each in epoch.differences}
