"""Embedders of models that take milliseconds, and the preprocessing of all of them."""

import io
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m4.errors import InputError
from training.checkpoints import Checkpoint, save_checkpoint
from vision import embedder as module
from vision.embedder import (
    RESAMPLING,
    Embedder,
    Preprocessing,
    load_embedder,
    shortest_box,
    usable_device,
)
from vision.images import ImageFormat, decode_all, normalise
from vision.model import ModelSettings, build_model, tokenizer
from vision.torchvision_guard import ensure_torchvision

SIDES = st.integers(1, 300)


def picture(number: int, width: int = 60, height: int = 40) -> Image.Image:
    """Soft blobs: what a photograph has in common with a random picture."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def model(small_model: ModelSettings) -> Any:
    torch.manual_seed(0)
    return build_model(small_model, "clip").eval()


@pytest.fixture(scope="module")
def embedder(model: Any, small_model: ModelSettings) -> Embedder:
    return Embedder(model, tokenizer(small_model), Preprocessing.of(model), "small", batch_size=4)


@pytest.fixture(scope="module")
def weights(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the small model as a state dictionary."""
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An architecture added to open_clip's list, as its users add their own."""
    ensure_torchvision()
    import open_clip

    folder = tmp_path_factory.mktemp("architectures")
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16
        },
        "text_cfg": {"context_length": 12, "width": 16, "heads": 1, "layers": 1},
    }  # fmt: skip
    for name, quick in (("tiny-embedder", False), ("tiny-embedder-quickgelu", True)):
        content = {**config, "quick_gelu": quick}
        (folder / f"{name}.json").write_text(json.dumps(content))
    open_clip.add_model_config(folder)
    return "tiny-embedder"


@pytest.fixture(scope="module")
def tiny_weights(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    torch.manual_seed(1)
    torch.save(build_model(ModelSettings(name=tiny), "clip").state_dict(), path)
    return path


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch, tiny: str) -> Callable[..., None]:
    """Gives the tiny architecture tags with these configurations."""
    import open_clip

    def give(**configured: dict[str, Any]) -> None:
        monkeypatch.setattr(
            open_clip,
            "list_pretrained_tags_by_model",
            lambda name: list(configured) if name.startswith(tiny) else [],
        )
        monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: configured[tag])

    return give


class TestPreprocessing:
    @pytest.mark.parametrize("resize", ["shortest", "squash"])
    @pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
    @settings(deadline=None)  # the first example imports open_clip
    @given(number=st.integers(0, 9), width=SIDES, height=SIDES, size=st.integers(1, 80))
    def test_agrees_with_open_clip(
        self, resize: Any, interpolation: str, number: int, width: int, height: int, size: int
    ):
        ensure_torchvision()
        from open_clip.transform import image_transform

        image = picture(number, width, height)
        ours = Preprocessing(ImageFormat(size), resize, RESAMPLING[interpolation])
        theirs = image_transform(size, False, resize_mode=resize, interpolation=interpolation)
        mine, its = normalise([ours.pixels(image)], ours.image_format)[0], theirs(image)
        assert mine.shape == its.shape
        # two steps of the 256 at most: ours rounds once where theirs rounds twice
        assert float((mine - its).abs().max()) < 2.5 / 255 / min(ours.image_format.std)
        cosine = torch.nn.functional.cosine_similarity(mine.flatten(), its.flatten(), dim=0)
        assert float(cosine) > 0.9995 or float(its.norm()) < 0.1 * its.numel() ** 0.5

    @given(width=SIDES, height=SIDES, size=st.integers(1, 300))
    def test_the_box_is_the_middle_to_a_pixel(self, width: int, height: int, size: int):
        left, top, right, bottom = shortest_box(width, height, size)
        pixel = max(1.0, min(width, height) / size)
        assert left >= 0 and top >= 0 and right <= width + 1e-9 and bottom <= height + 1e-9
        assert abs(left - (width - right)) <= 2 * pixel
        assert abs(top - (height - bottom)) <= 2 * pixel
        assert right - left == pytest.approx(bottom - top, abs=pixel)

    @pytest.mark.parametrize(
        ("kind", "side", "least"),
        [
            ("PNG", 900, 0.9999),
            ("PNG", 300, 0.9999),
            ("PNG", 130, 0.9999),
            ("JPEG", 90, 0.9999),
            ("JPEG", 640, 0.995),  # decoded at a quarter of its size
            ("JPEG", 300, 0.995),
        ],
    )
    def test_agrees_with_open_clip_from_bytes_on(self, kind: str, side: int, least: float):
        ensure_torchvision()
        from open_clip.transform import image_transform

        ours, theirs = Preprocessing(ImageFormat(64)), image_transform(64, False)
        for number in range(4):
            stream = io.BytesIO()
            picture(number, side, side * 5 // 6).save(stream, kind)
            (decoded,) = decode_all([stream.getvalue()], 64)
            assert isinstance(decoded, Image.Image)
            mine = normalise([ours.pixels(decoded)], ours.image_format).flatten()
            its = theirs(Image.open(stream).convert("RGB")).flatten()
            assert torch.nn.functional.cosine_similarity(mine, its, dim=0) > least

    def test_of_a_model(self, model: Any):
        assert Preprocessing.of(model) == Preprocessing(ImageFormat(32))
        given = {"mean": [0.5] * 3, "resize_mode": "squash", "interpolation": "bilinear"}
        found = Preprocessing.of(model, given)
        assert found.image_format.mean == (0.5, 0.5, 0.5)
        assert (found.resize, found.resample) == ("squash", Image.Resampling.BILINEAR)

    @pytest.mark.parametrize("given", [{"resize_mode": "longest"}, {"interpolation": "random"}])
    def test_of_another_kind(self, model: Any, given: dict[str, str]):
        with pytest.raises(InputError, match=f"{next(iter(given.values()))}.*; only shortest or"):
            Preprocessing.of(model, given)


class TestEmbedding:
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=11))
    def test_is_of_unit_length_and_row_by_row(self, embedder: Embedder, numbers: list[int]):
        found = embedder.embed([picture(number) for number in numbers])
        assert found.shape == (len(numbers), 32) and found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        for row, number in zip(found, numbers, strict=True):
            np.testing.assert_allclose(row, embedder.embed([picture(number)])[0], atol=1e-5)

    def test_is_the_models_own(self, embedder: Embedder, model: Any):
        from open_clip.transform import image_transform

        pictures = [picture(number, 90, 50 + number) for number in range(5)]
        theirs = torch.stack([image_transform(32, False)(each) for each in pictures])
        with torch.inference_mode():
            expected = model.encode_image(theirs, normalize=True).numpy()
        assert (embedder.embed(pictures) * expected).sum(axis=1).min() > 0.9999

    def test_tells_pictures_apart(self, embedder: Embedder):
        found = embedder.embed([picture(0), picture(1), picture(0)])
        assert np.array_equal(found[0], found[2]) and not np.allclose(found[0], found[1])

    def test_batches_and_threads_change_nothing(self, embedder: Embedder, model: Any):
        pictures = [picture(number) for number in range(13)]
        other = Embedder(
            model, embedder.tokenize, embedder.preprocessing, "x", batch_size=5, threads=3
        )
        np.testing.assert_allclose(embedder.embed(pictures), other.embed(pictures), atol=1e-5)

    def test_the_next_batch_is_resized_while_the_model_runs(self, embedder: Embedder):
        """The first forward pass ends only when the second batch is there."""
        second, threads = threading.Event(), set()

        class Seen(Preprocessing):
            count = 0

            def pixels(self, given: Image.Image) -> np.ndarray:
                Seen.count += 1
                threads.add(threading.current_thread())
                if Seen.count == 8:
                    second.set()
                return super().pixels(given)

        class Slow(Embedder):
            def forward(self, pixels: np.ndarray) -> np.ndarray:
                assert second.wait(20)
                return super().forward(pixels)

        seen = Seen(embedder.preprocessing.image_format)
        slow = Slow(embedder.model, embedder.tokenize, seen, "slow", batch_size=4, threads=2)
        assert len(slow.embed([picture(0)] * 12)) == 12
        assert threading.current_thread() not in threads

    def test_nothing(self, embedder: Embedder):
        assert embedder.embed([]).shape == (0, 32) == embedder.encode_texts([]).shape

    def test_size_and_dimension(self, embedder: Embedder):
        assert (embedder.size, embedder.dim) == (32, 32)

    def test_no_gradients_are_kept(self, embedder: Embedder):
        embedder.embed([picture(0)])
        assert all(each.grad is None for each in embedder.model.parameters())

    def test_texts(self, embedder: Embedder, model: Any):
        texts = ["a woman", "a man", "a nurse at work", "", "a chef", "a man"]
        found = embedder.encode_texts(texts)
        with torch.inference_mode():
            expected = model.encode_text(embedder.tokenize(texts), normalize=True).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found[1], found[5], atol=1e-6)
        assert found.dtype == np.float32

    def test_half_precision_is_for_cuda(self, embedder: Embedder, model: Any):
        on_cuda = Embedder(
            model, embedder.tokenize, embedder.preprocessing, "cuda", device="cuda:0"
        )
        with embedder._precision():
            assert not torch.is_autocast_enabled("cpu")
        if torch.cuda.is_available():
            with on_cuda._precision():
                assert torch.get_autocast_dtype("cuda") == torch.bfloat16

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA on this machine")
    def test_cuda_says_what_the_cpu_says(self, weights: Path, small_model: ModelSettings):
        pictures = [picture(number) for number in range(9)]
        cpu, cuda = (load_embedder(small_model, weights, device=each) for each in ("cpu", "cuda"))
        assert (cpu.embed(pictures) * cuda.embed(pictures)).sum(axis=1).min() > 0.99
        assert (cpu.encode_texts(["a"]) * cuda.encode_texts(["a"])).sum() > 0.99


class TestLoading:
    def test_a_small_model(self, embedder: Embedder, weights: Path, small_model: ModelSettings):
        found = load_embedder(small_model, weights, device="cpu", batch_size=3, threads=2)
        assert found.name.startswith("small/weights@") and len(found.name) == 22
        assert (found.device, found.batch_size, found.threads) == ("cpu", 3, 2)
        pictures = [picture(number) for number in range(4)]
        np.testing.assert_allclose(found.embed(pictures), embedder.embed(pictures), atol=1e-5)

    @pytest.mark.parametrize("loss", ["clip", "siglip"])
    def test_a_checkpoint_of_the_trainer(
        self, tmp_path: Path, small_model: ModelSettings, loss: Any
    ):
        model = build_model(small_model, loss).eval()
        state = Checkpoint(
            7, {}, "m", model.state_dict(), {}, [torch.get_rng_state()], 0, 0, 0, 0.0, [], {}, {}
        )
        path = save_checkpoint(tmp_path, state, final=True)
        found = load_embedder(small_model, path, device="cpu", name="ours")
        assert found.name == "ours"
        expected = model.encode_text(found.tokenize(["a"]), normalize=True)[0].detach().numpy()
        np.testing.assert_allclose(found.encode_texts(["a"])[0], expected, atol=1e-5)

    def test_a_named_architecture(self, tiny: str, tiny_weights: Path):
        found = load_embedder(tiny, tiny_weights, device="cpu")
        again = load_embedder(tiny, str(tiny_weights), device="cpu", threads=1)
        assert found.name == again.name and found.name.startswith("tiny-embedder/tiny@")
        assert found.dim == 16 and not found.model.training
        assert np.array_equal(found.embed([picture(0)]), again.embed([picture(0)]))
        assert found.encode_texts(["a disc"]).shape == (1, 16)

    def test_other_weights_are_another_space(self, tiny: str, tiny_weights: Path, tmp_path: Path):
        torch.save(build_model(ModelSettings(name=tiny), "clip").state_dict(), tmp_path / "tiny.pt")
        names = {load_embedder(tiny, p).name for p in (tiny_weights, tmp_path / "tiny.pt")}
        assert len(names) == 2

    def test_arguments_can_be_sent_to_a_worker(self, small_model: ModelSettings, weights: Path):
        arguments = pickle.loads(pickle.dumps((small_model, weights)))
        assert load_embedder(*arguments).name == load_embedder(small_model, weights).name

    def test_a_tag_names_its_space(
        self, tiny: str, tags: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ):
        tags(plain={}, quick={"quick_gelu": True})
        built = []

        def build(settings: ModelSettings, loss: str) -> Any:
            built.append(settings)
            return build_model(settings.model_copy(update={"pretrained": None}), "clip")

        monkeypatch.setattr(module, "build_model", build)
        assert load_embedder(tiny, "plain").name == "tiny-embedder/plain"
        assert load_embedder(f"{tiny}-quickgelu", "quick").name == "tiny-embedder/quick"
        assert [each.pretrained for each in built] == ["plain", "quick"]

    @pytest.mark.parametrize(
        ("suffix", "tag", "message"),
        [
            ("", "quick", "quick was trained with quick GELU; take the .* tiny-embedder-quickgelu"),
            ("-quickgelu", "plain", "plain was trained with GELU; take the .* tiny-embedder$"),
        ],
    )
    def test_a_tag_with_another_activation(
        self, tiny: str, tags: Callable[..., None], suffix: str, tag: str, message: str
    ):
        tags(plain={}, quick={"quick_gelu": True})
        with pytest.raises(InputError, match=message):
            load_embedder(tiny + suffix, tag)


class TestPreprocessingOfAFile:
    """A checkpoint file does not say how its pictures were preprocessed; its architecture may."""

    def test_all_tags_want_the_same(self, tiny: str, tiny_weights: Path, tags: Callable[..., None]):
        siglip = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
        tags(one=siglip, two={**siglip, "hf_hub": "another/"})
        found = load_embedder(tiny, tiny_weights).preprocessing
        assert found == Preprocessing(ImageFormat(32, (0.5,) * 3, (0.5,) * 3), "squash")

    def test_tags_that_differ(self, tiny: str, tiny_weights: Path, tags: Callable[..., None]):
        tags(one={"resize_mode": "squash"}, two={"resize_mode": "shortest"})
        with pytest.raises(InputError, match=r"tiny\.pt: .* differ .* preprocess_as: one, two"):
            load_embedder(tiny, tiny_weights)
        found = load_embedder(tiny, tiny_weights, preprocess_as="one")
        assert found.preprocessing.resize == "squash"
        with pytest.raises(InputError, match="tiny-embedder has no tag 'three'"):
            load_embedder(tiny, tiny_weights, preprocess_as="three")

    def test_no_effect(
        self, tiny: str, tags: Callable[..., None], small_model: ModelSettings, weights: Path
    ):
        tags(one={})
        with pytest.raises(InputError, match="preprocess_as has no effect on the tag one"):
            load_embedder(tiny, "one", preprocess_as="one")
        with pytest.raises(InputError, match="preprocess_as has no effect on a small model"):
            load_embedder(small_model, weights, preprocess_as="one")

    def test_open_clips_own_list(self):
        """What the rule rests on: for most architectures all tags want the same."""
        ensure_torchvision()
        import open_clip

        unclear = set()
        for name in {name for name, _ in open_clip.list_pretrained()}:
            known = open_clip.list_pretrained_tags_by_model(name)
            kinds = [module._given(open_clip.get_pretrained_cfg(name, tag)) for tag in known]
            assert all(kind.get("resize_mode") != "longest" for kind in kinds)
            if any(kind != kinds[0] for kind in kinds):
                unclear.add(name)
        assert "ViT-L-14" in unclear and "ViT-B-32" not in unclear and len(unclear) < 10


class TestWrongArguments:
    def test_no_weights(self):
        with pytest.raises(InputError, match="pretrained: ViT-B-32 has random weights without"):
            load_embedder("ViT-B-32", None)

    def test_names_and_files_that_are_not_there(self, tiny: str, small_model: ModelSettings):
        with pytest.raises(InputError, match="no architecture 'ViT-Z'"):
            load_embedder("ViT-Z", "x.pt")
        with pytest.raises(InputError, match=r"gone\.pt is no file and no tag of tiny-embedder"):
            load_embedder(tiny, "gone.pt")
        with pytest.raises(InputError, match=r"gone\.pt: no such checkpoint"):
            load_embedder(small_model, "gone.pt")

    def test_weights_of_another_model(
        self, tmp_path: Path, small_model: ModelSettings, tiny_weights: Path, weights: Path
    ):
        with pytest.raises(InputError, match=r"tiny\.pt: not a checkpoint of this model: "):
            load_embedder(small_model, tiny_weights)
        (tmp_path / "text.pt").write_text("no weights")
        with pytest.raises(InputError, match=r"text\.pt: not a checkpoint of this model"):
            load_embedder(small_model, tmp_path / "text.pt")
        with pytest.raises(InputError, match="give the name 'ViT-B-32' itself"):
            load_embedder(ModelSettings(name="ViT-B-32"), weights)

    @pytest.mark.parametrize("content", [b"file,gender\na.png,f\n", b"", b"\x80\x02K\x01."])
    def test_a_file_that_is_no_checkpoint(self, tiny: str, tmp_path: Path, content: bytes):
        (tmp_path / "labels.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"labels\.csv(: not a checkpoint|.* cannot be built)"):
            load_embedder(tiny, tmp_path / "labels.csv")

    @pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", ""])
    def test_no_device(self, device: str):
        with pytest.raises(InputError, match="is not one of auto, cpu, cuda"):
            usable_device(device)

    @pytest.mark.parametrize("there", [0, 2])
    def test_devices(self, monkeypatch: pytest.MonkeyPatch, there: int):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
        assert usable_device("cpu") == "cpu"
        assert usable_device("auto") == ("cuda" if there else "cpu")
        with pytest.raises(InputError, match=f"cuda:2 is not here, torch sees {there} of CUDA"):
            usable_device("cuda:2")
        if there:
            assert usable_device("cuda:1") == "cuda:1"
        else:
            with pytest.raises(InputError, match="device: cuda is not here"):
                usable_device("cuda")
