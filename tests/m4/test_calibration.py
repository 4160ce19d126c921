"""A calibration of its own: applied to other data, kept in a file, refused where it is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.special import expit, logit

from m4.calibration import RAREST, CellCalibration, ValueCalibration, with_ones
from m4.errors import InputError
from m4.noise import calibrate_from_rates
from m4.noise_bounds import ErrorRates
from m4.patterns import Patterns

MakeExamples = Callable[..., Patterns]
LOG_ODDS = st.floats(-30, 30)


def calibration_of(values: int = 2, labels: int = 3, **settings: Any) -> CellCalibration:
    """Some calibration with two score intervals and different numbers everywhere."""
    generator = np.random.default_rng(values * 10 + labels)
    return CellCalibration(
        values=tuple(f"s{k}" for k in range(values)),
        labels=tuple(f"y{r}" for r in range(labels)),
        per_value=tuple(
            ValueCalibration(
                value=f"s{k}",
                mean_if_true=0.9,
                mean_if_false=0.1,
                evidence=(-2.2, 2.2 + k),
                prevalence=tuple(generator.normal(0, 0.5, labels + 1).tolist()),
                corrections=tuple(map(tuple, generator.normal(0, 0.3, (2, labels + 1)).tolist())),
            )
            for k in range(values)
        ),
        cells=(),
        **settings,
    )


def test_a_probability_is_the_stated_formula() -> None:
    calibration = calibration_of()
    examples = Patterns.from_arrays([[0.7, 0.2]], [[1.0, 0.0, 0.5]])
    for k, interval in ((0, 1), (1, 0)):
        one = calibration.per_value[k]
        y = np.array([1.0, 1.0, 0.0, 0.5])  # a one for all, then the labels
        marked = expit(y @ np.array(one.prevalence))
        prior = logit((marked - 0.1) / (0.9 - 0.1))
        added = y @ np.array(one.corrections[interval])
        wanted = expit(prior + one.evidence[interval] + added)
        assert calibration.probabilities(examples)[0, k] == pytest.approx(wanted)


@settings(max_examples=100, deadline=None)
@given(
    s=arrays(float, (5, 1), elements=st.floats(0, 1)),
    y=arrays(float, (5, 2), elements=st.floats(0, 1)),
    observed=arrays(bool, (5, 1)),
    evidence=st.tuples(LOG_ODDS, LOG_ODDS),
    prevalence=st.tuples(LOG_ODDS, LOG_ODDS, LOG_ODDS),
    correction=st.tuples(LOG_ODDS, LOG_ODDS, LOG_ODDS),
)
def test_probabilities_stay_between_0_and_1(
    s: np.ndarray,
    y: np.ndarray,
    observed: np.ndarray,
    evidence: tuple[float, float],
    prevalence: tuple[float, float, float],
    correction: tuple[float, float, float],
) -> None:
    """Whatever the numbers; the result is valid data for a solver, with the same mask."""
    one = ValueCalibration(
        value="s0",
        mean_if_true=0.8,
        mean_if_false=0.3,
        evidence=evidence,
        prevalence=prevalence,
        corrections=(correction, correction[::-1]),
    )
    calibration = CellCalibration(values=("s0",), labels=("y0", "y1"), per_value=(one,), cells=())
    examples = Patterns.from_arrays(s, y, observed=observed)
    calibrated = calibration.apply(examples)
    assert ((calibrated.s >= 0) & (calibrated.s <= 1)).all()
    assert (calibrated.s[~observed] == 0).all()
    np.testing.assert_array_equal(calibrated.observed, observed)
    assert calibrated.y is examples.y
    labels = with_ones(examples.y)
    assert (np.abs(one.prior_log_odds(labels)) <= logit(1 - RAREST) + 1e-9).all()


def test_exclusive_values_sum_to_one(biased: MakeExamples) -> None:
    examples = biased(11, 50, values=3, masked=True)
    calibration = calibration_of(3, 3, exclusive=((0, 2),))
    apart = calibration_of(3, 3).probabilities(examples)
    together = calibration.probabilities(examples)
    both = examples.observed[:, [0, 2]].all(axis=1)
    np.testing.assert_allclose(together[both][:, [0, 2]].sum(axis=1), 1.0)
    np.testing.assert_allclose(
        together[both, 0] * apart[both, 2], together[both, 2] * apart[both, 0]
    )
    np.testing.assert_array_equal(together[~both], apart[~both])
    np.testing.assert_array_equal(together[:, 1], apart[:, 1])


def test_a_file_keeps_every_bit(biased: MakeExamples, tmp_path: Path) -> None:
    examples = biased(12, 500)
    rates = ErrorRates(false_positive=0.1, false_negative=0.05)
    calibration = calibrate_from_rates(examples, {"s0": rates, "s1": rates}, exclusive=[["s0"]])
    path = tmp_path / "calibration.json"
    path.write_text(calibration.to_json())
    loaded = CellCalibration.load(path)
    assert loaded == calibration
    assert loaded.to_json() == calibration.to_json()
    unseen = biased(13, 50)
    np.testing.assert_array_equal(loaded.probabilities(unseen), calibration.probabilities(unseen))
    assert loaded.table().equals(calibration.table())


def test_an_example_s_probability_does_not_depend_on_the_others(biased: MakeExamples) -> None:
    examples = biased(14, 30, soft_s=True, soft_y=True)
    calibration = calibration_of()
    together = calibration.probabilities(examples)
    for row in range(30):
        alone = Patterns.from_arrays(examples.s[[row]], examples.y[[row]])
        np.testing.assert_allclose(calibration.probabilities(alone)[0], together[row])


def test_a_table_without_cells_is_empty() -> None:
    table = calibration_of().table()
    assert len(table) == 0
    assert table.columns[:4] == ["value", "label", "at_least", "below"]


def test_a_calibration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        calibration_of().spread = 2.0


def test_data_of_another_shape_is_refused(biased: MakeExamples) -> None:
    with pytest.raises(
        InputError, match="1 sensitive values and 3 labels, the calibration 2 and 3"
    ):
        calibration_of().probabilities(biased(1, 5, values=1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.pop("values"), "values: Field required"),
        (lambda content: content.update(colour=1), "unknown key `colour`"),
        (lambda content: content.update(spread=0), "spread: .*greater than 0"),
        (lambda content: content["values"].reverse(), "per_value does not list the values"),
        (lambda content: content["labels"].pop(), "s0: does not fit 2 score intervals, 2 labels"),
        (
            lambda content: content["per_value"][1].update(mean_if_false=0.9),
            "s1: mean_if_true is not above mean_if_false",
        ),
        (lambda content: content.update(edges=[0.3, 0.6]), "does not fit 3 score intervals"),
    ],
)
def test_content_that_is_not_a_calibration_is_told(
    change: Callable[[dict[str, Any]], Any], told: str, tmp_path: Path
) -> None:
    content = json.loads(calibration_of().to_json())
    change(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"changed\.json: not a calibration: .*{told}"):
        CellCalibration.load(path)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such calibration"):
        CellCalibration.load(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read"):
        CellCalibration.load(tmp_path)
    (tmp_path / "half.json").write_text(calibration_of().to_json()[:100])
    with pytest.raises(InputError, match=r"half\.json: not a calibration: .*EOF"):
        CellCalibration.load(tmp_path / "half.json")
