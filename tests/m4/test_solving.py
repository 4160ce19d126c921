"""`solve` and `solve_weights` against the problem as the methods state it, solved another way."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.optimize import minimize

from m4.bias import bias_table
from m4.errors import InfeasibleError, InputError
from m4.feasibility import largest_rate
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Intersection, Problem
from m4.solving import solve, solve_weights

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]


def independent_optimum(
    problem: Problem, examples: Patterns, written_out: WriteOut
) -> tuple[np.ndarray, float]:
    """Weights and optimal value by SLSQP, of N times the primal problem over (q, slacks)."""
    z, t = written_out(problem, examples)
    constraints, rows = z.shape
    wanted = problem.eta * examples.utility
    hard = problem.penalty is None or math.isinf(problem.penalty)
    slacks, price = (0, 0.0) if hard else (constraints, float(problem.penalty or 0.0))
    slack = np.eye(constraints)[:, :slacks]
    sides = np.vstack([np.hstack([t - z, slack]), np.hstack([t + z, slack])])
    rate = np.concatenate([np.ones(rows), np.zeros(slacks)])
    start = np.full(rows, problem.eta)
    excess = np.maximum(np.abs(z @ start) - t @ start, 0.0)[:slacks]
    found = minimize(
        lambda x: 0.5 * np.sum((wanted - x[:rows]) ** 2) + price * np.sum(x[rows:]),
        np.concatenate([start, excess]),
        jac=lambda x: np.concatenate([x[:rows] - wanted, np.full(slacks, price)]),
        bounds=[(0.0, problem.cap)] * rows + [(0.0, None)] * slacks,
        constraints=[
            {"type": "ineq", "fun": lambda x: sides @ x, "jac": lambda x: sides},
            {
                "type": "eq",
                "fun": lambda x: rate @ x - rows * problem.eta,
                "jac": lambda x: rate[None, :],
            },
        ],
        method="SLSQP",
        options={"ftol": 1e-10, "maxiter": 2000},
    )
    assert found.success, found.message
    return found.x[:rows], found.fun / rows


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "relative": ({}, {}),
    "absolute": ({}, {"tolerance": "absolute", "eps_d": 0.02}),
    "masked": ({"masked": True}, {}),
    "masked, absolute": ({"masked": True}, {"tolerance": "absolute", "eps_d": 0.02}),
    "soft s": ({"soft_s": True}, {}),
    "soft y": ({"soft_y": True}, {}),
    "utilities": ({"utilities": True}, {}),
    "targets": ({}, {"targets": (0.4, 0.55)}),
    "targets, absolute": (
        {},
        {"targets": (0.4, 0.55), "tolerance": "absolute", "eps_d": 0.02},
    ),
    "label targets": ({}, {"label_targets": ((0.4, 0.5, 0.6), (0.5, 0.45, 0.4))}),
    "left out": ({}, {"left_out": (("s0", "y1"), ("s1", "y0"))}),
    "infinite penalty": ({}, {"penalty": math.inf}),
    "penalty that is paid": ({}, {"penalty": 0.3, "eta": 0.9, "eps_d": 0.01}),
    "penalty that is exact": ({}, {"penalty": 50.0}),
    "cap above 1": ({}, {"cap": 3.0, "eta": 1.0}),
    "rate above 1": ({}, {"cap": 4.0, "eta": 1.4}),
    "cap below 1": ({}, {"cap": 0.6, "eta": 0.35}),
    "no tolerance": ({}, {"eps_r": 0.0, "eps_d": 0.0, "penalty": 2.0}),
    "everything": (
        {"masked": True, "soft_s": True, "soft_y": True, "utilities": True},
        {"penalty": 0.5, "cap": 1.5, "left_out": (("s1", "y2"),), "targets": (0.45, 0.5)},
    ),
}


@pytest.mark.parametrize("seed", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_an_independent_solver(
    case: str, seed: int, biased: MakeExamples, problem_for: MakeProblem, written_out: WriteOut
) -> None:
    data, changed = CASES[case]
    examples = biased(seed, 40, **data)
    problem = problem_for(examples, **{"eta": 0.4, "eps_r": 0.05, "eps_d": 0.1, **changed})
    weights, value = independent_optimum(problem, examples, written_out)
    assert value > 1e-3, "the case asks for no balancing, so it would test nothing"
    solution = solve(problem, examples)
    assert solution.certificate.primal == pytest.approx(value, abs=1e-6)
    assert solution.certificate.dual == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(solution.weights, weights, atol=1e-4)


def test_a_price_is_paid_only_where_it_is_cheaper(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(1, 40)
    cheap = solve(problem_for(examples, eta=0.9, penalty=0.3), examples)
    dear = solve(problem_for(examples, eta=0.4, eps_r=0.05, eps_d=0.1, penalty=50.0), examples)
    assert cheap.certificate.max_violation > 1e-3
    assert not cheap.after.all_within
    assert dear.certificate.max_violation < 1e-9
    assert dear.after.all_within


def test_counts_are_repetitions_to_the_last_bit(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(3, 40, masked=True, utilities=True)
    times = np.random.default_rng(0).integers(1, 6, 40)
    rows = np.repeat(np.arange(40), times)
    counted = Patterns(examples.s, examples.observed, examples.y, examples.utility, times * 1.0)
    repeated = Patterns(
        examples.s[rows],
        examples.observed[rows],
        examples.y[rows],
        examples.utility[rows],
        np.ones(len(rows)),
    )
    problem = problem_for(examples, eta=0.4, eps_r=0.05, eps_d=0.1)
    short, long = solve(problem, counted), solve(problem, repeated)
    np.testing.assert_array_equal(short.weights[rows], long.weights)
    assert short.policy == long.policy
    assert short.effective_sample_size == long.effective_sample_size


def test_the_order_of_rows_changes_nothing(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(5, 40)
    problem = problem_for(examples, eta=0.4, eps_r=0.05, eps_d=0.1)
    order = np.random.default_rng(0).permutation(40)
    shuffled = Patterns(
        examples.s[order],
        examples.observed[order],
        examples.y[order],
        examples.utility[order],
        examples.counts,
    )
    first, second = solve(problem, examples), solve(problem, shuffled)
    np.testing.assert_array_equal(first.weights[order], second.weights)
    assert first.policy == second.policy


def test_plain_arrays_state_the_same_problem(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(6, 40, masked=True, utilities=True)
    asked: dict[str, Any] = {
        "eta": 0.4,
        "cap": 1.2,
        "eps_r": 0.05,
        "eps_d": 0.04,
        "tolerance": "absolute",
        "penalty": 3.0,
    }
    problem = problem_for(examples, targets=(0.45, 0.55), **asked)
    wanted = solve(problem, examples)
    plain = solve_weights(
        examples.s,
        examples.y.toarray(),
        target=(0.45, 0.55),
        observed=examples.observed,
        utility=examples.utility,
        counts=examples.counts,
        **asked,
    )
    unknown = solve_weights(
        np.where(examples.observed, examples.s, np.nan),
        sparse.coo_array(examples.y),
        target=np.array([0.45, 0.55]),
        utility=examples.utility,
        **asked,
    )
    for solution in (plain, unknown):
        assert solution.policy == wanted.policy
        np.testing.assert_array_equal(solution.weights, wanted.weights)


def test_rows_with_nothing_observed_are_kept_at_the_common_level() -> None:
    s = np.array([1, 1, 1, 0, np.nan, np.nan])
    solution = solve_weights(s, np.zeros(6), eta=0.6, eps_r=0.0)
    assert solution.weights[4] == solution.weights[5]
    assert solution.weights[0] < solution.weights[4] < solution.weights[3]
    assert solution.weights[:3].sum() == pytest.approx(solution.weights[3], abs=1e-9)


@pytest.mark.parametrize(
    ("s", "target", "shares"),
    [
        ([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]], None, (1 / 3,) * 3),
        ([[1, 0, 0], [np.nan] * 3, [0, 0, 1]], None, (1 / 3,) * 3),
        ([[1, 1, 0], [0, 1, 0], [0, 0, 1]], None, (0.5,) * 3),
        ([[1, np.nan, np.nan], [np.nan, 0, 1], [0, np.nan, 1]], None, (0.5,) * 3),
        ([[1], [0], [1]], None, (0.5,)),
        ([1, 0, 1], 0.4, (0.4,)),
        ([[1, 1], [0, 1], [0, 0]], 0.3, (0.3, 0.3)),
        ([[1, 1], [0, 1], [0, 0]], [0.3, 0.6], (0.3, 0.6)),
    ],
)
def test_target_left_out_is_uniform(s: Any, target: Any, shares: tuple[float, ...]) -> None:
    solution = solve_weights(s, np.zeros((3, 1)), target=target, eta=0.5, penalty=1.0)
    assert solution.policy.problem.targets == pytest.approx(shares)


def test_no_labels_balances_representation_alone() -> None:
    solution = solve_weights([[1.0], [0], [0], [0]], np.zeros((4, 0)), eta=0.4, eps_r=0.0)
    np.testing.assert_allclose(solution.weights, [0.8, 0.8 / 3, 0.8 / 3, 0.8 / 3], atol=1e-9)
    assert solution.after.association_bias == 0.0
    assert solution.after.association.is_empty()


def test_balanced_data_is_left_as_it_is() -> None:
    s = np.tile([1.0, 0.0], 10)
    y = np.repeat([1.0, 0.0], 10)
    solution = solve_weights(s, y, eta=0.8)
    np.testing.assert_allclose(solution.weights, 0.8, atol=1e-9)
    assert solution.effective_sample_size == pytest.approx(20)
    assert solution.certificate.relative_gap < 1e-6


def checked_example() -> Patterns:
    """200,000 examples, two overlapping attributes and four labels that lean on them."""
    generator = np.random.default_rng(20240101)
    both = generator.random(200_000)
    s = np.column_stack([generator.random(200_000) < 0.38, both < 0.25])
    s[:, 1] |= s[:, 0] & (both < 0.33)
    leaning = np.array([[0.10, -0.08, 0.0, 0.05], [-0.04, 0.0, 0.09, 0.06]])
    rate = np.array([0.2, 0.3, 0.15, 0.1]) + (s - [0.38, 0.28]) @ leaning
    return Patterns.from_arrays(s, generator.random((200_000, 4)) < rate)


def test_the_checked_example(problem_for: MakeProblem) -> None:
    examples = checked_example()
    problem = problem_for(
        examples,
        targets=(0.5, 0.3),
        eta=0.7,
        penalty=10.0,
        eps_d=2e-3,
        eps_r=5e-3,
        tolerance="absolute",
    )
    assert len(examples.distinct()[0].s) <= 64
    solution = solve(problem, examples)
    certificate = solution.certificate
    assert abs(certificate.relative_gap) < 1e-6
    assert certificate.max_violation < 1e-8
    assert certificate.rate_error < 1e-12
    assert solution.before.representation_bias > 0.1
    assert solution.before.association_bias > 0.08
    assert solution.after.representation_bias <= 5e-3 + 1e-6
    assert solution.after.association_bias < 0.02
    assert solution.after.all_within
    assert solution.weights.min() >= 0.0
    assert solution.weights.max() <= 1.0
    assert solution.weights.mean() == pytest.approx(0.7, abs=1e-12)
    assert solution.policy.examples == 200_000


@st.composite
def any_examples(draw: st.DrawFn) -> Patterns:
    rows, m, c = draw(st.integers(8, 24)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    share = st.sampled_from([0.0, 1.0, 0.0, 1.0, 0.25, 0.9])
    s = draw(arrays(float, (rows, m), elements=share))
    y = draw(arrays(float, (rows, c), elements=st.sampled_from([0.0, 1.0, 0.5])))
    observed = draw(arrays(bool, (rows, m), elements=st.sampled_from([True, True, False])))
    counts = draw(arrays(float, rows, elements=st.integers(1, 9).map(float)))
    return Patterns.from_arrays(s, y, observed=observed, counts=counts)


@settings(max_examples=40, deadline=None)
@given(examples=any_examples(), eps=st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)), data=st.data())
def test_what_the_absolute_form_guarantees(
    examples: Patterns, eps: tuple[float, float], data: st.DataObject, problem_for: MakeProblem
) -> None:
    """AB_kr <= (eps_D + eps_R rho_r) / (p_k (1 - p_k)), and RB_k <= eps_R."""
    m = examples.s.shape[1]
    targets = tuple(data.draw(st.floats(0.3, 0.7)) for _ in range(m))
    asked: dict[str, Any] = {
        "targets": targets,
        "eps_r": eps[0],
        "eps_d": eps[1],
        "tolerance": "absolute",
    }
    rate = largest_rate(Moments.of(problem_for(examples, **asked), examples)).rate
    assume(rate > 0.05)
    solution = solve(problem_for(examples, eta=0.9 * rate, **asked), examples)
    q, o, s = solution.weights * examples.share, examples.observed, examples.s
    y = examples.y.toarray()
    for k in range(m):
        mass = q @ o[:, k]
        if mass < 1e-3:
            continue
        p = q @ (o[:, k] * s[:, k]) / mass
        slack = 1e-7 / mass
        assert abs(p - targets[k]) <= eps[0] + slack
        for r in range(y.shape[1]):
            rho = q @ (o[:, k] * y[:, r]) / mass
            given_value = q @ (o[:, k] * s[:, k] * y[:, r]) / (mass * p)
            given_other = q @ (o[:, k] * (1 - s[:, k]) * y[:, r]) / (mass * (1 - p))
            bound = (eps[1] + eps[0] * rho + slack) / (p * (1 - p))
            assert abs(given_value - given_other) <= bound + 1e-8


@settings(max_examples=25, deadline=None)
@given(examples=any_examples(), eps=st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)))
def test_what_the_relative_form_guarantees(
    examples: Patterns, eps: tuple[float, float], problem_for: MakeProblem
) -> None:
    """Among the kept examples with a label, each value's share is within eps_D of its target."""
    asked: dict[str, Any] = {"eps_r": eps[0], "eps_d": eps[1]}
    rate = largest_rate(Moments.of(problem_for(examples, **asked), examples)).rate
    assume(rate > 0.05)
    solution = solve(problem_for(examples, eta=0.9 * rate, **asked), examples)
    q, y = solution.weights * examples.share, examples.y.toarray()
    for k in range(examples.s.shape[1]):
        for r in range(y.shape[1]):
            among = q * examples.observed[:, k] * y[:, r]
            assert abs(among @ (examples.s[:, k] - 0.5)) <= eps[1] * among.sum() + 1e-7


def test_a_solution_reports_what_it_did(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(7, 200)
    problem = problem_for(examples, eta=0.4, eps_r=0.02, eps_d=0.05)
    solution = solve(problem, examples, catalogue="abc")
    policy = solution.policy
    assert policy.problem == problem
    assert policy.catalogue == "abc"
    assert policy.method == "dual"
    assert policy.examples == 200
    assert set(policy.versions) == {"m4-balance", "numpy", "scipy", "cvxpy"}
    np.testing.assert_array_equal(policy.weights(examples), solution.weights)
    again = bias_table(problem, examples, solution.weights)
    assert again.representation_bias == pytest.approx(policy.after.representation_bias)
    assert again.association_bias == pytest.approx(policy.after.association_bias)
    before = bias_table(problem, examples)
    assert before.association_bias == pytest.approx(policy.before.association_bias)
    squares = solution.weights.sum() ** 2 / (solution.weights**2).sum()
    assert solution.effective_sample_size == pytest.approx(squares)
    assert policy.effective_sample_size == solution.effective_sample_size


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"eta": 1.2}, r"rate eta 1\.2 is above the cap 1"),
        ({"eta": 0.0}, "eta"),
        ({"eta": math.nan}, "eta"),
        ({"cap": math.inf, "eta": math.inf}, "finite"),
        ({"penalty": 0.0}, "penalty"),
        ({"eps_r": -0.1}, "eps_r"),
        ({"eps_d": math.inf}, "eps_d"),
        ({"tolerance": "loose"}, "tolerance.*loose"),
        ({"target": 1.5}, "targets.*1.5"),
        ({"target": [0.5, 0.5, 0.5]}, "3 shares.* 2 columns"),
        ({"method": "guess"}, "'guess' is not one of auto, dual, cvxpy, streaming"),
        ({"observed": [[True]] * 3}, r"observed has shape \(3, 1\), s has \(4, 2\)"),
        ({"utility": [1.0]}, r"utility has shape \(1,\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(asked: dict[str, Any], told: str) -> None:
    s = [[1, 0], [0, 1], [1, 1], [0, 0]]
    with pytest.raises(InputError, match=told):
        solve_weights(s, [1, 0, 1, 0], **asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"solver": "scs"}, "solver 'scs' has no effect with method auto; leave it out"),
        ({"method": "dual", "solver": "scs"}, "solver 'scs' has no effect with method dual"),
        ({"method": "streaming", "solver": "scs"}, "no effect with method streaming"),
        ({"passes": 3}, "passes 3 has no effect with method auto"),
        ({"method": "cvxpy", "passes": 3}, "passes 3 has no effect with method cvxpy"),
        ({"method": "dual", "seed": 1}, "seed 1 has no effect with method dual"),
    ],
)
def test_options_without_effect_are_refused(
    asked: dict[str, Any], told: str, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(1, 40)
    with pytest.raises(InputError, match=told):
        solve(problem_for(examples, eta=0.4), examples, **asked)


def test_a_start_has_to_be_of_the_same_constraints(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(1, 400)
    asked: dict[str, Any] = {"eps_r": 0.02, "eps_d": 0.05, "penalty": 5.0}
    problem = problem_for(examples, eta=0.6, **asked)
    cold = solve(problem, examples)
    assert 0 < solve(problem, examples, start=cold.policy).passes < cold.passes
    nearby = problem_for(examples, eta=0.62, **asked)
    warm, again = solve(nearby, examples, start=cold.policy), solve(nearby, examples)
    np.testing.assert_allclose(warm.weights, again.weights, atol=1e-8)
    other = problem_for(examples, eta=0.6, left_out=(("s0", "y0"),), **asked)
    with pytest.raises(InputError, match="start is a policy of other constraints"):
        solve(other, examples, start=cold.policy)
    for method in ("cvxpy", "streaming"):
        with pytest.raises(InputError, match=f"no effect with method {method}"):
            solve(nearby, examples, method=method, start=cold.policy)


def test_a_solver_that_is_not_there_and_other_data_are_refused(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(1, 40)
    problem = problem_for(examples, eta=0.4)
    with pytest.raises(InputError, match=r"ABACUS is not installed; choose one of .*CLARABEL"):
        solve(problem, examples, method="cvxpy", solver="abacus")
    other = biased(1, 40, labels=2)
    with pytest.raises(InputError, match="2 sensitive values and 2 labels, the problem 2 and 3"):
        solve(problem, other)


@pytest.mark.parametrize("method", ["dual", "cvxpy"])
def test_the_method_is_told(method: Any, biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(1, 40)
    solution = solve(problem_for(examples, eta=0.4, penalty=1.0), examples, method=method)
    assert solution.policy.method == {"dual": "dual", "cvxpy": "cvxpy/clarabel"}[method]
    assert (solution.passes > 0) == (method == "dual")
    assert solution.certificate.relative_gap < 1e-6


def rearranged(examples: Patterns, seed: int) -> tuple[Patterns, np.ndarray]:
    """Each row's examples split over several rows, in any order; and where each row came from."""
    generator = np.random.default_rng(seed)
    parts = [generator.integers(0, int(count) + 1) for count in examples.counts]
    rows = np.tile(np.arange(len(parts)), 2)
    counts = np.concatenate([parts, examples.counts - parts])
    order = generator.permutation(np.flatnonzero(counts > 0))
    split = examples.rows(rows[order])
    return (
        Patterns(split.s, split.observed, split.y, split.utility, counts[order]),
        rows[order],
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_and_splitting_of_rows_changes_no_bit(
    seed: int, drawn: Callable[..., Any]
) -> None:
    """Shards may be read in any order, and patterns counted anywhere."""
    case = drawn(seed, penalty=3.0)
    split, rows = rearranged(case.examples, seed)
    first, second = solve(case.problem, case.examples), solve(case.problem, split)
    np.testing.assert_array_equal(first.weights[rows], second.weights)
    assert first.policy == second.policy
    assert first.passes == second.passes


def lone_women() -> Patterns:
    """Half are women, half are young, and so for each label; but young women are rare."""
    s = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 2, dtype=float)
    y = np.repeat([1.0, 0.0], 4)
    return Patterns.from_arrays(s, y, counts=np.array([10, 40, 40, 10] * 2, dtype=float))


def test_an_intersection_balances_what_its_values_do_not(problem_for: MakeProblem) -> None:
    examples = lone_women()
    asked: dict[str, Any] = {"eta": 0.4, "eps_r": 0.0, "eps_d": 0.0, "eps_x": 0.01}
    pair = Intersection(first="s0", second="s1", target=0.25)
    plain = solve(problem_for(examples, **asked), examples)
    np.testing.assert_allclose(plain.weights, 0.4, atol=1e-9)  # nothing to do
    assert plain.after.all_within
    crossed = problem_for(examples, intersections=(pair,), **asked)
    solution = solve(crossed, examples)
    before, after = (
        table.intersections.row(0, named=True) for table in (solution.before, solution.after)
    )
    assert before["share"] == pytest.approx(0.1)
    assert not before["within"]
    assert after["share"] == pytest.approx(0.24, abs=1e-8)
    assert after["within"]
    assert solution.after.all_within
    assert solution.after.representation["bias"].to_numpy().max() < 1e-8
    assert solution.after.association["gap"].to_numpy().max() < 1e-8
    assert solution.certificate.max_violation < 1e-9
    # Among the four groups of 20, 80, 80 and 20: .24 n / 20 is how much young women weigh.
    groups = 80 * np.array([0.24, 0.26, 0.26, 0.24]) / np.array([20, 80, 80, 20])
    np.testing.assert_allclose(solution.weights, np.tile(groups, 2), atol=1e-7)


def test_a_joint_share_that_cannot_be_is_told_with_its_pair(problem_for: MakeProblem) -> None:
    examples = lone_women()
    pair = Intersection(first="s0", second="s1", target=0.25)
    asked: dict[str, Any] = {"eps_r": 0.0, "eps_d": 0.0, "eps_x": 0.0, "intersections": (pair,)}
    with pytest.raises(InfeasibleError) as failure:
        solve(problem_for(examples, eta=0.5, **asked), examples)
    assert failure.value.largest_rate == pytest.approx(0.4)
    assert "s0 x s1" in failure.value.conflicts


def conflicting_labels() -> Patterns:
    """Three labels whose examples nearly all have the value: no rate near 1 can balance them."""
    generator = np.random.default_rng(8)
    s = (generator.random(600) < 0.5).astype(float)
    y = generator.random((600, 3)) < np.where(s[:, None] > 0, [0.5, 0.4, 0.3], 0.05)
    return Patterns.from_arrays(s, y)


def test_squared_slacks_spread_what_cannot_be_avoided(problem_for: MakeProblem) -> None:
    """The sum of violations is smallest with l1, and their largest is smaller with l2."""
    examples = conflicting_labels()
    asked: dict[str, Any] = {"eta": 0.8, "eps_r": 0.0, "eps_d": 0.0}
    few = solve(problem_for(examples, penalty=5.0, **asked), examples)
    spread = solve(problem_for(examples, penalty=20.0, slack="l2", **asked), examples)
    one, other = (
        solution.totals.violation(solution.policy.problem.layout) for solution in (few, spread)
    )
    assert (one > 1e-9).sum() == 3
    assert (other > 1e-9).sum() == 4
    assert one.sum() < 0.95 * other.sum()
    assert other.max() < 0.9 * one.max()
    # The multiplier of a squared slack is the price times the violation.
    np.testing.assert_allclose(np.abs(spread.policy.dual_vector()), 20.0 * other, atol=1e-8)
    assert np.abs(few.policy.dual_vector()).max() <= 5.0
    for solution in (few, spread):
        assert abs(solution.certificate.relative_gap) < 1e-9


def test_what_stayed_violated_is_listed(problem_for: MakeProblem) -> None:
    examples = conflicting_labels()
    problem = problem_for(examples, eta=0.95, eps_r=0.0, eps_d=0.01, penalty=2.0, slack="l2")
    solution = solve(problem, examples)
    listed = solution.violated()
    assert listed.columns == ["constraint", "multiplier", "violation", "excess"]
    assert listed["violation"].is_sorted(descending=True)
    assert listed["violation"].max() == pytest.approx(solution.certificate.max_violation)
    names = [str(constraint) for constraint in problem.constraints()]
    q, s, y = solution.weights * examples.share, examples.s[:, 0], examples.y.toarray()
    for row in listed.iter_rows(named=True):
        position = names.index(row["constraint"])
        among = q if position == 0 else q * y[:, position - 1]
        eps = 0.0 if position == 0 else 0.01
        excess = abs(among @ (s - 0.5)) - eps * among.sum()
        assert row["violation"] == pytest.approx(excess)
        assert row["excess"] == pytest.approx(excess / among.sum())
        assert row["multiplier"] == pytest.approx(2.0 * np.sign(among @ (s - 0.5)) * excess)
    largest = float(listed["violation"][0])
    assert solution.violated(least=largest).is_empty()
    met = solve(problem_for(examples, eta=0.2, eps_r=0.05, eps_d=0.1), examples)
    assert met.violated().is_empty()
