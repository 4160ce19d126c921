"""A small demo run that the tests of the command line and of the report share."""

from pathlib import Path

import pytest

from commands.demo import DemoSettings, demo


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo at a tenth of its size: every stage real, training far too short to be any good."""
    run = tmp_path_factory.mktemp("demo") / "run"
    demo(DemoSettings(run=str(run), pictures=1000, gallery=200, steps=3, processes=1))
    return run
