"""From embeddings on disk to marks by several heads, against the matrix product alone."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from threadpoolctl import threadpool_limits

from benchmarks.machine import Clock, describe
from benchmarks.report import Report, Table, progress, seconds, times
from m4.catalogue import Attribute, Catalogue, Value
from pipelines.annotators.embedding_tables import EmbeddingTables
from pipelines.annotators.embeddings import EmbeddingAnnotator
from pipelines.annotators.marks import Batch
from pipelines.batches import CAPTIONS
from pipelines.shards import Sample, SampleSpan
from vision.calibrated import Calibration, Isotonic, Platt
from vision.heads import PERSON, Head
from vision.thresholds import Thresholds

Kind = Literal["npy", "npz", "compressed npz", "parquet"]
Numbers = Literal["float16", "float32"]

BILLION = 1e9
HOUR = 3600.0
KEY = "l14_img"
ATTRIBUTES = {"gender": 2, "age": 4, "skin tone": 3}

LEAVES_OUT = (
    "Computing the embeddings, which somebody has done already.",
    "Reading the shards for keys and captions, fusing with other annotators, and writing the "
    "annotations; `benchmarks.annotation_job` has those.",
    "The disk: tables are read again and again, so from the page cache.",
    "Parquet as pyarrow writes it where nothing else is said, with dictionaries; written without "
    "(`use_dictionary=False`), half precision is read five times as fast.",
    "The product alone has its numbers in memory, and as a copy in single precision where it needs "
    "one; it gives neither calibrated probabilities nor decisions.",
)


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes
    ----------
    rows : samples of a shard
    shards : tables
    dimension : numbers in an embedding
    kinds, numbers : of tables
    threads : of the matrix products; annotate has a process for each core, so 1
    repeats : timings of each, of which the least counts
    folder : where the temporary tables are written; the system's place where left out
    markdown : file that the report is also written to
    """

    rows: int = 10_000
    shards: int = 4
    dimension: int = 768
    kinds: tuple[Kind, ...] = ("npy", "npz", "compressed npz", "parquet")
    numbers: tuple[Numbers, ...] = ("float16", "float32")
    threads: int = 1
    repeats: int = 5
    folder: Path | None = None
    markdown: Path | None = None


def catalogue() -> Catalogue:
    """Attributes whose values exclude each other."""
    return Catalogue(
        name="embeddings",
        purpose="benchmark",
        sensitive={
            name: Attribute(
                describes="drawn",
                values={
                    f"value {j}": Value(target=1 / count, terms=(f"{name} {j}",))
                    for j in range(count)
                },
            )
            for name, count in ATTRIBUTES.items()
        },
    )


def heads(dimension: int) -> list[Head]:
    """One of a person and one of each attribute, with random weights; age is isotonic."""
    generator = np.random.default_rng(0)
    knots = np.linspace(-0.1, 0.1, 60)
    isotonic = Isotonic(
        x=tuple(knots.tolist()), y=tuple(np.linspace(0.01, 0.99, len(knots)).tolist())
    )
    platt = Platt(slope=40.0, intercept=1.0)

    def head(attribute: str, values: Sequence[str], calibration: Calibration) -> Head:
        weights = generator.normal(size=(len(values), dimension))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        exclusive = attribute != PERSON
        thresholds = Thresholds(lower=None if exclusive else 0.1, upper=0.9)
        return Head(
            attribute=attribute,
            values=tuple(values),
            exclusive=exclusive,
            model="drawn",
            dimension=dimension,
            bias=(0.0,) * len(values),
            calibrations=(calibration,) * len(values),
            thresholds=(thresholds,) * len(values),
            weights=tuple(map(tuple, weights.tolist())),
        )

    named = {name: each.values for name, each in catalogue().sensitive.items()}
    return [
        head(PERSON, (PERSON,), platt),
        *(head(name, list(v), isotonic if name == "age" else platt) for name, v in named.items()),
    ]


def write_table(folder: Path, stem: str, array: np.ndarray, uids: list[str], kind: Kind) -> None:
    """Write a table of embeddings of one kind."""
    table = pa.table({"uid": uids})
    if kind == "npy":
        np.save(folder / f"{stem}.npy", array)
    elif kind == "npz":
        np.savez(folder / f"{stem}.npz", l14_img=array)
    elif kind == "compressed npz":
        np.savez_compressed(folder / f"{stem}.npz", l14_img=array)
    else:
        flat = pa.array(array.reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
        table = table.append_column(KEY, lists)
    pq.write_table(table, folder / f"{stem}.parquet")


@dataclass(frozen=True, eq=False)
class Drawn:
    """Shards of samples and their embeddings, (rows, d) each."""

    arrays: list[np.ndarray]
    samples: list[list[Sample]]

    @classmethod
    def of(cls, settings: Settings, numbers: Numbers) -> "Drawn":
        generator = np.random.default_rng(1)
        shape = (settings.rows, settings.dimension)
        arrays = [
            generator.standard_normal(shape, dtype=np.float32).astype(numbers)
            for _ in range(settings.shards)
        ]
        samples = [
            [
                Sample(f"{part:016x}{row:016x}", f"{row:08d}", SampleSpan(0, 0), "", {})
                for row in range(settings.rows)
            ]
            for part in range(settings.shards)
        ]
        return cls(arrays, samples)

    def write(self, folder: Path, kind: Kind) -> None:
        for part, (array, samples) in enumerate(zip(self.arrays, self.samples, strict=True)):
            write_table(folder, f"{part:05d}", array, [each.uid for each in samples], kind)

    def annotate(self, annotator: EmbeddingAnnotator) -> list[np.ndarray]:
        """The whole path: open each table, find the rows, score, calibrate, decide."""
        values = []
        for part, samples in enumerate(self.samples):
            annotator.begin(f"{part:05d}")
            for first in range(0, len(samples), CAPTIONS):
                values.append(annotator.annotate(Batch(samples[first : first + CAPTIONS])).values)
        return values

    def open(self, annotator: EmbeddingAnnotator) -> None:
        """The part of it that opens the tables."""
        for part in range(len(self.samples)):
            annotator.begin(f"{part:05d}")

    def multiply(self, weights: np.ndarray) -> list[np.ndarray]:
        """What cannot be left out: the product, in single precision."""
        return [array.astype(np.float32, copy=False) @ weights.T for array in self.arrays]


def least_seconds(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The least time of each of several works, in turns, so that all meet the same machine."""
    least = [float("inf")] * len(works)
    for _ in range(repeats + 1):  # the first round is for the caches, and seldom the least
        for number, work in enumerate(works):
            clock = Clock()
            work()
            least[number] = min(least[number], clock.lap())
    return least


def compare(numbers: Numbers, settings: Settings) -> Table:
    """One line for each kind of table."""
    drawn, asked = Drawn.of(settings, numbers), heads(settings.dimension)
    weights = np.array([row for head in asked for row in head.weights], dtype=np.float32)
    lines = []
    for kind in settings.kinds:
        with tempfile.TemporaryDirectory(dir=settings.folder) as name:
            drawn.write(Path(name), kind)
            tables = EmbeddingTables(name, None if kind == "npy" else KEY)
            annotator = EmbeddingAnnotator(catalogue(), asked, tables, True)
            works = (
                partial(drawn.annotate, annotator),
                partial(drawn.open, annotator),
                partial(drawn.multiply, weights),
            )
            found = least_seconds(works, settings.repeats)
        whole, opening, product = (each / (settings.rows * settings.shards) for each in found)
        progress(f"{numbers} {kind}: {1e6 * whole:.2f} microseconds a row")
        lines.append(
            (
                kind,
                f"{1 / whole:,.0f}",
                f"{1 / product:,.0f}",
                times(whole / product),
                f"{opening / whole:.0%}",
                seconds(BILLION * whole * settings.threads / HOUR),
            )
        )
    columns = ("table", "rows/s", "product, rows/s", "ratio", "opening", "core-hours for 1e9")
    caption = (
        f"{settings.shards} tables of {settings.rows:,} embeddings of {settings.dimension} "
        f"{numbers}, {len(asked)} heads with {len(weights)} values, {settings.threads} "
        f"thread{'s' if settings.threads > 1 else ''}. Ratio: time of the whole path over the "
        "product's. Opening: its part that opens tables, with their uids."
    )
    return Table(caption, columns, tuple(lines))


def main(settings: Settings) -> Report:
    """Compare, and show the report."""
    machine = describe(("numpy", "pyarrow"))
    pa.set_cpu_count(settings.threads)  # that decode parquet
    with threadpool_limits(settings.threads):
        tables = tuple(compare(numbers, settings) for numbers in settings.numbers)
    report = Report("Marks from embeddings", tables, LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
