"""From annotations on disk to a certified policy: the stages count and solve, all included."""

import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import tyro

from benchmarks.machine import GIGABYTE, Clock, describe, peak_memory
from benchmarks.report import Report, Table, exact, power, progress, seconds, times
from benchmarks.web import ATTRIBUTES, Web
from m4.catalogue import Attribute, Catalogue, Concept, Tolerances, Value
from m4.solving import processors
from pipelines.beam import BeamSettings
from pipelines.settings import CountSettings, SolveSettings
from pipelines.stages import count, solve
from pipelines.tables import Commit, annotation_schema, read_table, write_table

SECONDS = 120.0  # what counting and solving may take
SOURCE = "captions"
DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)

LEAVES_OUT = (
    "Annotating, which reads the shards themselves, and writing the tables. They are read again "
    "right after they are written, so from the page cache where it holds them.",
    "Python's start. Beam's import and the start of its workers are in the count.",
    "The peak of memory is of the main process and of the largest worker, apart.",
)


@dataclass(frozen=True)
class Settings:
    """What is counted and solved.

    Attributes
    ----------
    rows : examples
    shape : (values, labels)
    shards : tables that the rows are in
    processes : Beam workers of the count; all processors where left out
    folder : where the temporary run directory is made; the system's place where left out
    markdown : file that the report is also written to
    """

    rows: float = 1e7
    shape: tuple[int, int] = (5, 100)
    shards: int = 100
    processes: int | None = None
    folder: Path | None = None
    markdown: Path | None = None


def catalogue_of(shape: tuple[int, int]) -> Catalogue:
    """A catalogue of the web's columns, which states the usual problem of the benchmarks."""
    values, labels = shape
    asked = Web.shaped(shape).usual_problem()
    return Catalogue(
        name="web",
        purpose="benchmark",
        sensitive={
            f"attribute {a}": Attribute(
                describes="drawn",
                values={
                    f"value {k}": Value(target=1.0 / size, terms=(f"word {a} {k}",))
                    for k in range(size)
                },
            )
            for a, size in enumerate(ATTRIBUTES[values])
        },
        labels={f"label {r}": Concept(terms=(f"label {r}",)) for r in range(labels)},
        tolerances=Tolerances(
            mode=asked.tolerance, representation=asked.eps_r, association=asked.eps_d
        ),
    )


def annotations(web: Web, catalogue: Catalogue, first: int, after: int) -> pa.Table:
    """Rows [first, after) of the web as the stage `annotate` would write them."""
    group, ends, labels = web.rows(first, after)
    rows = after - first
    random = np.random.default_rng([web.seed, first])
    offset = first + np.arange(rows)
    columns = [
        _text(_hexadecimal(random.integers(0, 256, (rows, 16), dtype=np.uint8))),
        _text(DIGITS[offset[:, None] // 10 ** np.arange(8, -1, -1) % 10]),
        pa.array(offset * 10_240),
        pa.array(random.integers(4_000, 9_000, rows)),
    ]
    known = web.observed[group]
    columns += [
        pa.nulls(rows, pa.string()),
        pa.array(np.ones(rows, dtype=np.float32), mask=~known.any(axis=1)),
    ]
    values = web.s[group].astype(np.float32)
    columns += [
        pa.array(values[:, k], mask=~known[:, k]) for k in range(len(catalogue.value_names))
    ]
    source = pa.array(np.full(rows, SOURCE, dtype=object), pa.string())
    begins = np.cumsum([0, *ATTRIBUTES[known.shape[1]]])[:-1]
    columns += [_where(known[:, begin], source) for begin in begins]
    columns.append(_where(known.any(axis=1), source))
    lists = pa.array(ends.astype(np.int32))
    columns += [
        pa.ListArray.from_arrays(lists, pa.array(labels.astype(np.int32))),
        pa.ListArray.from_arrays(lists, pa.repeat(SOURCE, len(labels))),
        pa.array(np.ones(rows, dtype=np.float32)),
        pa.nulls(rows, pa.binary(16)),
    ]
    return pa.Table.from_arrays(columns, schema=annotation_schema(catalogue))


def _where(known: np.ndarray, given: pa.Array) -> pa.Array:
    return pa.compute.if_else(pa.array(known), given, pa.scalar(None, pa.string()))


def _hexadecimal(numbers: np.ndarray) -> np.ndarray:
    """(N, B) bytes as (N, 2 B) characters."""
    return DIGITS[np.stack([numbers >> 4, numbers & 15], axis=2).reshape(len(numbers), -1)]


def _text(characters: np.ndarray) -> pa.Array:
    """Strings of equal length from (N, L) characters."""
    rows, length = characters.shape
    ends = np.arange(0, (rows + 1) * length, length, dtype=np.int32)
    content = np.ascontiguousarray(characters)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(content))


def write(run: Path, settings: Settings) -> Path:
    """Write the annotations of a run, and its catalogue, whose path is returned."""
    web, catalogue = Web.shaped(settings.shape), catalogue_of(settings.shape)
    path = run / "catalogue.yaml"
    catalogue.save(path)
    rows = int(settings.rows)
    edges = np.linspace(0, rows, settings.shards + 1).astype(int)
    for shard in range(settings.shards):
        first, after = int(edges[shard]), int(edges[shard + 1])
        table = annotations(web, catalogue, first, after)
        commit = Commit(
            shard=f"{shard:05d}.tar",
            size=(after - first) * 10_240,
            modified=0.0,
            settings="drawn",
            rows=after - first,
        )
        write_table(str(run / "annotations"), f"{shard:05d}", table, commit)
    return path


def read(run: Path, catalogue: Catalogue, shards: int) -> None:
    """Read what a count needs, and do nothing with it: no count can be faster in one thread."""
    columns = [*catalogue.value_names, "labels", "utility"]
    for shard in range(shards):
        read_table(str(run / "annotations"), f"{shard:05d}", columns)


def main(settings: Settings) -> Report:
    """Write the tables, then count and solve them, and show the report."""
    machine, processes = describe(), settings.processes or processors()
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        run, clock = Path(folder), Clock()
        path = write(run, settings)
        size = sum(file.stat().st_size for file in run.glob("annotations/*.parquet"))
        writing = clock.lap()
        progress(f"written: {size / GIGABYTE:.2f} GB in {writing:.1f} s")
        read(run, catalogue_of(settings.shape), settings.shards)
        reading = clock.lap()
        beam = BeamSettings(processes=processes)
        count(CountSettings(run=folder, catalogue=str(path), beam=beam))
        counting = clock.lap()
        progress(f"counted in {counting:.1f} s")
        rate = Web.shaped(settings.shape).usual_problem().eta
        solution = solve(SolveSettings(run=folder, catalogue=str(path), eta=rate))
        solving = clock.lap()
        policy = (run / "policy.json").stat().st_size
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    together, certificate = counting + solving, solution.certificate
    rows = (
        ("write the annotations", seconds(writing), f"{size / GIGABYTE:.2f} GB of parquet"),
        ("read them, no more", seconds(reading), "one thread after the other"),
        ("count", seconds(counting), f"{times(counting / reading)} times the reading"),
        ("solve", seconds(solving), f"{solution.passes} passes; {policy / 1e3:.0f} kB of policy"),
        (
            "count and solve",
            seconds(together),
            f"{together / SECONDS:.2f} of the {SECONDS:g} s asked for",
        ),
        ("peak memory", f"{peak_memory() / GIGABYTE:.2f} GB", f"worker {worker / GIGABYTE:.2f} GB"),
        (
            "certificate",
            exact(certificate.relative_gap),
            f"largest violation {exact(certificate.max_violation)}",
        ),
    )
    caption = (
        f"{power(settings.rows)} rows of {settings.shape[0]} values and {settings.shape[1]} labels "
        f"in {settings.shards} tables; {processes} workers."
    )
    table = Table(caption, ("part", "seconds", "note"), rows)
    report = Report("From annotations on disk to a policy", (table,), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
