from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from m4.errors import InputError
from training.encode import LoadedModel, encode_images, encode_texts, load_checkpoint
from training.trainer import TrainSettings, train
from vision.model import ModelSettings


@pytest.fixture(scope="module")
def manifest(pictures, tmp_path_factory: pytest.TempPathFactory) -> str:
    # What copies say is of no concern here: every sample is encoded once.
    return pictures.manifest(tmp_path_factory.mktemp("manifest"), lambda number: number % 3)


@pytest.fixture(scope="module")
def run(
    manifest: str, small_model: ModelSettings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = TrainSettings(
        manifest=manifest, out=str(folder), model=small_model, steps=2, batch_size=16, threads=1
    )
    train(settings)
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> LoadedModel:
    return load_checkpoint(run)


def test_a_checkpoint_or_its_folder_is_loaded(run: Path, model: LoadedModel):
    assert model.step == 2 and not model.model.training
    assert model.settings.out == str(run) and model.settings.model.embed_dim == 32
    named = load_checkpoint(run / "step-00000002.pt")
    state = named.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.model.state_dict().items())
    with pytest.raises(InputError, match="no checkpoints"):
        load_checkpoint(run.parent)
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(run / "step-00000009.pt")


def test_every_sample_is_encoded_in_order(pictures, manifest: str, model: LoadedModel):
    seen = []
    found = encode_images(model, manifest, batch_size=25, progress=lambda *at: seen.append(at))
    assert found.uids == pictures.uids
    assert found.captions == [
        sample.caption for part in pictures.shards for sample in pictures.samples(part)
    ]
    assert found.features.shape == (60, 32) and found.features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-5)
    assert found.failures == () and seen == [(25, 60), (50, 60), (60, 60)]
    again = encode_images(model, manifest, batch_size=25)
    np.testing.assert_array_equal(found.features, again.features)
    other = encode_images(model, manifest, batch_size=7)
    np.testing.assert_allclose(found.features, other.features, atol=1e-5)
    assert len(np.unique(found.features.round(6), axis=0)) > 50


def test_texts(model: LoadedModel):
    texts = ["a red disc on blue", "a bar", "a red disc on blue"]
    features = encode_texts(model, texts, batch_size=2)
    assert features.shape == (3, 32) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features[0], features[2], atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 1e-3
    with pytest.raises(InputError, match="no texts"):
        encode_texts(model, [])


def test_what_cannot_be_read(tmp_path: Path, draw_pictures: Callable, model: LoadedModel):
    mine = draw_pictures(tmp_path / "tars", shards=2, each=10)
    folder = mine.manifest(tmp_path / "manifest")
    bad = mine.samples(mine.shards[1])[4]
    with open(mine.shards[1].path, "r+b") as tar:
        tar.seek(bad.span.offset + 512)
        tar.write(b"\0" * 200)
    with pytest.raises(InputError, match=r"1 of 20 samples cannot be read.*image cannot be"):
        encode_images(model, folder)
    found = encode_images(model, folder, max_failures=0.1)
    assert len(found.uids) == 19 and bad.uid not in found.uids
    assert [(failure.shard, failure.key) for failure in found.failures] == [("00001.tar", bad.key)]
    with pytest.raises(InputError, match="no committed tables"):
        encode_images(model, str(tmp_path / "tars"))
