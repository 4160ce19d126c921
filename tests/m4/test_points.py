"""Points of a curve: the choice among them, and how they are written down."""

import math
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from m4.curve import cost_curve
from m4.errors import InputError
from m4.patterns import Patterns
from m4.points import Curve, Requirements, Setting, choose
from m4.problem import Problem

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="module")
def examples(biased: MakeExamples) -> Patterns:
    return biased(7, 1500, masked=True)


@pytest.fixture(scope="module")
def problem(examples: Patterns, problem_for: MakeProblem) -> Problem:
    return problem_for(examples, eta=0.6, eps_r=0.02, eps_d=0.03)


@pytest.fixture(scope="module")
def curve(problem: Problem, examples: Patterns) -> Curve:
    return cost_curve(problem, examples, etas=(0.3, 0.6, 0.8, 0.95), caps=(1.0, 2.0))


def test_a_setting_of_a_problem(problem: Problem) -> None:
    assert problem.layout.eps.max() == 0.03  # what was looked up before is not kept
    there = Setting(factor=2.0, eta=0.7, cap=1.5).of(problem)
    assert (there.eps_r, there.eps_d, there.eta, there.cap) == (0.04, 0.06, 0.7, 1.5)
    assert there.layout.eps.max() == 0.06
    assert Setting(factor=1.0, eta=0.6, cap=1.0).of(problem) == problem
    assert str(Setting(factor=0.25, eta=0.7, cap=4.0)) == "tolerances x 0.25, rate 0.7, cap 4"


def test_json_reads_back_and_a_frame_has_nulls(curve: Curve) -> None:
    assert Curve.model_validate_json(curve.to_json()) == curve
    frame = curve.frame()
    solved = [point.outcome is not None for point in curve.points]
    assert 0 < sum(solved) < len(frame) == len(solved) == 48
    assert frame["effective_share"].is_not_null().to_list() == solved
    assert frame["largest_rate"].is_null().to_list() == solved
    for row, point in zip(frame.iter_rows(named=True), curve.points, strict=True):
        assert (row["factor"], row["eta"], row["cap"]) == tuple(point.setting.model_dump().values())
        assert (row["effective_sample_size"] or 0.0) == point.size
    chosen = curve.choosing(curve.points[0])
    assert Curve.model_validate_json(chosen.to_json()).chosen == curve.points[0]


@pytest.mark.parametrize(
    "wrong", [{"min_ess": 0.0}, {"target_deff": 0.9}, {"max_weight": -1.0}, {"min_ess": math.inf}]
)
def test_requirements_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Requirements.model_validate(wrong)


def test_sizes_that_are_needed() -> None:
    assert Requirements(min_ess=0.9).size(1500) == Requirements(min_ess=1350.0).size(1500) == 1350
    assert Requirements(target_deff=1.25).size(1500) == 1200
    assert Requirements(min_ess=0.5, target_deff=1.25).size(1500) == 1200
    assert Requirements(max_weight=2.0).size(1500) == 0.0


def test_the_choice_is_the_least_biased_that_satisfies(curve: Curve) -> None:
    for wanted in (
        Requirements(min_ess=0.9),
        Requirements(min_ess=1350.0),
        Requirements(target_deff=1.1),
        Requirements(min_ess=0.9, max_weight=1.5),
        Requirements(max_weight=1.0),
    ):
        chosen = choose(curve, wanted)
        assert wanted.met_by(chosen, 1500)
        assert chosen.setting.cap <= (wanted.max_weight or math.inf)
        assert chosen.size >= wanted.size(1500)
        for point in curve.points:
            if wanted.met_by(point, 1500):
                assert point.setting.factor >= chosen.setting.factor
                if point.setting.factor == chosen.setting.factor:
                    assert point.setting.eta <= chosen.setting.eta


@pytest.mark.parametrize(
    ("wanted", "texts"),
    [
        (Requirements(), ["nothing is asked for"]),
        (Requirements(max_weight=0.5), ["max_weight 0.5", "smallest cap of the curve, 1"]),
        (Requirements(min_ess=2000), ["2,000.0", "of 1,500", "x 4, rate"]),
        (Requirements(target_deff=1.0), ["target_deff 1", "1,500.0", "x 4, rate"]),
    ],
)
def test_a_choice_that_cannot_be_made_names_the_nearest(
    curve: Curve, wanted: Requirements, texts: list[str]
) -> None:
    with pytest.raises(InputError) as refused:
        choose(curve, wanted)
    assert all(text in str(refused.value) for text in texts), str(refused.value)
    if wanted.size(1500) > 0:
        best = max(point.size for point in curve.points)
        assert f"{best:,.1f}" in str(refused.value)


def test_no_feasible_point_to_choose(problem: Problem, examples: Patterns) -> None:
    found = cost_curve(problem, examples, etas=(0.97,))
    largest = max(point.largest_rate or 0.0 for point in found.points)
    assert 0.5 < largest < 0.97
    with pytest.raises(InputError, match=f"largest feasible rate is {largest:.4f}"):
        choose(found, Requirements(min_ess=0.5))
