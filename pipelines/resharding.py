"""Reshard: write the drawn samples into new shards, each as it lies in its tar.

    reshard.json         what the folder is made from; written first
    00000000.tar ...     the shards, named by position
    00000000_stats.json  how many samples a shard holds; written after it
    sizes.json           the same for all shards; this and meta.json are written last

Names and forms of all but the first are those of DataComp's resharder.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import Field, ValidationError

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.beam import BeamSettings, Progress, run, watch
from pipelines.blocks import Block, Layout, Source, cut, read_stats, waiting_of, write_block
from pipelines.record import StageRecord, Tally, digest_of
from pipelines.shards import check_tars, unreadable_reason
from pipelines.spans import CHANGED
from pipelines.tables import Commit, committed

PLAN = "reshard.json"
LOOKED_AT = 16  # input shards at a time


class ReshardSettings(Model):
    """Settings of the stage that writes new shards."""

    run: str = Field(description="run directory with the manifest")
    out: str = Field(description="folder of the new shards: empty, or begun by the same command")
    manifest: str = Field(default="manifest", description="name of the manifest's folder")
    shard_size: int = Field(default=10_000, ge=1, description="samples of a new shard at most")
    batch_size: int = Field(
        default=65_536,
        ge=1,
        description="largest batch that will be trained with; copies are at least as far apart",
    )
    window: int = Field(
        default=100_000,
        ge=1,
        description="samples that are shuffled together at least; memory grows with it",
    )
    seed: int = Field(default=0, ge=0, description="another seed gives another order")
    scratch: str | None = Field(
        default=None, description="folder for copies of remote shards while they are read"
    )
    max_failures: float = Field(
        default=0.01, ge=0, le=1, description="share of samples that may be left out"
    )
    beam: BeamSettings = BeamSettings()

    @property
    def layout(self) -> Layout:
        """Copies are never in one batch, nor in shards that are next to each other."""
        distance = max(self.batch_size, 2 * self.shard_size)
        return Layout(self.shard_size, distance, self.window, self.seed)


class Plan(Model):
    """What a folder of new shards is made from, `reshard.json`.

    Attributes
    ----------
    digest : of the samples and of all that decides their order
    samples, shards : uses to write, and the shards that they fill
    """

    digest: str
    samples: int
    shards: int


def reshard(settings: ReshardSettings, *, progress: Progress | None = None) -> StageRecord:
    """Write the samples of a manifest into new shards, as often as it says.

    A run that was killed goes on where it stopped, and ends with the same bytes. Two must not write
    into one folder at once.

    Parameters
    ----------
    progress : called with (new shards done, new shards in all) from time to time

    Raises `InputError` where there is no manifest, or its samples lie in no tars; where copies
    cannot be as far apart as asked for; where the folder holds something else; and where more than
    `max_failures` was left out.
    """
    manifest = storage.join(settings.run, settings.manifest)
    markers = list(committed(manifest))
    _check_manifest(manifest, markers)
    sources, lost = _sources(settings, markers)
    most = max(int(commit.counts["most"]) for _, commit in markers)
    blocks = cut(sources, most, settings.layout)
    plan = _plan(settings, markers, blocks)
    tally = Tally(f"reshard {settings.out}", settings.run, settings, plan.digest)
    _begin(settings.out, plan)
    _write(settings, manifest, blocks, progress)
    sizes = {}
    for commit in lost:
        tally.add(commit, kept=0)
    for name in (name for block in blocks for name in block.names):
        stats = read_stats(settings.out, name)
        assert stats is not None  # the job has ended without an error
        sizes[f"{name}.tar"] = stats.successes
        tally.add_counts(f"{name}.tar", stats.successes, stats.failures, stats.examples)
    record = tally.finish(settings.max_failures)
    rows = sum(commit.rows for _, commit in markers)
    _end(settings, sizes, {"processed_count": rows, "output_count": sum(sizes.values())})
    return record


def _check_manifest(manifest: str, markers: Sequence[tuple[str, Commit]]) -> None:
    for stem, commit in markers:
        if not {"copies", "most"} <= commit.counts.keys():
            raise InputError(
                f"{storage.join(manifest, stem)}.json: not of a manifest, or of one by an earlier "
                "version; name a manifest, or run apply again"
            )
    check_tars(manifest, [commit.ref for _, commit in markers])


def _sources(
    settings: ReshardSettings, markers: Sequence[tuple[str, Commit]]
) -> tuple[list[Source], list[Commit]]:
    """The input shards that are used, and a commit for each that cannot be.

    Raises `InputError` where that leaves out more than allowed, before anything is written.
    """
    used = [(stem, commit) for stem, commit in markers if commit.counts["copies"]]
    if settings.scratch and not any(storage.is_remote(commit.shard) for _, commit in used):
        raise InputError("scratch has no effect where all shards are local; leave it out")
    with ThreadPoolExecutor(LOOKED_AT) as pool:
        reasons = list(pool.map(lambda marker: _why_not(marker[1]), used))
    sources, lost = [], []
    for (stem, commit), reason in zip(used, reasons, strict=True):
        uses = int(commit.counts["copies"])
        if reason is None:
            sources.append(Source(stem, commit.ref, uses))
            continue
        named = {reason: "(all of it)"}
        fields = {"rows": 0, "damaged": True, "failures": {reason: uses}, "examples": named}
        lost.append(commit.model_copy(update=fields))
    failed, uses = sum(commit.failed for commit in lost), sum(source.uses for source in sources)
    if failed and failed > settings.max_failures * (failed + uses):
        raise InputError(
            f"{lost[0].shard}: {next(iter(lost[0].failures))}; so {len(lost)} of {len(used)} "
            f"shards, with {failed:,} of {failed + uses:,} samples, cannot be read; put back the "
            f"shards that were annotated, or raise max_failures (now {settings.max_failures:g})"
        )
    if not sources:
        raise InputError(f"{settings.run}: the manifest {settings.manifest} uses no sample")
    return sources, lost


def _why_not(commit: Commit) -> str | None:
    """Why a shard cannot be read, or None where it is as it was when its table was made."""
    try:
        size, _ = storage.size_and_time(commit.shard)
    except OSError as error:
        return unreadable_reason(error)
    return None if size == commit.size else CHANGED


def _plan(
    settings: ReshardSettings, markers: Sequence[tuple[str, Commit]], blocks: Sequence[Block]
) -> Plan:
    made_with = {stem: commit.settings for stem, commit in markers}
    layout = settings.layout
    parts = [f"{layout.seed} {layout.shard_size} {layout.distance}"]
    for block in blocks:
        parts.append(f"block of {block.shards}")
        parts += (
            f"{each.stem} {each.shard.size} {each.uses} {made_with[each.stem]}"
            for each in block.sources
        )
    samples, shards = (sum(getattr(b, name) for b in blocks) for name in ("uses", "shards"))
    return Plan(digest=digest_of(*parts), samples=samples, shards=shards)


def _begin(out: str, plan: Plan) -> None:
    """Say what the folder is made from. Raises `InputError` where it holds something else."""
    path = storage.join(out, PLAN)
    if storage.exists(path):
        _check_plan(out, path, plan)
    elif there := storage.files(out, "*.tar") + storage.files(out, "*_stats.json"):
        raise InputError(f"{there[0]}: there are shards already; choose an empty folder")
    else:
        storage.write_bytes(path, (plan.model_dump_json(indent=1) + "\n").encode())


def _check_plan(out: str, path: str, plan: Plan) -> None:
    try:
        found = Plan.model_validate_json(storage.read_bytes(path))
    except ValidationError:
        raise InputError(f"{path}: not a plan of reshard; choose another folder") from None
    if found != plan:
        raise InputError(
            f"{out}: was begun with other samples or settings ({found.samples:,} samples in "
            f"{found.shards:,} shards; now {plan.samples:,} in {plan.shards:,}); delete it, or "
            "choose another folder"
        )


def _write(
    settings: ReshardSettings, manifest: str, blocks: Sequence[Block], progress: Progress | None
) -> None:
    out, layout, scratch = settings.out, settings.layout, settings.scratch
    waiting = tuple(
        block for block in sorted(blocks, key=lambda block: -block.uses) if waiting_of(block, out)
    )
    if not waiting:
        return
    from pipelines.transforms import ForEach

    markers = [f"{name}_stats" for block in blocks for name in block.names]
    with watch(out, markers, progress):
        job = ForEach(waiting, lambda block: write_block(block, manifest, out, layout, scratch))
        run(job, settings.beam)


def _end(settings: ReshardSettings, sizes: Mapping[str, int], counts: Mapping[str, int]) -> None:
    """Write sizes.json and meta.json, as DataComp's tools know them.

    What runs that were killed left half written is removed.
    """
    for leftover in storage.files(settings.out, "*.partial"):
        storage.remove(leftover)
    given = {name: str(value) for name, value in settings.model_dump(mode="json").items()}
    meta = {**given, **counts, "output_shard_count": len(sizes)}
    for name, content in (("sizes.json", sizes), ("meta.json", meta)):
        storage.write_bytes(storage.join(settings.out, name), json.dumps(content).encode())
