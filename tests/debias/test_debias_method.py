"""What all debiasing methods keep: kinds of arrays, errors, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.base import clone

import debias
from debias import (
    CalibratedProjection,
    ClipClip,
    ClosedForm,
    FairCLIP,
    GroupMeanProjection,
    LinearProbe,
    Method,
    OrthogonalProjection,
    load_method,
)
from m4.errors import InputError

D = 12


RANDOM = np.random.default_rng(3)
FEW, IMAGES = RANDOM.normal(size=(4, D)), RANDOM.normal(size=(60, D))
PAIRS = [(0, 1), (2, 3)]
GROUPS = IMAGES[:, 0] > 0


def fitted(space: str | None = None) -> list[Method]:
    return [
        OrthogonalProjection(space=space).fit(spurious=FEW[:3]),
        CalibratedProjection(20.0, space=space).fit(
            spurious=FEW[:3], candidates=IMAGES[:4], pairs=PAIRS
        ),
        CalibratedProjection(orthogonal=False, space=space).fit(candidates=FEW, pairs=PAIRS),
        ClipClip(8, seed=2, space=space).fit(images=IMAGES, attributes=GROUPS),
        GroupMeanProjection(space=space).fit(directions=FEW[:2]),
        ClosedForm(space=space).fit(directions=FEW[:3]),
    ]


METHODS = fitted("ViT-B-32/openai")
CLASSES = [
    kind
    for kind in (getattr(debias, name) for name in debias.__all__)
    if isinstance(kind, type) and issubclass(kind, Method) and kind is not Method
]
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


def test_all_classes_are_known_here():
    assert {type(each) for each in METHODS} < set(CLASSES)
    assert len(CLASSES) >= 9


@pytest.mark.parametrize("kind", CLASSES)
def test_scikit_learn_clones_every_class(kind):
    method = kind(space="RN50/openai")
    again = clone(method)
    assert type(again) is kind and again is not method
    assert again.get_params(deep=False) == method.get_params(deep=True) == method.get_params()
    assert again.get_params()["space"] == "RN50/openai"
    assert not hasattr(method, "set_params")


@by_method
def test_a_clone_has_the_parameters_and_nothing_that_was_learned(method):
    again = clone(method)
    assert again.get_params() == method.get_params()
    assert again.dimension_ == 0
    assert not any(hasattr(again, name) for name in method.LEARNED)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        (OrthogonalProjection(), {"spurious": FEW}),
        (CalibratedProjection(orthogonal=False), {"candidates": FEW, "pairs": PAIRS}),
        (ClipClip(8), {"images": IMAGES, "attributes": GROUPS}),
        (GroupMeanProjection(), {"directions": FEW}),
        (ClosedForm(), {"directions": FEW}),
        (FairCLIP(alpha=0.0), {"images": IMAGES, "attribute_texts": FEW}),
        (LinearProbe(), {"images": IMAGES, "labels": GROUPS.astype(int), "texts": FEW[:2]}),
    ],
)
def test_the_source_is_no_parameter_is_saved_and_is_forgotten_by_another_fit(
    method, given, tmp_path: Path
):
    assert method.fit(**given) is method
    assert method.source is None
    method.source = "60 images of toys"
    assert "source" not in method.get_params()
    assert clone(method).source is None
    method.save(tmp_path)
    assert load_method(tmp_path).source == "60 images of toys"
    assert method.fit(**given).source is None
    method.save(tmp_path)
    assert load_method(tmp_path).source is None
    with pytest.raises(TypeError, match="source"):
        type(method)(source="60 images of toys")


def test_scalars_of_numpy_are_parameters_like_others(tmp_path: Path):
    method = CalibratedProjection(np.float32(10), orthogonal=np.bool_(False))
    method.fit(candidates=FEW, pairs=PAIRS).save(tmp_path / "calibrated")
    found = load_method(tmp_path / "calibrated").get_params()
    assert found == clone(method).get_params() == method.get_params()
    assert (type(found["lam"]), type(found["orthogonal"])) == (float, bool)
    clip = ClipClip(np.int64(8), np.int32(2)).fit(images=IMAGES, attributes=GROUPS)
    clip.save(tmp_path / "clip")
    loaded = load_method(tmp_path / "clip")
    assert loaded.get_params() == {"keep": 8, "seed": 2, "space": None}
    assert all(type(loaded.get_params()[name]) is int for name in ("keep", "seed"))


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (ClipClip, {"keep": 400.0}, "keep is 400.0; give a whole number"),
        (ClipClip, {"seed": 1.5}, "seed is 1.5; give a whole number"),
        (ClipClip, {"seed": True}, "seed is True; give a whole number"),
        (CalibratedProjection, {"lam": "10"}, "lam is '10'; give a number"),
        (CalibratedProjection, {"lam": None}, "lam is None; give a number"),
        (CalibratedProjection, {"orthogonal": 1}, "orthogonal is 1; give True or False"),
        (FairCLIP, {"alpha": "1"}, "alpha is '1'; give a number"),
        (LinearProbe, {"max_iter": 1e3}, "max_iter is 1000.0; give a whole number"),
        (LinearProbe, {"reweighted": "yes"}, "reweighted is 'yes'; give True or False"),
    ],
)
def test_parameters_of_another_kind_are_refused(kind, given, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        kind(**given)


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
        ({"parameters": {"lam": "much"}}, "lam is 'much'; give a number"),
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
