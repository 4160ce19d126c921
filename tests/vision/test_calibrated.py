"""Calibrations, and how good they are, against known posteriors and scikit-learn's own."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from vision.calibrated import (
    Calibration,
    Isotonic,
    Method,
    Platt,
    calibration_error,
    fit_calibration,
    log_loss,
)

METHODS: list[Method] = ["platt", "isotonic"]


def scored(samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, truth, and the probability from which the truth was drawn."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=samples)
    probability = expit(3 * scores - 1)
    return scores, generator.random(samples) < probability, probability


@pytest.mark.parametrize(("method", "off"), [("platt", 0.01), ("isotonic", 0.03)])
def test_a_known_posterior_is_found(method: Method, off: float) -> None:
    scores, truth, _ = scored(20_000)
    calibration = fit_calibration(scores, truth, method)
    fresh, fresh_truth, probability = scored(20_000, seed=1)
    found = calibration.probabilities(fresh)
    assert np.abs(found - probability).mean() < off
    assert calibration_error(found, fresh_truth) < 0.015


def test_platt_is_the_one_of_scikit_learn() -> None:
    scores, truth, _ = scored(300)
    line = LogisticRegression().fit(scores[:, None], truth)
    theirs = CalibratedClassifierCV(FrozenEstimator(line), method="sigmoid", ensemble=False)
    theirs.fit(scores[:, None], truth)
    mine = fit_calibration(line.decision_function(scores[:, None]), truth, "platt")
    grid = np.linspace(-3, 3, 50)[:, None]
    wanted = theirs.predict_proba(grid)[:, 1]
    np.testing.assert_allclose(mine.probabilities(line.decision_function(grid)), wanted, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_certain_after_a_few_examples(method: Method) -> None:
    """Perfectly separated, where an unsmoothed fit would say 0 and 1."""
    scores = np.arange(20.0)
    calibration = fit_calibration(scores, scores >= 10, method)
    extreme = calibration.probabilities(np.array([0.0, 19.0]))
    assert 0.01 < extreme[0] < 0.2 and 0.8 < extreme[1] < 0.99


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_scale_of_scores_does_not_matter(scale: float) -> None:
    scores, truth, _ = scored(500)
    plain = fit_calibration(scores, truth, "platt").probabilities(scores)
    scaled = fit_calibration(scores * scale + 7 * scale, truth, "platt")
    found = scaled.probabilities(scores * scale + 7 * scale)
    np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_say_nothing_give_the_share(method: Method) -> None:
    truth = np.arange(100) < 30
    found = fit_calibration(np.ones(100), truth, method).probabilities(np.ones(2))
    assert found == pytest.approx(0.3, abs=0.02)


def test_scores_of_the_wrong_sign_are_turned_round_by_platt_alone() -> None:
    scores, truth, probability = scored(5_000)
    turned = fit_calibration(-scores, truth, "platt")
    assert isinstance(turned, Platt) and turned.slope < 0
    assert np.abs(turned.probabilities(-scores) - probability).mean() < 0.02
    flat = fit_calibration(-scores, truth, "isotonic").probabilities(-scores)
    assert np.ptp(flat) < 0.3 and calibration_error(flat, truth) < 0.02


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.booleans()), min_size=2, max_size=60),
    st.sampled_from(METHODS),
)
def test_probabilities_stay_inside_and_isotonic_ones_in_order(
    pairs: list[tuple[int, bool]], method: Method
) -> None:
    scores, truth = np.array([each for each, _ in pairs], float), np.array([t for _, t in pairs])
    assume(truth.any() and not truth.all())
    calibration = fit_calibration(scores, truth, method)
    grid = np.linspace(-60, 60, 200)
    found = calibration.probabilities(grid)
    assert (found >= 0).all() and (found <= 1).all()
    if method == "isotonic":
        assert (np.diff(found) >= -1e-12).all() and found.min() > 0 and found.max() < 1
    text = calibration.model_dump_json()
    assert TypeAdapter(Calibration).validate_json(text) == calibration


@pytest.mark.parametrize(
    "calibration", [Platt(slope=3.0, intercept=0.0), Isotonic(x=(0.0, 1.0), y=(0.25, 0.75))]
)
def test_types_and_nan_pass_through(calibration: Platt | Isotonic) -> None:
    scores = np.array([-1e30, np.nan, 1e30], dtype=np.float32)
    found = calibration.probabilities(scores)
    assert found.dtype == np.float32 and found.shape == (3,)
    assert np.isnan(found).tolist() == [False, True, False]
    assert found[0] < 0.3 < 0.7 < found[2]


def test_isotonic_is_constant_beyond_its_knots() -> None:
    found = Isotonic(x=(0.0, 1.0), y=(0.25, 0.75)).probabilities(np.array([-9.0, 0.5, 9.0]))
    assert found.tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("knots", "said"),
    [
        ({"x": (0.0, 1.0), "y": (0.5,)}, "2 knots x, but 1 y"),
        ({"x": (1.0, 0.0), "y": (0.1, 0.5)}, "knots x go down"),
        ({"x": (0.0, 1.0), "y": (0.5, 0.1)}, "knots y go down"),
        ({"x": (0.0,), "y": (1.5,)}, "less than or equal to 1"),
        ({"x": (float("nan"),), "y": (0.5,)}, "finite"),
    ],
)
def test_knots_that_make_no_calibration(knots: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Isotonic(**knots)


def test_calibration_error_by_hand() -> None:
    probability = np.repeat([0.1, 0.9], 50)  # five bins of ten each
    truth = np.concatenate([np.arange(50) % 10 == 0, np.arange(50) % 10 != 0])
    assert calibration_error(probability, truth) == pytest.approx(0.0, abs=1e-12)
    assert calibration_error(probability, ~truth) == pytest.approx(0.8)


@given(st.integers(1, 400), st.integers(0, 9))
def test_calibration_error_is_at_least_the_difference_of_means(samples: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    probability, truth = generator.random(samples), generator.random(samples) < 0.5
    found = calibration_error(probability, truth)
    assert abs(probability.mean() - truth.mean()) - 1e-12 <= found <= 1


def test_perfect_probabilities_have_the_error_that_is_stated() -> None:
    errors = []
    for seed in range(50):
        _, truth, probability = scored(1000, seed)
        errors.append(calibration_error(probability, truth))
    assert 0.005 < np.mean(errors) < 0.4 / np.sqrt(1000 / 10)


def test_log_loss_by_hand() -> None:
    found = log_loss(np.array([0.5, 0.25, 0.0]), np.array([True, False, False]))
    assert found == pytest.approx((np.log(2) + np.log(4 / 3)) / 3)
    assert log_loss(np.array([0.0]), np.array([True])) == pytest.approx(-np.log(1e-15))
