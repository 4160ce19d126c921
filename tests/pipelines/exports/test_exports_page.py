"""docs/exports.md: every snippet runs as it stands on the page, and does what the page says."""

import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands.main import main
from vision.torchvision_guard import ensure_torchvision

PAGE = Path(__file__).parents[3] / "docs" / "exports.md"
UID = "5feceb66ffc86f38d952786c6d696c79"  # of the first pair

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are shown here


def snippets(section: str, language: str) -> list[str]:
    """The code of a section of the page, block by block."""
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S)
    assert found is not None, section
    return re.findall(rf"```{language}\n(.*?)```", found[1], re.S)


def python(section: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the Python of a section defines."""
    names = {} if names is None else names
    for code in snippets(section, "python"):
        exec(compile(code, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, drawn: Any
) -> Callable[[str], str]:
    """Runs the commands of a section where the page's folders are; gives what they print."""
    monkeypatch.chdir(drawn.shards.parent)

    def run(section: str) -> str:
        for line in "".join(snippets(section, "sh")).splitlines():
            name, *arguments = shlex.split(line)
            assert (name, main([*arguments, "--quiet"])) == ("m4-balance", 0)
        return capsys.readouterr().out

    return run


def test_every_block_belongs_to_a_section_that_is_run() -> None:
    sections = re.findall(r"^## (.*)$", PAGE.read_text("utf-8"), re.M)
    blocks = [
        block
        for section in sections
        for language in ("sh", "python", "text")
        for block in snippets(section, language)
    ]
    assert len(blocks) == PAGE.read_text("utf-8").count("```") / 2
    assert sections == [
        "DataComp",
        "open_clip",
        "webdataset",
        "Hugging Face datasets",
        "MosaicML streaming",
        "Importing a subset",
    ]


def test_datacomp(shell: Callable[[str], str], drawn: Any) -> None:
    shell("DataComp")
    names = python("DataComp")
    assert names["uid"] == UID
    assert names["copies"] == drawn.uids[UID] > 0
    assert Counter(Path("uids.txt").read_text().split()) == drawn.uids


def test_open_clip(shell: Callable[[str], str]) -> None:
    Path("resharded").mkdir()
    for i in range(4):
        Path(f"resharded/{i:08d}.tar").touch()
    Path("resharded/sizes.json").write_text(
        '{"00000000.tar": 10, "00000001.tar": 10, "00000002.tar": 10, "00000003.tar": 10}'
    )
    assert shell("open_clip") == "".join(snippets("open_clip", "text"))


def test_webdataset(shell: Callable[[str], str], drawn: Any) -> None:
    function, _ = snippets("webdataset", "python")
    assert shell("webdataset") == function
    names = python("webdataset")
    assert sum(1 for _ in names["pipeline"]) == drawn.copies.total()


def test_datasets(
    shell: Callable[[str], str],
    drawn: Any,
    write_drawn: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    from pipelines.shards import find_shards

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    write_drawn(find_shards("data"), drawn.manifest, weights=True)
    shell("Hugging Face datasets")
    names = python("Hugging Face datasets", python("webdataset"))
    assert len(names["dataset"]) == 60
    for samples in (names["drawn"], names["samples"]):
        found = Counter((Path(each["__url__"]).stem, each["__key__"]) for each in samples)
        assert found == drawn.copies
    assert len(list(names["sampler"])) == round(drawn.copies.total() / 2)
    assert {names["dataset"][i]["__key__"] for i in names["sampler"]} <= {
        key for _, key in drawn.copies
    }


def test_mosaicml(shell: Callable[[str], str], drawn: Any) -> None:
    shell("MosaicML streaming")
    ensure_torchvision()
    pytest.importorskip("streaming", reason="MosaicML streaming, which wants numpy < 2.2")
    names = python("MosaicML streaming")
    assert Counter(each["uid"] for each in names["dataset"]) == drawn.uids


def test_import_subset(shell: Callable[[str], str], drawn: Any) -> None:
    import pyarrow.parquet as pq

    shell("DataComp")
    shell("Importing a subset")
    tables = [pq.read_table(path) for path in Path("runs/theirs/manifest").glob("*.parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    assert {row["uid"]: row["copies"] for row in rows if row["copies"]} == drawn.uids
