"""Reading a shard in batches, with its pictures decoded where somebody looks at them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m4.errors import UnusableSample
from pipelines.annotators.marks import Batch
from pipelines.metadata_tables import Dropped, read_rows
from pipelines.shards import Failure, Sample, ShardRef, read_samples

CAPTIONS = 8192  # samples of a batch that nobody looks at
PICTURES = 256  # and of one whose pictures are held decoded


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of a shard.

    Attributes
    ----------
    batch : its usable samples
    failures : what was set aside there
    drops : by reason, how many rows stand for no sample
    """

    batch: Batch
    failures: Sequence[Failure]
    drops: Counter[str]


def read_parts(shard: ShardRef, size: int, fields: Sequence[str] = ()) -> Iterator[Part]:
    """The usable samples of a shard in batches, and what became of the rest.

    Parameters
    ----------
    size : pixels that somebody wants to see along a picture's shorter side: pictures are decoded,
        once for all. 0: nobody looks, and pictures are not even read
    fields : metadata that somebody reads, of a table of metadata; that of a tar is read whole

    Raises `InputError` where a table of metadata cannot be used.
    """
    samples: list[Sample] = []
    lost: list[Failure] = []
    drops: Counter[str] = Counter()
    for found in _read(shard, size, fields):
        if isinstance(found, Failure):
            lost.append(found)
        elif isinstance(found, Dropped):
            drops[found.reason] += 1
        else:
            samples.append(found)
        if len(samples) == (PICTURES if size else CAPTIONS):
            yield _decoded(Part(Batch(samples), lost, drops), shard, size)
            samples, lost, drops = [], [], Counter()
    yield _decoded(Part(Batch(samples), lost, drops), shard, size)


def _read(
    shard: ShardRef, size: int, fields: Sequence[str]
) -> Iterator[Sample | Failure | Dropped]:
    if shard.is_table:
        assert not size, "a table of metadata has no pictures, which the stages have seen to"
        return read_rows(shard, fields)
    return read_samples(shard, images=size > 0)


def _decoded(part: Part, shard: ShardRef, size: int) -> Part:
    """A part with its pictures, without the samples whose picture cannot be decoded."""
    if not size:
        return part
    from vision.images import decode_all

    samples = part.batch.samples
    pictures = decode_all([each.image or b"" for each in samples], size)
    whole = [
        (sample, picture)
        for sample, picture in zip(samples, pictures, strict=True)
        if not isinstance(picture, UnusableSample)
    ]
    lost = [
        Failure(shard.name, sample.key, str(picture))
        for sample, picture in zip(samples, pictures, strict=True)
        if isinstance(picture, UnusableSample)
    ]
    batch = Batch([sample for sample, _ in whole], [picture for _, picture in whole])
    return Part(batch, [*part.failures, *lost], part.drops)
