"""The reconstruction of FairCLIP: its losses, its solvers, and planted biases."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from debias import FairCLIP, load_method
from debias.fair_clip import (
    by_gradient,
    closed_form,
    learned_prototypes,
    softmax_loss,
)
from m4.errors import InputError


@dataclass(frozen=True)
class Planted:
    """Images of two classes and of groups, along known orthogonal directions."""

    images: np.ndarray
    groups: np.ndarray
    classes: np.ndarray
    class_texts: np.ndarray


def planted(seed: int = 0, n: int = 300, d: int = 16, kinds: int = 2) -> Planted:
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.normal(size=(d, 2 + kinds)))[0].T
    groups, classes = np.arange(n) % kinds, random.permutation(np.arange(n) % 2)
    images = directions[classes] + 0.6 * directions[2 + groups] + 0.1 * random.normal(size=(n, d))
    names = np.array(["a", "b", "c", "d"])[groups]
    return Planted(images, names, classes, directions[:2])


def unit(seed: int, n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def loss(
    matrix: np.ndarray,
    rows: np.ndarray,
    prototypes: np.ndarray,
    targets: np.ndarray,
    alpha: float,
    beta: float,
) -> float:
    """The loss as it is written, pair by pair."""
    moved = rows @ matrix.T
    near = moved @ prototypes.T
    bias = sum(
        np.mean((near[:, j] - near[:, k]) ** 2) for k in range(len(prototypes)) for j in range(k)
    )
    kept = np.mean(np.sum((moved @ targets.T - rows @ targets.T) ** 2, axis=1))
    return float(bias + alpha * kept + beta * np.sum((matrix - np.eye(len(matrix))) ** 2))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    d=st.integers(5, 12),
    n=st.integers(2, 30),
    k=st.integers(2, 4),
    alpha=st.floats(0, 10),
    beta=st.floats(1e-4, 1),
)
def test_the_closed_form_is_stationary(seed, d, n, k, alpha, beta):
    rows, prototypes, targets = unit(seed, n, d), unit(seed + 1, k, d), unit(seed + 2, 3, d)
    matrix = closed_form(rows, prototypes, targets, alpha, beta)
    moments = rows.T @ rows / n
    pairs = [prototypes[j] - prototypes[i] for i in range(k) for j in range(i)]
    bias = sum(np.outer(each, each) for each in pairs)
    change = matrix - np.eye(d)
    terms = [bias @ matrix @ moments, alpha * targets.T @ targets @ change @ moments, beta * change]
    size = max(np.linalg.norm(each) for each in terms)
    assert np.linalg.norm(sum(terms)) < 1e-10 * size


def test_the_closed_form_is_stationary_and_least_for_the_loss_as_written():
    given_ = unit(0, 20, 5), unit(1, 3, 5), unit(2, 2, 5), 0.7, 0.05
    matrix = closed_form(*given_)
    least = loss(matrix, *given_)
    for seed in range(10):
        step = 1e-3 * np.random.default_rng(seed).normal(size=(5, 5))
        more, less = loss(matrix + step, *given_), loss(matrix - step, *given_)
        assert min(more, less) > least
        assert abs(more - less) < 1e-12  # a quadratic is even about its minimiser


@pytest.mark.parametrize("alpha", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("beta", [1e-4, 1e-2, 1.0])
def test_the_gradient_solver_finds_the_closed_form(alpha, beta):
    example = planted()
    rows = example.images / np.linalg.norm(example.images, axis=1, keepdims=True)
    given_ = rows, unit(1, 3, 16), unit(2, 2, 16), alpha, beta
    np.testing.assert_allclose(by_gradient(*given_), closed_form(*given_), rtol=0, atol=1e-6)


def test_both_solvers_of_the_method_agree_and_are_what_is_used():
    example = planted()
    given_ = {"images": example.images, "attributes": example.groups, "labels": example.classes}
    exact = FairCLIP().fit(**given_)
    found = FairCLIP(solver="gradient").fit(**given_)
    np.testing.assert_allclose(found.matrix_, exact.matrix_, rtol=0, atol=1e-6)
    assert not np.array_equal(found.matrix_, exact.matrix_)


def test_a_gradient_solver_that_cannot_be_exact_says_so():
    with pytest.raises(InputError, match="raise beta, or take the closed form"):
        by_gradient(unit(0, 50, 8), unit(1, 3, 8), unit(2, 2, 8), 1.0, 1e-14)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.integers(2, 4))
def test_with_beta_to_zero_and_no_targets_it_projects_the_differences_away(seed, k):
    rows, prototypes = unit(seed, 200, 8), unit(seed + 1, k, 8)
    differences = (prototypes[1:] - prototypes[0]).T
    wanted = np.eye(8) - differences @ np.linalg.pinv(differences)
    apart = [
        np.abs(closed_form(rows, prototypes, rows[:0], 0.0, beta) - wanted).max()
        for beta in (1e-2, 1e-6, 1e-10)
    ]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-5


def test_a_large_beta_leaves_the_images_as_they_are():
    example = planted()
    method = FairCLIP(alpha=0.0, beta=1e9).fit(images=example.images, attributes=example.groups)
    np.testing.assert_allclose(method.matrix_, np.eye(16), atol=1e-8)


@pytest.mark.parametrize("kinds", [2, 3])
def test_a_planted_bias_vanishes_while_target_similarities_stay(kinds):
    example = planted(kinds=kinds)
    method = FairCLIP(alpha=1.0, beta=1e-7).fit(
        images=example.images, attributes=example.groups, target_texts=example.class_texts
    )
    before = example.images / np.linalg.norm(example.images, axis=1, keepdims=True)
    after = before @ method.matrix_.T

    def gap(rows: np.ndarray) -> float:
        """The largest difference by group of how much nearer one prototype is than another."""
        nearer = (rows @ method.prototypes_.T) @ (np.eye(kinds) - 1 / kinds)
        means = [nearer[example.groups == each].mean(axis=0) for each in set(example.groups)]
        return float(np.ptp(means, axis=0).max())

    assert gap(before) > 0.3
    assert gap(after) < 1e-3
    assert gap(method.transform_images(example.images)) < 1e-3
    texts = method.transform_texts(example.class_texts)
    np.testing.assert_allclose(texts, example.class_texts, atol=1e-12)
    np.testing.assert_allclose(after @ texts.T, before @ texts.T, atol=1e-3)


def test_alpha_is_what_keeps_the_target_similarities():
    example = planted()
    # a target that leans on the bias, which a plain projection changes
    bias = example.images[example.groups == "a"].mean(0) - example.images[
        example.groups == "b"
    ].mean(0)
    texts = example.class_texts + 0.5 * bias
    rows = example.images / np.linalg.norm(example.images, axis=1, keepdims=True)
    changes = []
    for alpha in (1e-6, 1.0, 1e3):
        method = FairCLIP(alpha=alpha).fit(
            images=example.images, attributes=example.groups, target_texts=texts
        )
        changes.append(np.abs((rows @ method.matrix_.T - rows) @ texts.T).mean())
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < 0.05 * changes[0]


@pytest.mark.parametrize("kinds", [2, 3, 4])
@pytest.mark.parametrize("with_texts", [True, False])
def test_prototypes_are_of_unit_length_and_classify_the_attribute(kinds, with_texts):
    example = planted(kinds=kinds)
    method = FairCLIP(alpha=0.0).fit(
        images=example.images,
        attributes=example.groups,
        attribute_texts=unit(5, kinds, 16) if with_texts else None,
    )
    np.testing.assert_allclose(np.linalg.norm(method.prototypes_, axis=1), 1)
    nearest = np.array(["a", "b", "c", "d"])[np.argmax(example.images @ method.prototypes_.T, 1)]
    assert np.mean(nearest == example.groups) > 0.99


def test_prototypes_are_a_minimum_of_the_softmax_loss():
    rows, codes = unit(0, 60, 6), np.random.default_rng(1).integers(0, 3, size=60)
    start, temperature = unit(2, 3, 6), 0.5

    def value(flat: np.ndarray) -> float:
        free = flat.reshape(3, 6)
        scores = rows @ (free / np.linalg.norm(free, axis=1, keepdims=True)).T / temperature
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return float(-np.mean(np.log(shares[np.arange(60), codes])))

    found = learned_prototypes(rows, codes, start, temperature).ravel()
    assert value(found) < value(start.ravel()) - 0.01
    np.testing.assert_allclose(approx_fprime(found, value), 0, atol=1e-6)
    assert np.abs(approx_fprime(start.ravel(), value)).max() > 1e-3


def test_labels_make_target_prototypes_and_texts_alone_stay():
    example = planted()
    given_ = {"images": example.images, "attributes": example.groups}
    learned = FairCLIP().fit(**given_, target_texts=example.class_texts, labels=example.classes)
    as_given = FairCLIP().fit(**given_, target_texts=3 * example.class_texts)
    np.testing.assert_allclose(as_given.target_prototypes_, example.class_texts, atol=1e-12)
    assert np.abs(learned.target_prototypes_ - example.class_texts).max() > 1e-3
    nearest = np.argmax(example.images @ learned.target_prototypes_.T, axis=1)
    np.testing.assert_array_equal(nearest, example.classes)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    k=st.integers(2, 4),
    temperature=st.floats(0.02, 2),
    length=st.floats(0.1, 10),
)
def test_the_softmax_loss_is_as_written_and_has_the_gradient_of_its_differences(
    seed, k, temperature, length
):
    rows, codes = unit(seed, 20, 6), np.random.default_rng(seed).integers(0, k, size=20)
    prototypes, step = length * unit(seed + 1, k, 6), 1e-6 * length * unit(seed + 2, k, 6)
    value, slope = softmax_loss(rows, codes, prototypes, temperature)
    shares = np.exp(rows @ prototypes.T / length / temperature)
    own = shares[np.arange(20), codes] / shares.sum(axis=1)
    assert value == pytest.approx(-np.mean(np.log(own)), rel=1e-9, abs=1e-12)
    more, less = (
        softmax_loss(rows, codes, prototypes + sign * step, temperature)[0] for sign in (1, -1)
    )
    assert more - less == pytest.approx(2 * np.sum(slope * step), rel=1e-3, abs=1e-9)
    # lengths do not count, so that no gradient lies along a prototype
    np.testing.assert_allclose(np.sum(slope * prototypes, axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("solver", ["closed form", "gradient"])
def test_texts_alone_are_the_prototypes_as_they_are(solver):
    example, texts = planted(), unit(3, 3, 16)
    method = FairCLIP(alpha=0.0, solver=solver)
    method.fit(images=example.images, attribute_texts=5 * texts)
    np.testing.assert_allclose(method.prototypes_, texts, atol=1e-12)
    assert method.target_prototypes_.shape == (0, 16)
    rows = example.images / np.linalg.norm(example.images, axis=1, keepdims=True)
    wanted = closed_form(rows, texts, rows[:0], 0.0, method.beta)
    np.testing.assert_allclose(method.matrix_, wanted, rtol=0, atol=1e-6)


def test_prototypes_learned_before_give_the_matrix_that_labels_give():
    example = planted()
    learned = FairCLIP().fit(
        images=example.images, attributes=example.groups, labels=example.classes
    )
    again = FairCLIP(temperature=7.0).fit(  # which nothing is learned with
        images=example.images,
        attribute_texts=learned.prototypes_,
        target_texts=learned.target_prototypes_,
    )
    np.testing.assert_allclose(again.matrix_, learned.matrix_, rtol=0, atol=1e-12)


def test_one_side_may_be_learned_and_the_other_given():
    example = planted()
    method = FairCLIP().fit(
        images=example.images, attribute_texts=unit(3, 2, 16), labels=example.classes
    )
    np.testing.assert_allclose(method.prototypes_, unit(3, 2, 16), atol=1e-12)
    nearest = np.argmax(example.images @ method.target_prototypes_.T, axis=1)
    np.testing.assert_array_equal(nearest, example.classes)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), kinds=st.integers(2, 4))
def test_the_order_of_examples_does_not_matter(seed, kinds):
    example = planted(seed, n=80, d=8, kinds=kinds)
    order = np.random.default_rng(seed).permutation(80)
    one, other = (
        FairCLIP(temperature=0.5).fit(
            images=example.images[rows],
            attributes=example.groups[rows],
            labels=example.classes[rows],
        )
        for rows in (np.arange(80), order)
    )
    np.testing.assert_allclose(one.matrix_, other.matrix_, atol=1e-5)


def test_the_same_input_gives_the_same_bytes_and_saving_keeps_them(tmp_path: Path):
    example = planted()
    given_ = {"images": example.images, "attributes": example.groups}
    for folder, method in {"one": FairCLIP(), "two": FairCLIP()}.items():
        method.fit(**given_, labels=example.classes).save(tmp_path / folder)
    for name in ("arrays.safetensors", "method.json"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two
    loaded = load_method(tmp_path / "one", kind=FairCLIP, dimension=16)
    np.testing.assert_array_equal(
        loaded.transform_images(example.images), method.transform_images(example.images)
    )


def test_a_method_without_targets_is_saved_and_read_with_its_parameters(tmp_path: Path):
    example = planted()
    method = FairCLIP(0.0, 0.1, 0.2, "gradient", space="x")
    method.fit(images=example.images, attributes=example.groups).save(tmp_path)
    loaded = load_method(tmp_path, space="x")
    assert isinstance(loaded, FairCLIP)
    assert loaded.get_params() == method.get_params()
    assert loaded.target_prototypes_.shape == (0, 16)


def test_tensors_and_arrays_agree():
    torch = pytest.importorskip("torch")
    example = planted()
    images = example.images.astype(np.float32)
    given_ = {"attributes": example.groups, "target_texts": example.class_texts}
    ours = FairCLIP().fit(images=images, **given_)
    theirs = FairCLIP().fit(images=torch.from_numpy(images), **given_)
    np.testing.assert_array_equal(ours.matrix_, theirs.matrix_)
    moved = theirs.transform_images(torch.from_numpy(images))
    assert moved.dtype == torch.float32
    np.testing.assert_array_equal(moved.numpy(), ours.transform_images(images))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["beta", "temperature"])
def test_parameters_that_must_be_positive_are(name, value):
    with pytest.raises(InputError, match=f"{name} is .*give a positive number"):
        FairCLIP(**{name: value})


def test_other_parameters_are_checked():
    for alpha in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="alpha is"):
            FairCLIP(alpha)
    with pytest.raises(InputError, match="solver is 'sgd'"):
        FairCLIP(solver="sgd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alpha", "changed", "message"),
    [
        (1.0, {}, "alpha is 1.0, but targets are missing"),
        (0.0, {"target_texts": unit(0, 2, 16)}, "alpha is 0.0, but targets are given"),
        (0.0, {"attributes": None}, "attribute: 0 prototypes.*give attributes or attribute_texts"),
        (
            0.0,
            {"attributes": None, "attribute_texts": unit(0, 1, 16)},
            "attribute: 1 prototypes, but a bias is a difference",
        ),
        (
            0.0,
            {"attributes": None, "attribute_texts": unit(0, 2, 9)},
            "attribute texts have 9 numbers, images 16",
        ),
        (0.0, {"attributes": ["a", "b"]}, "attribute: 2 labels for 300 images"),
        (0.0, {"attributes": ["a"] * 300}, "attribute: all are 'a'"),
        (0.0, {"attributes": ["a", None, *["b"] * 298]}, "attribute: row 1 has no label"),
        (1.0, {"labels": [1]}, "target: 1 labels for 300 images"),
        (0.0, {"attribute_texts": unit(0, 3, 16)}, "3 texts for 2 distinct labels"),
        (0.0, {"attribute_texts": unit(0, 2, 9)}, "attribute texts have 9 numbers, images 16"),
        (1.0, {"target_texts": unit(0, 2, 9)}, "target texts have 9 numbers, images 16"),
        (0.0, {"images": np.zeros((300, 16))}, "images: row 0 is all zeros"),
    ],
)
def test_what_does_not_fit_together_is_refused(alpha, changed, message):
    example = planted()
    with pytest.raises(InputError, match=message):
        FairCLIP(alpha).fit(**{"images": example.images, "attributes": example.groups, **changed})


def test_an_image_of_which_nothing_is_left_is_refused():
    example = planted()
    method = FairCLIP(alpha=0.0, beta=1e-12).fit(images=example.images, attributes=example.groups)
    bias = method.prototypes_[:1] - method.prototypes_[1:]
    with pytest.raises(InputError, match="leaves nothing of row 0 \\('x'\\)"):
        method.transform_images(bias, ["x"])
