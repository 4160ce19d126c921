"""The sampling benchmark at a tiny size, and that its designs are what they are called."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import sampling
from benchmarks.sampling import DESIGNS, Drawn, Settings, data_of, draws_of, plan
from benchmarks.web import Web
from m4.realised import Realised, realised_totals

ROWS = 30_000


@pytest.fixture(scope="module")
def web() -> Web:
    return Web.shaped((2, 20))


@pytest.fixture(scope="module")
def drawn(web: Web) -> Drawn:
    return data_of(web, ROWS)


def test_examples_are_those_of_the_generator(
    web: Web, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined in one block or in many, a row is what the generator gives, less nobody's labels."""
    monkeypatch.setattr(sampling, "BLOCK", 7_000)
    rows = web.patterns(0, ROWS)
    seen = rows.observed.any(axis=1)
    for data in (drawn, data_of(web, ROWS)):
        found = data.patterns.rows(data.inverse)
        np.testing.assert_array_equal(found.s, rows.s)
        np.testing.assert_array_equal(found.observed, rows.observed)
        assert (found.y[seen] != rows.y[seen]).nnz == 0
        assert found.y[~seen].nnz == 0
        assert data.patterns.examples == ROWS
    assert len(drawn.patterns.counts) < ROWS / 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_are_uniform_and_independent_of_the_rows(seed: int, drawn: Drawn) -> None:
    draws = draws_of(ROWS, seed)
    assert stats.kstest(draws, "uniform").pvalue > 1e-3
    assert np.corrcoef(draws, draws_of(ROWS, seed + 1))[0, 1] == pytest.approx(0, abs=0.03)
    for k in range(drawn.patterns.s.shape[1]):
        shown = drawn.patterns.s[drawn.inverse, k] > 0
        assert stats.kstest(draws[shown], "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(draws_of(100, seed), draws[:100])


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_keeps_the_rate_and_follows_the_weights(
    web: Web, drawn: Drawn, design: str
) -> None:
    planned = plan(web, drawn, "absolute", Settings())
    copies = np.mean([DESIGNS[design](planned, seed) for seed in range(20)], axis=0)
    assert copies.mean() == pytest.approx(planned.policy.problem.eta, abs=2e-3)
    slope = np.polyfit(planned.weights, copies, 1)[0]
    # Calibrated thresholds aim at narrower tolerances, so they lean somewhat more.
    assert slope == pytest.approx(1.0, abs=0.2 if design == "calibrated thresholds" else 0.1)


def test_designs_rank_as_they_should(web: Web, drawn: Drawn) -> None:
    planned = plan(web, drawn, "absolute", Settings())
    total = {}
    for design, draw in DESIGNS.items():
        found = []
        for seed in range(8):
            totals = realised_totals(
                planned.policy.problem, drawn.patterns, draw(planned, seed), drawn.inverse
            )
            found.append(Realised.of(planned.policy.problem, totals).total_violation)
        total[design] = np.mean(found)
    assert total["with replacement"] > total["Poisson by hash"]
    assert total["Poisson by hash"] > 3 * total["systematic in pattern order"]
    assert total["Poisson by hash"] > 3 * total["calibrated thresholds"]


def test_the_report_has_a_line_for_every_design(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    settings = Settings(
        examples=(3000,), shapes=((2, 20),), tolerances=("absolute",), seeds=2, markdown=path
    )
    report = sampling.main(settings)
    assert [row[0] for row in report.tables[0].rows] == list(DESIGNS)
    assert "3e3 examples, 2 values, 20 labels" in path.read_text()
    assert "A million uids" in path.read_text()


def test_orders_of_patterns_are_compared(drawn: Drawn, web: Web) -> None:
    planned = plan(web, drawn, "relative", Settings(width=1e-2))
    designs = sampling.orders_of(planned)
    drawn_by = {name: design(planned, 1) for name, design in designs.items()}
    np.testing.assert_array_equal(
        drawn_by["attributes, then labels"], DESIGNS["systematic in pattern order"](planned, 1)
    )
    assert len({copies.tobytes() for copies in drawn_by.values()}) == len(designs)
    report = sampling.main(
        Settings(
            examples=(3000,), shapes=((2, 20),), tolerances=("absolute",), seeds=2, orders=True
        )
    )
    assert [row[0] for row in report.tables[0].rows] == list(designs)
