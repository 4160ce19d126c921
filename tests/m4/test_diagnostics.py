"""What weights cost, whom they move, and at what price: by hand, by brute force, by small steps."""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from m4.diagnostics import (
    design_effect,
    diagnose,
    effective_sample_size,
    love_table,
    price_table,
    top_share,
)
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Intersection, Problem
from m4.solving import Solution, solve

some_weights = arrays(float, st.integers(1, 30), elements=st.floats(0.001, 10))


def test_by_hand() -> None:
    weights = np.array([1.0, 1.0, 0.5, 0.0])
    assert effective_sample_size(weights) == 6.25 / 2.25
    assert design_effect(weights) == 4 * 2.25 / 6.25


@pytest.mark.parametrize("weight", [0.1, 1.0, 7.0])
def test_equal_weights_cost_nothing(weight: float) -> None:
    weights = np.full(40, weight)
    assert effective_sample_size(weights) == pytest.approx(40)
    assert design_effect(weights) == pytest.approx(1)
    assert top_share(weights) == pytest.approx(0.01)


def test_dropping_examples_leaves_the_rest() -> None:
    assert effective_sample_size(np.repeat([1.0, 0.0], [30, 70])) == pytest.approx(30)


def test_nothing_kept_is_worth_nothing() -> None:
    assert effective_sample_size(np.zeros(3)) == 0.0
    assert design_effect(np.zeros(3)) == math.inf
    assert top_share(np.zeros(3)) == 0.0


@given(some_weights, st.floats(0.01, 100))
def test_bounds_and_scale(weights: np.ndarray, scale: float) -> None:
    size = effective_sample_size(weights)
    assert 1 - 1e-9 <= size <= len(weights) * (1 + 1e-9)
    assert effective_sample_size(scale * weights) == pytest.approx(size)
    assert design_effect(weights) * size == pytest.approx(len(weights))
    assert top_share(scale * weights) == pytest.approx(top_share(weights))


@given(some_weights, st.integers(0, 2**32 - 1))
def test_counts_are_repetitions(weights: np.ndarray, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(1, 6, len(weights))
    repeated = np.repeat(weights, counts)
    assert effective_sample_size(weights, counts) == pytest.approx(effective_sample_size(repeated))
    assert design_effect(weights, counts) == pytest.approx(design_effect(repeated))
    for part in (0.01, 0.3):
        assert top_share(weights, counts, part) == pytest.approx(top_share(repeated, None, part))


def test_the_heaviest_part_by_hand() -> None:
    weights, counts = np.array([1.0, 4.0, 2.0]), np.array([150.0, 2.0, 48.0])
    total = 150 + 8 + 96
    assert top_share(weights, counts) == pytest.approx(8 / total)  # 2 of 200, both of weight 4
    assert top_share(weights, counts, 0.005) == pytest.approx(4 / total)
    assert top_share(weights, counts, 0.02) == pytest.approx((8 + 2 * 2) / total)
    assert top_share(weights, counts, 0.0125) == pytest.approx((8 + 0.5 * 2) / total)
    assert top_share(weights, counts, 1.0) == 1.0


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=12),
    st.integers(1, 60),
)
def test_the_heaviest_part_in_fractions(rows: list[tuple[int, int]], of_sixty: int) -> None:
    part = Fraction(of_sixty, 60)
    left = part * sum(count for _, count in rows)
    held = Fraction(0)
    for weight, count in sorted(rows, reverse=True):
        taken = min(left, Fraction(count))
        held, left = held + taken * weight, left - taken
    total = sum(weight * count for weight, count in rows)
    weights, counts = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    expected = float(held / total) if total else 0.0
    assert top_share(weights, counts, float(part)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("part", [0.0, -0.1, 1.5, math.nan])
def test_a_part_that_is_none_is_refused(part: float) -> None:
    with pytest.raises(InputError, match=r"not in \(0, 1\]"):
        top_share(np.ones(3), None, part)


def small(**settings: Any) -> Solution:
    """A solution on 20 examples: 14 show s, of which 7 have y; of the 6 others 2 have y."""
    s = np.repeat([1.0, 0.0], [14, 6])
    y = np.concatenate([np.ones(7), np.zeros(7), np.ones(2), np.zeros(4)])
    patterns = Patterns.from_arrays(s, y)
    problem = Problem(
        values=("s",),
        labels=("y",),
        targets=(0.5,),
        label_targets=((0.5,),),
        **{"eta": 0.4, "eps_r": 0.0, "eps_d": 0.0, **settings},
    )
    return solve(problem, patterns)


def love(solution: Solution) -> pl.DataFrame:
    return love_table(solution.policy, solution.before, solution.after)


def test_the_love_table_by_hand() -> None:
    table = love(small())
    deviation = math.sqrt((1 / 2 * 1 / 2 + 1 / 3 * 2 / 3) / 2)
    assert table["constraint"].to_list() == ["s", "s & y"]
    assert table["kind"].to_list() == ["value", "label"]
    # 0.7 of the examples instead of 0.5; half of them against a third of the others have y.
    assert table["before"].to_list() == pytest.approx([0.2 / 0.5, (1 / 2 - 1 / 3) / deviation])
    assert table["after"].to_list() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert table["within"].to_list() == [True, True]
    assert table["examples"].to_list() == [20.0, 9.0]


def test_the_denominator_stays_that_of_the_data_as_it_was() -> None:
    solution = small(eps_d=0.1)
    cells = solution.after.association.row(0, named=True)
    difference = cells["given_value"] - cells["given_other"]
    deviation = math.sqrt((1 / 2 * 1 / 2 + 1 / 3 * 2 / 3) / 2)
    after = love(solution).filter(pl.col("constraint") == "s & y")["after"].item()
    assert abs(difference) > 0.01
    assert after == pytest.approx(difference / deviation)


def test_what_cannot_be_compared_is_null_and_last() -> None:
    """A target of 0, a label that all have, and one that loses all its weight."""
    s = np.repeat([1.0, 0.0], [6, 14])
    never = np.zeros(20)
    everyone, lost = np.ones(20), (np.arange(20) == 0).astype(float)
    patterns = Patterns.from_arrays(np.column_stack([s, never]), np.column_stack([everyone, lost]))
    problem = Problem(
        values=("s", "never"),
        labels=("all", "lost"),
        targets=(0.5, 0.0),
        label_targets=((0.5, 0.5), (0.0, 0.0)),
        eta=0.4,
        eps_r=0.01,
        eps_d=0.01,
    )
    table = love(solve(problem, patterns))
    rows = {row["constraint"]: row for row in table.iter_rows(named=True)}
    assert rows["never"]["before"] is None and rows["never"]["within"]
    assert rows["s & all"]["before"] is None  # both rates are 1: no deviation to divide by
    assert rows["s & lost"]["before"] == pytest.approx((1 / 6) / math.sqrt(1 / 6 * 5 / 6 / 2))
    assert rows["s & lost"]["after"] == pytest.approx(0.0, abs=1e-9)
    given = table["before"].is_not_null().to_list()
    assert given == sorted(given, reverse=True)


def brute_force(solution: Solution, patterns: Patterns, weights: np.ndarray) -> dict[str, float]:
    """Standardised differences, one constraint after the other, from the raw examples."""
    problem = solution.policy.problem
    y = patterns.y.toarray()
    found = {}
    for constraint in problem.constraints():
        k = problem.values.index(constraint.value)
        known, s = patterns.observed[:, k], patterns.s[:, k]
        if constraint.label is not None:
            r = problem.labels.index(constraint.label)

            def rates(q: np.ndarray, k: int = k, r: int = r) -> list[float]:
                o, s = patterns.observed[:, k], patterns.s[:, k]
                return [np.average(y[o, r], weights=(q * side)[o]) for side in (s, 1 - s)]

            one, other = rates(patterns.counts)
            deviation = math.sqrt((one * (1 - one) + other * (1 - other)) / 2)
            difference = np.subtract(*rates(patterns.counts * weights))
        else:
            target = problem.targets[k]
            if constraint.other is not None:
                other_k = problem.values.index(constraint.other)
                known = known & patterns.observed[:, other_k]
                s = s * patterns.s[:, other_k]
                target = next(p.target for p in problem.intersections if str(p) == str(constraint))
            q = (patterns.counts * weights)[known]
            difference = np.average(s[known], weights=q) - target
            deviation = math.sqrt(target * (1 - target))
        found[str(constraint)] = difference / deviation
    return found


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), soft=st.booleans(), masked=st.booleans())
def test_the_love_table_against_brute_force(
    biased: Callable[..., Patterns], seed: int, soft: bool, masked: bool
) -> None:
    examples = biased(seed, 200, 2, 3, soft_s=soft, masked=masked)
    problem = Problem(
        values=("s0", "s1"),
        labels=("y0", "y1", "y2"),
        targets=(0.5, 0.4),
        label_targets=((0.5, 0.6, 0.5), (0.4, 0.4, 0.4)),
        left_out=(("s1", "y0"),),
        intersections=(Intersection(first="s0", second="s1", target=0.2),),
        eta=0.5,
        penalty=2.0,
    )
    solution = solve(problem, examples)
    table = love(solution)
    names = [str(name) for name in problem.constraints()]
    assert sorted(table["constraint"]) == sorted(names) and "s1 & y0" not in names
    for column, weights in (("before", np.ones(200)), ("after", solution.weights)):
        found = dict(zip(table["constraint"], table[column], strict=True))
        assert found == pytest.approx(brute_force(solution, examples, weights), abs=1e-9)
    assert dict(zip(table["constraint"], table["multiplier"], strict=True)) == {
        **dict.fromkeys(names, 0.0),
        **solution.policy.duals,
    }
    sizes = table["before"].abs().to_list()
    assert sizes == sorted(sizes, reverse=True)


TOLERANCES = {"value": "eps_r", "label": "eps_d", "intersection": "eps_x"}


@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
def test_prices_are_what_small_steps_of_the_tolerances_cost(
    biased: Callable[..., Patterns], problem_for: Callable[..., Problem], tolerance: str
) -> None:
    examples = biased(2, 3000, 2, 4, masked=True)
    pair = Intersection(first="s0", second="s1", target=0.3)
    narrow = 0.02 if tolerance == "relative" else 0.004
    base: dict[str, Any] = {"eps_r": 0.01, "eps_d": narrow, "eps_x": 0.015}
    fixed = {"eta": 0.55, "tolerance": tolerance, "intersections": (pair,)}
    solution = solve(problem_for(examples, **base, **fixed), examples)
    table = price_table(solution.policy, solution.totals)
    prices = table.group_by("kind").agg(pl.col("objective_price", "effective_share_price").sum())
    assert (prices["objective_price"] > 0.05).all()  # of values, labels and intersections
    for row in prices.iter_rows(named=True):
        name, step = TOLERANCES[row["kind"]], 1e-5
        wider, tighter = (
            solve(problem_for(examples, **{**base, name: base[name] + change}, **fixed), examples)
            for change in (step, -step)
        )
        change = tighter.certificate.primal - wider.certificate.primal
        assert change / (2 * step) == pytest.approx(row["objective_price"], rel=1e-3, abs=1e-5)
        gained = (wider.effective_sample_size - tighter.effective_sample_size) / 3000
        assert gained / (2 * step) == pytest.approx(
            row["effective_share_price"], rel=1e-3, abs=1e-5
        )


def test_prices_come_by_name_with_the_dearest_first(biased: Callable[..., Patterns]) -> None:
    solution = small(eps_r=0.02, eps_d=0.05)
    table = price_table(solution.policy, solution.totals)
    costs = table["objective_price"].to_list()
    assert costs == sorted(costs, reverse=True) and costs[0] > 0
    duals = dict(zip(table["constraint"], table["multiplier"], strict=True))
    assert {name: value for name, value in duals.items() if value} == dict(solution.policy.duals)
    masses = dict(zip(table["constraint"], table["mass"], strict=True))
    assert masses["s"] == pytest.approx(0.4)  # E[q]
    assert dict(zip(table["constraint"], table["tolerance"], strict=True)) == {
        "s": 0.02,
        "s & y": 0.05,
    }


@pytest.mark.parametrize(
    ("why", "utilities", "changes"),
    [
        ("nothing stands in the way", False, {"penalty": 50.0}),
        ("some violations are paid for", False, {"penalty": 0.05}),
        ("all violations are, by their squares", False, {"penalty": 100.0, "slack": "l2"}),
        ("utilities differ", True, {}),
    ],
)
def test_effective_size_has_a_price_only_where_the_objective_is_the_size(
    biased: Callable[..., Patterns],
    problem_for: Callable[..., Problem],
    why: str,
    utilities: bool,
    changes: dict[str, Any],
) -> None:
    examples = biased(3, 1000, 2, 3, utilities=utilities)
    solution = solve(problem_for(examples, eta=0.6, **changes), examples)
    table = price_table(solution.policy, solution.totals)
    assert table["objective_price"].max() > 0
    nulls = table["effective_share_price"].null_count()
    assert nulls == (0 if why.startswith("nothing") else len(table))


def test_diagnostics_are_json_and_leave_out_what_costs_nothing(
    biased: Callable[..., Patterns], problem_for: Callable[..., Problem]
) -> None:
    examples = biased(5, 1000, 2, 6)
    hard = diagnose(solve(problem_for(examples, eta=0.6, eps_d=0.05), examples))
    assert 0 < len(hard.prices) < 14 and len(hard.love) == 14
    assert len(hard.violated) == 0 and hard.design_effect > 1
    solution = solve(problem_for(examples, eta=0.9, penalty=0.02), examples)
    soft = diagnose(solution)
    assert len(soft.violated) > 0
    content = json.loads(json.dumps(soft.content()))
    assert content["design_effect"] == soft.design_effect
    assert content["top_share"] == top_share(solution.weights)
    assert [row["constraint"] for row in content["violated"]] == soft.violated[
        "constraint"
    ].to_list()
    assert set(content["love"][0]) == set(soft.love.columns)


def test_two_hundred_constraints(
    biased: Callable[..., Patterns], problem_for: Callable[..., Problem]
) -> None:
    examples = biased(8, 2000, 4, 49)
    solution = solve(problem_for(examples, eta=0.5, penalty=1.0), examples)
    found = diagnose(solution)
    assert len(found.love) == 200 and found.love["constraint"].n_unique() == 200
    assert len(price_table(solution.policy, solution.totals)) == 200
    assert len(found.prices) == len(solution.policy.duals)


def test_equal_rows_may_be_joined(
    biased: Callable[..., Patterns], problem_for: Callable[..., Problem]
) -> None:
    examples = biased(9, 600)
    joined, _ = examples.distinct()
    problem = problem_for(examples, eta=0.5)
    single = diagnose(solve(problem, examples))
    counted = diagnose(solve(problem, joined))
    assert counted.top_share == pytest.approx(single.top_share)
    assert counted.design_effect == pytest.approx(single.design_effect)
