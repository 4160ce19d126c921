"""The optimum of all data from a sample and a few full passes."""

import numpy as np
import pytest

from benchmarks.web import Web
from m4.buckets import Buckets
from m4.counting import PatternCounter
from m4.dual import Anchor, Dual, Point, Tilt
from m4.full_passes import SampleDual, maximise_by_passes
from m4.optimum import maximise
from m4.problem import Problem
from m4.table_dual import TableDual

ROWS, SAMPLE = 300_000, 20_000
WEB = Web.of(2, 20, mean_labels=1.0, seed=1)


def drawn(rows: int) -> Buckets:
    counter = PatternCounter(WEB.s, WEB.observed, 20)
    counter.add(*WEB.rows(0, rows))
    return counter.buckets()


@pytest.fixture(scope="module")
def everything() -> Buckets:
    return drawn(ROWS)


@pytest.fixture(scope="module")
def sample() -> Buckets:
    return drawn(SAMPLE)


def of(buckets: Buckets) -> SampleDual:
    def make(problem: Problem, tilt: Tilt | None, anchor: Anchor | None) -> Dual:
        return TableDual(problem, buckets, tilt=tilt, anchor=anchor)

    return make


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize(("penalty", "slack"), [(None, "l1"), (0.05, "l1"), (2.0, "l2")])
def test_passes_reach_the_optimum_of_all_data(
    tolerance: str, penalty: float | None, slack: str, everything: Buckets, sample: Buckets
) -> None:
    change = {"tolerance": tolerance, "penalty": penalty, "slack": slack, "eps_d": 0.003}
    problem = WEB.problem().model_copy(update=change)
    exact = maximise(TableDual(problem, everything)).point
    seen: list[Point] = []
    full = TableDual(problem, everything)
    optimum = maximise_by_passes(
        full, of(sample), SAMPLE, progress=lambda number, point: seen.append(point)
    )
    assert optimum.point.relative_gap < 1e-7
    assert optimum.point.value == pytest.approx(exact.value, abs=1e-9)
    assert abs(optimum.point.rate_error) < 1e-11
    assert len(seen) <= 16
    # The sample alone is far from the optimum: it is the passes that get there.
    assert seen[0].gap > 1e3 * optimum.point.gap


def test_a_label_that_the_sample_never_saw_is_balanced(everything: Buckets) -> None:
    """Its curvature in the sample is zero: the full one, which passes bring, stands in."""
    counter = PatternCounter(WEB.s, WEB.observed, 20)
    group, ends, labels = WEB.rows(0, SAMPLE)
    keep = labels != 3
    before = np.concatenate([[0], np.cumsum(keep)])
    counter.add(group, before[ends], labels[keep])
    problem = WEB.problem()
    optimum = maximise_by_passes(TableDual(problem, everything), of(counter.buckets()), SAMPLE)
    exact = maximise(TableDual(problem, everything)).point
    assert optimum.point.value == pytest.approx(exact.value, abs=1e-7)
    assert optimum.point.violation.max() < 1e-6


def test_infeasible_constraints_are_proved_so(everything: Buckets, sample: Buckets) -> None:
    problem = WEB.problem(eta=0.99, tolerance=0.0)
    assert maximise(TableDual(problem, everything)).infeasible
    assert maximise_by_passes(
        TableDual(problem, everything), of(sample), SAMPLE, most=60
    ).infeasible


def test_a_good_start_saves_passes(everything: Buckets, sample: Buckets) -> None:
    problem = WEB.problem()
    exact = maximise(TableDual(problem, everything)).point
    full = TableDual(problem, everything)
    passes = []
    maximise_by_passes(
        full,
        of(sample),
        SAMPLE,
        start=(exact.duals, exact.rate_dual),
        progress=lambda number, point: passes.append(number),
    )
    assert passes == [1]
