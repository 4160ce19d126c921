"""The verb `purge`: nothing goes without --yes, and what goes is listed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.main import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def solved(counted: Path, tmp_path: Path) -> Path:
    """A run with a policy and its manifest."""
    run = Path(shutil.copytree(counted, tmp_path / "run"))
    here = ["--catalogue", str(run / "catalogue.yaml"), "--run", str(run), "--quiet", "--json"]
    assert main(["solve", *here, "--eta", "0.6"]) == 0
    assert main(["apply", *here, "--policy", str(run / "policy.json")]) == 0
    return run


@pytest.fixture
def purge(solved: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the verb on the run; exit code, output and errors."""

    def call(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["purge", "--run", str(solved), *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_without_yes_it_is_only_said_what_would_go(purge: Call, solved: Path) -> None:
    before = sorted(solved.rglob("*"))
    code, out, errors = purge()
    assert (code, errors) == (0, "") and sorted(solved.rglob("*")) == before
    assert "To be deleted" in out and "annotations" in out and "patterns.parquet" in out
    assert "Nothing was deleted; add --yes to delete." in out and "report.html" not in out


def test_a_report_is_named_before_it_goes(purge: Call, solved: Path) -> None:
    assert main(["report", "--run", str(solved), "--pictures"]) == 0
    _, out, _ = purge()
    assert "report.html  " in out and (solved / "report.html").exists()
    assert "report.html may show pictures: to keep a report, write it without --pictures" in out
    _, out, _ = purge("--yes")
    assert "report.html" in out and not (solved / "report.html").exists()


def test_with_yes_it_goes(purge: Call, solved: Path) -> None:
    code, out, _ = purge("--yes")
    assert code == 0 and "Deleted" in out and "run.json says what was deleted" in out
    assert not (solved / "annotations").exists() and (solved / "policy.json").exists()
    assert len(list((solved / "manifest").glob("*.parquet"))) == 3
    assert main(["count", "--catalogue", str(solved / "catalogue.yaml"), "--run", str(solved)]) == 2
    assert main(["evidence", "--run", str(solved)]) == 0  # sums are left


def test_as_json(purge: Call, solved: Path) -> None:
    _, out, _ = purge("--json")
    shown = json.loads(out)
    assert shown["record"] is None
    _, out, _ = purge("--json", "--yes")
    done = json.loads(out)
    assert done["parts"] == shown["parts"] and done["record"]["stage"] == "purge"
    assert json.loads((solved / "run.json").read_text())["purge"] == done["record"]


def test_without_a_manifest_it_is_refused_in_one_sentence(purge: Call, solved: Path) -> None:
    code, out, errors = purge("--yes", "--manifest", "another")
    assert (code, out) == (2, "") and "run.json: no manifest 'another' was drawn" in errors
    assert len(errors.splitlines()) == 1 and (solved / "annotations").exists()
