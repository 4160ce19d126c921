"""The verbs `export` and `import-subset`: what is printed, for a person, a shell and a program."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from commands.console import console
from commands.main import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a verb on a terminal of 100 columns: exit code, and what was printed."""
    monkeypatch.setattr(console, "width", 100)

    def shown(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = main([*map(str, arguments), "--quiet"])
        except SystemExit as stop:  # of an argument that the parser refuses
            code = stop.code if isinstance(stop.code, int) else 1
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return shown


@pytest.fixture
def imported(counted: Path, tmp_path: Path, call: Call) -> Path:
    """A manifest of the drawn pictures, each once."""
    shards = counted.parent / "shards"
    code, out, _ = call("import-subset", "--shards", shards, "--run", tmp_path / "run", "--json")
    assert code == 0 and json.loads(out)["copies"] == 600
    return tmp_path / "run" / "manifest"


@pytest.fixture
def resharded(tmp_path: Path) -> Path:
    folder = tmp_path / ("a long name with blanks " * 4)
    folder.mkdir()
    names = [f"{i:08d}.tar" for i in range(12)]
    for name in names:
        (folder / name).touch()
    (folder / "sizes.json").write_text(json.dumps({name: 1000 for name in names}))
    return folder


def test_a_subset_is_exported_and_imported(
    call: Call, imported: Path, counted: Path, tmp_path: Path
) -> None:
    subset = tmp_path / "subset.npy"
    code, out, errors = call(
        "export", "--manifest", imported, "--format", "datacomp", "--output", subset
    )
    assert (code, errors) == (0, "")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    assert ["uids", "600"] in cells and ["copies", "600"] in cells
    np.save(subset, np.load(subset)[:400])
    shards, theirs = counted.parent / "shards", tmp_path / "theirs"
    code, out, _ = call("import-subset", "--subset", subset, "--shards", shards, "--run", theirs)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    assert code == 0
    assert ["uids of the subset", "400"] in cells and ["not found in the shards", "0"] in cells
    assert ["import-subset manifest", "600", "400", "200", "0"] in [line[:5] for line in cells]


def test_a_program_reads_what_was_exported(call: Call, imported: Path, tmp_path: Path) -> None:
    output = tmp_path / "groups"
    code, out, _ = call(
        "export", "--manifest", imported, "--format", "mosaicml", "--output", output, "--json"
    )
    content = json.loads(out)
    assert code == 0
    assert content["counts"] == {"shards": 3, "samples": 600, "copies": 600, "streams": 1}
    assert content["files"] == [str(output / "1x.parquet"), str(output / "streams.json")]


def test_arguments_are_one_line_of_a_shell(call: Call, resharded: Path) -> None:
    """However narrow the terminal; what a person should know stands apart."""
    code, out, errors = call("export", "--format", "open-clip", "--shards", resharded)
    assert code == 0 and out.count("\n") == 1
    arguments = shlex.split(out)
    assert arguments[:2] == ["--train-data", f"{resharded}/{{00000000..00000011}}.tar"]
    assert errors.startswith("note: leave out --dataset-resampled") and "--siglip" in errors
    _, out, _ = call("export", "--format", "open-clip", "--shards", resharded, "--json")
    assert json.loads(out) == arguments


def test_the_function_is_printed_as_python(call: Call, imported: Path) -> None:
    code, out, errors = call("export", "--manifest", imported, "--format", "webdataset")
    assert (code, errors) == (0, "")
    names: dict[str, object] = {}
    exec(out, names)
    assert callable(names["draw"])
    _, out_json, _ = call("export", "--manifest", imported, "--format", "webdataset", "--json")
    assert "\n".join(json.loads(out_json)) + "\n" == out


def test_refusals_are_one_sentence(
    call: Call, imported: Path, counted: Path, tmp_path: Path
) -> None:
    code, out, errors = call("export", "--format", "open-clip", "--shards", tmp_path)
    assert (code, out) == (2, "")
    assert errors.splitlines() == [
        f"error: {tmp_path}/sizes.json: no such file; reshard writes it when all shards are written"
    ]
    (tmp_path / "uids.txt").write_text("0" * 32)
    arguments = ["--subset", tmp_path / "uids.txt", "--shards", counted.parent / "shards"]
    code, _, errors = call("import-subset", *arguments, "--run", tmp_path / "run")
    assert code == 2
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert "1 of its 1 uids are in no shard" in errors


def test_an_option_without_effect_is_refused(call: Call, imported: Path, tmp_path: Path) -> None:
    code, _, errors = call(
        "export", "--manifest", imported, "--format", "webdataset", "--output", tmp_path / "x"
    )
    assert code == 2
    assert "output has no effect with format webdataset" in " ".join(errors.split())
    assert not (tmp_path / "x").exists()
