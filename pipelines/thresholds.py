"""Calibrate: the thresholds with which a run's manifest meets the tolerances, not only on average.

Each round is one pass over all annotations, shard by shard on the runner, and a solve on the run's
patterns. What comes out lies beside the manifest, `<manifest>-thresholds.json`.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from m4.errors import InputError
from m4.thresholds import calibrate_thresholds
from m4.totals import Totals
from pipelines import storage
from pipelines.manifests import ManifestJob, Thresholds, counted_patterns, shard_drawn
from pipelines.passes import sum_over_shards
from pipelines.record import digest_of, table_inputs
from pipelines.settings import ApplySettings
from pipelines.tables import Commit
from pipelines.totals import unpack


def thresholds_path(settings: ApplySettings) -> str:
    """Where the thresholds of a manifest lie: beside its folder, whose files are all of shards."""
    return storage.join(settings.run, f"{settings.manifest}-thresholds.json")


def calibrate(job: ManifestJob, tables: Sequence[tuple[str, Commit]]) -> Thresholds:
    """Calibrate a policy's thresholds to the draws of a manifest, or read what was made before.

    They depend on the samples, the policy, what was opted out, the seed and the epoch alone: no
    sharding and no number of workers changes a bit of what is summed up. What was opted out is
    never drawn while it is measured, so that the rest makes up for it where it can.

    Parameters
    ----------
    job : with a policy
    tables : (stem, commit) of every annotation table

    Raises `InputError` where `<run>/patterns.parquet` is missing or counts other samples.
    """
    settings, policy = job.settings, job.policy
    assert policy is not None
    made_from = digest_of(
        job.catalogue.digest,
        policy.model_dump_json(),
        f"{settings.seed} {settings.epoch}",
        job.opt_outs.content,
        table_inputs(tables),
    )
    path = thresholds_path(settings)
    found = _read(path)
    if found is not None and found.made_from == made_from:
        return found
    stems = tuple(stem for stem, commit in tables if commit.rows)
    patterns, problem = counted_patterns(job, tables), policy.problem

    def realise(duals: np.ndarray, rate_dual: float) -> Totals:
        sums = sum_over_shards(
            lambda stem: shard_drawn(stem, job, problem, duals, rate_dual),
            stems,
            settings.run,
            settings.beam,
        )
        return unpack(sums, problem)[0]

    calibration = calibrate_thresholds(policy, patterns, realise)
    best = calibration.best
    named = zip(problem.constraints(), best.duals.tolist(), strict=True)
    thresholds = Thresholds(
        made_from=made_from,
        duals={str(name): value for name, value in named if value != 0.0},
        rate_dual=best.rate_dual,
        rounds=tuple(each.realised for each in calibration.rounds),
    )
    storage.write_bytes(path, (thresholds.model_dump_json(indent=1) + "\n").encode())
    return thresholds


def _read(path: str) -> Thresholds | None:
    if not storage.exists(path):
        return None
    try:
        return Thresholds.model_validate_json(storage.read_bytes(path))
    except ValidationError:
        raise InputError(f"{path}: not thresholds; delete it to have them made again") from None
