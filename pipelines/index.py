"""The index of shards: uid, key and span of every sample, without annotating anything.

For what only has to know which samples there are and where, such as a subset that others made.
"""

from functools import partial

import pyarrow as pa
from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.beam import BeamSettings, Progress, run, watch
from pipelines.record import StageRecord, Tally, digest_of, shard_inputs
from pipelines.shards import (
    Failure,
    Identity,
    ShardRef,
    find_shards,
    read_identities,
    unreadable_reason,
)
from pipelines.tables import IDENTITY, Commit, is_made, read_commit, write_table

INDEX = "index"
DIGEST = digest_of("index 1")  # changes with what is indexed, or how
SCHEMA = pa.schema(IDENTITY)
ROWS = 512  # as Python objects at a time: more would keep its garbage collector busy


class IndexSettings(Model):
    """Settings of the stage that indexes shards."""

    shards: tuple[str, ...] = Field(description="tars, directories, globs, {000..099}, a::b")
    run: str = Field(description="run directory; index/ is written in it")
    max_failures: float = Field(
        default=0.0, ge=0, le=1, description="largest share of samples or shards set aside"
    )
    beam: BeamSettings = BeamSettings()


def index_shards(settings: IndexSettings, *, progress: Progress | None = None) -> StageRecord:
    """Index shards into `<run>/index`, one table per shard with the columns `IDENTITY`.

    Shards that are committed and unchanged are not read again, so a run that was killed goes on
    where it stopped.

    Parameters
    ----------
    progress : called with (shards done, shards in all) from time to time

    Raises `InputError` for unusable settings, and where more than `max_failures` was set aside.
    """
    shards = find_tars(settings.shards)
    folder = storage.join(settings.run, INDEX)
    tally = Tally(INDEX, settings.run, settings, shard_inputs(shards))
    waiting = [shard for shard in shards if not is_made(folder, shard, DIGEST)]
    if waiting:
        from pipelines.transforms import ForEach

        with watch(folder, [shard.stem for shard in shards], progress):
            job = ForEach(largest_first(waiting), partial(index_shard, folder=folder))
            run(job, settings.beam)
    for shard in shards:
        commit = read_commit(folder, shard.stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=commit.rows)
    return tally.finish(settings.max_failures)


def index_shard(shard: ShardRef, folder: str) -> Commit:
    """Index one shard: write its table, then its marker, which counts what was set aside.

    The samples are those that `read_samples` gives, so that all of them can be annotated. Headers,
    captions and json are read, in one pass; pictures are not. A shard is set aside whole where the
    storage fails while it is read.
    """
    failures: list[Failure] = []
    tables = [SCHEMA.empty_table()]
    rows: list[Identity] = []
    try:
        for each in read_identities(shard):
            if isinstance(each, Failure):
                failures.append(each)
                continue
            rows.append(each)
            if len(rows) == ROWS:
                tables.append(_table(rows))
                rows.clear()
    except OSError as error:
        reason = unreadable_reason(error)
        tables, rows = tables[:1], []
        failures = [Failure(shard.name, None, reason, rest=True)]
    table = pa.concat_tables([*tables, _table(rows)]).combine_chunks()
    commit = Commit.of(shard, DIGEST, len(table), failures)
    write_table(folder, shard.stem, table, commit)
    return commit


def _table(rows: list[Identity]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)


def find_tars(shards: tuple[str, ...]) -> list[ShardRef]:
    """`find_shards`, where tables of metadata will not do. Raises `InputError` for one of them."""
    found = find_shards(shards)
    for shard in found:
        if shard.is_table:
            raise InputError(
                f"{shard.path}: a table of metadata, not a tar; name the tars that hold its samples"
            )
    return found


def largest_first(shards: list[ShardRef]) -> tuple[ShardRef, ...]:
    """Shards in the order in which workers should take them."""
    return tuple(sorted(shards, key=lambda shard: (-shard.size, shard.stem)))
