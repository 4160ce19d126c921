"""Purge: what a run knows of single samples is deleted, once its manifest stands.

A manifest says how often each sample is used, and nothing else of it. With the policy, it is all
that training takes; annotations and patterns are deleted, and run.json says so. What is left of
attributes are sums over examples: in the policy, the evidence and the evaluations.
"""

import time
from collections.abc import Sequence

from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.record import Deleted, StageRecord, Tally, read_run, table_inputs, write_record
from pipelines.tables import Commit, check_manifest, committed

STAGE = "purge"
ANNOTATIONS = "annotations"
FOLDERS = (ANNOTATIONS, "evidence", "truth", "gallery")
REPORT = "report.html"  # which may show pictures of people, with their weights
FILES = ("patterns.parquet", "drawn.parquet", REPORT, "*.partial", "*.partition")


class PurgeSettings(Model):
    """Settings of the stage that deletes annotations, patterns and the report."""

    run: str = Field(description="run directory; its policy and its manifests are kept")
    manifest: str = Field(
        default="manifest", description="name of the manifest that has to stand before"
    )
    yes: bool = Field(default=False, description="delete; left out, only show what would go")


class Part(Model):
    """A folder of a run directory, or files of one name, and how much is in it."""

    name: str
    files: int
    bytes: int


class Purge(Model):
    """What a purge deletes, and its entry in run.json; None where nothing was deleted."""

    parts: tuple[Part, ...]
    record: StageRecord | None


def purge(settings: PurgeSettings) -> Purge:
    """Delete a run's annotations and patterns; with `yes` left out, only find out what would go.

    Deleted are annotations/, patterns.parquet, drawn.parquet, evidence/ (the counts of single
    shards), truth/ and gallery/ (annotations too), report.html, which may show pictures, and what
    stages that were killed left behind. failures/ is kept: it has keys and reasons, and nothing of
    what a picture shows.

    The entry in run.json is written first, with the fingerprint of the annotations, which is that
    of the manifest's own entry. A purge that was killed is run again and deletes what is left.

    Raises `InputError` unless the manifest stands for every annotated shard, and was drawn from
    these very annotations, and the policy that it was drawn with is there.
    """
    started, run = time.monotonic(), settings.run
    applied = _manifest_record(settings)
    tables = _annotated(run)
    earlier = _earlier(settings, applied, tables)
    check_manifest(storage.join(run, settings.manifest), tables)
    found = {name: _files(run, name) for name in (*FOLDERS, *FILES)}
    parts = tuple(
        Part(name=name, files=len(sizes), bytes=sum(sizes.values()))
        for name, sizes in found.items()
        if sizes
    )
    if not settings.yes:
        return Purge(parts=parts, record=None)
    begun = _begin(settings, applied, tables, earlier, parts)
    # Tables first: a marker without its table is an error to all stages, not a smaller data set.
    storage.remove_all([path for sizes in found.values() for path in sizes if not _marker(path)])
    for name in FOLDERS:
        storage.remove_folder(storage.join(run, name))
    assert begun.deleted is not None
    record = begun.model_copy(
        update={
            "deleted": begun.deleted.model_copy(update={"finished": True}),
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    write_record(run, record)
    return Purge(parts=parts, record=record)


def _marker(path: str) -> bool:
    return path.endswith(".json")


def _files(run: str, name: str) -> dict[str, int]:
    """Sizes of what goes by a name: all files below a folder, or those that match."""
    if name in FOLDERS:
        return storage.sizes_below(storage.join(run, name))
    return {each: storage.size_and_time(each)[0] for each in storage.files(run, name)}


def _annotated(run: str) -> list[tuple[str, Commit]]:
    """(stem, commit) of the annotations that are there; none is no error here."""
    folder = storage.join(run, ANNOTATIONS)
    return list(committed(folder)) if storage.files(folder, "*.json") else []


def _manifest_record(settings: PurgeSettings) -> StageRecord:
    """What run.json says of the manifest."""
    path = storage.join(settings.run, "run.json")
    applied = read_run(settings.run).get(f"apply {settings.manifest}")
    if applied is None:
        raise InputError(f"{path}: no manifest {settings.manifest!r} was drawn; run apply first")
    policy = applied.settings.get("policy")
    if policy is not None and not storage.exists(policy):
        raise InputError(
            f"{policy}: gone, but manifest {settings.manifest!r} was drawn with this policy; put "
            "it back, or run apply again with another"
        )
    return applied


def _earlier(
    settings: PurgeSettings, applied: StageRecord, tables: Sequence[tuple[str, Commit]]
) -> StageRecord | None:
    """The purge of these very annotations that is on record, if any, which this one goes on with.

    Of a purge that was killed, annotations may be left that are fewer than the manifest's. Raises
    `InputError` where there is none on record, and the annotations are not those of the manifest.
    """
    earlier = read_run(settings.run).get(STAGE)
    if earlier is not None and earlier.deleted is not None and earlier.inputs == applied.inputs:
        made_with = {commit.settings for _, commit in tables}
        if made_with <= {earlier.deleted.annotated_with}:
            return earlier
    if table_inputs(tables) == applied.inputs:
        return None
    folder = storage.join(settings.run, ANNOTATIONS)
    if not tables:
        raise InputError(f"{folder}: no annotations, and none are on record as purged")
    raise InputError(
        f"{folder}: manifest {settings.manifest!r} was drawn from other annotations than these "
        f"{len(tables)} tables; run apply again"
    )


def _begin(
    settings: PurgeSettings,
    applied: StageRecord,
    tables: Sequence[tuple[str, Commit]],
    earlier: StageRecord | None,
    parts: Sequence[Part],
) -> StageRecord:
    """Record what is about to be deleted. Going on with what was begun adds nothing to it."""
    files, size = sum(part.files for part in parts), sum(part.bytes for part in parts)
    if earlier is None:
        tally = Tally(STAGE, settings.run, settings, applied.inputs)
        for _, commit in tables:
            tally.add(commit.model_copy(update={"failures": {}, "drops": {}}), kept=0)
        deleted = Deleted(
            tables=len(tables),
            annotated_with=tables[0][1].settings if tables else "",
            files=files,
            bytes=size,
            finished=False,
        )
        return tally.finish(1.0, deleted=deleted)
    done = earlier.deleted
    assert done is not None  # `_earlier` gives no other
    if not done.finished:
        return earlier
    further = {"files": done.files + files, "bytes": done.bytes + size, "finished": False}
    record = earlier.model_copy(update={"deleted": done.model_copy(update=further)})
    write_record(settings.run, record)
    return record
