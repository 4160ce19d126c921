"""The tables that stages pass on: one parquet per shard, committed by a json beside it.

Annotations      uid, key, offset, length, the caption's language where it was asked for, one
                 nullable float per sensitive value and one for a person, the source of each
                 attribute's mark, `labels` (ids of labels and proxies) with their sources,
                 `utility`, and `url_sha256`: the first 16 bytes of the SHA-256 of the URL that the
                 sample's metadata states, null where it states none.
Failures         shard, key, reason: what was set aside; a table for each shard that lost something.
Manifest         uid, key, offset, length, copies, and `weight` only where it was asked for.

Whoever reads patterns from a table (to count, to draw, to verify) reads the utility rounded to
steps of `UTILITY_STEP` by `round_utility`: else a continuous one would make every row a pattern of
its own. All see the same number, so that the certificate is about the weights that are applied.

A table counts as made when its commit marker `<stem>.json` stands; it is written last.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.patterns import Patterns
from pipelines import storage
from pipelines.shards import UNREADABLE, Failure, ShardRef

UTILITY_STEP = 1 / 64

IDENTITY = [
    pa.field("uid", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("length", pa.int64(), nullable=False),
]


IDENTITY_COLUMNS = [field.name for field in IDENTITY]


def source_column(attribute: str) -> str:
    """Name of the column that says which annotator marked an attribute."""
    return f"{attribute}:source"


def annotation_schema(catalogue: Catalogue) -> pa.Schema:
    """Columns of the annotations made with a catalogue."""
    return pa.schema(
        [
            *IDENTITY,
            pa.field("language", pa.string()),
            pa.field("person", pa.float32()),
            *(pa.field(name, pa.float32()) for name in catalogue.value_names),
            *(pa.field(source_column(name), pa.string()) for name in catalogue.sensitive),
            pa.field(source_column("person"), pa.string()),
            pa.field("labels", pa.list_(pa.int32()), nullable=False),
            pa.field("label_sources", pa.list_(pa.string()), nullable=False),
            pa.field("utility", pa.float32(), nullable=False),
            pa.field("url_sha256", pa.binary(16)),
        ],
        metadata={"catalogue": catalogue.digest},
    )


FAILURE_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def manifest_schema(*, weights: bool) -> pa.Schema:
    """Columns of a manifest, with or without the weight of each sample."""
    extra = [pa.field("weight", pa.float64(), nullable=False)] if weights else []
    return pa.schema([*IDENTITY, pa.field("copies", pa.int32(), nullable=False), *extra])


class Commit(BaseModel):
    """A commit marker: what a shard's table was made from, and what became of every sample.

    `rows` is what stands in the table, `failures` counts what was set aside by reason; `settings`
    is the digest of everything that decided the content (catalogue or policy, seed, ...); `drops`
    counts rows of the input that stand for no sample, such as what was never downloaded. A shard
    that could not be read to its end is `damaged`: nobody knows how many samples it lost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shard: str
    size: int
    modified: float
    settings: str
    rows: int
    damaged: bool = False
    failures: dict[str, int] = Field(default_factory=dict)
    examples: dict[str, str] = Field(default_factory=dict)
    drops: dict[str, int] = Field(default_factory=dict)
    counts: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        shard: ShardRef,
        settings: str,
        rows: int,
        failures: Sequence[Failure] = (),
        *,
        drops: Mapping[str, int] | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> "Commit":
        """The marker of a shard's table; failures are counted by reason, one named of each."""
        reasons = Counter(failure.reason for failure in failures)
        examples = {each.reason: each.key or shard.name for each in reversed(failures)}
        return cls(
            shard=shard.path,
            size=shard.size,
            modified=shard.modified,
            settings=settings,
            rows=rows,
            damaged=any(failure.rest for failure in failures),
            failures=dict(sorted(reasons.items())),
            examples=dict(sorted(examples.items())),
            drops=dict(sorted((drops or {}).items())),
            counts=dict(counts or {}),
        )

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def ref(self) -> ShardRef:
        """The shard, as it was when its table was made."""
        return ShardRef(self.shard, self.size, self.modified)

    def same_input(self, other: "Commit") -> bool:
        """Whether two tables were made from the same shard, unchanged, with as many rows."""
        mine = (self.shard, self.size, self.modified, self.rows)
        return mine == (other.shard, other.size, other.modified, other.rows)


def write_table(folder: str, stem: str, table: pa.Table, commit: Commit) -> None:
    """Write a shard's table, then its commit marker; both atomically."""
    with storage.atomic_output(storage.join(folder, f"{stem}.parquet")) as stream:
        pq.write_table(table, stream, compression="zstd")
    content = json.dumps(commit.model_dump(), indent=1, sort_keys=True) + "\n"
    storage.write_bytes(storage.join(folder, f"{stem}.json"), content.encode())


def write_drawn(
    folder: str,
    stem: str,
    table: pa.Table,
    source: Commit,
    settings: str,
    copies: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    counts: Mapping[str, float] | None = None,
) -> Commit:
    """Write a shard's manifest: a row for every sample of its table, used or not.

    Parameters
    ----------
    table, source : that know where the samples lie, and what they were made from
    settings : digest of what decided the copies
    copies : (n,) int32
    weights : (n,) written along, where asked for
    counts : of the marker, beside those of the copies
    """
    drawn = {
        "used": int((copies > 0).sum()),
        "copies": int(copies.sum()),
        "most": int(copies.max(initial=0)),
    }
    commit = Commit.of(source.ref, settings, len(table), counts={**drawn, **(counts or {})})
    columns = [*(table[name] for name in IDENTITY_COLUMNS), pa.array(copies)]
    if weights is not None:
        columns.append(pa.array(weights))
    schema = manifest_schema(weights=weights is not None)
    write_table(folder, stem, pa.Table.from_arrays(columns, schema=schema), commit)
    return commit


def write_failures(folder: str, stem: str, failures: Sequence[Failure]) -> None:
    """Write what was set aside of a shard, in its order; a key that is null is the shard itself."""
    rows = [{"shard": each.shard, "key": each.key, "reason": each.reason} for each in failures]
    table = pa.Table.from_pylist(rows, FAILURE_SCHEMA)
    with storage.atomic_output(storage.join(folder, f"{stem}.parquet")) as stream:
        pq.write_table(table, stream, compression="zstd")


def remove_failures(folder: str, stem: str) -> None:
    """Remove what an earlier annotation of a shard set aside, if anything."""
    storage.remove(storage.join(folder, f"{stem}.parquet"))


def read_commit(folder: str, stem: str) -> Commit | None:
    """The commit marker of a shard's table, or None where there is none yet."""
    path = storage.join(folder, f"{stem}.json")
    if not storage.exists(path):
        return None
    try:
        return Commit.model_validate_json(storage.read_bytes(path))
    except ValueError:
        raise InputError(f"{path}: not a commit marker; delete it to have it made again") from None


def made(folder: str, stem: str) -> Commit | None:
    """The commit marker of a shard's table, or None where the table or its marker is not there."""
    commit = read_commit(folder, stem)
    there = commit is not None and storage.exists(storage.join(folder, f"{stem}.parquet"))
    return commit if there else None


def is_made(folder: str, shard: ShardRef, settings: str) -> bool:
    """Whether a shard's table stands, from the same settings and the same input.

    A shard that could not be read, or gave nothing but failures, is tried again: what was wrong may
    have been passing.
    """
    commit = made(folder, shard.stem)
    return (
        commit is not None
        and (commit.rows > 0 or not commit.failures)
        and not any(reason.startswith(UNREADABLE) for reason in commit.failures)
        and (commit.settings, commit.shard) == (settings, shard.path)
        and (commit.size, commit.modified) == (shard.size, shard.modified)
    )


def committed(folder: str) -> Iterator[tuple[str, Commit]]:
    """Yield (stem, commit) of every committed table of a folder, by name.

    Raises `InputError` where there is none.
    """
    markers = storage.files(folder, "*.json")
    if not markers:
        reason = why_missing(folder, "run the stage that makes them first")
        raise InputError(f"{folder}: no committed tables; {reason}")
    for path in markers:
        stem = Path(path).name.removesuffix(".json")
        commit = read_commit(folder, stem)
        assert commit is not None
        yield stem, commit


def why_missing(path: str, otherwise: str) -> str:
    """Why a run directory has no such file or folder: it was purged, or `otherwise`.

    It was where run.json has the entry of a purge, and no annotations were made since.
    """
    run = os.path.dirname(path)
    record = storage.join(run, "run.json")
    if storage.exists(record) and not storage.files(storage.join(run, "annotations"), "*.json"):
        try:
            stages = json.loads(storage.read_bytes(record))
        except ValueError:
            raise InputError(
                f"{record}: not a run record; delete it, or choose another run"
            ) from None
        if "purge" in stages:
            return "the annotations were purged, as run.json says; run annotate again"
    return otherwise


def read_table(folder: str, stem: str, columns: list[str] | None = None) -> pa.Table:
    """Read one shard's table. Raises `InputError` where it is gone or damaged."""
    path = storage.join(folder, f"{stem}.parquet")
    try:
        with storage.open_input(path) as stream:
            return pq.read_table(stream, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        marker = storage.join(folder, f"{stem}.json")
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); delete {marker} and run the "
            "stage again"
        ) from None


def to_frame(table: pa.Table) -> pl.DataFrame:
    """A table as polars sees it; nothing is copied where it need not be."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # a single array would be a Series
    return frame


def read_all(folder: str, columns: list[str] | None = None) -> pl.DataFrame:
    """The committed tables of a folder below each other, by name of the shard."""
    return pl.concat([to_frame(read_table(folder, stem, columns)) for stem, _ in committed(folder)])


def round_utility(utility: np.ndarray) -> np.ndarray:
    """Utility in steps of `UTILITY_STEP`, halves to the even step; exact in float32 and float64.

    Raises `InputError` where one is missing or outside [0, 1].
    """
    bad = ~((utility >= 0) & (utility <= 1))
    if bad.any():
        raise InputError(f"utility holds {utility[bad][0]}, outside [0, 1]")
    return np.abs(np.rint(utility / UTILITY_STEP) * UTILITY_STEP)  # no negative zero


def to_patterns(table: pa.Table, catalogue: Catalogue) -> Patterns:
    """What a solver needs of an annotation or pattern table, one row per row.

    The numbers are those that count joins rows by: values as float32, the utility rounded.
    """
    frame = to_frame(table).with_columns(pl.col(list(catalogue.value_names)).cast(pl.Float32))
    rounded = pl.Series("utility", round_utility(frame["utility"].to_numpy()))
    return Patterns.from_frame(
        frame.with_columns(rounded), catalogue.value_names, len(catalogue.label_names)
    )


def annotated_tables(folder: str, catalogue: Catalogue) -> list[tuple[str, Commit]]:
    """(stem, commit) of every annotation table of a run.

    Raises `InputError` where there is none, where one was made with another catalogue than the one
    now in use, and where they were not all made with the same settings.
    """
    tables = list(committed(folder))
    first_stem, first = tables[0]
    for stem, commit in tables:
        path = storage.join(folder, f"{stem}.parquet")
        found = read_table(folder, stem, []).schema.metadata or {}
        check_digest(path, found.get(b"catalogue", b"").decode(), catalogue.digest)
        if commit.settings != first.settings:
            raise InputError(
                f"{path}: annotated with other settings than {first_stem}.parquet beside it; run "
                "annotate again over all shards"
            )
    return tables


def check_manifest(folder: str, tables: Sequence[tuple[str, Commit]]) -> None:
    """Raise `InputError` unless a manifest has the samples of each of these annotation tables."""
    for stem, annotated in tables:
        drawn = read_commit(folder, stem)
        rows = None if drawn is None else read_table(folder, stem, []).num_rows
        if drawn is None or not drawn.same_input(annotated) or rows != annotated.rows:
            raise InputError(
                f"{storage.join(folder, stem)}.parquet "
                + ("is missing" if drawn is None else "was drawn from other annotations")
                + "; run apply first"
            )


def check_digest(path: str, found: Any, expected: str) -> None:
    """Raise `InputError` unless a product was made with the catalogue now in use."""
    if found != expected:
        raise InputError(
            f"{path}: made with catalogue {str(found)[:12]}, but the catalogue given is "
            f"{expected[:12]}; run the stage that made it again"
        )
