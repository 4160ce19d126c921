"""The solver against general solvers and against raking, at matched accuracy, in one run.

Each peer works in a process of its own, under a limit of time and one of memory. It starts at a
loose tolerance, which is tightened tenfold until the certificate of its multipliers has a relative
gap of at most 1e-6: the time that counts is that of the first run that reaches it, and of no other.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import tyro

from benchmarks import marginals
from benchmarks.machine import GIGABYTE, describe, installed, run_limited
from benchmarks.peer import GENERIC, OURS, SOLVERS, THROUGH_CVXPY, Form, Job, Outcome
from benchmarks.report import Report, Table, exact, power, progress, seconds, times
from m4.optimum import ACCURACY

MATCHED = 1e-6  # relative gap that a peer has to reach
OURS_MATCHED = 1e-8  # and ours
LADDER = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
DENSE = 10_000  # rows above which the dense methods of scipy are not tried

LEAVES_OUT = (
    "Clarabel, PIQP, OSQP, SCS and HiGHS are called through cvxpy, in the scaling that suits them "
    "best (`m4.reference`); the time that cvxpy takes to compile the problem is in theirs.",
    "Imports, drawing the data, a first solve of a tiny problem and the certificate are not timed, "
    "but all that `m4 with certificate` does is: it is `solve`, with weights of all rows, bias "
    "tables and policy.",
    "Runs at looser tolerances, which a user of a peer would have to make to find the right one.",
    f"The primal methods of scipy above {power(DENSE)} rows, and a solver at more rows than those "
    "at which it was over a limit or failed.",
    "Every figure is of a single run; small times vary by tens of percent.",
)


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes
    ----------
    rows : sizes
    shapes : (values, labels)
    forms : "rows": examples as they come; "patterns": counted before the clock starts
    solvers : ours are `m4` and `m4 with certificate`; all where left out
    limit : seconds that a run may take
    memory : gigabytes that it may hold
    balance_python : an interpreter that has Meta's `balance`
    markdown : file that the report is also written to
    """

    rows: tuple[float, ...] = (1e4, 1e5, 1e6)
    shapes: tuple[tuple[int, int], ...] = ((2, 20), (5, 100), (10, 1000))
    forms: tuple[Form, ...] = ("rows", "patterns")
    solvers: tuple[str, ...] = tuple(SOLVERS)
    limit: float = 120.0
    memory: float = 8.0
    balance_python: str = sys.executable
    markdown: Path | None = None


@dataclass(frozen=True)
class Cell:
    """What one solver did on one problem: an outcome, or why there is none."""

    solver: str
    accuracy: float
    outcome: Outcome | None = None
    reason: str = ""

    @property
    def gap(self) -> float:
        return self.outcome.relative_gap if self.outcome is not None else math.inf

    @property
    def matched(self) -> bool:
        return self.gap <= (OURS_MATCHED if self.solver in OURS else MATCHED)


def run_job(job: Job, settings: Settings) -> Cell:
    """Run one job in a process of its own."""
    ended = run_limited("benchmarks.peer", job.model_dump_json(), memory=settings.memory * GIGABYTE)
    if ended.how == "done":
        outcome = Outcome.model_validate_json(ended.output.strip().splitlines()[-1])
        if not outcome.problem:
            return Cell(job.solver, job.accuracy, outcome)
        reason = f"failed: {_short(outcome.problem)}"
    elif ended.how == "failed":
        said = ended.error.strip().splitlines() or ["died without a word"]
        reason = f"failed: {_short(said[-1])}"
    else:
        limit = f"{settings.limit:g} s" if ended.how == "time" else f"{settings.memory:g} GB"
        reason = f"> {limit}"
    return Cell(job.solver, job.accuracy, reason=reason)


def _short(message: str) -> str:
    """The first sentence, fit for a table."""
    return message.split(". ")[0].replace("|", "/")[:60]


def climb(job: Job, settings: Settings, start: float) -> Cell:
    """Tighten the tolerance from `start` until the accuracy is matched.

    Where it never is, or a tighter run fails or is over a limit, the most accurate run stands.
    """
    best = Cell(job.solver, start, reason="not run")
    for accuracy in LADDER[LADDER.index(start) :]:
        cell = run_job(job.model_copy(update={"accuracy": accuracy}), settings)
        _say(job, cell)
        if cell.outcome is None:
            return cell if best.outcome is None else best
        best = cell if cell.gap < best.gap else best
        if cell.matched or job.solver in OURS:
            break
    return best


def _say(job: Job, cell: Cell) -> None:
    done = cell.outcome
    result = f"{done.seconds:.3f} s, gap {done.relative_gap:.1e}" if done else cell.reason
    progress(f"{job.shape} {power(job.rows)} {job.form}, {job.solver} {cell.accuracy:g}: {result}")


@dataclass(frozen=True)
class Comparison:
    """All solvers on all sizes of one shape and form; cells by (solver, rows)."""

    shape: tuple[int, int]
    form: Form
    cells: dict[tuple[str, int], Cell]

    def sizes(self) -> list[int]:
        return list(dict.fromkeys(rows for _, rows in self.cells))

    def ours(self, rows: int) -> Outcome | None:
        """What m4 did, where it matched the accuracy."""
        cell = self.cells.get(("m4", rows))
        return cell.outcome if cell is not None and cell.matched else None

    def peers(self, rows: int) -> dict[str, Outcome]:
        """What the others did, where they matched it."""
        return {
            solver: cell.outcome
            for (solver, size), cell in self.cells.items()
            if size == rows and solver not in OURS and cell.matched and cell.outcome is not None
        }


def compare(shape: tuple[int, int], form: Form, settings: Settings) -> Comparison:
    """Run all solvers on all sizes of a shape."""
    cells = {}
    for solver in settings.solvers:
        start, stopped = LADDER[0], _missing(solver)
        for rows in map(int, settings.rows):
            if stopped:
                cell = Cell(solver, start, reason=stopped)
            elif solver in GENERIC[1:] and rows > DENSE:
                cell = Cell(solver, start, reason="not run")
            else:
                job = Job(
                    solver=solver,
                    shape=shape,
                    rows=rows,
                    form=form,
                    accuracy=start,
                    limit=settings.limit,
                )
                cell = climb(job, settings, start)
                start = cell.accuracy  # a larger problem needs no looser one
                if cell.outcome is None:
                    stopped = f"not run: {cell.reason} at {power(rows)}"
            cells[solver, rows] = cell
    return Comparison(shape, form, cells)


def _missing(solver: str) -> str:
    import cvxpy  # 0.8 s

    there = solver not in THROUGH_CVXPY or solver in cvxpy.installed_solvers()
    return "" if there else "missing: not installed"


def details(comparison: Comparison) -> Table:
    """One line for each size and solver."""
    columns = (
        "rows", "solver", "seconds", "ratio to m4", "relative gap", "largest violation",
        "its tolerance", "peak memory",
    )  # fmt: skip
    lines = []
    for rows in comparison.sizes():
        ours = comparison.ours(rows)
        for (solver, size), cell in comparison.cells.items():
            if size == rows:
                lines.append(_line(rows, solver, cell, ours))
    counted = {
        power(rows): cell.outcome.patterns
        for (_, rows), cell in comparison.cells.items()
        if cell.outcome is not None
    }
    sizes = ", ".join(f"{patterns:,} at {rows}" for rows, patterns in counted.items())
    values, labels = comparison.shape
    given = f"patterns: {sizes}" if comparison.form == "patterns" else "rows as they come"
    return Table(f"{values} values, {labels} labels; {given}.", columns, tuple(lines))


def _line(rows: int, solver: str, cell: Cell, ours: Outcome | None) -> tuple[str, ...]:
    done = cell.outcome
    if done is None:
        return (power(rows), solver, cell.reason, *["-"] * 5)
    return (
        power(rows),
        solver,
        seconds(done.seconds) + ("" if cell.matched else " (not matched)"),
        times(done.seconds / ours.seconds) if ours and cell.matched else "-",
        exact(done.relative_gap),
        exact(done.violation),
        exact(ACCURACY) if solver in OURS else f"{cell.accuracy:g}",
        f"{done.memory / GIGABYTE:.2f} GB",
    )


def summary(comparisons: Sequence[Comparison]) -> Table:
    """Ours, the best peer, and the ratio between them, for every problem."""
    lines = []
    for comparison in comparisons:
        for rows in comparison.sizes():
            ours, peers = comparison.ours(rows), comparison.peers(rows)
            best = min(peers, key=lambda solver: peers[solver].seconds, default=None)
            least = peers[best].seconds if best else None
            lines.append(
                (
                    f"{power(rows)} {comparison.shape}",
                    comparison.form,
                    seconds(ours.seconds) if ours else "not matched",
                    seconds(least) if least else "none",
                    best or "-",
                    times(least / ours.seconds) if least and ours else "-",
                )
            )
    caption = "Seconds to multipliers, ours and of the best peer that matched the accuracy."
    columns = ("rows, shape", "form", "m4", "best peer", "which", "ratio")
    return Table(caption, columns, tuple(lines))


def main(settings: Settings) -> Report:
    """Compare, and show the report."""
    machine = describe()
    comparisons = [
        compare(shape, form, settings) for shape, form in product(settings.shapes, settings.forms)
    ]
    raking = marginals.table(tuple(map(int, settings.rows)), settings.balance_python)
    versions = ", ".join(
        f"{name} {installed(name) or 'missing'}"
        for name in ("clarabel", "piqp", "osqp", "scs", "highspy")
    )
    report = Report(
        f"General solvers at a relative gap of {MATCHED:g}, limits {settings.limit:g} s and "
        f"{settings.memory:g} GB",
        (summary(comparisons), *map(details, comparisons), raking),
        LEAVES_OUT,
        f"{machine}; {versions}",
    )
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
