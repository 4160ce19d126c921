"""Import: make a manifest of the samples that a subset names, laid over the tars that hold them.

A subset is a DataComp `.npy`, in which a uid that comes twice is used twice, or text with a uid in
each line, likewise. Without one, every sample is used once.

Where the samples lie is known from the run's annotations, or else from its index, which is made.
"""

import functools
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.beam import BeamSettings, Progress, run, watch
from pipelines.index import INDEX, IndexSettings, find_tars, index_shards
from pipelines.record import StageRecord, Tally, digest_of, table_inputs
from pipelines.settings import ManifestName
from pipelines.shards import ShardRef
from pipelines.tables import (
    IDENTITY_COLUMNS,
    Commit,
    made,
    read_commit,
    read_table,
    write_drawn,
)
from pipelines.uids import counts_in, distinct, read_subset, sort_pairs, to_pairs, to_uids

HASHED = 1 << 24  # bytes at a time
MAX_MISSING = MAX_FAILURES = 0.01
NOT_FOUND = "uid of the subset in no shard"

_reading = threading.Lock()


class ImportSubsetSettings(Model):
    """Settings of the import of a subset."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    run: str = Field(description="run directory; the manifest is written in it")
    subset: str | None = Field(
        default=None,
        description="DataComp's .npy, or text with a uid in each line; one that comes twice is "
        "used twice; left out, every sample is used once",
    )
    manifest: ManifestName = Field(
        default="manifest", description="name of the folder that is written"
    )
    max_missing: float | None = Field(
        default=None, ge=0, le=1, description="share of the subset's uids that no shard holds; 0.01"
    )
    max_failures: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of samples or shards that may be set aside where shards are indexed; "
        "0.01",
    )
    beam: BeamSettings = BeamSettings()

    @model_validator(mode="after")
    def _effective(self) -> "ImportSubsetSettings":
        if self.subset is None and self.max_missing is not None:
            raise ValueError("max_missing has no effect without a subset; leave it out")
        return self


class Imported(Model):
    """What an import did.

    Attributes
    ----------
    record : the stage's entry in run.json
    copies : samples that the manifest uses, copies counted
    uids : distinct uids of the subset; None where there is no subset, as the next two
    missing : of these, how many no shard holds
    shared : samples that have the uid of another one; each of them is used as often as it says
    """

    record: StageRecord
    copies: int
    uids: int | None = None
    missing: int | None = None
    shared: int | None = None


@dataclass(frozen=True)
class SubsetJob:
    """What is the same for all shards: where tables are read and written, and the subset's file.

    `content` is the SHA-256 of the subset's file; empty where there is none.
    """

    tables: str
    folder: str
    subset: str | None
    content: str

    def digest(self, source: Commit) -> str:
        """Of everything that decides the content of a shard's manifest."""
        return digest_of("import-subset", self.content, source.settings)


def import_subset(settings: ImportSubsetSettings, *, progress: Progress | None = None) -> Imported:
    """Lay a subset over tars and write a manifest, per shard, into a run directory.

    Shards that are committed from the same subset and unchanged tars are not read again, so a run
    that was killed goes on where it stopped.

    Parameters
    ----------
    progress : called with (shards done, shards in all) from time to time

    Raises `InputError` where the subset cannot be read, where the run was annotated from other
    shards, where the manifest's folder holds other shards, and where more than `max_missing` of the
    subset's uids are in no shard. What was found is written first.
    """
    shards = find_tars(settings.shards)
    content = ""
    if settings.subset is not None:
        content = _content_of(settings.subset)
        load_subset(settings.subset, content)  # complain before any work is done
    tables, markers = _tables(settings, shards, progress)
    folder = storage.join(settings.run, settings.manifest)
    _refuse_other_shards(folder, shards)
    job = SubsetJob(tables, folder, settings.subset, content)
    tally = Tally(
        f"import-subset {settings.manifest}",
        settings.run,
        settings,
        digest_of(content, table_inputs(markers)),
    )
    stems = tuple(stem for stem, commit in markers if not _imported(job, stem, commit))
    if stems:
        from pipelines.transforms import ForEach

        with watch(folder, [stem for stem, _ in markers], progress):
            run(ForEach(stems, functools.partial(write_subset_manifest, job=job)), settings.beam)
    copies = 0
    for stem, _ in markers:
        commit = read_commit(folder, stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=int(commit.counts["used"]))
        copies += int(commit.counts["copies"])
    if settings.subset is None:
        return Imported(record=tally.finish(1.0), copies=copies)
    return _compare(settings, job, [stem for stem, _ in markers], tally, copies)


def _tables(
    settings: ImportSubsetSettings, shards: Sequence[ShardRef], progress: Progress | None
) -> tuple[str, list[tuple[str, Commit]]]:
    """The folder of tables that know where samples lie, and those of the shards given."""
    folder = storage.join(settings.run, "annotations")
    if not storage.files(folder, "*.json"):
        limit = MAX_FAILURES if settings.max_failures is None else settings.max_failures
        index = IndexSettings(
            shards=settings.shards, run=settings.run, max_failures=limit, beam=settings.beam
        )
        index_shards(index, progress=progress)
        folder = storage.join(settings.run, INDEX)
    elif settings.max_failures is not None:
        raise InputError(
            f"max_failures {settings.max_failures:g} has no effect, since {folder} is there and "
            "nothing is indexed; leave it out"
        )
    return folder, [(shard.stem, _source(folder, shard)) for shard in shards]


def _source(folder: str, shard: ShardRef) -> Commit:
    """What a shard's table was made from. Raises `InputError` unless it is the shard as it is."""
    path = storage.join(folder, f"{shard.stem}.parquet")
    commit = read_commit(folder, shard.stem)
    if commit is None:
        raise InputError(f"{path}: is missing; annotate {shard.path} too, or choose another run")
    is_same = (commit.shard, commit.size, commit.modified)
    if is_same != (shard.path, shard.size, shard.modified):
        raise InputError(
            f"{path}: made from {commit.shard} of {commit.size:,} bytes, not from {shard.path} of "
            f"{shard.size:,} bytes as it is now; annotate it again, or choose another run"
        )
    return commit


def _refuse_other_shards(folder: str, shards: Sequence[ShardRef]) -> None:
    """Raise `InputError` where a manifest would be mixed with an earlier one's shards."""
    wanted = {f"{shard.stem}.json" for shard in shards}
    for path in storage.files(folder, "*.json"):
        if path.rpartition("/")[2] not in wanted:
            raise InputError(f"{path}: of a shard that was not given; choose another manifest")


def _imported(job: SubsetJob, stem: str, source: Commit) -> bool:
    commit = made(job.folder, stem)
    return (
        commit is not None and commit.settings == job.digest(source) and commit.same_input(source)
    )


def write_subset_manifest(stem: str, job: SubsetJob) -> Commit:
    """Write the manifest of one shard. It has a row for every sample of its table, used or not."""
    table = read_table(job.tables, stem, IDENTITY_COLUMNS)
    source = read_commit(job.tables, stem)
    assert source is not None  # the stage lists committed tables only
    copies = np.ones(len(table), dtype=np.int32)
    if job.subset is not None:
        pairs = to_pairs(table["uid"].to_pylist())
        copies = counts_in(load_subset(job.subset, job.content), pairs).astype(np.int32)
    return write_drawn(job.folder, stem, table, source, job.digest(source), copies)


def load_subset(path: str, content: str) -> np.ndarray:
    """A subset from its file, (N,) of dtype `PAIR`, sorted. Each process reads it once.

    Parameters
    ----------
    content : SHA-256 of the file

    Raises `InputError` where it cannot be read, and where an `.npy` is not sorted.
    """
    with _reading:
        return _load(path, content)


@functools.lru_cache(maxsize=1)  # a process lays out one subset at a time
def _load(path: str, content: str) -> np.ndarray:
    if _content_of(path) != content:
        raise InputError(f"{path}: changed while it was used; import it again")
    if path.endswith(".npy"):
        return read_subset(path)
    try:
        return sort_pairs(to_pairs(storage.read_bytes(path).decode().split()))
    except (UnicodeDecodeError, InputError) as error:
        raise InputError(f"{path}: neither .npy nor a list of uids: {error}") from None


def _content_of(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with storage.open_input(path) as stream:
            while part := stream.read(HASHED):
                digest.update(part)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def _compare(
    settings: ImportSubsetSettings, job: SubsetJob, stems: Sequence[str], tally: Tally, copies: int
) -> Imported:
    """Find out which uids of the subset no shard holds, and record it."""
    assert settings.subset is not None
    found = sort_pairs(np.concatenate([_found(job.folder, stem) for stem in stems]))
    wanted = distinct(load_subset(settings.subset, job.content))
    missing = wanted[counts_in(found, wanted) == 0]
    example = to_uids(missing[:1])[0] if len(missing) else ""
    if len(missing):
        tally.add_counts(settings.subset, 0, {NOT_FOUND: len(missing)}, {NOT_FOUND: example})
    imported = Imported(
        record=tally.finish(1.0),
        copies=copies,
        uids=len(wanted),
        missing=len(missing),
        shared=len(found) - len(distinct(found)),
    )
    limit = MAX_MISSING if settings.max_missing is None else settings.max_missing
    if len(missing) > limit * len(wanted):
        raise InputError(
            f"{settings.subset}: {len(missing):,} of its {len(wanted):,} uids are in no shard, "
            f"such as {example}; give the shards that hold them, or raise max_missing (now "
            f"{limit:g})"
        )
    return imported


def _found(folder: str, stem: str) -> np.ndarray:
    """The uids of a shard's samples that are used, in pairs."""
    table = read_table(folder, stem, ["uid", "copies"])
    used = table.filter(table["copies"].to_numpy() > 0)
    return to_pairs(used["uid"].to_pylist())
