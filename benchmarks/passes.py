"""One pass over the data against a plain copy of the same bytes: how near the memory it runs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from threadpoolctl import threadpool_limits

from benchmarks.machine import describe, seconds_of
from benchmarks.report import Report, Table, power, progress, seconds
from benchmarks.web import Web
from m4.buckets import Buckets, label_type, pieces
from m4.problem import Problem
from m4.table_dual import TableDual

BLOCK = 1_000_000  # rows drawn at a time

LEAVES_OUT = (
    "Rows are as they come, not joined: joined patterns of the smallest shape fit in a cache "
    "however many rows there are. A pass over patterns costs the same per row.",
    "Joining would also drop the labels of rows that show nobody; here they are read.",
    "GB/s of a copy counts what is read; it writes as much.",
    "The least of five timings, at multipliers drawn at random, under which a part of the weights "
    "is at a bound.",
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    rows : sizes; the largest should be beyond the cache
    shapes : (values, labels)
    threads : numbers of them
    markdown : file that the report is also written to
    """

    rows: tuple[float, ...] = (1e6, 3e7)
    shapes: tuple[tuple[int, int], ...] = ((2, 20), (5, 100), (10, 1000))
    threads: tuple[int, ...] = (1, 2)
    markdown: Path | None = None


def lay_out(web: Web, rows: int) -> Buckets:
    """Rows of the generator in the solver's layout, none joined."""
    labels_of = label_type(web.rates.shape[1])
    groups, lengths, labels = [], [], []
    for first in range(0, rows, BLOCK):
        group, ends, ids = web.rows(first, min(first + BLOCK, rows))
        groups.append(group.astype(np.int16))
        lengths.append(np.diff(ends).astype(np.int16))
        labels.append(ids.astype(labels_of) + labels_of(1))
    group, length = np.concatenate(groups), np.concatenate(lengths)
    order = np.lexsort([length, group])
    begins = np.concatenate([[0], np.cumsum(length[:-1], dtype=np.int64)])[order]
    group, length = group[order], length[order]
    ends = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])
    place = np.repeat((begins - ends[:-1]).astype(np.int64), length) + np.arange(ends[-1])
    starts = pieces(group, length)
    return Buckets(
        web.s,
        web.observed,
        group[starts[:-1]].astype(np.int32),
        length[starts[:-1]].astype(np.int32),
        starts,
        ends[starts],
        np.concatenate(labels)[place],
        None,
        np.ones(rows),
        None,
        web.rates.shape[1],
    )


def seconds_of_pass(problem: Problem, buckets: Buckets, threads: int) -> float:
    """Of one look at multipliers."""
    dual = TableDual(problem, buckets, threads=threads)
    duals = np.random.default_rng(0).normal(0.0, 0.2, dual.size)
    return seconds_of(lambda: dual.evaluate(duals, 0.0))


def seconds_of_copy(buckets: Buckets, threads: int) -> float:
    """Of copying what a pass reads, divided evenly among threads."""
    given = [buckets.labels.view(np.uint8), buckets.counts.view(np.uint8)]
    parts = [part for array in given for part in np.array_split(array, threads)]
    targets = [np.zeros_like(part) for part in parts]

    def copy() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.copyto, targets, parts))

    return seconds_of(copy)


@threadpool_limits.wrap(limits=1, user_api="blas")  # as the solver does
def measure(shape: tuple[int, int], rows: int, settings: Settings) -> list[tuple[str, ...]]:
    """Lines of the table, one for each number of threads."""
    web = Web.shaped(shape)
    buckets, problem = lay_out(web, rows), web.usual_problem()
    lines: list[tuple[str, ...]] = []
    for threads in settings.threads:
        passing = seconds_of_pass(problem, buckets, threads)
        copying = seconds_of_copy(buckets, threads)
        progress(f"{shape} {power(rows)}, {threads} threads: {passing:.4f} s, copy {copying:.4f}")
        lines.append(
            (
                str(shape),
                power(rows),
                f"{buckets.nbytes / 1e6:.0f} MB",
                str(threads),
                seconds(passing),
                f"{rows / passing / 1e6:.0f}",
                f"{buckets.nbytes / passing / 1e9:.2f}",
                f"{buckets.nbytes / copying / 1e9:.2f}",
                f"{copying / passing:.2f}",
            )
        )
    return lines


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe()
    lines = [
        line
        for shape in settings.shapes
        for rows in settings.rows
        for line in measure(shape, int(rows), settings)
    ]
    columns = (
        "shape", "rows", "read", "threads", "seconds a pass", "million rows/s", "GB/s",
        "GB/s of a copy", "pass over copy",
    )  # fmt: skip
    caption = "A pass gives value and gradient of the dual. The last column is of rates."
    table = Table(caption, columns, tuple(lines))
    report = Report("One pass against a copy", (table,), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
