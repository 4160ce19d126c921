"""What the tests of several packages share: a small demo run, a model that takes milliseconds."""

import json
from pathlib import Path

import pytest

from commands.demo import DemoSettings, demo
from vision.model import ModelSettings
from vision.torchvision_guard import ensure_torchvision


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo at a tenth of its size: every stage real, training far too short to be any good."""
    run = tmp_path_factory.mktemp("demo") / "run"
    demo(DemoSettings(run=str(run), pictures=1000, gallery=200, steps=3, processes=1))
    return run


@pytest.fixture(scope="session")
def small_model() -> ModelSettings:
    """A model that takes milliseconds."""
    return ModelSettings(
        embed_dim=32,
        image_size=32,
        patch_size=8,
        image_width=48,
        image_layers=2,
        image_head_width=24,
        context_length=10,
        text_width=32,
        text_layers=1,
        text_heads=1,
    )


@pytest.fixture(scope="session")
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An architecture added to open_clip's list, as its users add their own."""
    ensure_torchvision()
    import open_clip

    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16
        },
        "text_cfg": {"context_length": 12, "width": 16, "heads": 1, "layers": 1},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "tiny-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return "tiny-test"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the repository; skips the test where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder.name} of a folder `shared` beside the repository")
    return folder
