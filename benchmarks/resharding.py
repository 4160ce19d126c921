"""How fast half of some shards is copied into new ones, against `cat` and webdataset."""

import json
import resource
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import tyro

from benchmarks.machine import Clock, describe, peak_memory
from benchmarks.report import Report, Table, progress, seconds, times
from pipelines.beam import BeamSettings
from pipelines.blocks import Source, cut, write_block
from pipelines.resharding import ReshardSettings, reshard
from pipelines.shards import ShardRef
from pipelines.tables import Commit, committed, manifest_schema, write_table

SHARD = 10_000
SHARE = 0.5
MEGABYTE = 1e6
LEAVES_OUT = (
    "Shards and new shards are on one local disk, and as far as they fit in its cache. Where they "
    "do not, each page that is read or written costs the processor more, on virtual machines above "
    "all; cat too. Written files are synced by reshard alone, which is in its times.",
    "A rate is of samples that are written: cat writes all of them, the others half. Pictures are "
    "{picture:,} random bytes; with larger ones the disk decides, and the ratios fall towards 1.",
    "webdataset reads raw bytes, keeps half by key and writes them with its ShardWriter; it does "
    "not shuffle. The copy by cat is not a selection at all.",
    "Making the manifest, which is the work of apply; and Python's start. Beam's import and the "
    "start of its workers are in the times of the job.",
)


@dataclass(frozen=True)
class Settings:
    """What is copied.

    Attributes
    ----------
    sizes : numbers of samples, in shards of 10,000; the largest is also copied by two processes
    peers : samples of which all ways copy some
    picture : bytes of each picture
    folder : where shards are written, of which there must be room for the largest twice
    repeats : runs of each; the one with the least processor time counts
    markdown : file that the report is also written to
    """

    sizes: tuple[float, ...] = (1e4, 1e5, 1e6)
    peers: float = 1e5
    picture: int = 5300
    folder: Path | None = None
    repeats: int = 3
    markdown: Path | None = None


@dataclass(frozen=True)
class Taken:
    """What some work took: wall and processor seconds, and the most bytes of memory."""

    wall: float
    processor: float
    memory: int


def measured(work: Callable[..., None], *arguments: object) -> Taken:
    """Do some work in a process of its own, which has started."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, work, *arguments).result()


def _measure(work: Callable[..., None], *arguments: object) -> Taken:
    before, clock = _processor_seconds(), Clock()
    work(*arguments)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Taken(clock.lap(), _processor_seconds() - before, max(peak_memory(), children))


def _processor_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def write_shards(folder: Path, samples: int, picture: int) -> None:
    """Write shards, and a run directory whose manifest draws half of their samples."""
    draw = np.random.default_rng(0)
    content = draw.bytes(picture)
    (folder / "shards").mkdir(parents=True)
    for number in range(samples // SHARD):
        path = folder / "shards" / f"{number:05d}.tar"
        rows = []
        with open(path, "wb") as stream:
            for row in range(SHARD):
                key, uid = f"{number:05d}{row:04d}", draw.bytes(16).hex()
                start = stream.tell()
                for extension, piece in (
                    ("jpg", content),
                    ("txt", b"a woman working as a chef in a kitchen"),
                    ("json", json.dumps({"uid": uid, "width": 640}).encode()),
                ):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(piece)
                    stream.write(member.tobuf(tarfile.USTAR_FORMAT))
                    stream.write(piece + bytes(-len(piece) % 512))
                rows.append((uid, key, start, stream.tell() - start, int(draw.random() < SHARE)))
            stream.write(bytes(1024))
        _write_manifest(folder / "run" / "manifest", path, rows)


def _write_manifest(folder: Path, shard: Path, rows: list[tuple[str, str, int, int, int]]) -> None:
    schema = manifest_schema(weights=False)
    columns = [
        pa.array(column, kind)
        for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
    ]
    used = sum(row[-1] for row in rows)
    commit = Commit(
        shard=str(shard),
        size=shard.stat().st_size,
        modified=shard.stat().st_mtime,
        settings="benchmark",
        rows=len(rows),
        counts={"used": used, "copies": used, "most": 1},
    )
    write_table(str(folder), shard.stem, pa.Table.from_arrays(columns, schema=schema), commit)


def by_reshard(folder: Path, processes: int) -> None:
    """The job itself."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    beam = BeamSettings(processes=processes)
    reshard(ReshardSettings(run=str(folder / "run"), out=str(folder / "out"), beam=beam))


def by_blocks(folder: Path) -> None:
    """The work of the job, block after block."""
    shutil.rmtree(folder / "blocks", ignore_errors=True)
    settings = ReshardSettings(run=str(folder / "run"), out=str(folder / "blocks"))
    manifest = str(folder / "run" / "manifest")
    markers = list(committed(manifest))
    sources = [
        Source(stem, ShardRef(each.shard, each.size, each.modified), int(each.counts["copies"]))
        for stem, each in markers
    ]
    for block in cut(sources, 1, settings.layout):
        write_block(block, manifest, settings.out, settings.layout)


def by_cat(folder: Path, shards: int) -> None:
    """All bytes into one file."""
    paths = sorted((folder / "shards").glob("*.tar"))[:shards]
    with open(folder / "cat.out", "wb") as stream:
        subprocess.run(["cat", *map(str, paths)], stdout=stream, check=True)


def by_webdataset(folder: Path, shards: int) -> None:
    """Read every sample, keep half, write them again."""
    import webdataset

    out = folder / "webdataset"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    paths = [str(path) for path in sorted((folder / "shards").glob("*.tar"))[:shards]]
    samples = webdataset.WebDataset(paths, shardshuffle=False)
    kept = samples.select(lambda sample: int(sample["__key__"]) % 2 == 0)
    with webdataset.ShardWriter(str(out / "%06d.tar"), maxcount=SHARD, verbose=0) as writer:
        for sample in kept:
            writer.write(sample)


def best(repeats: int, work: Callable[..., None], *arguments: object) -> Taken:
    """The run with the least processor time."""
    taken = [measured(work, *arguments) for _ in range(repeats)]
    return min(taken, key=lambda each: each.processor)


def against_peers(settings: Settings, folder: Path) -> Table:
    """Rates of all ways, on the same shards."""
    shards = len(list((folder / "shards").glob("*.tar")))
    drawn = _drawn(folder)
    ways: tuple[tuple[str, int, Callable[..., None], tuple[object, ...]], ...] = (
        ("cat", shards * SHARD, by_cat, (folder, shards)),
        ("webdataset, read and write", shards * SHARD // 2, by_webdataset, (folder, shards)),
        ("reshard, the whole job", drawn, by_reshard, (folder, 1)),
        ("reshard, its work alone", drawn, by_blocks, (folder,)),
    )
    taken = {}
    for name, samples, work, arguments in ways:
        taken[name] = best(settings.repeats, work, *arguments), samples
        progress(f"{name}: {taken[name][0].processor:.1f} s of the processor")
    rates = {name: samples / each.processor for name, (each, samples) in taken.items()}
    rows = tuple(
        (
            name,
            f"{samples:,}",
            seconds(each.wall),
            seconds(each.processor),
            f"{rates[name]:,.0f}",
            times(rates[name] / rates["cat"]),
            times(rates[name] / rates["webdataset, read and write"]),
        )
        for name, (each, samples) in taken.items()
    )
    columns = (
        "way", "samples written", "seconds", "processor seconds", "samples per processor second",
        "times cat", "times webdataset",
    )  # fmt: skip
    caption = f"Half of {shards * SHARD:,} samples, and all of them with cat; one process."
    return Table(caption, columns, rows)


def over_sizes(settings: Settings, folders: dict[int, Path]) -> Table:
    """Time and memory of the job as data grows, and with two processes; and what cat takes."""
    rows = []
    for samples, folder in folders.items():
        copied = best(settings.repeats, by_cat, folder, samples // SHARD)
        one = best(settings.repeats, by_reshard, folder, 1)
        taken = {1: one}
        if samples == max(folders):
            taken[2] = best(settings.repeats, by_reshard, folder, 2)
        progress(f"{samples:,} samples: {one.wall:.1f} s")
        rows += [
            (
                f"{samples:,}",
                str(processes),
                seconds(each.wall),
                times(each.wall / one.wall),
                seconds(each.processor),
                times(_drawn(folder) / each.processor / (samples / copied.processor)),
                f"{each.memory / MEGABYTE:.0f}",
            )
            for processes, each in taken.items()
        ]
    columns = (
        "samples", "processes", "seconds", "ratio", "processor seconds", "rate, times cat's",
        "most memory, MB",
    )  # fmt: skip
    caption = (
        "The whole job. Rates are of samples written in a processor second, cat's of all samples "
        "of the same shards; memory is that of the largest process."
    )
    return Table(caption, columns, tuple(rows))


def _drawn(folder: Path) -> int:
    return sum(int(each.counts["copies"]) for _, each in committed(str(folder / "run/manifest")))


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe(("apache-beam", "pyarrow", "webdataset", "numpy"))
    sizes = sorted({int(size) for size in (*settings.sizes, settings.peers)})
    with tempfile.TemporaryDirectory(dir=settings.folder) as temporary:
        folders = {size: Path(temporary) / str(size) for size in sizes}
        for samples, folder in folders.items():
            write_shards(folder, samples, settings.picture)
            progress(f"{samples:,} samples written")
        report = Report(
            "Half of some shards, copied into new ones",
            (against_peers(settings, folders[int(settings.peers)]), over_sizes(settings, folders)),
            tuple(sentence.format(picture=settings.picture) for sentence in LEAVES_OUT),
            machine,
        )
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
