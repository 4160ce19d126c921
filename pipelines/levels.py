"""Levels: the few numbers that a manifest's weights are, so that no weight names a pattern.

They lie beside the manifest, `<manifest>-levels.json`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m4.catalogue import Model
from m4.errors import InputError
from m4.levels import LEAST, Levels, make_levels
from m4.policy import Policy
from pipelines import storage
from pipelines.counting import in_one_form
from pipelines.manifests import ManifestJob, counted_patterns
from pipelines.passes import sum_over_shards
from pipelines.settings import ApplySettings
from pipelines.signatures import signatures
from pipelines.tables import Commit, to_patterns
from pipelines.totals import ExactSums

BITS = 16  # of a pattern's signature: enough to see that a level has more than one


class LevelTable(Model):
    """The weights that a manifest may hold; one more is 0, of samples that were opted out.

    Attributes
    ----------
    values : weight of each level, ascending
    examples : examples that have it, without those that were opted out
    """

    values: tuple[float, ...]
    examples: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Left:
    """What opting out leaves of L levels.

    Attributes
    ----------
    examples : (L,) of each level
    with_bit : (L, BITS) those whose pattern has a bit in its signature
    """

    examples: np.ndarray
    with_bit: np.ndarray

    @property
    def hollow(self) -> bool:
        """Whether a level that is used has fewer than `LEAST` examples, or one pattern.

        Examples of one pattern agree in every bit. Others might, too: then a level is taken for
        hollow that is not.
        """
        examples = self.examples[:, None]
        agree = ((self.with_bit == 0) | (self.with_bit == examples)).all(axis=1)
        return bool(((self.examples > 0) & ((self.examples < LEAST) | agree)).any())


def levels_path(settings: ApplySettings) -> str:
    """Where the levels of a manifest's weights lie: beside its folder."""
    return storage.join(settings.run, f"{settings.manifest}-levels.json")


def prepare_levels(job: ManifestJob, tables: Sequence[tuple[str, Commit]]) -> Levels:
    """Make the levels of a policy's weights from the run's patterns, and write their table.

    Opting out may hollow a level out. One pass over the annotations finds that, and levels are made
    again, each of twice as many examples, until none is hollow.

    Parameters
    ----------
    job : with a policy
    tables : (stem, commit) of every annotation table

    Raises `InputError` where `<run>/patterns.parquet` is missing or counts other samples, and where
    there are too few examples for a level.
    """
    assert job.policy is not None
    patterns = counted_patterns(job, tables)
    weights = job.policy.weights(patterns)
    stems = tuple(stem for stem, commit in tables if commit.rows)
    least, hollow = LEAST, ""
    while True:
        try:
            levels = make_levels(weights, patterns.counts, least=least)
        except InputError as error:
            raise InputError(f"{job.annotations}: {hollow}{error}") from None
        left = _left_of(levels, job, job.policy, stems) if job.opt_outs.files else None
        if left is None or not left.hollow:
            break
        hollow = f"opting out hollows out a level of {least:,}; "
        least *= 2
    examples = levels.examples if left is None else left.examples
    table = LevelTable(values=levels.values.tolist(), examples=examples.astype(int).tolist())
    content = table.model_dump_json(indent=1) + "\n"
    storage.write_bytes(levels_path(job.settings), content.encode())
    return levels


def _left_of(levels: Levels, job: ManifestJob, policy: Policy, stems: tuple[str, ...]) -> Left:
    sums = sum_over_shards(
        lambda stem: shard_left(stem, levels, job, policy),
        stems,
        job.settings.run,
        job.settings.beam,
    ).reshape(len(levels.values), 1 + BITS)
    return Left(sums[:, 0], sums[:, 1:])


def shard_left(stem: str, levels: Levels, job: ManifestJob, policy: Policy) -> ExactSums:
    """What opting out leaves of each level in one shard that has samples: a row of `Left` each."""
    table = job.read(stem)
    level = levels.index(policy.weights(to_patterns(table, job.catalogue)))
    held = (np.arange(len(levels.values))[:, None] == level) & ~job.opt_outs.names(table)
    ones = np.ones(len(table), dtype=np.int64)
    words = signatures(in_one_form(table, ones, job.catalogue))[0]
    bits = words[:, None] >> np.arange(BITS, dtype=np.uint64) & np.uint64(1)
    return ExactSums.of((held.astype(float) @ np.column_stack([ones, bits])).ravel())
