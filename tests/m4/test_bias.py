"""Bias tables: small ones worked out by hand, larger ones against the definitions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from polars.testing import assert_frame_equal

from m4.bias import BiasTable, bias_of, bias_table
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Intersection, Problem
from m4.totals import measure

MakeExamples = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]


def eight_examples() -> Patterns:
    """Three of s and y, one of s alone, one of y alone, three of neither; as four patterns."""
    return Patterns.from_arrays([1, 1, 0, 0], [1, 0, 1, 0], counts=[3, 1, 1, 3])


def only_row(table: BiasTable) -> dict[str, Any]:
    return table.association.row(0, named=True)


def test_a_table_by_hand(problem_for: MakeProblem) -> None:
    examples = eight_examples()
    problem = problem_for(examples, targets=(0.4,), eps_r=0.05, eps_d=0.2)
    table = bias_table(problem, examples)
    assert table.representation.row(0, named=True) == {
        "value": "s0",
        "target": 0.4,
        "share": 0.5,
        "bias": pytest.approx(0.1),
        "examples": 8.0,
        "tolerance": 0.05,
        "within": False,
    }
    assert only_row(table) == {
        "value": "s0",
        "label": "y0",
        "target": 0.4,
        "share": 0.75,
        "gap": pytest.approx(0.35),
        "given_value": 0.75,
        "given_other": 0.25,
        "association": 0.5,
        "examples": 4.0,
        "kept": 1.0,
        "constrained": True,
        "within": False,
        "lost": False,
    }
    assert table.representation_bias == pytest.approx(0.1)
    assert table.association_bias == 0.5
    assert table.lost_labels == ()
    assert not table.all_within


def test_weights_change_every_mean(problem_for: MakeProblem) -> None:
    """A third of the weight for s and y: two of each kind of four are left, 1 1 1 3 of eight."""
    examples = eight_examples()
    weights = np.array([1 / 3, 1.0, 1.0, 1.0])
    table = bias_table(problem_for(examples), examples, weights)
    assert table.representation["share"][0] == pytest.approx(2 / 6)
    row = only_row(table)
    assert row["share"] == pytest.approx(1 / 2)
    assert row["given_value"] == pytest.approx(1 / 2)
    assert row["given_other"] == pytest.approx(1 / 4)
    assert row["association"] == pytest.approx(1 / 4)
    assert row["examples"] == 4.0
    # Two of four labelled examples are left where six of eight are: two thirds of their weight.
    assert row["kept"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("tolerance", "eps_d", "within"),
    [
        # |E[(s - .4) y]| is (3 - 1.6)/8 = .175; over E[y] = 1/2 it is .35.
        ("relative", 0.34, False),
        ("relative", 0.36, True),
        ("absolute", 0.17, False),
        ("absolute", 0.18, True),
    ],
)
def test_within_is_what_the_constraint_bounds(
    tolerance: str, eps_d: float, within: bool, problem_for: MakeProblem
) -> None:
    examples = eight_examples()
    problem = problem_for(examples, targets=(0.4,), eps_r=0.2, eps_d=eps_d, tolerance=tolerance)
    table = bias_table(problem, examples)
    assert only_row(table)["within"] is within
    assert table.all_within is within


def test_absolute_is_relative_to_what_is_observed(problem_for: MakeProblem) -> None:
    """Sixteen examples, half of them not observed: the moment is still .175 of what is known."""
    known = eight_examples()
    examples = Patterns.from_arrays(
        [1, 1, 0, 0, np.nan], [1, 0, 1, 0, 1], counts=[*known.counts, 8]
    )
    asked: dict[str, Any] = {"targets": (0.4,), "eps_r": 0.2, "tolerance": "absolute"}
    assert only_row(bias_table(problem_for(examples, eps_d=0.18, **asked), examples))["within"]
    assert not only_row(bias_table(problem_for(examples, eps_d=0.17, **asked), examples))["within"]


def test_the_target_of_a_cell_is_its_label_s(problem_for: MakeProblem) -> None:
    examples = eight_examples()
    relative = only_row(
        bias_table(problem_for(examples, label_targets=((0.75,),), eps_d=0.0), examples)
    )
    absolute = only_row(
        bias_table(problem_for(examples, tolerance="absolute", eps_d=0.0), examples)
    )
    assert (relative["target"], relative["gap"], relative["within"]) == (0.75, 0.0, True)
    assert (absolute["target"], absolute["gap"], absolute["within"]) == (0.5, 0.25, False)


def test_what_is_not_observed_takes_no_part(problem_for: MakeProblem) -> None:
    known = eight_examples()
    examples = Patterns.from_arrays(
        [1, 1, 0, 0, 0.9, 0.1],
        [1, 0, 1, 0, 1, 0],
        observed=[True] * 4 + [False] * 2,
        counts=[3, 1, 1, 3, 50, 70],
    )
    problem = problem_for(known)
    wanted, got = bias_table(problem, known), bias_table(problem, examples)
    assert_frame_equal(wanted.representation, got.representation)
    assert_frame_equal(wanted.association, got.association)


def test_soft_attributes_by_hand(problem_for: MakeProblem) -> None:
    """s of .25 with y, .75 without: E[y | s] = .25/1, E[y | not s] = .75/1."""
    examples = Patterns.from_arrays([0.25, 0.75], [1, 0])
    row = only_row(bias_table(problem_for(examples), examples))
    assert (row["share"], row["gap"]) == (0.25, 0.25)
    assert (row["given_value"], row["given_other"], row["association"]) == (0.25, 0.75, -0.5)
    assert bias_table(problem_for(examples), examples).association_bias == 0.5


def test_soft_labels_by_hand(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([1, 1, 0, 0], [0.5, 0.25, 0.25, 0.0])
    row = only_row(bias_table(problem_for(examples), examples))
    assert (row["share"], row["examples"]) == (0.75, 1.0)
    assert (row["given_value"], row["given_other"]) == (0.375, 0.125)


def test_lost_labels_are_told(problem_for: MakeProblem) -> None:
    y = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]
    examples = Patterns.from_arrays([1, 1, 0, 1], y)
    problem = problem_for(examples)
    weights = np.array([0.0, 0.0, 1.0, 1.0])
    table = bias_table(problem, examples, weights)
    assert table.association["lost"].to_list() == [True, False, False]  # y2 was never there
    assert table.lost_labels == ("y0",)
    lost, _, never = table.association.iter_rows(named=True)
    assert (lost["kept"], lost["examples"], lost["share"]) == (0.0, 2.0, None)
    assert (never["kept"], never["examples"], never["share"]) == (None, 0.0, None)
    assert lost["within"]
    assert bias_table(problem, examples).lost_labels == ()


def test_a_label_lost_for_two_values_is_told_once(problem_for: MakeProblem) -> None:
    examples = Patterns.from_arrays([[1, 0], [0, 1]], [1, 0])
    table = bias_table(problem_for(examples), examples, np.array([0.0, 1.0]))
    assert table.lost_labels == ("y0",)


def test_a_mean_over_nothing_is_null(problem_for: MakeProblem) -> None:
    """A value that is observed nowhere, and one that everybody has."""
    examples = Patterns.from_arrays([[np.nan, 1], [np.nan, 1], [np.nan, 1]], [1, 0, 1])
    table = bias_table(problem_for(examples), examples, np.array([0.3, 0.7, 0.1]))
    nowhere, everybody = table.association.iter_rows(named=True)
    means = ("share", "gap", "given_value", "given_other", "association", "kept")
    assert all(nowhere[mean] is None for mean in means)
    assert everybody["given_value"] == pytest.approx(0.4 / 1.1)
    assert everybody["given_other"] is None
    assert everybody["association"] is None
    assert table.association_bias == 0.0
    assert table.representation["share"].to_list() == [None, 1.0]
    assert table.representation["within"].to_list() == [True, False]
    assert table.representation_bias == 0.5


def test_pairs_left_out_are_shown_and_do_not_count(problem_for: MakeProblem) -> None:
    examples = eight_examples()
    problem = problem_for(examples, left_out=(("s0", "y0"),), eps_r=0.1, eps_d=0.0)
    table = bias_table(problem, examples)
    row = only_row(table)
    assert (row["constrained"], row["within"]) == (False, False)
    assert table.association_bias == 0.5
    assert table.all_within


def test_rows_are_by_value_then_label(biased: MakeExamples, problem_for: MakeProblem) -> None:
    examples = biased(1, 30, values=2, labels=3)
    association = bias_table(problem_for(examples), examples).association
    assert association["value"].to_list() == ["s0"] * 3 + ["s1"] * 3
    assert association["label"].to_list() == ["y0", "y1", "y2"] * 2


def test_weights_of_another_length_are_refused(
    biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(1, 30)
    for rows in (1, 29):
        with pytest.raises(InputError, match=rf"weights has shape \({rows},\), .* 30 rows"):
            bias_table(problem_for(examples), examples, np.ones(rows))
    with pytest.raises(InputError, match="2 sensitive values and 1 labels, the problem 2 and 3"):
        bias_table(problem_for(examples), biased(1, 30, labels=1))


@pytest.mark.parametrize("weight", [1.0, 0.25, 3.0])
def test_equal_weights_change_nothing(
    weight: float, biased: MakeExamples, problem_for: MakeProblem
) -> None:
    examples = biased(2, 50, masked=True, soft_s=True, soft_y=True)
    problem = problem_for(examples)
    plain = bias_table(problem, examples)
    weighted = bias_table(problem, examples, np.full(50, weight))
    assert_frame_equal(plain.representation, weighted.representation)
    assert_frame_equal(plain.association, weighted.association)


@settings(max_examples=50, deadline=None)
@given(
    s=arrays(float, (12, 2), elements=st.sampled_from([0.0, 1.0, 0.3])),
    y=arrays(float, (12, 2), elements=st.sampled_from([0.0, 1.0, 0.6])),
    observed=arrays(bool, (12, 2)),
    weights=arrays(float, 12, elements=st.integers(0, 20).map(lambda part: part / 16)),
)
def test_tables_are_the_definitions(
    s: np.ndarray,
    y: np.ndarray,
    observed: np.ndarray,
    weights: np.ndarray,
    problem_for: MakeProblem,
) -> None:
    """RB and AB by conditional means, row by row; nothing divides by zero."""
    examples = Patterns.from_arrays(s, y, observed=observed)
    table = bias_table(problem_for(examples, targets=(0.5, 0.3)), examples, weights)
    rb, ab = [0.0], [0.0]
    for k, target in enumerate((0.5, 0.3)):
        known = observed[:, k]
        q, of_value = weights[known], s[known, k]
        if q.sum() > 0:
            rb.append(abs(np.average(of_value, weights=q) - target))
        if min((q * of_value).sum(), (q * (1 - of_value)).sum()) <= 1e-12:
            continue
        for r in range(2):
            given_value = np.average(y[known, r], weights=q * of_value)
            given_other = np.average(y[known, r], weights=q * (1 - of_value))
            ab.append(abs(given_value - given_other))
    assert table.representation_bias == pytest.approx(max(rb), abs=1e-12)
    assert table.association_bias == pytest.approx(max(ab), abs=1e-9)
    shown = table.association.select("share", "given_value", "given_other").to_numpy().ravel()
    assert ((shown >= -1e-12) & (shown <= 1 + 1e-12) | np.isnan(shown)).all()


@settings(max_examples=25, deadline=None)
@given(
    s=arrays(float, (20, 1), elements=st.sampled_from([0.0, 1.0])),
    y=arrays(float, (20, 1), elements=st.sampled_from([0.0, 1.0])),
)
def test_patterns_have_the_table_of_their_examples(
    s: np.ndarray, y: np.ndarray, problem_for: MakeProblem
) -> None:
    examples = Patterns.from_arrays(s, y)
    joined, inverse = examples.distinct()
    weights = np.linspace(0.1, 0.9, len(joined.s))
    problem = problem_for(examples)
    short, long = (
        bias_table(problem, joined, weights),
        bias_table(problem, examples, weights[inverse]),
    )
    assert_frame_equal(short.representation, long.representation)
    assert_frame_equal(short.association, long.association)


def test_intersections_by_hand(problem_for: MakeProblem) -> None:
    """Each value is at one half, but nobody shows both."""
    s = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]], dtype=float)
    observed = [[True, True]] * 4 + [[True, False]]
    examples = Patterns.from_arrays(s, np.zeros((5, 0)), observed=observed)
    pair = Intersection(first="s0", second="s1", target=0.25)
    problem = problem_for(examples, intersections=(pair,), eps_r=0.2, eps_x=0.1)
    table = bias_table(problem, examples)
    assert table.intersections.row(0, named=True) == {
        "value": "s0 x s1",
        "target": 0.25,
        "share": 0.0,
        "bias": 0.25,
        "examples": 4.0,  # the fifth has only one of the two observed
        "tolerance": 0.1,
        "within": False,
    }
    assert table.representation["within"].all()
    assert not table.all_within
    loose = problem.model_copy(update={"eps_x": 0.3})
    assert bias_table(loose, examples).all_within
    assert bias_table(problem_for(examples), examples).intersections.is_empty()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_joint_shares_are_means_over_what_is_known_of_both(
    seed: int, drawn: Callable[..., Any]
) -> None:
    case = drawn(seed)
    problem, examples = case.problem, case.examples
    weights = np.random.default_rng(seed).random(len(examples.counts))
    table = bias_table(problem, examples, weights)
    assert len(table.intersections) == len(problem.intersections)
    for row, pair in zip(
        table.intersections.iter_rows(named=True), problem.intersections, strict=True
    ):
        one, other = problem.values.index(pair.first), problem.values.index(pair.second)
        q = examples.counts * weights * examples.observed[:, one] * examples.observed[:, other]
        if q.sum() == 0:
            assert row["share"] is None
            assert row["within"]
            continue
        share = np.average(examples.s[:, one] * examples.s[:, other], weights=q)
        assert row["share"] == pytest.approx(share, abs=1e-12)
        assert row["bias"] == pytest.approx(abs(share - pair.target), abs=1e-12)
        assert row["within"] == (abs(share - pair.target) <= problem.eps_x + 1e-6)


def test_totals_are_all_a_table_needs(biased: MakeExamples, problem_for: MakeProblem) -> None:
    """Shards are measured apart and added up."""
    examples = biased(9, 90, masked=True, soft_s=True)
    problem = problem_for(
        examples, intersections=(Intersection(first="s0", second="s1", target=0.25),)
    )
    weights = np.random.default_rng(1).random(90)
    shards = [slice(0, 10), slice(10, 55), slice(55, 90)]
    plain = [measure(problem, examples.rows(shard)) for shard in shards]
    under = [measure(problem, examples.rows(shard), weights[shard]) for shard in shards]
    got = bias_of(problem, plain[0] + plain[1] + plain[2], under[0] + under[1] + under[2])
    wanted = bias_table(problem, examples, weights)
    for name in ("representation", "association", "intersections"):
        assert_frame_equal(getattr(got, name), getattr(wanted, name))
