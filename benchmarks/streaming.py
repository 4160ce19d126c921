"""The published streaming method against the optimum, after more and more passes over the data."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.counted import counted_patterns
from benchmarks.machine import Clock, describe
from benchmarks.report import Report, Table, exact, power, progress, seconds, times
from benchmarks.web import Web
from m4.certificate import Certificate, certify, repair_rate
from m4.moments import Moments
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.problem import Problem
from m4.solving import dual_of
from m4.streaming import solve_by_streaming
from m4.totals import measure, weights

LEAVES_OUT = (
    "Constants: the paper does not publish its step; ours is the default of `m4.streaming`.",
    "The last iterate, which is worse than the mean of the iterates that is shown.",
    "Both work on counted patterns: the streaming method visits each as often as it has examples, "
    "in a random order, the fast path once a pass.",
    "Counting, and repairing the rate of both and certifying them afterwards, which is not timed.",
)


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes
    ----------
    rows : examples
    shapes : (values, labels)
    passes : of the streaming method, each from the start
    markdown : file that the report is also written to
    """

    rows: float = 1e6
    shapes: tuple[tuple[int, int], ...] = ((2, 20), (5, 100))
    passes: tuple[int, ...] = (1, 5, 50)
    markdown: Path | None = None


@dataclass(frozen=True, eq=False)
class Weighed:
    """Weights of the patterns, (N,), that multipliers give at a repaired rate, certified."""

    weights: np.ndarray
    certificate: Certificate

    @classmethod
    def by(cls, problem: Problem, patterns: Patterns, duals: np.ndarray) -> "Weighed":
        rate_dual = repair_rate(problem, duals, patterns)
        chosen = weights(problem, duals, rate_dual, patterns)
        totals = measure(problem, patterns, chosen)
        return cls(chosen, certify(problem, duals, rate_dual, totals))


def compare(shape: tuple[int, int], settings: Settings) -> Table:
    """One line for the optimum, one for each number of passes."""
    web = Web.shaped(shape)
    problem = web.usual_problem()
    patterns = counted_patterns(web, int(settings.rows))
    maximise(dual_of(problem, patterns))  # loads compiled code
    clock = Clock()
    optimum = maximise(dual_of(problem, patterns))
    solving = clock.lap()
    best = Weighed.by(problem, patterns, optimum.point.duals)
    lines = [_line("m4", optimum.passes, solving, 1.0, best, best, patterns)]
    solve_by_streaming(Moments.of(problem, patterns.rows(slice(0, 100))), np.ones(100), passes=1)
    for passes in settings.passes:
        clock.lap()
        duals = solve_by_streaming(Moments.of(problem, patterns), patterns.counts, passes=passes)
        taken = clock.lap()
        progress(f"{shape}, {passes} passes: {taken:.2f} s")
        found = Weighed.by(problem, patterns, duals.constraints)
        lines.append(_line("streaming", passes, taken, taken / solving, found, best, patterns))
    columns = (
        "method", "passes", "seconds", "ratio", "relative gap", "largest violation",
        "distance of the weights",
    )  # fmt: skip
    caption = (
        f"{power(settings.rows)} rows of {shape[0]} values and {shape[1]} labels, "
        f"{len(patterns.counts):,} patterns; the distance is the root mean square over examples."
    )
    return Table(caption, columns, tuple(lines))


def _line(
    method: str,
    passes: int,
    taken: float,
    ratio: float,
    found: Weighed,
    best: Weighed,
    patterns: Patterns,
) -> tuple[str, ...]:
    distance = math.sqrt(patterns.share @ (found.weights - best.weights) ** 2)
    certificate = found.certificate
    return (
        method,
        str(passes),
        seconds(taken),
        times(ratio),
        exact(certificate.relative_gap),
        exact(certificate.max_violation),
        exact(distance),
    )


def main(settings: Settings) -> Report:
    """Compare, and show the report."""
    machine = describe()
    tables = tuple(compare(shape, settings) for shape in settings.shapes)
    report = Report("The published streaming method", tables, LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
