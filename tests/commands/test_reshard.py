"""The verb `reshard`: what it prints, and exit codes 0 and 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.main import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reshard(counted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the verb on a run whose manifest uses every sample once."""
    run = Path(shutil.copytree(counted, tmp_path / "run"))
    catalogue = ["--catalogue", str(counted.parent / "catalogue.yaml")]
    assert main(["apply", "--run", str(run), *catalogue, "--quiet"]) == 0

    def call(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["reshard", "--run", str(run), "--quiet", *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_a_person_sees_what_was_kept(reshard: Call, tmp_path: Path) -> None:
    code, printed, _ = reshard("--out", str(tmp_path / "out"), "--shard-size", "150")
    assert code == 0
    assert "600" in printed
    sizes = json.loads((tmp_path / "out" / "sizes.json").read_text())
    assert sizes == {f"{number:08d}.tar": 150 for number in range(4)}


def test_a_program_reads_the_record(reshard: Call, tmp_path: Path) -> None:
    code, printed, _ = reshard("--out", str(tmp_path / "out"), "--json")
    assert code == 0
    record = json.loads(printed)
    assert (record["kept"], record["failed"]) == (600, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--manifest", "other"), "no committed tables"),
        (("--scratch", "/tmp"), "scratch has no effect"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    reshard: Call, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    code, _, error = reshard("--out", str(tmp_path / "out"), *options)
    assert code == 2
    assert said in error
    assert "Traceback" not in error


def test_a_folder_that_was_begun_otherwise_is_named(reshard: Call, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert reshard("--out", out, "--shard-size", "150")[0] == 0
    code, _, error = reshard("--out", out, "--shard-size", "100")
    assert code == 2
    assert f"error: {out}: was begun with other samples or settings" in error
