"""DataComp: a subset file, sorted, in which a copy is a duplicate; and the same uids as text.

The file may be larger than memory, so it is made in two passes over the manifest. The first counts
copies by the leading bits of their uids. So the second knows where in the file, which is mapped
into memory, each part of the uids begins, and puts every copy into its part. Then the parts are
sorted one after the other. The order of shards leaves no trace.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from m4.errors import InputError
from pipelines import storage
from pipelines.beam import Progress
from pipelines.exports.drawn import Exported, drawn_shards
from pipelines.uids import PAIR, sort_pairs, to_pairs, to_uids

BITS = 16  # leading bits of a uid that parts are made of
PART = 1 << 23  # copies in a part, about: 128 MiB, and some times that while it is sorted


def export_datacomp(manifest: str, output: str, progress: Progress | None = None) -> Exported:
    """Write a DataComp subset file: `.npy` of dtype u8,u8, sorted, duplicates are copies."""
    with _sorted_copies(manifest, output, progress) as (path, counts):
        if storage.is_remote(output):
            storage.copy(str(path), output)
        else:
            os.replace(path, output)
    return _exported("datacomp", output, counts)


def export_uids(manifest: str, output: str, progress: Progress | None = None) -> Exported:
    """Write the uids as text, one in each line, in the same order and as often as they are used."""
    with _sorted_copies(manifest, output, progress) as (path, counts):
        subset = np.load(path, mmap_mode="r")
        with storage.atomic_output(output) as stream:
            for start in range(0, len(subset), PART):
                lines = (f"{uid}\n" for uid in to_uids(subset[start : start + PART]))
                stream.write("".join(lines).encode())
    return _exported("uids", output, counts)


def _exported(name: str, output: str, counts: dict[str, int]) -> Exported:
    shared = counts["samples"] - counts["uids"]
    note = (
        f"{shared:,} samples have the uid of another one: whoever goes by uids uses each of them "
        "as often as all of them together"
    )
    return Exported(format=name, counts=counts, files=(output,), notes=(note,) if shared else ())


@contextlib.contextmanager
def _sorted_copies(
    manifest: str, output: str, progress: Progress | None
) -> Iterator[tuple[Path, dict[str, int]]]:
    """A temporary subset file, and what is in it. It lies beside a local output, for the rename."""
    folder = None
    if not storage.is_remote(output):
        folder = os.path.dirname(os.path.abspath(output))
        storage.make_folder(folder)
    with tempfile.TemporaryDirectory(suffix=".partial", dir=folder) as scratch:
        path = Path(scratch) / "subset.npy"
        yield path, _write_sorted(manifest, path, progress)


def _write_sorted(manifest: str, path: Path, progress: Progress | None) -> dict[str, int]:
    histogram = np.zeros(1 << BITS, dtype=np.int64)
    shards = samples = 0
    for _, pairs, copies in _pairs(manifest, progress):
        histogram += np.bincount(_leading(pairs), copies, 1 << BITS).astype(np.int64)
        shards, samples = shards + 1, samples + len(pairs)
    part_of = (np.cumsum(histogram) - histogram) // PART
    sizes = np.bincount(part_of, histogram).astype(np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    _check_space(path.parent, total * PAIR.itemsize)
    subset = np.lib.format.open_memmap(path, mode="w+", dtype=PAIR, shape=(total,))
    filled = ends - sizes
    for stem, pairs, copies in _pairs(manifest, progress):
        parts = part_of[_leading(pairs)]
        for part in np.unique(parts):
            chosen = np.repeat(pairs[parts == part], copies[parts == part])
            start, filled[part] = filled[part], filled[part] + len(chosen)
            if filled[part] > ends[part]:
                raise InputError(f"{manifest}: {stem} changed while it was read; export again")
            subset[start : filled[part]] = chosen
    if (filled != ends).any():
        raise InputError(f"{manifest}: it changed while it was read; export again")
    for start, end in zip(ends - sizes, ends, strict=True):
        _sort(subset[start:end])
    subset.flush()
    return {"shards": shards, "samples": samples, "uids": _distinct(subset), "copies": total}


def _pairs(
    manifest: str, progress: Progress | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each shard: its stem, the uids that are used as pairs, and their copies."""
    for shard in drawn_shards(manifest, ["uid"], progress):
        try:
            pairs = to_pairs(shard.used["uid"].to_pylist())
        except InputError as error:
            raise InputError(f"{storage.join(manifest, shard.stem)}.parquet: {error}") from None
        yield shard.stem, pairs, shard.copies[shard.copies > 0]


def _leading(pairs: np.ndarray) -> np.ndarray:
    return (pairs["f0"] >> np.uint64(64 - BITS)).astype(np.int64)


def _sort(pairs: np.ndarray) -> None:
    """Sort a part of the file in place.

    Uids that are no hashes may share their leading bits. A part that is too large for memory is
    sorted by numpy where it lies, at a fraction of the speed.
    """
    if len(pairs) > 2 * PART:
        pairs.sort(order=["f0", "f1"])
    else:
        pairs[:] = sort_pairs(np.array(pairs))


def _distinct(subset: np.ndarray) -> int:
    """How many uids there are in a sorted subset."""
    count = min(1, len(subset))
    for start in range(0, len(subset), PART):
        part = subset[start : start + PART + 1]
        new = (part["f0"][1:] != part["f0"][:-1]) | (part["f1"][1:] != part["f1"][:-1])
        count += int(np.count_nonzero(new))
    return count


def _check_space(folder: Path, needed: int) -> None:
    """Raise `InputError` where a mapped file would not fit: the system ends who writes into it."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder.parent}: the subset takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free; make room, or choose another output"
        )
