"""The whole chain: what it leaves behind, that it goes on, and what it refuses."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from commands.demo import DemoSettings, demo, run_settings
from commands.run import RunSettings, load_settings
from evaluation.evaluate import Evaluation
from m4.errors import InputError
from m4.policy import Policy
from pipelines.record import read_run


def test_the_run_directory_holds_every_product(demo_run: Path) -> None:
    for name in ("catalogue.yaml", "patterns.parquet", "drawn.parquet", "run.json", "report.html"):
        assert (demo_run / name).is_file(), name
    for arm in ("original", "balanced"):
        for seed in (0, 1, 2):
            assert list((demo_run / "checkpoints" / f"{arm}-{seed}").glob("step-*.pt"))
            Evaluation.load(demo_run / "evaluation" / f"{arm}-{seed}.json")


def test_every_stage_accounts_for_every_row(demo_run: Path) -> None:
    records = read_run(str(demo_run))
    assert {"annotate", "count", "solve", "apply manifest", "train balanced-0"} <= set(records)
    for record in records.values():
        assert record.rows_in == record.kept + record.dropped + record.failed
    assert records["annotate"].rows_in == 1000


def test_the_policy_is_certified_and_every_cell_is_inside(demo_run: Path) -> None:
    from reporting.contents import read_contents

    policy = Policy.load(demo_run / "policy.json")
    assert policy.certificate.relative_gap < 1e-6
    contents = read_contents(demo_run)
    assert contents.data.planned.all_within and not contents.data.before.all_within
    assert contents.data.before.association_bias > 5 * contents.data.planned.association_bias


def test_running_again_changes_no_byte_but_the_clock(demo_run: Path) -> None:
    def digests() -> dict[str, str]:
        files = [path for path in sorted(demo_run.rglob("*")) if path.is_file()]
        return {
            str(path.relative_to(demo_run)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name not in ("run.json", "report.html")  # they tell seconds
        }

    before = digests()
    demo(DemoSettings(run=str(demo_run), pictures=1000, gallery=200, steps=3, processes=1))
    assert digests() == before


def write(tmp_path: Path, **changes: object) -> Path:
    content = {
        "run": str(tmp_path / "run"),
        "catalogue": "catalogue.yaml",
        "shards": ["shards"],
        **changes,
    }
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trian": {}}, "`trian`"),
        ({"solve": {"etta": 0.5}}, "solve: unknown key `etta`"),
        ({"solve": {"eta": -1}}, "solve: eta"),
        ({"train": {"steps": 0}}, "train: steps"),
        ({"train": {"seed": 3}}, "the run decides this"),
        ({"annotate": {"annotators": ["faces"]}}, "annotators"),
        ({"parallel": 0}, "parallel"),
    ],
)
def test_a_mistake_in_the_settings_is_found_before_any_work(
    tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as refused:
        load_settings(path)
    assert str(path) in str(refused.value) and named in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_settings_that_are_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(InputError, match=r"settings\.yaml"):
        load_settings(path)


def test_the_demo_is_a_run_like_any_other() -> None:
    settings = run_settings(DemoSettings(run="runs/x"))
    again = RunSettings.model_validate(json.loads(settings.model_dump_json()))
    assert again.model_dump_json() == settings.model_dump_json()


def test_a_demo_of_another_size_does_not_overwrite_this_one(demo_run: Path) -> None:
    with pytest.raises(InputError, match="another run directory"):
        demo(DemoSettings(run=str(demo_run), pictures=1001, gallery=200, steps=3, processes=1))
