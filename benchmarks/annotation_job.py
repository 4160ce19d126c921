"""Does the Beam job annotate as fast as a plain loop over the same shards in as many processes?"""

import io
import json
import resource
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import tyro
from numpy.random import default_rng

from benchmarks.machine import Clock, describe
from benchmarks.report import Report, Table, progress, seconds, times
from m4.catalogue import load_catalogue
from pipelines.annotation import AnnotationJob, annotate_shard
from pipelines.annotators.making import Models, make_annotators, settings_digest
from pipelines.beam import BeamSettings
from pipelines.settings import AnnotateSettings
from pipelines.shards import ShardRef, find_shards
from pipelines.stages import annotate

BILLION = 1e9
LEAVES_OUT = (
    "Pictures are not looked at: {size} random bytes stand for each. With a model the share of the "
    "job's own work is smaller still.",
    "Shards are on a local disk and in its cache.",
    "The loop does the same work on each shard, but no more: nobody finds out what is missing, "
    "watches progress or writes run.json.",
    "Both start their processes within the time that is shown. Processor seconds are those of all "
    "of them, and of this process.",
)


@dataclass(frozen=True)
class Settings:
    """What is annotated, and by how many processes.

    Attributes
    ----------
    shards, samples : number of shards, and of samples in each
    processes : of the job and of the loop
    repeats : runs of each, in turns; the best of each counts
    catalogue : what is looked for
    picture : bytes of each picture
    markdown : file that the report is also written to
    """

    shards: int = 40
    samples: int = 10_000
    processes: int = 2
    repeats: int = 2
    catalogue: str = "builtin:people"
    picture: int = 3000
    markdown: Path | None = None


WHO = ("a woman", "a man", "two people", "a girl", "an old man", "a dog", "the policewoman")
DOES = ("working as a nurse", "riding a bicycle", "with a chef's knife", "at a desk", "cooking")
WHERE = ("in a kitchen", "in front of a school", "on the beach", "", "at night", "in the city")


def write_shards(folder: Path, settings: Settings) -> None:
    """Write shards of pictures, captions and json that a web crawl could have."""
    draw = default_rng(0)
    picture = draw.bytes(settings.picture)
    folder.mkdir(parents=True)
    for shard in range(settings.shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in range(settings.samples):
                key = f"{shard:05d}{row:04d}"
                words = [words[draw.integers(len(words))] for words in (WHO, DOES, WHERE)]
                metadata = {"uid": draw.bytes(16).hex(), "width": 640, "height": 480}
                for name, content in (
                    (f"{key}.jpg", picture),
                    (f"{key}.txt", " ".join(words).strip().encode()),
                    (f"{key}.json", json.dumps(metadata).encode()),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


_work: tuple[AnnotationJob, Sequence[object]] | None = None


def _start(job: AnnotationJob, settings: AnnotateSettings) -> None:
    global _work
    _work = (job, make_annotators(settings, job.catalogue, Models()))


def _one(shard: ShardRef) -> int:
    assert _work is not None  # `_start` has made it
    job, annotators = _work
    return annotate_shard(shard, job, annotators).rows  # type: ignore[arg-type]


def by_loop(settings: AnnotateSettings) -> None:
    """The plain loop: a pool of processes, largest shards first."""
    catalogue = load_catalogue(settings.catalogue)
    digest = settings_digest(settings, catalogue)
    job = AnnotationJob(settings.run, catalogue, settings.fusion, digest)
    shards = sorted(find_shards(settings.shards), key=lambda shard: -shard.size)
    with get_context("spawn").Pool(settings.beam.processes, _start, (job, settings)) as pool:
        for _ in pool.imap_unordered(_one, shards):
            pass
        pool.close()
        pool.join()


def _processor_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(work: Callable[[AnnotateSettings], object], settings: AnnotateSettings) -> tuple:
    """Wall and processor seconds of annotating everything from nothing."""
    shutil.rmtree(settings.run, ignore_errors=True)
    before, clock = _processor_seconds(), Clock()
    work(settings)
    return clock.lap(), _processor_seconds() - before


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe(("apache-beam", "pyarrow", "numpy"))
    samples = settings.shards * settings.samples
    ways = {"plain loop": by_loop, "Beam job": annotate}
    best: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder) / "shards", settings)
        progress(f"{samples:,} samples written")
        for _ in range(settings.repeats):
            for name, way in ways.items():
                chosen = AnnotateSettings(
                    shards=(f"{folder}/shards",),
                    catalogue=settings.catalogue,
                    run=f"{folder}/{name}",
                    annotators=("captions",),
                    beam=BeamSettings(processes=settings.processes),
                )
                taken = measure(way, chosen)
                best[name] = min(best.get(name, taken), taken)
                progress(f"{name}: {taken[0]:.1f} s, {taken[1]:.1f} s of the processors")
    wall, used = best["plain loop"]
    rows = tuple(
        (
            name,
            seconds(best[name][0]),
            times(best[name][0] / wall),
            seconds(best[name][1]),
            times(best[name][1] / used),
            f"{samples / best[name][1]:,.0f}",
            f"{BILLION / samples * best[name][1] / 3600:,.0f}",
        )
        for name in ways
    )
    columns = (
        "way", "seconds", "ratio", "processor seconds", "ratio", "samples per processor second",
        "core-hours for a billion pairs",
    )  # fmt: skip
    report = Report(
        "The job against a plain loop",
        (
            Table(
                f"{samples:,} samples in {settings.shards} shards, captions read with "
                f"{settings.catalogue}, {settings.processes} processes.",
                columns,
                rows,
            ),
        ),
        tuple(sentence.format(size=settings.picture) for sentence in LEAVES_OUT),
        machine,
    )
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
