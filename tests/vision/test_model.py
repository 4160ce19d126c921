import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from m4.errors import InputError
from vision.images import OPENAI_MEAN, ImageFormat
from vision.model import ModelSettings, build_model, image_format, tokenizer


def test_a_model_of_given_sizes(small_model: ModelSettings):
    model = build_model(small_model, "clip")
    tokens = tokenizer(small_model)(["a red disc", "word " * 50])
    assert tokens.shape == (2, 10) and tokens.dtype == torch.int64
    assert model.encode_text(tokens).shape == (2, 32)
    assert model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 32)
    assert model.token_embedding.num_embeddings == 49408
    assert image_format(model) == ImageFormat(32)
    assert model.logit_bias is None
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_siglip_starts_where_its_paper_says(small_model: ModelSettings):
    model = build_model(small_model, "siglip")
    assert model.logit_bias.item() == -10
    assert model.logit_scale.item() == pytest.approx(math.log(10))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "ViT-B-32", "image_size": 32}, "image_size has no effect with name 'ViT-B-32'"),
        ({"pretrained": "weights.pt"}, "`pretrained` needs the `name`"),
        ({"patch_size": 15}, "patch_size 15 does not divide image_size 64"),
        ({"text_heads": 3}, "text_heads 3 does not divide text_width 64"),
        ({"image_head_width": 64}, "image_head_width 64 does not divide image_width 96"),
        ({"depth": 3}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other(given: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**given)


def test_a_named_architecture_with_a_local_checkpoint(tmp_path: Path, tiny_architecture: str):
    plain = ModelSettings(name=tiny_architecture)
    source = build_model(plain, "clip")
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    tuned = ModelSettings(name=tiny_architecture, pretrained=str(tmp_path / "weights.pt"))
    loaded = build_model(tuned, "clip")
    state = source.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert tokenizer(tuned)(["a disc"]).shape == (1, 12)
    assert image_format(loaded) == ImageFormat(32, mean=OPENAI_MEAN)
    assert build_model(plain, "siglip").logit_bias.item() == -10


def test_names_and_files_that_are_not_there(tmp_path: Path, tiny_architecture: str):
    with pytest.raises(InputError, match="no architecture 'ViT-Z'"):
        build_model(ModelSettings(name="ViT-Z"), "clip")
    with pytest.raises(InputError, match=r"no-such\.pt is no file and no tag of tiny-test"):
        build_model(ModelSettings(name=tiny_architecture, pretrained="no-such.pt"), "clip")
    torch.save({"another": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"tiny-test with .*other\.pt cannot be built"):
        build_model(
            ModelSettings(name=tiny_architecture, pretrained=str(tmp_path / "other.pt")), "clip"
        )
