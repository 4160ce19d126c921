import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m4.errors import InputError
from pipelines.shards import read_samples
from training.encode import MiddleSquare, encode_images, load_checkpoint
from training.trainer import TrainSettings, train
from vision.embedder import Embedder, Preprocessing
from vision.images import ImageFormat, centre_box, decode, fit
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
def model(run: Path) -> Embedder:
    return load_checkpoint(run)


def test_a_checkpoint_or_its_folder_is_loaded(run: Path, model: Embedder):
    assert not model.model.training and (model.size, model.dim) == (32, 32)
    named = load_checkpoint(run / "step-00000002.pt")
    state = named.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.model.state_dict().items())
    with pytest.raises(InputError, match="no checkpoints"):
        load_checkpoint(run.parent)
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(run / "step-00000009.pt")


def test_every_sample_is_encoded_in_order(pictures, manifest: str, model: Embedder):
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


def test_the_name_of_the_space_tells_checkpoints_apart(run: Path, model: Embedder, tmp_path: Path):
    path = run / "step-00000002.pt"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.name == f"small/step-00000002@{digest[:8]}"
    other = tmp_path / path.name
    shutil.copy(path, other)
    assert load_checkpoint(other).name == model.name
    content = torch.load(other, weights_only=True)
    content["model"]["logit_scale"] += 1
    torch.save(content, other)
    assert load_checkpoint(other).name != model.name


def test_pictures_are_seen_as_in_training(pictures, manifest: str, model: Embedder):
    """The features are those of the model's own encoder, on the middle square of each picture."""
    samples = [s for part in pictures.shards for s in read_samples(part, images=True)]
    size, seen = model.size, model.preprocessing.image_format
    pixels = []
    for sample in samples:
        picture = decode(sample.image, size)
        pixels.append(fit(picture, size, centre_box(*picture.size)))
    values = torch.from_numpy(np.stack(pixels)).float() / 255
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (seen.mean, seen.std))
    with torch.inference_mode():
        expected = model.model.encode_image((values - mean) / std, normalize=True).numpy()
    np.testing.assert_allclose(encode_images(model, manifest).features, expected, atol=1e-5)
    embedded = model.embed([decode(sample.image, size) for sample in samples])
    np.testing.assert_allclose(embedded, expected, atol=1e-5)


@pytest.mark.parametrize("side", [20, 32, 47, 64, 97, 130])
def test_of_square_pictures_open_clip_leaves_the_same(side: int):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    ours, its = MiddleSquare(ImageFormat(32)), Preprocessing(ImageFormat(32))
    np.testing.assert_array_equal(ours.pixels(picture), its.pixels(picture))


def test_texts(model: Embedder):
    texts = ["a red disc on blue", "a bar", "a red disc on blue"]
    features = model.encode_texts(texts)
    assert features.shape == (3, 32) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features[0], features[2], atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 1e-3
    assert model.encode_texts([]).shape == (0, 32)


def test_what_cannot_be_read(tmp_path: Path, draw_pictures: Callable, model: Embedder):
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
