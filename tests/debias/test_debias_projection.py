"""Projections: their formulas, and what they do to planted biases and real text features."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from debias import CalibratedProjection, OrthogonalProjection
from m4.errors import InputError

sizes = given(seed=st.integers(0, 2**32 - 1), d=st.integers(6, 20), m=st.integers(1, 4))
PAIRS = [(0, 1), (0, 2), (3, 4)]


def unit(seed: int, n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mean_square(candidates: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.mean([np.outer(z := candidates[i] - candidates[j], z) for i, j in pairs], axis=0)


@settings(max_examples=30, deadline=None)
@sizes
def test_the_projection_is_the_naive_formula_idempotent_and_annihilates(seed, d, m):
    spurious = unit(seed, m, d)
    found = OrthogonalProjection().fit(spurious=7 * spurious).text_matrix
    naive = np.eye(d) - spurious.T @ np.linalg.inv(spurious @ spurious.T) @ spurious
    np.testing.assert_allclose(found, naive, atol=1e-6)  # the naive inverse is the worse one
    np.testing.assert_allclose(found @ found, found, atol=1e-12)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    np.testing.assert_allclose(found @ spurious.T, 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_prompts_that_depend_on_each_other_count_once(dtype):
    spurious = unit(0, 3, 16).astype(dtype)
    more = np.concatenate([spurious, spurious[:1], [spurious[0] + spurious[1]]]).astype(dtype)
    one, other = OrthogonalProjection().fit(spurious=spurious), OrthogonalProjection()
    assert other.fit(spurious=more).basis_.shape == (3, 16)
    rounding = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(one.text_matrix, other.text_matrix, atol=rounding)


@settings(max_examples=30, deadline=None)
@sizes
def test_the_calibrated_projection_is_the_direct_inverse(seed, d, m):
    spurious, candidates = unit(seed, m, d), unit(seed + 1, 5, d)
    lam = 10.0 ** (seed % 5)
    method = CalibratedProjection(lam).fit(spurious=spurious, candidates=candidates, pairs=PAIRS)
    away = OrthogonalProjection().fit(spurious=spurious).text_matrix
    direct = away @ np.linalg.inv(np.eye(d) + lam * mean_square(candidates, PAIRS))
    np.testing.assert_allclose(method.text_matrix, direct, atol=1e-8)
    alone = CalibratedProjection(lam, orthogonal=False).fit(candidates=candidates, pairs=PAIRS)
    np.testing.assert_allclose(
        alone.text_matrix,
        np.linalg.inv(np.eye(d) + lam * mean_square(candidates, PAIRS)),
        atol=1e-8,
    )


@settings(max_examples=30, deadline=None)
@sizes
def test_the_projection_meets_the_conditions_of_the_nearest_matrix_that_annihilates(seed, d, m):
    spurious = unit(seed, m, d)
    found = OrthogonalProjection().fit(spurious=spurious).text_matrix
    # of ||P - I||^2 subject to P A' = 0: P - I = L A for multipliers L
    np.testing.assert_allclose(found @ spurious.T, 0, atol=1e-12)
    multipliers, *_ = np.linalg.lstsq(spurious.T, (found - np.eye(d)).T, rcond=None)
    np.testing.assert_allclose(multipliers.T @ spurious, found - np.eye(d), atol=1e-10)


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_another_optimiser_ends_at_the_projection(seed, m):
    d = 4
    spurious = unit(seed, m, d)
    found = minimize(
        lambda flat: np.sum((flat.reshape(d, d) - np.eye(d)) ** 2),
        np.random.default_rng(seed).normal(size=d * d),
        method="SLSQP",
        constraints=[{"type": "eq", "fun": lambda flat: (flat.reshape(d, d) @ spurious.T).ravel()}],
        options={"ftol": 1e-14, "maxiter": 200},
    )
    wanted = OrthogonalProjection().fit(spurious=spurious).text_matrix
    np.testing.assert_allclose(found.x.reshape(d, d), wanted, atol=1e-6)


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("pairs", [[(0, 1)], PAIRS, [(0, 1), (1, 2), (0, 2), (3, 4), (3, 4)]])
@pytest.mark.parametrize(("d", "lam"), [(5, 0.1), (5, 30.0), (7, 3.0), (7, 500.0)])
def test_the_calibrated_projection_is_the_minimiser(orthogonal, pairs, d, lam):
    spurious, candidates = unit(1, 2, d), unit(2, 5, d)
    method = CalibratedProjection(lam, orthogonal).fit(
        spurious=spurious if orthogonal else None, candidates=candidates, pairs=pairs
    )
    away = OrthogonalProjection().fit(spurious=spurious).text_matrix if orthogonal else np.eye(d)

    def objective(flat: np.ndarray) -> float:
        images = flat.reshape(d, d) @ candidates.T
        apart = sum(np.sum((images[:, i] - images[:, j]) ** 2) for i, j in pairs)
        return float(np.sum((flat.reshape(d, d) - away) ** 2) + lam / len(pairs) * apart)

    def gradient(flat: np.ndarray) -> np.ndarray:
        matrix = flat.reshape(d, d)
        return 2 * (matrix - away + lam * matrix @ mean_square(candidates, pairs)).ravel()

    found = method.text_matrix.ravel()
    assert np.abs(gradient(found)).max() < 1e-8
    step = 1e-5 * np.eye(d * d)
    numeric = [(objective(found + each) - objective(found - each)) / 2e-5 for each in step]
    np.testing.assert_allclose(numeric, 0, atol=1e-6)
    start = np.random.default_rng(3).normal(size=d * d)
    options = {"ftol": 0, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10_000}
    other = minimize(objective, start, jac=gradient, method="L-BFGS-B", options=options)
    np.testing.assert_allclose(other.x, found, atol=1e-5)


def test_it_acts_as_p_z_and_not_as_its_transpose():
    spurious, candidates = unit(1, 2, 8), unit(2, 5, 8)
    method = CalibratedProjection().fit(spurious=spurious, candidates=candidates, pairs=PAIRS)
    z = unit(9, 1, 8)
    right, wrong = method.text_matrix @ z[0], method.text_matrix.T @ z[0]
    np.testing.assert_allclose(method.transform_texts(z)[0], right / np.linalg.norm(right))
    assert abs(right @ wrong) / np.linalg.norm(right) / np.linalg.norm(wrong) < 0.999
    np.testing.assert_allclose(method.transform_texts(z) @ spurious.T, 0, atol=1e-12)


def test_pairs_coincide_as_lam_grows():
    spurious, candidates = unit(1, 2, 16), unit(2, 5, 16)
    apart = []
    for lam in (1e-9, 1.0, 1e3, 1e6, 1e12):
        method = CalibratedProjection(lam).fit(
            spurious=spurious, candidates=candidates, pairs=PAIRS
        )
        moved = method.transform_texts(candidates)
        apart.append(max(np.linalg.norm(moved[i] - moved[j]) for i, j in PAIRS))
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-9
    plain = OrthogonalProjection().fit(spurious=spurious).transform_texts(candidates)
    assert apart[0] == pytest.approx(max(np.linalg.norm(plain[i] - plain[j]) for i, j in PAIRS))


def test_a_planted_linear_bias_vanishes_from_the_scores():
    random = np.random.default_rng(0)
    bias, *classes = np.linalg.qr(random.normal(size=(32, 3)))[0].T
    group = random.choice([-1, 1], size=400)
    images = classes[0] + 0.5 * group[:, None] * bias + 0.01 * random.normal(size=(400, 32))
    texts = np.array([classes[0] + 0.4 * bias, classes[1] - 0.4 * bias])
    method = OrthogonalProjection().fit(spurious=np.array([bias]))

    def gap(rows: np.ndarray) -> float:
        scores = images @ rows[0]
        return float(scores[group == 1].mean() - scores[group == -1].mean())

    assert gap(texts) > 0.3
    assert abs(gap(method.transform_texts(texts))) < 0.01
    np.testing.assert_allclose(
        method.transform_images(images), images / np.linalg.norm(images, axis=1, keepdims=True)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_text_inside_the_span_is_refused_by_name(dtype):
    spurious, candidates = unit(1, 2, 16).astype(dtype), unit(2, 5, 16)
    texts = np.stack([candidates[0], spurious[0] - 2 * spurious[1]]).astype(dtype)
    orthogonal = OrthogonalProjection().fit(spurious=spurious)
    calibrated = CalibratedProjection().fit(spurious=spurious, candidates=candidates, pairs=PAIRS)
    for method in (orthogonal, calibrated):
        with pytest.raises(InputError, match=r"leaves nothing of row 1 \('a man'\)"):
            method.transform_texts(texts, ["a bird", "a man"])
        assert method.transform_images(texts).shape == texts.shape


def test_what_does_not_fit_together_is_refused():
    spurious, candidates = unit(1, 2, 8), unit(2, 5, 8)
    for lam in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="give a positive number"):
            CalibratedProjection(lam)
    with pytest.raises(InputError, match="orthogonal is True, but spurious prompts are missing"):
        CalibratedProjection().fit(candidates=candidates, pairs=PAIRS)
    with pytest.raises(InputError, match="orthogonal is False, but spurious prompts are given"):
        CalibratedProjection(orthogonal=False).fit(
            spurious=spurious, candidates=candidates, pairs=PAIRS
        )
    with pytest.raises(InputError, match="prompts have 9 numbers, candidates 8"):
        CalibratedProjection().fit(spurious=unit(1, 2, 9), candidates=candidates, pairs=PAIRS)
    for pair in [(0, 5), (1, 1), (-1, 2)]:
        with pytest.raises(InputError, match="names no two of the 5 candidates"):
            CalibratedProjection().fit(spurious=spurious, candidates=candidates, pairs=[pair])
    for pairs in ([], [(0, 1), (2,)], [(0, 1, 2)], [("0", "1")], [(0.0, 1.0)], None):
        with pytest.raises(InputError, match="pairs are pairs of row numbers, at least one"):
            CalibratedProjection().fit(spurious=spurious, candidates=candidates, pairs=pairs)
    with pytest.raises(InputError, match="span all 3 dimensions"):
        OrthogonalProjection().fit(spurious=unit(0, 4, 3))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_spurious_rows_without_a_direction_are_refused_as_such(kind, bad):
    spurious = unit(1, 3, 8)
    spurious[1] = bad
    for method, more in (
        (OrthogonalProjection(), {}),
        (CalibratedProjection(), {"candidates": unit(2, 5, 8), "pairs": PAIRS}),
    ):
        with pytest.raises(
            InputError, match=r"^spurious: row 1 has no direction, as it is not finite, or all"
        ):
            method.fit(spurious=kind(spurious), **more)
    for shape in ((0, 8), (8,), (3, 0)):
        with pytest.raises(InputError, match=r"^spurious: (embeddings of shape|row 0 has no)"):
            OrthogonalProjection().fit(spurious=kind(np.ones(shape)))


def test_real_text_features_lose_the_spurious_directions(shared_data: Path):
    folder = shared_data / "clip_features"
    if not folder.is_dir():
        pytest.skip("no CLIP text features in the shared data")
    texts = np.load(folder / "occupations_text.npy")
    names = json.loads((folder / "occupations_text_names.json").read_text())
    spurious = np.load(folder / "imagenet1k_text_vitb32.npy")[:8]
    pairs = [(0, 1), (2, 3), (4, 5)]
    orthogonal = OrthogonalProjection().fit(spurious=spurious)
    calibrated = CalibratedProjection().fit(spurious=spurious, candidates=texts, pairs=pairs)
    assert orthogonal.basis_.shape == (8, 512)
    plain, moved = (each.transform_texts(texts, names) for each in (orthogonal, calibrated))
    for rows in (plain, moved):
        assert rows.dtype == np.float16
        assert np.abs(rows.astype(float) @ spurious.astype(float).T).max() < 2e-3
    apart = [[np.linalg.norm(rows[i] - rows[j]) for i, j in pairs] for rows in (plain, moved)]
    assert max(apart[1]) < 0.1 * min(apart[0])
    again = OrthogonalProjection().fit(spurious=np.concatenate([spurious, spurious[::-1]]))
    np.testing.assert_allclose(again.text_matrix, orthogonal.text_matrix, atol=1e-9)
    with pytest.raises(InputError, match=repr(names[1])):
        OrthogonalProjection().fit(spurious=texts[1:3]).transform_texts(texts, names)
