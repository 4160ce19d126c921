"""The verb `validate`: what it prints, and exit codes 0, 1 and 2."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.main import main
from pipelines.mending import KINDS

Call = Callable[..., tuple[int, str, str]]


def write_shard(path: Path, *names: str) -> None:
    """Write a tar of small members."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            is_folder = name.endswith("/")
            info.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
            info.size = 0 if is_folder else 1
            tar.addfile(info, io.BytesIO(b"x"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clean shard, one with a warning, one with errors."""
    write_shard(tmp_path / "shards" / "clean.tar", "a.jpg", "a.txt")
    write_shard(tmp_path / "shards" / "folder.tar", "f/", "f/a.jpg", "f/a.txt")
    write_shard(tmp_path / "shards" / "wrong.tar", "a.jpg", "b.jpg", "a.txt", "b.txt", "c.txt")
    return tmp_path / "shards"


@pytest.fixture
def validate(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the verb on shards; exit code, output and errors."""

    def call(shards: Path, *options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["validate", "--shards", str(shards), "--quiet", *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_a_clean_shard(validate: Call, folder: Path) -> None:
    code, out, errors = validate(folder / "clean.tar")
    assert (code, errors) == (0, "")
    assert "1 shards, 1 samples that can be used" in out and "nothing is wrong" in out
    assert json.loads(validate(folder / "clean.tar", "--json")[1]) == {
        "shards": 1,
        "samples": 1,
        "findings": [],
    }


def test_a_warning_is_no_error(validate: Call, folder: Path) -> None:
    code, out, errors = validate(folder / "folder.tar")
    assert (code, errors) == (0, "")
    assert "│ folder " in out and "warning" in out and "nothing is wrong" not in out


def test_errors_with_what_they_do_and_how_to_mend_them(validate: Call, folder: Path) -> None:
    code, out, errors = validate(folder)
    assert code == 1
    assert errors == "the shards have errors: 2 x interleaved members, 1 x no image\n"
    assert "3 shards, 2 samples that can be used" in out
    assert max(map(len, out.splitlines())) <= 80
    line = next(line for line in out.splitlines() if line.startswith("│ interleaved members"))
    assert [cell.strip() for cell in line.strip("│").split("│")][1:] == ["error", "2", "1"]
    flat = " ".join(out.split())
    for kind in ("interleaved members", "no image", "folder"):
        assert KINDS[kind].effect in flat and KINDS[kind].mend in flat
    assert out.index("no image") < out.index("folder")  # errors come first


def test_as_json(validate: Call, folder: Path) -> None:
    code, out, _ = validate(folder, "--json")
    findings = json.loads(out)["findings"]
    assert code == 1
    assert [each["kind"]["name"] for each in findings] == [
        "interleaved members",
        "no image",
        "folder",
    ]
    first = findings[0]
    assert (first["name"], first["offset"]) == ("a", 2048)
    assert first["shard"] == str(folder / "wrong.tar")
    assert validate(folder, "--json")[1] == out


def test_tables_of_all_faults(validate: Call, folder: Path, tmp_path: Path) -> None:
    assert validate(folder, "--output", str(tmp_path / "faults"))[0] == 1
    names = sorted(path.name for path in (tmp_path / "faults").glob("*.parquet"))
    assert names == ["clean.parquet", "folder.parquet", "wrong.parquet"]


def test_what_cannot_be_used_is_said_in_one_sentence(validate: Call, folder: Path) -> None:
    code, out, errors = validate(folder / "none")
    assert (code, out) == (2, "") and "no shards (*.tar) found" in errors
    code, out, errors = validate(folder, "--runner", "FlinkRunner")
    assert (code, out) == (2, "") and "give an output folder" in errors
    assert len(errors.splitlines()) == 1


def test_names_with_brackets_are_printed_as_they_are(validate: Call, tmp_path: Path) -> None:
    write_shard(tmp_path / "odd" / "0.tar", "d[/].1.jpg", "d[/].1.txt", "[bold]x.jpg")
    code, printed, _ = validate(tmp_path / "odd")
    assert code == 1
    assert "d[/].1" in printed
    assert "[bold]x" in printed


def test_tables_of_something_else_are_not_overwritten(
    validate: Call, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    marker = {"shard": "x", "size": 1, "modified": 1.0, "settings": "x", "rows": 1}
    (tmp_path / "other" / "clean.json").write_text(json.dumps(marker))
    code, _, error = validate(folder, "--output", str(tmp_path / "other"))
    assert code == 2
    assert "there are other tables in the output folder" in error
