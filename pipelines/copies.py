"""Reading a manifest: which samples of which shards are used, and how often in an epoch."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from m4.errors import InputError
from m4.sampling import draw_copies
from pipelines import storage
from pipelines.shards import SampleSpan, ShardRef, check_tars
from pipelines.tables import IDENTITY_COLUMNS, Commit, committed, read_table

TABLES_KEPT = 16  # of the shards visited last; enough that a small data set is read once


@dataclass(frozen=True)
class ManifestShard:
    """A shard and the name of its table in the manifest."""

    stem: str
    shard: ShardRef


@dataclass(frozen=True, eq=False)
class Rows:
    """The samples of one shard, in the order of the table; n of them.

    Attributes
    ----------
    uids, keys : n strings each
    offsets, lengths : (n,) int64, byte spans in the tar
    copies : (n,) int32, how often each is used
    weights : (n,) float64, expected copies; None where the manifest has none
    """

    uids: list[str]
    keys: list[str]
    offsets: np.ndarray
    lengths: np.ndarray
    copies: np.ndarray
    weights: np.ndarray | None = None

    def span(self, row: int) -> SampleSpan:
        return SampleSpan(int(self.offsets[row]), int(self.lengths[row]))


@dataclass
class Manifest:
    """A folder of committed tables; the samples of each shard are read when they are asked for.

    Parameters
    ----------
    folder : where the tables and their commit markers lie
    redraw : draw the copies of each epoch afresh from the weights
    seed : of these draws

    Attributes
    ----------
    shards : by name
    total_rows : samples of all shards, used or not
    fingerprint : SHA-256 of the names and the content of all commit markers

    Raises `InputError` where the folder has no committed table, or was made from tables of
    metadata, and, on reading, where weights are asked for and a table has none.
    """

    folder: str
    redraw: bool = False
    seed: int = 0
    shards: list[ManifestShard] = field(init=False)
    total_rows: int = field(init=False)
    fingerprint: str = field(init=False)
    _kept: dict[str, Rows] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        markers = list(committed(self.folder))
        self.shards = [ManifestShard(stem, commit.ref) for stem, commit in markers]
        check_tars(self.folder, [part.shard for part in self.shards])
        self.total_rows = sum(commit.rows for _, commit in markers)
        content = "\n".join(f"{stem} {_as_written(commit)}" for stem, commit in markers)
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    def rows(self, part: ManifestShard, epoch: int) -> Rows:
        """The samples of one shard with their copies in an epoch."""
        if part.stem not in self._kept:
            while len(self._kept) >= TABLES_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[part.stem] = self._read(part)
        rows = self._kept[part.stem]
        if not self.redraw:
            return rows
        assert rows.weights is not None  # as `_read` makes sure of
        drawn = draw_copies(rows.weights, rows.uids, seed=self.seed, epoch=epoch)
        return Rows(rows.uids, rows.keys, rows.offsets, rows.lengths, drawn, rows.weights)

    def _read(self, part: ManifestShard) -> Rows:
        wanted = "weight" if self.redraw else "copies"
        table = read_table(self.folder, part.stem)
        missing = [name for name in [*IDENTITY_COLUMNS, wanted] if name not in table.column_names]
        if missing:
            path = storage.join(self.folder, f"{part.stem}.parquet")
            if missing == ["weight"]:
                raise InputError(
                    f"{path}: redraw is on, but the manifest has no weights; run apply with "
                    "weights, or set redraw to false"
                )
            raise InputError(f"{path}: no column {missing[0]}; a manifest is made by apply")
        weights = table["weight"].to_numpy() if "weight" in table.column_names else None
        return Rows(
            table["uid"].to_pylist(),
            table["key"].to_pylist(),
            table["offset"].to_numpy(),
            table["length"].to_numpy(),
            table["copies"].to_numpy() if not self.redraw else np.zeros(len(table), dtype=np.int32),
            weights,
        )


def _as_written(commit: Commit) -> str:
    """A commit marker as JSON on one line, with what its file holds and nothing else."""
    return json.dumps(commit.model_dump(exclude_unset=True), sort_keys=True)
