"""Embeddings of data sets and of texts, encoded once for each model.

A picture goes by the SHA-256 of its content, so that its name, its neighbours, its labels and the
file that holds it have nothing to do with it: all of these are read anew each time. The model gets
batches of one size, the last filled with blank pictures: an embedding then does not depend on what
else was encoded with it, which otherwise shows in its last bit.
"""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.beam import Progress
from pipelines.embedding_store import ArrayFolder, PictureStore
from pipelines.encoded_sets import EncodedSet, Known, check_failures, gather, in_words
from pipelines.image_sets import ImageSetSettings, open_images
from pipelines.labelled_images import ImageSource, LabelledImage
from pipelines.metadata_tables import Dropped
from pipelines.record import digest_of
from pipelines.shards import Failure
from vision.ahead import ahead
from vision.prompts import TextEncoder

if TYPE_CHECKING:  # it imports torch
    from vision.embedder import Embedder

FORMAT = "2"  # changes with what an embedding depends on beside model and picture
PART = 256  # pictures that are encoded and kept together


def model_folder(cache: str, embedder: "Embedder") -> str:
    """Where a cache has a model: its weights, how it is shown pictures, and on what it runs."""
    device = embedder.device.partition(":")[0]  # CUDA computes with fewer digits
    key = digest_of(FORMAT, embedder.name, repr(embedder.preprocessing), device)
    title = re.sub(r"[^\w.@-]+", "_", embedder.name)
    return storage.join(cache, f"{title}-{key[:16]}")


def cached_texts(embedder: "Embedder", cache: str | None) -> TextEncoder:
    """The text encoder of a model, which encodes the same texts once where there is a cache."""
    if cache is None:
        return embedder.encode_texts
    kept = ArrayFolder(storage.join(model_folder(cache, embedder), "texts"))

    def encode_texts(texts: Sequence[str]) -> np.ndarray:
        name = digest_of(*texts)
        array = kept.load(name)
        if array is None:
            array = embedder.encode_texts(texts)
            kept.write(name, [digest_of(text) for text in texts], array, {})
        return array

    return encode_texts


def embedded_set(
    settings: ImageSetSettings,
    embedder: "Embedder",
    cache: str | None = None,
    *,
    max_failures: float = 0.01,
    progress: Progress | None = None,
) -> EncodedSet:
    """Read a data set, and encode the pictures that are not in the cache.

    A run that was killed and is started again encodes what is missing, and gives the same. With a
    local cache the embeddings are mapped into memory, not read.

    Parameters
    ----------
    cache : folder; None: nothing is kept
    max_failures : largest share of pictures, and of damaged tars, that may be set aside
    progress : called with (shards done, shards in all); a shard of a folder is 256 rows

    Raises `InputError` where something cannot be read, a setting has no effect, too much is set
    aside, or nothing is left.
    """
    source = open_images(settings)
    with _folder(cache, embedder) as folder:
        found = _found(source, PictureStore(folder), embedder, progress)
        _check(source, found, max_failures)
        array = found.store.load_set(found.digests)
        if array is None:
            if found.store.forget_damaged(found.digests):
                found = _found(source, PictureStore(folder), embedder, progress)
            array = found.store.write_set(found.digests)
        if cache is None:
            array = np.array(array)
    return gather(
        source.name,
        found.known,
        array,
        classes=source.classes,
        templates=source.templates,
        failures=found.failures,
        left_out=found.left_out,
        renamed=settings.columns,
    )


@contextmanager
def _folder(cache: str | None, embedder: "Embedder") -> Iterator[str]:
    """Where embeddings are kept: in the cache, or for a while in a folder of the system's."""
    if cache is not None:
        yield model_folder(cache, embedder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield folder


@dataclass(frozen=True, eq=False)
class _Found:
    """A data set whose pictures are all in a store.

    `known` are those that can be used, `failures` and `left_out` are about the others.
    """

    store: PictureStore
    known: list[Known]
    failures: list[Failure]
    left_out: Counter[str]

    @property
    def digests(self) -> list[str]:
        return [each.identity for each in self.known]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Pictures to be encoded, by their digests; by digest too, what is wrong with others."""

    rows: list[str]
    pictures: list[Image.Image]
    failures: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Stretch:
    """What lies together in a shard; and a batch, where enough pictures are waiting for one."""

    shard: str
    shards_done: int
    known: list[Known]
    lost: list[Failure]
    dropped: Counter[str]
    batch: _Batch | None


def _found(
    source: ImageSource, store: PictureStore, embedder: "Embedder", progress: Progress | None
) -> _Found:
    """Read all pictures, and encode those that the store lacks."""
    read: list[tuple[str, Known]] = []
    failures: list[Failure] = []
    left_out = Counter(source.left_out)
    for stretch in ahead(_stretches(source, store, embedder.size)):
        if stretch.batch is not None:
            batch = stretch.batch
            store.add(batch.rows, _embeddings(embedder, batch.pictures), batch.failures)
        read += [(stretch.shard, each) for each in stretch.known]
        failures += stretch.lost
        left_out += stretch.dropped
        if progress is not None:
            progress(stretch.shards_done, len(source.shards))
    known = [each for _, each in read if store.failure(each.identity) is None]
    for shard, each in read:
        if (reason := store.failure(each.identity)) is not None:
            failures.append(Failure(shard, each.key, reason))
    return _Found(store, known, failures, left_out)


def _stretches(source: ImageSource, store: PictureStore, size: int) -> Iterator[_Stretch]:
    waiting: dict[str, bytes] = {}
    asked: set[str] = set()  # whatever was waiting once, in the store by now or not
    for done, shard in enumerate(source.shards):
        items = iter(shard)
        while stretch := list(islice(items, PART)):
            images = [each for each in stretch if isinstance(each, LabelledImage)]
            known = [_known(image) for image in images]
            for image, each in zip(images, known, strict=True):
                if each.identity not in asked and each.identity not in store:
                    asked.add(each.identity)
                    waiting[each.identity] = image.image
            lost = [each for each in stretch if isinstance(each, Failure)]
            dropped = Counter(each.reason for each in stretch if isinstance(each, Dropped))
            batch = _batch(waiting, size) if len(waiting) >= PART else None
            yield _Stretch(shard.name, done, known, lost, dropped, batch)
    last = _batch(waiting, size) if waiting else None
    yield _Stretch("", len(source.shards), [], [], Counter(), last)


def _known(image: LabelledImage) -> Known:
    content = hashlib.sha256(image.image).hexdigest()
    return Known(image.key, content, image.labels, image.captions)


def _batch(waiting: dict[str, bytes], size: int) -> _Batch:
    """Take the first of the pictures that wait, and decode them."""
    from vision.images import decode_all  # imports torch

    digests = list(islice(waiting, PART))
    decoded = decode_all([waiting.pop(digest) for digest in digests], size)
    batch = _Batch([], [], {})
    for digest, got in zip(digests, decoded, strict=True):
        if isinstance(got, UnusableSample):
            batch.failures[digest] = str(got)
        else:
            batch.rows.append(digest)
            batch.pictures.append(got)
    return batch


def _embeddings(embedder: "Embedder", pictures: list[Image.Image]) -> np.ndarray:
    """Embeddings (n, d), from batches that are all of the model's size."""
    blank = Image.new("RGB", (embedder.size, embedder.size))
    filling = [blank] * (-len(pictures) % embedder.batch_size)
    return embedder.embed([*pictures, *filling])[: len(pictures)]


def _check(source: ImageSource, found: _Found, max_failures: float) -> None:
    """Raise `InputError` where the pictures that were found are not those that were asked for."""
    source.labeller.check_met(source.name)
    check_failures(source.name, len(found.known), found.failures, len(source.shards), max_failures)
    if not found.known:
        said = in_words(found.left_out) or "there are none"
        raise InputError(f"{source.name}: no pictures are left: {said}")
