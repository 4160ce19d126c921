"""Intervals, p-values and comparisons, from draws that are made by hand or simulated."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from evaluation.draws import (
    Draws,
    Tail,
    bootstrap_intervals,
    differences,
    p_values_of,
    p_values_of_maximum,
)
from evaluation.resampling import Resampling
from m4.errors import InputError

ANY = (-np.inf, np.inf)


def draws_of(observed: list[float], seed: int = 0, **facts: object) -> Draws:
    """Figures that vary about what they are, and about 0 under the null."""
    generator = np.random.default_rng(seed)
    m = len(observed)
    made = Draws(
        measure="association_bias",
        names=tuple(f"pair {number}" for number in range(m)),
        observed=np.array(observed),
        bootstrap=np.array(observed) + 0.1 * generator.normal(size=(400, m)),
        null=0.1 * generator.normal(size=(399, m)),
        images=50,
        better="lower",
    )
    return replace(made, **facts)


def test_p_values_by_hand() -> None:
    null = np.array([[0.0], [1.0], [2.0], [3.0]])
    for observed, upper in ((3.5, 1), (3.0, 2), (0.5, 4), (-1.0, 5)):
        assert p_values_of(np.array([observed]), null, "upper") == [upper / 5]
    for observed, lower in ((3.5, 5), (3.0, 5), (0.5, 2), (-1.0, 1)):
        assert p_values_of(np.array([observed]), null, "lower") == [lower / 5]
    # Twice the smaller side, at most 1.
    for observed, both in ((3.5, 2), (3.0, 4), (0.5, 4), (-1.0, 2), (1.5, 5)):
        assert p_values_of(np.array([observed]), null, "both") == [both / 5]


def test_mirror_images_are_as_likely() -> None:
    """A figure of few values: by its distance from a mean that is itself drawn, it was not so."""
    null = np.random.default_rng(0).choice([-0.6, -0.2, 0.2, 0.6], size=(999, 1))
    mirrored = -null
    for observed in (0.2, 0.6):
        up = p_values_of(np.array([observed]), null, "both")
        down = p_values_of(np.array([-observed]), mirrored, "both")
        assert up == down


def test_a_figure_that_differs_by_rounding_alone_is_as_large() -> None:
    null = np.full((9, 1), 0.1 + 0.2)
    assert p_values_of(np.array([0.3]), null, "upper") == [1.0]
    assert p_values_of(np.array([0.3 + 1e-6]), null, "upper") == [0.1]
    assert p_values_of_maximum(np.array([0.3]), null, "upper") == [1.0]
    assert p_values_of_maximum(np.array([0.3 + 1e-6]), null, "upper") == [0.1]
    null = np.full((9, 1), 0.3)
    assert p_values_of_maximum(np.array([0.1 + 0.2]), null, "upper") == [1.0]


def test_a_figure_that_the_null_leaves_as_it_is_does_not_rule_the_maximum() -> None:
    """The mean of a thousand times 0.1 is not quite 0.1."""
    varies = np.random.default_rng(0).normal(size=(1000, 1))
    null = np.hstack([varies, np.full((1000, 1), 0.1)])
    p_max = p_values_of_maximum(np.array([5.0, 0.1]), null, "upper")
    assert p_max[0] == pytest.approx(1 / 1001)
    assert p_max[1] > 0.4


@pytest.mark.parametrize("tail", ["upper", "both"])
def test_of_one_figure_the_largest_is_itself(tail: Tail) -> None:
    draws = draws_of([0.15])
    assert draws.null is not None
    own = p_values_of(draws.observed, draws.null, tail)
    # Two sides by distance, or twice the smaller: the same but for the noise of the draws.
    found = p_values_of_maximum(draws.observed, draws.null, tail)
    assert found == pytest.approx(own, abs=0.0 if tail == "upper" else 0.03)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(2, 8))
def test_the_maximum_is_never_easier_to_reach(seed: int, m: int) -> None:
    draws = draws_of(list(np.random.default_rng(seed).normal(size=m) / 5), seed)
    assert draws.null is not None
    for tail in ("upper", "both"):
        own = p_values_of(draws.observed, draws.null, tail)
        assert (p_values_of_maximum(draws.observed, draws.null, tail) >= own - 1e-12).all()


def test_a_figure_that_varies_much_does_not_rule_the_maximum() -> None:
    generator = np.random.default_rng(0)
    null = generator.normal(size=(999, 2)) * [0.01, 1.0]
    p_max = p_values_of_maximum(np.array([0.05, 0.05]), null, "upper")
    assert p_max[0] == pytest.approx(1 / 1000)
    assert p_max[1] > 0.5


def test_the_maximum_statistic_controls_the_chance_of_any_false_alarm() -> None:
    """Ten related groups of which none matters: at .05, some figure stands out in 5 % of samples.

    Without the correction that is so in about a third of them.
    """
    resampling, alarms, uncorrected = Resampling(permutations=199), 0, 0
    trials, n = 300, 60
    for trial in range(trials):
        generator = np.random.default_rng(trial)
        groups = generator.random((n, 10)) < 0.4
        values = generator.random((n, 1)) < 0.5

        def excess(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
            return groups.T @ values.astype(float) / groups.sum(axis=0)[:, None] - values.mean()

        orders = resampling.model_copy(update={"seed": trial}).permuted(n)
        null = np.stack([excess(groups, values[order])[:, 0] for order in orders])
        observed = excess(groups, values)[:, 0]
        alarms += p_values_of_maximum(observed, null, "both").min() <= 0.05
        uncorrected += p_values_of(observed, null, "both").min() <= 0.05
    assert alarms / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert uncorrected / trials > 0.15


def test_false_discovery_rates_are_those_of_scipy() -> None:
    draws = draws_of([0.0, 0.1, 0.2, 0.3, 0.4])
    found = draws.measurements(0.95)
    p_values = [each.p_value for each in found]
    assert [each.p_fdr for each in found] == pytest.approx(false_discovery_control(p_values))
    # Benjamini and Hochberg by hand: p_(i) m / i, made monotone from the largest down.
    order = np.argsort(p_values)
    stepped = np.sort(p_values) * 5 / np.arange(1, 6)
    by_hand = np.minimum.accumulate(stepped[::-1])[::-1]
    assert [found[row].p_fdr for row in order] == pytest.approx(by_hand)


def test_measurements_say_what_is_known_of_each_figure() -> None:
    draws = draws_of([0.0, 0.5], null_kind="multinomial", better="higher")
    plain, large = draws.measurements(0.9)
    assert (plain.measure, plain.subject, plain.images) == ("association_bias", "pair 0", 50)
    assert (large.value, large.better) == (0.5, "higher")
    assert draws.null is not None
    assert large.null is not None
    assert large.null.kind == "multinomial"
    assert large.null.mean == pytest.approx(draws.null[:, 1].mean())
    low, high = np.quantile(draws.null[:, 1], [0.05, 0.95])
    assert (large.null.low, large.null.high) == pytest.approx((low, high))
    assert large.excess == pytest.approx(0.5 - large.null.mean)
    assert large.p_value == 1 / 400
    assert plain.p_value is not None
    assert plain.p_value > 0.1


def test_one_figure_needs_no_correction_and_no_null_gives_no_p_value() -> None:
    (found,) = draws_of([0.5]).measurements(0.95)
    assert (found.p_max, found.p_fdr) == (None, None)
    assert found.p_value is not None
    for found in draws_of([0.5, 0.1], null=None).measurements(0.95):
        assert (found.null, found.p_value, found.p_max, found.p_fdr) == (None,) * 4
        assert found.excess is None
        assert found.interval is not None


def test_the_largest_and_the_mean_of_figures() -> None:
    draws = draws_of([0.1, 0.4, -0.2])
    largest, mean = draws.maximum("all pairs"), draws.mean("all pairs")
    assert (largest.measure, mean.measure) == (
        "association_bias, largest",
        "association_bias, mean",
    )
    assert largest.names == mean.names == ("all pairs",)
    assert (largest.observed, mean.observed) == ([0.4], pytest.approx([0.1]))
    np.testing.assert_array_equal(largest.bootstrap[:, 0], draws.bootstrap.max(axis=1))
    assert draws.null is not None
    assert largest.null is not None
    np.testing.assert_array_equal(largest.null[:, 0], draws.null.max(axis=1))
    assert draws_of([0.1], null=None).maximum("all pairs").null is None


def test_a_largest_figure_below_zero_stays_below_zero() -> None:
    assert draws_of([-0.5, -0.4]).maximum("all pairs").observed == [-0.4]


def test_the_interval_by_hand() -> None:
    bootstrap = np.arange(101.0)[:, None]  # quantiles .025 and .975 are 2.5 and 97.5
    for value, reach in ((40.0, 57.5), (80.0, 77.5), (50.0, 47.5)):
        (found,) = bootstrap_intervals(np.array([value]), bootstrap, 0.95, ANY)
        assert found is not None
        assert (found.low, found.high, found.level) == (value - reach, value + reach, 0.95)
    (found,) = bootstrap_intervals(np.array([40.0]), bootstrap, 0.95, (0.0, 50.0))
    assert found is not None
    assert (found.low, found.high) == (0.0, 50.0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), level=st.floats(0.6, 0.99))
def test_the_interval_is_the_least_that_holds_the_percentile_and_the_basic_one(
    seed: int, level: float
) -> None:
    generator = np.random.default_rng(seed)
    value = generator.normal()
    bootstrap = value + generator.normal() + generator.gamma(1.0, size=(200, 1))
    ends = np.quantile(bootstrap, [(1 - level) / 2, (1 + level) / 2])
    (found,) = bootstrap_intervals(np.array([value]), bootstrap, level, ANY)
    assert found is not None
    assert found.low == pytest.approx(min(*ends, *(2 * value - ends)))
    assert found.high == pytest.approx(max(*ends, *(2 * value - ends)))
    assert found.low <= value <= found.high


def biased_by_noise(observed: float, **facts: object) -> Draws:
    """Resamples and null well above the lower bound, 0."""
    generator = np.random.default_rng(0)
    made = draws_of([observed], bounds=(0.0, 1.0), **facts)
    bootstrap = observed + 0.1 + 0.01 * generator.normal(size=(400, 1))
    return replace(made, bootstrap=bootstrap, null=0.3 + 0.1 * generator.random((399, 1)))


@pytest.mark.parametrize(
    ("observed", "facts", "reaches"),
    [
        (0.35, {"unbiased": 0.0}, True),
        (0.35, {"unbiased": np.zeros(1)}, True),
        (0.45, {"unbiased": 0.0}, False),  # larger than any of the null
        (0.35, {}, False),  # a gap of labels that differ: no bias is not 0
        (0.35, {"unbiased": 0.0, "null": None}, False),
    ],
)
def test_a_bias_that_chance_explains_may_be_none(
    observed: float, facts: dict[str, object], reaches: bool
) -> None:
    (found,) = replace(biased_by_noise(observed), **facts).measurements(0.95)
    assert found.interval is not None
    assert (found.interval.low == 0.0) == reaches
    if not reaches:
        assert found.interval.low == pytest.approx(observed - 0.12, abs=0.01)
    assert found.interval.high > observed


def test_the_largest_and_the_mean_of_figures_know_theirs_without_bias() -> None:
    made = replace(draws_of([0.3, 0.1, 0.2]), unbiased=np.array([0.1, 0.0, 0.05]))
    assert made.maximum("all").unbiased == pytest.approx([0.1])
    assert made.mean("all").unbiased == pytest.approx([0.05])
    assert replace(made, unbiased=0.0).mean("all").unbiased == pytest.approx([0.0])


def test_figures_of_some_of_the_images_say_so() -> None:
    made = replace(draws_of([0.3, 0.1]), images_of_each=np.array([7, 30]))
    assert [each.images for each in made.measurements(0.95)] == [7, 30]
    assert made.maximum("all").measurements(0.95)[0].images == made.images


def test_a_bias_that_is_undefined_has_no_interval_whatever_its_null() -> None:
    draws = replace(biased_by_noise(0.35), bootstrap=np.full((400, 1), np.nan))
    assert draws.measurements(0.95)[0].interval is None


def test_resamples_without_the_figure_are_left_out_up_to_a_twentieth() -> None:
    bootstrap = np.tile(np.linspace(0, 1, 400)[:, None], 3)
    bootstrap[:20, 1] = np.nan  # 5 %
    bootstrap[:21, 2] = np.nan
    whole, few, many = bootstrap_intervals(np.full(3, 0.5), bootstrap, 0.95, ANY)
    assert whole is not None
    assert few is not None
    assert many is None
    low, high = np.quantile(bootstrap[20:, 1], [0.025, 0.975])
    assert few.low == pytest.approx(min(low, 1 - high))
    draws = draws_of([0.5] * 3, bootstrap=bootstrap)
    assert [each.interval is None for each in draws.measurements(0.95)] == [False, False, True]
    assert draws.measurements(0.95)[2].p_value is not None  # the null does not resample


@pytest.mark.parametrize("what", ["observed", "bootstrap", "null"])
def test_a_column_for_each_name_or_an_error(what: str) -> None:
    array = np.ones(3) if what == "observed" else np.ones((100, 3))
    draws = draws_of([0.1, 0.2])
    with pytest.raises(InputError, match=rf"association_bias: {what} of shape .* for 2 names"):
        replace(draws, **{what: array})


def test_a_model_does_not_differ_from_itself() -> None:
    draws = draws_of([0.1, 0.4])
    for found in differences(draws, draws, 0.95):
        assert (found.value, found.p_value, found.p_fdr) == (0.0, 1.0, 1.0)
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == (0.0, 0.0)
        assert found.first == found.second


def test_what_two_models_share_cancels_in_their_difference() -> None:
    first = draws_of([0.3])
    noise = 0.001 * np.random.default_rng(1).normal(size=(400, 1))
    second = replace(
        first, observed=first.observed + 0.01, bootstrap=first.bootstrap + 0.01 + noise
    )
    (found,) = differences(first, second, 0.95)
    assert found.value == pytest.approx(0.01)
    assert found.interval is not None
    assert 0.007 < found.interval.low < 0.01 < found.interval.high < 0.013
    assert found.p_value == pytest.approx(2 / 400)
    assert found.p_fdr is None
    (back,) = differences(second, first, 0.95)
    assert back.interval is not None
    assert (back.value, back.p_value) == (-found.value, found.p_value)
    assert back.interval.low == pytest.approx(-found.interval.high)


@settings(max_examples=50, deadline=None)
@given(change=st.floats(-0.3, 0.3), seed=st.integers(0, 2**32 - 1))
def test_a_p_value_is_below_the_level_where_the_interval_leaves_out_zero(
    change: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    first = draws_of([0.0], bootstrap=np.zeros((400, 1)))
    second = draws_of([change], bootstrap=change + 0.1 * generator.normal(size=(400, 1)))
    (found,) = differences(first, second, 0.95)
    assert found.interval is not None
    assert found.p_value is not None
    if not 0.04 < found.p_value < 0.06:  # quantiles lie between two resamples
        outside = found.interval.low > 0 or found.interval.high < 0
        assert outside == (found.p_value < 0.05)


def test_differences_where_a_group_is_missing_in_resamples() -> None:
    first, second = draws_of([0.1, 0.1, 0.1]), draws_of([0.5, 0.5, 0.5], seed=1)
    bootstrap = first.bootstrap.copy()
    bootstrap[:10, 1] = np.nan
    bootstrap[:100, 2] = np.nan
    found = differences(replace(first, bootstrap=bootstrap), second, 0.95)
    assert found[0].p_value is not None
    assert found[1].p_value is not None
    assert found[1].interval is not None
    assert (found[2].interval, found[2].p_value, found[2].p_fdr) == (None, None, None)
    assert found[2].value == pytest.approx(0.4)
    known = false_discovery_control([found[0].p_value, found[1].p_value])
    assert [found[0].p_fdr, found[1].p_fdr] == pytest.approx(known)


def test_figures_that_are_missing_altogether_are_no_difference() -> None:
    first, second = draws_of([0.1, 0.1]), draws_of([0.5, 0.5], seed=1)
    bootstrap = first.bootstrap.copy()
    bootstrap[:, 1] = np.nan
    found = differences(replace(first, bootstrap=bootstrap), second, 0.95)
    assert (found[1].interval, found[1].p_value) == (None, None)
    assert found[0].p_value is not None


@pytest.mark.parametrize(
    "other",
    [{"measure": "gap"}, {"names": ("pair 1",)}, {"images": 49}],
)
def test_models_that_were_not_measured_alike_are_not_compared(other: dict[str, object]) -> None:
    first = draws_of([0.1])
    with pytest.raises(InputError, match=next(iter(other))):
        differences(first, replace(first, **other), 0.95)


def test_other_resamples_are_not_compared() -> None:
    first = draws_of([0.1])
    with pytest.raises(InputError, match="400 and 300 resamples"):
        differences(first, replace(first, bootstrap=first.bootstrap[:300]), 0.95)
