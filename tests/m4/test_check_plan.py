"""Plans of what to check: the best allocation, drawn by a hash, aware of what is known already."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from m4.calibration import CellCalibration
from m4.check_plan import CheckPlan, cells_to_check
from m4.checked import CheckedSample, estimate_true_bias
from m4.errors import InputError
from m4.noise import calibrate_cells, calibrate_from_rates
from m4.noise_bounds import ErrorRates
from m4.patterns import Patterns
from m4.problem import Problem

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
RATES = ErrorRates(false_positive=0.03, false_negative=0.03)


def expected_of(examples: Patterns) -> CellCalibration:
    return calibrate_from_rates(examples, {f"s{k}": RATES for k in range(examples.s.shape[1])})


def occupation(rows: int, seed: int = 0) -> tuple[Patterns, np.ndarray]:
    """Marks and truth: one in ten has an occupation that is 90 % female; 3 % of marks are wrong."""
    generator = np.random.default_rng(seed)
    y = generator.random(rows) < 0.1
    truth = (generator.random(rows) < np.where(y, 0.9, 0.5)) * 1.0
    mark = np.where(generator.random(rows) < 0.03, 1 - truth, truth)
    return Patterns.from_arrays(mark, y), truth


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 100), part=st.floats(0.001, 0.6), masked=st.booleans())
def test_the_budget_is_what_is_drawn_on_average(
    seed: int, part: float, masked: bool, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(seed, 300, masked=masked, soft_y=True)
    weights = np.random.default_rng(seed).random(300)
    plan = cells_to_check(
        problem_for(examples), examples, expected_of(examples), 300 * part, weights
    )
    assert ((plan.probability >= 0) & (plan.probability <= 1)).all()
    assert plan.probability.sum() == pytest.approx(300 * part, rel=1e-6)
    assert (plan.probability[~examples.observed.any(axis=1)] == 0).all()
    assert plan.cells["priority"].is_sorted(descending=True)
    assert (plan.cells["uncertainty_after"] <= plan.cells["uncertainty"] + 1e-12).all()
    assert (plan.cells["checks"] <= plan.cells["examples"] + 1e-9).all()
    whole = plan.cells.group_by("value", "label").agg(pl.col("weight").sum())
    np.testing.assert_allclose(whole["weight"], 1.0)


def test_the_allocation_is_the_best_there_is(problem_for: MakeProblem) -> None:
    """Four cells that do not overlap, against a general optimiser of the same sum of variances."""
    generator = np.random.default_rng(1)
    score = generator.beta(0.4, 0.3, 4000)
    truth = (generator.random(4000) < score) * 1.0
    examples = Patterns.from_arrays(score, np.zeros((4000, 0)))
    rows = np.arange(0, 4000, 20)
    checked = CheckedSample.from_arrays(rows, truth[rows], probability=0.05)
    calibration = calibrate_cells(examples, checked, edges=(0.1, 0.5, 0.9))
    weights = np.where(score < 0.1, 2.0, 0.5)
    plan = cells_to_check(problem_for(examples), examples, calibration, 300, weights)
    cells = plan.cells
    variance = (cells["probability"] * (1 - cells["probability"])).to_numpy()
    squared = cells["weight"].to_numpy() ** 2 * variance
    worth = squared / cells["uncertainty"].to_numpy() ** 2
    best = minimize(
        lambda n: float((squared / (worth + n)).sum() * 1e4),
        np.full(4, 75.0),
        bounds=[(0, size) for size in cells["examples"]],
        constraints={"type": "eq", "fun": lambda n: n.sum() - 300},
        options={"ftol": 1e-13, "maxiter": 500},
    )
    np.testing.assert_allclose(cells["checks"].to_numpy(), best.x, atol=1.5)
    after = (cells["uncertainty_after"].to_numpy() ** 2).sum()
    assert after == pytest.approx(best.fun / 1e4, rel=1e-4)


def test_first_come_the_rare_marks_of_a_skewed_label(problem_for: MakeProblem) -> None:
    examples, _ = occupation(20_000)
    problem, calibration = problem_for(examples), expected_of(examples)
    marked, labelled = examples.s[:, 0] > 0, examples.y.toarray()[:, 0] > 0
    share = marked[labelled].mean()
    weights = np.where(labelled, np.where(marked, 0.5 / share, 0.5 / (1 - share)), 1.0)
    plan = cells_to_check(problem, examples, calibration, 400, weights)
    first = plan.cells.row(0, named=True)
    assert (first["label"], first["at_least"], first["below"]) == ("y0", 0.0, 0.5)
    assert first["weight"] == pytest.approx(0.5)
    assert first["checks"] > 100
    # Unbalanced, the same cell has an eighth of the weight.
    even = cells_to_check(problem, examples, calibration, 400).cells
    same = even.filter(pl.col("label") == "y0", pl.col("at_least") == 0.0).row(0, named=True)
    assert same["weight"] == pytest.approx(1 - share)
    assert same["checks"] < first["checks"]


def test_planned_checks_tell_more_than_a_simple_sample(problem_for: MakeProblem) -> None:
    """Root mean square error of P(female | marked male, occupation) over 15 samples of 300."""
    examples, truth = occupation(20_000)
    inside = (examples.y.toarray()[:, 0] > 0) & (examples.s[:, 0] == 0)
    right = truth[inside].mean()
    weights = np.where(inside, 4.0, 0.5)
    plan = cells_to_check(problem_for(examples), examples, expected_of(examples), 300, weights)
    uids = [f"example-{row}" for row in range(20_000)]
    generator = np.random.default_rng(0)
    errors: dict[str, list[float]] = {"planned": [], "simple": []}
    for batch in range(15):
        planned = plan.draw(uids, seed=0, batch=batch)
        simple = generator.choice(20_000, 300, replace=False)
        for name, rows, drawn in (
            ("planned", planned, plan.probability[planned]),
            ("simple", simple, 300 / 20_000),
        ):
            checked = CheckedSample.from_arrays(rows, truth[rows], probability=drawn)
            found = calibrate_cells(examples, checked).probabilities(examples)[inside, 0]
            errors[name].append(found[0] - right)
    planned_error, simple_error = (np.sqrt(np.mean(np.square(errors[n]))) for n in errors)
    assert planned_error < 0.6 * simple_error


def test_what_is_known_is_not_checked_again(problem_for: MakeProblem) -> None:
    """A cell of which 300 examples were checked falls back; those 300 are not drawn again."""
    examples, truth = occupation(20_000)
    problem = problem_for(examples)
    calibration = expected_of(examples)
    inside = (examples.y.toarray()[:, 0] > 0) & (examples.s[:, 0] == 0)
    weights = np.where(inside, 4.0, 0.5)
    first = cells_to_check(problem, examples, calibration, 300, weights)
    uids = [str(row) for row in range(20_000)]
    rows = first.draw(uids, seed=0)
    checked = CheckedSample.from_arrays(rows, truth[rows], probability=first.probability[rows])
    calibration = calibrate_cells(examples, checked)
    second = cells_to_check(problem, examples, calibration, 300, weights, checked)
    assert second.left[rows].tolist() == [0.0] * len(rows)
    assert second.probability @ second.left == pytest.approx(300)
    more = second.draw(uids, seed=0, batch=1)
    assert not set(rows) & set(more)
    assert abs(len(more) - 300) < 5 * 300**0.5
    before, after = (
        first.cells.row(0, named=True),
        second.cells.filter(pl.col("label") == "y0", pl.col("at_least") == 0.0).row(0, named=True),
    )
    assert after["examples"] == before["examples"] - inside[rows].sum()
    assert after["uncertainty"] < before["uncertainty"] / 3
    # With all of the cell checked there is nothing left of it.
    rows = np.flatnonzero(inside | (np.arange(20_000) % 100 == 0))
    drawn = np.where(inside[rows], 1.0, 0.01)
    checked = CheckedSample.from_arrays(rows, truth[rows], probability=drawn)
    calibration = calibrate_cells(examples, checked)
    third = cells_to_check(problem, examples, calibration, 300, weights, checked)
    assert not inside[third.draw(uids, seed=0)].any()
    cells = third.cells.filter(pl.col("label") == "y0")
    assert cells["at_least"].to_list() == [0.5]


def test_two_batches_are_one_sample(problem_for: MakeProblem) -> None:
    """Drawn with 1 - (1 - P1)(1 - P2): the estimate from both has no bias."""
    examples, truth = occupation(2000)
    problem, calibration = problem_for(examples), expected_of(examples)
    right = truth.mean()
    uids = [str(row) for row in range(2000)]
    one = cells_to_check(problem, examples, calibration, 100)
    estimates = []
    for seed in range(80):
        rows = one.draw(uids, seed=seed)
        checked = CheckedSample.from_arrays(rows, truth[rows], probability=one.probability[rows])
        two = cells_to_check(problem, examples, calibration, 200, checked=checked)
        both = np.union1d(rows, two.draw(uids, seed=seed, batch=1))
        drawn = 1 - (1 - one.probability) * (1 - two.probability)
        sample = CheckedSample.from_arrays(both, truth[both], probability=drawn[both])
        estimates.append(estimate_true_bias(problem, examples, sample)["estimate"][0])
    error = np.std(estimates) / 80**0.5
    assert abs(np.mean(estimates) - right) < 4 * error
    assert error < 0.003


def test_pairs_left_out_are_not_checked_for(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(8, 500, values=1, labels=2)
    problem = problem_for(examples, left_out=(("s0", "y1"),))
    cells = cells_to_check(problem, examples, expected_of(examples), 50).cells
    left = pl.col("label") == "y1"
    assert (cells.filter(left)["priority"] == 0).all()
    assert (cells.filter(~left | left.is_null())["priority"] > 0).all()


def test_joined_rows_give_the_same_plan(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(9, 400)
    joined, inverse = examples.distinct()
    problem, calibration = problem_for(examples), expected_of(examples)
    weights = np.linspace(0.1, 1, len(joined.s))
    many = cells_to_check(problem, examples, calibration, 40, weights[inverse])
    few = cells_to_check(problem, joined, calibration, 40, weights)
    np.testing.assert_allclose(few.probability[inverse], many.probability)
    with pytest.raises(InputError, match=r"400 uids, but the plan is for \d+ rows"):
        few.draw(map(str, range(400)), seed=0)


def test_drawing_depends_on_the_uid_alone(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(10, 2000)
    problem, calibration = problem_for(examples), expected_of(examples)
    plan = cells_to_check(problem, examples, calibration, 200)
    uids = np.array([f"shard/{row}" for row in range(2000)])
    rows = plan.draw(uids, seed=1)
    assert abs(len(rows) - 200) < 5 * 200**0.5
    np.testing.assert_array_equal(rows, plan.draw(uids, seed=1))
    assert not np.array_equal(rows, plan.draw(uids, seed=2))
    assert not np.array_equal(rows, plan.draw(uids, seed=1, batch=1))
    order = np.random.default_rng(0).permutation(2000)
    shuffled = CheckPlan(plan.cells, plan.probability[order], plan.left[order])
    assert set(uids[order][shuffled.draw(uids[order], seed=1)]) == set(uids[rows])
    # A larger budget adds to what was drawn.
    larger = cells_to_check(problem, examples, calibration, 400).draw(uids, seed=1)
    assert set(rows) < set(larger)


def test_plans_that_make_no_sense_are_refused(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(10, 50)
    problem, calibration = problem_for(examples), expected_of(examples)
    for budget in (0, -1, 51, np.nan):
        with pytest.raises(InputError, match="not between 0 and the 50 examples"):
            cells_to_check(problem, examples, calibration, budget)
    weights = (np.arange(50) < 20) * 1.0
    with pytest.raises(InputError, match="not between 0 and the 20 examples"):
        cells_to_check(problem, examples, calibration, 30, weights)
    assert cells_to_check(problem, examples, calibration, 50).probability.tolist() == [1.0] * 50
    with pytest.raises(InputError, match=r"weights has shape \(49,\), not \(50,\)"):
        cells_to_check(problem, examples, calibration, 5, np.ones(49))
    other = expected_of(biased(10, 50, labels=2))
    with pytest.raises(InputError, match="the calibration has other values or labels"):
        cells_to_check(problem, examples, other, 5)
    with pytest.raises(InputError, match="and the 0 examples"):
        cells_to_check(problem, examples, calibration, 5, np.zeros(50))
