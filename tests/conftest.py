"""What the tests of several packages share: a small demo run, a model that takes milliseconds."""

from pathlib import Path

import pytest

from commands.demo import DemoSettings, demo
from vision.model import ModelSettings


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
