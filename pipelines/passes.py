"""Passes over the annotations of a run: sums that every shard gives, added up on a runner.

For data whose patterns do not fit one machine: the dual is looked at one pass at a time, from a
solution on a sample (`m4.full_passes`).
"""

import uuid
from collections.abc import Callable

import numpy as np

from m4.catalogue import Catalogue
from m4.dual import Dual, Sums
from m4.errors import InputError
from m4.full_passes import maximise_by_passes
from m4.patterns import Patterns
from m4.problem import Problem
from m4.solving import (
    REQUIRED_ACCURACY,
    Solution,
    dual_of,
    duals_over,
    make_policy,
    make_solution,
)
from pipelines import storage
from pipelines.beam import BeamSettings, Progress, run
from pipelines.counting import read_patterns, shard_patterns
from pipelines.tables import committed, to_patterns
from pipelines.totals import ExactSums, Measured, shard_sums


def sum_over_shards(
    measure: Callable[[str], ExactSums], stems: tuple[str, ...], folder: str, settings: BeamSettings
) -> np.ndarray:
    """Add up what `measure` gives for each shard, on the runner, whose only way back is a file.

    The sums are the same for any order of the shards and any number of workers.
    """
    from pipelines.transforms import AddUpShards

    output = storage.join(folder, f"sums.{uuid.uuid4().hex}.partial")
    try:
        run(AddUpShards(stems, measure, output), settings)
        return ExactSums.read(output).numbers()
    finally:
        storage.remove(output)


def measure_weights(
    problem: Problem,
    duals: np.ndarray,
    rate_dual: float,
    catalogue: Catalogue,
    annotations: str,
    stems: tuple[str, ...],
    folder: str,
    settings: BeamSettings,
) -> Measured:
    """What all annotations come to as they are, and under the weights of multipliers: one pass."""
    sums = sum_over_shards(
        lambda stem: shard_sums(annotations, stem, catalogue, problem, duals, rate_dual),
        stems,
        folder,
        settings,
    )
    return Measured.of(sums, problem)


def shard_look(
    annotations: str,
    stem: str,
    catalogue: Catalogue,
    problem: Problem,
    duals: np.ndarray,
    rate_dual: float,
) -> ExactSums:
    """What one shard adds to a look at the dual: moments, masses, curvature and sums of weights."""
    patterns = to_patterns(shard_patterns(annotations, stem, catalogue), catalogue)
    dual = dual_of(problem, patterns)
    sums = dual.look(duals, rate_dual)
    scalars = (sums.rate, sums.squares, sums.preferred, sums.raised, dual.preferred_squares, 1.0)
    means = [sums.moment, sums.mass, dual.diagonal(duals, rate_dual), np.array(scalars)]
    return ExactSums.of(patterns.examples * np.concatenate(means))


class PassDual(Dual):
    """The dual of all annotations: each look is a pass of Beam over the shards.

    The pass brings the curvature too, so that `diagonal` at the same multipliers costs nothing.
    """

    def __init__(
        self,
        problem: Problem,
        catalogue: Catalogue,
        annotations: str,
        stems: tuple[str, ...],
        folder: str,
        settings: BeamSettings,
    ):
        super().__init__(problem, 0.0)
        self._where = (annotations, stems, folder, settings)
        self._catalogue = catalogue
        self._seen: tuple[bytes, float] | None = None
        self._curvature = np.zeros(self.size + 1)
        self.examples = 0.0

    def look(self, duals: np.ndarray, rate_dual: float) -> Sums:
        annotations, stems, folder, settings = self._where
        problem, catalogue = self.problem, self._catalogue
        sums = sum_over_shards(
            lambda stem: shard_look(annotations, stem, catalogue, problem, duals, rate_dual),
            stems,
            folder,
            settings,
        )
        self.examples = float(sums[-1])
        size = self.size
        moment, mass, curvature, scalars = np.split(
            sums / self.examples, [size, 2 * size, 3 * size + 1]
        )
        rate, squares, preferred, raised, self.preferred_squares = scalars[:-1].tolist()
        self._curvature, self._seen = curvature, (duals.tobytes(), rate_dual)
        return Sums(moment, mass, rate, squares, preferred, raised)

    def diagonal(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        if self._seen != (duals.tobytes(), rate_dual):
            self.look(duals, rate_dual)
            self.passes += 1
        return self._curvature


def solve_by_passes(
    problem: Problem,
    catalogue: Catalogue,
    annotations: str,
    stems: tuple[str, ...],
    folder: str,
    settings: BeamSettings,
    *,
    sample: int,
    passes: int,
    progress: Progress | None = None,
) -> Solution:
    """Solve over annotations without ever holding their patterns; certified on all of them.

    The solution's weights and counts are those of the sample's patterns.

    Parameters
    ----------
    folder : where passes leave their sums
    sample : examples to draw, those with the smallest hashes of their uids
    passes : passes to make at most; two more find the rate and certify

    Raises `InputError` where the tolerances cannot be met, or are not after that many passes.
    """
    patterns = draw_sample(catalogue, annotations, stems, folder, settings, sample)
    full = PassDual(problem, catalogue, annotations, stems, folder, settings)
    optimum = maximise_by_passes(
        full,
        duals_over(problem, patterns),
        patterns.examples,
        most=passes,
        progress=None if progress is None else lambda number, point: progress(number, passes),
    )
    point = optimum.point
    if optimum.infeasible:
        raise InputError(
            f"the tolerances cannot be met at rate {problem.eta:g}: the dual value "
            f"{full.dual_value(point):.4g} is above {full.largest_primal:.4g}, the most that any "
            "weights cost; lower eta, raise the cap or a tolerance, or set a finite penalty"
        )
    if point.relative_gap > REQUIRED_ACCURACY:
        raise InputError(
            f"the relative gap is {point.relative_gap:.1e} after {full.passes} passes, and has to "
            f"be {REQUIRED_ACCURACY:g}; allow more passes or a larger sample (now {sample:,})"
        )
    measured = measure_weights(
        problem, point.duals, point.rate_dual, catalogue, annotations, stems, folder, settings
    )
    policy = make_policy(
        problem,
        point.duals,
        point.rate_dual,
        measured.plain,
        measured.weighted,
        method="passes",
        catalogue=catalogue.digest,
    )
    weights = policy.weights(patterns)
    return make_solution(
        policy, weights, patterns.counts, measured.plain, measured.weighted, full.passes + 1
    )


def draw_sample(
    catalogue: Catalogue,
    annotations: str,
    stems: tuple[str, ...],
    folder: str,
    settings: BeamSettings,
    sample: int,
) -> Patterns:
    """The patterns of about `sample` examples: those whose uids have the smallest hashes.

    The same examples are drawn for any division into shards. Raises `InputError` where none is.
    """
    from pipelines.transforms import CountPatterns

    rows = sum(commit.rows for _, commit in committed(annotations))
    output = storage.join(folder, f"sample.{uuid.uuid4().hex}.partial")
    share = min(1.0, sample / rows)
    try:
        run(CountPatterns(stems, annotations, None, catalogue, output, 16, share), settings)
        return read_patterns(output, catalogue)
    finally:
        storage.remove(output)
