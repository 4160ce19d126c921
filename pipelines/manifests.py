"""Apply: how often each sample is used, from the policy and the annotations alone."""

import math

import numpy as np
import pyarrow as pa
from pydantic import Field

from m4.catalogue import Catalogue, Model, load_catalogue
from m4.policy import Policy
from m4.sampling import draw_copies
from pipelines import storage
from pipelines.beam import BeamSettings, Progress, run, watch
from pipelines.record import StageRecord, Tally, digest_of
from pipelines.tables import (
    Commit,
    annotated_tables,
    check_digest,
    manifest_schema,
    read_commit,
    read_table,
    to_patterns,
    write_table,
)


class ApplySettings(Model):
    """Settings of the stage that draws a manifest."""

    run: str = Field(description="run directory with annotations/")
    catalogue: str = Field(description="the YAML file that the annotations were made with")
    policy: str | None = Field(
        default=None, description="policy.json; left out, every sample is used once"
    )
    manifest: str = Field(default="manifest", description="name of the folder that is written")
    seed: int = Field(default=0, ge=0, description="another seed draws another sample")
    epoch: int = Field(default=0, ge=0, description="another epoch draws afresh")
    weights: bool = Field(
        default=False,
        description="write weights too, for redrawing each epoch; weights name patterns",
    )
    beam: BeamSettings = BeamSettings()


def write_manifest(
    annotations: str,
    stem: str,
    folder: str,
    catalogue: Catalogue,
    policy: Policy | None,
    settings: ApplySettings,
    digest: str,
) -> Commit:
    """Write the manifest of one shard. It has a row for every annotated sample, used or not."""
    table = read_table(annotations, stem)
    source = read_commit(annotations, stem)
    assert source is not None  # the stage lists committed tables only
    uids = table["uid"].to_pylist()
    if policy is None or not uids:
        weights = np.ones(len(uids))
    else:
        weights = policy.weights(to_patterns(table, catalogue))
    copies = draw_copies(weights, uids, seed=settings.seed, epoch=settings.epoch)
    columns = [table[name] for name in ("uid", "key", "offset", "length")]
    columns.append(pa.array(copies))
    if settings.weights:
        columns.append(pa.array(weights))
    commit = Commit(
        shard=source.shard,
        size=source.size,
        modified=source.modified,
        settings=digest_of(digest, source.settings),
        rows=len(uids),
        counts={
            "used": int((copies > 0).sum()),
            "copies": int(copies.sum()),
            "planned": math.fsum(weights),
        },
    )
    schema = manifest_schema(weights=settings.weights)
    write_table(folder, stem, pa.Table.from_arrays(columns, schema=schema), commit)
    return commit


def apply(settings: ApplySettings, *, progress: Progress | None = None) -> StageRecord:
    """Draw a manifest for every annotated shard of a run.

    Raises `InputError` where there are no annotations, and where policy, annotations and catalogue
    do not belong together.
    """
    from pipelines.transforms import ApplyPolicy  # imports Beam

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
    stems = tuple(stem for stem, commit in tables if not _is_current(folder, stem, commit, digest))
    if stems:
        with watch(folder, [stem for stem, _ in tables], progress):
            job = ApplyPolicy(stems, annotations, folder, catalogue, policy, settings, digest)
            run(job, settings.beam)
    for stem, _ in tables:
        commit = read_commit(folder, stem)
        assert commit is not None  # the job has ended without an error
        tally.add(commit, kept=int(commit.counts["used"]))
    return tally.finish(1.0)


def _is_current(folder: str, stem: str, annotated: Commit, digest: str) -> bool:
    commit = read_commit(folder, stem)
    return (
        commit is not None
        and commit.settings == digest_of(digest, annotated.settings)
        and commit.same_input(annotated)
    )
