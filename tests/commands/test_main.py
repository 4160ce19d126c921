"""What a person meets at the command line: help, one clear sentence for bad input, exit codes."""

import json
import re
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from commands.main import VERBS, main
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
    "labels": {"firefighter": {"terms": ["firefighter"]}, "nurse": {"terms": ["nurse"]}},
    "tolerances": {"representation": 0.01, "association": 0.01},
}


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump(CATALOGUE, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, WorldSettings(pictures=400, picture_size=32, shards=2))
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code and what was printed; argument errors leave by SystemExit."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that a refused call ends with; above it, progress at most."""
    code, _, errors = call(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in errors
    *above, message = errors.splitlines()
    assert message.startswith("error: ") and not any("error" in line for line in above), errors
    return message


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    assert f"m4-balance {verb}" in out and "--quiet" in out and "--json" in out


def test_no_verb_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys)[0] == 2
    assert "annotte" in refused(capsys, "annotte")


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = call(capsys, "count", "--run", "r", "--catalogue", "c", "--fast")
    assert code == 2 and "--fast" in errors


def annotate(shards: Path | str, catalogue: Path, run: Path) -> list[str]:
    return ["annotate", "--shards", str(shards), "--catalogue", str(catalogue), "--run", str(run)]


def test_no_shards(tmp_path: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *annotate(tmp_path / "nowhere", catalogue, tmp_path / "run"))
    assert str(tmp_path / "nowhere") in message and "no shards" in message


def test_an_empty_tar(tmp_path: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "00000.tar"
    tarfile.open(path, "w").close()
    message = refused(capsys, *annotate(path, catalogue, tmp_path / "run"))
    assert "00000.tar" in message and "empty shard" in message


def test_a_catalogue_with_an_unknown_key(
    tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(yaml.safe_dump({**CATALOGUE, "sensitve": {}}))
    message = refused(capsys, *annotate(shards, path, tmp_path / "run"))
    assert str(path) in message and "`sensitve`" in message


def test_targets_that_do_not_sum_to_one(
    tmp_path: Path, catalogue: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue.write_text(catalogue.read_text().replace("target: 0.5", "target: 0.6", 1))
    message = refused(capsys, *annotate(shards, catalogue, tmp_path / "run"))
    assert "sum to 1.1" in message and "woman, man" in message


def test_a_missing_catalogue(
    tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *annotate(shards, tmp_path / "none.yaml", tmp_path / "run"))
    assert "none.yaml: no such file" in message


def test_stages_one_by_one_and_an_infeasible_rate(
    tmp_path: Path, catalogue: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stages through the command line, then tolerances that cannot be met."""
    run = tmp_path / "run"
    here = ["--catalogue", str(catalogue), "--run", str(run)]
    assert call(capsys, *annotate(shards, catalogue, run), "--quiet")[0] == 0
    code, out, _ = call(capsys, "count", *here, "--json")
    assert code == 0 and json.loads(out)["rows_in"] == 400
    message = refused(capsys, "solve", *here, "--eta", "0.99")
    named = re.split(r" conflict;| forbids it;", message.split(f"rate {0.99}: ")[1])[0]
    conflicts = named.split(", ")
    labels = ("", " & firefighter", " & nurse")
    assert set(conflicts) <= {
        f"gender.{who}{label}" for who in ("woman", "man") for label in labels
    }
    largest = float(message.split("largest feasible rate is ")[1].split(";")[0])
    code, out, _ = call(capsys, "solve", *here, "--eta", str(largest - 0.001), "--json")
    certificate = json.loads(out)["certificate"]
    assert code == 0 and certificate["gap"] < 1e-6 and certificate["max_violation"] < 1e-8
    code, out, _ = call(
        capsys, "apply", *here, "--policy", str(run / "policy.json"), "--quiet", "--json"
    )
    assert code == 0
    record = json.loads(out)
    assert record["rows_in"] == record["kept"] + record["dropped"] + record["failed"] == 400
    assert 0 < record["dropped"] < 400


def test_run_takes_the_settings_file_as_its_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    assert "settings.yaml: no such file" in refused(capsys, "run", str(path))
    path.write_text("run: r\ncatalogue: c.yaml\nshards: [s.tar]\nsovle: {}\n")
    assert "unknown key `sovle`" in refused(capsys, "run", str(path), "--quiet")


def test_it_runs_as_an_installed_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "commands.main", "solve", "--run", "x", "--catalogue", "none.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: none.yaml: no such file\n"


@pytest.mark.parametrize("verb", ["validate", "reshard"])
def test_what_the_system_refuses_is_said_in_a_sentence(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    module = import_module(f"commands.{verb}")
    monkeypatch.setattr(module, verb, refuse)
    given = {"validate": ["--shards", "x.tar"], "reshard": ["--run", "r", "--out", "o"]}
    assert main([verb, *given[verb], "--quiet"]) == 2
    assert capsys.readouterr().err == "error: /somewhere: Permission denied\n"
