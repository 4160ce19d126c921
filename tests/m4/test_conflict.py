"""Minimal sets: of anything, and of constraints that forbid a rate."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import m4.conflict
from m4.conflict import conflict, minimal
from m4.moments import Moments
from m4.programme import Programme, maximise_rate

DrawCase = Callable[..., Any]

families = st.lists(st.frozensets(st.integers(0, 11), max_size=6), min_size=1, max_size=6)


@given(families=families)
def test_a_minimal_set_holds_and_none_of_its_subsets_does(families: list[frozenset[int]]) -> None:
    """`holds` for every set that contains one of a family."""
    tested: list[frozenset[int]] = []

    def holds(some: list[int]) -> bool:
        tested.append(frozenset(some))
        return any(each <= set(some) for each in families)

    found = set(minimal(range(12), holds))
    assert any(each <= found for each in families)
    assert not any(each <= found - {member} for each in families for member in found)
    assert len(tested) == len(set(tested))  # nothing is asked twice


@given(members=st.sets(st.integers(0, 63), min_size=1, max_size=4))
def test_few_tests_find_a_few_of_many(members: set[int]) -> None:
    asked = []

    def holds(some: list[int]) -> bool:
        asked.append(some)
        return members <= set(some)

    assert set(minimal(range(64), holds)) == members
    assert len(asked) <= 2 * len(members) * (1 + 6)


@given(members=st.sets(st.integers(0, 63), min_size=6))
def test_it_ends_when_too_many_are_needed(members: set[int]) -> None:
    found = minimal(range(64), lambda some: members <= set(some), most=5)
    assert len(found) > 5 and set(found) <= members


def test_a_test_that_always_holds_needs_nobody() -> None:
    assert minimal(range(5), lambda some: True) == []
    assert minimal([], lambda some: True) == []


def rate_by_the_book(programme: Programme, members: tuple[int, ...]) -> float:
    """The largest rate under some constraints, written out side by side."""
    z, t = programme.z.toarray()[:, members].T, programme.mass.toarray()[:, members].T
    width = programme.eps[list(members)][:, None] * t
    found = linprog(
        -programme.share,
        A_ub=np.vstack([z - width, -z - width]) * programme.share,
        b_ub=np.zeros(2 * len(members)),
        bounds=(0, 1),
        method="highs-ds",
    )
    return float(-found.fun)


@pytest.mark.parametrize("seed", range(8))
def test_a_conflict_is_one_of_the_minimal_ones(
    seed: int, biased: Callable[..., Any], problem_for: Callable[..., Any]
) -> None:
    """All subsets are tried: the members forbid the rate, no set of fewer of them does."""
    examples = biased(seed, 40, masked=seed % 2 == 0, soft_s=seed % 3 == 0)
    tolerance = ["relative", "absolute"][seed % 2]
    problem = problem_for(examples, eps_r=0.05, eps_d=0.02, tolerance=tolerance)
    programme = Programme.of(Moments.of(problem, examples))
    rate = maximise_rate(programme).rate
    for goal in (1.02 * rate, 0.5 * (1 + rate)):
        found = conflict(programme, goal)
        members = tuple(np.flatnonzero(found.members).tolist())
        assert found.minimal and members
        assert rate_by_the_book(programme, members) < goal
        for fewer in combinations(members, len(members) - 1):
            assert not fewer or rate_by_the_book(programme, fewer) >= goal
    assert not conflict(programme, 0.99 * rate).members.any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), part=st.floats(0.1, 1.0))
def test_a_conflict_anywhere_forbids_the_rate(seed: int, part: float, drawn: DrawCase) -> None:
    case = drawn(seed)
    programme = Programme.of(Moments.of(case.problem, case.examples))
    found = conflict(programme, part)
    if not found.members.any():
        assert maximise_rate(programme).rate >= part * (1 - 1e-6)
        return
    assert not maximise_rate(programme.among(found.members)).reaches(part)
    for j in np.flatnonzero(found.members):
        rest = found.members.copy()
        rest[j] = False
        assert maximise_rate(programme.among(rest)).reaches(part)


def test_a_set_that_is_too_dear_to_shorten_says_so(
    biased: Callable[..., Any], problem_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = biased(3, 60)
    programme = Programme.of(Moments.of(problem_for(examples), examples))
    goal = 1.01 * maximise_rate(programme).rate
    shortened = conflict(programme, goal)
    monkeypatch.setattr(m4.conflict, "WORTHWHILE", 10)
    found = conflict(programme, goal)
    assert shortened.minimal and not found.minimal
    assert found.members.sum() >= shortened.members.sum()
    assert not maximise_rate(programme.among(found.members)).reaches(goal)
