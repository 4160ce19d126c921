"""The check of receipts: what was read of a manifest, against what it planned."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines.copies import Manifest, Rows
from pipelines.receipts import Mark, Receipt, ShardReceipt, weight_order
from pipelines.weight_shares import Uses, furthest_share, p_value_of_shares

SIGNIFICANCE = 1e-3  # of the test of an epoch that was stopped

Progress = Callable[[int, int], None]
Shares = defaultdict[float | None, float]
"""Uses by weight, as expected: fractions."""


class ReceiptSettings(Model):
    """Settings of the check of receipts."""

    manifest: str = Field(description="folder of the manifest that was to be read")
    receipts: tuple[str, ...] = Field(
        description="receipts of all workers, ranks and parts of one or more epochs"
    )


class UseCount(Model):
    """Uses: planned = read + failed + missing; more than planned makes `missing` negative."""

    planned: int
    read: int
    failed: int

    @property
    def missing(self) -> int:
        return self.planned - self.read - self.failed


class WeightCheck(Model):
    """Uses of the samples of one weight; of all, where the manifest has no weights."""

    weight: float | None
    uses: UseCount


class Difference(Model):
    """Where an epoch differs from its plan, and how.

    Attributes
    ----------
    where : a shard, a weight, or the weights together
    says : how it differs
    uses : that are missing there, or too many
    """

    where: str
    says: str
    uses: int


class EpochCheck(Model):
    """One epoch, read and planned.

    Attributes
    ----------
    epoch, redraw_seed, finished : as of the receipts' sum
    uses : of all samples
    weights : ascending
    differences : of weights, then of shards; each with the largest first
    p_value : of the weights' shares in an epoch that was stopped; None where it was read to its
        end, or where uses differ already
    """

    epoch: int
    redraw_seed: int | None
    finished: bool
    uses: UseCount
    weights: tuple[WeightCheck, ...]
    differences: tuple[Difference, ...]
    p_value: float | None

    @property
    def share_read(self) -> float:
        """Share of the planned uses that were come to."""
        return 1 - self.uses.missing / self.uses.planned if self.uses.planned else 1.0


class ReceiptCheck(Model):
    """What the check of receipts found.

    Attributes
    ----------
    manifest : fingerprint
    epochs : in their order
    strangers : what is wrong with receipts of another manifest, which were not compared
    gaps : what is missing between the first epoch and the last
    """

    manifest: str
    epochs: tuple[EpochCheck, ...]
    strangers: tuple[str, ...]
    gaps: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        differ = any(each.differences for each in self.epochs)
        return not (differ or self.strangers or self.gaps)


def check_receipt(
    manifest: str, receipts: Mapping[str, Receipt], *, progress: Progress | None = None
) -> ReceiptCheck:
    """Compare receipts with the plan of their epochs: the manifest's copies, drawn as training did.

    An epoch that was finished has to agree use by use, in every shard and weight. In one that was
    stopped, something has to be read, no shard and no weight may have more uses than planned, and
    the weights' shares are tested: given how much of each shard was read, chi-square of what was
    read of each weight. Between the first epoch and the last none may be missing.

    Parameters
    ----------
    receipts : by their names, such as paths
    progress : called with (shards done, shards in all)

    Raises `InputError` where there is no receipt, where the manifest cannot be read, and where
    receipts were made with different seeds.
    """
    plan = _manifest(manifest, receipts)
    strangers = tuple(
        f"{name}: written for another content of the manifest ({receipt.manifest[:12]}, but "
        f"{manifest} is {plan.fingerprint[:12]})"
        for name, receipt in receipts.items()
        if receipt.manifest != plan.fingerprint
    )
    parts: dict[int, list[Receipt]] = {}
    for receipt in receipts.values():
        if receipt.manifest == plan.fingerprint:
            parts.setdefault(receipt.epoch, []).append(receipt)
    epochs = [_Epoch(reduce(add, parts[epoch])) for epoch in sorted(parts)]
    for number, part in enumerate(plan.shards):
        for each in epochs:
            each.compare(part.stem, plan.rows(part, each.receipt.epoch))
        if progress is not None:
            progress(number + 1, len(plan.shards))
    return ReceiptCheck(
        manifest=plan.fingerprint,
        epochs=tuple(each.result() for each in epochs),
        strangers=strangers,
        gaps=_gaps(parts),
    )


def _gaps(epochs: Iterable[int]) -> tuple[str, ...]:
    """What is missing between the first epoch and the last."""
    says = []
    for before, after in pairwise(sorted(epochs)):
        if after == before + 2:
            says.append(f"epoch {before + 1}: no receipt")
        elif after > before + 2:
            says.append(f"epochs {before + 1} to {after - 1}: no receipt")
    return tuple(says)


def _manifest(folder: str, receipts: Mapping[str, Receipt]) -> Manifest:
    """The manifest, which draws each epoch as the receipts say."""
    if not receipts:
        raise InputError(f"no receipts to compare with {folder}; give one at least")
    (first, one), *others = receipts.items()
    for name, other in others:
        if other.redraw_seed != one.redraw_seed:
            raise InputError(
                f"{first} and {name} have redraw_seed {one.redraw_seed} and {other.redraw_seed}; "
                "check them one after the other"
            )
    return Manifest(folder, one.redraw_seed is not None, one.redraw_seed or 0)


@dataclass(frozen=True)
class _ShardPlan:
    """What an epoch is to read of one shard.

    Attributes
    ----------
    rounds : uses by weight of all samples used at all, of those used more than once, and so on
    first, last : of the samples used, None where there is none
    """

    rounds: tuple[Uses, ...]
    first: Mark | None
    last: Mark | None

    @classmethod
    def of(cls, rows: Rows) -> "_ShardPlan":
        used = np.flatnonzero(rows.copies > 0)
        if not len(used):
            return cls((), None, None)
        rounds = tuple(_uses_of(rows, number) for number in range(int(rows.copies.max())))
        ends = used[[np.argmin(rows.offsets[used]), np.argmax(rows.offsets[used])]].tolist()
        first, last = (Mark.of(int(rows.offsets[row]), rows.keys[row]) for row in ends)
        return cls(rounds, first, last)

    @property
    def uses(self) -> Uses:
        return sum(self.rounds, Uses())


def _uses_of(rows: Rows, number: int) -> Uses:
    """One use of each sample with more than `number` copies, by weight."""
    chosen = rows.copies > number
    if rows.weights is None:
        return Uses({None: int(chosen.sum())})
    weights, counts = np.unique(rows.weights[chosen], return_counts=True)
    return Uses(dict(zip(weights.tolist(), counts.tolist(), strict=True)))


@dataclass
class _Epoch:
    """The comparison of one epoch, shard by shard.

    `expected` are uses by weight that the plan makes of what was read of each shard, for the two
    orders in which consumers come to copies: once all others are through, as our loader does, and
    with no regard to which copy it is. They differ only in an epoch that was stopped.
    """

    receipt: Receipt
    planned: Uses = field(default_factory=Uses)
    expected: tuple[Shares, Shares] = field(
        default_factory=lambda: (defaultdict(float), defaultdict(float))
    )
    shards: list[Difference] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def compare(self, stem: str, rows: Rows) -> None:
        """Compare what was read of one shard."""
        plan = _ShardPlan.of(rows)
        uses = plan.uses
        planned = uses.total()
        self.planned += uses
        self.seen.add(stem)
        found = self.receipt.shards.get(stem)
        says = _shard_says(plan, found, finished=self.receipt.finished)
        read = found.read + found.failed if found is not None else 0
        if says:
            where = f"shard {stem}"
            self.shards.append(Difference(where=where, says=says, uses=planned - read))
        elif read:
            copies_last, any_order = self.expected
            for weight, number in uses.items():
                any_order[weight] += read * number / planned
            for each in plan.rounds:
                taken = min(read, each.total())
                read -= taken
                for weight, number in each.items():
                    copies_last[weight] += taken * number / each.total()

    def result(self) -> EpochCheck:
        """The comparison of the whole epoch."""
        receipt = self.receipt
        for stem in receipt.shards.keys() - self.seen:
            found = receipt.shards[stem]
            read = found.read + found.failed
            says = "the manifest has no such shard"
            self.shards.append(Difference(where=f"shard {stem}", says=says, uses=-read))
        weights = self._weights()
        differences = [each for each in map(self._weight_difference, weights) if each is not None]
        planned, uses = self.planned.total(), self._found()
        if not receipt.finished and planned and not uses.total():
            says = _amount(planned, planned)
            differences.append(Difference(where=named(None), says=says, uses=planned))
        p_value = None
        if not receipt.finished and not differences and not self.shards:
            p_value = max(p_value_of_shares(uses, expected) for expected in self.expected)
            if p_value < SIGNIFICANCE:
                differences.append(self._share_difference(p_value))
        return EpochCheck(
            epoch=receipt.epoch,
            redraw_seed=receipt.redraw_seed,
            finished=receipt.finished,
            uses=UseCount(
                planned=planned,
                read=sum(each.read for each in receipt.shards.values()),
                failed=sum(each.failed for each in receipt.shards.values()),
            ),
            weights=tuple(weights),
            differences=(*_largest_first(differences), *_largest_first(self.shards)),
            p_value=p_value,
        )

    def _weights(self) -> list[WeightCheck]:
        found = {each.weight: each for each in self.receipt.weights}
        known = {*self.planned, *found}
        return [
            WeightCheck(
                weight=weight,
                uses=UseCount(
                    planned=self.planned[weight],
                    read=found[weight].read if weight in found else 0,
                    failed=found[weight].failed if weight in found else 0,
                ),
            )
            for weight in sorted(known, key=weight_order)
        ]

    def _weight_difference(self, each: WeightCheck) -> Difference | None:
        missing = each.uses.missing
        if missing < 0 or (missing and self.receipt.finished):
            says = _amount(missing, each.uses.planned)
            return Difference(where=named(each.weight), says=says, uses=missing)
        return None

    def _found(self) -> Uses:
        """Uses that were come to, of weights that have any."""
        return +Uses({each.weight: each.read + each.failed for each in self.receipt.weights})

    def _share_difference(self, p_value: float) -> Difference:
        """The weight whose uses are furthest from what either order explains."""
        found = self._found()
        best = max(self.expected, key=lambda expected: p_value_of_shares(found, expected))
        worst = furthest_share(found, best)
        wanted = best.get(worst, 0.0)
        says = (
            f"{found[worst]:,} uses read, about {wanted:,.0f} expected of the part read; the "
            f"shares of the weights are not those planned (chi-square, p = {p_value:.1g})"
        )
        uses = round(wanted) - found[worst]
        return Difference(where=named(worst), says=says, uses=uses)


def named(weight: float | None) -> str:
    """How a weight is called."""
    return "all samples" if weight is None else f"weight {weight:.6g}"


def _amount(missing: int, planned: int) -> str:
    if missing == planned:
        return f"not read, {planned:,} uses planned"
    if missing < 0:
        return f"{-missing:,} more than the {planned:,} uses planned"
    return f"{missing:,} of {planned:,} uses missing"


def _shard_says(plan: _ShardPlan, found: ShardReceipt | None, *, finished: bool) -> str:
    """How a shard differs from its plan; empty where it does not."""
    planned = plan.uses.total()
    missing = planned - (found.read + found.failed if found is not None else 0)
    if missing > 0 and not finished:
        return ""
    says = [_amount(missing, planned)] if missing else []
    if found is not None and plan.first is not None:
        says += ["it begins with another sample"] if found.first != plan.first else []
        says += ["it ends with another sample"] if found.last != plan.last else []
    return "; ".join(says)


def _largest_first(differences: list[Difference]) -> list[Difference]:
    return sorted(differences, key=lambda each: (-abs(each.uses), each.where))
