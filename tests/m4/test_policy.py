"""The policy: it survives a file to the last bit, and gives the weight of any example."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from m4.errors import InputError
from m4.patterns import Patterns
from m4.policy import Policy
from m4.problem import Intersection, Problem
from m4.solving import Solution, solve

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="module")
def examples(biased: MakeExamples) -> Patterns:
    return biased(51, 300, masked=True, soft_s=True, utilities=True)


@pytest.fixture(scope="module")
def solution(examples: Patterns, problem_for: MakeProblem) -> Solution:
    problem = problem_for(
        examples,
        eta=0.6,
        cap=1.5,
        eps_r=0.01,
        eps_d=0.03,
        targets=(0.45, 1 / 3),
        left_out=(("s0", "y1"),),
        penalty=7.0,
    )
    return solve(problem, examples, catalogue="0123abcd")


def saved(policy: Policy, folder: Path) -> Policy:
    path = folder / "policy.json"
    path.write_text(policy.to_json())
    return Policy.load(path)


def test_a_file_keeps_every_bit(solution: Solution, examples: Patterns, tmp_path: Path) -> None:
    policy = solution.policy
    loaded = saved(policy, tmp_path)
    assert loaded == policy
    assert loaded.to_json() == policy.to_json()
    np.testing.assert_array_equal(loaded.dual_vector(), policy.dual_vector())
    np.testing.assert_array_equal(loaded.weights(examples), solution.weights)
    assert Policy.load(str(tmp_path / "policy.json")) == policy


@settings(max_examples=100, deadline=None)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    mu=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_number_survives(number: float, mu: float, solution: Solution) -> None:
    policy = solution.policy.model_copy(update={"duals": {"s1": number}, "rate_dual": mu})
    loaded = Policy.model_validate_json(policy.to_json())
    assert loaded.duals["s1"].hex() == number.hex()
    assert loaded.rate_dual.hex() == mu.hex()


def test_hard_constraints_survive_too(
    biased: MakeExamples, problem_for: MakeProblem, tmp_path: Path
) -> None:
    examples = biased(52, 40)
    for penalty in (None, float("inf")):
        problem = problem_for(examples, eta=0.4, eps_r=0.05, eps_d=0.1, penalty=penalty)
        policy = solve(problem, examples).policy
        assert saved(policy, tmp_path) == policy


def test_weights_are_the_stated_function_of_the_annotations(solution: Solution) -> None:
    """q = clip(eta u - sum v z + sum eps |v| t - mu, 0, cap), for an example never seen."""
    policy = solution.policy
    s, y, u = np.array([0.37, 0.81]), np.array([1.0, 1.0, 0.25]), 0.77
    v = dict(policy.duals)
    slope = 0.0
    for k, target in enumerate((0.45, 1 / 3)):
        own = v.get(f"s{k}", 0.0)
        slope += own * (s[k] - target) - 0.01 * abs(own)
        for r in range(3):
            pair = v.get(f"s{k} & y{r}", 0.0)
            slope += (pair * (s[k] - target) - 0.03 * abs(pair)) * y[r]
    wanted = np.clip(0.6 * u - slope - policy.rate_dual, 0.0, 1.5)
    unseen = Patterns.from_arrays(s[None, :], y[None, :], utility=[u])
    assert policy.weights(unseen)[0] == pytest.approx(wanted, abs=1e-12)
    assert 0.0 < wanted < 1.5
    assert "s0 & y1" not in v
    assert sum(value != 0 for value in v.values()) >= 3


def test_an_intersection_has_a_multiplier_of_its_own(
    biased: MakeExamples, problem_for: MakeProblem, tmp_path: Path
) -> None:
    examples = biased(55, 300, labels=0)
    pair = Intersection(first="s0", second="s1", target=0.4)
    problem = problem_for(examples, eta=0.35, eps_x=0.02, eps_r=0.02, intersections=(pair,))
    policy = saved(solve(problem, examples).policy, tmp_path)
    own = policy.duals["s0 x s1"]
    assert own != 0.0
    s = np.array([0.9, 0.6])
    slope = own * (s[0] * s[1] - 0.4) - 0.02 * abs(own)
    for k in range(2):
        value = policy.duals.get(f"s{k}", 0.0)
        slope += value * (s[k] - 0.5) - 0.02 * abs(value)
    wanted = np.clip(0.35 - slope - policy.rate_dual, 0.0, 1.0)
    unseen = Patterns.from_arrays(s[None, :], np.zeros((1, 0)))
    assert policy.weights(unseen)[0] == pytest.approx(wanted, abs=1e-12)


def test_the_weight_of_an_example_does_not_depend_on_the_others(
    solution: Solution, biased: MakeExamples
) -> None:
    tomorrow = biased(53, 100, masked=True, utilities=True)
    together = solution.policy.weights(tomorrow)
    alone = [
        solution.policy.weights(
            Patterns(
                tomorrow.s[[row]],
                tomorrow.observed[[row]],
                tomorrow.y[[row]],
                tomorrow.utility[[row]],
                np.array([3.0]),
            )
        )[0]
        for row in range(100)
    ]
    np.testing.assert_array_equal(together, alone)
    assert together.min() >= 0.0
    assert together.max() <= 1.5
    assert together.std() > 0.01


def test_tomorrows_data_from_the_same_source_is_balanced_too(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    whole = biased(54, 40_000)
    today, tomorrow = (
        Patterns.from_arrays(whole.s[half], whole.y[half])
        for half in (slice(0, 20_000), slice(20_000, None))
    )
    solution = solve(problem_for(today, eta=0.6, eps_r=0.01, eps_d=0.01), today)
    weights = solution.policy.weights(tomorrow)
    assert weights.mean() == pytest.approx(0.6, abs=0.02)
    for k in range(2):
        before = abs(tomorrow.s[:, k].mean() - 0.5)
        after = abs(np.average(tomorrow.s[:, k], weights=weights) - 0.5)
        assert after < max(0.03, 0.5 * before)


def test_a_policy_is_a_few_kilobytes(solution: Solution) -> None:
    assert len(solution.policy.to_json()) < 5000


def test_data_of_another_shape_is_refused(solution: Solution, biased: MakeExamples) -> None:
    with pytest.raises(InputError, match="2 sensitive values and 4 labels, the problem 2 and 3"):
        solution.policy.weights(biased(1, 5, labels=4))
    with pytest.raises(InputError, match="1 sensitive values and 3 labels"):
        solution.policy.weights(biased(1, 5, values=1))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such policy; run solve first"):
        Policy.load(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read"):
        Policy.load(tmp_path)


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.pop(key)


def with_key(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update({key: value})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("rate_dual"), "rate_dual: Field required"),
        (with_key("colour", 1), "unknown key `colour`"),
        (with_key("rate_dual", "much"), "rate_dual: .*number.*'much'"),
        (with_key("duals", {"s0 & y9": 1.0}), "no constraint 's0 & y9'"),
        (lambda content: content["problem"].update(eta=9.0), "problem: .*eta 9 is above the cap"),
        (lambda content: content["certificate"].pop("gap"), "certificate.gap: Field required"),
    ],
)
def test_content_that_is_not_a_policy_is_told(
    change: Callable[[dict[str, Any]], Any], told: str, solution: Solution, tmp_path: Path
) -> None:
    content = json.loads(solution.policy.to_json())
    change(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"changed\.json: not a policy: .*{told}"):
        Policy.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00\xff\xfe garbage", b'{"problem": 1}'])
def test_garbage_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"garbage\.json: not a policy: "):
        Policy.load(path)


def test_half_a_file_is_told(solution: Solution, tmp_path: Path) -> None:
    text = solution.policy.to_json()
    path = tmp_path / "half.json"
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"not a policy: .*EOF"):
        Policy.load(path)


def test_a_policy_cannot_be_changed(solution: Solution) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        solution.policy.rate_dual = 0.0
