"""Resamples and permutations: what they are, and the sums that measures take over them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evaluation import resampling
from evaluation.resampling import Resampling
from m4.errors import InputError

FEW = Resampling(resamples=100, permutations=100)


@settings(max_examples=20, deadline=None)
@given(items=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_a_resample_has_as_many_items_as_there_are(items: int, seed: int) -> None:
    counts = FEW.model_copy(update={"seed": seed}).counts(items)
    assert counts.shape == (100, items)
    assert (counts.sum(axis=1) == items).all()


def test_counts_are_those_of_drawing_with_replacement() -> None:
    counts = Resampling(resamples=20_000).counts(5)
    assert counts.mean() == 1.0
    assert counts.var(axis=0) == pytest.approx([0.8] * 5, rel=0.05)  # n p (1 - p)
    assert np.cov(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-0.2, abs=0.03)  # - n p p


def test_more_items_than_a_16_bit_count_of_draws() -> None:
    counts = FEW.counts(70_000)
    assert (counts.sum(axis=1) == 70_000).all()
    assert counts.max() < 30


def test_the_same_items_have_the_same_resamples() -> None:
    np.testing.assert_array_equal(FEW.counts(40), Resampling(resamples=100).counts(40))
    np.testing.assert_array_equal(FEW.permuted(40), Resampling(permutations=100).permuted(40))
    assert (FEW.counts(40) != FEW.counts(40, of="prompts")).any()
    other = FEW.model_copy(update={"seed": 1})
    assert (FEW.counts(40) != other.counts(40)).any()
    assert (FEW.permuted(40) != other.permuted(40)).any()


def test_more_resamples_begin_with_the_same() -> None:
    more = Resampling(resamples=150)
    np.testing.assert_array_equal(FEW.counts(40), more.counts(40)[:100])


@settings(max_examples=20, deadline=None)
@given(strata=st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_a_permutation_keeps_items_in_their_strata(strata: list[int]) -> None:
    codes = np.array(strata)
    orders = FEW.permuted(len(codes), codes)
    assert orders.dtype == np.int32
    np.testing.assert_array_equal(np.sort(orders, axis=1), [range(len(codes))] * 100)
    assert (codes[orders] == codes).all()


def test_every_permutation_is_as_likely() -> None:
    orders = Resampling(permutations=6000).permuted(3)
    _, often = np.unique(orders, axis=0, return_counts=True)
    assert often == pytest.approx([1000] * 6, abs=150)


def test_strata_are_permuted_independently() -> None:
    orders = Resampling(permutations=4000).permuted(4, ["a", "b", "a", "b"])
    _, often = np.unique(orders, axis=0, return_counts=True)
    assert often == pytest.approx([1000] * 4, abs=150)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), items=st.integers(1, 30))
def test_sums_are_those_of_the_items_written_out(seed: int, items: int) -> None:
    generator = np.random.default_rng(seed)
    values, groups = generator.normal(size=(items, 2)), generator.random((items, 3)) < 0.5
    groups[~groups.any(axis=1), 0] = True
    counts, orders = FEW.counts(items), FEW.permuted(items)
    sums, sizes = FEW.group_sums(values, groups)
    traded = FEW.permuted_group_sums(values, groups)
    for draw in (0, 7, 99):
        chosen = np.repeat(np.arange(items), counts[draw])
        assert FEW.sums(values)[draw] == pytest.approx(values[chosen].sum(axis=0))
        for group in range(3):
            inside = groups[chosen, group]
            assert sizes[draw, group] == inside.sum()
            assert sums[draw, group] == pytest.approx(values[chosen][inside].sum(axis=0))
            of_others = groups[orders[draw], group]
            assert traded[draw, group] == pytest.approx(values[of_others].sum(axis=0))


def test_blocks_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 9, (30, 2))
    whole = FEW.sums(values)
    monkeypatch.setattr(resampling, "BLOCK", 70)
    np.testing.assert_array_equal(FEW.sums(values), whole)


def test_trading_groups_within_strata_keeps_the_sums_that_strata_decide() -> None:
    strata = np.array([0, 0, 0, 1, 1, 1])
    groups = np.eye(2, dtype=bool)[[0, 1, 1, 0, 0, 1]]
    values = strata[:, None] * 10.0  # all alike within a stratum
    traded = FEW.permuted_group_sums(values, groups, strata)
    assert (traded[:, :, 0] == [20.0, 10.0]).all()
    assert np.ptp(FEW.permuted_group_sums(values, groups)) > 0


@pytest.mark.parametrize(("values", "groups"), [((4, 1), (5, 2)), ((4,), (4, 2)), ((4, 1), (4,))])
def test_values_and_groups_that_do_not_fit_are_refused(
    values: tuple[int, ...], groups: tuple[int, ...]
) -> None:
    for method in (FEW.group_sums, FEW.permuted_group_sums):
        with pytest.raises(InputError, match="one row of each for every item"):
            method(np.ones(values), np.ones(groups))


@pytest.mark.parametrize(
    "wrong",
    [{"resamples": 99}, {"permutations": 0}, {"level": 1.0}, {"level": 0.5}, {"seed": -1}],
)
def test_settings_that_give_no_interval_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Resampling(**wrong)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), items=st.integers(2, 30))
def test_items_in_no_group_change_nothing_whatever_their_values(seed: int, items: int) -> None:
    generator = np.random.default_rng(seed)
    values, groups = generator.normal(size=(items, 2)), generator.random((items, 2)) < 0.5
    outside = ~groups.any(axis=1)
    found = FEW.permuted_group_sums(values, groups)
    values[outside] = 1e6
    np.testing.assert_array_equal(FEW.permuted_group_sums(values, groups), found)
    assert found.shape == (100, 2, 2)


def test_every_order_of_the_members_is_as_likely() -> None:
    many = Resampling(permutations=6000)
    groups = np.zeros((7, 1), dtype=bool)
    groups[[1, 4, 6]] = True
    orders = resampling._among(many.permuted(7), groups[:, 0])
    assert set(np.unique(orders)) == {1, 4, 6}
    _, times = np.unique(orders, axis=0, return_counts=True)
    assert len(times) == 6
    assert abs(times - 1000).max() < 150  # five standard deviations


def test_a_member_outside_the_strata_is_refused() -> None:
    values, groups = np.zeros((4, 1)), np.array([[True], [True], [True], [False]])
    with pytest.raises(InputError, match="items in no group cannot trade within strata"):
        FEW.permuted_group_sums(values, groups, strata=[0, 0, 1, 1])
