"""open_clip: arguments for `python -m open_clip_train.main` on shards that reshard has written.

open_clip has weights per source (`--train-data-upsampling-factors`), never per sample; so copies
have to stand in the shards.
"""

import json
import re

from m4.errors import InputError
from pipelines import storage
from pipelines.exports.drawn import Exported

READ_BY_OPEN_CLIP = re.compile(r"::|\$\{|[{}]")  # in a path: sources, variables, ranges
NOTES = (
    "leave out --dataset-resampled: it draws shards with replacement, so that the copies, which "
    "are exact now, hold only in the mean",
    "--siglip, --model and all that is not about data is yours to add; there must be at least as "
    "many shards as --workers times GPUs",
)


def open_clip_arguments(shards: str) -> Exported:
    """The arguments that name a folder of new shards and its number of samples.

    Raises `InputError` where the folder has no `sizes.json`, or other shards than that names.
    """
    path = storage.join(shards, "sizes.json")
    if not storage.exists(path):
        raise InputError(f"{path}: no such file; reshard writes it when all shards are written")
    sizes = _sizes(path)
    found = [name.rpartition("/")[2] for name in storage.files(shards, "*.tar")]
    if differing := sorted(sizes.keys() ^ set(found)):
        where = "not in sizes.json" if differing[0] in found else "in sizes.json, but not there"
        raise InputError(f"{storage.join(shards, differing[0])}: {where}; reshard again")
    if sign := READ_BY_OPEN_CLIP.search(shards):
        raise InputError(
            f"{shards}: open_clip reads {sign[0]} in a path as more; rename the folder"
        )
    names = f"{{{0:08d}..{len(sizes) - 1:08d}}}.tar" if len(sizes) > 1 else f"{0:08d}.tar"
    samples = sum(sizes.values())
    text = ("--train-data", storage.join(shards, names), "--train-num-samples", str(samples))
    return Exported(
        format="open-clip",
        counts={"shards": len(sizes), "copies": samples},
        text=(*text, "--dataset-type", "webdataset"),
        notes=NOTES,
    )


def _sizes(path: str) -> dict[str, int]:
    """Samples of each shard; the shards are numbered without a gap."""
    try:
        sizes = {
            str(name): int(size) for name, size in json.loads(storage.read_bytes(path)).items()
        }
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"{path}: not the sizes of shards; reshard again") from None
    if not sizes:
        raise InputError(f"{path}: names no shards; the manifest used no sample")
    expected = [f"{number:08d}.tar" for number in range(len(sizes))]
    if missing := sorted(set(expected) - sizes.keys()):
        raise InputError(f"{path}: names {len(sizes)} shards, but not {missing[0]}; reshard again")
    return sizes
