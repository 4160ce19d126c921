"""run.json: what each stage of a run did, from what, and what became of every row."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.balance import ManifestBalance
from pipelines.opt_out import OptOutReport
from pipelines.shards import ShardRef
from pipelines.tables import Commit

VERSIONS = ("m4-balance", "apache-beam", "pyarrow", "polars")


class Deleted(Model):
    """What a purge deletes: files and bytes, and among them the tables of annotations.

    `annotated_with` is the digest of the settings that these were made with. A purge that is not
    `finished` was begun, and killed before its end.
    """

    tables: int
    annotated_with: str
    files: int
    bytes: int
    finished: bool


class StageRecord(Model):
    """One stage's entry: rows_in = kept + dropped + failed, always.

    `drops` counts dropped rows that stand for no sample, by reason. Of a manifest that was drawn
    with a policy, `balance` is what it makes of the data; `opt_outs` is what became of opt-out
    lists, where any were given. `deleted` is of a purge.
    """

    stage: str
    settings: Mapping[str, Any]
    inputs: str
    versions: Mapping[str, str]
    seconds: float
    rows_in: int
    kept: int
    dropped: int
    failed: int
    failures: Mapping[str, int] = Field(default_factory=dict)
    examples: Mapping[str, str] = Field(default_factory=dict)
    drops: Mapping[str, int] = Field(default_factory=dict)
    balance: ManifestBalance | None = None
    opt_outs: OptOutReport | None = None
    deleted: Deleted | None = None


def digest_of(*parts: str) -> str:
    """SHA-256 of parts, each delimited."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def shard_inputs(shards: Sequence[ShardRef]) -> str:
    """Fingerprint of input shards: names, sizes and times."""
    return digest_of(*(f"{shard.path} {shard.size} {shard.modified}" for shard in shards))


def table_inputs(tables: Sequence[tuple[str, Commit]]) -> str:
    """Fingerprint of annotation tables: stems, and all that their commits say of them."""
    return digest_of(*(f"{stem} {commit.model_dump_json()}" for stem, commit in tables))


def read_run(run: str) -> dict[str, StageRecord]:
    """The entries of a run directory's run.json, by stage; empty where there is none yet."""
    path = storage.join(run, "run.json")
    if not storage.exists(path):
        return {}
    try:
        content = json.loads(storage.read_bytes(path))
        return {name: StageRecord.model_validate(entry) for name, entry in content.items()}
    except (ValueError, AttributeError):
        raise InputError(f"{path}: not a run record; delete it, or choose another run") from None


def write_record(run: str, record: StageRecord) -> None:
    """Put a stage's entry into run.json; the entries of other stages stay."""
    entries = {**read_run(run), record.stage: record}
    content = {name: entry.model_dump(mode="json") for name, entry in entries.items()}
    storage.make_folder(run)
    storage.write_bytes(
        storage.join(run, "run.json"), (json.dumps(content, indent=1) + "\n").encode()
    )


class Tally:
    """Counts a stage's rows while it runs, and writes its record at the end."""

    def __init__(self, name: str, run: str, settings: BaseModel, inputs: str):
        self._name = name
        self._run = run
        self._settings = settings
        self._inputs = inputs
        self._started = time.monotonic()
        self._kept = self._dropped = self._shards = self._damaged = 0
        self._failures: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, commit: Commit, *, kept: int) -> None:
        """Count one shard's commit, `kept` of whose rows go on to the next stage."""
        self._damaged += commit.damaged
        self._dropped += commit.rows - kept + sum(commit.drops.values())
        self._drops.update(commit.drops)
        self.add_counts(commit.shard, kept, commit.failures, commit.examples)

    def add_counts(
        self, shard: str, kept: int, failures: Mapping[str, int], examples: Mapping[str, str]
    ) -> None:
        """Count a shard that was written: samples that it holds, and what was left out."""
        self._shards += 1
        self._kept += kept
        self._failures.update(failures)
        for reason, key in examples.items():
            self._examples.setdefault(reason, f"{shard}: {key}")

    def add_rows(self, rows: int) -> None:
        """Count rows of a stage that drops none and works on no shards."""
        self._kept += rows

    def finish(
        self,
        max_failures: float = 0.0,
        *,
        seconds: float | None = None,
        balance: ManifestBalance | None = None,
        opt_outs: OptOutReport | None = None,
        deleted: Deleted | None = None,
    ) -> StageRecord:
        """Write the record into run.json and return it.

        `seconds` is how long the stage took, where that is not the time since this was made;
        `balance`, `opt_outs` and `deleted` are as of a `StageRecord`.
        Raises `InputError` where the share of samples set aside, or of shards that could not be
        read to their end, is above `max_failures`. The record is written first.
        """
        failed = self._failures.total()
        record = StageRecord(
            stage=self._name,
            settings=self._settings.model_dump(mode="json"),
            inputs=self._inputs,
            versions={name: version(name) for name in VERSIONS},
            seconds=round(time.monotonic() - self._started if seconds is None else seconds, 3),
            rows_in=self._kept + self._dropped + failed,
            kept=self._kept,
            dropped=self._dropped,
            failed=failed,
            failures=dict(self._failures.most_common()),
            examples=self._examples,
            drops=dict(self._drops.most_common()),
            balance=balance,
            opt_outs=opt_outs,
            deleted=deleted,
        )
        write_record(self._run, record)
        self._complain(record, max_failures)
        return record

    def _complain(self, record: StageRecord, limit: float) -> None:
        reasons = "; ".join(
            f"{count} x {reason} ({record.examples.get(reason, '')})"
            for reason, count in record.failures.items()
        )
        if self._shards and self._damaged / self._shards > limit:
            raise InputError(
                f"{self._damaged} of {self._shards} shards are damaged or empty: {reasons}; repair "
                f"or remove them, or raise max_failures (now {limit:g})"
            )
        samples = record.rows_in - sum(record.drops.values())
        if samples and record.failed / samples > limit:
            raise InputError(
                f"{record.failed} of {samples} samples were set aside: {reasons}; repair "
                f"them, or raise max_failures (now {limit:g})"
            )
