"""Exported models, loaded by open_clip in a process that knows nothing of this package."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from debias import (
    CalibratedProjection,
    ClipClip,
    ClosedForm,
    FairerCLIP,
    GroupMeanProjection,
    Method,
    OrthogonalProjection,
)
from debias.open_clip_export import export_open_clip
from debias.repaired import repaired
from m4.errors import InputError
from training.encode import MiddleSquare
from vision.embedder import Embedder, Preprocessing
from vision.images import ImageFormat
from vision.model import ModelSettings, build_model, image_format, tokenizer
from vision.torchvision_guard import ensure_torchvision

D, SIZE = 16, 32
SMALL = ModelSettings(
    embed_dim=D,
    image_size=SIZE,
    image_width=32,
    image_layers=2,
    image_head_width=16,
    context_length=12,
    text_width=16,
    text_layers=1,
    text_heads=1,
)
VISION = {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 12, "width": 16, "heads": 1, "layers": 1}
TIMM = {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "tiny-export": {},
    "tiny-export-quickgelu": {"quick_gelu": True},
    "tiny-export-resnet": {
        "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
    },
    "tiny-export-timm": {
        "vision_cfg": {**TIMM, "timm_proj": "linear", "timm_proj_bias": True},
        "text_cfg": {**TEXT, "proj_bias": True},
        "custom_text": True,
    },
    "tiny-export-timm-mlp": {"vision_cfg": {**TIMM, "timm_proj": "mlp"}},
    "tiny-export-bare-text": {"text_cfg": {**TEXT, "proj_type": "none"}, "custom_text": True},
    "tiny-export-pooler": {"vision_cfg": {**VISION, "attentional_pool": True}},
    "tiny-export-hub": {"text_cfg": {**TEXT, "hf_tokenizer_name": "somebody/words"}},
    "tiny-export-wide": {"vision_cfg": {**VISION, "image_size": 48}},
    "tiny-export-heads": {"vision_cfg": {**VISION, "head_width": 8}},
    "tiny-export-long": {"text_cfg": {**TEXT, "context_length": 16}},
}
TEXTS = ["a photo of a nurse", "an engineer", "a chef at work, who is rather far away today"]

# Where torchvision's operators miss in an install, open_clip cannot be imported as it is.
LOADER = """
import os, sys
try:
    import torchvision
except RuntimeError:
    import torch
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import re, numpy, torch
from pathlib import Path
from PIL import Image
for folder in sys.argv[1:]:
    os.chdir(folder)
    lines = {}
    exec(re.search("```python\\n(.*?)```", Path("README.md").read_text(), re.DOTALL)[1], lines)
    model, preprocess, tokenizer = lines["model"].eval(), lines["preprocess"], lines["tokenizer"]
    given = numpy.load("../given.npz")
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    pixels = torch.from_numpy(given[f"pixels{size}"])
    pictures = [Image.fromarray(given[name]) for name in ("exact", "square", "oblong")]
    seen = torch.stack([preprocess(each) for each in pictures])
    tokens = tokenizer(given["texts"].tolist())
    with torch.inference_mode():
        images, texts, scale, *bias = model(pixels, tokens)
        pictures = model.encode_image(seen, normalize=True) if size == 32 else []
        numpy.savez(
            "found.npz", images=images, texts=texts, scale=scale, bias=bias, pictures=pictures,
            one=model.encode_image(pixels[:1], True), logits=model.get_logits(pixels, tokens)[0],
        )
assert not {"debias", "vision", "training", "m4"} & set(sys.modules)
"""


@pytest.fixture(scope="module", autouse=True)
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    ensure_torchvision()
    import open_clip
    from open_clip import factory

    folder = tmp_path_factory.mktemp("architectures")
    for name, changes in ARCHITECTURES.items():
        config = {"embed_dim": D, "vision_cfg": VISION, "text_cfg": TEXT, **changes}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS.remove(folder)
    for name in ARCHITECTURES:
        del factory._MODEL_CONFIGS[name]


def embedder_of(model: Any, settings: ModelSettings) -> Embedder:
    seen = image_format(model)
    return Embedder(model.eval(), tokenizer(settings), Preprocessing(seen), "small/made-up")


def small(loss: Any = "clip") -> Embedder:
    torch.manual_seed(0)
    return embedder_of(build_model(SMALL, loss), SMALL)


def named(name: str, loss: Any = "clip") -> Embedder:
    torch.manual_seed(1)
    model = build_model(ModelSettings(name=name), loss)
    with torch.no_grad():  # biases start at zero, where they cannot be told from none
        for part, each in model.named_parameters():
            if part.endswith("bias") and each.ndim:
                each.normal_(std=0.1)
            if part.startswith(("visual", "text.tr", "transformer")) and each.ndim > 1:
                each.mul_(3)  # random weights are so small that activations are as good as linear
    return embedder_of(model, ModelSettings(name=name))


def methods() -> dict[str, Method]:
    random = np.random.default_rng(5)
    few, images = random.normal(size=(4, D)), random.normal(size=(60, D))
    groups = images[:, 0] > 0
    return {
        "orthogonal": OrthogonalProjection().fit(spurious=few[:3]),
        "calibrated": CalibratedProjection(20.0).fit(
            spurious=few[:3], candidates=few, pairs=[(0, 3)]
        ),
        "clip-clip": ClipClip(9).fit(images=images, attributes=groups),
        "group means": GroupMeanProjection().fit(directions=few[:2]),
        "closed form": ClosedForm().fit(directions=few[:3]),
        "fairer": FairerCLIP(features=20).fit(
            images=images, attributes=groups, texts=few[:3], labels=np.arange(60) % 3
        ),
    }


@dataclass(frozen=True, eq=False)
class Case:
    """What is exported: a model, what was said of its shape, a method and how."""

    embedder: Embedder
    architecture: str | ModelSettings
    method: Method
    attached: bool = False


def cases() -> dict[str, Case]:
    known, first = methods(), small()
    biased = named("tiny-export-timm", "siglip")
    special = replace(
        first,
        preprocessing=Preprocessing(
            ImageFormat(SIZE, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), "squash", Image.Resampling.BILINEAR
        ),
    )
    trained = replace(first, preprocessing=MiddleSquare(ImageFormat(SIZE)))
    return {
        **{name: Case(first, SMALL, method) for name, method in known.items()},
        "siglip": Case(small("siglip"), SMALL, known["clip-clip"]),
        "siglip attached": Case(small("siglip"), SMALL, known["closed form"]),
        "squash": Case(special, SMALL, known["orthogonal"]),
        "trained": Case(trained, SMALL, known["clip-clip"]),
        "quick": Case(named("tiny-export-quickgelu"), "tiny-export-quickgelu", known["calibrated"]),
        "resnet": Case(named("tiny-export-resnet"), "tiny-export-resnet", known["clip-clip"]),
        "timm": Case(biased, "tiny-export-timm", known["clip-clip"]),
        "custom text attached": Case(biased, "tiny-export-timm", known["group means"]),
        "linear attached": Case(
            named("tiny-export-timm-mlp"), "tiny-export-timm-mlp", known["orthogonal"], True
        ),
    }


NAMES = [
    *("orthogonal", "calibrated", "clip-clip", "group means", "closed form", "fairer", "siglip"),
    *("siglip attached", "squash", "trained", "quick", "resnet", "timm", "custom text attached"),
    "linear attached",
]


@dataclass(frozen=True, eq=False)
class Exported:
    """What was exported, where it lies, what was given to it, and what it then said."""

    cases: dict[str, Case]
    folder: Path
    given: dict[str, np.ndarray]
    found: dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Every case, loaded by one process that starts outside of the repository."""
    folder, random = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    given = {
        f"pixels{SIZE}": random.normal(size=(3, 3, SIZE, SIZE)).astype(np.float32),
        "pixels160": random.normal(size=(3, 3, 160, 160)).astype(np.float32),
        "exact": random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        "square": smooth(random, 90, 90),
        "oblong": smooth(random, 61, 90),
        "texts": np.array(TEXTS),
    }
    np.savez(folder / "given.npz", **given)
    made = cases()
    assert list(made) == NAMES
    for name, case in made.items():
        export_open_clip(
            folder / name, case.embedder, case.method, case.architecture, attached=case.attached
        )
    load(folder, list(made))
    found = {name: np.load(folder / name / "found.npz") for name in made}
    return Exported(made, folder, given, found)


def load(folder: Path, names: list[str]) -> None:
    command = [sys.executable, "-c", LOADER, *(str(folder / name) for name in names)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def smooth(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A picture whose edges are wider than a pixel, as those of photographs."""
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


@pytest.mark.parametrize("name", NAMES)
def test_open_clip_alone_says_what_the_wrapper_and_the_method_say(exported, name):
    case, found = exported.cases[name], exported.found[name]
    model = case.embedder.model
    pixels = torch.from_numpy(exported.given[f"pixels{case.embedder.size}"])
    tokens = case.embedder.tokenize(TEXTS)
    wrapped = repaired(model, case.method)
    with torch.inference_mode():
        rows = (model.encode_image(pixels).numpy(), model.encode_text(tokens).numpy())
        expected = [each.numpy() for each in wrapped(pixels, tokens)]
        logits = wrapped.get_logits(pixels, tokens)[0].numpy()
    np.testing.assert_allclose(found["images"], expected[0], atol=1e-5)
    np.testing.assert_allclose(found["texts"], expected[1], atol=1e-5)
    np.testing.assert_allclose(found["images"], case.method.transform_images(rows[0]), atol=1e-5)
    np.testing.assert_allclose(found["texts"], case.method.transform_texts(rows[1]), atol=1e-5)
    np.testing.assert_allclose(found["one"], found["images"][:1], atol=1e-6)
    np.testing.assert_array_equal(found["scale"], expected[2])
    np.testing.assert_array_equal(found["bias"], expected[3:])
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-3)
    if found["texts"].shape == rows[1].shape:
        assert np.abs(found["texts"] - unit(rows[1])).max() > 0.01  # something was done


@pytest.mark.parametrize("name", ["orthogonal", "clip-clip", "group means", "squash", "trained"])
def test_pictures_are_seen_as_the_embedder_sees_them(exported, name):
    case, found = exported.cases[name], exported.found[name]["pictures"]
    embedder = replace(case.embedder, model=repaired(case.embedder.model, case.method))
    pictures = [Image.fromarray(exported.given[key]) for key in ("exact", "square", "oblong")]
    expected = embedder.embed(pictures)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    assert (found * expected).sum(axis=1).min() > 0.999
    assert (found[:-1] * expected[1:]).sum(axis=1).max() < 0.99  # which tells pictures apart


def test_a_smaller_dimension_is_that_of_the_model(exported):
    for name in ("clip-clip", "siglip", "resnet", "timm"):
        assert exported.found[name]["images"].shape == (3, 9)
        config = json.loads((exported.folder / name / "open_clip_config.json").read_text())
        assert config["model_cfg"]["embed_dim"] == 9


def test_a_folder_holds_what_is_needed_and_no_more(exported):
    for name, case in exported.cases.items():
        files = {path.name for path in (exported.folder / name).iterdir()} - {"found.npz"}
        model = {"README.md", "open_clip_config.json", "open_clip_model.safetensors"}
        linear = case.method.image_matrix is not None and not case.attached
        assert files == (model if linear else {*model, "images.pt2", "texts.pt2"})
        text = (exported.folder / name / "README.md").read_text()
        assert type(case.method).__name__ in text
        assert str(exported.folder) not in text  # it can be moved
        assert len(re.findall("encode_text", text)) == (0 if linear else 4)
    assert not list(exported.folder.glob("*.partial"))


def test_programs_name_no_files_of_this_machine(exported):
    import debias

    (home,) = debias.__path__
    for path in exported.folder.glob("*/*.pt2"):
        with zipfile.ZipFile(path) as archive:
            for part in archive.namelist():
                assert home.encode() not in archive.read(part), (path, part)


@pytest.mark.parametrize("modality", ["images", "texts"])
def test_programs_can_be_moved_and_have_gradients(exported, modality):
    for path in exported.folder.glob(f"*/{modality}.pt2"):
        program = torch.export.load(path).module()
        rows = torch.randn(3, D, requires_grad=True)
        (slope,) = torch.autograd.grad(program(rows)[:, 0].sum(), rows)
        assert slope.abs().max() > 1e-3
        assert program.to("meta")(torch.empty(5, D, device="meta")).device.type == "meta"


def test_an_attached_model_is_the_given_one(exported):
    from safetensors.torch import load_file

    case = exported.cases["group means"]
    weights = load_file(exported.folder / "group means" / "open_clip_model.safetensors")
    state = case.embedder.model.state_dict()
    assert set(weights) == set(state)
    assert all(torch.equal(weights[name], each) for name, each in state.items())


def test_the_given_model_does_not_change(tmp_path: Path):
    embedder = small()
    before = {name: each.clone() for name, each in embedder.model.state_dict().items()}
    export_open_clip(tmp_path / "new" / "folder", embedder, methods()["clip-clip"], SMALL)
    after = embedder.model.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items())
    again = tmp_path / "again"
    export_open_clip(again, embedder, methods()["clip-clip"], SMALL)
    for path in again.iterdir():
        assert path.read_bytes() == (tmp_path / "new" / "folder" / path.name).read_bytes()


def refused(tmp_path: Path, said: str, *given: Any, **more: Any) -> None:
    """The export is refused, and leaves nothing."""
    with pytest.raises(InputError, match=said):
        export_open_clip(tmp_path / "folder", *given, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny-export-timm-mlp", "images: the tower TimmModel has no last projection .*attached"),
        ("tiny-export-pooler", "weights do not fit into it: .*attached=True"),
        ("tiny-export-hub", "the tokenizer somebody/words of the hub"),
    ],
)
def test_a_tower_that_cannot_be_folded_into_is_refused(tmp_path: Path, name: str, said: str):
    torch.manual_seed(0)
    config = {key: value for key, value in ARCHITECTURES[name].items() if key == "vision_cfg"}
    architecture = name if config else "tiny-export"
    embedder = named(architecture)
    refused(tmp_path, said, embedder, methods()["clip-clip"], name)


def test_a_text_tower_without_a_projection_is_refused(tmp_path: Path):
    settings = ModelSettings(name="tiny-export")
    model = build_model(ModelSettings(name="tiny-export-bare-text"), "clip")
    said = "texts: the tower TextTransformer has no last projection"
    bare = embedder_of(model, settings)
    refused(tmp_path, said, bare, methods()["orthogonal"], "tiny-export-bare-text")


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("tiny-export-wide", "it wants .*size=48.* but the embedder makes .*size=32"),
        ("tiny-export-heads", "embeddings of images are .* off the model's"),
        ("tiny-export-quickgelu", "embeddings of images are .* off the model's"),
        ("tiny-export-long", "gives other tokens"),
        ("tiny-export-resnet", "weights do not fit into it"),
        ("no-such-model", "open_clip has none of the name 'no-such-model'"),
        (ModelSettings(embed_dim=D), "weights do not fit into it"),
        (ModelSettings(), "embeddings of 64 numbers, but .* fitted on 16"),
    ],
)
@pytest.mark.parametrize("name", ["orthogonal", "closed form"])
def test_another_architecture_than_the_models_is_refused(
    tmp_path: Path, architecture: Any, said: str, name: str
):
    refused(tmp_path, said, named("tiny-export"), methods()[name], architecture)


def test_what_is_no_model_of_open_clip_is_refused(tmp_path: Path):
    embedder, method = small(), methods()["clip-clip"]
    linear = replace(embedder, model=torch.nn.Linear(2, 2))
    refused(tmp_path, "the model is Linear; only CLIP and", linear, method, SMALL)
    twice = replace(embedder, model=repaired(embedder.model, method))
    refused(tmp_path, "the model is Repaired; only CLIP and", twice, method, SMALL)


def test_a_method_that_does_not_fit_is_refused(tmp_path: Path):
    embedder = small()
    refused(tmp_path, "is not fitted", embedder, OrthogonalProjection(), SMALL)
    for method in (
        OrthogonalProjection().fit(spurious=np.ones((1, 13))),
        ClosedForm().fit(directions=np.eye(2, 13)),
    ):
        refused(tmp_path, "fitted on 13", embedder, method, SMALL)


def test_what_is_there_is_not_touched(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_open_clip(tmp_path / "folder", small(), methods()["orthogonal"], SMALL)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mine"]


def test_an_export_that_is_cut_off_leaves_no_folder(tmp_path: Path, monkeypatch: Any):
    import open_clip

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(open_clip, "create_model", full)
    with pytest.raises(OSError, match="no space"):
        export_open_clip(tmp_path / "folder", small(), methods()["orthogonal"], SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RN50", "ViT-B-32-quickgelu", "convnext_tiny"])
def test_architectures_of_open_clip_itself(tmp_path: Path, name: str):
    torch.manual_seed(0)
    settings = ModelSettings(name=name)
    embedder = embedder_of(build_model(settings, "clip"), settings)
    random = np.random.default_rng(0)
    images = random.normal(size=(60, embedder.dim))
    method = ClipClip(400).fit(images=images, attributes=images[:, 0] > 0)
    export_open_clip(tmp_path / name, embedder, method, name)  # which compares them
    assert (tmp_path / name / "open_clip_config.json").is_file()
