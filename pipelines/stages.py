"""The stages: annotate, count, solve, apply. Each resumes what is missing and records what it did.

And the check of a policy, which anyone may make at any time: it leaves no trace in the run.

Beam takes over a second to import, so the transforms are imported where a job is really started.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from m4.catalogue import Catalogue, explain, load_catalogue
from m4.curve import CurveSolver, least_biased
from m4.errors import InputError
from m4.patterns import Patterns
from m4.points import Curve, Requirements, Setting, choose
from m4.policy import Policy
from m4.problem import Problem
from m4.solving import Solution
from m4.solving import solve as solve_patterns
from pipelines import storage
from pipelines.annotation import ANNOTATIONS, EVIDENCE, AnnotationJob
from pipelines.annotators.making import check_annotators, check_shards, settings_digest
from pipelines.balance import ManifestBalance
from pipelines.beam import Progress, run, watch
from pipelines.counting import read_patterns
from pipelines.evidence import add_up, read_evidence, write_evidence
from pipelines.levels import levels_path, prepare_levels
from pipelines.manifests import ManifestJob, measure_manifest
from pipelines.opt_out import OptOuts, check_urls
from pipelines.passes import solve_by_passes
from pipelines.record import StageRecord, Tally, digest_of, read_run, shard_inputs, table_inputs
from pipelines.settings import (
    AnnotateSettings,
    ApplySettings,
    CountSettings,
    CurveSettings,
    SolveSettings,
    VerifyPolicySettings,
)
from pipelines.shards import find_shards
from pipelines.tables import (
    Commit,
    annotated_tables,
    check_digest,
    check_manifest,
    is_made,
    made,
    read_commit,
)
from pipelines.thresholds import calibrate, thresholds_path
from pipelines.verification import Verification, measure_policy, verify


def annotate(settings: AnnotateSettings, *, progress: Progress | None = None) -> StageRecord:
    """Annotate shards into `<run>/annotations`, one table per shard.

    `<run>/failures` names what was set aside, `<run>/evidence.json` says what the marks rest on.

    Shards that are committed with the same settings and unchanged input are not read again, so a
    run that was killed goes on where it stopped.

    Parameters
    ----------
    progress : called with (shards done, shards in all) from time to time

    Raises `InputError` for unusable settings, and where more than `max_failures` was set aside.
    """
    catalogue = load_catalogue(settings.catalogue)
    shards = find_shards(settings.shards)
    check_shards(settings, shards)  # complain before any work is done
    check_annotators(settings, catalogue)
    digest = settings_digest(settings, catalogue)
    job = AnnotationJob(settings.run, catalogue, settings.fusion, digest)
    folder = job.folder(ANNOTATIONS)
    tally = Tally("annotate", settings.run, settings, shard_inputs(shards))
    waiting = tuple(shard for shard in shards if not is_made(folder, shard, digest))
    if waiting:
        from pipelines.transforms import AnnotateShards

        with watch(folder, [shard.stem for shard in shards], progress):
            run(AnnotateShards(waiting, job, settings), settings.beam)
    # The report, and a person who finds the run directory, read the catalogue there, whole.
    storage.write_bytes(storage.join(settings.run, "catalogue.yaml"), catalogue.to_yaml().encode())
    folder_of_evidence = job.folder(EVIDENCE)
    total = add_up(
        read_evidence(storage.join(folder_of_evidence, f"{shard.stem}.json")) for shard in shards
    )
    write_evidence(settings.run, "evidence", total)
    for shard in shards:
        commit = read_commit(folder, shard.stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=commit.rows)
    return tally.finish(settings.max_failures)


def count(settings: CountSettings, *, progress: Progress | None = None) -> StageRecord:
    """Count the patterns of a run's annotations, or of what its manifest drew.

    The table appears when it is whole. What a count of it that was killed left behind is removed,
    so two must not run at once.

    Raises `InputError` where there are no annotations, or none with this catalogue, and where the
    manifest was drawn from other annotations.
    """
    from pipelines.partitions import remove_leftovers
    from pipelines.transforms import CountPatterns

    catalogue = load_catalogue(settings.catalogue)
    annotations = storage.join(settings.run, "annotations")
    manifest = storage.join(settings.run, "manifest") if settings.drawn else None
    tables = annotated_tables(annotations, catalogue)
    if manifest is not None:
        check_manifest(manifest, tables)
    name = "count drawn" if settings.drawn else "count"
    inputs = table_inputs(tables)
    tally = Tally(name, settings.run, settings, inputs)
    stems = tuple(stem for stem, commit in tables if commit.rows)
    if not stems:
        raise InputError(f"{annotations}: no annotated samples to count")
    remove_leftovers(settings.output)
    run(
        CountPatterns(
            stems, annotations, manifest, catalogue, settings.output, settings.partitions
        ),
        settings.beam,
    )
    if progress is not None:
        progress(len(stems), len(stems))
    for _, commit in tables:
        tally.add(commit.model_copy(update={"failures": {}, "drops": {}}), kept=commit.rows)
    return tally.finish(1.0)


def solve(settings: SolveSettings, *, progress: Progress | None = None) -> Solution:
    """Solve a run's balancing problem and write `<run>/policy.json`.

    Where an effective sample size or design effect is asked for, the tolerances are the
    catalogue's times the least factor that gives it (`m4.curve.least_biased`).

    Raises `InfeasibleError` where the tolerances cannot be met at the rate, `InputError` where the
    patterns are missing or belong to another catalogue, or no factor gives what is asked for.
    """
    catalogue = load_catalogue(settings.catalogue)
    try:
        problem = Problem.of(
            catalogue,
            eta=settings.eta,
            cap=settings.cap,
            penalty=settings.penalty,
            slack=settings.slack,
        )
    except ValidationError as error:
        raise InputError(explain(error)) from None
    by_passes = settings.method == "passes"
    solve_from = _solve_from_annotations if by_passes else _solve_from_patterns
    solution, tally = solve_from(settings, catalogue, problem, progress)
    storage.write_bytes(
        storage.join(settings.run, "policy.json"), solution.policy.to_json().encode()
    )
    tally.add_rows(round(solution.policy.examples))
    tally.finish()
    return solution


def _solve_from_patterns(
    settings: SolveSettings, catalogue: Catalogue, problem: Problem, progress: Progress | None
) -> tuple[Solution, Tally]:
    path = storage.join(settings.run, "patterns.parquet")
    patterns = read_patterns(path, catalogue)
    problem = _widened(problem, patterns, settings)
    content = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    tally = Tally("solve", settings.run, settings, digest_of(catalogue.digest, content))
    assert settings.method != "passes"
    solution = solve_patterns(
        problem,
        patterns,
        method=settings.method,
        solver=settings.solver,
        passes=settings.passes,
        seed=settings.seed,
        catalogue=catalogue.digest,
    )
    return solution, tally


def _solve_from_annotations(
    settings: SolveSettings, catalogue: Catalogue, problem: Problem, progress: Progress | None
) -> tuple[Solution, Tally]:
    if settings.tolerance_factor is not None:
        factor = settings.tolerance_factor
        problem = Setting(factor=factor, eta=problem.eta, cap=problem.cap).of(problem)
    annotations = storage.join(settings.run, "annotations")
    tables = annotated_tables(annotations, catalogue)
    inputs = table_inputs(tables)
    tally = Tally("solve", settings.run, settings, inputs)
    stems = tuple(stem for stem, commit in tables if commit.rows)
    if not stems:
        raise InputError(f"{annotations}: no annotated samples to solve for")
    solution = solve_by_passes(
        problem,
        catalogue,
        annotations,
        stems,
        settings.run,
        settings.beam,
        sample=settings.sample or 1_000_000,
        passes=settings.passes or 20,
        progress=progress,
    )
    return solution, tally


def _widened(problem: Problem, patterns: Patterns, settings: SolveSettings) -> Problem:
    """The problem with its tolerances times the factor that is given, or that is asked for."""
    wanted = Requirements(min_ess=settings.min_ess, target_deff=settings.target_deff)
    factor = settings.tolerance_factor
    if wanted.asked and factor is not None:
        raise InputError(
            f"tolerance_factor {factor:g} has no effect with {wanted}, which choose a factor; "
            "leave one out"
        )
    if wanted.asked:
        return least_biased(problem, patterns, wanted).setting.of(problem)
    if factor is None:
        return problem
    return Setting(factor=factor, eta=problem.eta, cap=problem.cap).of(problem)


def curve(settings: CurveSettings, *, progress: Progress | None = None) -> Curve:
    """Solve a run's problem over tolerances, rates and caps, and write `<run>/curve.json`.

    Where something is required, the least biased point that satisfies it is chosen, and its
    tolerances are tightened as far as that allows. The curve is written also where none does.

    Parameters
    ----------
    progress : called with (points done, points in all)

    Raises `InputError` where the patterns are missing or belong to another catalogue, where the
    grid has no effect, and where no point satisfies what is required.
    """
    catalogue = load_catalogue(settings.catalogue)
    path = storage.join(settings.run, "patterns.parquet")
    patterns = read_patterns(path, catalogue)
    etas, caps, wanted = settings.etas, settings.allowed_caps, settings.requirements
    try:
        problem = Problem.of(catalogue, eta=min(etas), cap=max(caps), penalty=settings.penalty)
    except ValidationError as error:
        raise InputError(explain(error)) from None
    content = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    tally = Tally("curve", settings.run, settings, digest_of(catalogue.digest, content))
    solver = CurveSolver(problem, patterns)
    found = solver.curve(settings.factors, etas, caps, progress)
    output = storage.join(settings.run, "curve.json")
    storage.write_bytes(output, found.to_json().encode())
    if wanted.asked:
        found = found.choosing(solver.tighten(choose(found, wanted), wanted))
        storage.write_bytes(output, found.to_json().encode())
    tally.add_rows(round(patterns.examples))
    tally.finish()
    return found


def apply(settings: ApplySettings, *, progress: Progress | None = None) -> StageRecord:
    """Draw a manifest for every annotated shard of a run.

    With the calibrated design, thresholds are calibrated first, into `<manifest>-thresholds.json`;
    progress is that of the manifests, which are drawn after that. With a policy, what was drawn is
    measured in the end, unless the same is on record.

    Raises `InputError` where there are no annotations, where policy, annotations and catalogue do
    not belong together, where a calibrated design or levels of weights have no patterns of these
    annotations, and where an opt-out list cannot be used, or the manifest was drawn with one that
    is not given now.
    """
    catalogue = load_catalogue(settings.catalogue)
    policy = None if settings.policy is None else Policy.load(settings.policy)
    if policy is not None:
        check_digest(str(settings.policy), policy.catalogue, catalogue.digest)
    annotations = storage.join(settings.run, "annotations")
    folder = storage.join(settings.run, settings.manifest)
    tables = annotated_tables(annotations, catalogue)
    name, inputs = f"apply {settings.manifest}", table_inputs(tables)
    tally = Tally(name, settings.run, settings, inputs)
    standing = read_run(settings.run).get(name)
    opt_outs = OptOuts.of(settings.opt_out_uids, settings.opt_out_urls)
    if standing is not None and standing.opt_outs is not None:
        opt_outs.check_given(folder, standing.opt_outs)
    if opt_outs.by_url:
        check_urls(annotations, tables)
    job = _prepared(ManifestJob(annotations, folder, catalogue, policy, settings, opt_outs), tables)
    stems = tuple(stem for stem, commit in tables if not _applied(job, stem, commit))
    if stems:
        from pipelines.transforms import ApplyPolicy

        with watch(folder, [stem for stem, _ in tables], progress):
            run(ApplyPolicy(stems, job), settings.beam)
    if job.levels is None:
        storage.remove(levels_path(settings))
    if job.thresholds is None:
        storage.remove(thresholds_path(settings))
    drawn = []
    for stem, _ in tables:
        commit = read_commit(folder, stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=int(commit.counts["used"]))
        drawn.append(commit)
    balance = _balance(job, tables, drawn, standing)
    report = opt_outs.report([commit for _, commit in tables], drawn, balance)
    return tally.finish(1.0, balance=balance, opt_outs=report if opt_outs.files else None)


def _prepared(job: ManifestJob, tables: Sequence[tuple[str, Commit]]) -> ManifestJob:
    """The job with all that a policy's weights and design need of the run's patterns."""
    if job.policy is not None and job.settings.weights:
        job = replace(job, levels=prepare_levels(job, tables))
    if job.settings.design == "calibrated":
        job = replace(job, thresholds=calibrate(job, tables))
    return job


def _applied(job: ManifestJob, stem: str, annotated: Commit) -> bool:
    commit = made(job.folder, stem)
    return (
        commit is not None
        and commit.settings == digest_of(job.digest, annotated.settings)
        and commit.same_input(annotated)
    )


def _balance(
    job: ManifestJob,
    tables: Sequence[tuple[str, Commit]],
    drawn: Sequence[Commit],
    standing: StageRecord | None,
) -> ManifestBalance | None:
    """What a policy's manifest makes of the data: measured, unless it stands on record."""
    stems = tuple(stem for stem, commit in tables if commit.rows)
    if job.policy is None or not stems:
        return None
    made_from = digest_of(job.digest, table_inputs(tables))
    found = None if standing is None else standing.balance
    if found is not None and found.made_from == made_from:
        return found
    opted_out = sum(int(commit.counts["opted_out"]) for commit in drawn)
    return measure_manifest(job, job.policy, stems, made_from, opted_out)


def verify_policy(
    settings: VerifyPolicySettings, *, progress: Progress | None = None
) -> Verification:
    """Find out from a run's annotations whether what a policy states of itself is true.

    One pass over the tables, a shard at a time. The result is the same for any number of workers.

    Raises `InputError` where there are no annotations, where policy, annotations and catalogue do
    not belong together, and where the policy weighs nothing.
    """
    catalogue = load_catalogue(settings.catalogue)
    path = settings.policy or storage.join(settings.run, "policy.json")
    purpose = "verify a policy with"
    found = measure_policy(path, catalogue, settings.run, settings.beam, purpose, progress)
    return verify(found.policy, catalogue, found.measured, found.shards)
