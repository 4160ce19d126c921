"""The test of weights' shares: cells that are large enough, and no more alarms than promised."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.receipt_check import SIGNIFICANCE
from pipelines.weight_shares import (
    LEAST_EXPECTED,
    Uses,
    cells_of_shares,
    furthest_share,
    p_value_of_shares,
)

shares = st.dictionaries(
    st.floats(0, 10), st.floats(0.01, 4.9) | st.floats(0.01, 20), min_size=1, max_size=30
)


@given(shares, st.randoms())
def test_in_every_cell_but_a_lone_one_enough_uses_are_expected(
    expected: dict[float | None, float], generator: random.Random
) -> None:
    found = Uses({weight: generator.randrange(30) for weight in expected})
    observed, wanted = cells_of_shares(found, expected)
    assert len(wanted) == 1 or wanted.min() >= LEAST_EXPECTED
    assert wanted.sum() == pytest.approx(sum(expected.values()))
    assert observed.sum() == found.total()
    alone = sum(share >= LEAST_EXPECTED for share in expected.values())
    assert alone <= len(wanted) + 1 and len(wanted) <= alone + 1


def test_many_rare_weights_raise_no_more_alarms_than_chance() -> None:
    """One use expected of each of 60 weights, 200 of three more; 3,000 draws from just these."""
    expected = np.array([1.0] * 60 + [200.0] * 3)
    draws = np.random.default_rng(1).multinomial(660, expected / 660, size=3000)
    plan: dict[float | None, float] = dict(enumerate(expected.tolist()))
    p_values = [p_value_of_shares(Uses(dict(enumerate(draw.tolist()))), plan) for draw in draws]
    assert sum(p < SIGNIFICANCE for p in p_values) <= 8
    assert 0.4 < np.mean(p_values) < 0.6


def test_the_weight_furthest_from_its_share_is_the_one_named() -> None:
    expected: dict[float | None, float] = {0.5: 100.0, 1.0: 10.0}
    assert furthest_share(Uses({0.5: 90, 1.0: 20}), expected) == 1.0
    assert furthest_share(Uses({0.5: 60, 1.0: 11}), expected) == 0.5
    assert furthest_share(Uses({0.5: 60, 1.0: 10, 2.0: 1}), expected) == 2.0
