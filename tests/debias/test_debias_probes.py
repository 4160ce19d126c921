"""Linear probes: scikit-learn's predictions as zero-shot ones, and a planted correlation."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from debias import LinearProbe, Method, load_method
from evaluation.quality import worst_group, zero_shot
from m4.errors import InputError, UndefinedError

D = 10


@dataclass(frozen=True, eq=False)
class World:
    """Images (n, D) with a class and an attribute each, and t texts of each class, mixed."""

    images: np.ndarray
    labels: np.ndarray
    attributes: np.ndarray
    texts: np.ndarray
    text_labels: np.ndarray

    def fitted(self, **parameters: object) -> LinearProbe:
        probe = LinearProbe(**parameters)
        return probe.fit(
            images=self.images,
            labels=self.labels,
            texts=self.texts,
            text_labels=self.text_labels,
            attributes=self.attributes if probe.reweighted else None,
        )


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def world(seed: int, classes: int = 2, templates: int = 1, n: int = 120) -> World:
    """Classes and attributes, independent of each other, shift the images."""
    random = np.random.default_rng(seed)
    labels, attributes = np.arange(n) % classes, np.arange(n) // classes % 2
    images = random.normal(size=(n, D)) + random.normal(size=(classes, D))[labels]
    images += random.normal(size=(2, D))[attributes]
    text_labels = random.permutation(np.repeat(np.arange(classes), templates))
    texts = random.normal(size=(classes * templates, D))
    return World(images, labels, attributes, texts, text_labels)


def birds(seed: int, n: int, together: float) -> World:
    """Two classes; an attribute that goes with them in so many images, and is seen more easily."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    attributes = np.where(random.random(n) < together, labels, 1 - labels)
    images = 0.5 * random.normal(size=(n, D))
    images[:, 0] += 2
    images[:, 1] += 0.7 * (2 * labels - 1)
    images[:, 2] += 1.4 * (2 * attributes - 1)
    return World(images, labels, attributes, random.normal(size=(2, D)), np.arange(2))


def gap(probe: LinearProbe, seen: World) -> float:
    """Average less worst accuracy, by the measure of zero-shot classification."""
    return worst_group(
        probe.transform_images(seen.images),
        probe.transform_texts(seen.texts),
        np.eye(2, dtype=bool)[seen.labels],
        ("landbird", "waterbird"),
        np.eye(2)[seen.attributes],
        ("land", "water"),
    ).gap


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 5), templates=st.integers(1, 3))
@pytest.mark.parametrize("reweighted", [False, True])
def test_zero_shot_by_the_class_prompts_is_the_probe(reweighted, seed, classes, templates):
    seen = world(seed, classes, templates)
    probe = seen.fitted(reweighted=reweighted)
    rows = np.random.default_rng([seed, 1]).normal(size=(200, D))
    predicted = probe.predict(rows)
    images, texts = probe.transform_images(rows), probe.transform_texts(seen.texts)
    np.testing.assert_array_equal(seen.text_labels[np.argmax(images @ texts.T, axis=1)], predicted)
    means = np.stack([texts[seen.text_labels == each].mean(axis=0) for each in range(classes)])
    np.testing.assert_array_equal(np.argmax(images @ unit(means).T, axis=1), predicted)
    shown = np.eye(classes, dtype=bool)[predicted]
    assert zero_shot(images, means, shown, [str(each) for each in range(classes)]).top1 == 1
    # what is added to the logits of all classes is the same, so cosines differ as logits do
    logits = unit(rows) @ probe.weights_.T + probe.intercepts_
    squares = (probe.weights_**2).sum(axis=1) + probe.intercepts_**2
    expected = logits / np.sqrt(2 * squares.max())
    np.testing.assert_allclose(images @ texts.T, expected[:, seen.text_labels], atol=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("reweighted", [False, True])
@pytest.mark.parametrize("inverse_strength", [0.1, 30.0])
def test_predictions_and_probabilities_are_those_of_scikit_learn(
    classes, reweighted, inverse_strength
):
    seen = world(classes, classes)
    seen.attributes[:60] = 0
    probe = seen.fitted(reweighted=reweighted, inverse_strength=inverse_strength)
    cells = list(zip(seen.labels, seen.attributes, strict=True))
    weights = np.array([1 / cells.count(cell) for cell in cells]) if reweighted else np.ones(120)
    model = LogisticRegression(C=inverse_strength, tol=1e-6)
    model.fit(unit(seen.images), seen.labels, sample_weight=weights * 120 / weights.sum())
    rows = np.random.default_rng(1).normal(size=(500, D))
    np.testing.assert_array_equal(probe.predict(rows), model.predict(unit(rows)))
    logits = unit(rows) @ probe.weights_.T + probe.intercepts_
    np.testing.assert_allclose(softmax(logits, axis=1), model.predict_proba(unit(rows)), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reweighted", [False, True])
@pytest.mark.parametrize("inverse_strength", [1.0, 100.0])
def test_the_gradient_of_the_printed_loss_is_0(seed, reweighted, inverse_strength):
    seen = world(seed, 3)
    seen.attributes[: 20 * (seed + 1)] = 0
    probe = seen.fitted(reweighted=reweighted, inverse_strength=inverse_strength)
    rows, cells = unit(seen.images), 2 * seen.labels + seen.attributes
    weights = 120 / 6 / np.bincount(cells)[cells] if reweighted else np.ones(120)
    wrong = softmax(rows @ probe.weights_.T + probe.intercepts_, axis=1) - np.eye(3)[seen.labels]
    wrong *= weights[:, None]
    of_weights = inverse_strength * wrong.T @ rows + probe.weights_
    assert np.abs(of_weights).max() < 1e-5 * 120 * inverse_strength
    assert np.abs(wrong.sum(axis=0)).max() < 1e-5 * 120
    twice = inverse_strength * wrong.T @ rows + 2 * probe.weights_
    assert np.abs(twice).max() > 10 * np.abs(of_weights).max()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("reweighted", [False, True])
@pytest.mark.parametrize("inverse_strength", [0.3, 20.0])
def test_another_optimiser_of_the_printed_loss_ends_where_the_probe_is(
    classes, reweighted, inverse_strength
):
    seen = world(classes, classes)
    seen.attributes[:60] = 0
    probe = seen.fitted(reweighted=reweighted, inverse_strength=inverse_strength)
    rows, everyone = unit(seen.images), np.arange(120)
    cells = 2 * seen.labels + seen.attributes
    weights = 120 / (2 * classes) / np.bincount(cells)[cells] if reweighted else np.ones(120)

    def vectors(flat: np.ndarray) -> np.ndarray:
        """(c, D + 1); two classes have one vector, half of which is added and half taken away."""
        return np.outer([-0.5, 0.5], flat) if classes == 2 else flat.reshape(classes, D + 1)

    def loss(flat: np.ndarray) -> float:
        found = vectors(flat)
        logits = rows @ found[:, :D].T + found[:, D]
        own = log_softmax(logits, axis=1)[everyone, seen.labels]
        penalised = flat.reshape(-1, D + 1)[:, :D]
        return float(-inverse_strength * weights @ own + np.sum(penalised**2) / 2)

    start = np.zeros((1 if classes == 2 else classes) * (D + 1))
    found = minimize(loss, start, method="BFGS", jac="3-point", options={"gtol": 1e-5}).x
    np.testing.assert_allclose(probe.weights_, vectors(found)[:, :D], atol=2e-3)
    apart = np.diff(vectors(found)[:, D])  # a number added to all intercepts changes nothing
    np.testing.assert_allclose(np.diff(probe.intercepts_), apart, atol=2e-3)
    assert np.abs(probe.weights_).max() > 0.1

    ours = np.column_stack([probe.weights_, probe.intercepts_])
    flat = ours[1] - ours[0] if classes == 2 else ours.ravel()
    slope = approx_fprime(flat, loss, 1e-6)
    assert np.abs(slope).max() < 2e-5 * 120 * inverse_strength
    assert np.abs(slope).max() < 0.02 * np.abs(flat).max()


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_correlation_shows_and_reweighting_removes_it(seed):
    seen, unseen = birds(seed, 2000, 0.95), birds(seed + 100, 4000, 0.5)
    unseen = replace(unseen, texts=seen.texts)
    plain, reweighted = (gap(seen.fitted(reweighted=each), unseen) for each in (False, True))
    assert plain > 0.2
    assert reweighted < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_reweighting_is_fitting_on_copies_that_make_the_cells_equal(seed):
    cells = np.repeat([0, 1, 2, 3], [60, 10, 20, 30])
    seen = replace(world(seed), labels=cells // 2, attributes=cells % 2)
    again = np.repeat(np.arange(120), np.repeat([1, 6, 3, 2], [60, 10, 20, 30]))
    copied = replace(seen, images=seen.images[again], labels=seen.labels[again])
    # 240 copies for 120 images: half the strength of the loss is the same loss
    expected = copied.fitted(inverse_strength=5.0)
    found = seen.fitted(reweighted=True, inverse_strength=10.0)
    np.testing.assert_allclose(found.weights_, expected.weights_, atol=1e-4)
    np.testing.assert_allclose(found.intercepts_, expected.intercepts_, atol=1e-4)
    assert np.abs(found.weights_ - seen.fitted(inverse_strength=10.0).weights_).max() > 0.1


def test_texts_of_one_class_become_the_same_row():
    seen = world(0, 3, templates=4)
    moved = seen.fitted().transform_texts(seen.texts)
    for each in range(3):
        assert len(np.unique(moved[seen.text_labels == each], axis=0)) == 1
    assert len(np.unique(moved, axis=0)) == 3
    alone = replace(seen, texts=seen.texts[:3], text_labels=np.array([2, 0, 1]))
    np.testing.assert_array_equal(alone.fitted().weights_, seen.fitted().weights_)


def test_without_text_labels_text_i_is_of_class_i():
    seen = world(3, 3)
    probe = LinearProbe().fit(images=seen.images, labels=seen.labels.tolist(), texts=seen.texts)
    scores = probe.transform_images(seen.images) @ probe.transform_texts(seen.texts).T
    np.testing.assert_array_equal(np.argmax(scores, axis=1), probe.predict(seen.images))
    assert np.mean(probe.predict(seen.images) == seen.labels) > 0.5


def test_a_text_that_it_was_not_fitted_with_is_refused():
    seen = world(0, 2)
    probe = seen.fitted()
    doctor = np.random.default_rng(9).normal(size=(1, D))
    texts = np.concatenate([seen.texts, doctor])
    with pytest.raises(
        UndefinedError, match=r"^texts: row 2 \('a doctor'\) is none of the 2 class"
    ):
        probe.transform_texts(texts, ["a landbird", "a waterbird", "a doctor"])
    with pytest.raises(UndefinedError, match=r"^texts: row 0 is none of the 2 class prompts that"):
        probe.transform_texts(-seen.texts)
    with pytest.raises(InputError, match="1 names for 3 rows"):
        probe.transform_texts(texts, ["a landbird"])
    with pytest.raises(InputError, match=f"fitted on {D}"):
        probe.transform_texts(texts[:, 1:])
    near = unit(seen.texts) + 0.05 * unit(np.roll(doctor, 3))
    with pytest.raises(UndefinedError, match="row 0 is none of the"):
        probe.transform_texts(near)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_a_rounded_text_is_still_known_and_keeps_its_type(dtype, scale):
    seen = world(5, 4)
    given = torch.from_numpy(scale * seen.texts).to(dtype)
    moved = seen.fitted().transform_texts(given)
    assert moved.dtype == dtype
    expected = torch.from_numpy(seen.fitted().transform_texts(seen.texts)).to(dtype)
    assert torch.equal(moved, expected)
    rounded = replace(seen, texts=given.double().numpy()).fitted()
    np.testing.assert_array_equal(
        rounded.transform_texts(seen.texts), seen.fitted().transform_texts(seen.texts)
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_formulas_say_the_same_of_tensors_as_of_arrays(classes):
    seen = world(0, classes, templates=2)
    probe = seen.fitted()
    tensors = {name: torch.from_numpy(getattr(probe, name)) for name in LinearProbe.LEARNED}
    twin: Method = probe.with_arrays(tensors)
    for side, rows in (("images", seen.images), ("texts", seen.texts)):
        found = getattr(twin, f"_{side}")(torch.from_numpy(unit(rows)))
        np.testing.assert_allclose(
            found.numpy(), getattr(probe, f"_{side}")(unit(rows)), atol=1e-12
        )
    unknown = torch.ones(2, D, dtype=torch.float64) / D**0.5
    assert not twin._texts(unknown).any()


def test_images_come_out_with_two_more_numbers_and_need_not_be_of_unit_length():
    seen = world(0, 3)
    probe = seen.fitted()
    moved = probe.transform_images(5 * seen.images)
    np.testing.assert_allclose(moved[:, :D], unit(seen.images) / np.sqrt(2))
    np.testing.assert_allclose(moved[:, D:], [[np.sqrt(0.5), 0]] * 120)
    np.testing.assert_array_equal(probe.predict(5 * seen.images), probe.predict(seen.images))
    scaled = replace(seen, images=seen.images * np.arange(1, 121)[:, None]).fitted()
    np.testing.assert_allclose(scaled.weights_, probe.weights_, atol=1e-4)
    assert probe.image_matrix is None and probe.text_matrix is None


def test_attributes_may_be_words():
    seen = world(0, 2)
    words = np.array(["land", "water"])[seen.attributes].tolist()
    named = replace(seen, attributes=words).fitted(reweighted=True)
    np.testing.assert_array_equal(named.weights_, seen.fitted(reweighted=True).weights_)


def test_what_does_not_fit_together_is_refused():
    seen = world(0, 2, templates=2)
    given = {
        "images": seen.images,
        "labels": seen.labels,
        "texts": seen.texts,
        "text_labels": seen.text_labels,
        "attributes": seen.attributes,
    }
    one_cell_empty = np.where(seen.labels == 1, 0, seen.attributes)
    same = np.concatenate([seen.texts[:3], seen.texts[:1]])
    for changed, message in (
        ({"attributes": None}, "reweighted is True, but attributes are missing"),
        ({"attributes": seen.attributes[1:]}, "attributes: 119 labels for 120 images"),
        ({"attributes": one_cell_empty}, "attributes: no image of class 1 has 1, so"),
        ({"attributes": np.zeros(120)}, "attributes: all are 0.0; give"),
        ({"attributes": [None, *seen.attributes[1:]]}, "attributes: row 0 has no label"),
        ({"images": np.ones((120, D))}, "images: the probe cannot tell one class from another"),
        ({"labels": seen.labels[1:]}, r"labels: shape \(119,\) for 120 embeddings"),
        ({"labels": seen.labels * 0.5}, "labels are float64"),
        ({"labels": seen.labels + 1}, "labels: classes 1, 2, but the texts are of 2"),
        ({"labels": np.zeros(120, int)}, "labels: classes 0, but the texts are of 2"),
        ({"text_labels": None}, "labels: classes 0, 1, but the texts are of 4"),
        ({"text_labels": [0, 1]}, r"text_labels: shape \(2,\) for 4 embeddings"),
        ({"text_labels": [0, 0, 2, 2]}, "text_labels: classes 0, 2, but the texts are of 3"),
        ({"text_labels": [0, 0, 0, 0]}, "text_labels: classes 0, .* from 0 to 1"),
        ({"text_labels": [-1, 0, 0, 1]}, "text_labels: classes -1, 0, 1, but the texts are of 2"),
        ({"texts": seen.texts[:, 1:]}, "texts have 9 numbers, images 10"),
        ({"texts": same, "text_labels": [0, 0, 1, 1]}, "texts: rows 0 and 3 are the same"),
    ):
        with pytest.raises(InputError, match=message):
            LinearProbe(reweighted=True).fit(**{**given, **changed})
    with pytest.raises(InputError, match="reweighted is False, but attributes are given"):
        LinearProbe().fit(**given)
    LinearProbe(reweighted=True).fit(**{**given, "texts": same, "text_labels": [0, 1, 1, 0]})


def test_not_converging_is_refused():
    with pytest.raises(InputError, match="max_iter is 2: the probe has not converged"):
        world(0, 3).fitted(max_iter=2)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"inverse_strength": 0.0}, "inverse_strength is 0.0"),
        ({"inverse_strength": float("inf")}, "inverse_strength is inf"),
        ({"max_iter": 0}, "max_iter is 0; give at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        LinearProbe(**parameters)


def test_it_is_saved_and_loaded(tmp_path: Path):
    seen = world(0, 4, templates=2)
    probe = seen.fitted(reweighted=True, inverse_strength=3.0, space="ViT-B-32/openai")
    probe.save(tmp_path)
    loaded = load_method(tmp_path, kind=LinearProbe, dimension=D, space="ViT-B-32/openai")
    assert loaded.get_params() == probe.get_params()
    np.testing.assert_array_equal(loaded.predict(seen.images), probe.predict(seen.images))
    np.testing.assert_array_equal(
        loaded.transform_texts(seen.texts), probe.transform_texts(seen.texts)
    )
