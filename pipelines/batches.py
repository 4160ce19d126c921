"""Reading a shard in batches, with its pictures decoded where somebody looks at them."""

from collections.abc import Iterator, Sequence

from m4.errors import UnusableSample
from pipelines.annotators.marks import Batch
from pipelines.shards import Failure, Sample, ShardRef, read_samples

CAPTIONS = 8192  # samples of a batch that nobody looks at
PICTURES = 256  # and of one whose pictures are held decoded


def batches(shard: ShardRef, size: int) -> Iterator[tuple[Batch, list[Failure]]]:
    """The usable samples of a shard in batches, and what was lost on the way to each.

    Parameters
    ----------
    size : pixels that somebody wants to see along a picture's shorter side: pictures are decoded,
        once for all. 0: nobody looks, and pictures are not even read
    """
    samples: list[Sample] = []
    lost: list[Failure] = []
    for found in read_samples(shard, images=size > 0):
        if isinstance(found, Failure):
            lost.append(found)
        else:
            samples.append(found)
        if len(samples) == (PICTURES if size else CAPTIONS):
            yield _decoded(shard, samples, size, lost)
            samples, lost = [], []
    yield _decoded(shard, samples, size, lost)


def _decoded(
    shard: ShardRef, samples: Sequence[Sample], size: int, lost: list[Failure]
) -> tuple[Batch, list[Failure]]:
    """A batch with its pictures, without the samples whose picture cannot be decoded."""
    if not size:
        return Batch(samples), lost
    from vision.images import decode_all

    pictures = decode_all([each.image or b"" for each in samples], size)
    whole = [
        (sample, picture)
        for sample, picture in zip(samples, pictures, strict=True)
        if not isinstance(picture, UnusableSample)
    ]
    lost += (
        Failure(shard.name, sample.key, str(picture))
        for sample, picture in zip(samples, pictures, strict=True)
        if isinstance(picture, UnusableSample)
    )
    return Batch([sample for sample, _ in whole], [picture for _, picture in whole]), lost
