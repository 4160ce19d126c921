"""Sums in fixed point: the same in any order, near the truth, and carried to another process."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from m4.errors import InputError
from m4.problem import Problem
from m4.totals import Totals
from pipelines.totals import BITS, ExactSums, Measured, add_up

PROBLEM = Problem(
    values=("a",), labels=("l",), targets=(0.5,), label_targets=((0.5,),), eta=0.5, eps_r=0.1
)
sums = st.floats(0, 1e9, allow_subnormal=False)


def totals(numbers: np.ndarray) -> Totals:
    return Totals(numbers[:2].reshape(1, 2), numbers[2:4].reshape(1, 2), *numbers[4:].tolist())


def numbers_of(totals: Totals) -> np.ndarray:
    scalars = [totals.examples, totals.weight, totals.squares, totals.distance]
    return np.concatenate([totals.held.ravel(), totals.known.ravel(), scalars])


def exact(numbers: np.ndarray) -> ExactSums:
    return ExactSums.of(Measured(totals(numbers[:8]), totals(numbers[8:])).numbers())


@given(
    st.lists(arrays(float, 16, elements=sums), min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
def test_sums_are_the_same_in_any_order_and_nearly_exact(rows: list[np.ndarray], draw: Any) -> None:
    whole = add_up(map(exact, rows))
    shuffled = list(rows)
    draw.shuffle(shuffled)
    cut = draw.randint(1, len(rows) - 1)
    divided = add_up(map(exact, shuffled[:cut])) + add_up(map(exact, shuffled[cut:]))
    assert np.array_equal(whole.whole, divided.whole)
    assert np.array_equal(whole.part, divided.part)
    assert ((whole.part >= 0) & (whole.part < 1 << BITS)).all()
    found = Measured.of(whole.numbers(), PROBLEM)
    numbers = np.concatenate([numbers_of(each) for each in (found.plain, found.weighted)])
    expected = [math.fsum(column) for column in zip(*rows, strict=True)]
    assert numbers == pytest.approx(np.array(expected), rel=1e-15, abs=len(rows) * 2.0**-61)


def test_parts_are_carried() -> None:
    tenth = exact(np.full(16, 0.1))
    ten = add_up([tenth] * 10)
    assert (ten.whole == 1).all()  # ten times the float above one tenth
    assert (add_up([exact(np.full(16, 0.75))] * 4).whole == 3).all()
    assert (exact(np.full(16, 1 - 2.0**-53)).whole == 0).all()


def test_sums_come_back_from_a_file(tmp_path: Path) -> None:
    written = exact(np.random.default_rng(0).random(16) * 1e6)
    written.write(str(tmp_path / "sums"))
    read = ExactSums.read(str(tmp_path / "sums"))
    assert np.array_equal(read.whole, written.whole)
    assert np.array_equal(read.part, written.part)


@pytest.mark.parametrize("number", [math.nan, math.inf, 2.0**53])
def test_sums_that_are_no_numbers_are_refused(number: float) -> None:
    numbers = np.ones(16)
    numbers[5] = number
    with pytest.raises(InputError, match="the weights add up to"):
        exact(numbers)
