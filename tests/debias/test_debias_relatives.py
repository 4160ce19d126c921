"""CLIP-clip, WRING and the closed form: their formulas, and planted biases."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import minimize

from debias import ClipClip, ClosedForm, GroupMeanProjection, OrthogonalProjection, group_means
from m4.errors import InputError

seeds = given(seed=st.integers(0, 2**32 - 1), d=st.integers(6, 20), k=st.integers(2, 4))


def unit(seed: int, n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_clip_clip_drops_the_planted_dimensions_from_both_modalities():
    random = np.random.default_rng(0)
    groups = np.array(["woman", "man"])[random.integers(0, 2, size=300)]
    images = random.normal(size=(300, 24))
    planted = [3, 11, 17]
    images[:, planted] += 3 * (groups == "man")[:, None]
    method = ClipClip(21).fit(images=images, attributes=groups)
    stay = [i for i in range(24) if i not in planted]
    np.testing.assert_array_equal(method.kept, stay)
    for transform in (method.transform_images, method.transform_texts):
        cut = images[:, stay] / np.linalg.norm(images[:, stay], axis=1, keepdims=True)
        np.testing.assert_allclose(transform(images), cut)
    again = ClipClip(21).fit(images=images, attributes=groups)
    np.testing.assert_array_equal(again.information_, method.information_)


def test_clip_clip_refuses_what_it_cannot_drop_or_learn_from():
    images = unit(0, 6, 5)
    with pytest.raises(InputError, match="keep is 400 of 5 dimensions"):
        ClipClip().fit(images=images, attributes=list("aabbab"))
    with pytest.raises(InputError, match="keep is 0"):
        ClipClip(0)
    with pytest.raises(InputError, match="attributes: 2 labels for 6 images"):
        ClipClip(3).fit(images=images, attributes=list("ab"))
    with pytest.raises(InputError, match="all are 'a'"):
        ClipClip(3).fit(images=images, attributes=list("aaaaaa"))
    with pytest.raises(InputError, match=r"3 images of 'a', .* give at least 4"):
        ClipClip(3).fit(images=images[:5], attributes=list("aaabb"))
    method = ClipClip(3).fit(images=unit(0, 60, 5), attributes=list("ab" * 30))
    dropped = [i for i in range(5) if i not in method.kept]
    with pytest.raises(InputError, match="leaves nothing of row 0"):
        method.transform_texts(np.eye(5)[dropped])


def test_group_means_are_directions_in_the_order_of_labels():
    rows = unit(0, 4, 6)
    found = group_means(rows * [[1], [5], [1], [9]], ["b", "a", "b", "a"])
    wanted = np.array([rows[[1, 3]].mean(axis=0), rows[[0, 2]].mean(axis=0)])
    lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
    assert lengths.max() < 0.99
    np.testing.assert_allclose(found, wanted / lengths)


def test_methods_by_group_means_rest_on_the_same_directions():
    random = np.random.default_rng(2)
    groups = np.repeat([0, 1], [50, 70])
    images = random.normal(size=(120, 8)) * 0.3 + 2 * np.eye(8)[groups]
    images[groups == 1] += random.normal(size=(70, 8))  # a wider group has a shorter mean
    means = group_means(images, groups)
    plain = OrthogonalProjection().fit(spurious=means[1:] - means[0])
    balanced = ClosedForm().fit(directions=means)
    np.testing.assert_allclose(np.abs(plain.basis_ @ balanced.basis_.T), 1, atol=1e-12)
    moved = GroupMeanProjection().fit(directions=means).transform_images(images)
    np.testing.assert_allclose(moved @ plain.basis_.T, 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_group_whose_images_cancel_each_other_out_is_refused_by_name(dtype):
    rows = unit(0, 3, 6).astype(dtype)
    images = np.concatenate([rows, -rows[1:]])
    with pytest.raises(InputError, match="the images of 'man' cancel each other out"):
        group_means(images, ["woman", "man", "man", "man", "man"])


def test_images_without_a_group_are_refused():
    with pytest.raises(InputError, match="groups: row 3 has no label; leave such images out"):
        group_means(unit(0, 4, 6), ["a", "b", "a", None])
    with pytest.raises(InputError, match="attributes: row 1 has no label"):
        ClipClip(3).fit(images=unit(0, 3, 6), attributes=["a", float("nan"), "b"])


@settings(max_examples=30, deadline=None)
@seeds
def test_wring_is_its_formula_keeps_norms_and_is_equally_near_to_all_groups(seed, d, k):
    groups, rows = unit(seed, k, d), unit(seed + 1, 9, d)
    method = GroupMeanProjection().fit(directions=3 * groups)
    moved = method.transform_images(rows)
    columns = groups.T
    onto = columns @ np.linalg.inv(columns.T @ columns) @ columns.T
    between = columns @ np.linalg.inv(columns.T @ columns) @ np.ones(k)
    inside = rows @ onto
    formula = (
        rows
        - inside
        + np.linalg.norm(inside, axis=1, keepdims=True) * between / np.linalg.norm(between)
    )
    np.testing.assert_allclose(moved, formula, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(formula, axis=1), 1, atol=1e-6)
    near = moved @ groups.T
    np.testing.assert_allclose(near, near[:, :1] * np.ones(k), atol=1e-8)
    np.testing.assert_allclose(method.transform_texts(moved), moved, atol=1e-8)


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_wring_is_the_nearest_point_that_is_equally_near_to_all_groups(seed, k):
    d = k + 3
    groups, row = unit(seed, k, d), unit(seed + 10, 1, d)[0]
    method = GroupMeanProjection().fit(directions=groups)
    row = row if row @ method.between_ > 0 else -row
    found, other = method.transform_texts(np.array([row, -row]))
    beside = null_space(groups).T

    def feasible(point: np.ndarray, row: np.ndarray) -> np.ndarray:
        near = groups @ point
        return np.concatenate([near[1:] - near[0], beside @ (point - row), [point @ point - 1]])

    def nearest(row: np.ndarray, to: np.ndarray) -> np.ndarray:
        """Of such points the nearest to another point, from several starts."""
        constraint = {"type": "eq", "fun": lambda point: feasible(point, row)}
        ends = [
            minimize(
                lambda point: np.sum((point - to) ** 2),
                start,
                method="SLSQP",
                constraints=[constraint],
                options={"ftol": 1e-14, "maxiter": 500},
            ).x
            for start in (row, -row, *unit(seed + 20, 6, d))
        ]
        ends = [end for end in ends if np.abs(feasible(end, row)).max() < 1e-8]
        return min(ends, key=lambda end: np.sum((end - to) ** 2))

    np.testing.assert_allclose(nearest(row, row), found, atol=1e-6)
    for start, end in ((row, found), (-row, other)):
        np.testing.assert_allclose(nearest(start, groups.mean(axis=0)), end, atol=1e-6)
    assert np.linalg.norm(nearest(-row, -row) - other) > 1e-2  # the one that is far from the groups


def test_a_plain_projection_amplifies_another_bias_and_wring_does_not():
    first, second, other, rest = np.eye(8)[:4]
    rows = np.array([0.6 * first + 0.3 * second + 0.4 * other + 0.2 * rest + 0.1 * np.eye(8)[5]])
    rows /= np.linalg.norm(rows)
    groups = np.array([first, second])
    plain = OrthogonalProjection().fit(spurious=groups).transform_texts(rows)
    turned = GroupMeanProjection().fit(directions=groups).transform_texts(rows)
    factor = 1 / np.linalg.norm(rows[0, 2:])  # ||v|| / ||v - Pv||
    assert factor > 1.4
    assert plain[0] @ other == pytest.approx(factor * (rows[0] @ other))
    assert turned[0] @ other == pytest.approx(rows[0] @ other)
    assert turned[0] @ first == pytest.approx(turned[0] @ second)


def test_wring_refuses_groups_without_a_direction_between_them():
    group = unit(0, 1, 6)
    for groups in (np.concatenate([group, -group]), np.concatenate([group, group]), group):
        with pytest.raises(InputError, match="rank 1; give at least two"):
            GroupMeanProjection().fit(directions=groups)


@settings(max_examples=50, deadline=None)
@seeds
def test_the_closed_form_is_its_formula_and_balances_the_two_shares(seed, d, k):
    groups, rows = unit(seed, k, d), unit(seed + 1, 9, d)
    moved = ClosedForm().fit(directions=groups).transform_images(rows)
    basis = np.linalg.qr((groups[1:] - groups[0]).T)[0]
    a = rows @ basis @ basis.T
    b = rows - a
    p, q = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    e = p + (1 - q) / p
    alpha = (e - q * np.sqrt(e**2 - p**2)) / (e**2 + q**2)
    np.testing.assert_allclose(moved, alpha * a / p + np.sqrt(1 - alpha**2) * b / q, atol=1e-7)
    left = np.linalg.norm(moved @ basis, axis=1, keepdims=True) / p
    assert np.all((left > 0.38) & (left < 0.5))
    loss = 1 - np.sum(moved * rows, axis=1, keepdims=True)
    np.testing.assert_allclose(loss, left * (1 - q), atol=1e-9)


def test_no_other_point_of_the_sphere_has_a_smaller_larger_share():
    groups, row = unit(0, 3, 5), unit(1, 1, 5)[0]
    method = ClosedForm().fit(directions=groups)
    p = np.linalg.norm(method.basis_ @ row)
    q = np.sqrt(1 - p**2)

    def shares(point: np.ndarray) -> np.ndarray:
        point = point / np.linalg.norm(point)
        return np.array([(1 - point @ row) / (1 - q), np.linalg.norm(method.basis_ @ point) / p])

    found = method.transform_texts(row[None])[0]
    best = shares(found).max()
    for seed in range(3):
        start = np.append(row + 0.3 * np.random.default_rng(seed).normal(size=5), 1.0)
        # the least t above both shares
        other = minimize(
            lambda x: x[-1],
            start,
            method="SLSQP",
            constraints=[
                {"type": "ineq", "fun": lambda x: x[-1] - shares(x[:-1])},
                {"type": "eq", "fun": lambda x: x[:-1] @ x[:-1] - 1},
            ],
            options={"maxiter": 500, "ftol": 1e-12},
        )
        assert other.x[-1] == pytest.approx(best, abs=1e-6)
        np.testing.assert_allclose(other.x[:-1], found, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(4, 20), k=st.integers(2, 3))
def test_at_the_closed_form_no_small_step_lowers_the_larger_share(seed, d, k):
    groups, row = unit(seed, k, d), unit(seed + 1, 1, d)[0]
    method = ClosedForm().fit(directions=groups)
    basis, found = method.basis_, method.transform_texts(row[None])[0]
    p = np.linalg.norm(basis @ row)
    q = np.sqrt(1 - p**2)

    def shares(point: np.ndarray) -> np.ndarray:
        return np.array([(1 - point @ row) / (1 - q), np.linalg.norm(basis @ point) / p])

    np.testing.assert_allclose(*shares(found), rtol=1e-6)
    # the two slopes on the sphere point against each other: no direction lowers both
    slopes = np.array([-row / (1 - q), basis.T @ (basis @ found) / np.linalg.norm(basis @ found)])
    slopes -= np.outer(slopes @ found, found)
    slopes /= np.linalg.norm(slopes, axis=1, keepdims=True)
    np.testing.assert_allclose(slopes[0], -slopes[1], atol=1e-6)
    steps = found + 1e-2 * unit(seed + 2, 200, d)
    for point in steps / np.linalg.norm(steps, axis=1, keepdims=True):
        assert shares(point).max() > shares(found).max()


def test_the_closed_form_leaves_what_has_no_bias_and_refuses_what_has_nothing_else():
    groups = np.eye(6)[:2]
    method = ClosedForm().fit(directions=groups)
    neutral = np.array([[1.0, 1.0, 2.0, 0, 0, 0]])
    np.testing.assert_allclose(
        method.transform_texts(neutral), neutral / np.linalg.norm(neutral), atol=1e-15
    )
    with pytest.raises(InputError, match=r"leaves nothing of row 0 \('gender'\)"):
        method.transform_images(np.array([[1.0, -1.0, 0, 0, 0, 0]]), ["gender"])
    with pytest.raises(InputError, match="give at least two that differ"):
        ClosedForm().fit(directions=np.concatenate([groups, groups[:1]]))
    with pytest.raises(InputError, match="give at least two that differ"):
        ClosedForm().fit(directions=groups[:1])


def test_real_text_features_come_out_equally_near_to_the_groups(shared_data: Path):
    folder = shared_data / "clip_features"
    if not folder.is_dir():
        pytest.skip("no CLIP text features in the shared data")
    texts = np.load(folder / "occupations_text.npy").astype(np.float64)
    groups = np.load(folder / "imagenet1k_text_vitb32.npy")[[0, 100]].astype(np.float64)
    for rows in (texts, groups):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    difference = groups[0] - groups[1]
    assert np.abs(texts @ difference).max() > 0.01
    turned = GroupMeanProjection().fit(directions=groups).transform_texts(texts)
    np.testing.assert_allclose(turned @ difference, 0, atol=1e-12)
    balanced = ClosedForm().fit(directions=groups).transform_texts(texts)
    left = (balanced @ difference) / (texts @ difference)
    assert np.all((left > 0.38) & (left < 0.5))
