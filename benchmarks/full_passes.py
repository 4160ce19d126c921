"""Solving on a sample, corrected by full passes: what each pass brings."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.counted import count
from benchmarks.machine import describe
from benchmarks.report import Report, Table, exact, power
from benchmarks.web import SHAPES, Web
from m4.dual import Point
from m4.full_passes import maximise_by_passes
from m4.solving import processors
from m4.table_dual import TableDual

LEAVES_OUT = (
    "Reading: all data is counted here, and a pass goes over its patterns; the steps do not know.",
)


@dataclass(frozen=True)
class Settings:
    """Sizes and shapes.

    Attributes
    ----------
    rows : examples
    samples : examples of the samples
    shapes : (values, labels)
    markdown : file that the report is also written to
    """

    rows: float = 5e6
    samples: tuple[float, ...] = (1e4, 1e5, 1e6)
    shapes: tuple[tuple[int, int], ...] = ((2, 20), (5, 100))
    markdown: Path | None = None


def looks(web: Web, rows: int, sample: int, full: TableDual) -> list[Point]:
    """What every pass saw."""
    buckets = count(web, sample, processors())[0]
    seen: list[Point] = []
    maximise_by_passes(
        full,
        lambda problem, tilt, anchor: TableDual(problem, buckets, tilt=tilt, anchor=anchor),
        sample,
        progress=lambda number, point: seen.append(point),
    )
    return seen


def main(settings: Settings) -> Report:
    """Print violation and gap after every pass, for samples of several sizes."""
    tables = []
    for values, labels in settings.shapes:
        web = Web.of(values, labels, mean_labels=SHAPES[values, labels])
        rows = int(settings.rows)
        everything = count(web, rows, processors())[0]
        lines = []
        for sample in map(int, settings.samples):
            full = TableDual(web.problem(), everything, threads=processors())
            seen = looks(web, rows, sample, full)
            lines.append(
                (
                    power(sample),
                    ", ".join(exact(float(point.violation.max())) for point in seen[:7]),
                    f"{exact(seen[-1].relative_gap)} after {len(seen)}",
                )
            )
        tables.append(
            Table(
                f"{power(rows)} rows of {values} values and {labels} labels.",
                ("sample", "largest violation after passes 1, 2, 3, ...", "relative gap"),
                tuple(lines),
            )
        )
    report = Report("Solving by passes", tuple(tables), LEAVES_OUT, describe())
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
