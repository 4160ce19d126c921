"""Receipts: what a training run really read of a manifest, in a file that adds up.

A receipt counts the uses of one epoch by shard and by weight, and remembers the first and the last
sample that was come to in each shard. Receipts of workers, of ranks and of the parts of an epoch
that was taken up again are added; the order does not matter. `pipelines.receipt_check` compares
the sum with the plan. The format is described in docs/receipts.md, for other consumers to write.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError, model_validator

from m4.catalogue import Model, explain
from m4.errors import InputError
from pipelines import storage
from pipelines.copies import Manifest

Count = Annotated[int, Field(ge=0)]
TABLES_KEPT = 64  # of the shards that a writer was told of last


class Mark(Model):
    """A sample of a shard: where it begins, in bytes, and a hash of its key.

    The hash is the first 16 hexadecimal digits of SHA-256 of the key in UTF-8.
    """

    offset: int
    key: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]

    @classmethod
    def of(cls, offset: int, key: str) -> "Mark":
        return cls(offset=offset, key=hashlib.sha256(key.encode()).hexdigest()[:16])

    @property
    def place(self) -> tuple[int, str]:
        return self.offset, self.key


class ShardReceipt(Model):
    """Uses of the samples of one shard, and those come to with the smallest and largest offset.

    Attributes
    ----------
    read, failed : uses that went into training, and that were set aside
    first, last : of both
    """

    read: Count = 0
    failed: Count = 0
    first: Mark
    last: Mark

    def __add__(self, other: "ShardReceipt") -> "ShardReceipt":
        return ShardReceipt(
            read=self.read + other.read,
            failed=self.failed + other.failed,
            first=min(self.first, other.first, key=lambda mark: mark.place),
            last=max(self.last, other.last, key=lambda mark: mark.place),
        )


class WeightReceipt(Model):
    """Uses of all samples of one weight; None in a manifest without weights."""

    weight: float | None
    read: Count = 0
    failed: Count = 0


class Receipt(Model):
    """What was read in one epoch, or in a part of it.

    Attributes
    ----------
    manifest : fingerprint (`pipelines.copies.Manifest`)
    epoch : counted from 0
    redraw_seed : with which the epoch's copies were drawn from the weights; None for the copies as
        the manifest has them
    finished : the epoch was read to its end, by this part or by another that was added
    shards : by name of the manifest's table
    weights : ascending
    """

    manifest: str
    epoch: Count
    redraw_seed: int | None = None
    finished: bool = False
    shards: Mapping[str, ShardReceipt] = Field(default_factory=dict)
    weights: tuple[WeightReceipt, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Receipt":
        numbers = [each.weight for each in self.weights]
        if len(set(numbers)) < len(numbers):
            raise ValueError("a weight comes twice; add its uses up")
        for name in ("read", "failed"):
            by_shard = sum(getattr(each, name) for each in self.shards.values())
            by_weight = sum(getattr(each, name) for each in self.weights)
            if by_shard != by_weight:
                raise ValueError(f"{by_shard} uses {name} by shard, but {by_weight} by weight")
        return self

    def __add__(self, other: "Receipt") -> "Receipt":
        """Both parts together. Raises `InputError` where they are not parts of one epoch."""
        for name in ("manifest", "epoch", "redraw_seed"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                raise InputError(
                    f"receipts of {name} {mine} and {others} do not add up; add those of one epoch"
                )
        shards = dict(self.shards)
        for stem, each in other.shards.items():
            shards[stem] = shards[stem] + each if stem in shards else each
        uses = {each.weight: each for each in self.weights}
        for added in other.weights:
            known = uses.get(added.weight, WeightReceipt(weight=added.weight))
            uses[added.weight] = WeightReceipt(
                weight=added.weight,
                read=known.read + added.read,
                failed=known.failed + added.failed,
            )
        return Receipt(
            manifest=self.manifest,
            epoch=self.epoch,
            redraw_seed=self.redraw_seed,
            finished=self.finished or other.finished,
            shards={stem: shards[stem] for stem in sorted(shards)},
            weights=tuple(uses[weight] for weight in sorted(uses, key=weight_order)),
        )

    def write(self, path: str) -> None:
        """Write it as JSON, atomically."""
        content = json.dumps(self.model_dump(mode="json"), indent=1) + "\n"
        storage.write_bytes(path, content.encode())


def weight_order(weight: float | None) -> tuple[bool, float]:
    """A key to sort by: no weight, then the smallest."""
    return weight is not None, weight or 0.0


def read_receipt(path: str) -> Receipt:
    """Read a receipt. Raises `InputError` naming the file where it is none."""
    try:
        return Receipt.model_validate_json(storage.read_bytes(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise InputError(
            f"{path}: not a receipt: {explain(error)}; docs/receipts.md says what one holds"
        ) from None


class Use(NamedTuple):
    """One use of one sample: its shard, its offset there, its key, and its weight if there is one.

    Loaders pass one on with each sample, from process to process.
    """

    stem: str
    offset: int
    key: str
    weight: float | None


@dataclass
class _Counted:
    """What a counter knows of a shard. Offsets with keys, which are hashed once, at the end."""

    first: Use
    last: Use
    read: int = 0
    failed: int = 0


@dataclass
class UseCounter:
    """Counts uses of an epoch, on top of a receipt that was written before."""

    so_far: Receipt
    _shards: dict[str, _Counted] = field(init=False, default_factory=dict)
    _weights: dict[float | None, list[int]] = field(init=False, default_factory=dict)

    @classmethod
    def begin(cls, manifest: Manifest, epoch: int) -> "UseCounter":
        """Nothing is read yet of an epoch."""
        seed = manifest.seed if manifest.redraw else None
        return cls(Receipt(manifest=manifest.fingerprint, epoch=epoch, redraw_seed=seed))

    def count(self, uses: Iterable[Use], *, failed: bool = False) -> None:
        """Count uses that went into training, or that were set aside."""
        for use in uses:
            shard = self._shards.get(use.stem)
            if shard is None:
                shard = self._shards[use.stem] = _Counted(use, use)
            elif use.offset < shard.first.offset:
                shard.first = use
            elif use.offset > shard.last.offset:
                shard.last = use
            shard.read += not failed
            shard.failed += failed
            self._weights.setdefault(use.weight, [0, 0])[failed] += 1

    def receipt(self, *, finished: bool = False) -> Receipt:
        """All that was counted; `finished` says that the epoch has no more."""
        shards = {
            stem: ShardReceipt(
                read=each.read,
                failed=each.failed,
                first=Mark.of(each.first.offset, each.first.key),
                last=Mark.of(each.last.offset, each.last.key),
            )
            for stem, each in self._shards.items()
        }
        weights = tuple(
            WeightReceipt(weight=weight, read=read, failed=failed)
            for weight, (read, failed) in self._weights.items()
        )
        counted = {"finished": finished, "shards": shards, "weights": weights}
        return self.so_far + self.so_far.model_copy(update=counted)


class ReceiptWriter:
    """Writes the receipt of a consumer that knows only the manifest, and samples by their keys.

    Parameters
    ----------
    manifest : folder of the manifest
    epoch : whose uses are counted
    redraw_seed : of a consumer that draws each epoch's copies from the weights
    """

    def __init__(self, manifest: str, *, epoch: int = 0, redraw_seed: int | None = None):
        self._manifest = Manifest(manifest, redraw_seed is not None, redraw_seed or 0)
        self._counter = UseCounter.begin(self._manifest, epoch)
        self._shards = {part.stem: part for part in self._manifest.shards}
        self._known = lru_cache(maxsize=TABLES_KEPT)(self._read_table)

    def read(self, stem: str, *keys: str) -> None:
        """Samples of a shard (`stem` is its name without `.tar`) went into training, once each.

        Raises `InputError` where the manifest knows no such shard or sample.
        """
        self._counter.count(self._uses(stem, keys))

    def failed(self, stem: str, *keys: str) -> None:
        """Samples of a shard had to be set aside."""
        self._counter.count(self._uses(stem, keys), failed=True)

    def receipt(self, *, finished: bool) -> Receipt:
        """What was read; `finished` says that this consumer came to the end of the epoch."""
        return self._counter.receipt(finished=finished)

    def write(self, path: str, *, finished: bool) -> None:
        """Write the receipt; it may be written again when more was read."""
        self.receipt(finished=finished).write(path)

    def _uses(self, stem: str, keys: Iterable[str]) -> list[Use]:
        if stem not in self._shards:
            raise InputError(f"{self._manifest.folder}: has no shard {stem}; read planned shards")
        known = self._known(stem)
        unknown = [key for key in keys if key not in known]
        if unknown:
            raise InputError(
                f"{self._manifest.folder}: {stem}.parquet has no sample {unknown[0]!r}; count only "
                "samples of the manifest"
            )
        return [known[key] for key in keys]

    def _read_table(self, stem: str) -> dict[str, Use]:
        rows = self._manifest.rows(self._shards[stem], self._counter.so_far.epoch)
        weights = [None] * len(rows.keys) if rows.weights is None else rows.weights.tolist()
        columns = zip(rows.offsets.tolist(), rows.keys, weights, strict=True)
        return {key: Use(stem, offset, key, weight) for offset, key, weight in columns}
