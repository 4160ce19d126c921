"""Embeddings of data sets, encoded once for each model.

    <cache>/<model>/<digest>.npy     embeddings of up to 256 pictures, or of a list of texts
                    <digest>.json    written last: what the array is, and what could not be read

Pictures go by their names and contents, so that neither a label nor the file that holds it has
anything to do with them: labels are read anew each time. Whatever is damaged is made again.
"""

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from m4.catalogue import Model
from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.beam import Progress
from pipelines.encoded_sets import EncodedSet, Known, check_failures, gather
from pipelines.image_sets import ImageSetSettings, open_images
from pipelines.labelled_images import ImageSource, LabelledImage
from pipelines.metadata_tables import Dropped
from pipelines.record import digest_of
from pipelines.shards import Failure
from vision.ahead import ahead
from vision.prompts import TextEncoder

if TYPE_CHECKING:  # it imports torch
    from vision.embedder import Embedder

FORMAT = "1"  # changes with what an embedding depends on beside model and picture
PART = 256  # pictures whose embeddings are one entry


class Marker(Model):
    """Says that an array is there: its rows, their length, and the SHA-256 of its file.

    `failures` says of pictures that have no row why they could not be used.
    """

    rows: int
    dimension: int
    sha256: str
    failures: dict[str, str]


@dataclass(frozen=True, eq=False)
class Entry:
    """Embeddings (n, d) float32, and by key the pictures that have none, with the reason."""

    array: np.ndarray
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddingCache:
    """The entries of one model in a folder, by the digest of what was encoded."""

    folder: str

    @classmethod
    def of(cls, cache: str, embedder: "Embedder") -> "EmbeddingCache":
        """The cache of a model: its weights, how it is shown pictures, and on what it runs."""
        device = embedder.device.partition(":")[0]  # CUDA computes with fewer digits
        key = digest_of(FORMAT, embedder.name, repr(embedder.preprocessing), device)
        title = re.sub(r"[^\w.@-]+", "_", embedder.name)
        return cls(storage.join(cache, f"{title}-{key[:16]}"))

    def load(self, digest: str) -> Entry | None:
        """An entry, if it is there whole; warns where it is damaged."""
        marker = storage.join(self.folder, f"{digest}.json")
        if not storage.exists(marker):
            return None
        try:
            said = Marker.model_validate_json(storage.read_bytes(marker))
            return Entry(self._array(digest, said), said.failures)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            warnings.warn(f"{marker}: damaged, made again: {reason}", stacklevel=2)
            return None

    def store(self, digest: str, entry: Entry) -> None:
        """Write an entry; of two processes that do so at once, either's is whole."""
        stream = io.BytesIO()
        np.save(stream, entry.array)
        content = stream.getvalue()
        rows, dimension = entry.array.shape
        sha256 = hashlib.sha256(content).hexdigest()
        marker = Marker(rows=rows, dimension=dimension, sha256=sha256, failures=entry.failures)
        storage.write_bytes(storage.join(self.folder, f"{digest}.npy"), content)
        said = marker.model_dump_json(indent=1) + "\n"
        storage.write_bytes(storage.join(self.folder, f"{digest}.json"), said.encode())

    def _array(self, digest: str, said: Marker) -> np.ndarray:
        """The array that a marker is about, mapped into memory where it is a local file."""
        path = storage.join(self.folder, f"{digest}.npy")
        content = storage.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != said.sha256:
            raise ValueError(f"{path} is not what its marker says")
        if storage.is_remote(path):
            array = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != (said.rows, said.dimension):
            raise ValueError(f"an array {array.shape}, not ({said.rows}, {said.dimension})")
        return array


def cached_texts(embedder: "Embedder", cache: str | None) -> TextEncoder:
    """The text encoder of a model, which encodes the same texts once where there is a cache."""
    if cache is None:
        return embedder.encode_texts
    entries = EmbeddingCache.of(cache, embedder)

    def encode_texts(texts: Sequence[str]) -> np.ndarray:
        digest = digest_of("texts", *texts)
        entry = entries.load(digest)
        if entry is None:
            entry = Entry(embedder.encode_texts(texts))
            entries.store(digest, entry)
        return entry.array

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

    A run that was killed and is started again encodes what is missing, and gives the same.

    Parameters
    ----------
    cache : folder; None: nothing is kept
    max_failures : largest share of pictures, and of damaged tars, that may be set aside
    progress : called with (shards done, shards in all); a shard of a folder is 256 rows

    Raises `InputError` where something cannot be read, a setting has no effect, too much is set
    aside, or nothing is left.
    """
    source = open_images(settings)
    entries = None if cache is None else EmbeddingCache.of(cache, embedder)
    known: list[Known] = []
    arrays: list[np.ndarray] = []
    failures: list[Failure] = []
    left_out = Counter(source.left_out)
    for part in ahead(_parts(source, entries, embedder.size)):
        failures += part.lost
        left_out += part.dropped
        if part.known:
            entry = part.entry
            if entry is None:
                entry = Entry(embedder.embed(part.pictures), part.undecoded)
                if entries is not None:
                    entries.store(part.digest, entry)
            known += [each for each in part.known if each.key not in entry.failures]
            arrays.append(entry.array)
            failures += [Failure(part.shard, *each) for each in entry.failures.items()]
        if progress is not None:
            progress(part.shards_done, len(source.shards))
    if progress is not None:
        progress(len(source.shards), len(source.shards))
    check_failures(source.name, len(known), failures, len(source.shards), max_failures)
    if not known:
        raise InputError(f"{source.name}: no pictures are left: {dict(left_out) or 'none there'}")
    return gather(
        source.name,
        known,
        np.concatenate(arrays),
        classes=source.classes,
        templates=source.templates,
        failures=failures,
        left_out=left_out,
        renamed=settings.columns,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """A stretch of a shard: its pictures, and what was found between them.

    `entry` is what the cache has of them. Without one, `pictures` are those to be encoded, and
    `undecoded` says by key what is wrong with the others.
    """

    shard: str
    shards_done: int
    known: list[Known]
    lost: list[Failure]
    dropped: Counter[str]
    digest: str
    entry: Entry | None
    pictures: list[Any]
    undecoded: dict[str, str]


def _parts(source: ImageSource, entries: EmbeddingCache | None, size: int) -> Iterator[_Part]:
    for done, shard in enumerate(source.shards):
        found = iter(shard)
        while items := list(islice(found, PART)):
            images = [each for each in items if isinstance(each, LabelledImage)]
            known = [_known(image) for image in images]
            digest = digest_of("pictures", *(part for each in known for part in each[:2]))
            entry = None if entries is None or not known else entries.load(digest)
            pictures, undecoded = ([], {}) if entry is not None else _decoded(images, size)
            lost = [each for each in items if isinstance(each, Failure)]
            dropped = Counter(each.reason for each in items if isinstance(each, Dropped))
            yield _Part(shard.name, done, known, lost, dropped, digest, entry, pictures, undecoded)


def _known(image: LabelledImage) -> Known:
    content = hashlib.sha256(image.image).hexdigest()
    return Known(image.key, content, image.labels, image.captions)


def _decoded(images: Sequence[LabelledImage], size: int) -> tuple[list[Any], dict[str, str]]:
    """The pictures that can be decoded, and by key what is wrong with the others."""
    from vision.images import decode_all  # imports torch

    pairs = list(zip(images, decode_all([each.image for each in images], size), strict=True))
    wrong = {image.key: str(got) for image, got in pairs if isinstance(got, UnusableSample)}
    return [got for _, got in pairs if not isinstance(got, UnusableSample)], wrong
