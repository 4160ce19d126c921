"""Pronoun resolution, by hand, by invariants, and what chance makes of it."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluation.draws import Draws, Measurement
from evaluation.pronouns import PRONOUNS, Resolution, resolution, resolution_draws
from evaluation.resampling import Resampling
from m4.errors import InputError

HIS, HER, THEIR = np.eye(3)
TEXTS = np.eye(3)[:2]
PROMPTS = {"doctor": TEXTS, "nurse": TEXTS}
RESAMPLING = Resampling(resamples=200, permutations=200)
seeds = st.integers(0, 2**32 - 1)


def case(shown: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Images from words such as "doctor-m-her": occupation, gender, pronoun that they resemble."""
    vectors = {"his": HIS, "her": HER, "their": THEIR, "any": HIS + HER}
    parts = [word.split("-") for word in shown.split()]
    return (
        np.array([vectors[part[2]] for part in parts]),
        [part[0] for part in parts],
        [{"m": "masculine", "f": "feminine"}[part[1]] for part in parts],
    )


def measured(shown: str, **more: object) -> Resolution:
    images, occupations, genders = case(shown)
    return resolution(images, PROMPTS, occupations, genders, **more)


def by_name(draws: tuple[Draws, ...]) -> dict[tuple[str, str], Measurement]:
    return {(one.measure, one.subject): one for found in draws for one in found.measurements(0.95)}


def answers(
    right: Sequence[bool], occupations: Sequence[str], genders: Sequence[str]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Images whose answer is right or wrong as given."""
    own = np.array([PRONOUNS.index(gender) for gender in genders])
    images = np.eye(3)[np.where(np.asarray(right), own, 1 - own)]
    return images, list(occupations), list(genders)


DOCTORS = "doctor-m-his doctor-m-his doctor-m-her doctor-f-her doctor-f-his "
NURSES = "nurse-m-her nurse-f-her nurse-f-her"


def test_accuracy_and_bias_by_hand() -> None:
    found = measured(DOCTORS + NURSES)
    doctor, nurse = found.by_occupation
    assert doctor.accuracy == pytest.approx({"masculine": 2 / 3, "feminine": 0.5})
    assert doctor.bias == pytest.approx(1 / 6)
    assert nurse.accuracy == {"masculine": 0.0, "feminine": 1.0}
    assert nurse.bias == -1.0
    assert found.accuracy == {"masculine": 0.5, "feminine": 0.75}
    assert found.bias == -0.25
    assert found.mean_accuracy == 0.625
    assert found.counts == {"masculine": 4, "feminine": 4}


def test_a_tie_is_shared_and_not_his() -> None:
    found = measured("doctor-m-any doctor-f-any nurse-m-any nurse-f-any")
    assert found.accuracy == {"masculine": 0.5, "feminine": 0.5}
    assert found.bias == 0.0


def test_a_neutral_pronoun_competes_and_is_never_right() -> None:
    images, occupations, genders = case("doctor-m-their doctor-m-his doctor-f-their doctor-f-her")
    prompts = {"doctor": np.eye(3)}
    found = resolution(images, prompts, occupations, genders, (*PRONOUNS, "neutral"))
    assert found.accuracy == {"masculine": 0.5, "feminine": 0.5}


def test_each_image_meets_the_texts_of_its_own_occupation() -> None:
    images, occupations, genders = case("doctor-m-his nurse-m-his doctor-f-her nurse-f-her")
    swapped = {"doctor": TEXTS, "nurse": TEXTS[::-1]}
    found = resolution(images, swapped, occupations, genders)
    assert {one.occupation: one.accuracy["masculine"] for one in found.by_occupation} == {
        "doctor": 1.0,
        "nurse": 0.0,
    }


def test_an_occupation_without_one_gender_is_named_and_counts_overall() -> None:
    found = measured(DOCTORS + "nurse-f-her")
    assert found.left_out == ("nurse",)
    assert [one.occupation for one in found.by_occupation] == ["doctor"]
    assert found.accuracy["feminine"] == pytest.approx(2 / 3)
    images, occupations, genders = case(DOCTORS + "nurse-f-her")
    details, *_ = resolution_draws(images, PROMPTS, occupations, genders, RESAMPLING)
    assert details.names == ("doctor",)


def test_where_no_occupation_has_both_genders_there_is_no_table_of_them() -> None:
    images, occupations, genders = case("doctor-m-his doctor-m-her nurse-f-her")
    draws = resolution_draws(images, PROMPTS, occupations, genders, RESAMPLING)
    assert [one.measure for one in draws] == [
        "resolution_accuracy",
        "resolution_bias",
        "resolution_accuracy, mean",
    ]
    assert draws[1].observed.item() == -0.5


def test_a_largest_bias_below_zero_shows() -> None:
    images, occupations, genders = case(
        "doctor-m-her doctor-m-his doctor-f-her nurse-m-her nurse-f-her"
    )
    details, *_ = resolution_draws(images, PROMPTS, occupations, genders, RESAMPLING)
    assert details.observed.tolist() == [-0.5, -1.0]
    assert details.maximum("largest").observed.item() == -0.5


@pytest.mark.parametrize(
    ("shown", "more", "said"),
    [
        ("pilot-m-his doctor-f-her", {}, "image 0: occupation 'pilot' has no texts"),
        ("doctor-m-his doctor-m-his", {}, "1 of the groups masculine, feminine have images"),
        (DOCTORS, {"pronouns": ("man", "woman")}, "gender 'masculine' is neither man nor woman"),
        (DOCTORS, {"pronouns": (*PRONOUNS, "neutral")}, "'doctor': 2 texts for 3 pronouns"),
        (DOCTORS, {"pronouns": ("masculine",)}, "give at least two, none twice"),
        (DOCTORS, {"pronouns": ("masculine", "masculine")}, "give at least two, none twice"),
    ],
)
def test_what_cannot_be_measured_is_refused(shown: str, more: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        measured(shown, **more)


def test_lengths_must_agree() -> None:
    images, occupations, genders = case(DOCTORS)
    with pytest.raises(InputError, match="5 images, 5 occupations and 4 genders"):
        resolution(images, PROMPTS, occupations, genders[:4])


def random_case(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], list[str], list[str]]:
    generator = np.random.default_rng(seed)
    occupations = ["doctor", "nurse", "clerk"] * 14
    genders = [PRONOUNS[value] for value in np.append([0] * 3 + [1] * 3, np.arange(36) % 2)]
    prompts = {name: generator.normal(size=(2, 4)) for name in set(occupations[:3])}
    return generator.normal(size=(42, 4)), prompts, occupations, genders


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_invariants(seed: int) -> None:
    images, prompts, occupations, genders = random_case(seed)
    found = resolution(images, prompts, occupations, genders)
    order = np.random.default_rng(seed).permutation(42)
    moved = resolution(
        images[order] * 5.0,
        prompts,
        [occupations[row] for row in order],
        [genders[row] for row in order],
    )
    assert moved.accuracy == pytest.approx(found.accuracy)
    assert {one.occupation: one.bias for one in moved.by_occupation} == pytest.approx(
        {one.occupation: one.bias for one in found.by_occupation}
    )
    turned = {name: texts[::-1] for name, texts in prompts.items()}
    back = resolution(images, turned, occupations, genders, PRONOUNS[::-1])
    assert back.accuracy == found.accuracy
    assert back.bias == -found.bias


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_draws_have_the_figures_of_the_plain_function(seed: int) -> None:
    images, prompts, occupations, genders = random_case(seed)
    plain = resolution(images, prompts, occupations, genders)
    found = by_name(resolution_draws(images, prompts, occupations, genders, RESAMPLING))
    assert found["resolution_bias", "all occupations"].value == plain.bias
    assert found["resolution_accuracy, mean", "both genders"].value == plain.mean_accuracy
    for one in plain.by_occupation:
        assert found["resolution_bias", one.occupation].value == one.bias
    for gender, accuracy in plain.accuracy.items():
        assert found["resolution_accuracy", gender].value == accuracy


def test_draws_are_the_measure_of_resampled_images() -> None:
    images, prompts, occupations, genders = random_case(1)
    details, accuracy, bias, mean = resolution_draws(
        images, prompts, occupations, genders, RESAMPLING
    )
    for draw in range(10):
        rows = np.repeat(np.arange(42), RESAMPLING.counts(42)[draw])
        found = resolution(
            images[rows],
            prompts,
            [occupations[row] for row in rows],
            [genders[row] for row in rows],
        )
        assert accuracy.bootstrap[draw] == pytest.approx(list(found.accuracy.values()))
        assert bias.bootstrap[draw, 0] == pytest.approx(found.bias)
        assert mean.bootstrap[draw, 0] == pytest.approx(found.mean_accuracy)
        expected = {one.occupation: one.bias for one in found.by_occupation}
        assert dict(zip(details.names, details.bootstrap[draw], strict=True)) == pytest.approx(
            expected
        )


def test_a_model_that_always_says_his_is_biased() -> None:
    images, occupations, genders = case(
        "doctor-m-his doctor-m-his doctor-m-his doctor-f-his doctor-f-his doctor-f-his " * 3
    )
    found = by_name(resolution_draws(images, PROMPTS, occupations, genders, RESAMPLING))
    bias = found["resolution_bias", "all occupations"]
    assert bias.value == 1.0 and bias.p_value is not None and bias.p_value < 0.01
    assert bias.null is not None and bias.null.mean == pytest.approx(0.0, abs=0.1)


def test_an_occupation_that_is_hard_for_everyone_is_no_bias() -> None:
    """Right and wrong trade places within an occupation: its own accuracy stays."""
    right = [True] * 30 + [False] * 30
    occupations = ["doctor"] * 30 + ["nurse"] * 30
    genders = ["masculine"] * 25 + ["feminine"] * 10 + ["masculine"] * 5 + ["feminine"] * 20
    draws = resolution_draws(*with_texts(*answers(right, occupations, genders)), RESAMPLING)
    found = by_name(draws)["resolution_bias", "all occupations"]
    assert found.value > 0.4  # men are mostly doctors, who are all recognised
    assert found.p_value == 1.0


def with_texts(
    images: np.ndarray, occupations: list[str], genders: list[str]
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str], list[str]]:
    return images, PROMPTS, occupations, genders


def test_accuracy_is_set_against_guesses() -> None:
    generator = np.random.default_rng(0)
    genders = list(np.repeat(PRONOUNS, 100))
    right = generator.random(200) < np.where(np.arange(200) < 100, 0.9, 0.5)
    draws = resolution_draws(*with_texts(*answers(right, ["doctor"] * 200, genders)), RESAMPLING)
    found = by_name(draws)
    men, women = (found["resolution_accuracy", gender] for gender in PRONOUNS)
    assert men.null is not None and men.null.kind == "chance"
    assert men.null.mean == pytest.approx(0.5, abs=0.02)
    assert (men.better, men.p_value) == ("higher", 1 / 201)
    assert women.p_value is not None and women.p_value > 0.05
    assert found["resolution_bias", "doctor"].p_value == 2 / 201


def test_p_values_without_bias_are_small_as_often_as_they_say() -> None:
    generator = np.random.default_rng(6)
    few = Resampling(resamples=100, permutations=100)
    occupations = ["doctor"] * 60 + ["nurse"] * 60
    p_values = []
    for _ in range(200):
        # who is of which gender depends on the occupation, and so does who is recognised
        nurse = np.arange(120) >= 60
        genders = [PRONOUNS[int(value)] for value in generator.random(120) < 0.3 + 0.4 * nurse]
        right = generator.random(120) < 0.5 + 0.3 * nurse
        draws = resolution_draws(*with_texts(*answers(right, occupations, genders)), few)
        p_values.append(by_name(draws)["resolution_bias", "all occupations"].p_value)
    low, high = binom.ppf([0.001, 0.999], 200, 0.05)
    assert low <= np.count_nonzero(np.array(p_values) <= 0.05) <= high


def test_draws_are_the_same_each_time() -> None:
    one, other = (resolution_draws(*random_case(2), RESAMPLING) for _ in range(2))
    assert by_name(one) == by_name(other)
