"""Totals of a sample: those of its copies, exact in any order; and the report on them."""

from collections.abc import Callable
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem
from m4.realised import STEP, Realised, realised_totals
from m4.totals import measure

Make = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]


@pytest.mark.parametrize("kind", [{}, {"masked": True, "utilities": True}, {"soft_s": True}])
def test_totals_are_those_of_copies_as_weights(
    biased: Make, problem_for: MakeProblem, kind: dict[str, bool]
) -> None:
    examples = biased(1, 500, **kind)
    problem = problem_for(examples)
    copies = np.random.default_rng(2).integers(0, 4, 500)
    made, wanted = realised_totals(problem, examples, copies), measure(problem, examples, copies)
    for name in ("held", "known", "examples", "weight", "squares", "distance"):
        np.testing.assert_allclose(
            getattr(made, name), getattr(wanted, name), atol=500 * 3 * STEP / 2, rtol=1e-12
        )
    patterns, inverse = examples.distinct()
    joined = realised_totals(problem, patterns, copies, inverse)
    for name in ("held", "known", "examples", "weight", "squares"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(made, name))
    assert joined.distance == pytest.approx(made.distance, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 299), min_size=1, max_size=6, unique=True))
def test_no_order_and_no_sharding_changes_a_bit(
    biased: Make, problem_for: MakeProblem, seed: int, cuts: list[int]
) -> None:
    """Probabilities as marks, so that sums in floating point would differ in their last bits."""
    examples = biased(seed, 300, soft_s=True, masked=True)
    problem = problem_for(examples)
    generator = np.random.default_rng(seed)
    copies = generator.integers(0, 3, 300)
    whole = realised_totals(problem, examples, copies)
    shuffled = generator.permutation(300)
    parts = np.split(shuffled, sorted(cuts))
    summed = reduce(
        add, (realised_totals(problem, examples.rows(part), copies[part]) for part in parts)
    )
    for name in ("held", "known", "examples", "weight", "squares"):
        np.testing.assert_array_equal(getattr(summed, name), getattr(whole, name))


def test_nothing_drawn_has_totals_of_zero(biased: Make, problem_for: MakeProblem) -> None:
    examples = biased(1, 10)
    problem = problem_for(examples)
    totals = realised_totals(problem, examples, np.zeros(10, dtype=int))
    assert (totals.weight, totals.examples, totals.squares) == (0.0, 10.0, 0.0)
    assert not totals.held.any()
    realised = Realised.of(problem, totals)
    assert (realised.copies, realised.violated, realised.worst) == (0.0, 0, None)
    assert realised.rate_error == pytest.approx(problem.eta)


def test_the_report_names_the_worst_constraint(problem_for: MakeProblem) -> None:
    """Ten copies, seven of value 1; among the four of label 1, three: by hand."""
    s = np.array([1.0] * 7 + [0.0] * 3)[:, None]
    y = np.zeros((10, 2))
    y[[0, 1, 2, 7], 1] = 1
    examples = Patterns.from_arrays(s, y)
    problem = problem_for(examples, eta=0.9, eps_r=0.1, eps_d=0.1)
    realised = Realised.of(problem, realised_totals(problem, examples, np.ones(10, dtype=int)))
    assert realised.worst == "s0"
    assert realised.max_violation == pytest.approx(0.2 - 0.1)
    assert realised.total_violation == pytest.approx(0.1 + (0.1 - 0.04))
    assert realised.max_excess == pytest.approx(0.25 - 0.1)
    assert (realised.violated, realised.copies, realised.examples) == (2, 10.0, 10.0)
    assert realised.rate_error == pytest.approx(0.1)
    assert realised.unresolved == 2  # one copy and .4 of one; the label without copies is left out


def test_what_does_not_fit_is_refused(biased: Make, problem_for: MakeProblem) -> None:
    examples = biased(1, 20)
    problem = problem_for(examples)
    with pytest.raises(InputError, match="19 copies were drawn, but the patterns count 20"):
        realised_totals(problem, examples, np.ones(19))
    with pytest.raises(InputError, match="20 copies, but 3 positions"):
        realised_totals(problem, examples, np.ones(20), np.arange(3))
    patterns, _ = examples.distinct()
    with pytest.raises(InputError, match="count them in other rows"):
        realised_totals(problem, patterns, np.ones(20), np.zeros(20, dtype=int))
    with pytest.raises(InputError, match="sensitive values"):
        realised_totals(problem_for(biased(1, 5, labels=2)), examples, np.ones(20))
