"""Bias transfer: by hand, against scipy, and what chance makes of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, pearsonr

from evaluation.bias import association_bias
from evaluation.draws import Measurement
from evaluation.resampling import Resampling
from evaluation.transfer import bias_transfer, bias_transfer_draws, data_associations
from m4.bias import bias_table
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem

RESAMPLING = Resampling(resamples=200, permutations=200)
seeds = st.integers(0, 2**32 - 1)


def random_case(seed: int, concepts: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    data = generator.normal(size=concepts)
    return data, 0.5 * data + generator.normal(size=concepts)


def found_in(*given: object, **more: object) -> dict[str, Measurement]:
    draws = bias_transfer_draws(*given, **more)
    return {one.measure.split(", ")[1]: one.measurements(0.95)[0] for one in draws}


def test_a_line_by_hand() -> None:
    found = bias_transfer([-1.0, 0.0, 1.0], [-1.0, 3.0, 1.0])
    # covariance 2/3, variances 2/3 and 8/3, both of three
    assert (found.slope, found.intercept) == pytest.approx((1.0, 1.0))
    assert (found.r, found.r_squared) == pytest.approx((0.5, 0.25))
    assert found.sign_agreement == pytest.approx((1 + 0.5 + 1) / 3)
    assert (found.concepts, found.left_out) == (3, ())


def test_a_model_that_turns_the_data_around_has_negative_figures() -> None:
    data, _ = random_case(0)
    found = bias_transfer(data, -2 * data)
    assert (found.r, found.r_squared, found.slope) == pytest.approx((-1.0, 1.0, -2.0))
    assert found.sign_agreement == 0.0
    draws = bias_transfer_draws(data, -2 * data, RESAMPLING)
    assert draws[0].maximum("largest").observed.item() == pytest.approx(-1.0)
    assert draws[0].measurements(0.95)[0].p_value == 2 / 201


def test_concepts_are_joined_by_name_and_those_of_one_side_are_named() -> None:
    data = {"nurse": 0.3, "doctor": -0.2, "pilot": -0.4, "clerk": 0.1}
    model = {"clerk": 0.0, "pilot": -0.3, "judge": 0.5, "nurse": 0.2}
    found = bias_transfer(data, model)
    assert found.left_out == ("doctor", "judge")
    plain = bias_transfer([0.1, -0.4, 0.3], [0.0, -0.3, 0.2])
    assert found.model_copy(update={"left_out": ()}) == plain


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        ([1.0, 2.0], [1.0, 2.0], "2 concepts have an association in the data and in the model;"),
        ({"a": 1, "b": 2, "c": 3}, {"b": 1, "d": 2}, "1 concepts .* only one side has a, c, d"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "the data's association is 1 for all 3 concepts"),
        ({"a": 1, "b": 2, "c": 3}, {"a": 0, "b": 0, "c": 0}, "the model's association is 0"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0], "data's association of concept 1 is not finite"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], r"shape \(3,\) and model of shape \(2,\)"),
        ({"a": 1}, [1.0], "names its concepts"),
    ],
)
def test_what_has_no_line_is_refused(data, model, said: str) -> None:
    with pytest.raises(InputError, match=said):
        bias_transfer(data, model)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_invariants(seed: int) -> None:
    data, model = random_case(seed)
    found = bias_transfer(data, model)
    assert found.r == pytest.approx(pearsonr(data, model).statistic)
    order = np.random.default_rng(seed).permutation(12)
    moved = bias_transfer(data[order], model[order])
    names = {"left_out"}
    assert moved.model_dump(exclude=names) == pytest.approx(found.model_dump(exclude=names))
    scaled = bias_transfer(data * 4, model * 2)
    assert scaled.r == pytest.approx(found.r)
    assert scaled.slope == pytest.approx(found.slope / 2)
    assert scaled.sign_agreement == found.sign_agreement
    named = bias_transfer(
        dict(zip("abcdefghijkl", data, strict=True)), dict(zip("abcdefghijkl", model, strict=True))
    )
    assert named == found


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_draws_have_the_figures_of_the_plain_function(seed: int) -> None:
    data, model = random_case(seed)
    plain = bias_transfer(data, model)
    found = found_in(data, model, RESAMPLING)
    assert {name: one.value for name, one in found.items()} == {
        name: getattr(plain, name) for name in ("r", "r_squared", "slope", "sign_agreement")
    }
    assert found["r"].images == 12


def test_draws_are_the_lines_of_resampled_and_permuted_concepts() -> None:
    data, model = random_case(1)
    draws = bias_transfer_draws(data, model, RESAMPLING)
    for draw in range(10):
        rows = np.repeat(np.arange(12), RESAMPLING.counts(12, of="concepts")[draw])
        resampled = bias_transfer(data[rows], model[rows])
        permuted = bias_transfer(data, model[RESAMPLING.permuted(12)[draw]])
        for one in draws:
            name = one.measure.split(", ")[1]
            assert one.null is not None
            assert one.bootstrap[draw, 0] == pytest.approx(getattr(resampled, name))
            assert one.null[draw, 0] == pytest.approx(getattr(permuted, name))


def test_a_resample_of_one_concept_has_no_line() -> None:
    data, model = np.array([0.1, 0.2, 0.7]), np.array([0.3, 0.1, 0.9])
    r, _, slope, _ = bias_transfer_draws(data, model, RESAMPLING)
    alone = (RESAMPLING.counts(3, of="concepts") == 3).any(axis=1)
    assert alone.sum() > 5
    assert np.isnan(r.bootstrap[:, 0]).tolist() == alone.tolist()
    assert np.isnan(slope.bootstrap[:, 0]).tolist() == alone.tolist()


def test_the_models_own_resamples_widen_the_interval() -> None:
    data = np.linspace(-1, 1, 30)
    names = [f"c{row}" for row in range(30)]
    model = data + 0.05 * np.random.default_rng(0).normal(size=30)
    noise = np.random.default_rng(1).normal(scale=0.5, size=(200, 30))
    narrow = found_in(data, model, RESAMPLING)["slope"].interval
    wide = found_in(data, model, RESAMPLING, model_draws=model + noise)["slope"].interval
    assert narrow is not None and wide is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    exact = found_in(data, model, RESAMPLING, model_draws=np.tile(model, (200, 1)))
    assert exact == found_in(data, model, RESAMPLING)
    # the columns follow the names of the model, one of which the data do not have
    of_model = {"other": 9.0, **dict(zip(names[::-1], model[::-1], strict=True))}
    drawn = np.column_stack([np.full(200, 9.0), (model + noise)[:, ::-1]])
    joined = found_in(
        dict(zip(names[::-1], data[::-1], strict=True)), of_model, RESAMPLING, model_draws=drawn
    )["slope"]
    alone = found_in(data[::-1], model[::-1], RESAMPLING, model_draws=drawn[:, 1:])["slope"]
    assert joined == alone


def test_draws_of_another_shape_are_refused() -> None:
    data, model = random_case(2)
    with pytest.raises(InputError, match=r"200 resamples of 12 concepts need \(200, 12\)"):
        bias_transfer_draws(data, model, RESAMPLING, model_draws=np.zeros((100, 12)))


def test_transfer_is_found_and_none_is_not() -> None:
    generator = np.random.default_rng(3)
    data = generator.normal(size=40)
    found = found_in(data, data + 0.5 * generator.normal(size=40), RESAMPLING)
    assert found["r"].p_value == 2 / 201
    assert found["r_squared"].p_value == 1 / 201
    assert found["sign_agreement"].p_value == 2 / 201
    assert found["r"].interval is not None and found["r"].interval.low > 0.5
    none = found_in(data, generator.normal(size=40), RESAMPLING)
    assert none["r"].p_value > 0.05


def test_p_values_without_transfer_are_small_as_often_as_they_say() -> None:
    generator = np.random.default_rng(7)
    few = Resampling(resamples=100, permutations=100)
    p_values = []
    for _ in range(200):
        # both lean the same way: signs agree by that alone
        found = found_in(generator.normal(0.5, 1, 25), generator.normal(0.5, 1, 25), few)
        p_values.append([found[name].p_value for name in ("r", "slope", "sign_agreement")])
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    rejected = np.count_nonzero(np.array(p_values) <= 0.05, axis=0)
    assert (rejected <= high).all()
    assert (low <= rejected[:2]).all()  # agreement has few values, so ties make it careful


def test_draws_are_the_same_each_time() -> None:
    data, model = random_case(4)
    assert found_in(data, model, RESAMPLING) == found_in(data, model, RESAMPLING)


def workers(shares: dict[str, float], each: int = 100) -> tuple[Problem, Patterns]:
    """Pictures of one occupation each, with so many women among them."""
    s, y, counts = [], [], []
    for row, share in enumerate(shares.values()):
        for woman in (1.0, 0.0):
            s.append([woman, 1 - woman])
            y.append(np.eye(len(shares))[row])
            counts.append(round(each * (share if woman else 1 - share)))
    problem = Problem(
        values=("gender.woman", "gender.man"),
        labels=tuple(shares),
        targets=(0.5, 0.5),
        label_targets=((0.5,) * len(shares),) * 2,
    )
    return problem, Patterns.from_arrays(np.array(s), np.array(y), counts=counts)


def test_associations_of_the_data_by_hand() -> None:
    table = bias_table(*workers({"nurse": 0.9, "doctor": 0.3, "clerk": 0.6}))
    assert data_associations(table, "gender.woman") == pytest.approx(
        {"nurse": 0.3, "doctor": -0.3, "clerk": 0.0}
    )
    assert data_associations(table, "gender.man") == pytest.approx(
        {"nurse": -0.3, "doctor": 0.3, "clerk": 0.0}
    )
    with pytest.raises(InputError, match=r"'woman' has no share .* are gender.woman, gender.man"):
        data_associations(table, "woman")


def test_a_label_without_examples_has_no_association_and_weights_change_the_others() -> None:
    problem, patterns = workers({"nurse": 0.9, "doctor": 0.3, "clerk": 0.6})
    no_clerks = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    found = data_associations(bias_table(problem, patterns, no_clerks), "gender.woman")
    assert found == pytest.approx({"nurse": 0.3, "doctor": -0.3})
    balanced = np.array([0.5 / 0.9, 0.5 / 0.1, 0.5 / 0.3, 0.5 / 0.7, 0.5 / 0.6, 0.5 / 0.4])
    even = data_associations(bias_table(problem, patterns, balanced), "gender.woman")
    assert even == pytest.approx({"nurse": 0.0, "doctor": 0.0, "clerk": 0.0})


def test_a_model_that_learnt_the_data_is_explained_by_them() -> None:
    """From a table of data to preferences on a gallery of people."""
    shares = {"nurse": 0.9, "doctor": 0.2, "clerk": 0.6, "pilot": 0.1, "judge": 0.4}
    data = data_associations(bias_table(*workers(shares)), "gender.woman")
    woman, man = np.eye(2)
    people = np.repeat([woman, man], 50, axis=0)
    people += 0.4 * np.random.default_rng(0).normal(size=people.shape)
    groups = {"woman": np.arange(100) < 50, "man": np.arange(100) >= 50}
    labels = [*shares, "someone"]
    prompts = np.array([[share, 1 - share] for share in shares.values()] + [[0.44, 0.56]])
    found = association_bias(
        people, prompts, labels, [(name, "someone") for name in shares], groups
    )
    model = {pair.first: pair.preference["woman"] - pair.preference["man"] for pair in found.pairs}
    transfer = bias_transfer(data, model)
    assert transfer.concepts == 5 and transfer.left_out == ()
    assert transfer.r > 0.8 and transfer.sign_agreement == 1.0
