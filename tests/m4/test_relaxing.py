"""The nearest feasible settings: feasible where they are, infeasible just before."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import m4.relaxing
from m4.errors import InfeasibleError
from m4.feasibility import explain_infeasible, largest_rate
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.programme import Programme, maximise_rate
from m4.relaxing import Line, Relaxation, rounded_down, rounded_up, smallest
from m4.solving import solve

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]
INSIDE = 1 - 1e-3


@given(number=st.floats(1e-12, 1e12))
def test_rounding_keeps_four_digits_on_the_right_side(number: float) -> None:
    up, down = rounded_up(number), rounded_down(number)
    assert down * (1 - 2e-9) <= number <= up * (1 + 2e-9)
    assert up * INSIDE < number < down / INSIDE
    for each in (up, down):
        assert float(f"{each:.4g}") == each
        assert rounded_up(each) == rounded_down(each) == each


@pytest.mark.parametrize(("number", "up", "down"), [(2 / 7, 0.2858, 0.2857), (0.4, 0.4, 0.4)])
def test_rounding(number: float, up: float, down: float) -> None:
    assert (rounded_up(number), rounded_down(number)) == (up, down)
    assert rounded_up(math.nextafter(number, 1)) == up
    assert rounded_up(9999.5) == 10000.0


def rate_by_the_book(problem: Problem, examples: Patterns, write_out: WriteOut) -> float:
    """The largest rate, from the constraints one after the other; of HiGHS's accuracy."""
    z, t = write_out(problem, examples)
    sides = np.vstack([z - t, -z - t])
    found = linprog(
        -np.ones(len(examples.share)),
        A_ub=sides / max(1.0, np.abs(sides).max()),
        b_ub=np.zeros(len(sides)),
        bounds=np.column_stack([np.zeros(len(z[0])), problem.cap * examples.share]),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return float(-found.fun)


def with_settings(problem: Problem, **changed: Any) -> Problem:
    return Problem.model_validate({**problem.model_dump(), **changed})


def out_of_reach(problem: Problem, examples: Patterns, part: float) -> Problem:
    """The problem at a rate so far between the largest one and the cap."""
    rate = largest_rate(Moments.of(problem, examples)).rate
    return with_settings(problem, eta=rate + part * (problem.cap - rate))


def suggestions(problem: Problem, nearest: Relaxation) -> list[tuple[str, Problem, Problem | None]]:
    """Every suggestion as a problem, and one that asks for a thousandth more, where it can be."""

    def tolerances(factor: float, addition: float) -> Problem:
        eps = {name: getattr(problem, name) for name in ("eps_r", "eps_d", "eps_x")}
        return with_settings(problem, **{k: factor * v + addition for k, v in eps.items()})

    tried: list[tuple[str, Problem, Problem | None]] = []
    if nearest.eta is not None:
        more = nearest.eta / INSIDE
        beyond = None if more > problem.cap else with_settings(problem, eta=more)
        tried.append(("eta", with_settings(problem, eta=nearest.eta), beyond))
    if nearest.cap is not None:
        less = nearest.cap * INSIDE
        beyond = None if less < problem.eta else with_settings(problem, cap=less)
        tried.append(("cap", with_settings(problem, cap=nearest.cap), beyond))
    if nearest.factor is not None:
        beyond = tolerances(nearest.factor * INSIDE, 0.0)
        tried.append(("factor", tolerances(nearest.factor, 0.0), beyond))
    if nearest.addition is not None:
        beyond = tolerances(1.0, nearest.addition * INSIDE)
        tried.append(("addition", tolerances(1.0, nearest.addition), beyond))
    if nearest.leave_out is not None:
        left_out = problem.left_out + nearest.leave_out
        tried.append(("leave_out", with_settings(problem, left_out=left_out), None))
    return tried


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tolerance=st.sampled_from(["relative", "absolute"]),
    eps=st.tuples(*[st.sampled_from([0.0, 0.003, 0.05])] * 2),
    part=st.floats(0.02, 1.0),
    cap=st.sampled_from([0.5, 1.0, 3.0]),
    shape=st.sampled_from([(1, 0), (1, 2), (2, 2), (3, 1)]),
)
def test_every_suggestion_is_feasible_and_nothing_nearer_is(
    seed: int,
    tolerance: str,
    eps: tuple[float, float],
    part: float,
    cap: float,
    shape: tuple[int, int],
    biased: MakeExamples,
    problem_for: MakeProblem,
    written_out: WriteOut,
) -> None:
    examples = biased(seed, 30, *shape, masked=seed % 2 == 0, soft_s=seed % 3 == 0)
    asked: dict[str, Any] = {"eps_r": eps[0], "eps_d": eps[1], "tolerance": tolerance, "cap": cap}
    rate = rate_by_the_book(problem_for(examples, eta=cap, **asked), examples, written_out)
    eta = rate + part * (cap - rate)  # from just above the largest rate to the cap
    assume(eta > rate * (1 + 1e-4))
    problem = problem_for(examples, eta=eta, **asked)
    error = explain_infeasible(problem, examples)
    assert error is not None and error.minimal
    assert error.largest_rate == pytest.approx(rate, abs=1e-7)
    nearest = error.relaxation
    assert nearest.addition is not None and nearest.widening is not None
    if rate > 1e-6:
        assert nearest.eta == pytest.approx(rate, rel=1e-3)
        assert nearest.cap == pytest.approx(cap * eta / rate, rel=1e-3)
    for name, there, beyond in suggestions(problem, nearest):
        assert rate_by_the_book(there, examples, written_out) >= there.eta * (1 - 1e-7), name
        if beyond is not None:
            found = rate_by_the_book(beyond, examples, written_out)
            assert found < beyond.eta * (1 - 1e-8), name


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize("seed", [2, 3])
def test_every_suggestion_can_be_solved(
    seed: int, tolerance: str, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(seed, 80, masked=seed % 2 == 0)
    problem = problem_for(examples, eta=0.9, eps_r=0.02, eps_d=0.01, tolerance=tolerance)
    error = explain_infeasible(problem, examples)
    assert error is not None
    for name, there, beyond in suggestions(problem, error.relaxation):
        solution = solve(there, examples, method="cvxpy")
        assert solution.policy.certificate.max_violation < 1e-8, name
        assert solution.weights.mean() == pytest.approx(there.eta, abs=1e-9)
        if beyond is not None:
            with pytest.raises(InfeasibleError):
                solve(beyond, examples)


@pytest.mark.parametrize("seed", range(1, 5))
def test_conflicting_tolerances_alone_are_enough(
    seed: int, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(seed, 60)
    problem = out_of_reach(problem_for(examples, eps_r=0.3, eps_d=0.01), examples, 0.3)
    error = explain_infeasible(problem, examples)
    assert error is not None
    widening = error.relaxation.widening
    assert widening is not None and set(error.conflicts) <= set(widening.constraints)
    assert widening.addition >= (error.relaxation.addition or 0.0)
    programme = Programme.of(Moments.of(problem, examples))
    chosen = np.array([str(each) in widening.constraints for each in problem.constraints()])
    assert not chosen.all()

    def rate(addition: float) -> float:
        eps = programme.eps + addition * chosen
        return maximise_rate(programme.with_tolerances(eps)).rate

    assert rate(INSIDE * widening.addition) < problem.eta * (1 - 1e-8) < rate(widening.addition)


@pytest.mark.parametrize(
    ("seed", "eps_r", "part"),
    [
        *((seed, 0.5, 0.5) for seed in range(1, 6)),
        # Shares of values are in conflict with pairs here, but cannot be left out.
        *[(1, 0.05, 0.3), (4, 0.05, 0.3), (8, 0.1, 0.3), (17, 0.05, 0.5)],
    ],
)
def test_pairs_to_leave_out_are_all_needed(
    seed: int,
    eps_r: float,
    part: float,
    biased: MakeExamples,
    problem_for: MakeProblem,
    written_out: WriteOut,
) -> None:
    """Feasible without them, infeasible with any of them; here never more than twice the fewest."""
    examples = biased(seed, 50, values=2, labels=3, masked=seed % 2 == 0)
    problem = out_of_reach(problem_for(examples, eps_r=eps_r, eps_d=0.01), examples, part)
    error = explain_infeasible(problem, examples)
    assert error is not None
    leave_out = error.relaxation.leave_out
    assert leave_out
    assert eps_r == 0.5 or not set(error.conflicts).isdisjoint(problem.values)

    def feasible(pairs: tuple[tuple[str, str], ...]) -> bool:
        without = with_settings(problem, left_out=pairs)
        return rate_by_the_book(without, examples, written_out) >= problem.eta * (1 - 1e-8)

    assert feasible(leave_out)
    for fewer in combinations(leave_out, len(leave_out) - 1):
        assert not feasible(fewer)
    pairs = [(value, label) for value in problem.values for label in problem.labels]
    fewest = next(n for n in range(7) if any(map(feasible, combinations(pairs, n))))
    assert fewest <= len(leave_out) <= 2 * fewest


def twins() -> Patterns:
    """Women and men as two values of one attribute; nearly all nurses are women."""
    woman = np.array([1.0, 0.0, 1.0, 0.0])
    return Patterns.from_arrays(
        np.column_stack([woman, 1 - woman]),
        np.array([[1.0], [1.0], [0.0], [0.0]]),
        counts=[27, 3, 33, 37],
    )


def test_values_that_say_the_same_are_left_out_together(problem_for: MakeProblem) -> None:
    """Leaving out one of them alone would not help."""
    problem = problem_for(twins(), eta=0.8, eps_r=0.2, eps_d=0.01)
    error = explain_infeasible(problem, twins())
    assert error is not None and len(error.conflicts) == 1
    assert error.relaxation.leave_out == (("s0", "y0"), ("s1", "y0"))
    assert error.relaxation.widening is not None
    assert set(error.relaxation.widening.constraints) == {"s0 & y0", "s1 & y0"}


def test_shares_that_conflict_cannot_be_left_out(problem_for: MakeProblem) -> None:
    problem = problem_for(twins(), eta=0.9, eps_r=0.01, eps_d=1.0)
    error = explain_infeasible(problem, twins())
    assert error is not None and error.relaxation.leave_out is None


def test_too_many_pairs_are_not_suggested(
    biased: MakeExamples, problem_for: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = biased(1, 50)
    problem = problem_for(examples, eta=0.85, eps_r=0.5, eps_d=0.001)
    found = explain_infeasible(problem, examples)
    assert found is not None and found.relaxation.leave_out
    monkeypatch.setattr(m4.relaxing, "MOST_LEFT_OUT", len(found.relaxation.leave_out) - 1)
    fewer = explain_infeasible(problem, examples)
    assert fewer is not None and fewer.relaxation.leave_out is None
    monkeypatch.undo()
    assert explain_infeasible(problem, examples).relaxation == found.relaxation  # type: ignore[union-attr]


def test_a_value_that_nobody_lacks_needs_a_tolerance_of_its_distance() -> None:
    """The rate jumps from 0 to all: a share of 1 is within .5 of its target of .5, and no less."""
    examples = Patterns.from_arrays(np.ones(5), np.zeros((5, 0)))
    programme = Programme.of(
        Moments.of(
            Problem(values=("a",), labels=(), targets=(0.5,), label_targets=((),), eps_r=0.01),
            examples,
        )
    )
    start = maximise_rate(programme).duals
    ones = np.ones(1)
    for goal in (0.01, 0.9, 1.0):
        line = Line(programme.eps, ones, 0.0, 1.0)
        assert smallest(programme, line, goal, start) == pytest.approx(0.49)
        line = Line(0 * ones, programme.eps, 1.0, 100.0)
        assert smallest(programme, line, goal, start) == pytest.approx(50.0)
        line = Line(0 * ones, programme.eps, 1.0, 49.0)
        assert smallest(programme, line, goal, start) is None


def test_all_data_kept_needs_the_tolerances_that_it_has(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    """With eta at the cap the weights are all equal: the largest bias of the data has to pass."""
    examples = biased(2, 40)
    problem = problem_for(examples, eta=2.0, cap=2.0, eps_r=0.01, eps_d=0.01)
    error = explain_infeasible(problem, examples)
    assert error is not None
    moment, mass = Moments.of(problem, examples).expected(np.ones(40))
    largest = float((np.abs(moment) / mass).max())
    assert error.relaxation.addition == rounded_up(largest - 0.01)
    assert error.relaxation.factor == rounded_up(largest / 0.01)


def test_a_tolerance_of_zero_cannot_be_multiplied(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(2, 40)
    exact = explain_infeasible(problem_for(examples, eta=0.9, eps_r=0.0, eps_d=0.0), examples)
    assert exact is not None and exact.relaxation.factor is None
    assert exact.relaxation.addition is not None
    one = explain_infeasible(problem_for(examples, eta=0.9, eps_r=0.9, eps_d=1e-4), examples)
    assert one is not None and one.relaxation.factor is not None
