"""The stages: annotate, count, solve, apply. Each resumes what is missing and records what it did.

Beam takes over a second to import, so the transforms are imported where a job is really started.
"""

import hashlib
from collections.abc import Sequence

from pydantic import ValidationError

from m4.catalogue import explain, load_catalogue
from m4.errors import InputError
from m4.policy import Policy
from m4.problem import Problem
from m4.solving import Solution
from m4.solving import solve as solve_patterns
from pipelines import storage
from pipelines.annotators import make_annotators
from pipelines.beam import Progress, run, watch
from pipelines.counting import read_patterns
from pipelines.record import StageRecord, Tally, digest_of, shard_inputs
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings, SolveSettings
from pipelines.shards import ShardRef, find_shards
from pipelines.tables import Commit, annotated_tables, check_digest, read_commit


def annotate(settings: AnnotateSettings, *, progress: Progress | None = None) -> StageRecord:
    """Annotate shards into `<run>/annotations`, one table per shard.

    Shards that are committed with the same settings and unchanged input are not read again, so a
    run that was killed goes on where it stopped.

    Parameters
    ----------
    progress : called with (shards done, shards in all) from time to time

    Raises `InputError` for unusable settings, and where more than `max_failures` was set aside.
    """
    catalogue = load_catalogue(settings.catalogue)
    make_annotators(catalogue, settings.annotators)  # complain before any work is done
    shards = find_shards(settings.shards)
    folder = storage.join(settings.run, "annotations")
    digest = digest_of(catalogue.digest, *settings.annotators)
    tally = Tally("annotate", settings.run, settings, shard_inputs(shards))
    waiting = tuple(shard for shard in shards if not _annotated(folder, shard, digest))
    if waiting:
        from pipelines.transforms import AnnotateShards

        with watch(folder, [shard.stem for shard in shards], progress):
            job = AnnotateShards(waiting, folder, catalogue, settings.annotators, digest)
            run(job, settings.beam)
    # The report, and a person who finds the run directory, read the catalogue there.
    kept = storage.join(settings.run, "catalogue.yaml")
    storage.write_bytes(kept, storage.read_bytes(settings.catalogue))
    for shard in shards:
        commit = read_commit(folder, shard.stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=commit.rows)
    return tally.finish(settings.max_failures)


def _annotated(folder: str, shard: ShardRef, settings: str) -> bool:
    """Whether a shard's table stands, from the same settings and the same input.

    A shard that gave nothing at all is tried again: what was wrong may have been passing.
    """
    commit = read_commit(folder, shard.stem)
    return (
        commit is not None
        and commit.rows > 0
        and (commit.settings, commit.shard) == (settings, shard.path)
        and (commit.size, commit.modified) == (shard.size, shard.modified)
    )


def count(settings: CountSettings, *, progress: Progress | None = None) -> StageRecord:
    """Count the patterns of a run's annotations, or of what its manifest drew.

    Raises `InputError` where there are no annotations, or none with this catalogue, and where the
    manifest was drawn from other annotations.
    """
    from pipelines.transforms import CountPatterns

    catalogue = load_catalogue(settings.catalogue)
    annotations = storage.join(settings.run, "annotations")
    manifest = storage.join(settings.run, "manifest") if settings.drawn else None
    tables = annotated_tables(annotations, catalogue)
    if manifest is not None:
        _check_manifest(manifest, tables)
    name = "count drawn" if settings.drawn else "count"
    inputs = digest_of(*(f"{stem} {commit.settings} {commit.rows}" for stem, commit in tables))
    tally = Tally(name, settings.run, settings, inputs)
    stems = tuple(stem for stem, commit in tables if commit.rows)
    if not stems:
        raise InputError(f"{annotations}: no annotated samples to count")
    job = CountPatterns(stems, annotations, manifest, catalogue, settings.output)
    run(job, settings.beam)
    if progress is not None:
        progress(len(stems), len(stems))
    for _, commit in tables:
        tally.add(commit.model_copy(update={"failures": {}}), kept=commit.rows)
    return tally.finish(1.0)


def _check_manifest(folder: str, tables: Sequence[tuple[str, Commit]]) -> None:
    for stem, annotated in tables:
        drawn = read_commit(folder, stem)
        if drawn is None or not drawn.same_input(annotated):
            raise InputError(
                f"{storage.join(folder, stem)}.parquet "
                + ("is missing" if drawn is None else "was drawn from other annotations")
                + "; run apply first"
            )


def solve(settings: SolveSettings, *, progress: Progress | None = None) -> Solution:
    """Solve a run's balancing problem and write `<run>/policy.json`.

    Raises `InfeasibleError` where the tolerances cannot be met at the rate, `InputError` where the
    patterns are missing or belong to another catalogue.
    """
    catalogue = load_catalogue(settings.catalogue)
    path = storage.join(settings.run, "patterns.parquet")
    patterns = read_patterns(path, catalogue)
    try:
        problem = Problem.of(
            catalogue, eta=settings.eta, cap=settings.cap, penalty=settings.penalty
        )
    except ValidationError as error:
        raise InputError(explain(error)) from None
    content = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    tally = Tally("solve", settings.run, settings, digest_of(catalogue.digest, content))
    solution = solve_patterns(
        problem,
        patterns,
        method=settings.method,
        solver=settings.solver,
        passes=settings.passes,
        seed=settings.seed,
        catalogue=catalogue.digest,
    )
    storage.write_bytes(
        storage.join(settings.run, "policy.json"), solution.policy.to_json().encode()
    )
    tally.add_rows(round(patterns.examples))
    tally.finish()
    return solution


def apply(settings: ApplySettings, *, progress: Progress | None = None) -> StageRecord:
    """Draw a manifest for every annotated shard of a run.

    Raises `InputError` where there are no annotations, and where policy, annotations and catalogue
    do not belong together.
    """
    from pipelines.transforms import ApplyPolicy

    catalogue = load_catalogue(settings.catalogue)
    policy = None if settings.policy is None else Policy.load(settings.policy)
    if policy is not None:
        check_digest(str(settings.policy), policy.catalogue, catalogue.digest)
    annotations = storage.join(settings.run, "annotations")
    folder = storage.join(settings.run, settings.manifest)
    tables = annotated_tables(annotations, catalogue)
    drawn_by = "every sample once" if policy is None else policy.model_dump_json()
    digest = digest_of(
        catalogue.digest, drawn_by, f"{settings.seed} {settings.epoch} {settings.weights}"
    )
    inputs = digest_of(*(f"{stem} {commit.settings} {commit.rows}" for stem, commit in tables))
    tally = Tally(f"apply {settings.manifest}", settings.run, settings, inputs)
    stems = tuple(stem for stem, commit in tables if not _applied(folder, stem, commit, digest))
    if stems:
        with watch(folder, [stem for stem, _ in tables], progress):
            job = ApplyPolicy(stems, annotations, folder, catalogue, policy, settings, digest)
            run(job, settings.beam)
    for stem, _ in tables:
        commit = read_commit(folder, stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=int(commit.counts["used"]))
    return tally.finish(1.0)


def _applied(folder: str, stem: str, annotated: Commit, digest: str) -> bool:
    commit = read_commit(folder, stem)
    return (
        commit is not None
        and commit.settings == digest_of(digest, annotated.settings)
        and commit.same_input(annotated)
    )
