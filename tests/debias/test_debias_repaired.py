"""A repaired model: debiased where it encodes, and else the model it holds."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from debias import ClipClip, ClosedForm, GroupMeanProjection, Method, OrthogonalProjection
from debias.repaired import Repaired, repaired
from m4.errors import InputError
from vision.embedder import Embedder, Preprocessing
from vision.images import ImageFormat
from vision.model import ModelSettings, build_model, image_format, tokenizer
from vision.torchvision_guard import ensure_torchvision

D = 16
SMALL = ModelSettings(
    embed_dim=D,
    image_size=32,
    image_width=32,
    image_layers=1,
    image_head_width=16,
    context_length=12,
    text_width=16,
    text_layers=1,
    text_heads=1,
)
TEXTS = ["a photo of a nurse", "an engineer", "a chef at work"]


def custom_text(**more: Any) -> Any:
    """As the small model, with a text tower of its own and a biased projection, as SigLIP's."""
    ensure_torchvision()
    import open_clip

    return open_clip.CustomTextCLIP(
        embed_dim=D,
        vision_cfg=open_clip.CLIPVisionCfg(
            image_size=32, patch_size=16, width=32, layers=1, head_width=16
        ),
        text_cfg=open_clip.CLIPTextCfg(
            context_length=12, width=16, layers=1, heads=1, proj_bias=True
        ),
        **more,
    )


@pytest.fixture(scope="module", params=["clip", "siglip", "custom text"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    if request.param == "custom text":
        return custom_text(init_logit_bias=-10.0).eval()
    return build_model(SMALL, request.param).eval()


@pytest.fixture(scope="module", params=["OrthogonalProjection", "ClipClip", "GroupMean", "Closed"])
def method(request: pytest.FixtureRequest) -> Method:
    random = np.random.default_rng(5)
    few, images = random.normal(size=(3, D)), random.normal(size=(60, D))
    methods: dict[str, Method] = {
        "OrthogonalProjection": OrthogonalProjection().fit(spurious=few),
        "ClipClip": ClipClip(9).fit(images=images, attributes=images[:, 0] > 0),
        "GroupMean": GroupMeanProjection().fit(directions=few[:2]),
        "Closed": ClosedForm().fit(directions=few),
    }
    return methods[request.param]


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))


def tokens() -> torch.Tensor:
    return tokenizer(SMALL)(TEXTS)


def embedder_of(model: Any) -> Embedder:
    return Embedder(model, tokenizer(SMALL), Preprocessing(image_format(model)), "small", "cpu", 2)


def test_in_an_embedder_it_says_what_the_method_says_of_plain_embeddings(model, method):
    plain = embedder_of(model)
    debiased = replace(plain, model=repaired(model, method))
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (40, 32 + i, 3), dtype=np.uint8)) for i in range(5)
    ]
    expected = method.transform_images(plain.embed(pictures))
    np.testing.assert_allclose(debiased.embed(pictures), expected, atol=1e-5)
    expected = method.transform_texts(plain.encode_texts(TEXTS))
    np.testing.assert_allclose(debiased.encode_texts(TEXTS), expected, atol=1e-5)
    assert debiased.dim == expected.shape[1] == (9 if isinstance(method, ClipClip) else D)
    assert Preprocessing.of(debiased.model) == plain.preprocessing
    assert isinstance(plain.preprocessing.image_format, ImageFormat)


@torch.inference_mode()
def test_features_have_unit_length_whatever_is_asked_for(model, method):
    debiased = repaired(model, method)
    for normalize in (False, True):
        images, texts = (
            debiased.encode_image(pixels(), normalize=normalize),
            debiased.encode_text(tokens(), normalize),
        )
        np.testing.assert_allclose(images.norm(dim=1), 1, atol=1e-6)
        np.testing.assert_allclose(texts.norm(dim=1), 1, atol=1e-6)
        torch.testing.assert_close(images, debiased.encode_image(pixels()))


@torch.inference_mode()
def test_forward_answers_in_the_models_own_form(model, method):
    debiased = repaired(model, method)
    images, texts = debiased.encode_image(pixels()), debiased.encode_text(tokens())
    scale = [model.logit_scale.exp()]
    bias = [] if model.logit_bias is None else [model.logit_bias]
    for found, expected in zip(
        debiased(pixels(), tokens()), [images, texts, *scale, *bias], strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(model(pixels(), tokens())) == 3 + len(bias)
    assert debiased(pixels())[1] is None
    assert debiased(text=tokens())[0] is None

    logits, turned = debiased.get_logits(pixels(), tokens())
    wanted = scale[0] * images @ texts.T + (bias[0] if bias else 0)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(turned, logits.T)
    assert not torch.allclose(logits, model.get_logits(pixels(), tokens())[0], atol=1e-2)


@torch.inference_mode()
def test_forward_answers_with_a_dictionary_where_the_model_does(method):
    torch.manual_seed(1)
    model = custom_text(output_dict=True, init_logit_bias=-10.0).eval()
    found = repaired(model, method)(pixels(), tokens())
    assert sorted(found) == sorted(model(pixels(), tokens()))
    expected = repaired(model, method).encode_text(tokens())
    torch.testing.assert_close(found["text_features"], expected)


def test_everything_else_is_the_models(model, method):
    debiased = repaired(model, method)
    assert debiased.visual is model.visual
    assert debiased.logit_scale is model.logit_scale
    assert debiased.logit_bias is model.logit_bias
    assert debiased.context_length == model.context_length == 12
    assert debiased.no_weight_decay() == model.no_weight_decay()
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = debiased.no_such_thing
    assert not hasattr(Repaired.__new__(Repaired), "visual")  # half made, as when unpickled


def test_the_model_itself_does_not_change(model, method):
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with torch.inference_mode():
        expected = model.encode_image(pixels())
        repaired(model, method)(pixels(), tokens())
        assert torch.equal(model.encode_image(pixels()), expected)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], each) for name, each in before.items())
    assert not model.training


def test_is_a_module_like_any_other(model, method):
    debiased = repaired(deepcopy(model), method)
    assert not debiased.training
    debiased.train()
    assert debiased.model.visual.training
    debiased.eval()
    assert not debiased.model.visual.training
    again = deepcopy(debiased)
    torch.testing.assert_close(again.encode_text(tokens()), debiased.encode_text(tokens()))
    state = debiased.state_dict()
    assert {name.split(".")[0] for name in state} == {"model", "images", "texts"}
    again.load_state_dict(state)
    wide = again.to(torch.float64)
    assert wide.encode_image(pixels().double()).dtype == torch.float64


def test_gradients_reach_the_towers(model, method):
    debiased = repaired(deepcopy(model), method)
    images, texts, *_ = debiased(pixels(), tokens()[:2])
    (images * texts).sum().backward()
    slopes = [each.grad for each in debiased.model.visual.parameters()]
    assert max(float(each.abs().max()) for each in slopes if each is not None) > 0


def test_nothing_left_is_nan(model):
    with torch.inference_mode():
        texts = model.encode_text(tokens())
    debiased = repaired(model, OrthogonalProjection().fit(spurious=texts[:1].double()))
    with torch.inference_mode():
        found = debiased.encode_text(tokens())
    assert found.isnan().all(dim=1).tolist() == [True, False, False]


def test_what_cannot_be_repaired_is_refused(model):
    method = OrthogonalProjection().fit(spurious=np.ones((1, 13)))
    debiased = repaired(model, method)
    with pytest.raises(InputError, match=r"images: .* \(2, 16\), but .* fitted on 13"):
        debiased.encode_image(pixels())
    with pytest.raises(InputError, match=r"texts: .* \(3, 16\), but .* fitted on 13"):
        debiased.encode_text(tokens())
    with pytest.raises(InputError, match="no intermediates"):
        debiased.forward_intermediates(pixels())
    with pytest.raises(InputError, match="the model is Linear; only CLIP and CustomTextCLIP"):
        repaired(torch.nn.Linear(2, 2), method)
    with pytest.raises(InputError, match="is not fitted"):
        repaired(model, OrthogonalProjection())


def test_a_repaired_model_is_not_repaired_again(model, method):
    with pytest.raises(InputError, match="the model is Repaired"):
        repaired(repaired(model, method), method)
