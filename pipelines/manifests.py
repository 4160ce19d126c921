"""Apply: how often each sample is used, from the policy and the annotations alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from m4.catalogue import Catalogue, Model
from m4.errors import InputError
from m4.levels import Levels
from m4.patterns import Patterns
from m4.policy import Policy
from m4.problem import Problem
from m4.realised import Realised, realised_totals
from m4.sampling import draw_copies
from m4.totals import Totals, measure
from m4.totals import weights as weights_of
from pipelines import storage
from pipelines.balance import ManifestBalance
from pipelines.counting import read_patterns
from pipelines.opt_out import FEWEST, NO_OPT_OUTS, OptOuts
from pipelines.passes import sum_over_shards
from pipelines.record import digest_of, read_run, table_inputs
from pipelines.settings import ApplySettings
from pipelines.tables import (
    IDENTITY_COLUMNS,
    Commit,
    read_commit,
    read_table,
    to_patterns,
    write_drawn,
)
from pipelines.totals import ExactSums, pack, unpack


class Thresholds(Model):
    """Multipliers to draw with, instead of a policy's own; for the draws of one seed and epoch.

    Attributes
    ----------
    made_from : digest of the policy, its annotations, what was opted out, the seed and the epoch
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


@dataclass(frozen=True, eq=False)
class ManifestJob:
    """What is the same for all shards of a manifest.

    Attributes
    ----------
    annotations, folder : where the tables are read, and where the manifest is written
    policy : None where every sample is used once
    settings : seed, epoch, and whether weights are written
    opt_outs : lists of what is never drawn
    thresholds : to draw with, where the policy's own are not
    levels : of the weights that are written, where there is a policy
    """

    annotations: str
    folder: str
    catalogue: Catalogue
    policy: Policy | None
    settings: ApplySettings
    opt_outs: OptOuts = NO_OPT_OUTS
    thresholds: Thresholds | None = None
    levels: Levels | None = None

    @cached_property
    def digest(self) -> str:
        """Of everything that decides the content of a shard's manifest but its annotations."""
        policy, thresholds, levels = self.policy, self.thresholds, self.levels
        return digest_of(
            self.catalogue.digest,
            "every sample once" if policy is None else policy.model_dump_json(),
            f"{self.settings.seed} {self.settings.epoch} {self.settings.weights}",
            self.opt_outs.content,
            "" if thresholds is None else thresholds.model_dump_json(),
            "" if levels is None else f"{levels.edges.tolist()} {levels.values.tolist()}",
        )

    def read(self, stem: str) -> pa.Table:
        """The annotations of a shard, what drawing needs of them."""
        names = [*IDENTITY_COLUMNS, *self.catalogue.value_names, "labels", "utility"]
        urls = ["url_sha256"] if self.opt_outs.by_url else []
        return read_table(self.annotations, stem, [*names, *urls])

    def draw(self, weights: np.ndarray, uids: Sequence[str], opted_out: np.ndarray) -> np.ndarray:
        """Copies with these weights, (N,) int32; none of what was opted out."""
        left = np.where(opted_out, 0.0, weights)
        return draw_copies(left, uids, seed=self.settings.seed, epoch=self.settings.epoch)

    def written(self, weights: np.ndarray, opted_out: np.ndarray) -> np.ndarray:
        """What is written of these weights, (N,): their levels, and 0 of what was opted out."""
        levelled = weights if self.levels is None else self.levels.quantise(weights)
        return np.where(opted_out, 0.0, levelled)

    @property
    def measured(self) -> tuple[str, ...]:
        """What is measured of a policy's manifest, by the names of `ManifestBalance`."""
        after_opt_outs = ("after_opt_outs",) if self.opt_outs.files else ()
        quantised = () if self.levels is None else ("quantised",)
        return ("original", "planned", *after_opt_outs, *quantised, "drawn")


def counted_patterns(job: ManifestJob, tables: Sequence[tuple[str, Commit]]) -> Patterns:
    """The patterns of a run, counted from these annotation tables.

    Raises `InputError` where they are missing, or were counted from others.
    """
    path = storage.join(job.settings.run, "patterns.parquet")
    patterns = read_patterns(path, job.catalogue)
    counted = read_run(job.settings.run).get("count")
    if counted is None or counted.inputs != table_inputs(tables):
        raise InputError(
            f"{path}: counts other samples than {job.annotations} holds; run count again"
        )
    return patterns


def write_manifest(stem: str, job: ManifestJob) -> Commit:
    """Write the manifest of one shard. It has a row for every annotated sample, used or not.

    Weights that are written along are levels of the policy's also where thresholds are given: those
    hold for these copies only. What was opted out has no copies, and the weight 0. The marker
    counts samples and copies: a sum of weights could be that of one sample.
    """
    table = job.read(stem)
    source = read_commit(job.annotations, stem)
    assert source is not None  # the stage lists committed tables only
    uids = table["uid"].to_pylist()
    named = job.opt_outs.match(table)
    opted_out = np.logical_or.reduce(named)
    weights = drawn = np.ones(len(uids))
    if job.policy is not None and uids:
        patterns = to_patterns(table, job.catalogue)
        weights = drawn = job.policy.weights(patterns)
        if job.thresholds is not None:
            drawn = job.thresholds.weights(job.policy.problem, patterns)
    copies = job.draw(drawn, uids, opted_out)
    by_list = zip(job.opt_outs.files, named, strict=True)
    return write_drawn(
        job.folder,
        stem,
        table,
        source,
        digest_of(job.digest, source.settings),
        copies,
        weights=job.written(weights, opted_out) if job.settings.weights else None,
        counts={
            "opted_out": int(opted_out.sum()),
            **{file.count_name: int(rows.sum()) for file, rows in by_list},
        },
    )


def shard_drawn(
    stem: str, job: ManifestJob, problem: Problem, duals: np.ndarray, rate_dual: float
) -> ExactSums:
    """Sums over the annotations of one shard, as copies drawn of them.

    The shard has samples. What is unpacked of the sums are the totals under the copies that
    `write_manifest` would draw with these multipliers.
    """
    table = job.read(stem)
    patterns = to_patterns(table, job.catalogue)
    weights = weights_of(problem, duals, rate_dual, patterns)
    copies = job.draw(weights, table["uid"].to_pylist(), job.opt_outs.names(table))
    return ExactSums.of(pack(realised_totals(problem, patterns, copies)))


def shard_totals(stem: str, job: ManifestJob, policy: Policy) -> ExactSums:
    """Totals of one shard that has samples, those of `job.measured` in a row.

    Raises `InputError` where the manifest does not list the samples of the annotations.
    """
    table = job.read(stem)
    patterns, problem = to_patterns(table, job.catalogue), policy.problem
    weights, opted_out = policy.weights(patterns), job.opt_outs.names(table)

    def totals(name: str) -> Totals:
        match name:
            case "original":
                return measure(problem, patterns)
            case "planned":
                return measure(problem, patterns, weights)
            case "after_opt_outs":
                return measure(problem, patterns, np.where(opted_out, 0.0, weights))
            case "quantised":
                return measure(problem, patterns, job.written(weights, opted_out))
            case _:
                copies = read_table(job.folder, stem, ["copies"])["copies"].to_numpy()
                return realised_totals(problem, patterns, copies)

    return ExactSums.of(pack(*map(totals, job.measured)))


def measure_manifest(
    job: ManifestJob, policy: Policy, stems: tuple[str, ...], made_from: str, opted_out: int
) -> ManifestBalance:
    """Measure what a manifest makes of the data: one pass over annotations and manifest.

    Parameters
    ----------
    stems : of the shards that have samples
    opted_out : samples that are named by any list. Of fewer than `FEWEST`, what is left without
        them is not told: the difference would be a weight of theirs.
    """
    sums = sum_over_shards(
        lambda stem: shard_totals(stem, job, policy), stems, job.settings.run, job.settings.beam
    )
    totals = dict(zip(job.measured, unpack(sums, policy.problem), strict=True))
    if 0 < opted_out < FEWEST:
        del totals["after_opt_outs"]
    return ManifestBalance.of(made_from, policy.problem, totals)
