"""FairerCLIP with several prompts of a class."""

import numpy as np
import pytest

from debias import FairerCLIP
from debias.fairer_clip import fourier
from m4.errors import InputError
from tests.debias.test_debias_fairer_clip import exclusive_or, fitted, several_prompts, unit


def test_one_prompt_of_each_class_is_what_is_taken_where_nothing_is_said():
    world = exclusive_or(1, n=200, classes=3)
    plain = fitted(world, world.labels)
    said = FairerCLIP(features=200).fit(
        images=world.images,
        attributes=world.attributes,
        texts=world.texts,
        labels=world.labels,
        text_labels=[0, 1, 2],
    )
    for name in FairerCLIP.LEARNED:
        np.testing.assert_array_equal(getattr(said, name), getattr(plain, name))


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_all_prompts_of_a_class_fall_to_its_side(classes: int, labelled: bool):
    """With one text a class, its map may send other wordings of it anywhere.

    Of two classes one dimension is left, and wordings on both sides would cancel in their mean.
    """
    for seed in range(3):
        world = exclusive_or(seed, n=600, classes=classes)
        texts, labels = several_prompts(world, 12, seed)
        method = FairerCLIP(features=200).fit(
            images=world.images,
            attributes=world.attributes,
            texts=texts,
            labels=world.labels if labelled else None,
            text_labels=labels,
        )
        moved = method.transform_texts(texts)
        centres = unit(np.stack([moved[labels == each].mean(axis=0) for each in range(classes)]))
        np.testing.assert_array_equal(np.argmax(moved @ centres.T, axis=1), labels)
        test = exclusive_or(seed, part=1, classes=classes)
        found = np.argmax(method.transform_images(test.images) @ centres.T, axis=1)
        assert test.worst_group(found) > test.worst_group(test.zero_shot(test.texts))


def test_prompts_stand_beside_images_of_their_class_in_turn():
    """Fitting on an image for each of its prompts is then fitting on them as they come."""
    world = exclusive_or(4, n=120)
    texts, labels = several_prompts(world, 3)
    method = FairerCLIP(features=60)
    method.fit(
        images=world.images,
        attributes=world.attributes,
        texts=texts,
        labels=world.labels,
        text_labels=labels,
    )
    rows = [np.flatnonzero(labels == each) for each in range(2)]
    beside = np.empty(len(world.images), dtype=int)
    for each in range(2):
        images = np.flatnonzero(world.labels == each)
        beside[images] = [rows[each][position % 3] for position in range(len(images))]
    features = fourier(unit(texts), method.text_frequencies_)[beside]
    np.testing.assert_allclose(method.text_centre_, features.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("text_labels", "says"),
    [
        ([0, 2], "text_labels go from 0 to 2, but 2 classes have texts"),
        ([1, 2], "text_labels go from 1 to 2"),
        ([0.0, 1.0], "text_labels: float64 of shape"),
        ([0, 1, 1], r"of shape \(3,\) for 2 texts"),
    ],
)
def test_classes_of_texts_that_do_not_fit_are_refused(text_labels: list, says: str):
    world = exclusive_or(0, n=60)
    with pytest.raises(InputError, match=says):
        FairerCLIP(features=20).fit(
            images=world.images,
            attributes=world.attributes,
            texts=world.texts,
            labels=world.labels,
            text_labels=text_labels,
        )
