"""A run that grows: what stands is not drawn again, and what is added is weighed the same way."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.policy import Policy
from m4.sampling import draw_copies
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings
from pipelines.stages import annotate, apply, count
from pipelines.tables import to_patterns


@pytest.fixture
def settings(tmp_path: Path, catalogue_path: Path, policy_path: Path) -> ApplySettings:
    return ApplySettings(
        run=str(tmp_path / "run"), catalogue=str(catalogue_path), policy=str(policy_path), seed=3
    )


@pytest.fixture
def shards(
    tmp_path: Path, people: Callable[[int], list[Any]], write_shards: Callable[..., Any]
) -> Path:
    """Six shards, of which the first four come first."""
    write_shards(tmp_path / "shards", people(360), 6)
    return tmp_path / "shards"


def annotate_some(settings: ApplySettings, shards: Path, *numbers: int) -> None:
    annotate(
        AnnotateSettings(
            shards=tuple(str(shards / f"0000{i}.tar") for i in numbers),
            catalogue=settings.catalogue,
            run=settings.run,
            annotators=("captions", "fields"),
        )
    )


def files(settings: ApplySettings) -> dict[str, bytes]:
    folder = Path(settings.run) / settings.manifest
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def times(settings: ApplySettings) -> dict[str, int]:
    folder = Path(settings.run) / settings.manifest
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_more_shards_leave_what_was_drawn_as_it_stands(
    settings: ApplySettings, shards: Path, catalogue: Catalogue, policy_path: Path
) -> None:
    annotate_some(settings, shards, 0, 1, 2, 3)
    first = apply(settings)
    before, written = files(settings), times(settings)
    annotate_some(settings, shards, 0, 1, 2, 3, 4, 5)
    record = apply(settings)
    assert {name: times(settings)[name] for name in written} == written
    assert set(files(settings)) - set(before) == {
        *("00004.json", "00004.parquet", "00005.json", "00005.parquet")
    }
    assert (first.rows_in, record.rows_in) == (240, 360)
    # The new ones are drawn with the weights that the policy gives them, and all are measured.
    for stem in ("00004", "00005"):
        marks = pq.read_table(Path(settings.run) / "annotations" / f"{stem}.parquet")
        weights = Policy.load(policy_path).weights(to_patterns(marks, catalogue))
        wanted = draw_copies(weights, marks["uid"].to_pylist(), seed=3)
        drawn = pq.read_table(Path(settings.run) / "manifest" / f"{stem}.parquet")
        assert drawn["copies"].to_pylist() == wanted.tolist()
    assert first.balance is not None and record.balance is not None
    assert record.balance.drawn.realised.examples == 360
    assert record.balance.drawn.realised.copies > first.balance.drawn.realised.copies


def test_the_order_in_which_shards_come_does_not_show(
    settings: ApplySettings, shards: Path
) -> None:
    annotate_some(settings, shards, 0, 1, 2, 3, 4, 5)
    at_once = apply(settings).balance
    wanted = files(settings)
    shutil.rmtree(settings.run)
    for numbers in ((5, 2), (5, 2, 0), (4, 3, 5, 2, 0, 1)):
        annotate_some(settings, shards, *numbers)
        found = apply(settings).balance
    assert files(settings) == wanted
    assert found == at_once


def test_a_growing_run_calibrates_anew(settings: ApplySettings, shards: Path) -> None:
    """Thresholds are those of all samples, so that each of them may be drawn otherwise."""
    calibrated = settings.model_copy(update={"design": "calibrated"})
    counting = CountSettings(run=settings.run, catalogue=settings.catalogue)
    annotate_some(settings, shards, 0, 1, 2, 3)
    count(counting)
    apply(calibrated)
    before = files(settings)
    annotate_some(settings, shards, 0, 1, 2, 3, 4, 5)
    count(counting)
    apply(calibrated)
    assert all(files(settings)[name] != before[name] for name in before if name.endswith("json"))


def test_a_growing_run_has_levels_of_all_samples(settings: ApplySettings, shards: Path) -> None:
    """Levels are those of all samples; copies are drawn from the weights, and stay."""
    weighted = settings.model_copy(update={"weights": True})
    counting = CountSettings(run=settings.run, catalogue=settings.catalogue)
    folder = Path(settings.run) / "manifest"
    annotate_some(settings, shards, 0, 1, 2, 3)
    count(counting)
    apply(weighted)
    before = pq.read_table(folder / "00000.parquet")
    annotate_some(settings, shards, 0, 1, 2, 3, 4, 5)
    count(counting)
    apply(weighted)
    after = pq.read_table(folder / "00000.parquet")
    assert after["copies"].equals(before["copies"])
    assert not after["weight"].equals(before["weight"])


APPLY = """
import sys
from pipelines.settings import ApplySettings
from pipelines.stages import apply
apply(ApplySettings.model_validate_json(sys.argv[1]))
"""


def test_a_run_that_is_killed_between_shards_goes_on_to_the_same_bytes(
    settings: ApplySettings,
    tmp_path: Path,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> None:
    write_shards(tmp_path / "many", people(3000), 100)
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "many"),),
            catalogue=settings.catalogue,
            run=settings.run,
            annotators=("captions", "fields"),
        )
    )
    (tmp_path / "urls").write_text("0" * 32)
    settings = settings.model_copy(update={"opt_out_uids": (str(tmp_path / "urls"),)})
    whole = settings.model_copy(update={"manifest": "whole"})
    wanted = apply(whole)
    folder = Path(settings.run) / settings.manifest
    worker = subprocess.Popen([sys.executable, "-c", APPLY, settings.model_dump_json()])
    try:
        while len(list(folder.glob("*.json"))) < 5:
            assert worker.poll() is None, "ended before it could be killed"
            time.sleep(0.002)
    finally:
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
    assert 5 <= len(list(folder.glob("*.json"))) < 100
    record = apply(settings)
    made = {name: content for name, content in files(settings).items() if "partial" not in name}
    assert made == files(whole)
    assert record.balance == wanted.balance and record.opt_outs == wanted.opt_outs
