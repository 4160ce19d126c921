"""The verb `evidence`: what a person reads of the marks of a run, and what is kept from them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.console import console
from commands.evidence import SMALLEST, _number, _share, _shares
from commands.main import main
from pipelines.evidence import UNKNOWN, Evidence, Known, read_evidence, write_evidence

EVIDENCE = Evidence(
    known={
        "": Known(
            samples=20_000, person=9_000, nobody=5_000, attributes={"gender": 8_000, "age": 0}
        ),
        "nurse": Known(samples=1_000, person=700, nobody=7, attributes={"gender": 600}),
        "baker": Known(samples=2_000, person=0, nobody=0, attributes={"gender": 1, "age": 19}),
        "pilot": Known(samples=19, person=19, nobody=0, attributes={"gender": 10}),
    },
    languages={"en": 15_000, "es": 4_990, UNKNOWN: 10},
    terms={
        "gender.woman": {"lady": 19, "woman": 5_000, "women": 3_000, "maiden": 1, "girl": 1_980},
        "nurse": {"nurse": 700, "registered nurse": 300},
        "pilot": {"pilot": 18, "airline pilot": 1},
        "person": {"person": 40_000},
    },
    opinions={
        "gender": {
            "captions x faces": {
                "woman": {"woman": 2_500, "man": 12, UNKNOWN: 400},
                "man": {"man": 3_100},
                UNKNOWN: {UNKNOWN: 9_000, "several": 44},
            }
        },
        "person": {"captions x faces": {"yes": {"yes": 8_000, "no": 20}}},
    },
    notes={"captions without words": 31, "captions that are no text": 3},
)
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_evidence(str(tmp_path / "run"), "evidence", EVIDENCE)
    return tmp_path / "run"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the verb on a terminal of 100 columns: exit code, and what was printed."""
    monkeypatch.setattr(console, "width", 100)

    def shown(run: Path, *arguments: str) -> tuple[int, str, str]:
        code = main(["evidence", "--run", str(run), *arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return shown


def read_tables(out: str) -> dict[str, list[list[str]]]:
    """The cells of the rows of each table, by its title; wrapped lines of a cell are joined."""
    found: dict[str, list[list[str]]] = {}
    title, open_row = "", False
    for line in out.splitlines():
        if line.startswith(("│", "┃")):
            cells = [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
            rows = found[title]
            if open_row and rows and not cells[0]:
                rows[-1] = [
                    f"{one} {more}".strip() for one, more in zip(rows[-1], cells, strict=True)
                ]
            else:
                rows.append(cells)
            open_row = True
        elif line.startswith(("┏", "┡", "└")):
            open_row = False
        else:
            title = line.strip()
            found[title] = []
    return found


def test_every_part_has_its_table_and_fits(call: Call, run: Path) -> None:
    code, out, errors = call(run)
    assert (code, errors) == (0, "")
    assert list(read_tables(out)) == [
        "Which terms mark what",
        "What is known",
        "Languages of captions",
        "Agreement: gender",
        "Agreement: person",
        "Noted",
    ]
    assert max(map(len, out.splitlines())) <= 100


def test_terms_with_their_shares_the_most_frequent_first(call: Call, run: Path) -> None:
    """Terms that marked few samples are only counted."""
    _, out, _ = call(run)
    assert read_tables(out)["Which terms mark what"][1:] == [
        ["person", "40,000", "person 100%"],
        ["gender.woman", "10,000", "woman 50%, women 30%, girl 20%, 2 others < 1%"],
        ["nurse", "1,000", "nurse 70%, registered nurse 30%"],
        ["pilot", "< 20", "2 others"],
    ]


def test_what_is_known_of_all_samples_and_of_labels(call: Call, run: Path) -> None:
    _, out, _ = call(run)
    header, *rows = read_tables(out)["What is known"]
    assert header == [
        *("samples with", "samples", "a person", "nobody", "person not known"),
        *("gender known", "age known"),
    ]
    assert rows == [
        ["(all samples)", "20,000", "45.0%", "25.0%", "30.0%", "40.0%", "0.0%"],
        ["baker", "2,000", "0.0%", "0.0%", "100.0%", "< 1.0%", "< 1.0%"],
        ["nurse", "1,000", "70.0%", "< 2.0%", "29.3%", "60.0%", "0.0%"],
        ["pilot", "< 20", "-", "-", "-", "-", "-"],
    ]


def test_agreement_with_what_is_not_known_last(call: Call, run: Path) -> None:
    _, out, _ = call(run)
    found = read_tables(out)
    assert found["Agreement: gender"] == [
        ["captions \\ faces", "man", "several", "woman", UNKNOWN],
        ["man", "3,100", "0", "0", "0"],
        ["woman", "< 20", "0", "2,500", "400"],
        [UNKNOWN, "0", "44", "0", "9,000"],
    ]
    assert found["Agreement: person"] == [
        ["captions \\ faces", "no", "yes"],
        ["yes", "20", "8,000"],
    ]


def test_languages_and_notes(call: Call, run: Path) -> None:
    _, out, _ = call(run)
    found = read_tables(out)
    assert found["Languages of captions"] == [
        ["language", "samples"],
        ["en", "15,000"],
        ["es", "4,990"],
        [UNKNOWN, "< 20"],
    ]
    assert found["Noted"][1:] == [
        ["captions without words", "31"],
        ["captions that are no text", "< 20"],
    ]


def test_only_the_top(call: Call, run: Path) -> None:
    _, out, _ = call(run, "--top", "2")
    found = read_tables(out)
    assert found["Which terms mark what"][1:] == [
        ["person", "40,000", "person 100%"],
        ["gender.woman", "10,000", "woman 50%, women 30%, 3 others 20%"],
    ]
    assert [row[0] for row in found["What is known"][1:]] == ["(all samples)", "baker", "nurse"]
    code, out, errors = call(run, "--top", "0")
    assert (code, out, errors) == (2, "", "error: --top 0: show at least 1\n")


def test_one_mark(call: Call, run: Path) -> None:
    code, out, _ = call(run, "--mark", "nurse")
    assert code == 0
    assert read_tables(out) == {
        "Which terms mark what": [
            ["mark", "finds", "terms and their share of the finds"],
            ["nurse", "1,000", "nurse 70%, registered nurse 30%"],
        ]
    }
    code, out, _ = call(run, "--mark", "nurse", "--json")
    assert code == 0
    assert json.loads(out) == {"terms": {"nurse": {"nurse": 700, "registered nurse": 300}}}


def test_a_mark_that_no_term_found(call: Call, run: Path, tmp_path: Path) -> None:
    code, out, errors = call(run, "--mark", "gender.women")
    assert (code, out) == (2, "")
    assert errors == (
        f"error: {run}: no term marked 'gender.women'; "
        "marks with terms: person, gender.woman, nurse, pilot\n"
    )
    write_evidence(str(tmp_path / "fields"), "evidence", Evidence())
    _, _, errors = call(tmp_path / "fields", "--mark", "nurse")
    assert errors.endswith("no term marked 'nurse'; marks with terms: none\n")


def test_json_is_the_evidence_whole(call: Call, run: Path) -> None:
    code, out, _ = call(run, "--json")
    assert code == 0
    assert Evidence.model_validate_json(out) == EVIDENCE
    assert set(json.loads(out)) == {"known", "languages", "terms", "opinions", "notes"}


def test_what_is_not_there_has_no_table(call: Call, tmp_path: Path) -> None:
    known = Evidence(known={"": Known(samples=50, person=50)})
    write_evidence(str(tmp_path / "run"), "evidence", known)
    code, out, _ = call(tmp_path / "run")
    assert code == 0
    assert read_tables(out) == {
        "What is known": [
            ["samples with", "samples", "a person", "nobody", "person not known"],
            ["(all samples)", "50", "100.0%", "0.0%", "0.0%"],
        ]
    }


def test_a_run_without_evidence(call: Call, tmp_path: Path) -> None:
    code, out, errors = call(tmp_path / "none")
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: {tmp_path / 'none' / 'evidence.json'}: cannot be read")
    assert errors.endswith("run annotate again\n") and errors.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"terms": {"nurse": {"nurse": "many"}}}'])
def test_evidence_that_is_damaged(text: str, call: Call, run: Path) -> None:
    (run / "evidence.json").write_text(text)
    code, out, errors = call(run)
    assert (code, out) == (2, "")
    assert errors == f"error: {run / 'evidence.json'}: holds no evidence; run annotate again\n"


def test_the_evidence_of_a_real_run(counted: Path, call: Call) -> None:
    """What `annotate` has written of 600 drawn pictures."""
    code, out, errors = call(counted)
    assert (code, errors) == (0, "")
    found = read_tables(out)
    evidence = read_evidence(str(counted / "evidence.json"))
    assert evidence.known[""].samples == 600
    everyone = found["What is known"][1]
    assert everyone[:2] == ["(all samples)", "600"]
    assert everyone[-1] == f"{evidence.known[''].attributes['gender'] / 600:.1%}" != "0.0%"
    marks = [row[0] for row in found["Which terms mark what"][1:]]
    assert {"gender.woman", "gender.man", "nurse", "chef"} <= set(marks)
    assert max(map(len, out.splitlines())) <= 100


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_no_share_tells_a_count_that_is_not_shown(count: int, more: int) -> None:
    """Two counts below the limit look alike, as a number and as a share of any whole."""
    whole = count + more
    if count >= SMALLEST or not count:
        assert _number(count) == f"{count:,}"
        return
    assert _number(count) == _number(1) == f"< {SMALLEST}"
    assert _share(count, whole) == _share(1, whole)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 60), min_size=1),
    st.integers(1, 5),
)
def test_shares_name_common_terms_only_and_count_the_others(
    counts: dict[str, int], top: int
) -> None:
    said = _shares(counts, top).split(", ")
    named = [part.split() for part in said if "other" not in part]
    others = [int(part.split()[0]) for part in said if "other" in part]
    assert len(named) + sum(others) == len(counts) and len(named) <= top
    for term, share in named:
        assert counts[term] >= SMALLEST
        assert share == f"{counts[term] / sum(counts.values()):.0%}"
    least = min((counts[term] for term, _ in named), default=max(counts.values()))
    assert all(counts[term] <= least for term in set(counts) - {term for term, _ in named})
