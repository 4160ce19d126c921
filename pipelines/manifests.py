"""Apply: how often each sample is used, from the policy and the annotations alone."""

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from m4.catalogue import Catalogue, Model
from m4.patterns import Patterns
from m4.policy import Policy
from m4.problem import Problem
from m4.realised import Realised, realised_totals
from m4.sampling import draw_copies
from m4.totals import measure
from m4.totals import weights as weights_of
from pipelines.record import digest_of
from pipelines.settings import ApplySettings
from pipelines.tables import (
    Commit,
    manifest_schema,
    read_commit,
    read_table,
    to_patterns,
    write_table,
)
from pipelines.totals import ExactSums, Measured


class Thresholds(Model):
    """Multipliers to draw with, instead of a policy's own; for the draws of one seed and epoch.

    Attributes
    ----------
    made_from : digest of the policy, its annotations, the seed and the epoch
    duals, rate_dual : as of a policy
    rounds : what was drawn with the policy's own multipliers, then with those of each correction
    """

    made_from: str
    duals: Mapping[str, float]
    rate_dual: float
    rounds: tuple[Realised, ...]

    def weights(self, problem: Problem, patterns: Patterns) -> np.ndarray:
        """Thresholds q*(v, mu) of any examples with the problem's columns, (N,)."""
        duals = np.array([self.duals.get(str(name), 0.0) for name in problem.constraints()])
        return weights_of(problem, duals, self.rate_dual, patterns)

    @property
    def realised(self) -> Realised:
        """What is drawn with these multipliers; they are those of the best round."""
        return min(self.rounds, key=lambda each: each.total_violation)


def write_manifest(
    annotations: str,
    stem: str,
    folder: str,
    catalogue: Catalogue,
    policy: Policy | None,
    settings: ApplySettings,
    digest: str,
    thresholds: Thresholds | None = None,
) -> Commit:
    """Write the manifest of one shard. It has a row for every annotated sample, used or not.

    Weights that are written along are the policy's also where thresholds are given: those hold for
    these copies only.
    """
    table = read_table(annotations, stem)
    source = read_commit(annotations, stem)
    assert source is not None  # the stage lists committed tables only
    uids = table["uid"].to_pylist()
    weights = drawn = np.ones(len(uids))
    if policy is not None and uids:
        patterns = to_patterns(table, catalogue)
        weights = drawn = policy.weights(patterns)
        if thresholds is not None:
            drawn = thresholds.weights(policy.problem, patterns)
    copies = draw_copies(drawn, uids, seed=settings.seed, epoch=settings.epoch)
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


def shard_drawn(
    annotations: str,
    stem: str,
    catalogue: Catalogue,
    problem: Problem,
    duals: np.ndarray,
    rate_dual: float,
    settings: ApplySettings,
) -> ExactSums:
    """Sums over the annotations of one shard, as they are and as copies drawn of them.

    The shard has samples. `weighted` of what `Measured.of` makes of the sums are the totals under
    the copies that `write_manifest` would draw with these multipliers.
    """
    columns = ["uid", *catalogue.value_names, "labels", "utility"]
    table = read_table(annotations, stem, columns)
    patterns = to_patterns(table, catalogue)
    weights = weights_of(problem, duals, rate_dual, patterns)
    uids = table["uid"].to_pylist()
    copies = draw_copies(weights, uids, seed=settings.seed, epoch=settings.epoch)
    drawn = realised_totals(problem, patterns, copies)
    return ExactSums.of(Measured(measure(problem, patterns), drawn).numbers())
