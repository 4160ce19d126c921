"""The verb `catalogue`: what a person reads of a catalogue or list, and what a program does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from commands.catalogue import SHOWN
from commands.console import console
from commands.main import main
from m4.catalogue import Catalogue, load_catalogue
from m4.lists import FOLDER, builtin_names, load_list

JOBS = """\
kind: labels
describes: jobs [of a test]
source: >-
  Written for this test,
  on two lines
entries:
  nurse: {terms: [nurse, staff nurse], measured: {gender.woman: 0.904, gender.man: 0.096}}
  baker: {terms: [baker]}
"""
CATALOGUE = """\
name: "offices [a test]"
purpose: >-
  a test of what
  is shown
include: [jobs.yaml]
sensitive:
  gender:
    describes: perceived gender
    values:
      woman:
        target: 0.6
        terms: [woman, girl]
        names: [mary]
        translations: {es: {terms: [mujer]}}
      man: {target: 0.4, terms: [man]}
proxies:
  ward: {terms: [ward]}
person: {terms: [person, human]}
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.yaml").write_text(JOBS)
    (tmp_path / "offices.yaml").write_text(CATALOGUE)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the verb on a terminal of 100 columns: exit code, and what was printed."""
    monkeypatch.setattr(console, "width", 100)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(["catalogue", *map(str, arguments)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


def cells(out: str) -> list[list[str]]:
    """The cells of all rows, without the borders; a wrapped row gives several."""
    lines = [line for line in out.splitlines() if line.startswith(("│", "┃"))]
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines
    ]


def refused(call: Call, *arguments: str | Path) -> str:
    code, out, errors = call(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("error: ") and errors.count("\n") == 1
    return errors


def test_a_catalogue_in_one_table(call: Call, folder: Path) -> None:
    code, out, errors = call("show", folder / "offices.yaml")
    assert (code, errors) == (0, "")
    catalogue = load_catalogue(folder / "offices.yaml")
    title, purpose, *_, languages = out.splitlines()
    assert title == f"offices [a test], {catalogue.digest}"
    assert purpose == "a test of what is shown"
    assert languages == "Terms also in: es"
    assert cells(out) == [
        ["what", "describes", "terms", "values, or examples"],
        ["gender", "perceived gender", "3", "woman 0.6, man 0.4"],
        ["labels", "2 of them", "3", "nurse, baker"],
        ["proxies", "1 of them", "1", "ward"],
        ["person", "whether anybody is there", "2", "person, human"],
    ]
    assert max(map(len, out.splitlines())) <= 100


def test_a_catalogue_as_json(call: Call, folder: Path) -> None:
    code, out, _ = call("show", folder / "offices.yaml", "--json")
    content = json.loads(out)
    catalogue = load_catalogue(folder / "offices.yaml")
    assert code == 0
    assert content.pop("digest") == catalogue.digest
    assert Catalogue.model_validate(content) == catalogue


def test_a_catalogue_as_yaml_stands_alone(call: Call, folder: Path, tmp_path: Path) -> None:
    code, out, _ = call("show", folder / "offices.yaml", "--yaml")
    assert code == 0
    (tmp_path / "alone").mkdir()
    path = tmp_path / "alone" / "catalogue.yaml"
    path.write_text(out, "utf-8")
    assert load_catalogue(path).digest == load_catalogue(folder / "offices.yaml").digest
    assert "nurse" in out and "include" not in out


def test_what_a_catalogue_does_not_have_has_no_row(call: Call, tmp_path: Path) -> None:
    content = {key: yaml.safe_load(CATALOGUE)[key] for key in ("name", "purpose", "sensitive")}
    (tmp_path / "least.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, _ = call("show", tmp_path / "least.yaml")
    assert code == 0
    assert [row[0] for row in cells(out)] == ["what", "gender"]


def test_many_labels_are_counted_not_named(call: Call, tmp_path: Path) -> None:
    content = yaml.safe_load(CATALOGUE)
    del content["include"]
    content["labels"] = {f"job {i}": {"terms": [f"job {i}"]} for i in range(SHOWN + 1_200)}
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, _ = call("show", tmp_path / "many.yaml")
    assert code == 0
    assert "1,212 of them" in out and "1,200 more" in " ".join(out.split())
    assert f"job {SHOWN - 1}," in out and f"job {SHOWN}" not in out


def test_an_own_list_in_one_table(call: Call, folder: Path) -> None:
    code, out, _ = call("show", folder / "jobs.yaml")
    assert code == 0
    assert out.startswith("jobs (labels, 2 entries): jobs [of a test]")
    assert cells(out) == [
        ["entry", "terms", "measured shares"],
        ["nurse", "nurse, staff nurse", "woman 90.4%, man 9.6%"],
        ["baker", "baker", ""],
    ]
    assert out.endswith("source: Written for this test, on two lines\n")


def test_a_list_of_attributes_shows_each_value(call: Call, tmp_path: Path) -> None:
    content = {
        "kind": "sensitive",
        "describes": "who is shown",
        "source": "a test",
        "entries": yaml.safe_load(CATALOGUE)["sensitive"],
    }
    (tmp_path / "who.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    code, out, _ = call("show", tmp_path / "who.yaml")
    assert code == 0
    assert out.startswith("who (sensitive, 1 entry): who is shown")
    assert cells(out)[1:] == [["gender.woman", "woman, girl"], ["gender.man", "man"]]


def test_a_list_as_json_and_as_it_is_written(call: Call, folder: Path) -> None:
    code, out, _ = call("show", folder / "jobs.yaml", "--json")
    content = json.loads(out)
    assert code == 0 and list(content["entries"]) == ["nurse", "baker"]
    assert content["entries"]["nurse"]["measured"]["gender.woman"] == 0.904
    code, out, _ = call("show", folder / "jobs.yaml", "--yaml")
    assert (code, out) == (0, JOBS)


def test_nothing_suspicious(call: Call, folder: Path) -> None:
    code, out, errors = call("check", folder / "offices.yaml")
    assert (code, errors) == (0, "")
    digest = load_catalogue(folder / "offices.yaml").digest
    assert out == f"offices [a test], {digest}\nnothing suspicious was found\n"
    code, out, _ = call("check", folder / "offices.yaml", "--json")
    assert (code, json.loads(out)) == (0, {"digest": digest, "findings": []})


def test_notes_are_shown_and_are_no_failure(call: Call, folder: Path) -> None:
    path = folder / "offices.yaml"
    path.write_text(CATALOGUE + "surnames: [smith]\nlabels: {pilot: {prompt: a pilot}}\n")
    code, out, _ = call("check", path)
    assert code == 0
    digest = load_catalogue(path).digest
    assert out.startswith(f"offices [a test], {digest}\nmistakes: 0, notes: 2\n")
    assert cells(out)[-2:] == [
        ["pilot", "note", "only a head or model finds it: no terms, no field"],
        ["surnames", "note", "no English terms: smith"],
    ]


def test_a_mistake_ends_with_1(call: Call, folder: Path) -> None:
    path = folder / "offices.yaml"
    path.write_text(CATALOGUE.replace("terms: [man]", "terms: [man, girl]") + "surnames: [smith]\n")
    code, out, errors = call("check", path)
    assert (code, errors) == (1, "")
    assert out.splitlines()[1] == "mistakes: 1, notes: 1"
    said = "'girl' stands for gender.woman and gender.man, which exclude each other"
    assert cells(out)[-2:] == [
        ["gender", "mistake", said],
        ["surnames", "note", "no English terms: smith"],
    ]
    code, out, _ = call("check", path, "--json")
    assert code == 1
    assert json.loads(out)["findings"] == [
        {"level": "mistake", "where": "gender", "says": said},
        {"level": "note", "where": "surnames", "says": "no English terms: smith"},
    ]


def test_brackets_in_a_finding_are_shown(call: Call, folder: Path) -> None:
    path = folder / "offices.yaml"
    path.write_text(CATALOGUE.replace("terms: [ward]", 'terms: [ward, "[!]"]'))
    code, out, _ = call("check", path)
    assert code == 1 and "terms: '[!]' holds no word" in out


def test_what_is_not_there_is_told_in_a_sentence(call: Call, folder: Path) -> None:
    for action in ("show", "check"):
        assert "none.yaml: no such file" in refused(call, action, folder / "none.yaml")
        message = refused(call, action, "frobnication")
        assert "frobnication: no such file, and not built in; known: " in message
        assert "gender" in message and "people" in message
        assert "known: builtin:" in refused(call, action, "builtin:gender")


def test_a_list_cannot_be_checked(call: Call, folder: Path) -> None:
    message = refused(call, "check", folder / "jobs.yaml")
    assert "jobs.yaml is a list, not a catalogue; name a catalogue that includes it" in message
    assert "gender is a list, not a catalogue" in refused(call, "check", "gender")


def test_damaged_files_are_named(call: Call, folder: Path) -> None:
    (folder / "jobs.yaml").write_text(JOBS.replace("terms: [baker]", "term: [baker]"))
    assert "jobs.yaml: entries: unknown key `baker.term`" in refused(
        call, "show", folder / "jobs.yaml"
    )
    message = refused(call, "show", folder / "offices.yaml")
    assert "offices.yaml: include: " in message and "unknown key `baker.term`" in message


@pytest.mark.parametrize(
    "given",
    [
        ("check", "builtin:people", "--yaml"),
        ("show", "--yaml"),
        ("show", "builtin:people", "--yaml", "--json"),
    ],
)
def test_yaml_where_it_has_no_effect(given: tuple[str, ...], call: Call) -> None:
    assert "--yaml goes with `catalogue show NAME`" in refused(call, *given)


def test_an_unknown_action(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["catalogue", "list"])
    assert stop.value.code == 2
    assert "list" in capsys.readouterr().err


def test_all_that_is_built_in(call: Call) -> None:
    code, out, _ = call("show")
    assert code == 0
    names = {f"builtin:{name}" if whole else name for name, whole in builtin_names()}
    shown = [row[0] for row in cells(out)[1:] if row[0]]
    assert set(shown) == names
    assert shown[0] == "builtin:people" and shown[1:] == sorted(shown[1:])
    assert max(map(len, out.splitlines())) <= 100
    code, out, _ = call("show", "--json")
    content = json.loads(out)
    assert code == 0 and set(content) == names
    people = load_catalogue("builtin:people")
    assert content["builtin:people"]["kind"] == "catalogue"
    assert content["builtin:people"]["entries"] == len(people.value_names) + len(people.concepts)
    assert content["gender"]["kind"] == "sensitive"
    assert content["occupations"]["entries"] == len(load_list("occupations", FOLDER).entries)
    assert content["spanish"]["kind"] == "translation to es"


def test_the_built_in_catalogue_with_its_prefix_or_without(call: Call) -> None:
    code, out, _ = call("show", "builtin:people")
    assert code == 0
    assert call("show", "people")[1] == out
    people = load_catalogue("builtin:people")
    assert people.digest in out
    assert [row[0] for row in cells(out) if row[0]] == [
        *("what", *people.sensitive),
        *("labels", "proxies", "person"),
    ]


def test_the_built_in_catalogue_as_yaml(call: Call, tmp_path: Path) -> None:
    """What a person starts an own catalogue from."""
    code, out, _ = call("show", "builtin:people", "--yaml")
    assert code == 0
    (tmp_path / "mine.yaml").write_text(out, "utf-8")
    assert load_catalogue(tmp_path / "mine.yaml").digest == load_catalogue("builtin:people").digest


def test_without_a_name_the_built_in_catalogue_is_checked(call: Call) -> None:
    code, out, _ = call("check", "--json")
    assert code == 0
    assert json.loads(out)["digest"] == load_catalogue("builtin:people").digest


def test_a_built_in_list(call: Call) -> None:
    code, out, _ = call("show", "occupations")
    assert code == 0
    found = load_list("occupations", FOLDER)
    assert out.startswith(f"occupations (labels, {len(found.entries)} entries): ")
    assert {row[0] for row in cells(out)} >= {name for name in found.entries if len(name) < 15}
    assert cells(out)[0] == ["entry", "terms", "measured shares"]
    assert max(map(len, out.splitlines())) <= 100
