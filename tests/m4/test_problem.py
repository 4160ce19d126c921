"""What a problem may ask for, and where its constraints lie in totals."""

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
from m4.problem import Intersection, Problem
from m4.totals import measure

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
WriteOut = Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]


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
    crossed = problem.model_copy(
        update={
            "intersections": (
                Intersection(first="gender.woman", second="age.young", target=0.2),
                Intersection(first="age.young", second="gender.woman", target=0.2),
            )
        }
    )
    assert crossed.constraints()[:5] == problem.constraints()
    assert [str(constraint) for constraint in crossed.constraints()[5:]] == [
        "gender.woman x age.young",
        "age.young x gender.woman",
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


def crossing(first: str, second: str) -> Intersection:
    return Intersection(first=first, second=second, target=0.25)


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
        ({"slack": "l2"}, "slack l2 has no effect on hard constraints; give a finite penalty"),
        ({"slack": "l2", "penalty": math.inf}, "slack l2 has no effect on hard constraints"),
        ({"slack": "l3", "penalty": 1.0}, "'l1' or 'l2'"),
        ({"eps_x": -0.1}, "eps_x"),
        ({"intersections": (crossing("a", "a"),)}, "'a x a' is not a pair of two values"),
        ({"intersections": (crossing("a", "y"),)}, "'a x y' is not a pair of two values"),
        ({"intersections": (crossing("a", "b"),) * 2}, "'a x b' is there twice"),
        ({"intersections": ({"first": "a", "second": "b", "target": 1.5},)}, "less than or equal"),
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


def test_a_changed_copy_is_compiled_anew(biased: MakeExamples, problem_for: MakeProblem) -> None:
    """What the first problem has worked out does not stay behind in the second."""
    problem = problem_for(biased(1, 5), eps_r=0.3, left_out=(("s0", "y0"),))
    assert len(problem.layout.eps) == 7
    assert problem.leaves_out("s0", "y0")
    for copy in (
        problem.model_copy(update={"eps_r": 0.0, "left_out": ()}),
        Problem(**{**problem.model_dump(), "eps_r": 0.0, "left_out": ()}),
    ):
        assert copy.layout.eps.tolist() == [0.0, 0.0] + [0.01] * 6
        assert not copy.leaves_out("s0", "y0")
    assert problem.model_copy() == problem
    assert problem.layout.eps[0] == 0.3
    with pytest.raises(ValidationError, match="eta 3 is above the cap"):
        problem.model_copy(update={"eta": 3.0})


def test_data_of_another_shape_is_refused(biased: MakeExamples, problem_for: MakeProblem) -> None:
    problem = problem_for(biased(1, 5))
    with pytest.raises(InputError, match="1 sensitive values and 3 labels, the problem 2 and 3"):
        problem.check(biased(1, 5, values=1))
    problem.check(biased(2, 9))


def test_targets_of_single_labels_have_no_effect_on_an_absolute_tolerance() -> None:
    asked = {"values": ("s",), "labels": ("y",), "targets": (0.5,), "tolerance": "absolute"}
    Problem.model_validate({**asked, "label_targets": ((0.5,),)})
    with pytest.raises(ValidationError, match="no effect on an absolute tolerance"):
        Problem.model_validate({**asked, "label_targets": ((0.6,),)})


def test_an_infinite_penalty_is_a_hard_constraint() -> None:
    asked = {"values": ("s",), "labels": (), "targets": (0.5,), "label_targets": ((),)}
    assert Problem.model_validate({**asked, "penalty": float("inf")}).penalty is None


def test_the_price_is_the_penalty() -> None:
    asked = {"values": ("s",), "labels": (), "targets": (0.5,), "label_targets": ((),)}
    assert Problem.model_validate({**asked, "penalty": 3.0}).price == 3.0
    assert Problem.model_validate(asked).price == math.inf


def test_a_catalogue_states_its_intersections(problem_for: MakeProblem) -> None:
    """All pairs of a value of each, at the product of their targets if not given."""
    value = {"terms": ["word"]}
    attributes = {
        "gender": {
            "describes": "perceived gender",
            "values": {"woman": {**value, "target": 0.5}, "man": {**value, "target": 0.5}},
        },
        "age": {
            "describes": "perceived age",
            "values": {"young": {**value, "target": 0.2}, "old": {**value, "target": 0.8}},
        },
    }
    catalogue = Catalogue.model_validate(
        {
            "name": "crossed",
            "purpose": "test",
            "sensitive": attributes,
            "tolerances": {"intersection": 0.04},
            "intersections": [
                {"attributes": ["age", "gender"], "targets": {"young": {"man": 0.15}}}
            ],
        }
    )
    problem = Problem.of(catalogue, eta=0.5, penalty=2.0, slack="l2")
    assert problem.eps_x == 0.04
    assert problem.slack == "l2"
    stated = {str(pair): pair.target for pair in problem.intersections}
    assert stated == {
        "age.young x gender.woman": pytest.approx(0.1),
        "age.young x gender.man": 0.15,
        "age.old x gender.woman": pytest.approx(0.4),
        "age.old x gender.man": pytest.approx(0.4),
    }
    assert [str(constraint) for constraint in problem.constraints()][-4:] == list(stated)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_layout_finds_every_constraint_in_totals(
    seed: int, drawn: Callable[..., Any], written_out: WriteOut
) -> None:
    """E[q z_j] and eps_j E[q t_j] from two small matrices, for any problem."""
    case = drawn(seed)
    problem, examples, layout = case.problem, case.examples, case.problem.layout
    weights = np.random.default_rng(seed).random(len(examples.counts))
    totals = measure(problem, examples, weights)
    z, t = written_out(problem, examples)
    sums = examples.counts * weights
    size = examples.examples
    moment, mass = layout.moment(totals.held, totals.known), layout.mass(totals.known)
    np.testing.assert_allclose(moment / size, z @ sums / size, atol=1e-14)
    np.testing.assert_allclose(layout.eps * mass / size, t @ sums / size, atol=1e-14)
    assert len(problem.constraints()) == len(z) == len(layout.eps)
    assert layout.shape == totals.held.shape == totals.known.shape


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_factors_give_the_slope_of_every_example(
    seed: int, drawn: Callable[..., Any], written_out: WriteOut
) -> None:
    """sum_fr o_f y_r (s_f A_fr - B_fr), summed as it is written."""
    case = drawn(seed)
    problem, examples = case.problem, case.examples
    z, t = written_out(problem, examples)
    duals = np.random.default_rng(seed).normal(size=len(z))
    held, known = problem.layout.factors(duals)
    feature_held, feature_known = problem.features(examples.s, examples.observed)
    y = np.column_stack([np.ones(len(examples.s)), examples.y.toarray()])
    got = np.einsum("nf,nr,fr->n", feature_held, y, held)
    got -= np.einsum("nf,nr,fr->n", feature_known, y, known)
    np.testing.assert_allclose(got, duals @ z - np.abs(duals) @ t, atol=1e-13)


def test_features_are_values_then_intersections(problem_for: MakeProblem) -> None:
    s = np.array([[1.0, 0.5], [0.25, 0.0], [0.5, 0.5]])
    observed = np.array([[True, True], [True, True], [True, False]])
    examples = Patterns.from_arrays(s, np.zeros((3, 0)), observed=observed)
    pair = Intersection(first="s1", second="s0", target=0.25)
    problem = problem_for(examples, intersections=(pair,))
    held, known = problem.features(examples.s, examples.observed)
    assert held.tolist() == [[1.0, 0.5, 0.5], [0.25, 0.0, 0.0], [0.5, 0.0, 0.0]]
    assert known.tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]


def test_a_changed_copy_is_compiled_anew_and_validated(
    biased: Callable[..., Patterns], problem_for: Callable[..., Problem]
) -> None:
    problem = problem_for(biased(0, 20), eps_r=0.1, eta=0.5)
    assert (problem.layout.eps[:2] == 0.1).all()
    assert (problem.model_copy(update={"eps_r": 0.2}).layout.eps[:2] == 0.2).all()
    with pytest.raises(ValidationError, match="above the cap"):
        problem.model_copy(update={"eta": 2.0})
