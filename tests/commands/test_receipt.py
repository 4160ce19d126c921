"""The verb `receipt check`: what it prints, and exit codes 0, 1 and 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.console import console
from commands.main import main
from commands.receipt import NAMED
from pipelines.copies import Manifest
from pipelines.receipts import ReceiptWriter
from pipelines.tables import read_commit, read_table, write_table

Call = Callable[..., tuple[int, str, str]]
Consume = Callable[..., str]


@pytest.fixture(scope="module")
def applied(counted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose manifest uses every sample once, and a third of them twice."""
    run = Path(shutil.copytree(counted, tmp_path_factory.mktemp("applied") / "run"))
    here = ["--catalogue", str(run / "catalogue.yaml"), "--run", str(run)]
    assert main(["apply", *here, "--quiet", "--json"]) == 0
    return run


@pytest.fixture
def manifest(applied: Path, tmp_path: Path) -> str:
    """With weights of two levels, to be changed."""
    folder = str(shutil.copytree(applied / "manifest", tmp_path / "manifest"))
    for part in Manifest(folder).shards:
        table, commit = read_table(folder, part.stem), read_commit(folder, part.stem)
        assert commit is not None
        halves = table.append_column("weight", [[0.5 + row % 2 for row in range(len(table))]])
        write_table(folder, part.stem, halves, commit)
    return folder


@pytest.fixture
def consume(manifest: str, tmp_path: Path) -> Consume:
    """Writes the receipt of a consumer that reads all that `wanted` lets through."""

    def write(
        name: str,
        wanted: Callable[[str, float], bool] = lambda stem, weight: True,
        *,
        finished: bool = True,
    ) -> str:
        writer = ReceiptWriter(manifest)
        known = Manifest(manifest)
        for part in known.shards:
            rows = known.rows(part, 0)
            assert rows.weights is not None
            for key, copies, weight in zip(rows.keys, rows.copies, rows.weights, strict=True):
                if wanted(part.stem, weight):
                    writer.read(part.stem, *[key] * int(copies))
        path = str(tmp_path / name)
        writer.write(path, finished=finished)
        return path

    return write


@pytest.fixture
def check(
    manifest: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """Runs the verb on a terminal of 120 columns: exit code, and what was printed."""
    monkeypatch.setattr(console, "width", 120)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["receipt", "check", "--manifest", manifest, "--receipts", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def cells(out: str, name: str) -> list[str]:
    """The numbers of a table's row."""
    (line,) = (line for line in out.splitlines() if name in line)
    return line.replace("│", " ").removeprefix(" ").split(name)[1].split()


def test_what_was_read_as_planned_ends_with_0(check: Call, consume: Consume) -> None:
    code, out, errors = check(consume("a.json"), "--quiet")
    assert (code, errors) == (0, "")
    assert "Epoch 0, read" in out
    assert cells(out, " all ") == ["600", "600", "0", "0"]
    assert cells(out, "weight 0.5") == cells(out, "weight 1.5") == ["300", "300", "0", "0"]


def test_parts_are_added(check: Call, consume: Consume) -> None:
    parts = [
        consume("a.json", lambda stem, weight: stem == "00000"),
        consume("b.json", lambda stem, weight: stem != "00000", finished=False),
    ]
    assert check(*parts, "--quiet")[0] == 0
    assert check(parts[0], "--quiet")[0] == 1


def test_what_is_missing_is_named_and_ends_with_1(check: Call, consume: Consume) -> None:
    code, out, errors = check(consume("a.json", lambda stem, weight: stem != "00001"), "--quiet")
    assert code == 1
    assert "epoch 0: shard 00001: not read, 200 uses planned\n" in errors
    assert cells(out, " all ") == ["600", "400", "0", "200"]
    code, out, errors = check(consume("a.json", lambda stem, weight: weight < 1), "--quiet")
    assert code == 1 and "epoch 0: weight 1.5: not read, 300 uses planned\n" in errors


def test_a_stopped_epoch_says_how_much_was_read(check: Call, consume: Consume) -> None:
    stopped = consume("a.json", lambda stem, weight: stem != "00001", finished=False)
    code, out, errors = check(stopped, "--quiet")
    assert (code, errors) == (0, "") and "stopped when 66.7% was read" in out and "p = 1" in out
    thinned = consume("b.json", lambda stem, weight: weight < 1, finished=False)
    code, out, errors = check(thinned, "--quiet")
    assert code == 1 and "p = " in errors and "weight " in errors


def test_many_differences_are_cut_short(
    check: Call, consume: Consume, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = consume("a.json", lambda stem, weight: False)
    monkeypatch.setattr("commands.receipt.NAMED", 2)
    code, _, errors = check(nothing, "--quiet")
    assert NAMED > 2 and code == 1
    assert errors.splitlines()[-1] == "epoch 0: and 3 more (--json shows all)"
    assert len(errors.splitlines()) == 3
    code, out, _ = check(nothing, "--json")
    found = json.loads(out)
    assert code == 1 and found["agrees"] is False
    assert len(found["epochs"][0]["differences"]) == 5
    assert found["epochs"][0]["uses"] == {"planned": 600, "read": 0, "failed": 0}


def test_an_epoch_without_a_receipt_is_named(check: Call, consume: Consume, tmp_path: Path) -> None:
    first, later = (Path(consume(name)) for name in ("a.json", "c.json"))
    content = json.loads(later.read_text())
    later.write_text(json.dumps({**content, "epoch": 2}))
    code, _, errors = check(str(first), str(later), "--quiet")
    assert (code, errors) == (1, "epoch 1: no receipt\n")


def test_a_receipt_of_nothing_is_no_agreement(check: Call, consume: Consume) -> None:
    nothing = consume("a.json", lambda stem, weight: False, finished=False)
    code, _, errors = check(nothing, "--quiet")
    assert (code, errors) == (1, "epoch 0: all samples: not read, 600 uses planned\n")


def test_the_receipt_of_another_manifest(check: Call, consume: Consume, manifest: str) -> None:
    path = consume("a.json")
    commit = read_commit(manifest, "00000")
    assert commit is not None
    changed = commit.model_copy(update={"settings": "another seed"})
    write_table(manifest, "00000", read_table(manifest, "00000"), changed)
    code, out, errors = check(path, "--quiet")
    assert (code, out) == (1, "")
    assert errors.startswith(f"{path}: written for another content of the manifest")


def test_what_cannot_be_read_is_said_in_one_sentence(
    check: Call, consume: Consume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = check(str(tmp_path / "none.json"))
    assert code == 2 and "none.json: cannot be read" in errors
    (tmp_path / "half.json").write_text('{"manifest": ')
    code, _, errors = check(str(tmp_path / "half.json"))
    assert code == 2 and "half.json: not a receipt" in errors
    arguments = ["--manifest", str(tmp_path / "none"), "--receipts", consume("a.json")]
    assert main(["receipt", "check", *arguments]) == 2
    assert "no committed tables" in capsys.readouterr().err
