"""Rows of the generator counted by threads, solved and certified, with the seconds of each part."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.independent import certify_buckets
from benchmarks.machine import Clock
from benchmarks.web import Web
from m4.buckets import Buckets
from m4.certificate import Certificate
from m4.counting import PatternCounter
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.problem import Problem
from m4.table_dual import TableDual

BLOCK = 250_000  # rows drawn and counted at a time


@dataclass(frozen=True)
class Counting:
    """Seconds of counting rows into buckets.

    `draw_and_count` and `merge` and `lay_out` are by the wall; `drawing` and `counting` are the
    processor's time of all threads, which tells how much of the first is the generator.
    """

    draw_and_count: float
    drawing: float
    counting: float
    merge: float
    lay_out: float

    @property
    def without_drawing(self) -> float:
        """Seconds by the wall, less the generator's part of the first step."""
        share = self.counting / (self.drawing + self.counting)
        return self.draw_and_count * share + self.merge + self.lay_out


@dataclass(frozen=True, eq=False)
class Solving:
    """What the solver found, its certificate from the independent path, and seconds of both."""

    seconds: float
    passes: int
    infeasible: bool
    kernel_gap: float
    certificate: Certificate
    certifying: float


def count(web: Web, rows: int, threads: int) -> tuple[Buckets, Counting]:
    """Draw rows 0..rows and count them, each thread with a counter of its own."""
    _warm_up(web)
    clock = Clock()
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda part: _part(web, rows, part, threads), range(threads)))
    together = clock.lap()
    drawing = sum(part[1] for part in parts)
    counting = sum(part[2] for part in parts)
    counters = [part[0] for part in parts]
    del parts
    whole = counters.pop(0)
    while counters:
        whole.merge(counters.pop())
    merging = clock.lap()
    buckets = whole.buckets()
    return buckets, Counting(together, drawing, counting, merging, clock.lap())


def counted_patterns(web: Web, rows: int) -> Patterns:
    """The distinct patterns of rows 0..rows, as counting gives them: without idle labels."""
    buckets, _ = count(web, rows, 1)
    return next(buckets.patterns(block=rows))


def _part(web: Web, rows: int, part: int, threads: int) -> tuple[PatternCounter, float, float]:
    """Every so many-th block; a counter with processor seconds of drawing and of counting."""
    counter = _counter(web)
    drawing = counting = 0.0
    for first in range(part * BLOCK, rows, threads * BLOCK):
        start = time.thread_time()
        drawn = web.rows(first, min(first + BLOCK, rows))
        between = time.thread_time()
        counter.add(*drawn)
        drawing += between - start
        counting += time.thread_time() - between
    return counter, drawing, counting


def _counter(web: Web) -> PatternCounter:
    return PatternCounter(web.s, web.observed, web.rates.shape[1])


def _warm_up(web: Web) -> None:
    """Loads compiled code."""
    counter, other = _counter(web), _counter(web)
    counter.add(*web.rows(0, 1000))
    other.add(*web.rows(1000, 2000))
    counter.merge(other)
    dual = TableDual(web.usual_problem(), counter.buckets())
    dual.evaluate(np.zeros(dual.size), 0.0)


def solve(problem: Problem, buckets: Buckets, threads: int) -> Solving:
    """Solve, then certify without the solver's kernels."""
    clock = Clock()
    optimum = maximise(TableDual(problem, buckets, threads=threads))
    solving = clock.lap()
    duals = optimum.point.duals
    certificate = certify_buckets(problem, buckets, duals, threads=threads)
    return Solving(
        solving,
        optimum.passes,
        optimum.infeasible,
        optimum.point.relative_gap,
        certificate,
        clock.lap(),
    )
