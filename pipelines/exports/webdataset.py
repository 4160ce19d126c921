"""webdataset: a function for a foreign loader, which repeats or drops samples before decoding.

webdataset ends a key at the first dot of a file's name, this project at the last, as tars of web
data are written. The function cuts keys as webdataset does.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable

from m4.errors import InputError
from pipelines import storage
from pipelines.beam import Progress
from pipelines.exports.drawn import Exported, drawn_shards

UP_TO_FIRST_DOT = "(.*/)?[^.]*"
FUNCTION = r"""
import re
import pyarrow.parquet as pq


def draw(samples, manifest=MANIFEST, shard=None):
    for sample in samples:
        if shard != (shard := re.findall(r"([^/\s]+)\.tar", sample["__url__"])[-1]):
            rows = pq.read_table(f"{manifest}/{shard}.parquet").to_pylist()
            copies = {re.match("(.*/)?[^.]*", row["key"])[0]: row["copies"] for row in rows}
        yield from (dict(sample) for _ in range(copies.get(sample["__key__"], 0)))
"""


def webdataset_function(manifest: str, progress: Progress | None = None) -> Exported:
    """Lines of Python that draw a manifest's samples in a webdataset pipeline.

    Raises `InputError` where webdataset would take two samples for one.
    """
    counts: Counter[str] = Counter()
    for shard in drawn_shards(manifest, ["key"], progress):
        if re.search(r"\s", shard.stem):
            raise InputError(
                f"{shard.path}: a name with a space, at which a webdataset url may end; rename the "
                "shard"
            )
        check_keys(storage.join(manifest, f"{shard.stem}.parquet"), shard.table["key"].to_pylist())
        copies = shard.copies
        counts.update(shards=1, samples=int((copies > 0).sum()), copies=int(copies.sum()))
    lines = (
        FUNCTION.replace("MANIFEST", json.dumps(manifest, ensure_ascii=False))
        .strip("\n")
        .split("\n")
    )
    return Exported(format="webdataset", counts=counts, text=tuple(lines))


def webdataset_key(key: str) -> str:
    """A sample's key as webdataset and `datasets` cut it: to the first dot of the file's name."""
    found = re.match(UP_TO_FIRST_DOT, key)
    assert found is not None  # it matches anything
    return found[0]


def check_keys(path: str, keys: Iterable[str]) -> None:
    """Raise `InputError` where two keys of a shard are one to those who cut at the first dot."""
    seen: dict[str, str] = {}
    for key in keys:
        other = seen.setdefault(webdataset_key(key), key)
        if other != key:
            raise InputError(
                f"{path}: webdataset ends keys at the first dot, and so takes {other} and {key} "
                "for one sample; rename them in the tar"
            )
