"""The verb `apply`: what it prints of the balance and of opt-outs, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from commands.main import main
from pipelines.record import StageRecord, read_run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def once(counted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(counted, tmp_path_factory.mktemp("solved") / "run"))
    here = ["--catalogue", str(run / "catalogue.yaml"), "--run", str(run)]
    assert main(["solve", *here, "--eta", "0.6", "--quiet", "--json"]) == 0
    return run


@pytest.fixture
def solved(once: Path, tmp_path: Path) -> Path:
    """A solved run, to be changed."""
    return Path(shutil.copytree(once, tmp_path / "run"))


@pytest.fixture
def call(solved: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the verb on the run; exit code, output and errors."""

    def with_options(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        here = ["--catalogue", str(solved / "catalogue.yaml"), "--run", str(solved), "--quiet"]
        code = main(["apply", *here, *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return with_options


@pytest.fixture
def uids(solved: Path) -> list[str]:
    paths = sorted((solved / "annotations").glob("*.parquet"))
    return [uid for path in paths for uid in pq.read_table(path)["uid"].to_pylist()]


def balance_lines(printed: str) -> dict[str, list[str]]:
    """The rows of the table of balance by their names."""
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in printed.split("Balance, the largest of each")[1].splitlines()
        if line.startswith("│")
    ]
    return {cells[0]: cells[1:] for cells in rows if cells[0]}


def test_the_balance_is_shown_from_the_original_to_what_was_drawn(call: Call, solved: Path) -> None:
    code, out, _ = call("--policy", str(solved / "policy.json"), "--weights")
    assert code == 0
    found = read_run(str(solved))["apply manifest"].balance
    assert found is not None
    rows = balance_lines(out)
    for name, balance in found.stages.items():
        realised, bias = balance.realised, balance.bias
        assert rows[name] == [
            f"{realised.copies:,.0f}",
            f"{realised.max_violation:.1e}",
            f"{bias.representation_bias:.4f}",
            f"{bias.association_bias:.4f}",
        ]
    assert list(rows) == ["original", "planned", "quantised weights", "drawn"]
    assert max(map(len, out.splitlines())) <= 80
    assert "Opted out" not in out


def test_without_a_policy_there_is_no_balance_to_show(call: Call) -> None:
    code, out, _ = call()
    assert code == 0 and "Balance" not in out
    assert "600" in out


def test_opt_out_lists_are_shown_with_what_they_name(
    call: Call, solved: Path, uids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("\n".join(uids[::10]))
    (tmp_path / "none.txt").write_text("0" * 32)
    lists = ["--opt-out-uids", str(tmp_path / "some.txt"), str(tmp_path / "none.txt")]
    code, out, _ = call("--policy", str(solved / "policy.json"), *lists)
    assert code == 0
    assert "after opt-outs" in balance_lines(out.split("Opted out")[0])
    found = read_run(str(solved))["apply manifest"].opt_outs
    assert found is not None
    assert [each.matched for each in found.lists] == [60, 0]
    last = [line for line in out.split("Opted out")[1].splitlines() if "in all" in line]
    assert f"{found.copies_lost:.2%} of the copies" in last[0] and " 60 " in last[0]
    assert "state no url" not in out


def test_of_few_who_opted_out_no_share_is_shown(
    call: Call, solved: Path, uids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text(uids[0])
    policy = ["--policy", str(solved / "policy.json")]
    code, out, _ = call(*policy, "--opt-out-uids", str(tmp_path / "one.txt"))
    assert code == 0 and "after opt-outs" not in out
    last = [line for line in out.split("Opted out")[1].splitlines() if "in all" in line]
    assert "copies" not in last[0] and " 1 " in last[0]
    code, _, errors = call(*policy)
    assert code == 2 and "was drawn without 1 samples that opted out" in errors
    assert len(errors.splitlines()) == 1


def test_as_json_it_is_the_record(
    call: Call, solved: Path, uids: list[str], tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("\n".join(uids[:30]))
    options = [
        "--policy",
        str(solved / "policy.json"),
        "--opt-out-uids",
        str(tmp_path / "some.txt"),
    ]
    code, out, _ = call(*options, "--json")
    found = json.loads(out)
    assert code == 0
    assert StageRecord.model_validate(found) == read_run(str(solved))["apply manifest"]
    stages = found["balance"]
    assert stages["quantised"] is None
    before, after = stages["planned"], stages["after_opt_outs"]
    assert after["realised"]["max_violation"] > before["realised"]["max_violation"]
    assert found["opt_outs"]["samples"] == 30


def test_what_cannot_be_used_is_said_in_one_sentence(
    call: Call, solved: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("https://a.org/x.jpg\n" + "a" * 40)
    code, out, errors = call("--opt-out-urls", str(bad))
    assert (code, out) == (2, "") and len(errors.splitlines()) == 1
    assert f"{bad}, line 2" in errors and "only SHA-256" in errors
    bad.write_text("https://a.org/x.jpg\n")
    code, _, errors = call("--opt-out-urls", str(bad))
    assert code == 2 and "no sample's metadata states a url" in errors
    (solved / "patterns.parquet").unlink()
    code, _, errors = call("--policy", str(solved / "policy.json"), "--weights")
    assert code == 2 and "patterns.parquet: no such table; run count first" in errors
