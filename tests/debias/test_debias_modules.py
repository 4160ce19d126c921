"""A method as modules: the same numbers, gradients, types, and NaN where nothing is left."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from debias import (
    CalibratedProjection,
    ClipClip,
    ClosedForm,
    FairerCLIP,
    GroupMeanProjection,
    Method,
    OrthogonalProjection,
)
from debias.method import Modality
from debias.modules import Side
from m4.errors import InputError

D = 12


def fitted(seed: int = 3) -> list[Method]:
    random = np.random.default_rng(seed)
    few, images = random.normal(size=(4, D)), random.normal(size=(60, D))
    groups = images[:, 0] > 0
    return [
        OrthogonalProjection().fit(spurious=few[:3]),
        CalibratedProjection(20.0).fit(spurious=few[:3], candidates=images[:4], pairs=[(0, 1)]),
        CalibratedProjection(orthogonal=False).fit(candidates=few, pairs=[(0, 1), (2, 3)]),
        ClipClip(8, seed=2).fit(images=images, attributes=groups),
        GroupMeanProjection().fit(directions=few[:2]),
        ClosedForm().fit(directions=few[:3]),
        FairerCLIP(features=20).fit(
            images=images, attributes=groups, texts=few[:3], labels=np.arange(60) % 3
        ),
    ]


METHODS = fitted()
by_method = pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
by_side = pytest.mark.parametrize("modality", ["images", "texts"])


def transformed(method: Method, modality: Modality, rows: np.ndarray) -> np.ndarray:
    return np.asarray(getattr(method, f"transform_{modality}")(rows))


@by_method
@by_side
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]))
def test_says_what_the_method_says(method, modality, seed, scale):
    rows = np.random.default_rng(seed).normal(size=(5, D)) * scale
    expected = transformed(method, modality, rows)
    exact = Side(method, modality, torch.float64)(torch.from_numpy(rows))
    np.testing.assert_allclose(exact.numpy(), expected, atol=1e-10)
    single = Side(method, modality)(torch.from_numpy(rows).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(single.norm(dim=1).numpy(), 1, atol=1e-6)


@by_method
@by_side
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_what_goes_out_has_the_type_that_came_in(method, modality, dtype):
    rows = torch.randn(5, D, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = Side(method, modality)(rows)
    assert found.dtype == dtype
    expected = transformed(method, modality, rows.double().numpy())
    np.testing.assert_allclose(
        found.double().numpy(), expected, atol=max(torch.finfo(dtype).eps, 1e-4)
    )


@by_method
@by_side
def test_converts_as_modules_do(method, modality):
    side = Side(method, modality)
    assert {each.dtype for each in side.buffers()} == {torch.float32}
    assert not list(side.parameters())
    side = side.to(torch.float64)
    assert {each.dtype for each in side.buffers()} == {torch.float64}
    assert {each.device.type for each in side.to("meta").buffers()} == {"meta"}
    assert all(isinstance(getattr(method, name), np.ndarray) for name in method.LEARNED)


@by_method
@by_side
def test_autocast_leaves_it_alone(method, modality):
    side, rows = Side(method, modality), torch.randn(6, D)
    with torch.autocast("cpu", torch.bfloat16):
        found = side(rows)
    assert torch.equal(found, side(rows))


@by_method
@by_side
def test_is_differentiable(method, modality):
    side = Side(method, modality, torch.float64)
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(3, D, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(side, (rows,))
    (slope,) = torch.autograd.grad(side(rows)[:, 0].sum(), rows)
    assert slope.abs().max() > 1e-3
    # length has no effect
    np.testing.assert_allclose((slope * rows.detach()).sum(dim=1).numpy(), 0, atol=1e-12)


@pytest.mark.parametrize("number", range(len(METHODS)))
@by_side
def test_a_state_dictionary_is_all_that_was_learned(number, modality):
    first, other = (fitted(seed)[number] for seed in (3, 4))
    if isinstance(first, FairerCLIP):  # how many dimensions it keeps is learned too
        other = first
    side, rows = Side(first, modality), np.random.default_rng(0).normal(size=(4, D))
    stream = BytesIO()
    torch.save(Side(other, modality).state_dict(), stream)
    stream.seek(0)
    side.load_state_dict(torch.load(stream, weights_only=True))
    found = side(torch.from_numpy(rows).float()).numpy()
    np.testing.assert_allclose(found, transformed(other, modality, rows), atol=1e-4)


def of_which_nothing_is_left() -> list[tuple[Method, Modality, np.ndarray]]:
    """Rows that methods refuse."""
    orthogonal, calibrated, _, clip_clip, _, closed_form, _ = METHODS
    dropped = np.eye(D)[np.argmax(clip_clip.information_)]
    found: list[tuple[Method, Modality, np.ndarray]] = [
        (orthogonal, "texts", orthogonal.basis_[1]),
        (calibrated, "texts", calibrated.basis_.sum(axis=0)),
    ]
    for modality in ("images", "texts"):
        found += [(clip_clip, modality, dropped), (closed_form, modality, closed_form.basis_[0])]
    return found


@pytest.mark.parametrize(
    ("method", "modality", "row"),
    of_which_nothing_is_left(),
    ids=lambda each: type(each).__name__ if isinstance(each, Method) else None,
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_the_method_refuses_becomes_nan_and_no_other_row(method, modality, row, dtype):
    other = np.random.default_rng(1).normal(size=D)
    rows = torch.tensor(np.stack([other, 3 * row, -other]), dtype=dtype)
    with pytest.raises(InputError, match="leaves nothing of row 1"):
        getattr(method, f"transform_{modality}")(rows)
    for side in (Side(method, modality), Side(method, modality, torch.float64)):
        found = side(rows)
        assert found[1].isnan().all()
        assert found[[0, 2]].isfinite().all()


@by_method
@by_side
def test_what_has_no_direction_becomes_nan(method, modality):
    rows = torch.randn(5, D)
    rows[1], rows[2, 3], rows[3, 0] = 0, torch.nan, torch.inf
    found = Side(method, modality)(rows)
    assert found.isnan().any(dim=1).tolist() == [False, True, True, True, False]
    assert found[1:4].isnan().all()


def test_single_precision_notices_the_span_of_many_prompts_at_full_size():
    random = np.random.default_rng(7)
    spurious = random.normal(size=(20, 512)) + 1
    candidates = random.normal(size=(4, 512)) + 1
    inside = torch.tensor(random.normal(size=(50, 20)) @ spurious, dtype=torch.float32)
    outside = torch.tensor(random.normal(size=(50, 512)), dtype=torch.float32)
    for method in (
        OrthogonalProjection().fit(spurious=spurious),
        CalibratedProjection().fit(spurious=spurious, candidates=candidates, pairs=[(0, 1)]),
        ClosedForm().fit(directions=np.concatenate([np.zeros((1, 512)) + 1, spurious])),
    ):
        if isinstance(method, ClosedForm):
            inside = torch.tensor(
                random.normal(size=(50, len(method.basis_))) @ method.basis_, dtype=torch.float32
            )
        side = Side(method, "texts")
        assert side(inside).isnan().all()
        expected = transformed(method, "texts", outside.double().numpy())
        np.testing.assert_allclose(side(outside).numpy(), expected, atol=1e-6)


def test_coarse_numbers_choose_the_same_dimensions():
    method = ClipClip(6)
    method.information_ = 1 + 1e-12 * np.random.default_rng(0).permutation(D)
    method.dimension_ = D
    rows = np.random.default_rng(1).normal(size=(3, D))
    for dtype in (torch.float32, torch.bfloat16):
        found = Side(method, "images").to(dtype)(torch.from_numpy(rows))
        np.testing.assert_allclose(found, transformed(method, "images", rows), atol=0.02)


@by_method
@by_side
def test_can_be_exported_for_any_number_of_rows(method, modality):
    side = Side(method, modality)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(side, (torch.zeros(2, D),), dynamic_shapes=shapes).module()
    for count in (0, 1, 2, 9):
        rows = torch.randn(count, D)
        torch.testing.assert_close(exported(rows), side(rows), rtol=0, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="is not fitted"):
        Side(OrthogonalProjection(), "texts")
    side = Side(METHODS[0], "texts")
    with pytest.raises(InputError, match=r"shape \(2, 13\), but Orthogonal.* on 12 numbers"):
        side(torch.randn(2, 13))
    with pytest.raises(InputError, match=r"shape \(12,\)"):
        side(torch.randn(12))
    with pytest.raises(InputError, match="not of a floating type"):
        side(torch.ones(2, D, dtype=torch.int64))


def test_methods_themselves_need_no_torch():
    code = (
        "import sys, numpy, debias\n"
        "debias.OrthogonalProjection().fit(spurious=numpy.ones((1, 4)))\n"
        "assert 'torch' not in sys.modules and 'debias.modules' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
