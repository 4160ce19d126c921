"""Blocks: input shards whose drawn samples are shuffled together, and the new shards they fill.

Input shards are put into a random order and cut into blocks. The uses of a block are shuffled, its
copies spread (`pipelines.spreading`), and dealt out to new shards of equal size. So a block needs
no other one, memory does not grow with the data, and every input shard is read by one worker only.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.shards import UNREADABLE, ShardRef
from pipelines.spans import CHANGED, Spans, SpanWriter, local_sources
from pipelines.spreading import places_of, smallest_gap, spread
from pipelines.tables import read_table
from pipelines.uids import to_pairs

DENSE = 0.1  # share of the bytes of shards from which on they are read as a whole
DEVIATIONS = 6.0  # by which the distance of two copies may fall short of its mean


@dataclass(frozen=True)
class Layout:
    """How samples are dealt out to new shards.

    Attributes
    ----------
    shard_size : samples of a new shard at most
    distance : uses that lie between two copies of a sample, the second counted, at least
    window : uses that are shuffled together at least, where there are as many
    seed : of the order
    """

    shard_size: int
    distance: int
    window: int
    seed: int


@dataclass(frozen=True)
class Source:
    """An input shard, and how often its samples are used in all."""

    stem: str
    shard: ShardRef
    uses: int


@dataclass(frozen=True)
class Block:
    """Some input shards, and the new shards that they fill, `shards` of them from `first` on."""

    sources: tuple[Source, ...]
    first: int
    shards: int

    @property
    def uses(self) -> int:
        return sum(source.uses for source in self.sources)

    @property
    def names(self) -> list[str]:
        """Names of the new shards, without extension: their positions."""
        return [f"{self.first + number:08d}" for number in range(self.shards)]


class Stats(Model):
    """What became of the samples of a new shard, `<name>_stats.json`; its commit marker.

    Attributes
    ----------
    successes : samples that the shard holds
    failures, examples : samples that were left out, and a key, by reason; not written where there
        are none, which is how DataComp's tools know the file
    """

    successes: int
    failures: Mapping[str, int] = Field(default_factory=dict)
    examples: Mapping[str, str] = Field(default_factory=dict)


def cut(sources: Sequence[Source], most: int, layout: Layout) -> list[Block]:
    """Cut input shards, in a random order, into blocks of about `layout.window` uses and more.

    Parameters
    ----------
    most : copies of any sample at most

    Raises `InputError` where there are too few uses for copies to be as far apart as asked for.
    """
    shuffled = sorted((each for each in sources if each.uses), key=lambda each: _hash(each, layout))
    ends = np.cumsum([each.uses for each in shuffled], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    least = layout.window
    if most > 1:
        reach = _reach(total, most)
        if reach < layout.distance:
            raise InputError(
                f"a sample comes {most} times among {total:,} uses, so its copies can be "
                f"{max(reach, 0):,} apart, and not {layout.distance:,}, which is the larger of "
                "batch_size and twice shard_size; lower both, use more data, or solve with a lower "
                "cap"
            )
        least = max(least, 2 * most * layout.distance)
    blocks: list[Block] = []
    # A block is short of its goal by a shard at most.
    number = max(1, total // (least + max((each.uses for each in shuffled), default=0)))
    goals = [total * (block + 1) // number for block in range(number)]
    stops = sorted({0, *(int(np.searchsorted(ends, goal)) + 1 for goal in goals)}) if total else []
    first = 0
    for start, stop in pairwise(stops):
        part = tuple(shuffled[start:stop])
        shards = math.ceil(sum(each.uses for each in part) / layout.shard_size)
        blocks.append(Block(part, first, shards))
        first += shards
    return blocks


def _hash(source: Source, layout: Layout) -> bytes:
    return hashlib.blake2b(source.stem.encode(), key=str(layout.seed).encode()).digest()


def _reach(uses: int, most: int) -> int:
    """How far apart the copies of a sample are at least, if nothing very unlikely happens."""
    mean = uses / most
    return int(mean - DEVIATIONS * math.sqrt(mean))


def waiting_of(block: Block, out: str) -> list[str]:
    """Names of a block's new shards that are not there, or lack what may be readable by now."""
    return [name for name in block.names if _is_waiting(out, name)]


def _is_waiting(out: str, name: str) -> bool:
    stats = read_stats(out, name)
    passing = (CHANGED, UNREADABLE)
    return stats is None or any(reason.startswith(passing) for reason in stats.failures)


def write_block(
    block: Block, manifest: str, out: str, layout: Layout, scratch: str | None = None
) -> None:
    """Write the new shards of a block that are not there yet, each with its statistics after it.

    Raises `InputError` where copies cannot be as far apart as asked for, because many rows have the
    same uid.
    """
    waiting = waiting_of(block, out)
    if not waiting:
        return
    spans = spans_of(block, manifest, layout)
    shards = [source.shard for source in block.sources]
    dense = int(spans.length.sum()) > DENSE * sum(shard.size for shard in shards)
    with local_sources(shards, scratch, dense=dense) as sources:
        writer = SpanWriter(sources, [source.stem for source in block.sources])
        try:
            for number, name in enumerate(block.names):
                if name in waiting:
                    start, stop = (len(spans) * at // block.shards for at in (number, number + 1))
                    part = spans.part(start, stop)
                    written = writer.write(storage.join(out, f"{name}.tar"), part)
                    _write_stats(out, name, Stats(**vars(written)))
        finally:
            writer.close()


def spans_of(block: Block, manifest: str, layout: Layout) -> Spans:
    """The samples of a block in the order in which they are written; copies as often as they come.

    Raises `InputError` where the manifest is not what the block was made for, or its copies come
    too near each other.
    """
    tables = []
    for source in block.sources:
        table = read_table(manifest, source.stem, ["uid", "key", "offset", "length", "copies"])
        table = table.filter(pc.greater(table["copies"], 0))
        if (pc.sum(table["copies"]).as_py() or 0) != source.uses:
            raise InputError(
                f"{storage.join(manifest, source.stem)}.parquet: its copies are not the "
                f"{source.uses} of its commit marker; run apply again"
            )
        tables.append(table)
    rows = pa.concat_tables(tables)
    sources = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    uids = rows["uid"].to_pylist()
    places = places_of(to_pairs(uids), layout.seed)
    uses = spread(places, rows["copies"].to_numpy())
    gap = smallest_gap(places[uses])
    if gap is not None and gap[0] < layout.distance:
        distance, at = gap
        raise InputError(
            f"{manifest}: uid {uids[uses[at]]} comes so often that two of its uses would be "
            f"{distance:,} apart, and not {layout.distance:,}, which is the larger of batch_size "
            "and twice shard_size; remove repeated samples, raise window, or lower both"
        )
    offset, length = (rows[name].to_numpy() for name in ("offset", "length"))
    keys = rows["key"].cast(pa.binary()).to_pylist()
    in_order = [keys[row] for row in uses.tolist()]
    return Spans(sources[uses], offset[uses], length[uses], in_order)


def _stats_path(out: str, name: str) -> str:
    return storage.join(out, f"{name}_stats.json")


def _write_stats(out: str, name: str, stats: Stats) -> None:
    content = stats.model_dump_json(exclude_defaults=True)
    storage.write_bytes(_stats_path(out, name), content.encode())


def read_stats(out: str, name: str) -> Stats | None:
    """The statistics of a new shard, or None where it is not written yet, or gone."""
    path = _stats_path(out, name)
    if not (storage.exists(path) and storage.exists(storage.join(out, f"{name}.tar"))):
        return None
    try:
        return Stats.model_validate_json(storage.read_bytes(path))
    except ValidationError:
        raise InputError(f"{path}: not the statistics of a shard; delete it") from None
