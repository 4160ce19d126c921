"""The published solver: the stated steps, converging to the exact optimum from above."""

from collections.abc import Callable

import numpy as np
import pytest

from m4.certificate import Certificate
from m4.errors import InputError
from m4.moments import Moments
from m4.patterns import Patterns
from m4.problem import Problem
from m4.solving import solve
from m4.streaming import solve_by_streaming

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]

ROWS = 3000


@pytest.fixture(scope="module")
def examples(biased: MakeExamples) -> Patterns:
    return biased(41, ROWS)


@pytest.fixture(scope="module")
def problem(examples: Patterns, problem_for: MakeProblem) -> Problem:
    return problem_for(examples, eta=0.7, eps_r=0.01, eps_d=0.02, penalty=1.0)


def as_stated(
    problem: Problem, examples: Patterns, written_out: WriteOut, *, passes: int, seed: int
) -> np.ndarray:
    """The mean over all steps of (v+, v-, mu), step by step as the methods write it."""
    z, t = written_out(problem, examples)
    a = np.vstack([z - t, -z - t])
    v, mu = np.zeros(len(a)), 0.0
    price = np.inf if problem.penalty is None else problem.penalty
    order = np.repeat(np.arange(len(examples.s)), examples.counts.astype(int))
    generator = np.random.default_rng(seed)
    seen: list[np.ndarray] = []
    for _ in range(passes):
        generator.shuffle(order)
        for row in order:
            tau = 2.0 / np.sqrt(len(seen) + 1)
            preferred = problem.eta * examples.utility[row]
            q = min(max(preferred - v @ a[:, row] - mu, 0.0), problem.cap)
            v = np.clip(v + tau * q * a[:, row], 0.0, price)
            mu += tau * (q - problem.eta)
            seen.append(np.append(v, mu))
    return np.asarray(np.mean(seen, axis=0))


@pytest.mark.parametrize("penalty", [None, 0.1])
@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
def test_the_steps_are_those_of_the_methods(
    penalty: float | None,
    tolerance: str,
    biased: MakeExamples,
    problem_for: MakeProblem,
    written_out: WriteOut,
) -> None:
    drawn = biased(42, 30, masked=True, soft_y=True, utilities=True)
    counts = np.random.default_rng(0).integers(1, 4, 30).astype(float)
    counted = Patterns(drawn.s, drawn.observed, drawn.y, drawn.utility, counts)
    problem = problem_for(
        counted, eta=0.8, cap=1.5, eps_r=0.02, eps_d=0.03, tolerance=tolerance, penalty=penalty
    )
    wanted = as_stated(problem, counted, written_out, passes=3, seed=9)
    got = solve_by_streaming(Moments.of(problem, counted), counts, passes=3, seed=9)
    sides = len(got.constraints)
    np.testing.assert_allclose(got.constraints, wanted[:sides] - wanted[sides:-1], atol=1e-12)
    assert got.rate == pytest.approx(wanted[-1], abs=1e-12)
    assert np.abs(got.constraints).max() > 1e-3
    if penalty is not None:
        assert np.abs(got.constraints).max() <= penalty


def test_the_gap_shrinks_with_passes(
    examples: Patterns, problem: Problem, certified: Callable[..., Certificate]
) -> None:
    joined, _ = examples.distinct()
    moments = Moments.of(problem, joined)
    gaps = []
    for passes in (1, 10, 100):
        duals = solve_by_streaming(moments, joined.counts, passes=passes).constraints
        gaps.append(certified(problem, joined, duals).gap)
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


@pytest.mark.parametrize("penalty", [10.0, 1.0, 0.05])
def test_its_certificate_is_honest(penalty: float, examples: Patterns, problem: Problem) -> None:
    stated = problem.model_copy(update={"penalty": penalty})
    exact = solve(stated, examples).certificate
    for passes in (1, 3, 20):
        streamed = solve(stated, examples, method="streaming", passes=passes).certificate
        assert streamed.primal > exact.primal
        assert streamed.dual < exact.dual + 1e-9
        assert streamed.gap >= streamed.primal - exact.primal - 1e-9
        assert streamed.rate_error < 1e-12


def test_bias_is_clearly_lower(examples: Patterns, problem: Problem) -> None:
    solution = solve(problem, examples, method="streaming")
    assert solution.before.representation_bias > 0.03
    assert solution.before.association_bias > 0.05
    assert solution.after.representation_bias < 0.5 * solution.before.representation_bias
    assert solution.after.association_bias < 0.7 * solution.before.association_bias
    assert solution.policy.method == "streaming"


def test_weights_come_close_to_the_exact_ones(examples: Patterns, problem: Problem) -> None:
    exact = solve(problem, examples)
    near = [
        np.abs(
            solve(problem, examples, method="streaming", passes=passes).weights - exact.weights
        ).mean()
        for passes in (2, 100)
    ]
    assert near[1] < 0.5 * near[0]
    assert near[1] < 0.02


def test_the_seed_decides_everything(examples: Patterns, problem: Problem) -> None:
    first, same, other = (
        solve(problem, examples, method="streaming", passes=2, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.weights, same.weights)
    assert first.policy == same.policy
    assert not np.array_equal(first.weights, other.weights)


@pytest.mark.parametrize("passes", [0, -1])
def test_no_pass_is_no_solution(passes: int, examples: Patterns, problem: Problem) -> None:
    with pytest.raises(InputError, match=f"passes is {passes}; .* at least 1"):
        solve(problem, examples, method="streaming", passes=passes)
