"""What all debiasing methods keep: kinds of arrays, errors, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from debias import (
    CalibratedProjection,
    ClipClip,
    ClosedForm,
    GroupMeanProjection,
    Method,
    OrthogonalProjection,
    load_method,
)
from m4.errors import InputError

D = 12


def fitted(space: str | None = None) -> list[Method]:
    random = np.random.default_rng(3)
    few, images = random.normal(size=(4, D)), random.normal(size=(60, D))
    pairs = [(0, 1), (2, 3)]
    return [
        OrthogonalProjection(space=space).fit(spurious=few[:3]),
        CalibratedProjection(20.0, space=space).fit(
            spurious=few[:3], candidates=images[:4], pairs=pairs
        ),
        CalibratedProjection(orthogonal=False, space=space).fit(candidates=few, pairs=pairs),
        ClipClip(8, seed=2, space=space).fit(images=images, attributes=images[:, 0] > 0),
        GroupMeanProjection(space=space).fit(directions=few[:2]),
        ClosedForm(space=space).fit(directions=few[:3]),
    ]


METHODS = fitted("ViT-B-32/openai")
by_method = pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)


@by_method
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e6))
def test_rows_come_out_of_unit_length_whatever_their_scale_and_company(method, seed, scale):
    rows = np.random.default_rng(seed).normal(size=(5, D))
    for transform in (method.transform_images, method.transform_texts):
        moved = transform(rows)
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-12)
        np.testing.assert_allclose(transform(scale * rows), moved, atol=1e-12)
        np.testing.assert_allclose(transform(rows[::-1])[::-1], moved, atol=1e-12)
        np.testing.assert_allclose(transform(rows[2:3]), moved[2:3], atol=1e-12)


@by_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_and_arrays_agree_and_keep_their_type(method, dtype):
    tensor = torch.randn(5, D, generator=torch.Generator().manual_seed(1)).to(dtype)
    tensor.requires_grad_()
    array = tensor.detach().double().numpy()
    for transform in (method.transform_images, method.transform_texts):
        moved = transform(tensor)
        assert (moved.dtype, moved.device) == (dtype, tensor.device)
        rounding = torch.finfo(dtype).eps
        np.testing.assert_allclose(moved.double().numpy(), transform(array), atol=rounding)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_keep_their_type_and_are_not_changed(dtype):
    rows = np.random.default_rng(0).normal(size=(5, D)).astype(dtype)
    before = rows.copy()
    for method in METHODS:
        assert method.transform_texts(rows).dtype == dtype
    np.testing.assert_array_equal(rows, before)


@by_method
def test_parameters_make_the_same_method(method):
    again = type(method)(**method.get_params())
    assert again.get_params() == method.get_params()
    with pytest.raises(InputError, match="is not fitted; call `fit` first"):
        again.transform_texts(np.ones((1, D)))
    with pytest.raises(InputError, match="is not fitted"):
        again.save("nowhere")


@by_method
def test_another_dimension_is_refused_with_both_numbers(method):
    with pytest.raises(InputError, match=f"13 numbers, but .* fitted on {D}"):
        method.transform_images(np.ones((2, 13)))


def test_what_has_no_direction_or_no_name_is_refused():
    method = METHODS[0]
    with pytest.raises(InputError, match=r"row 1 \('b'\) is all zeros"):
        method.transform_texts(np.array([np.ones(D), np.zeros(D)]), ["a", "b"])
    with pytest.raises(InputError, match="1 names for 2 rows"):
        method.transform_texts(np.ones((2, D)), ["a"])
    with pytest.raises(InputError, match="not of a floating type"):
        method.transform_texts(np.ones((2, D), dtype=int))
    with pytest.raises(InputError, match="not of a floating type"):
        method.transform_texts(torch.ones(2, D, dtype=torch.int64))


@by_method
def test_what_was_saved_comes_back_to_the_bit(method, tmp_path: Path):
    method.save(tmp_path / "new" / "folder")
    again = load_method(
        tmp_path / "new" / "folder", kind=type(method), dimension=D, space="ViT-B-32/openai"
    )
    assert type(again) is type(method)
    assert again.get_params() == method.get_params()
    for name in method.LEARNED:
        assert getattr(again, name).dtype == np.float64
        np.testing.assert_array_equal(getattr(again, name), getattr(method, name))
    rows = np.random.default_rng(5).normal(size=(4, D))
    np.testing.assert_array_equal(again.transform_texts(rows), method.transform_texts(rows))
    again.save(tmp_path / "twice")
    for file in ("method.json", "arrays.safetensors"):
        assert (tmp_path / "twice" / file).read_bytes() == (
            tmp_path / "new" / "folder" / file
        ).read_bytes()


def test_another_kind_dimension_or_space_is_refused(tmp_path: Path):
    METHODS[0].save(tmp_path)
    with pytest.raises(InputError, match="holds OrthogonalProjection, not ClipClip"):
        load_method(tmp_path, kind=ClipClip)
    with pytest.raises(InputError, match="of 12 numbers, not 512"):
        load_method(tmp_path, dimension=512)
    with pytest.raises(InputError, match="of ViT-B-32/openai, not RN50/openai"):
        load_method(tmp_path, space="RN50/openai")
    fitted()[0].save(tmp_path)
    with pytest.raises(InputError, match="a space without a name, not RN50/openai"):
        load_method(tmp_path, space="RN50/openai")
    assert load_method(tmp_path).space is None


def test_a_damaged_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read as a method"):
        load_method(tmp_path)
    METHODS[1].save(tmp_path)
    arrays, record = tmp_path / "arrays.safetensors", tmp_path / "method.json"
    content, text = arrays.read_bytes(), record.read_text()

    arrays.write_bytes(content[:-1])
    with pytest.raises(InputError, match="its SHA-256 is"):
        load_method(tmp_path)
    arrays.write_bytes(content)
    record.write_text(text[:40])
    with pytest.raises(InputError, match=r"method\.json: not a method"):
        load_method(tmp_path)
    for changed, said in [
        ({"method": "Path"}, "'Path' is no method of this version"),
        ({"method": "Method"}, "abstract"),
        ({"method": "load_method"}, "no method of this version"),
        ({"method": "OrthogonalProjection"}, "unexpected keyword"),
        ({"method": "OrthogonalProjection", "parameters": {}}, "arrays .*, expected"),
        ({"parameters": {"lam": "much"}}, "not a method"),
        ({"parameters": {"lam": -1.0}}, "lam is -1"),
        ({"dimension": 7}, r"has shape .* says dimension 7"),
        ({"more": 1}, "unknown key `more`"),
    ]:
        record.write_text(json.dumps({**json.loads(text), **changed}))
        with pytest.raises(InputError, match=said):
            load_method(tmp_path)


def test_the_arrays_are_plain_safetensors(tmp_path: Path):
    METHODS[0].save(tmp_path)
    content = (tmp_path / "arrays.safetensors").read_bytes()
    assert save(load(content)) == content
    assert load(content)["basis_"].shape == (3, D)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.safetensors", "method.json"]


@by_method
@pytest.mark.parametrize("side", ["images", "texts"])
def test_formulas_say_the_same_of_tensors_as_of_arrays(method, side):
    rows = np.random.default_rng(5).normal(size=(6, D))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tensors = {name: torch.from_numpy(getattr(method, name)) for name in method.LEARNED}
    twin = method.with_arrays(tensors)
    found = getattr(twin, f"_{side}")(torch.from_numpy(rows))
    np.testing.assert_allclose(found.numpy(), getattr(method, f"_{side}")(rows), atol=1e-12)
    assert all(isinstance(getattr(method, name), np.ndarray) for name in method.LEARNED)


@by_method
def test_a_linear_method_is_its_matrices_up_to_length(method):
    rows = np.random.default_rng(6).normal(size=(6, D))
    for side in ("image", "text"):
        matrix = getattr(method, f"{side}_matrix")
        if matrix is None:
            assert isinstance(method, GroupMeanProjection | ClosedForm)
            continue
        moved = rows @ matrix.T
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        np.testing.assert_allclose(getattr(method, f"transform_{side}s")(rows), moved, atol=1e-12)
