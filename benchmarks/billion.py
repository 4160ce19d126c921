"""A billion rows on one small machine: counted, solved, and certified by an independent path."""

import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.counted import BLOCK, Counting, Solving, count, solve
from benchmarks.machine import GIGABYTE, describe, peak_memory
from benchmarks.report import Report, Table, exact, power, progress, seconds
from benchmarks.web import Web
from m4.buckets import Buckets
from m4.solving import processors

SECONDS = 300.0  # what counting and solving may take
MEMORY = 12.0  # gigabytes
GAP = 1e-8
SAMPLE = 2_000_000  # rows drawn without being counted

LEAVES_OUT = (
    "Reading: rows are drawn in memory, by the generator, as fast as it can. The generator's share "
    "of `draw and count` is measured by each thread's processor time.",
    "Compiling and importing; the memory of both is in the peak.",
    "The certificate is by `m4.totals` (numpy and scipy) over the same counted patterns: it does "
    "not share the solver's kernels, but it does share the counter.",
)


@dataclass(frozen=True)
class Settings:
    """One shape and size in a process, so that the peak of memory is its own.

    Attributes
    ----------
    rows : examples
    shape : (values, labels)
    threads : that draw, count, solve and certify; all processors where left out
    markdown : file that the report is also written to
    """

    rows: float = 1e9
    shape: tuple[int, int] = (5, 100)
    threads: int | None = None
    markdown: Path | None = None


@dataclass(frozen=True, eq=False)
class Done:
    """What it took; memory in gigabytes, when all was counted and at its peak."""

    counting: Counting
    solving: Solving
    threads: int
    counted: float
    memory: float


def draw_alone(web: Web, rows: int) -> float:
    """Million rows that a thread draws in a second of the processor, in blocks as they are counted.

    The processor's time, not the wall's: it does not depend on what else the machine does.
    """
    web.rows(0, 1000)
    start = time.thread_time()
    for first in range(0, rows, BLOCK):
        web.rows(first, min(first + BLOCK, rows))
    return rows / (time.thread_time() - start) / 1e6


def parts(rows: int, settings: Settings, buckets: Buckets, done: Done) -> Table:
    """Seconds of each part."""
    counting, solving = done.counting, done.solving
    share = counting.drawing / (counting.drawing + counting.counting)
    return Table(
        f"{power(rows)} rows of {settings.shape[0]} values and {settings.shape[1]} labels, "
        f"{len(buckets.counts):,} patterns, {done.threads} threads.",
        ("part", "seconds", "of which"),
        (
            ("draw and count", seconds(counting.draw_and_count), f"{share:.0%} the generator"),
            ("merge", seconds(counting.merge), "one thread"),
            ("lay out", seconds(counting.lay_out), "one thread"),
            ("solve", seconds(solving.seconds), f"{solving.passes} passes"),
            ("certify", seconds(solving.certifying), "independent path"),
        ),
    )


def ratios(done: Done) -> Table:
    """What was measured over what was asked for."""
    counting, solving = done.counting, done.solving
    together = counting.draw_and_count + counting.merge + counting.lay_out + solving.seconds
    without = counting.without_drawing + solving.seconds
    gap = solving.certificate.relative_gap
    lines = (
        ("count and solve, the generator included", together, SECONDS, "s"),
        ("count and solve without the generator", without, SECONDS, "s"),
        (f"peak memory ({done.counted:.2f} GB before solving)", done.memory, MEMORY, "GB"),
    )
    return Table(
        "Against what was asked for.",
        ("what", "measured", "asked for", "ratio"),
        (
            *(
                (what, f"{seconds(found)} {unit}", f"{asked:g} {unit}", f"{found / asked:.2f}")
                for what, found, asked, unit in lines
            ),
            ("relative gap, certified", exact(gap), exact(GAP), exact(gap / GAP)),
        ),
    )


def proof(solving: Solving) -> Table:
    """The certificate in full."""
    certificate = solving.certificate
    return Table(
        "The certificate.",
        ("primal", "dual", "gap", "largest violation", "error of the rate", "gap by the kernels"),
        (
            (
                f"{certificate.primal:.10f}",
                f"{certificate.dual:.10f}",
                exact(certificate.gap),
                exact(certificate.max_violation),
                exact(certificate.rate_error),
                exact(solving.kernel_gap),
            ),
        ),
    )


def main(settings: Settings) -> Report:
    """Count, solve, certify, and show the report."""
    rows, threads = int(settings.rows), settings.threads or processors()
    machine = describe()
    web = Web.shaped(settings.shape)
    drawn = draw_alone(web, min(SAMPLE, rows))
    progress(f"drawing alone: {drawn:.1f} million rows a second of the processor")
    buckets, counting = count(web, rows, threads)
    progress(f"counted: {counting}, {len(buckets.counts):,} patterns")
    counted = peak_memory() / GIGABYTE
    solving = solve(web.usual_problem(), buckets, threads)
    if solving.infeasible:
        raise SystemExit("the constraints cannot be met on so few rows; give more")
    progress(f"solved in {solving.seconds:.1f} s, {solving.passes} passes")
    done = Done(counting, solving, threads, counted, peak_memory() / GIGABYTE)
    report = Report(
        f"{power(rows)} rows; drawing alone, {drawn:.1f} million a second of the processor",
        (parts(rows, settings, buckets, done), ratios(done), proof(solving)),
        LEAVES_OUT,
        machine,
    )
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
