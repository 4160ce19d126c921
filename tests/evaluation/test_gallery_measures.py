"""Headlines over several attributes: their figures, resamples and nulls are those of all."""

import numpy as np
import pytest

from evaluation.bias import association_bias_draws, representation_bias_draws
from evaluation.gallery_measures import (
    Asked,
    EvaluateSettings,
    measure_association,
    measure_by_group,
    measure_label_associations,
    measure_representation,
)
from evaluation.quality import worst_group_draws
from evaluation.resampling import Resampling
from vision.prompts import class_embedding, noun_phrase

FEW = Resampling(resamples=100, permutations=100)


@pytest.fixture
def asked(scene, encoder, catalogue) -> Asked:
    for gender, age, job, times in (
        ("woman", "young", "nurse", 9),
        ("woman", "old", "doctor", 5),
        ("man", "young", "doctor", 7),
        ("man", "old", "librarian", 6),
        ("man", "young", "nurse", 4),
    ):
        scene.add(gender, age, job, times=times)
    for pair in (("woman", "young"), ("woman", "old"), ("man", "young"), ("man", "old")):
        scene.add(*pair, times=5)
    scene.add("tree", times=3)
    random = np.random.default_rng(0)
    images = scene.images + 0.4 * random.normal(size=scene.images.shape)
    return Asked.of(images, scene.gallery(), encoder, catalogue, EvaluateSettings(resampling=FEW))


def test_the_largest_association_is_of_all_pairs_of_all_attributes(asked: Asked):
    part = measure_association(asked)
    each = [
        association_bias_draws(
            asked.images, asked.prompts, asked.prompted, asked.pairs, asked.members(name), FEW
        )[0]
        for name in ("gender", "age")
    ]
    for name, how in (("association_bias_mean", np.mean), ("association_bias_max", np.max)):
        found = part.headlines[name]
        for which in ("observed", "bootstrap", "null"):
            arrays = [np.atleast_2d(getattr(draws, which)) for draws in each]
            expected = how(np.concatenate(arrays, axis=1), axis=1)
            np.testing.assert_allclose(getattr(found, which).ravel(), expected)
        assert found.smallest_group == min(draws.smallest_group for draws in each)


def test_the_largest_representation_bias_is_of_all_values(asked: Asked):
    (found,) = measure_representation(asked).headlines.values()
    each = []
    for name, attribute in asked.catalogue.sensitive.items():
        phrases = [noun_phrase(value, mark) for value, mark in attribute.values.items()]
        prompts = class_embedding(phrases, asked.settings.value_templates, asked.encode_texts)
        targets = {f"{name}.{value}": mark.target for value, mark in attribute.values.items()}
        each.append(representation_bias_draws(asked.images, prompts, targets, FEW)[0])
    nulls = [draws.null for draws in each if draws.null is not None]
    assert found.null is not None
    np.testing.assert_allclose(found.null[:, 0], np.concatenate(nulls, axis=1).max(axis=1))


def test_the_worst_group_is_the_worst_of_all_attributes(asked: Asked):
    headlines = measure_by_group(asked).headlines
    shown = asked.gallery.shows(asked.labels)
    each = [
        worst_group_draws(
            asked.images, asked.label_prompts, shown, asked.labels,
            asked.gallery.groups(asked.gallery.values_of(name)),
            asked.gallery.values_of(name), FEW,
        )
        for name in ("gender", "age")
    ]  # fmt: skip
    worst = np.array([draws[0].observed[0] for draws in each])
    gaps = np.array([draws[1].observed[0] for draws in each])
    assert headlines["worst_group_accuracy"].observed == [worst.min()]
    assert headlines["worst_group_gap"].observed == [gaps.max()]
    assert headlines["worst_group_accuracy"].tail == "lower"


def test_an_attribute_of_which_one_value_is_everybody_is_no_error(scene, encoder, catalogue):
    """All people are young, half of them are women."""
    scene.add("woman", "young", times=6).add("man", "young", times=6)
    scene.add("woman", "nurse", times=3).add("man", "doctor", times=3)
    asked = Asked.of(
        scene.images, scene.gallery(), encoder, catalogue, EvaluateSettings(resampling=FEW)
    )
    found = measure_label_associations(asked)
    assert set(found) == {"gender.woman", "gender.man"}
    assert set(found["gender.woman"]) == set(asked.labels)
