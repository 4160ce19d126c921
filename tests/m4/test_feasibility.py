"""What can be met at all: the largest rate, and which constraints together forbid more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from m4.errors import InfeasibleError, InputError
from m4.feasibility import conflicting, explain_infeasible, largest_rate
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.solving import solve, solve_weights

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.5, 0.7, 0.98])
@pytest.mark.parametrize("cap", [0.8, 1.0, 3.0])
def test_one_binary_attribute_has_a_closed_form(
    share: float, cap: float, problem_for: MakeProblem
) -> None:
    """2 min(p, 1-p) per unit of cap, for pi = .5 and no tolerance."""
    examples = Patterns.from_arrays(
        [1.0, 0.0], np.zeros((2, 0)), counts=[100 * share, 100 * (1 - share)]
    )
    moments = Moments.of(problem_for(examples, eta=0.01, cap=cap, eps_r=0.0), examples)
    wanted = 2 * min(share, 1 - share) * cap
    assert largest_rate(moments).rate == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("masked", [True, False])
def test_examples_that_are_not_observed_can_all_be_kept(
    masked: bool, problem_for: MakeProblem
) -> None:
    """Of 30 % person images, 40 % with the value: counting the rest as "not s" costs most data."""
    s = np.array([1.0, 0.0, 0.0])
    examples = Patterns.from_arrays(
        s,
        np.zeros((3, 0)),
        observed=[True, True, not masked],
        counts=[12, 18, 70],
    )
    moments = Moments.of(problem_for(examples, eta=0.01, eps_r=0.0), examples)
    wanted = 0.7 + 0.3 * 2 * 0.4 if masked else 2 * 0.12
    assert largest_rate(moments).rate == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_largest_rate_is_the_linear_programme(
    seed: int,
    tolerance: str,
    biased: MakeExamples,
    problem_for: MakeProblem,
    written_out: WriteOut,
) -> None:
    examples = biased(seed, 60, masked=True, soft_s=True)
    problem = problem_for(examples, eta=0.1, cap=1.3, eps_r=0.01, eps_d=0.02, tolerance=tolerance)
    z, t = written_out(problem, examples)
    stated = linprog(
        -np.full(60, 1 / 60),
        A_ub=np.vstack([z - t, -z - t]),
        b_ub=np.zeros(2 * len(z)),
        bounds=(0, 1.3),
        method="highs-ds",
    )
    found = largest_rate(Moments.of(problem, examples))
    assert found.rate == pytest.approx(-stated.fun, abs=1e-7)
    assert 0.05 < found.rate < 1.3
    # A constraint that does not bind can be left out at no gain.
    needed = largest_rate(Moments.of(problem, examples), found.duals != 0).rate
    assert needed == pytest.approx(found.rate, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tolerance=st.sampled_from(["relative", "absolute"]),
    cap=st.sampled_from([0.7, 2.0]),
)
def test_prices_are_slopes_of_the_largest_rate(
    seed: int, tolerance: str, cap: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    """d rate / d eps_j by differences, one constraint after the other.

    Where weights or multipliers are not unique the rate has a kink: the price is then one of the
    slopes in between.
    """
    examples = biased(seed, 40, masked=seed % 2 == 0, soft_s=seed % 3 == 0)
    examples = replace(examples, counts=np.random.default_rng(seed).uniform(0.5, 2.0, 40))
    problem = problem_for(examples, eta=0.1, cap=cap, eps_r=0.02, eps_d=0.03, tolerance=tolerance)
    moments = Moments.of(problem, examples)
    found = largest_rate(moments)
    step = 1e-6

    def slope(direction: np.ndarray) -> float:
        there = largest_rate(replace(moments, eps=moments.eps + step * direction))
        return (there.rate - found.rate) / step

    kinks = 0
    for unit, price in zip(np.eye(len(moments.eps)), found.prices, strict=True):
        right, left = slope(unit), -slope(-unit)
        error = 1e-3 * (1.0 + left)
        assert min(left, right) - error <= price <= max(left, right) + error
        kinks += abs(left - right) > error
    if kinks == 0:
        together = slope(moments.eps)
        assert found.prices @ moments.eps == pytest.approx(together, rel=1e-3, abs=1e-3)
    assert found.prices.max() > 0.01


def test_two_values_of_an_attribute_share_one_price(problem_for: MakeProblem) -> None:
    """Loosening one of two constraints that say the same gains nothing, loosening both does."""
    woman = np.array([1.0, 0.0])
    examples = Patterns.from_arrays(
        np.column_stack([woman, 1 - woman]), np.zeros((2, 0)), counts=[7, 3]
    )
    moments = Moments.of(problem_for(examples, eta=0.1, eps_r=0.05), examples)
    found = largest_rate(moments)
    # All 3 in 10 are kept, and of the others what makes the share .55: rate(eps) = .3 / (.5 - eps)
    assert found.rate == pytest.approx(0.3 / 0.45)
    assert found.prices.sum() == pytest.approx(0.3 / 0.45**2)
    one = replace(moments, eps=moments.eps + np.array([0.01, 0.0]))
    assert largest_rate(one).rate == pytest.approx(found.rate)


def test_prices_in_an_error_are_named_and_the_dearest_comes_first(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(2, 60)
    problem = problem_for(examples, eta=0.95, eps_r=0.01, eps_d=0.02)
    error = explain_infeasible(problem, examples)
    assert error is not None
    found = largest_rate(Moments.of(problem, examples))
    named = dict(zip(map(str, problem.constraints()), found.prices.tolist(), strict=True))
    assert {price.constraint for price in error.prices} == {k for k, v in named.items() if v > 0}
    for price in error.prices:
        assert price.gain == pytest.approx(named[price.constraint])
    gains = [price.gain for price in error.prices]
    assert gains == sorted(gains, reverse=True)


def test_a_looser_tolerance_never_lowers_the_rate(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(4, 80)
    rates = [
        largest_rate(Moments.of(problem_for(examples, eps_r=eps, eps_d=eps), examples)).rate
        for eps in (0.0, 0.01, 0.05, 0.2, 1.0)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] == pytest.approx(1.0)


def test_no_constraints_allow_the_cap(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(5, 20)
    moments = Moments.of(problem_for(examples, cap=2.0), examples)
    none = np.zeros(len(moments.eps), bool)
    assert largest_rate(moments, none).rate == pytest.approx(2.0)


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize("seed", range(1, 7))
def test_the_largest_rate_divides_what_works_from_what_fails(
    seed: int, tolerance: str, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(seed, 60, masked=seed % 2 == 0, soft_s=seed % 3 == 0)
    asked: dict[str, Any] = {"eps_r": 0.01, "eps_d": 0.02, "tolerance": tolerance}
    with pytest.raises(InfeasibleError) as failure:
        solve(problem_for(examples, eta=1.0, **asked), examples)
    rate = failure.value.largest_rate
    assert 0.0 < rate < 1.0
    works = solve(problem_for(examples, eta=0.999 * rate, **asked), examples)
    assert works.certificate.max_violation < 1e-7
    assert works.weights.mean() == pytest.approx(0.999 * rate, abs=1e-9)
    with pytest.raises(InfeasibleError) as barely:
        solve(problem_for(examples, eta=1.01 * rate, **asked), examples)
    assert barely.value.largest_rate == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
@pytest.mark.parametrize("seed", range(1, 7))
def test_conflicts_are_minimal(
    seed: int, tolerance: str, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(seed, 60)
    asked: dict[str, Any] = {"eps_r": 0.01, "eps_d": 0.02, "tolerance": tolerance}
    moments = Moments.of(problem_for(examples, eta=0.5, **asked), examples)
    rate = largest_rate(moments).rate
    for eta in (1.01 * rate, 0.5 * (1 + rate), 0.99):
        found, conflicts = conflicting(moments, eta)
        assert found == pytest.approx(rate)
        assert conflicts.any()
        assert largest_rate(moments, conflicts).rate < eta
        for j in np.flatnonzero(conflicts):
            without = conflicts.copy()
            without[j] = False
            assert largest_rate(moments, without).rate >= eta - 1e-6
    assert not conflicting(moments, 0.99 * rate)[1].any()


def costly_labels() -> Patterns:
    """Labels y0, y1 and y2 of two tenths each whose examples all have s; the rest is balanced.

    With a target of one half in each label, all examples of a label have to go.
    """
    s = np.repeat([1.0, 1.0, 1.0, 1.0, 0.0], 2)
    y = np.zeros((10, 3))
    for label in range(3):
        y[2 * label : 2 * label + 2, label] = 1.0
    return Patterns.from_arrays(s, y)


def test_leaving_out_any_pair_of_a_conflict_resolves_it(problem_for: MakeProblem) -> None:
    examples = costly_labels()
    asked: dict[str, Any] = {"eps_r": 1.0, "eps_d": 0.0, "eta": 0.7}
    with pytest.raises(InfeasibleError) as failure:
        solve(problem_for(examples, **asked), examples)
    assert failure.value.largest_rate == pytest.approx(0.4, abs=1e-9)
    conflicts = failure.value.conflicts
    assert len(conflicts) == 2  # any two labels take .4 of the data, one alone takes .2
    pairs = {("s0", f"y{label}") for label in range(3)}
    named = {tuple(name.split(" & ")) for name in conflicts}
    assert named <= pairs
    with pytest.raises(InfeasibleError):
        solve(problem_for(examples, left_out=tuple(pairs - named), **asked), examples)
    for resolved in named:
        left_out = tuple((pairs - named) | {resolved})
        solution = solve(problem_for(examples, left_out=left_out, **asked), examples)
        assert solution.certificate.max_violation < 1e-9
        assert solution.weights.mean() == pytest.approx(0.7)


def test_the_message_says_what_and_how_much(problem_for: MakeProblem) -> None:
    """Of three labels, each a fifth of the data, two have to go: .4 is left."""
    examples = costly_labels()
    with pytest.raises(InfeasibleError) as failure:
        solve(problem_for(examples, eps_r=1.0, eps_d=0.0, eta=0.7), examples)
    assert isinstance(failure.value, InputError)
    first, second = failure.value.conflicts
    leave_out = [" & ".join(pair) for pair in failure.value.relaxation.leave_out or ()]
    assert len(leave_out) == 2
    assert str(failure.value) == (
        f"the tolerances cannot be met at rate 0.7: {first}, {second} conflict; the largest "
        "feasible rate is 0.4000; lower eta, raise the cap from 1 to 1.75, add 0.5 to every "
        f"tolerance, leave out {leave_out[0]}, {leave_out[1]}, or set a finite penalty"
    )


def test_a_message_names_the_first_and_counts_the_rest() -> None:
    """Every label leans on the value a little, and all of them have to be met."""
    generator = np.random.default_rng(1)
    s = np.tile([1.0, 0.0], 400)
    y = (generator.random((800, 12)) < 0.3 + 0.1 * s[:, None]).astype(float)
    examples = Patterns.from_arrays(s, y)
    names = [f"a label with a rather long name, number {number}" for number in range(12)]
    asked: dict[str, Any] = {"values": ("person.woman",), "targets": (0.5,), "eps_d": 0.001}
    problem = Problem(labels=tuple(names), label_targets=((0.5,) * 12,), eta=0.9, **asked)
    rate = largest_rate(Moments.of(problem, examples)).rate
    problem = problem.model_copy(update={"eta": 1.0001 * rate})
    error = explain_infeasible(problem, examples)
    assert error is not None and len(error.conflicts) > 5
    message = str(error)
    listed = message.split(": ")[1].split(" conflict")[0]
    shown = [each for each in error.conflicts if f"{each}," in listed or f"{each} and" in listed]
    assert shown == list(error.conflicts[: len(shown)])
    assert listed.endswith(f" and {len(error.conflicts) - len(shown)} more")
    assert 1 <= len(shown) < 5 and len(message) <= 400  # fewer names than usual: they are long
    short = problem.model_copy(update={"labels": tuple(f"y{number}" for number in range(12))})
    brief = explain_infeasible(short, examples)
    assert brief is not None
    assert f" and {len(brief.conflicts) - 5} more conflict" in str(brief)


def test_the_rate_in_the_message_can_be_used() -> None:
    """It is rounded down, so that typing it back works."""
    s = np.repeat([1.0, 0.0], [1, 6])
    told = r"s0 forbids it; the largest feasible rate is 0\.2857"
    with pytest.raises(InfeasibleError, match=told):
        solve_weights(s, np.zeros((7, 0)), eta=0.5, eps_r=0.0)
    assert solve_weights(s, np.zeros((7, 0)), eta=0.2857, eps_r=0.0).after.all_within


def test_a_value_that_nobody_lacks_allows_nothing() -> None:
    with pytest.raises(InfeasibleError, match=r"rate is 0\.0000") as failure:
        solve_weights(np.ones(5), np.zeros((5, 0)), eta=0.5)
    assert failure.value.largest_rate == 0.0


def test_a_finite_penalty_solves_it_and_shows_the_violations(problem_for: MakeProblem) -> None:
    examples = costly_labels()
    asked: dict[str, Any] = {"eps_r": 1.0, "eps_d": 0.0, "eta": 0.7}
    solution = solve(problem_for(examples, penalty=10.0, **asked), examples)
    assert solution.weights.mean() == pytest.approx(0.7)
    assert abs(solution.certificate.relative_gap) < 1e-6
    assert solution.certificate.max_violation > 0.01
    assert not solution.after.all_within
    broken = solution.after.association.filter(~solution.after.association["within"])
    assert broken["gap"].min() == pytest.approx(0.5)
    # Three tenths of the data have to be labelled to keep seven: half of it counts as excess.
    assert solution.certificate.primal > 10.0 * 0.15


def test_a_feasible_problem_has_nothing_to_explain(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(6, 40)
    assert (
        explain_infeasible(problem_for(examples, eta=0.1, eps_r=0.1, eps_d=0.2), examples) is None
    )
