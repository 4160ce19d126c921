"""The whole evaluation of a model that can be computed by hand."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.evaluate import Evaluation, evaluate
from evaluation.gallery_measures import EvaluateSettings, label_pairs
from m4.catalogue import Catalogue
from m4.errors import InputError

LABELS = ("nurse", "doctor", "librarian", "scientist")


@pytest.fixture
def town(scene: Any) -> Any:
    """Sixteen people at work, four who are not (16 to 19), and two trees."""
    for who, age, label in product(("woman", "man"), ("young", "old"), LABELS):
        scene.add(who, age, label)
    for who, age in product(("woman", "man"), ("young", "old")):
        scene.add(who, age)
    return scene.add("tree", times=2)


@pytest.fixture
def leaning(town: Any, words: Callable[..., np.ndarray]) -> np.ndarray:
    """A model that sees a little of a nurse in every woman, and of a doctor in every man."""
    images = town.images
    images[:8] += 0.3 * words("nurse")
    images[16:18] += 0.3 * words("nurse")
    images[8:16] += 0.3 * words("doctor")
    images[18:20] += 0.3 * words("doctor")
    return images


def test_a_fair_model(town: Any, encoder: Any, catalogue: Catalogue) -> None:
    found = evaluate(town.images, town.gallery(), encoder, catalogue)
    assert found.headline() == pytest.approx(
        {
            "representation_bias": 0.25,  # age: half are taken for young, the target is 0.75
            "association_bias_mean": 0.0,
            "association_bias_max": 0.0,
            "image_to_text_r1": 1.0,
            "image_to_text_r5": 1.0,
            "image_to_text_r10": 1.0,
            "text_to_image_r1": 1.0,
            "text_to_image_r5": 1.0,
            "text_to_image_r10": 1.0,
            "zero_shot_top1": 1.0,
            "mean_per_class_recall": 1.0,
            "worst_group_accuracy": 1.0,
            "worst_group_gap": 0.0,
        }
    )
    assert found.representation["gender"].largest == pytest.approx(0.0)
    assert found.representation["age"].bias == pytest.approx({"age.young": 0.25, "age.old": 0.25})
    assert (found.retrieval.images, found.retrieval.texts) == (22, 21)  # the trees share a caption
    assert (found.zero_shot.images, found.zero_shot.none) == (16, 6)
    assert found.left_out == ()
    assert found.catalogue_digest == catalogue.digest


def test_a_leaning_model(
    town: Any, leaning: np.ndarray, encoder: Any, catalogue: Catalogue
) -> None:
    found = evaluate(leaning, town.gallery(), encoder, catalogue)
    by_gender = {(pair.first, pair.second): pair for pair in found.association["gender"].pairs}
    nurse = by_gender["nurse", "doctor"]
    assert nurse.preference == {"gender.woman": 1.0, "gender.man": 0.0}
    assert by_gender["librarian", "scientist"].difference == 0.0
    assert found.association["age"].largest == 0.0
    assert found.association["gender"].counts == {"gender.woman": 2, "gender.man": 2}
    headline = found.headline()
    assert headline["association_bias_max"] == 1.0
    assert headline["association_bias_mean"] == 0.25
    assert headline["worst_group_gap"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("people", "women", "difference"),
    [("unlabelled", 2, 1.0), ("labelled", 8, 0.5), ("all", 10, 0.6)],
)
def test_whose_images_serve_for_association(
    town: Any,
    leaning: np.ndarray,
    encoder: Any,
    catalogue: Catalogue,
    people: Any,
    women: int,
    difference: float,
) -> None:
    # At work, women are taken for nurses in 6 of 8 images (all but the doctors), men in 2 of 8.
    settings = EvaluateSettings(people=people, pairs=(("nurse", "doctor"),))
    found = evaluate(leaning, town.gallery(), encoder, catalogue, settings).association["gender"]
    assert found.counts == {"gender.woman": women, "gender.man": women}
    assert found.largest == pytest.approx(difference)


def test_a_model_that_is_bad_for_one_group(
    town: Any, words: Callable[..., np.ndarray], encoder: Any, catalogue: Catalogue
) -> None:
    images = town.images
    images[[9, 13]] += 5 * words("nurse")  # the men who are doctors, one young and one old
    found = evaluate(images, town.gallery(), encoder, catalogue)
    cells = {(c.label, c.group): c for c in found.worst_group["gender"].cells}
    assert (cells["doctor", "gender.man"].accuracy, cells["doctor", "gender.man"].count) == (0.0, 2)
    assert found.worst_group["age"].worst == 0.5
    headline = found.headline()
    assert headline["worst_group_accuracy"] == 0.0
    assert headline["worst_group_gap"] == pytest.approx(14 / 16)
    assert headline["zero_shot_top1"] == pytest.approx(14 / 16)


def test_a_constant_model_shows_as_such(town: Any, catalogue: Catalogue) -> None:
    def constant(texts: Sequence[str]) -> np.ndarray:
        return np.full((len(texts), 3), 0.7)

    found = evaluate(np.full((22, 3), 0.1), town.gallery(), constant, catalogue)
    headline = found.headline()
    assert found.representation["gender"].preference == {"gender.woman": 0.5, "gender.man": 0.5}
    assert headline["association_bias_max"] == 0.0
    assert headline["image_to_text_r1"] == pytest.approx(1 / 21)
    assert headline["text_to_image_r10"] == pytest.approx(
        (20 * 10 / 22 + 1 - (12 * 11) / (22 * 21)) / 21  # the trees' text has two right images
    )
    assert headline["zero_shot_top1"] == pytest.approx(0.25)
    assert headline["mean_per_class_recall"] == pytest.approx(0.25)
    assert headline["worst_group_accuracy"] == pytest.approx(0.25)
    assert headline["worst_group_gap"] == pytest.approx(0.0)


def test_it_is_kept_as_json(
    town: Any, leaning: np.ndarray, encoder: Any, catalogue: Catalogue, tmp_path: Path
) -> None:
    found = evaluate(leaning, town.gallery(), encoder, catalogue)
    again = evaluate(leaning * 3.0, town.gallery(), encoder, catalogue)
    found.save(tmp_path / "one.json")
    again.save(tmp_path / "two.json")
    assert Evaluation.load(tmp_path / "one.json") == found
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]


def test_a_save_that_is_cut_off_leaves_the_old_file(
    town: Any, encoder: Any, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate(town.images, town.gallery(), encoder, catalogue)
    path = tmp_path / "evaluation.json"
    found.save(path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        found.model_copy(update={"catalogue": "other"}).save(path)
    assert Evaluation.load(path) == found
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '{"catalogue": 3}'])
def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"broken\.json: not an evaluation"):
        Evaluation.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: cannot be read"):
        Evaluation.load(tmp_path / "absent.json")


def test_default_pairs_are_those_the_catalogue_has(catalogue: Catalogue) -> None:
    assert label_pairs(catalogue, None) == (("librarian", "scientist"), ("nurse", "doctor"))
    fewer = {name: catalogue.labels[name] for name in ("doctor", "scientist")}
    without = catalogue.model_copy(update={"labels": fewer})
    with pytest.raises(InputError, match="of the labels doctor, scientist"):
        label_pairs(without, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pairs": (("nurse", "pilot"),)}, "'pilot' is no label; the labels are nurse, doctor"),
        ({"pairs": (("nurse", "machines"),)}, "'machines' is no label"),
        ({"pairs": (("nurse", "nurse"),)}, "paired with itself"),
        ({"zero_shot_labels": ("nurse", "machines")}, "'machines' is a proxy, not a label"),
        ({"zero_shot_labels": ("nurse", "pilot")}, "'pilot' is no label"),
        ({"zero_shot_labels": ("nurse",)}, "at least two"),
        ({"ks": (1, 21)}, "R@21 among 22 images and 21 distinct texts"),
    ],
)
def test_settings_that_do_not_fit(
    town: Any, encoder: Any, catalogue: Catalogue, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(
            town.images,
            town.gallery(),
            encoder,
            catalogue,
            EvaluateSettings.model_validate(settings),
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"label_templates": ()},
        {"value_templates": ("a picture",)},
        {"pairs": ()},
        {"ks": (1, 1)},
        {"people": "faces"},
        {"people_": "all"},
    ],
)
def test_settings_that_say_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EvaluateSettings.model_validate(settings)


def test_settings_choose_labels_and_ks(town: Any, encoder: Any, catalogue: Catalogue) -> None:
    settings = EvaluateSettings(zero_shot_labels=("scientist", "nurse"), ks=(2,))
    found = evaluate(town.images, town.gallery(), encoder, catalogue, settings)
    assert found.zero_shot.recall == {"scientist": 1.0, "nurse": 1.0}
    assert found.zero_shot.images == 8
    assert "text_to_image_r2" in found.headline()
    assert "text_to_image_r1" not in found.headline()
    assert found.settings == settings


def test_inputs_that_do_not_fit(town: Any, encoder: Any, catalogue: Catalogue) -> None:
    gallery, images = town.gallery(), town.images
    with pytest.raises(InputError, match="21 image embeddings for 22 images"):
        evaluate(images[:-1], gallery, encoder, catalogue)
    with pytest.raises(InputError, match="11 dimensions, image embeddings 10"):
        evaluate(images[:, :-1] + 1, gallery, encoder, catalogue)
    images[3] = np.nan
    with pytest.raises(InputError, match=rf"images: row 3 \('{gallery.uids[3]}'\) holds NaN"):
        evaluate(images, gallery, encoder, catalogue)
    other = catalogue.model_copy(update={"proxies": {}})
    with pytest.raises(InputError, match="proxies are machines, those of catalogue small are none"):
        evaluate(town.images, gallery, encoder, other)


def test_images_without_a_caption_take_no_part_in_retrieval(
    town: Any, encoder: Any, catalogue: Catalogue
) -> None:
    captions = [" ".join(words) for words in town.pictures]
    captions[0] = "  "
    found = evaluate(town.images, town.gallery(captions), encoder, catalogue)
    assert (found.retrieval.images, found.retrieval.texts) == (21, 20)
    assert found.gallery.without_caption == 1
    with pytest.raises(InputError, match="every caption of the gallery is blank"):
        evaluate(town.images, town.gallery([" "] * 22), encoder, catalogue)


def test_what_cannot_be_measured_is_said(scene: Any, encoder: Any, catalogue: Catalogue) -> None:
    scene.add("woman").add("man").add("woman", "young")
    for who, label in product(("woman", "man"), LABELS):
        scene.add(who, label)
    scene.add("tree")
    kinds = catalogue.sensitive["age"].model_copy(update={"exclusive": False})
    open_age = catalogue.model_copy(update={"sensitive": {**catalogue.sensitive, "age": kinds}})
    found = evaluate(scene.images, scene.gallery(), encoder, open_age)
    assert list(found.representation) == list(found.association) == ["gender"]
    assert list(found.worst_group) == ["gender"]
    assert found.left_out == (
        "representation bias of age: its values are separate questions, so no prompts compete",
        "association bias of age: only age.young has images of people (people: unlabelled)",
        "worst group of age: no person is shown with exactly one label",
    )


def test_where_nothing_remains_it_is_an_error(
    scene: Any, encoder: Any, catalogue: Catalogue
) -> None:
    for who, age, label in product(("woman", "man"), ("young", "old"), LABELS):
        scene.add(who, age, label)
    with pytest.raises(InputError, match=r"association bias of gender: no value has images.*age"):
        evaluate(scene.images, scene.gallery(), encoder, catalogue)
    found = evaluate(
        scene.images, scene.gallery(), encoder, catalogue, EvaluateSettings(people="labelled")
    )
    assert found.headline()["association_bias_max"] == 0.0


def test_the_public_face() -> None:
    script = (
        "import sys, evaluation\n"
        "heavy = {'torch', 'apache_beam', 'cvxpy', 'sklearn', 'fairlearn', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "for name in evaluation.__all__: getattr(evaluation, name)\n"
        "import evaluation.evaluate, evaluation.compare\n"
        "assert callable(evaluation.evaluate)\n"
        "assert not {'torch', 'apache_beam', 'pipelines', 'training'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
