"""MosaicML streaming: samples grouped by their copies, since a stream has one weight for all.

1x.parquet ...   shard, key, uid: the samples that are used once, twice, ...
streams.json     of each group its name, samples and `repeat`; written last
"""

import json
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.beam import Progress
from pipelines.exports.drawn import DrawnShard, Exported, drawn_shards

GROUP = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("shard", "key", "uid")])


def export_mosaicml(manifest: str, output: str, progress: Progress | None = None) -> Exported:
    """Write a table of samples for each number of copies, and the streams made of them."""
    streams = storage.join(output, "streams.json")
    storage.remove(streams)
    for earlier in storage.files(output, "*x.parquet"):
        if re.fullmatch(r"\d+x", PurePosixPath(earlier).stem):
            storage.remove(earlier)
    samples: Counter[int] = Counter()
    shards = 0
    with ExitStack() as files:
        writers: dict[int, pq.ParquetWriter] = {}
        for shard in drawn_shards(manifest, ["key", "uid"], progress):
            shards += 1
            for copies in np.unique(shard.copies[shard.copies > 0]).tolist():
                if copies not in writers:
                    path = storage.join(output, f"{copies}x.parquet")
                    stream = files.enter_context(storage.atomic_output(path))
                    writer = pq.ParquetWriter(stream, GROUP, compression="zstd")
                    writers[copies] = files.enter_context(writer)
                group = _group(shard, copies)
                writers[copies].write_table(group)
                samples[copies] += len(group)
    groups = [
        {"name": f"{copies}x", "samples": samples[copies], "repeat": copies}
        for copies in sorted(samples)
    ]
    storage.write_bytes(streams, (json.dumps(groups, indent=1) + "\n").encode())
    paths = [storage.join(output, f"{group['name']}.parquet") for group in groups]
    used = sum(samples.values())
    copies = sum(copies * number for copies, number in samples.items())
    counts = {"shards": shards, "samples": used, "copies": copies, "streams": len(groups)}
    return Exported(format="mosaicml", counts=counts, files=(*paths, streams))


def _group(shard: DrawnShard, copies: int) -> pa.Table:
    """The samples of a shard that are used so many times."""
    rows = shard.table.filter(shard.copies == copies)
    stems = pa.array([shard.stem] * len(rows), pa.string())
    return pa.table([stems, rows["key"], rows["uid"]], GROUP)
