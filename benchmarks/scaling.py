"""How seconds, passes and memory grow: with the rows, with the values, with the labels."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.counted import count, solve
from benchmarks.machine import GIGABYTE, describe, limit_time, peak_memory, run_limited
from benchmarks.report import Report, Table, exact, power, progress, seconds, times
from benchmarks.web import Web
from m4.catalogue import Model
from m4.solving import processors

LEAVES_OUT = (
    "Counting includes drawing the rows; without the generator it is the share of the processor's "
    "time that the counters took.",
    "The certificate, which is computed for the gap that is shown, but not timed here.",
    "Peak memory is that of the whole process, about 0.25 GB of it the libraries.",
    "Every figure is of a single run, in a process of its own.",
)


class Job(Model):
    """One size to measure, under a limit of seconds in all."""

    shape: tuple[int, int]
    rows: int
    threads: int
    limit: float


class Outcome(Model):
    """What it took."""

    patterns: int
    counting: float
    without_drawing: float
    solving: float
    passes: int
    infeasible: bool
    relative_gap: float
    memory: int


@dataclass(frozen=True)
class Settings:
    """What is measured: rows at one shape, then values and labels at one number of rows.

    Attributes
    ----------
    rows : sizes at `shape`
    shape : (values, labels), which the others vary
    values, labels : numbers of them, at `fixed` rows
    threads : all processors where left out
    limit : seconds that one size may take
    memory : gigabytes that it may hold
    markdown : file that the report is also written to
    """

    rows: tuple[float, ...] = (1e5, 1e6, 1e7, 1e8)
    shape: tuple[int, int] = (5, 100)
    values: tuple[int, ...] = (2, 5, 10)
    labels: tuple[int, ...] = (20, 100, 300, 999)
    fixed: float = 1e6
    threads: int | None = None
    limit: float = 900.0
    memory: float = 12.0
    markdown: Path | None = None


def run(job: Job) -> Outcome:
    """Measure in this process. The time limit ends the process, by SIGALRM."""
    web = Web.shaped(job.shape)
    limit_time(job.limit)
    buckets, counting = count(web, job.rows, job.threads)
    solving = solve(web.usual_problem(), buckets, job.threads)
    limit_time(0)
    return Outcome(
        patterns=len(buckets.counts),
        counting=counting.draw_and_count + counting.merge + counting.lay_out,
        without_drawing=counting.without_drawing,
        solving=solving.seconds,
        passes=solving.passes,
        infeasible=solving.infeasible,
        relative_gap=solving.certificate.relative_gap,
        memory=peak_memory(),
    )


def table(caption: str, sizes: list[tuple[tuple[int, int], int]], settings: Settings) -> Table:
    """One line for each shape and size; the ratio is of seconds to those of the first line."""
    lines, first = [], 0.0
    for shape, rows in sizes:
        threads = settings.threads or processors()
        job = Job(shape=shape, rows=rows, threads=threads, limit=settings.limit)
        ended = run_limited(
            "benchmarks.scaling", job.model_dump_json(), memory=settings.memory * GIGABYTE
        )
        progress(f"{shape} {power(rows)}: {ended.how}")
        if ended.how == "failed":
            raise RuntimeError(f"{job} failed:\n{ended.error}")
        if ended.how != "done":
            limit = f"{settings.limit:g} s" if ended.how == "time" else f"{settings.memory:g} GB"
            lines.append((power(rows), str(shape), f"> {limit}", *["-"] * 7))
            continue
        outcome = Outcome.model_validate_json(ended.output.strip().splitlines()[-1])
        first = first or outcome.solving
        lines.append(
            (
                power(rows),
                str(shape),
                f"{outcome.patterns:,}",
                seconds(outcome.counting),
                seconds(outcome.without_drawing),
                seconds(outcome.solving),
                times(outcome.solving / first),
                str(outcome.passes),
                "infeasible" if outcome.infeasible else exact(outcome.relative_gap),
                f"{outcome.memory / GIGABYTE:.2f} GB",
            )
        )
    columns = (
        "rows", "shape", "patterns", "seconds to count", "without drawing", "to solve", "ratio",
        "passes", "relative gap", "peak memory",
    )  # fmt: skip
    return Table(caption, columns, tuple(lines))


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe()
    (values, labels), fixed = settings.shape, int(settings.fixed)
    report = Report(
        "How it grows",
        (
            table("Rows.", [(settings.shape, int(rows)) for rows in settings.rows], settings),
            table("Values.", [((each, labels), fixed) for each in settings.values], settings),
            table("Labels.", [((values, each), fixed) for each in settings.labels], settings),
        ),
        LEAVES_OUT,
        machine,
    )
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        print(run(Job.model_validate_json(sys.argv[1])).model_dump_json())
    else:
        main(tyro.cli(Settings))
