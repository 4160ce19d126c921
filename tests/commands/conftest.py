"""A small run directory, annotated and counted through the command line."""

from pathlib import Path

import pytest
import yaml

from commands.main import main
from synthetic.shards import write_shards
from synthetic.world import WorldSettings

CATALOGUE = {
    "name": "people",
    "purpose": "a test",
    "sensitive": {
        "gender": {
            "describes": "perceived gender",
            "values": {
                "woman": {"target": 0.5, "terms": ["woman"]},
                "man": {"target": 0.5, "terms": ["man"]},
            },
        }
    },
    "labels": {
        name: {"terms": [name]} for name in ("firefighter", "nurse", "chef", "mechanic", "teacher")
    },
    "tolerances": {"representation": 0.01, "association": 0.05},
}


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 pictures, ready to be solved, with their catalogue.yaml. Not to be changed."""
    folder = tmp_path_factory.mktemp("counted")
    write_shards(folder / "shards", WorldSettings(pictures=600, picture_size=32, shards=3))
    run, catalogue = folder / "run", folder / "catalogue.yaml"
    catalogue.write_text(yaml.safe_dump(CATALOGUE, sort_keys=False))
    here = ["--catalogue", str(catalogue), "--run", str(run), "--quiet", "--json"]
    assert main(["annotate", "--shards", str(folder / "shards"), *here]) == 0
    assert main(["count", *here]) == 0
    return run
