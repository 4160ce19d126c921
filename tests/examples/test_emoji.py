"""The emoji example, small: planted exactly, annotated well, balanced to the tolerance."""

import csv
import json
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

from commands.run import load_settings, run
from m4.catalogue import load_catalogue

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "emoji"
DATA = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not (DATA / "emoji").is_dir(), reason="the emoji shards are not beside this checkout"
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("emoji") / "shards"
    subprocess.run(
        [
            sys.executable,
            str(EXAMPLE / "plant_skew.py"),
            str(DATA / "emoji"),
            str(DATA / "occupations"),
            str(out),
        ],
        check=True,
    )
    return out


def metadata(shards: Path) -> list[dict]:
    found = []
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [
                json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                for member in tar
                if member.name.endswith(".json")
            ]
    return found


def test_the_share_of_women_is_that_of_the_labour_statistics(planted: Path) -> None:
    drawn = Counter((entry["role"], entry["gender"]) for entry in metadata(planted))
    with open(DATA / "occupations" / "kay2015_occupations_bls_vs_search.csv") as stream:
        statistics = {
            row["search_term"]: float(row["bls_p_women"]) for row in csv.DictReader(stream)
        }
    for role, term in (("pilot", "pilot"), ("health worker", "nurse"), ("cook", "cook")):
        women, men = drawn[role, "female"], drawn[role, "male"]
        assert women + men == 150
        assert abs(women / 150 - statistics[term]) <= 0.5 / 150


def test_the_same_seed_plants_the_same_bytes(planted: Path, tmp_path: Path) -> None:
    arguments = [str(DATA / "emoji"), str(DATA / "occupations"), str(tmp_path / "again")]
    subprocess.run([sys.executable, str(EXAMPLE / "plant_skew.py"), *arguments], check=True)
    for path in planted.glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_chain_on_the_planted_shards(planted: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((EXAMPLE / "settings.yaml").read_text())
    content |= {
        "run": str(tmp_path / "run"),
        "catalogue": str(EXAMPLE / "catalogue.yaml"),
        "shards": [str(planted)],
        "gallery": [str(DATA / "emoji" / "twemoji-0000[01].tar")],
        "seeds": [0, 1],
        "parallel": 1,
    }
    content["train"] |= {"steps": 2, "checkpoint_every": 2}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    contents = run(load_settings(path))
    assert contents.data.before.association_bias > 0.05
    assert contents.data.planned.all_within
    assert contents.policy.certificate.relative_gap < 1e-6
    found = contents.agreement
    for value in ("gender.woman", "gender.man"):
        assert found[value].precision == found[value].recall == 1.0
        # A fifth of the captions were made to leave the gender out.
        assert found[value].coverage == pytest.approx(0.8, abs=0.01)
    for label in load_catalogue(EXAMPLE / "catalogue.yaml").labels:
        assert found[label].recall == 1.0
        assert (found[label].precision or 0) > 0.9
    assert {trial.arm for trial in contents.trials} == {"original", "balanced"}
    assert (tmp_path / "run" / "report.html").stat().st_size < 2_000_000
