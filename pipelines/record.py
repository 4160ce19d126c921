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
from pipelines.shards import ShardRef
from pipelines.tables import Commit

VERSIONS = ("m4-balance", "apache-beam", "pyarrow", "polars")


class StageRecord(Model):
    """One stage's entry: rows_in = kept + dropped + failed, always.

    `realised` is what a sample that was calibrated achieves (`m4.realised.Realised`).
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
    realised: Mapping[str, Any] | None = None


def digest_of(*parts: str) -> str:
    """SHA-256 of parts, each delimited."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def shard_inputs(shards: Sequence[ShardRef]) -> str:
    """Fingerprint of input shards: names, sizes and times."""
    return digest_of(*(f"{shard.path} {shard.size} {shard.modified}" for shard in shards))


def table_inputs(tables: Sequence[tuple[str, Commit]]) -> str:
    """Fingerprint of annotation tables: stems, what they were made with, and rows."""
    return digest_of(*(f"{stem} {commit.settings} {commit.rows}" for stem, commit in tables))


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
        self._examples: dict[str, str] = {}

    def add(self, commit: Commit, *, kept: int) -> None:
        """Count one shard's commit, `kept` of whose rows go on to the next stage."""
        self._shards += 1
        self._damaged += commit.damaged
        self._kept += kept
        self._dropped += commit.rows - kept
        self._failures.update(commit.failures)
        for reason, key in commit.examples.items():
            self._examples.setdefault(reason, f"{commit.shard}: {key}")

    def add_rows(self, rows: int) -> None:
        """Count rows of a stage that drops none and works on no shards."""
        self._kept += rows

    def finish(
        self,
        max_failures: float = 0.0,
        *,
        seconds: float | None = None,
        realised: Mapping[str, Any] | None = None,
    ) -> StageRecord:
        """Write the record into run.json and return it.

        `seconds` is how long the stage took, where that is not the time since this was made;
        `realised` is what a calibrated sample achieves.
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
            realised=realised,
        )
        entries = {**read_run(self._run), self._name: record}
        content = {name: entry.model_dump(mode="json") for name, entry in entries.items()}
        storage.make_folder(self._run)
        storage.write_bytes(
            storage.join(self._run, "run.json"), (json.dumps(content, indent=1) + "\n").encode()
        )
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
        if record.rows_in and record.failed / record.rows_in > limit:
            raise InputError(
                f"{record.failed} of {record.rows_in} samples were set aside: {reasons}; repair "
                f"them, or raise max_failures (now {limit:g})"
            )
