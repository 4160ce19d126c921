"""Constraints and the dual function against their formulas, written out example by example."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Moments, Problem

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"tolerance": "absolute", "targets": (0.6, 0.3)},
    {"left_out": (("s0", "y0"), ("s1", "y2"))},
    {"left_out": (("s0", "y0"), ("s0", "y1"), ("s0", "y2")), "tolerance": "absolute"},
    {"label_targets": ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), "targets": (0.7, 0.8)},
    {"cap": 2.0, "eta": 1.2, "penalty": 3.0},
]


@pytest.fixture(params=range(len(SETTINGS)))
def stated(
    request: pytest.FixtureRequest, biased: MakeExamples, problem_for: MakeProblem
) -> tuple[Problem, Patterns]:
    examples = biased(11, 25, masked=True, soft_s=True, soft_y=True, utilities=True)
    counts = np.random.default_rng(1).integers(1, 5, 25).astype(float)
    counted = Patterns(examples.s, examples.observed, examples.y, examples.utility, counts)
    asked = {"eta": 0.6, "eps_r": 0.03, "eps_d": 0.07, **SETTINGS[request.param]}
    return problem_for(counted, **asked), counted


def test_moments_are_the_formulas(stated: tuple[Problem, Patterns], written_out: WriteOut) -> None:
    problem, examples = stated
    moments = Moments.of(problem, examples)
    z, t = written_out(problem, examples)
    np.testing.assert_allclose(moments.z.toarray().T, z, atol=1e-15)
    mass = moments.mass.toarray()[:, moments.mass_of] * moments.eps
    np.testing.assert_allclose(mass.T, t, atol=1e-15)
    np.testing.assert_array_equal(moments.preferred, problem.eta * examples.utility)
    assert len(problem.constraints()) == len(z)


def test_violation_is_the_excess_of_each_constraint(
    stated: tuple[Problem, Patterns], written_out: WriteOut
) -> None:
    problem, examples = stated
    moments = Moments.of(problem, examples)
    z, t = written_out(problem, examples)
    q = np.random.default_rng(2).random(25)
    mean = examples.counts / examples.counts.sum()
    excess = np.maximum(np.abs(z @ (mean * q)) - t @ (mean * q), 0.0)
    np.testing.assert_allclose(moments.violation(q), excess, atol=1e-15)
    assert excess.max() > 0
    preferred = problem.eta * examples.utility
    assert moments.objective(q) == pytest.approx(0.5 * mean @ (preferred - q) ** 2)


def dual_as_stated(
    problem: Problem, examples: Patterns, both: np.ndarray, mu: float, written_out: WriteOut
) -> tuple[float, np.ndarray]:
    """g(v, mu) and its gradient for v = (v+, v-), from the stacked one-sided constraints."""
    z, t = written_out(problem, examples)
    a = np.vstack([z - t, -z - t])
    mean = examples.counts / examples.counts.sum()
    preferred = problem.eta * examples.utility
    q = np.clip(preferred - both @ a - mu, 0.0, problem.cap)
    value = mean @ (0.5 * (preferred - q) ** 2 + (both @ a + mu) * q) - mu * problem.eta
    return float(value), np.append(a @ (mean * q), mean @ q - problem.eta)


def test_dual_value_is_the_stated_function(
    stated: tuple[Problem, Patterns], written_out: WriteOut
) -> None:
    problem, examples = stated
    moments = Moments.of(problem, examples)
    generator = np.random.default_rng(3)
    for _ in range(20):
        signed = generator.normal(size=len(moments.eps)) * generator.choice([0.01, 0.3, 3.0])
        mu = float(generator.normal(scale=0.3))
        both = np.concatenate([np.maximum(signed, 0), np.maximum(-signed, 0)])
        stacked, _ = dual_as_stated(problem, examples, both, mu, written_out)
        assert moments.dual_value(signed, mu) == pytest.approx(stacked, abs=1e-12)
        # Raising both sides of a constraint together only lowers the bound: signed is enough.
        raised = both + np.tile(generator.random(len(signed)), 2)
        assert dual_as_stated(problem, examples, raised, mu, written_out)[0] <= stacked + 1e-12


def test_the_gradient_is_the_moments_of_the_weights(
    stated: tuple[Problem, Patterns], written_out: WriteOut
) -> None:
    """dg/dv = E[q* a] and dg/dmu = E[q*] - eta, by central differences of `dual_value`."""
    problem, examples = stated
    moments = Moments.of(problem, examples)
    generator = np.random.default_rng(4)
    signed = generator.choice([-1, 1], len(moments.eps)) * generator.uniform(
        0.05, 0.3, len(moments.eps)
    )
    both = np.concatenate([np.maximum(signed, 0), np.maximum(-signed, 0)])
    gradient = dual_as_stated(problem, examples, both, 0.1, written_out)[1]
    step = 1e-6
    for j, sign in enumerate(np.sign(signed)):
        moved = np.zeros_like(signed)
        moved[j] = sign * step
        up = moments.dual_value(signed + moved, 0.1)
        down = moments.dual_value(signed - moved, 0.1)
        side = j if sign > 0 else j + len(signed)
        assert (up - down) / (2 * step) == pytest.approx(gradient[side], abs=1e-7)
    rise = moments.dual_value(signed, 0.1 + step) - moments.dual_value(signed, 0.1 - step)
    assert rise / (2 * step) == pytest.approx(gradient[-1], abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.lists(st.floats(-5, 5), min_size=9, max_size=9), min_size=2, max_size=2),
    at=st.floats(0, 1),
)
def test_the_dual_is_concave(
    ends: list[list[float]], at: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(12, 20)
    moments = Moments.of(problem_for(examples, eta=0.5), examples)
    first, second = (np.array(end) for end in ends)
    between = at * first + (1 - at) * second
    values = [moments.dual_value(v[:-1], float(v[-1])) for v in (first, second, between)]
    assert values[2] >= at * values[0] + (1 - at) * values[1] - 1e-9


def test_constraints_are_named_in_order() -> None:
    problem = Problem(
        values=("gender.woman", "age.young"),
        labels=("nurse", "cook"),
        targets=(0.5, 0.3),
        label_targets=((0.5, 0.5), (0.3, 0.3)),
        left_out=(("age.young", "nurse"),),
    )
    assert [str(constraint) for constraint in problem.constraints()] == [
        "gender.woman",
        "age.young",
        "gender.woman & nurse",
        "gender.woman & cook",
        "age.young & cook",
    ]
    assert problem.leaves_out("age.young", "nurse")
    assert not problem.leaves_out("age.young", "cook")


def test_a_catalogue_states_a_problem() -> None:
    catalogue = Catalogue.model_validate(
        {
            "name": "small",
            "purpose": "test",
            "sensitive": {
                "gender": {
                    "describes": "perceived gender",
                    "values": {
                        "woman": {"terms": ["woman"], "target": 0.5},
                        "man": {"terms": ["man"], "target": 0.5},
                    },
                }
            },
            "labels": {"nurse": {"terms": ["nurse"], "targets": {"gender.woman": 0.6}}},
            "proxies": {"ward": {"terms": ["ward"]}},
            "tolerances": {"mode": "relative", "representation": 0.02, "association": 0.03},
            "leave_out": [["gender.man", "ward"]],
        }
    )
    problem = Problem.of(catalogue, eta=0.7, cap=2.0, penalty=5.0)
    assert problem == Problem(
        values=("gender.woman", "gender.man"),
        labels=("nurse", "ward"),
        targets=(0.5, 0.5),
        label_targets=((0.6, 0.5), (0.5, 0.5)),
        left_out=(("gender.man", "ward"),),
        eps_r=0.02,
        eps_d=0.03,
        tolerance="relative",
        eta=0.7,
        cap=2.0,
        penalty=5.0,
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"targets": (0.5,)}, "do not match 2 values and 1 labels"),
        ({"label_targets": ((0.5,),)}, "do not match 2 values and 1 labels"),
        ({"label_targets": ((0.5, 0.5), (0.5, 0.5))}, "do not match 2 values and 1 labels"),
        ({"targets": (0.5, 1.5)}, "less than or equal to 1"),
        ({"values": ("a", "a")}, "'a' is there twice"),
        ({"left_out": (("a", "z"),)}, "no pair 'a', 'z'"),
        ({"left_out": (("y", "a"),)}, "no pair 'y', 'a'"),
        ({"eta": 0.9, "cap": 0.8}, "eta 0.9 is above the cap 0.8"),
        ({"eta": math.inf, "cap": math.inf}, "finite"),
        ({"eps_d": math.nan}, "eps_d"),
        ({"rate": 0.9}, "rate"),
    ],
)
def test_problems_that_cannot_be_are_refused(changed: dict[str, Any], told: str) -> None:
    stated: dict[str, Any] = {
        "values": ("a", "b"),
        "labels": ("y",),
        "targets": (0.5, 0.5),
        "label_targets": ((0.5,), (0.5,)),
    }
    Problem(**stated)
    with pytest.raises(ValidationError, match=told):
        Problem(**{**stated, **changed})


def test_a_problem_cannot_be_changed(biased: MakeExamples, problem_for: MakeProblem) -> None:
    problem = problem_for(biased(1, 5))
    with pytest.raises(ValidationError, match="frozen"):
        problem.eta = 0.1


def test_data_of_another_shape_is_refused(biased: MakeExamples, problem_for: MakeProblem) -> None:
    problem = problem_for(biased(1, 5))
    with pytest.raises(InputError, match="1 sensitive values and 3 labels, the problem 2 and 3"):
        Moments.of(problem, biased(1, 5, values=1))


def test_targets_of_single_labels_have_no_effect_on_an_absolute_tolerance() -> None:
    asked = {"values": ("s",), "labels": ("y",), "targets": (0.5,), "tolerance": "absolute"}
    Problem.model_validate({**asked, "label_targets": ((0.5,),)})
    with pytest.raises(ValidationError, match="no effect on an absolute tolerance"):
        Problem.model_validate({**asked, "label_targets": ((0.6,),)})


def test_an_infinite_penalty_is_a_hard_constraint() -> None:
    asked = {"values": ("s",), "labels": (), "targets": (0.5,), "label_targets": ((),)}
    assert Problem.model_validate({**asked, "penalty": float("inf")}).penalty is None
