"""The coverage benchmark: its populations have the figures that it says they have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import POPULATIONS, Population, row, simulate
from evaluation.draws import Draws
from evaluation.resampling import Resampling

FEW = Resampling(resamples=100, permutations=100)


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda population: population.name)
def test_a_large_sample_has_the_figure_of_its_population(population: Population) -> None:
    n = 20_000
    draws = population.sample(n, np.random.default_rng(0), FEW)
    assert len(draws.names) == 1
    assert draws.images == n
    # What noise adds at 20,000 images; a tenth of what it adds at 200.
    assert draws.observed[0] == pytest.approx(population.figure(n), abs=0.05)


def test_biased_populations_are_told_apart_from_the_others() -> None:
    figures = {population.name: population.figure(2000) for population in POPULATIONS}
    assert len(figures) == len(POPULATIONS)
    for name, figure in figures.items():
        if name.endswith((", none", "no bias", "no gap")):
            assert figure == pytest.approx(0, abs=1e-9)
        else:
            assert figure > 0.03


def test_intervals_by_hand() -> None:
    bootstrap = np.arange(101.0)[:, None]
    draws = Draws("x", ("y",), np.array([50.0]), bootstrap, None, images=10, better="lower")
    for method in (coverage.percentile, coverage.basic, coverage.bias_corrected, coverage.ours):
        found = method(draws, 0.95)
        assert found is not None
        assert (found.low, found.high) == pytest.approx((2.5, 97.5))
    draws = Draws("x", ("y",), np.array([40.0]), bootstrap, None, images=10, better="lower")
    assert coverage.basic(draws, 0.95).high == 80 - 2.5
    assert coverage.percentile(draws, 0.95).high == 97.5
    assert coverage.bias_corrected(draws, 0.95).high < 97  # drawn to where the figure is
    draws = Draws("x", ("y",), np.array([-1.0]), bootstrap, None, images=10, better="lower")
    assert coverage.bias_corrected(draws, 0.95).high < 5  # below all resamples


def test_the_excess_is_of_a_bias_above_its_null() -> None:
    bootstrap = np.arange(101.0)[:, None]
    draws = Draws(
        "x", ("y",), np.array([40.0]), bootstrap, np.full((100, 1), 30.0), images=10, better="lower"
    )
    found = coverage.of_excess(draws, 0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((10 - 47.5, 10 + 47.5))
    assert coverage.of_excess(replace(draws, null=None), 0.95) is None
    assert coverage.of_excess(replace(draws, better="higher"), 0.95) is None


def test_a_row_tells_figures_and_intervals() -> None:
    name, images, true, expected, *methods = row(simulate(POPULATIONS[0], 50, 4, 100))
    assert (name, images, true) == ("top-1 accuracy 0.7", "50", "0.700")
    assert 0.5 < float(expected) < 0.9
    assert len(methods) == len(coverage.METHODS)
    assert all("% / " in cell for cell in methods[:-1])
    assert methods[-1] == ""  # of an accuracy, no excess


def test_the_report_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.md"
    monkeypatch.setattr(coverage, "POPULATIONS", POPULATIONS[:2])
    given = f"coverage --images 30 --trials 2 --resamples 100 --markdown {file}"
    monkeypatch.setattr("sys.argv", given.split())
    coverage.main()
    lines = file.read_text().splitlines()
    assert sum(line.startswith("| top-1 accuracy") for line in lines) == 2
