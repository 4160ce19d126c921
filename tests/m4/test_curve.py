"""The cost curve: monotone as the theory says, equal to single solves, honest where infeasible."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import m4.solving
from m4.bias import bias_table
from m4.curve import FACTORS, CurveSolver, cost_curve, least_biased
from m4.diagnostics import effective_sample_size
from m4.errors import InfeasibleError, InputError
from m4.feasibility import largest_rate
from m4.moments import Moments
from m4.patterns import Patterns
from m4.points import Curve, CurvePoint, Outcome, Requirements, Setting, choose
from m4.problem import Intersection, Problem
from m4.solving import solve
from m4.sparse_dual import SparseDual

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
ETAS, CAPS = (0.3, 0.6, 0.8), (1.0, 2.0)


def outcome_of(point: CurvePoint) -> Outcome:
    assert point.outcome is not None, point
    return point.outcome


def at(curve: Curve, factor: float, eta: float, cap: float) -> CurvePoint:
    setting = Setting(factor=factor, eta=eta, cap=cap)
    return next(point for point in curve.points if point.setting == setting)


@pytest.fixture(scope="module")
def examples(biased: MakeExamples) -> Patterns:
    return biased(7, 1500, masked=True)


@pytest.fixture(scope="module")
def problem(examples: Patterns, problem_for: MakeProblem) -> Problem:
    return problem_for(examples, eta=0.6, eps_r=0.02, eps_d=0.03)


@pytest.fixture(scope="module")
def curve(problem: Problem, examples: Patterns) -> Curve:
    return cost_curve(problem, examples, etas=ETAS, caps=CAPS)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    masked=st.booleans(),
    soft=st.booleans(),
    absolute=st.booleans(),
    eps=st.tuples(st.floats(0.001, 0.1), st.floats(0.001, 0.1)),
)
def test_size_and_feasibility_are_monotone(
    biased: MakeExamples,
    problem_for: MakeProblem,
    seed: int,
    masked: bool,
    soft: bool,
    absolute: bool,
    eps: tuple[float, float],
) -> None:
    """Wider tolerances, a larger cap and a smaller rate never cost effective sample size."""
    examples = biased(seed, 60, masked=masked, soft_s=soft)
    problem = problem_for(
        examples, eps_r=eps[0], eps_d=eps[1], tolerance="absolute" if absolute else "relative"
    )
    found = cost_curve(problem, examples, factors=(0.0, 1.0, 2.0), etas=(0.4, 0.7), caps=CAPS)
    grid = {point.setting: point for point in found.points if point.status != "unsolved"}
    for one in grid.values():
        for other in grid.values():
            wider = (
                other.setting.factor >= one.setting.factor
                and other.setting.eta <= one.setting.eta
                and other.setting.cap >= one.setting.cap
            )
            if wider:
                assert other.size >= one.size * (1.0 - 1e-9), (one.setting, other.setting)
    assert len(grid) >= len(found.points) - 2  # next to none is a matter of rounding


def test_only_the_ratio_of_rate_and_cap_matters(problem: Problem, examples: Patterns) -> None:
    one = cost_curve(problem, examples, etas=(0.5,), caps=(1.0,))
    twice = cost_curve(problem, examples, etas=(1.0,), caps=(2.0,))
    for first, second in zip(one.points, twice.points, strict=True):
        assert first.size == pytest.approx(second.size, rel=1e-9)
        assert outcome_of(second).largest_weight == pytest.approx(
            2 * outcome_of(first).largest_weight, rel=1e-6
        )


@pytest.mark.parametrize("form", ["tables", "rows"])
def test_a_warm_start_ends_where_a_cold_one_does_in_fewer_passes(
    form: str, biased: MakeExamples, problem_for: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = biased(5, 1500, 2, 6, soft_s=form == "rows")
    if form == "rows":
        monkeypatch.setattr(m4.solving, "LARGEST_TABLE", 0)
    problem = problem_for(examples, eps_r=0.02, eps_d=0.03)
    warm, cold = (CurveSolver(problem, examples, warm=warm) for warm in (True, False))
    setting = Setting(factor=1.0, eta=0.5, cap=1.0)
    assert isinstance(warm._dual(setting.of(problem)), SparseDual) == (form == "rows")
    fast, slow = (each.curve(FACTORS, (0.3, 0.5), CAPS) for each in (warm, cold))
    for one, other in zip(fast.points, slow.points, strict=True):
        first, second = outcome_of(one), outcome_of(other)
        assert first.relative_gap < 1e-9 and second.relative_gap < 1e-9
        for name in ("effective_sample_size", "design_effect", "largest_weight", "top_share"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-7)
        for name in ("representation_bias", "association_bias", "worst_gap"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-7)
    assert sum(p.passes for p in fast.points) < 0.8 * sum(p.passes for p in slow.points)


def test_a_point_is_what_solving_there_gives(
    problem: Problem, examples: Patterns, curve: Curve
) -> None:
    for point in (at(curve, 1.0, 0.6, 1.0), at(curve, 0.25, 0.3, 2.0)):
        outcome, setting = outcome_of(point), point.setting
        asked = setting.of(problem)
        assert (point.eps_r, point.eps_d) == (0.02 * setting.factor, 0.03 * setting.factor)
        solution = solve(asked, examples)
        weights, table = solution.weights, bias_table(asked, examples, solution.weights)
        size = effective_sample_size(weights)
        assert outcome.effective_sample_size == pytest.approx(size, rel=1e-9)
        assert outcome.effective_share == pytest.approx(size / 1500, rel=1e-9)
        assert outcome.effective_per_kept == pytest.approx(size / (setting.eta * 1500), rel=1e-9)
        assert outcome.design_effect == pytest.approx(1500 / size, rel=1e-9)
        assert outcome.representation_bias == pytest.approx(table.representation_bias, abs=1e-7)
        assert outcome.association_bias == pytest.approx(table.association_bias, abs=1e-7)
        assert outcome.largest_weight == pytest.approx(weights.max(), abs=1e-6)
        heaviest = np.sort(weights)[-15:].sum() / weights.sum()
        assert outcome.top_share == pytest.approx(heaviest, rel=1e-6)
        gaps = [*table.representation["bias"], *table.association["gap"]]
        assert outcome.worst_gap == pytest.approx(max(gaps), abs=1e-7)
        assert max(gaps) == pytest.approx(0.03 * setting.factor, abs=1e-7)


def test_what_cannot_be_met_is_marked_with_the_largest_rate(
    problem: Problem, examples: Patterns, curve: Curve
) -> None:
    status = {point.setting: point.status for point in curve.points}
    assert {"solved", "infeasible"} == set(status.values())
    for point in curve.points:
        moments = Moments.of(point.setting.of(problem), examples)
        most = largest_rate(moments).rate
        assert (point.status == "solved") == (point.setting.eta < most)
        if point.status == "infeasible":
            assert point.outcome is None
            assert point.largest_rate == pytest.approx(most, abs=1e-6)
    hopeless = [point for point in curve.points if point.status == "infeasible"]
    with pytest.raises(InfeasibleError):
        solve(hopeless[0].setting.of(problem), examples)
    assert sum(point.passes == 0 for point in hopeless) > len(hopeless) / 2  # one refutes others


def test_a_rate_above_the_cap_is_infeasible(problem: Problem, examples: Patterns) -> None:
    found = cost_curve(problem, examples, factors=(1.0, 2.0), etas=(0.5, 1.2), caps=(1.0,))
    assert [point.status for point in found.points] == ["solved"] * 2 + ["infeasible"] * 2
    assert found.points[-1].largest_rate == pytest.approx(
        largest_rate(Moments.of(found.points[1].setting.of(problem), examples)).rate, abs=1e-6
    )


def test_large_data_is_not_asked_for_its_largest_rate(
    problem: Problem, examples: Patterns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m4.curve.CHEAP", 10)
    found = cost_curve(problem, examples, etas=(0.95,))
    assert {point.status for point in found.points} == {"infeasible"}
    assert {point.largest_rate for point in found.points} == {None}
    with pytest.raises(InputError, match="no point of the curve is feasible; lower the rate"):
        choose(found, Requirements(min_ess=0.5))


def test_with_a_price_every_rate_up_to_the_cap_is_feasible(
    examples: Patterns, problem_for: MakeProblem
) -> None:
    problem = problem_for(examples, eps_r=0.02, eps_d=0.03, penalty=0.05)
    found = cost_curve(problem, examples, etas=(0.5, 0.95, 1.1), caps=(1.0,))
    assert [point.status for point in found.points] == ["solved"] * 12 + ["infeasible"] * 6
    assert found.points[-1].largest_rate == 1.0
    assert outcome_of(at(found, 0.0, 0.95, 1.0)).worst_gap > 0.01  # paid for
    assert outcome_of(at(found, 0.0, 0.95, 1.0)).dearest == {}


def test_prices_are_what_a_single_wider_tolerance_brings(
    examples: Patterns, problem_for: MakeProblem
) -> None:
    """Each constraint alone is widened and narrowed; then all of them, by the factor."""
    pair = Intersection(first="s0", second="s1", target=0.2)
    base: dict[str, Any] = {"eps_r": 0.02, "eps_d": 0.03, "eps_x": 0.01, "intersections": (pair,)}
    problem = problem_for(examples, eta=0.5, **base)
    here = Setting(factor=1.0, eta=0.5, cap=1.0)
    outcome = outcome_of(CurveSolver(problem, examples).point(here))
    assert 0 < len(outcome.dearest) <= 5
    assert list(outcome.dearest.values()) == sorted(outcome.dearest.values(), reverse=True)
    names = [str(name) for name in problem.constraints()]
    step = 1e-5
    for name, price in outcome.dearest.items():
        sizes = []
        for change in (step, -step):
            altered = problem_for(examples, eta=0.5, **base)
            eps = altered.layout.eps.copy()
            eps[names.index(name)] += change
            altered.__dict__["layout"] = replace(altered.layout, eps=eps)
            sizes.append(solve(altered, examples).effective_sample_size)
        assert 0.01 * (sizes[0] - sizes[1]) / (2 * step) == pytest.approx(price, rel=1e-3)


def test_utilities_leave_tolerances_without_a_price(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(4, 300, utilities=True)
    problem = problem_for(examples, eps_r=0.05, eps_d=0.05)
    found = cost_curve(problem, examples, etas=(0.4,), factors=(1.0,))
    assert outcome_of(found.points[0]).dearest == {}


def test_absolute_tolerances_instead_of_factors(problem: Problem, examples: Patterns) -> None:
    found = cost_curve(problem, examples, tolerances=(0.05, 0.2), etas=(0.5,))
    assert [(p.eps_r, p.eps_d, p.eps_x) for p in found.points] == [(0.05,) * 3, (0.2,) * 3]
    alike = Problem(**{**dict(problem.model_dump()), "eps_r": 0.2, "eps_d": 0.2, "eta": 0.5})
    assert found.points[1].size == pytest.approx(
        solve(alike, examples).effective_sample_size, rel=1e-9
    )
    with pytest.raises(InputError, match="factors and tolerances exclude each other"):
        cost_curve(problem, examples, tolerances=(0.1,), factors=(1.0,))


def test_the_problems_own_rate_and_cap_where_none_is_given(
    problem: Problem, examples: Patterns
) -> None:
    found = cost_curve(problem, examples)
    assert [point.setting.factor for point in found.points] == list(FACTORS)
    assert {(p.setting.eta, p.setting.cap) for p in found.points} == {(0.6, 1.0)}


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({"factors": ()}, "factors is empty"),
        ({"etas": ()}, "etas is empty"),
        ({"factors": (-1.0,)}, "factor"),
        ({"factors": (math.nan,)}, "factor"),
        ({"etas": (0.0,)}, "eta"),
        ({"caps": (math.inf,)}, "cap"),
    ],
)
def test_a_grid_out_of_range_is_refused(
    problem: Problem, examples: Patterns, grid: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        cost_curve(problem, examples, **grid)


def test_factors_of_nothing_are_refused(examples: Patterns, problem_for: MakeProblem) -> None:
    exact = problem_for(examples, eta=0.3, eps_r=0.0, eps_d=0.0)
    with pytest.raises(InputError, match="factors have no effect on tolerances of 0"):
        cost_curve(exact, examples)
    with pytest.raises(InputError, match="all tolerances are 0"):
        least_biased(exact, examples, Requirements(min_ess=0.5))
    rates = cost_curve(exact, examples, factors=(1.0,), etas=(0.2, 0.3))
    assert [point.status for point in rates.points] == ["solved", "solved"]


def test_other_columns_are_refused(problem: Problem, biased: MakeExamples) -> None:
    with pytest.raises(InputError, match="the data has 3 sensitive values"):
        cost_curve(problem, biased(0, 50, 3, 3))


def test_counts_are_repetitions(problem: Problem, examples: Patterns) -> None:
    joined, _ = examples.distinct()
    assert len(joined.counts) < len(examples.counts) / 2
    assert cost_curve(problem, joined).to_json() == cost_curve(problem, examples).to_json()


def test_progress_is_told(problem: Problem, examples: Patterns) -> None:
    told: list[tuple[int, int]] = []
    cost_curve(
        problem, examples, etas=(0.5, 0.95), progress=lambda done, total: told.append((done, total))
    )
    assert told == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize("wanted", [Requirements(min_ess=0.93), Requirements(target_deff=1.08)])
def test_tightening_hits_what_is_wanted_to_a_percent(
    problem: Problem, examples: Patterns, wanted: Requirements
) -> None:
    solver = CurveSolver(problem, examples)
    found = solver.curve((0.0, 1.0, 8.0), (0.5,), (1.0,))
    coarse = choose(found, wanted)
    fine = solver.tighten(coarse, wanted)
    needed = wanted.size(1500)
    assert needed <= fine.size <= 1.01 * needed < coarse.size
    assert 0.0 < fine.setting.factor < coarse.setting.factor
    alone = solve(fine.setting.of(problem), examples)
    assert alone.effective_sample_size == pytest.approx(fine.size, rel=1e-7)
    assert fine == solver.tighten(fine, wanted)


def test_tightening_ends_where_feasibility_ends(problem: Problem, examples: Patterns) -> None:
    solver, wanted = CurveSolver(problem, examples), Requirements(min_ess=0.3)
    eta = at(solver.curve((2.0,), (0.8,), (1.0,)), 2.0, 0.8, 1.0).setting.eta
    loose = solver.point(Setting(factor=4.0, eta=eta, cap=1.0))
    fine = solver.tighten(loose, wanted)
    assert fine.size > 1.01 * wanted.size(1500)
    moments = [
        Moments.of(Setting(factor=factor, eta=eta, cap=1.0).of(problem), examples)
        for factor in (fine.setting.factor, 0.999 * fine.setting.factor)
    ]
    assert largest_rate(moments[0]).rate > eta - 1e-6
    assert largest_rate(moments[1]).rate < eta


def test_tightening_goes_to_zero_where_that_is_enough(problem: Problem, examples: Patterns) -> None:
    solver = CurveSolver(problem, examples)
    loose = solver.point(Setting(factor=1.0, eta=0.3, cap=1.0))
    exact = solver.tighten(loose, Requirements(min_ess=0.1))
    assert exact.setting.factor == 0.0 and outcome_of(exact).worst_gap < 1e-9
    assert solver.tighten(loose, Requirements(max_weight=1.0)) == loose


@pytest.mark.parametrize("share", [0.85, 0.97, 0.999])
def test_least_biased_at_one_rate(problem: Problem, examples: Patterns, share: float) -> None:
    chosen = least_biased(problem, examples, Requirements(min_ess=share))
    assert share * 1500 <= chosen.size
    assert (chosen.setting.eta, chosen.setting.cap) == (0.6, 1.0)
    tighter = chosen.setting.model_copy(update={"factor": 0.9 * chosen.setting.factor})
    again = CurveSolver(problem, examples).point(tighter)
    assert again.size < chosen.size and again.size < 1.01 * share * 1500
    assert least_biased(problem, examples, Requirements(min_ess=share)) == chosen


def test_least_biased_refuses_what_no_tolerance_gives(problem: Problem, examples: Patterns) -> None:
    with pytest.raises(InputError, match=r"2,000\.0 of 1,500 .* has 1,500\.0"):
        least_biased(problem, examples, Requirements(min_ess=2000))
    with pytest.raises(InputError, match="no point of the curve is feasible"):
        least_biased(problem, examples, Requirements(max_weight=0.5))  # below the rate
    capped = least_biased(problem, examples, Requirements(min_ess=0.9, max_weight=3.0))
    assert capped.setting.cap == 3.0
