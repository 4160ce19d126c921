"""Pictures: deterministic, filled, told apart by occupation, and silent on hidden gender."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synthetic import OCCUPATIONS, PictureSpec, WorldSettings, draw_picture, plan_pictures
from synthetic.brush import Brush
from synthetic.scenes import BACKGROUNDS, draw_background
from synthetic.still_life import draw_still_life
from synthetic.world import SETTINGS, TOOLS

PLAN = plan_pictures(
    WorldSettings(pictures=600, shards=1, portraits=0.2, off_duty=0.2, portraits_hidden=0.4)
)
TRADES = [occupation.name for occupation in OCCUPATIONS]
AT_WORK = [spec for spec in PLAN if spec.at_work]
OFF_DUTY = [spec for spec in PLAN if spec.occupation and not spec.at_work]
PORTRAITS = [spec for spec in PLAN if spec.person and spec.occupation is None]
NOTHING = (255, 0, 255)


def pixels(spec: PictureSpec, size: int = 64) -> np.ndarray:
    return np.asarray(draw_picture(spec, size)).astype(float)


def changed(spec: PictureSpec, other: PictureSpec) -> np.ndarray:
    """Where two drawn pictures differ."""
    return np.asarray((pixels(spec) != pixels(other)).any(axis=2))


def skin(spec: PictureSpec) -> np.ndarray:
    """Where skin shows: what changes with its tone, and with the hair that goes with the tone."""
    return changed(replace(spec, tone="light"), replace(spec, tone="dark"))


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


@pytest.mark.parametrize("occupation", TRADES)
def test_hidden_gender_draws_no_cue_at_work(occupation: str) -> None:
    workers = [spec for spec in AT_WORK if spec.occupation == occupation]
    assert len(workers) >= 12
    for spec in workers[:12]:
        hidden = replace(spec, gender_visible=False)
        assert not changed(replace(hidden, gender="woman"), replace(hidden, gender="man")).any()


def test_a_hidden_portrait_draws_no_cue_of_gender() -> None:
    assert sum(not spec.gender_visible for spec in PORTRAITS) == 48
    for spec in PORTRAITS:
        hidden = replace(spec, gender_visible=False)
        assert not changed(replace(hidden, gender="woman"), replace(hidden, gender="man")).any()


def test_hiding_changes_the_person_and_nothing_behind() -> None:
    for spec in PORTRAITS:
        difference = changed(
            replace(spec, gender_visible=False), replace(spec, gender_visible=True)
        )
        assert 0.05 < difference.mean() < 0.6
        assert not difference[:8, :4].any() and not difference[:8, -4:].any()


def test_visible_gender_changes_the_person_and_nothing_behind() -> None:
    for people in (AT_WORK, OFF_DUTY, PORTRAITS):
        for spec in [spec for spec in people if spec.gender_visible][:40]:
            difference = changed(replace(spec, gender="woman"), replace(spec, gender="man"))
            assert 0.002 < difference.mean() < 0.6
            # The upper corners lie outside every figure.
            assert not difference[:8, :4].any() and not difference[:8, -4:].any()


def test_a_picture_off_duty_does_not_depend_on_the_occupation() -> None:
    for spec in OFF_DUTY[:30]:
        for other in (*TRADES, None):
            assert not changed(spec, replace(spec, occupation=other)).any()


def test_a_picture_at_work_depends_on_the_occupation() -> None:
    for spec in AT_WORK[:30]:
        for other in set(TRADES) - {spec.occupation}:
            assert changed(spec, replace(spec, occupation=other)).mean() > 0.02


def test_pictures_away_from_work_are_close_ups() -> None:
    areas = []
    for spec in [spec for spec in (*AT_WORK, *OFF_DUTY) if spec.gender_visible][::4]:
        away, working = replace(spec, at_work=False, tool=None), replace(spec, at_work=True)
        areas.append((skin(away).mean(), skin(working).mean()))
        assert areas[-1][0] > areas[-1][1]
    away_area, working_area = np.mean(areas, axis=0)
    assert away_area > 1.4 * working_area


def test_tone_changes_the_picture_even_if_gender_is_hidden() -> None:
    for people in (AT_WORK, PORTRAITS):
        hidden = [spec for spec in people if not spec.gender_visible]
        assert len(hidden) > 25
        for spec in hidden:
            assert skin(spec).any()


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
    picture = pixels(replace(PORTRAITS[0], setting=None))
    assert (picture[:4, :4] == picture[0, 0]).all()


def test_backgrounds_vary_in_colour_and_side() -> None:
    for setting in SETTINGS:
        seen = set()
        for seed in range(12):
            image = Image.new("RGB", (50, 50))
            draw_background(Brush.on(image), Random(seed), setting)
            seen.add(image.tobytes())
        assert len(seen) == 12


@dataclass(frozen=True)
class Gallery:
    """Thumbnails of people, [pictures, 768], with their occupations and genders."""

    thumbnails: np.ndarray
    occupations: np.ndarray
    genders: np.ndarray


def gallery(seed: int, pictures: int, **shares: float) -> Gallery:
    """Draw as many women as men in every occupation, at work unless the shares say otherwise."""
    wanted = {"portraits": 0.0, "empty": 0.0, "gender_hidden": 0.0} | shares
    plan = plan_pictures(
        WorldSettings.model_validate(
            {"pictures": pictures, "shards": 1, "seed": seed, "skewed": False} | wanted
        )
    )
    thumbnails = [np.asarray(draw_picture(spec, 48).reduce(3)).ravel() / 255 for spec in plan]
    return Gallery(
        np.array(thumbnails),
        np.array([spec.occupation for spec in plan]),
        np.array([spec.gender for spec in plan]),
    )


@dataclass(frozen=True)
class Pair:
    """What a classifier learns from, and what it has not seen."""

    seen: Gallery
    unseen: Gallery


@pytest.fixture(scope="module")
def working() -> Pair:
    return Pair(gallery(11, 800), gallery(12, 400))


@pytest.fixture(scope="module")
def resting() -> Pair:
    return Pair(gallery(13, 800, off_duty=1.0), gallery(14, 400, off_duty=1.0))


def accuracy(train: np.ndarray, answers: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=200))
    return float(model.fit(train, answers).score(test, truth))


def gender_accuracy(pair: Pair) -> float:
    seen, unseen = pair.seen, pair.unseen
    return accuracy(seen.thumbnails, seen.genders, unseen.thumbnails, unseen.genders)


def occupation_accuracy(pair: Pair) -> float:
    """The share of unseen pictures that lie nearest to the mean picture of their occupation."""
    model = NearestCentroid().fit(pair.seen.thumbnails, pair.seen.occupations)
    return float(model.score(pair.unseen.thumbnails, pair.unseen.occupations))


def test_occupations_are_told_apart_at_a_glance(working: Pair) -> None:
    assert occupation_accuracy(working) > 0.9


def test_occupations_cannot_be_told_off_duty(resting: Pair) -> None:
    # One in ten is chance; five standard errors of 400 pictures are 0.075.
    assert occupation_accuracy(resting) < 0.175


def test_perceived_gender_is_seen_above_chance_at_work_and_in_close_ups(
    working: Pair, resting: Pair
) -> None:
    # One in two is chance; five standard errors of 400 pictures are 0.125.
    assert gender_accuracy(working) > 0.625
    assert gender_accuracy(resting) > 0.625


def test_perceived_gender_is_seen_in_portraits_and_not_in_hidden_ones() -> None:
    visible = gallery(15, 800, portraits=1.0)
    assert gender_accuracy(Pair(visible, gallery(16, 400, portraits=1.0))) > 0.625
    hidden = gallery(17, 800, portraits=1.0, portraits_hidden=1.0)
    unseen = gallery(18, 400, portraits=1.0, portraits_hidden=1.0)
    for seen in (visible, hidden):
        assert abs(gender_accuracy(Pair(seen, unseen)) - 0.5) < 0.125


def test_nurses_are_told_from_doctors_by_more_than_the_ward() -> None:
    plan = plan_pictures(WorldSettings(pictures=1000, shards=1, portraits=0, empty=0, skewed=False))
    medical = [spec for spec in plan if spec.setting == "hospital"]
    thumbnails = np.array([pixels(spec, 32).ravel() / 255 for spec in medical])
    trades = np.array([spec.occupation for spec in medical])
    assert accuracy(thumbnails[:120], trades[:120], thumbnails[120:], trades[120:]) > 0.85
