"""The streaming loader: batches from untouched shards, as a manifest says.

An epoch goes through the shards in rounds: round r takes the samples whose copies exceed r, so a
sample with c copies comes c times, far apart. Samples pass a shuffle buffer in each round. No
batch holds two copies of one sample: one that meets its double waits for the next batch. Copies
can meet only across ranks, and only if the same uid stands in two shards.

Everything is planned on rows of the manifest; bytes are read when a sample enters the shuffle
buffer, in the order of the tar, and decoded when its batch is due. So a stream that starts in the
middle of an epoch reads and decodes nothing of what it passes over. The order depends on the
seed, the epoch and the number of workers and ranks, and on nothing else.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
import webdataset
from PIL import Image
from pydantic import Field
from torch.utils.data import IterableDataset
from webdataset.utils import pytorch_worker_info

from m4.catalogue import Model
from m4.errors import InputError, UnusableSample
from pipelines.copies import Manifest, ManifestShard
from pipelines.receipts import Use
from pipelines.shards import Failure, SampleSpan, ShardRef
from training.samples import SpanReader, parse_span
from vision import images
from vision.images import ImageFormat

Tokenizer = Callable[[list[str]], torch.Tensor]
Decoded = dict[tuple[str, int], tuple[np.ndarray, torch.Tensor]]
"""Pixels and token ids by a sample's shard and offset."""


class LoaderSettings(Model):
    """What the stream consists of.

    Attributes
    ----------
    manifest : folder of the manifest
    batch_size : samples in a batch; the last batches of each worker's epoch are smaller
    seed : of the order, the random crops and, with `redraw`, the copies
    redraw : draw each epoch's copies afresh from the manifest's weights
    workers : processes that read and decode; 0 does it in this one
    shuffle_buffer : samples that wait, encoded, in each worker to be picked at random
    crop : smallest side of a random square crop, as a share of the shorter side; 1 for the centre
    cache_images : keep every decoded picture in memory, in each worker; for small data sets
    drop_short : leave out batches under `batch_size` at the end of each worker's epoch, as
        training on several ranks needs it; the samples lost are mostly second copies
    """

    manifest: str
    batch_size: int = Field(default=128, ge=1)
    seed: int = 0
    redraw: bool = False
    workers: int = Field(default=0, ge=0)
    shuffle_buffer: int = Field(default=1000, ge=1)
    crop: float = Field(default=1.0, gt=0.0, le=1.0)
    cache_images: bool = False
    drop_short: bool = False


@dataclass(frozen=True)
class Position:
    """A place in the stream: the epoch, and how many of its batches lie behind."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """What a model trains on; B samples, fewer where some were set aside.

    Attributes
    ----------
    images : (B, 3, H, W) float32, normalised
    tokens : (B, L) int64
    uids : B ids
    uses : the B samples as receipts count them
    failures : the samples that could not be used
    unused : these, as receipts count them
    after : where a stream starts that goes on behind this batch
    """

    images: torch.Tensor
    tokens: torch.Tensor
    uids: tuple[str, ...]
    uses: tuple[Use, ...]
    failures: tuple[Failure, ...]
    unused: tuple[Use, ...]
    after: Position = Position()


@dataclass(slots=True, eq=False)
class _Item:
    """One use of one sample. `content` is None until its bytes are read."""

    uid: str
    use: Use
    shard: ShardRef
    span: SampleSpan
    round: int
    content: bytes | UnusableSample | None = None


def distinct_batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Batches in which no uid occurs twice; doubles wait for the next batch with room for them."""
    batch: dict[str, _Item] = {}
    waiting: deque[_Item] = deque()
    for item in items:
        if item.uid in batch:
            waiting.append(item)
            continue
        batch[item.uid] = item
        while len(batch) == size:
            yield list(batch.values())
            batch = _take_distinct(waiting, size)
    while batch:
        yield list(batch.values())
        batch = _take_distinct(waiting, size)


def _take_distinct(waiting: deque[_Item], size: int) -> dict[str, _Item]:
    batch: dict[str, _Item] = {}
    for _ in range(len(waiting)):
        item = waiting.popleft()
        if len(batch) == size or item.uid in batch:
            waiting.append(item)
        else:
            batch[item.uid] = item
    return batch


@dataclass(frozen=True)
class _Plan:
    """The order of an epoch for one worker, made of manifest rows alone."""

    settings: LoaderSettings
    manifest: Manifest

    def shards(self, epoch: int, worker: int, workers: int) -> list[ManifestShard]:
        """The shards of one worker: every `workers`-th of this rank's, in the epoch's order."""
        rank, ranks, _, _ = pytorch_worker_info()
        order = list(self.manifest.shards)
        random.Random(f"{self.settings.seed}/{epoch}").shuffle(order)
        return order[rank::ranks][worker::workers]

    def batches(
        self,
        epoch: int,
        worker: int,
        workers: int,
        fetch: Callable[[Iterator[_Item]], Iterator[_Item]] = iter,
    ) -> Iterator[list[_Item]]:
        """Batches of one worker's epoch; `fetch` is applied before the shuffle buffer."""
        shards = self.shards(epoch, worker, workers)
        size = self.settings.batch_size
        for batch in distinct_batches(self._shuffled(shards, epoch, worker, fetch), size):
            if len(batch) == size or not self.settings.drop_short:
                yield batch

    def _shuffled(
        self,
        shards: list[ManifestShard],
        epoch: int,
        worker: int,
        fetch: Callable[[Iterator[_Item]], Iterator[_Item]],
    ) -> Iterator[_Item]:
        buffer = self.settings.shuffle_buffer
        most = 1  # copies of any sample; known when the first round is through
        number = 0

        def items() -> Iterator[_Item]:
            nonlocal most
            for part in shards:
                rows = self.manifest.rows(part, epoch)
                most = max(most, int(rows.copies.max(initial=0)))
                for row in np.flatnonzero(rows.copies > number).tolist():
                    span = rows.span(row)
                    weight = None if rows.weights is None else float(rows.weights[row])
                    use = Use(part.stem, span.offset, rows.keys[row], weight)
                    yield _Item(rows.uids[row], use, part.shard, span, number)

        while number < most:
            # A generator of its own for each round: what one round holds moves no other.
            generator = random.Random(f"{self.settings.seed}/{epoch}/{number}/{worker}")
            generator.shuffle(shards)
            yield from webdataset.shuffle(buffer, initial=buffer, rng=generator)(fetch(items()))
            number += 1

    def samples(self, epoch: int, worker: int, workers: int) -> int:
        """Samples of one worker's epoch, copies counted."""
        shards = self.shards(epoch, worker, workers)
        return sum(int(self.manifest.rows(part, epoch).copies.sum()) for part in shards)


@dataclass
class _Preparation:
    """Reads, decodes and tokenises the samples of a batch."""

    settings: LoaderSettings
    tokenize: Tokenizer
    image_format: ImageFormat
    decoded: Decoded

    def batch(self, items: list[_Item], epoch: int, reader: SpanReader) -> Batch:
        pictures, tokens, used, failures, unused = [], [], [], [], []
        for item in items:
            try:
                picture, ids = self._sample(item, epoch, reader)
            except UnusableSample as error:
                failures.append(Failure(item.shard.name, item.use.key, str(error)))
                unused.append(item.use)
                continue
            pictures.append(picture)
            tokens.append(ids)
            used.append(item)
        stacked = torch.stack(tokens) if tokens else torch.empty(0, 0, dtype=torch.int64)
        pixels = images.normalise(pictures, self.image_format)
        return Batch(
            pixels,
            stacked,
            tuple(item.uid for item in used),
            tuple(item.use for item in used),
            tuple(failures),
            tuple(unused),
        )

    def known(self, item: _Item) -> bool:
        return (item.shard.path, item.span.offset) in self.decoded

    def _sample(
        self, item: _Item, epoch: int, reader: SpanReader
    ) -> tuple[np.ndarray, torch.Tensor]:
        where = (item.shard.path, item.span.offset)
        picture, ids = self.decoded.get(where) or self._decoded(item, reader)
        if self.settings.cache_images:
            self.decoded[where] = picture, ids
        if self.settings.crop < 1:
            image = Image.fromarray(picture)
            key = f"{item.uid}/{self.settings.seed}/{epoch}/{item.round}"
            box = images.random_box(*image.size, self.settings.crop, key)
            picture = images.fit(image, self.image_format.size, box)
        return picture, ids

    def _decoded(self, item: _Item, reader: SpanReader) -> tuple[np.ndarray, torch.Tensor]:
        """Pixels and token ids; the pixels are fitted already where no crop is to come."""
        if isinstance(item.content, UnusableSample):
            raise item.content
        content = item.content or reader.read(item.shard, item.span)
        sample = parse_span(content, item.use.key)
        size = self.image_format.size
        image = images.decode(sample.image, size)
        ids = self.tokenize([sample.caption])[0]
        if self.settings.crop < 1:
            return np.asarray(image), ids
        return images.fit(image, size, images.centre_box(*image.size)), ids


class _Stream(IterableDataset):
    """One epoch of one worker.

    `start` is shared with the workers: the epoch, whose turn comes first (torch's loader begins
    with its first process, which then takes this worker's part), and the batches each is to skip.
    """

    def __init__(self, plan: _Plan, preparation: _Preparation, start: torch.Tensor):
        self.plan = plan
        self.preparation = preparation
        self.start = start

    def __iter__(self) -> Iterator[Batch | InputError]:
        _, _, process, workers = pytorch_worker_info()
        epoch, first, *skips = self.start.tolist()
        worker = (process + first) % workers
        reader = SpanReader()
        skipping = skips[worker] > 0

        def fetch(items: Iterator[_Item]) -> Iterator[_Item]:
            for item in items:
                if not skipping and not self.preparation.known(item):
                    try:
                        item.content = reader.read(item.shard, item.span)
                    except UnusableSample as error:
                        item.content = error
                yield item

        try:
            for number, items in enumerate(self.plan.batches(epoch, worker, workers, fetch)):
                skipping = number + 1 < skips[worker]
                if number >= skips[worker]:
                    yield self.preparation.batch(items, epoch, reader)
        except InputError as error:
            yield error  # raised again in the main process, without a worker's traceback
        finally:
            reader.close()


class Loader:
    """Batches without end, from a place in the stream on.

    Parameters
    ----------
    settings : what the stream consists of
    tokenize : from captions to token ids (B, L)
    image_format : what the model wants to see
    start : where to start; a stream started at `batch.after` yields what follows `batch`
    decoded : with `cache_images`, where samples are kept; for loaders of one process that read the
        same shards for the same model, so that each sample is decoded once

    Raises `InputError` where a batch is larger than an epoch, or a worker would have no shard.
    """

    def __init__(
        self,
        settings: LoaderSettings,
        tokenize: Tokenizer,
        image_format: ImageFormat,
        start: Position | None = None,
        decoded: Decoded | None = None,
    ):
        self.settings = settings
        self.manifest = Manifest(settings.manifest, settings.redraw, settings.seed)
        self.start = start or Position()
        self._plan = _Plan(settings, self.manifest)
        self._preparation = _Preparation(
            settings, tokenize, image_format, {} if decoded is None else decoded
        )
        self._workers = max(settings.workers, 1)
        self._check()

    def _check(self) -> None:
        ranks = pytorch_worker_info()[1]
        shards = len(self.manifest.shards)
        if shards < ranks * self._workers:
            raise InputError(
                f"{self.settings.manifest}: {shards} shards cannot be shared by {ranks} ranks with "
                f"{self._workers} workers each; lower workers, or split the shards"
            )
        samples = 0
        for part in self._plan.shards(self.start.epoch, worker=0, workers=1):
            samples += int(self.manifest.rows(part, self.start.epoch).copies.sum())
            if samples >= self.settings.batch_size:
                break  # of many tables only the first are read
        else:
            raise InputError(
                f"{self.settings.manifest}: batch_size is {self.settings.batch_size}, but an epoch "
                f"has {samples} samples, copies counted; lower batch_size or use more data"
            )

    def __iter__(self) -> Iterator[Batch]:
        start = torch.zeros(2 + self._workers, dtype=torch.int64).share_memory_()
        loader = webdataset.WebLoader(
            _Stream(self._plan, self._preparation, start),
            batch_size=None,
            num_workers=self.settings.workers,
            persistent_workers=self.settings.workers > 0,
        )
        position = self.start
        while True:
            start[0] = position.epoch
            start[1:] = torch.tensor(self._turns(position))
            for batch in loader:
                if isinstance(batch, InputError):
                    raise batch
                position = Position(position.epoch, position.batch + 1)
                yield replace(batch, after=position)
            if position.batch == 0:
                raise InputError(f"{self.settings.manifest}: epoch {position.epoch} has no batch")
            position = Position(position.epoch + 1)

    def _turns(self, position: Position) -> list[int]:
        """Whose turn it is at a position, and how many batches each worker has yielded before it.

        The workers take turns, and one that has come to its end is passed over.
        """
        whole, rest = divmod(position.batch, self._workers)
        even = [whole + (worker < rest) for worker in range(self._workers)]
        if position.batch == 0 or self._workers == 1:
            return [0, *even]
        workers = range(self._workers)
        plan, epoch, size = self._plan, position.epoch, self.settings.batch_size
        samples = [plan.samples(epoch, worker, self._workers) for worker in workers]
        if all(samples[worker] // size >= even[worker] for worker in workers):
            return [rest, *even]  # none has come to its end yet
        lengths = [sum(1 for _ in plan.batches(epoch, w, self._workers)) for w in workers]
        turns = (w for number in range(max(lengths)) for w in workers if number < lengths[w])
        taken = list(islice(turns, position.batch))
        return [(taken[-1] + 1) % self._workers, *(taken.count(worker) for worker in workers)]
