"""What sampling does to a balanced set: realised moments against planned, by design of the sample.

python -m benchmarks.sampling --examples 1e5 1e6 1e7
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from scipy import sparse

from benchmarks.machine import GIGABYTE, Clock, describe, peak_memory
from benchmarks.report import Report, Table, exact, power, progress, seconds
from benchmarks.web import Web
from m4.patterns import Patterns
from m4.policy import Policy
from m4.realised import Realised, realised_totals
from m4.sampling import poisson_copies, uniform_draws
from m4.solving import solve
from m4.systematic import pattern_order, systematic_copies
from m4.thresholds import calibrated_copies

BLOCK = 1_000_000  # rows drawn and joined at a time
HASHED = 100_000  # uids whose hashing is timed

LEAVES_OUT = (
    "Draws come from a vectorised hash of the row; hashing uids takes the time said apart, "
    "whatever the design.",
    "Seconds are those of one sample from weights, patterns and draws in memory; systematic "
    "sampling sorts all examples, calibrated thresholds include every round. Reading annotations "
    "is left out: Poisson reads them once, calibrated thresholds once more for each round.",
    "The problem is hard: weights meet every tolerance to rounding, so all that is shown is noise "
    "of the draw.",
    "Memory is the most that the process held up to there, the making of the data included.",
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    examples : sizes, ascending
    shapes : (values, labels)
    tolerances : forms of the tolerance
    width : the tolerance itself
    eta : rate that is kept
    seeds : samples of each design
    orders : compare orders of the patterns for systematic sampling, not designs
    markdown : file that the report is also written to
    """

    examples: tuple[float, ...] = (1e5, 1e6)
    shapes: tuple[tuple[int, int], ...] = ((2, 20), (5, 100))
    tolerances: tuple[Literal["absolute", "relative"], ...] = ("absolute", "relative")
    width: float = 1e-3
    eta: float = 0.8
    seeds: int = 9
    orders: bool = False
    markdown: Path | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Examples as distinct patterns, and the row of each among them, (N,) int32."""

    patterns: Patterns
    inverse: np.ndarray


@dataclass(frozen=True, eq=False)
class Planned:
    """A policy for some data, with what designs take of it: weights and places, both (N,)."""

    policy: Policy
    drawn: Drawn
    weights: np.ndarray
    order: np.ndarray


def data_of(web: Web, examples: int) -> Drawn:
    """Rows of the generator, joined block by block; nobody's labels are left out, as by count."""
    blocks, inverses, rows = [], [], 0
    for first in range(0, examples, BLOCK):
        block = web.patterns(first, min(first + BLOCK, examples))
        seen = sparse.diags_array(block.observed.any(axis=1).astype(np.float64))
        y = sparse.csr_array(seen @ block.y)
        y.eliminate_zeros()
        joined, inverse = Patterns(
            block.s, block.observed, y, block.utility, block.counts
        ).distinct()
        blocks.append(joined)
        inverses.append((inverse + rows).astype(np.int32))
        rows += len(joined.counts)
    together = Patterns(
        np.concatenate([block.s for block in blocks]),
        np.concatenate([block.observed for block in blocks]),
        sparse.csr_array(sparse.vstack([block.y for block in blocks], format="csr")),
        np.concatenate([block.utility for block in blocks]),
        np.concatenate([block.counts for block in blocks]),
    )
    patterns, place = together.distinct()
    return Drawn(patterns, place.astype(np.int32)[np.concatenate(inverses)])


def draws_of(examples: int, seed: int) -> np.ndarray:
    """SplitMix64 of (seed, row): uniform in [0, 1), (N,) float64."""
    start = np.frombuffer(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "<u8")
    word = np.arange(1, examples + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    return ((word ^ (word >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def with_replacement(planned: Planned, seed: int) -> np.ndarray:
    """The usual weighted sampler: eta N draws, each example with probability q / sum q."""
    generator = np.random.default_rng(seed)
    ends = np.cumsum(planned.weights)
    many = round(float(ends[-1]))
    chosen = np.searchsorted(ends, np.sort(generator.random(many)) * ends[-1], side="right")
    return np.bincount(np.minimum(chosen, len(ends) - 1), minlength=len(ends))


def poisson(planned: Planned, seed: int) -> np.ndarray:
    return poisson_copies(planned.weights, draws_of(len(planned.weights), seed))


def calibrated(planned: Planned, seed: int) -> np.ndarray:
    data, draws = planned.drawn, draws_of(len(planned.weights), seed)
    return calibrated_copies(planned.policy, data.patterns, data.inverse, draws).copies


def systematic(planned: Planned, seed: int) -> np.ndarray:
    draws = draws_of(len(planned.weights), seed)
    start = float(uniform_draws([""], seed=seed)[0])
    return systematic_copies(planned.weights, draws, planned.order, start)


Design = Callable[[Planned, int], np.ndarray]
DESIGNS: Mapping[str, Design] = {
    "with replacement": with_replacement,
    "Poisson by hash": poisson,
    "calibrated thresholds": calibrated,
    "systematic in pattern order": systematic,
}


def in_order(order: np.ndarray) -> Design:
    """Systematic sampling in another order of the patterns, (D,)."""

    def draw(planned: Planned, seed: int) -> np.ndarray:
        return systematic(replace(planned, order=order[planned.drawn.inverse]), seed)

    return draw


def orders_of(planned: Planned) -> Mapping[str, Design]:
    """Systematic sampling in several orders of the patterns."""
    patterns = planned.drawn.patterns
    rank = pattern_order(patterns)
    nobody = np.zeros_like(patterns.s), np.zeros_like(patterns.observed)
    by_labels = pattern_order(replace(patterns, s=nobody[0], observed=nobody[1]))
    return {
        "attributes, then labels": in_order(rank),
        "labels, then attributes": in_order(by_labels * len(rank) + rank),
        "by weight": in_order(np.argsort(np.argsort(planned.policy.weights(patterns)))),
        "shuffled": in_order(np.random.default_rng(0).permutation(len(rank))),
    }


def plan(web: Web, drawn: Drawn, tolerance: str, settings: Settings) -> Planned:
    """Solve the problem, and lay out what designs take."""
    problem = web.problem(eta=settings.eta, tolerance=settings.width)
    problem = problem.model_copy(update={"tolerance": tolerance})
    solution = solve(problem, drawn.patterns)
    order = pattern_order(drawn.patterns)
    return Planned(solution.policy, drawn, solution.weights[drawn.inverse], order[drawn.inverse])


def measure(name: str, design: Design, planned: Planned, settings: Settings) -> tuple[str, ...]:
    """One line: violation beyond the tolerance over seeds, what it costs in time and memory."""
    problem, data = planned.policy.problem, planned.drawn
    found, timings = [], []
    for seed in range(settings.seeds):
        clock = Clock()
        copies = design(planned, seed)
        timings.append(clock.lap())
        totals = realised_totals(problem, data.patterns, copies, data.inverse)
        found.append(Realised.of(problem, totals))
    largest = [each.max_violation for each in found]
    return (
        name,
        exact(float(np.median(largest))),
        exact(max(largest)),
        exact(float(np.median([each.total_violation for each in found]))),
        f"{float(np.median([each.max_excess for each in found])):.4f}",
        f"{sum(each.violated == 0 for each in found)}/{settings.seeds}",
        exact(float(np.median([each.rate_error for each in found]))),
        seconds(float(np.median(timings))),
        f"{peak_memory() / GIGABYTE:.1f}",
    )


def seconds_of_hashing() -> float:
    """Seconds that a million uids take."""
    uids = [f"{row:032x}" for row in range(HASHED)]
    clock = Clock()
    uniform_draws(uids, seed=0)
    return clock.lap() * 1e6 / HASHED


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe()
    tables = []
    columns = (
        "order" if settings.orders else "design",
        "largest violation, median", "maximum", "sum of violations, median",
        "share beyond, median", "seeds that meet all", "rate off by, median", "seconds", "GB",
    )  # fmt: skip
    for examples in map(int, settings.examples):
        for shape in settings.shapes:
            web = Web.shaped(shape)
            drawn = data_of(web, examples)
            for tolerance in settings.tolerances:
                planned = plan(web, drawn, tolerance, settings)
                designs = orders_of(planned) if settings.orders else DESIGNS
                lines = []
                for name, design in designs.items():
                    lines.append(measure(name, design, planned, settings))
                    progress(f"{power(examples)} {shape} {tolerance}: {' '.join(lines[-1])}")
                caption = (
                    f"{power(examples)} examples, {shape[0]} values, {shape[1]} labels, "
                    f"{len(drawn.patterns.counts):,} patterns, {tolerance} tolerance "
                    f"{settings.width:g}, rate {settings.eta:g}"
                )
                tables.append(Table(caption, columns, tuple(lines)))
    hashing = f"A million uids are hashed in {seconds_of_hashing():.1f} s."
    report = Report("Realised against planned", tuple(tables), (*LEAVES_OUT, hashing), machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
