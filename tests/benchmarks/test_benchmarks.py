"""Every benchmark at a tiny size, in this process; and that what it measures is what it says."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    billion,
    counted,
    disk,
    machine,
    marginals,
    passes,
    peer,
    peers,
    scaling,
    streaming,
)
from benchmarks.independent import certify_buckets
from benchmarks.machine import Ended
from benchmarks.report import Report, Table, exact, power, seconds, times
from benchmarks.web import SHAPES, Web
from m4.buckets import Buckets
from m4.certificate import certify, repair_rate
from m4.errors import InputError
from m4.patterns import Patterns
from m4.reference import NoSolution
from m4.table_dual import TableDual
from m4.totals import measure, weights
from pipelines.tables import to_patterns

SHAPE = (2, 20)
ROWS = 3_000


@pytest.fixture(scope="module")
def web() -> Web:
    return Web.shaped(SHAPE)


@pytest.fixture(scope="module")
def patterns(web: Web) -> Patterns:
    return web.patterns(0, ROWS).distinct()[0]


def cells(table: Table, column: str) -> list[str]:
    """One column of a table."""
    at = table.columns.index(column)
    return [row[at] for row in table.rows]


class TestWeb:
    def test_rows_do_not_depend_on_blocks(self, web: Web) -> None:
        whole = web.patterns(0, 1_000)
        parts = [web.patterns(0, 400), web.patterns(400, 1_000)]
        assert np.array_equal(np.vstack([part.s for part in parts]), whole.s)
        assert np.array_equal(np.vstack([part.y.toarray() for part in parts]), whole.y.toarray())

    def test_shares_are_those_stated(self, web: Web) -> None:
        group, ends, labels = web.rows(0, 200_000)
        found = np.bincount(group, minlength=len(web.frequency)) / 200_000
        assert np.abs(found - web.frequency).max() < 5 * np.sqrt(0.25 / 200_000)
        assert len(labels) == ends[-1]
        assert 0.9 < len(labels) / 200_000 / SHAPES[SHAPE] < 1.1

    @pytest.mark.parametrize("shape", SHAPES)
    def test_usual_problems_fit_the_rows(self, shape: tuple[int, int]) -> None:
        web = Web.shaped(shape)
        problem = web.usual_problem()
        problem.check(web.patterns(0, 10))
        assert problem.tolerance == ("absolute" if shape[1] >= 1000 else "relative")

    def test_other_shapes_take_the_labels_of_the_nearest(self) -> None:
        near = Web.shaped((5, 300)).patterns(0, 20_000)
        assert 1.5 < near.y.sum() / 20_000 < 2.5


class TestMachine:
    def test_names_itself_and_its_libraries(self) -> None:
        said = machine.describe(("numpy", "no-such-library"))
        assert f"numpy {np.__version__}" in said
        assert "no-such-library missing" in said

    def test_peak_of_memory_sees_what_was_freed(self) -> None:
        code = (
            "from benchmarks.machine import peak_memory; before = peak_memory(); "
            "held = b'1' * 200_000_000; del held; print(peak_memory() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=machine.ROOT, capture_output=True, check=True
        )
        assert 190e6 < int(done.stdout) < 210e6

    @pytest.mark.parametrize(
        ("statement", "how"),
        [
            ("pass", "done"),
            ("raise ValueError('too bad')", "failed"),
            ("import signal, time; signal.setitimer(0, .1); time.sleep(60)", "time"),
            ("held = b'1' * 400_000_000; import time; time.sleep(60)", "memory"),
        ],
    )
    def test_a_process_ends_as_it_should(self, statement: str, how: str) -> None:
        ended = machine.run_limited("timeit", statement, memory=200e6)
        assert ended.how == how
        assert ("too bad" in ended.error) == (how == "failed")
        assert ("loop" in ended.output) == (how == "done")


class TestReport:
    def test_markdown_has_everything(self, tmp_path: Path) -> None:
        table = Table("A caption.", ("rows", "ratio"), (("1e4", "12"),))
        report = Report("Title", (table,), ("This.",), "a machine")
        report.show(tmp_path / "report.md")
        lines = (tmp_path / "report.md").read_text().splitlines()
        assert lines[0] == "### Title"
        assert "| rows | ratio |" in lines
        assert "| 1e4  | 12    |" in lines
        assert "- This." in lines
        assert lines[-1] == "On a machine."

    def test_a_line_of_other_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match="has not the columns"):
            Table("", ("one", "two"), (("1",),))

    def test_numbers(self) -> None:
        assert [seconds(x) for x in (0.000243, 0.5, 12.345, 415.2)] == [
            "0.000243",
            "0.500",
            "12.3",
            "415",
        ]
        assert [power(x) for x in (1e4, 2.5e6)] == ["1e4", "2.5e6"]
        assert exact(3.14e-9) == "3.1e-09"
        assert [times(x) for x in (0.516, 3.14, 250.4)] == ["0.52", "3.1", "250"]


class TestCounted:
    def test_counts_what_was_drawn_on_any_number_of_threads(self, web: Web) -> None:
        rows = 2 * counted.BLOCK + 1_000
        one, _ = counted.count(web, rows, 1)
        three, timing = counted.count(web, rows, 3)
        assert one.examples == rows
        assert np.array_equal(one.labels, three.labels)
        assert np.array_equal(one.counts, three.counts)
        assert timing.without_drawing < timing.draw_and_count + timing.merge + timing.lay_out

    def test_patterns_are_those_of_the_rows_without_idle_labels(self, web: Web) -> None:
        found = counted.counted_patterns(web, ROWS)
        rows = web.patterns(0, ROWS)
        known = rows.observed.any(axis=1)
        busy = rows.rows(known).distinct()[0]
        assert len(found.counts) == len(busy.counts) + 1
        assert found.examples == ROWS
        idle = ~found.observed.any(axis=1)
        assert found.counts[idle].tolist() == [(~known).sum()]
        assert found.y[idle].nnz == 0
        labels = found.counts @ found.y
        assert np.array_equal(labels, rows.rows(known).y.sum(axis=0))

    def test_certificate_of_buckets_is_that_of_patterns(self, web: Web, patterns: Patterns) -> None:
        problem = web.usual_problem()
        duals = np.random.default_rng(0).normal(0, 0.2, len(problem.layout.eps))
        rate_dual = repair_rate(problem, duals, patterns)
        totals = measure(problem, patterns, weights(problem, duals, rate_dual, patterns))
        expected = certify(problem, duals, rate_dual, totals)
        found = certify_buckets(problem, Buckets.of(patterns), duals, threads=2)
        assert found.primal == pytest.approx(expected.primal, rel=1e-12)
        assert found.dual == pytest.approx(expected.dual, rel=1e-12)
        assert found.max_violation == pytest.approx(expected.max_violation, rel=1e-9)
        assert found.rate_error < 1e-12

    def test_billion(self, tmp_path: Path) -> None:
        settings = billion.Settings(rows=2e4, shape=SHAPE, threads=2, markdown=tmp_path / "b.md")
        report = billion.main(settings)
        parts, asked, proof = report.tables
        assert cells(parts, "part") == ["draw and count", "merge", "lay out", "solve", "certify"]
        assert float(cells(asked, "ratio")[-1]) < 1.0  # the relative gap
        assert float(cells(proof, "gap")[0]) < 1e-10
        assert (tmp_path / "b.md").read_text() == report.markdown()


class TestPasses:
    def test_layout_holds_the_rows(self, web: Web) -> None:
        problem = web.usual_problem()
        duals = np.random.default_rng(1).normal(0, 0.2, len(problem.layout.eps))
        laid_out = TableDual(problem, passes.lay_out(web, ROWS)).evaluate(duals, 0.1)
        rows = TableDual(problem, Buckets.of(web.patterns(0, ROWS))).evaluate(duals, 0.1)
        assert laid_out.value == pytest.approx(rows.value, rel=1e-12)
        assert laid_out.moment == pytest.approx(rows.moment, abs=1e-14)

    def test_measures(self) -> None:
        report = passes.main(passes.Settings(rows=(2e4,), shapes=(SHAPE,), threads=(1, 2)))
        (table,) = report.tables
        assert cells(table, "threads") == ["1", "2"]
        passing, copying, ratio = (
            np.array(cells(table, column), dtype=float)
            for column in ("GB/s", "GB/s of a copy", "pass over copy")
        )
        assert ratio == pytest.approx(passing / copying, abs=0.02, rel=0.05)


def job(solver: str, form: peer.Form = "patterns", accuracy: float = 1e-8) -> peer.Job:
    return peer.Job(
        solver=solver, shape=SHAPE, rows=ROWS, form=form, accuracy=accuracy, limit=300.0
    )


class TestPeer:
    @pytest.mark.parametrize("form", ["rows", "patterns"])
    @pytest.mark.parametrize("solver", peer.OURS)
    def test_ours_are_accurate(self, solver: str, form: peer.Form) -> None:
        outcome = peer.run(job(solver, form))
        assert outcome.relative_gap < 1e-8
        assert outcome.passes
        assert (outcome.patterns == ROWS) == (form == "rows")

    @pytest.mark.parametrize("solver", ["CLARABEL", "OSQP", "L-BFGS-B on the dual"])
    def test_peers_find_the_same_optimum(self, solver: str) -> None:
        outcome = peer.run(job(solver, accuracy=1e-9))
        assert not outcome.problem
        assert outcome.relative_gap < peers.MATCHED
        assert outcome.violation < 1e-6

    @pytest.mark.parametrize("solver", ["SLSQP on the primal", "trust-constr on the primal"])
    def test_primal_methods_find_it_too(self, solver: str) -> None:
        web = Web.of(2, 3, mean_labels=1.0)
        problem, patterns = web.problem(), web.patterns(0, 500).distinct()[0]
        duals, _ = peer.SOLVERS[solver](problem, patterns, 1e-9)
        rate_dual = repair_rate(problem, duals.constraints, patterns)
        chosen = weights(problem, duals.constraints, rate_dual, patterns)
        totals = measure(problem, patterns, chosen)
        assert certify(problem, duals.constraints, rate_dual, totals).relative_gap < 1e-3

    def test_a_failure_is_an_outcome(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*given: object) -> None:
            raise NoSolution("user_limit")

        monkeypatch.setitem(peer.SOLVERS, "SCS", fails)
        assert peer.run(job("SCS")).problem == "user_limit"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers run here instead of in processes of their own."""

    def run(module: str, argument: str, *, memory: float) -> Ended:
        assert module == "benchmarks.peer"
        return Ended("done", peer.run(peer.Job.model_validate_json(argument)).model_dump_json(), "")

    monkeypatch.setattr(peers, "run_limited", run)


def ending(how: str, error: str = "") -> Callable[..., Ended]:
    return lambda module, argument, *, memory: Ended(how, "", error)  # type: ignore[arg-type]


class TestPeers:
    def test_compares(self, in_process: None) -> None:
        settings = peers.Settings(
            rows=(ROWS,), shapes=(SHAPE,), forms=("patterns",), solvers=("m4", "CLARABEL", "OSQP")
        )
        summary, details, raking = peers.main(settings).tables
        assert cells(summary, "which")[0] in ("CLARABEL", "OSQP")
        gaps = dict(zip(cells(details, "solver"), cells(details, "relative gap"), strict=True))
        assert float(gaps["m4"]) < 1e-8
        assert max(float(gap) for gap in gaps.values()) <= peers.MATCHED
        assert cells(details, "ratio to m4")[0] == "1"
        assert "m4" in cells(raking, "method")

    def test_tolerances_are_tightened_until_they_match(self, in_process: None) -> None:
        cell = peers.climb(job("CLARABEL"), peers.Settings(), 1e-4)
        assert cell.matched
        assert cell.accuracy < 1e-4
        looser = peers.run_job(job("CLARABEL", accuracy=10 * cell.accuracy), peers.Settings())
        assert not looser.matched

    @pytest.mark.parametrize(
        ("how", "reason"), [("time", "> 7 s"), ("memory", "> 3 GB"), ("failed", "failed: bad | no")]
    )
    def test_limits_and_failures_are_said_and_end_the_climb(
        self, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
    ) -> None:
        monkeypatch.setattr(peers, "run_limited", ending(how, "a trace\nbad | no"))
        settings = peers.Settings(
            rows=(1e3, 1e4), forms=("rows",), solvers=("OSQP",), limit=7, memory=3
        )
        comparison = peers.compare(SHAPE, "rows", settings)
        said = reason.replace("|", "/")
        table = peers.details(comparison)
        assert cells(table, "seconds") == [said, f"not run: {said} at 1e3"]
        assert cells(peers.summary([comparison]), "best peer") == ["none", "none"]

    def test_a_solver_that_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cvxpy.installed_solvers", lambda: ["OSQP"])
        settings = peers.Settings(rows=(1e3,), solvers=("PIQP",))
        table = peers.details(peers.compare(SHAPE, "rows", settings))
        assert cells(table, "seconds") == ["missing: not installed"]


class TestMarginals:
    def test_shares_are_met_and_the_cap_holds(self) -> None:
        s = marginals.known_people(5_000)
        assert len(s) == 5_000
        free = marginals.balance(s, marginals.LOOSE)
        capped = marginals.balance(s, 0.9 * free.weights.max())
        for weighted in (free, capped):
            assert weighted.largest_error(s, marginals.targets()) < 1e-9
            assert weighted.weights.mean() == pytest.approx(1.0)
        assert capped.weights.max() <= 0.9 * free.weights.max() + 1e-12
        assert capped.effective_sample_size < free.effective_sample_size < 1.0

    def test_raking_that_is_missing_is_said(self) -> None:
        table = marginals.table((2_000,), "no-such-python")
        assert cells(table, "method")[0] == "balance, raking: missing"
        assert len(table.rows) == 3

    def test_raking_costs_more_than_ours(self) -> None:
        if not marginals.has_raking(sys.executable):
            pytest.skip("`balance` is not installed beside this project")
        s = marginals.known_people(5_000)
        raked = marginals.rake(s, sys.executable)
        assert raked.largest_error(s, marginals.targets()) < 1e-9
        free = marginals.balance(s, marginals.LOOSE)
        assert raked.effective_sample_size < free.effective_sample_size


class TestStreaming:
    def test_comes_nearer_but_not_there(self) -> None:
        settings = streaming.Settings(rows=ROWS, shapes=(SHAPE,), passes=(1, 50))
        (table,) = streaming.main(settings).tables
        ours, once, often = map(float, cells(table, "relative gap"))
        assert ours < 1e-8 < often < once
        ours, once, often = map(float, cells(table, "distance of the weights"))
        assert ours == 0.0 < often < once


class TestScaling:
    def test_grows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(module: str, argument: str, *, memory: float) -> Ended:
            given = scaling.Job.model_validate_json(argument)
            return Ended("done", scaling.run(given).model_dump_json(), "")

        monkeypatch.setattr(scaling, "run_limited", run)
        settings = scaling.Settings(
            rows=(2e3, 1e4), shape=(2, 20), values=(2,), labels=(10, 20), fixed=2e3, threads=1
        )
        rows, values, labels = scaling.main(settings).tables
        few, many = (int(each.replace(",", "")) for each in cells(rows, "patterns"))
        assert few < many <= 1e4
        assert cells(values, "shape") == ["(2, 20)"]
        assert cells(labels, "shape") == ["(2, 10)", "(2, 20)"]
        assert all(float(gap) < 1e-8 for gap in cells(rows, "relative gap"))

    def test_what_cannot_be_met_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(module: str, argument: str, *, memory: float) -> Ended:
            given = scaling.Job.model_validate_json(argument)
            return Ended("done", scaling.run(given).model_dump_json(), "")

        monkeypatch.setattr(scaling, "run_limited", run)
        table = scaling.table("", [((5, 999), 5_000)], scaling.Settings(threads=1))
        assert cells(table, "relative gap") == ["infeasible"]

    def test_limits_are_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scaling, "run_limited", ending("time"))
        settings = scaling.Settings(limit=5)
        table = scaling.table("", [((2, 20), 1000)], settings)
        assert table.rows[0][2] == "> 5 s"
        monkeypatch.setattr(scaling, "run_limited", ending("failed", "out of luck"))
        with pytest.raises(RuntimeError, match="out of luck"):
            scaling.table("", [((2, 20), 1000)], settings)


class TestDisk:
    def test_annotations_are_the_rows_of_the_web(self, web: Web) -> None:
        catalogue = disk.catalogue_of(SHAPE)
        table = disk.annotations(web, catalogue, 100, 600)
        read, drawn = to_patterns(table, catalogue), web.patterns(100, 600)
        assert np.array_equal(read.s, drawn.s)
        assert np.array_equal(read.observed, drawn.observed)
        assert (read.y != drawn.y).nnz == 0
        assert table["key"][0].as_py() == "000000100"
        assert len(set(table["uid"].to_pylist())) == 500
        assert {len(uid) for uid in table["uid"].to_pylist()} == {32}
        sources = np.array(table["attribute 0:source"].is_valid())
        assert np.array_equal(sources, drawn.observed[:, 0])

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_catalogue_states_the_usual_problem(self, shape: tuple[int, int]) -> None:
        catalogue, problem = disk.catalogue_of(shape), Web.shaped(shape).usual_problem()
        assert catalogue.targets.tolist() == pytest.approx(problem.targets)
        assert catalogue.tolerances.mode == problem.tolerance
        assert catalogue.tolerances.association == problem.eps_d
        assert len(catalogue.label_names) == shape[1]

    def test_counts_and_solves(self, tmp_path: Path) -> None:
        settings = disk.Settings(rows=ROWS, shape=SHAPE, shards=3, processes=1, folder=tmp_path)
        (table,) = disk.main(settings).tables
        figures = dict(zip(cells(table, "part"), cells(table, "seconds"), strict=True))
        assert float(figures["certificate"]) < 1e-8
        assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.slow
def test_peers_in_processes_of_their_own() -> None:
    settings = peers.Settings(
        rows=(ROWS,), shapes=(SHAPE,), forms=("patterns",), solvers=("m4", "CLARABEL", "HIGHS")
    )
    _, details, _ = peers.main(settings).tables
    assert float(cells(details, "relative gap")[0]) < 1e-8
    peers.main(peers.Settings(rows=(1e5,), shapes=(SHAPE,), forms=("rows",), limit=1))


@pytest.mark.slow
def test_scaling_in_processes_of_its_own() -> None:
    settings = scaling.Settings(rows=(1e4, 1e5), values=(2, 5), labels=(20,), fixed=1e4)
    rows, values, labels = scaling.main(settings).tables
    assert [len(table.rows) for table in (rows, values, labels)] == [2, 2, 1]
    assert all(float(gap) < 1e-8 for gap in cells(rows, "relative gap"))


def test_errors_of_the_generator_reach_the_user(web: Web) -> None:
    with pytest.raises(InputError, match="2 sensitive values and 20 labels"):
        Web.shaped((5, 100)).problem().check(web.patterns(0, 10))
