"""Pictures: deterministic, filled, told apart by occupation, and silent on hidden gender."""

import io
import time
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synthetic import OCCUPATIONS, PictureSpec, WorldSettings, draw_picture, plan_pictures
from synthetic.brush import Brush
from synthetic.scenes import BACKGROUNDS, draw_background
from synthetic.still_life import draw_still_life
from synthetic.world import SETTINGS, TOOLS

PLAN = plan_pictures(WorldSettings(pictures=600, shards=1))
NOTHING = (255, 0, 255)


def pixels(spec: PictureSpec, size: int = 64) -> np.ndarray:
    return np.asarray(draw_picture(spec, size)).astype(float)


@pytest.mark.parametrize("size", [1, 32, 50, 128, 224])
def test_a_picture_is_rgb_of_the_size_asked_for(size: int) -> None:
    picture = draw_picture(PLAN[0], size)
    assert (picture.mode, picture.size) == ("RGB", (size, size))


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="size 0 is below 1"):
        draw_picture(PLAN[0], 0)


def test_a_picture_never_changes() -> None:
    for spec in PLAN[:40]:
        assert draw_picture(spec, 64).tobytes() == draw_picture(spec, 64).tobytes()


def test_pictures_differ() -> None:
    assert len({draw_picture(spec, 64).tobytes() for spec in PLAN}) == len(PLAN)


def test_a_picture_does_not_depend_on_its_caption_or_index() -> None:
    spec = replace(PLAN[0], caption="something else", index=5, key="000000005")
    assert draw_picture(spec, 64).tobytes() == draw_picture(PLAN[0], 64).tobytes()


@pytest.mark.parametrize("occupation", [occupation.name for occupation in OCCUPATIONS])
def test_hidden_gender_draws_no_cue(occupation: str) -> None:
    workers = [spec for spec in PLAN if spec.occupation == occupation]
    for spec in workers[:12]:
        hidden = replace(spec, gender_visible=False)
        as_woman = draw_picture(replace(hidden, gender="woman"), 64)
        as_man = draw_picture(replace(hidden, gender="man"), 64)
        assert as_woman.tobytes() == as_man.tobytes()


def test_visible_gender_changes_the_person_and_nothing_behind() -> None:
    for spec in [spec for spec in PLAN if spec.gender_visible][:40]:
        women = pixels(replace(spec, gender="woman"))
        men = pixels(replace(spec, gender="man"))
        changed = (women != men).any(axis=2)
        assert 0.002 < changed.mean() < 0.35
        # The upper corners lie outside every figure.
        assert not changed[:8, :4].any() and not changed[:8, -4:].any()


def test_tone_changes_the_picture_even_if_gender_is_hidden() -> None:
    for spec in [spec for spec in PLAN if spec.occupation and not spec.gender_visible]:
        light = draw_picture(replace(spec, tone="light"), 64)
        dark = draw_picture(replace(spec, tone="dark"), 64)
        assert light.tobytes() != dark.tobytes()


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_fills_the_whole_picture(setting: str) -> None:
    assert set(BACKGROUNDS) == set(SETTINGS)
    for seed in range(25):
        image = Image.new("RGB", (100, 100), NOTHING)
        draw_background(Brush.on(image), Random(seed), setting)
        assert not (np.asarray(image) == NOTHING).all(axis=2).any()


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_alone_fills_the_whole_picture(tool: str) -> None:
    for seed in range(10):
        image = Image.new("RGB", (100, 100), NOTHING)
        draw_still_life(Brush.on(image), Random(seed), tool)
        assert not (np.asarray(image) == NOTHING).all(axis=2).any()


def test_a_person_without_setting_stands_before_a_plain_wall() -> None:
    spec = next(spec for spec in PLAN if spec.person and spec.occupation is None)
    picture = pixels(replace(spec, setting=None))
    assert (picture[:4, :4] == picture[0, 0]).all()


def test_backgrounds_vary_in_colour_and_side() -> None:
    for setting in SETTINGS:
        seen = set()
        for seed in range(12):
            image = Image.new("RGB", (50, 50))
            draw_background(Brush.on(image), Random(seed), setting)
            seen.add(image.tobytes())
        assert len(seen) == 12


def even_world(seed: int, pictures: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thumbnails of 16 by 16 pixels of people at work, their occupations and genders."""
    plan = plan_pictures(
        WorldSettings(
            pictures=pictures,
            shards=1,
            seed=seed,
            skewed=False,
            portraits=0.0,
            empty=0.0,
            gender_hidden=0.0,
        )
    )
    thumbnails = [np.asarray(draw_picture(spec, 48).reduce(3)).ravel() / 255 for spec in plan]
    return (
        np.array(thumbnails),
        np.array([spec.occupation for spec in plan]),
        np.array([spec.gender for spec in plan]),
    )


@pytest.fixture(scope="module")
def train_and_test() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    return even_world(seed=11, pictures=1200), even_world(seed=12, pictures=400)


def accuracy(train: np.ndarray, answers: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=200))
    return float(model.fit(train, answers).score(test, truth))


def test_occupations_are_told_apart_at_a_glance(train_and_test) -> None:  # type: ignore[no-untyped-def]
    (seen, trades, _), (unseen, truth, _) = train_and_test
    centroids = {trade: seen[trades == trade].mean(axis=0) for trade in set(trades)}
    nearest = [
        min(centroids, key=lambda trade: float(((centroids[trade] - picture) ** 2).sum()))
        for picture in unseen
    ]
    assert np.mean(np.array(nearest) == truth) > 0.8


def test_perceived_gender_takes_a_closer_look(train_and_test) -> None:  # type: ignore[no-untyped-def]
    (seen, _, genders), (unseen, _, truth) = train_and_test
    assert 0.58 < accuracy(seen, genders, unseen, truth) < 0.9


def test_nurses_are_told_from_doctors_by_more_than_the_ward() -> None:
    plan = plan_pictures(WorldSettings(pictures=1000, shards=1, portraits=0, empty=0, skewed=False))
    medical = [spec for spec in plan if spec.setting == "hospital"]
    thumbnails = np.array([pixels(spec, 32).ravel() / 255 for spec in medical])
    trades = np.array([spec.occupation for spec in medical])
    assert accuracy(thumbnails[:120], trades[:120], thumbnails[120:], trades[120:]) > 0.85


def test_a_picture_takes_at_most_four_milliseconds_of_processor_time() -> None:
    sample = PLAN[:100]
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for spec in sample:
            draw_picture(spec, 128).save(io.BytesIO(), "JPEG", quality=88)
        rounds.append((time.process_time() - start) / len(sample))
    assert min(rounds) < 0.004
