"""A billion rows on one small machine: counted, solved, and certified by an independent path."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.counted import count, solve
from benchmarks.machine import GIGABYTE, Clock, describe, peak_memory
from benchmarks.report import Report, Table, exact, power, progress, seconds
from benchmarks.web import Web
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


def draw_alone(web: Web, rows: int) -> float:
    """Million rows a second that one thread draws."""
    web.rows(0, 1000)
    clock = Clock()
    web.rows(0, rows)
    return rows / clock.lap() / 1e6


def main(settings: Settings) -> Report:
    """Count, solve, certify, and show the report."""
    rows, threads = int(settings.rows), settings.threads or processors()
    machine = describe()
    web = Web.shaped(settings.shape)
    problem = web.usual_problem()
    drawn = draw_alone(web, min(SAMPLE, rows))
    progress(f"one thread draws {drawn:.1f} million rows a second")
    buckets, counting = count(web, rows, threads)
    progress(f"counted: {counting}, {len(buckets.counts):,} patterns")
    counted = peak_memory() / GIGABYTE
    solving = solve(problem, buckets, threads)
    progress(f"solved in {solving.seconds:.1f} s, {solving.passes} passes")
    certificate, memory = solving.certificate, peak_memory() / GIGABYTE
    together = counting.draw_and_count + counting.merge + counting.lay_out + solving.seconds
    share = counting.drawing / (counting.drawing + counting.counting)
    measured = Table(
        f"{power(rows)} rows of {settings.shape[0]} values and {settings.shape[1]} labels, "
        f"{len(buckets.counts):,} patterns, {threads} threads.",
        ("part", "seconds", "of which"),
        (
            ("draw and count", seconds(counting.draw_and_count), f"{share:.0%} the generator"),
            ("merge", seconds(counting.merge), "one thread"),
            ("lay out", seconds(counting.lay_out), "one thread"),
            ("solve", seconds(solving.seconds), f"{solving.passes} passes"),
            ("certify", seconds(solving.certifying), "independent path"),
        ),
    )
    ratios = Table(
        "Against what was asked for.",
        ("what", "measured", "asked for", "ratio"),
        (
            (
                "count and solve, the generator included",
                f"{seconds(together)} s",
                f"{SECONDS:g} s",
                f"{together / SECONDS:.2f}",
            ),
            (
                "count and solve without the generator",
                f"{seconds(counting.without_drawing + solving.seconds)} s",
                f"{SECONDS:g} s",
                f"{(counting.without_drawing + solving.seconds) / SECONDS:.2f}",
            ),
            (
                f"peak memory ({counted:.2f} GB before solving)",
                f"{memory:.2f} GB",
                f"{MEMORY:g} GB",
                f"{memory / MEMORY:.2f}",
            ),
            (
                "relative gap, certified",
                exact(certificate.relative_gap),
                exact(GAP),
                exact(certificate.relative_gap / GAP),
            ),
        ),
    )
    proof = Table(
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
    title = f"{power(rows)} rows; one thread alone draws {drawn:.1f} million a second"
    report = Report(title, (measured, ratios, proof), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
