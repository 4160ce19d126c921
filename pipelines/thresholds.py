"""Calibrate: the thresholds with which a run's manifest meets the tolerances, not only on average.

Each round is one pass over all annotations, shard by shard on the runner, and a solve on the run's
patterns. What comes out lies beside the manifest, `<manifest>-thresholds.json`.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.policy import Policy
from m4.thresholds import calibrate_thresholds
from m4.totals import Totals, measure
from pipelines import storage
from pipelines.counting import read_patterns
from pipelines.manifests import Thresholds, shard_drawn
from pipelines.passes import sum_over_shards
from pipelines.record import digest_of
from pipelines.settings import ApplySettings
from pipelines.tables import Commit
from pipelines.totals import Measured

SAME = 1e-9  # of the examples: sums over counts of patterns differ by rounding only


def thresholds_path(settings: ApplySettings) -> str:
    """Where the thresholds of a manifest lie: beside its folder, whose files are all of shards."""
    return storage.join(settings.run, f"{settings.manifest}-thresholds.json")


def calibrate(
    settings: ApplySettings,
    catalogue: Catalogue,
    policy: Policy,
    tables: Sequence[tuple[str, Commit]],
) -> Thresholds:
    """Calibrate a policy's thresholds to the draws of a manifest, or read what was made before.

    They depend on the samples, the policy, the seed and the epoch alone: no sharding and no number
    of workers changes a bit of what is summed up.

    Parameters
    ----------
    tables : (stem, commit) of every annotation table

    Raises `InputError` where `<run>/patterns.parquet` is missing or counts other samples.
    """
    samples = (f"{stem} {commit.settings} {commit.rows}" for stem, commit in tables)
    drawn_with = f"{settings.seed} {settings.epoch}"
    made_from = digest_of(catalogue.digest, policy.model_dump_json(), drawn_with, *samples)
    path = thresholds_path(settings)
    found = _read(path)
    if found is not None and found.made_from == made_from:
        return found
    annotations = storage.join(settings.run, "annotations")
    stems = tuple(stem for stem, commit in tables if commit.rows)
    if not stems:
        raise InputError(f"{annotations}: no annotated samples to draw from")
    patterns_path = storage.join(settings.run, "patterns.parquet")
    patterns = read_patterns(patterns_path, catalogue)
    problem = policy.problem
    counted = measure(problem, patterns)

    def realise(duals: np.ndarray, rate_dual: float) -> Totals:
        sums = sum_over_shards(
            lambda stem: shard_drawn(
                annotations, stem, catalogue, problem, duals, rate_dual, settings
            ),
            stems,
            settings.run,
            settings.beam,
        )
        measured = Measured.of(sums, problem)
        if not _same(measured.plain, counted):
            raise InputError(
                f"{patterns_path}: counts other samples than {annotations} holds; run count again"
            )
        return measured.weighted

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


def _same(plain: Totals, counted: Totals) -> bool:
    """Whether totals of examples and of counted patterns are of the same data."""
    allowed = SAME * plain.examples
    return plain.examples == counted.examples and bool(
        np.allclose(plain.held, counted.held, rtol=0, atol=allowed)
        and np.allclose(plain.known, counted.known, rtol=0, atol=allowed)
    )
