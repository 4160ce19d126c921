"""The check of shards: what is wrong with them, what that does to readers, and how to mend it.

A table of faults per shard, committed by a json beside it: kind, name, and offset in bytes.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial

import pyarrow as pa
from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.beam import BeamSettings, Progress, run, watch
from pipelines.index import find_tars, largest_first
from pipelines.lint import lint_shard
from pipelines.mending import KINDS, Kind
from pipelines.record import digest_of
from pipelines.shards import ShardRef
from pipelines.tables import Commit, is_made, read_commit, read_table, write_table

LOCAL_RUNNER = "FnApiRunner"
SAMPLES = "samples"
DIGEST = digest_of("validate 1", *KINDS)  # changes with what is looked for
SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
    ]
)


class ValidateSettings(Model):
    """Settings of the check of shards. The shards are not changed."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    output: str | None = Field(
        default=None,
        description="folder for a table of all faults of each shard; shards that have theirs are "
        "not read again; needed where workers do not share this machine's disk",
    )
    beam: BeamSettings = BeamSettings()


class Finding(Model):
    """All faults of one kind: how many in how many shards, and the first of them.

    `name` is a member, a key or a shard; `offset` is in bytes.
    """

    kind: Kind
    count: int
    shards: int
    shard: str
    name: str
    offset: int


class Validation(Model):
    """What is wrong with shards, errors first; `samples` of them can be used."""

    shards: int
    samples: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.kind.severity == "error")


def validate(settings: ValidateSettings, *, progress: Progress | None = None) -> Validation:
    """Find out what is wrong with shards, in one pass; pictures are not read.

    Parameters
    ----------
    progress : called with (shards done, shards in all) from time to time

    Raises `InputError` for unusable settings. Whatever is wrong with a shard is in the result.
    """
    if settings.output is None and settings.beam.runner != LOCAL_RUNNER:
        raise InputError(
            f"workers of {settings.beam.runner} cannot write into this machine's temporary folder; "
            "give an output folder that all of them reach"
        )
    shards = find_tars(settings.shards)
    if settings.output is not None:
        return _validate(shards, settings.output, settings.beam, progress)
    with tempfile.TemporaryDirectory() as folder:
        return _validate(shards, folder, settings.beam, progress)


def _validate(
    shards: Sequence[ShardRef], folder: str, beam: BeamSettings, progress: Progress | None
) -> Validation:
    for shard in shards:
        commit = read_commit(folder, shard.stem)
        if commit is not None and SAMPLES not in commit.counts:
            raise InputError(
                f"{storage.join(folder, shard.stem)}.parquet: there are other tables in the output "
                "folder; choose another"
            )
    waiting = [shard for shard in shards if not is_made(folder, shard, DIGEST)]
    if waiting:
        from pipelines.transforms import ForEach

        with watch(folder, [shard.stem for shard in shards], progress):
            run(ForEach(largest_first(waiting), partial(validate_shard, folder=folder)), beam)
    commits = []
    for shard in shards:
        commit = read_commit(folder, shard.stem)
        assert commit is not None  # the job has ended without an error
        commits.append(commit)
    return Validation(
        shards=len(shards),
        samples=sum(int(commit.counts[SAMPLES]) for commit in commits),
        findings=_findings(folder, shards, commits),
    )


def validate_shard(shard: ShardRef, folder: str) -> Commit:
    """Check one shard: write the table of its faults, then its marker, which counts them."""
    faults, samples = lint_shard(shard)
    columns = list(zip(*faults, strict=True)) or [()] * len(SCHEMA)
    table = pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)
    commit = Commit(
        shard=shard.path,
        size=shard.size,
        modified=shard.modified,
        settings=DIGEST,
        rows=len(table),
        failures=dict(sorted(Counter(fault.kind for fault in faults).items())),
        examples={fault.kind: fault.name for fault in reversed(faults)},
        counts={SAMPLES: samples},
    )
    write_table(folder, shard.stem, table, commit)
    return commit


def _findings(
    folder: str, shards: Sequence[ShardRef], commits: Sequence[Commit]
) -> tuple[Finding, ...]:
    """The faults of all shards by kind, in the order of `KINDS`, errors first."""
    findings = []
    for name, kind in KINDS.items():
        found = [(s, c) for s, c in zip(shards, commits, strict=True) if name in c.failures]
        if not found:
            continue
        first = found[0][0]
        rows = read_table(folder, first.stem).to_pylist()
        example = next(row for row in rows if row["kind"] == name)
        finding = Finding(
            kind=kind,
            count=sum(commit.failures[name] for _, commit in found),
            shards=len(found),
            shard=first.path,
            name=example["name"],
            offset=example["offset"],
        )
        findings.append(finding)
    return tuple(sorted(findings, key=lambda each: each.kind.severity))
