"""m4-balance curve, from a run directory to a table, a chart and the settings for solve."""

import json
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from commands.main import main
from m4.catalogue import load_catalogue
from m4.errors import InputError
from m4.points import Curve
from m4.policy import Policy
from pipelines.counting import pattern_schema, write_patterns
from pipelines.record import read_run
from pipelines.settings import CurveSettings, SolveSettings
from pipelines.stages import curve, solve
from reporting.curves import cost_chart

CATALOGUE = """
name: people
purpose: a test
sensitive:
  gender:
    describes: perceived gender
    values:
      woman: {target: 0.5, terms: [woman]}
      man: {target: 0.5, terms: [man]}
labels:
  firefighter: {terms: [firefighter]}
  nurse: {terms: [nurse]}
tolerances: {representation: 0.02, association: 0.04}
"""
ROWS: list[tuple[float | None, list[int], int]] = [  # share of women, labels, examples
    (1.0, [], 900),
    (0.0, [], 1400),
    (1.0, [0], 60),
    (0.0, [0], 240),
    (1.0, [1], 320),
    (0.0, [1], 80),
    (1.0, [0, 1], 10),
    (0.0, [0, 1], 30),
    (None, [], 960),
]
EXAMPLES = 4000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory as `count` leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    catalogue = load_catalogue(folder / "catalogue.yaml")
    table = pa.table(
        [
            [women for women, _, _ in ROWS],
            [None if women is None else 1.0 - women for women, _, _ in ROWS],
            [labels for _, labels, _ in ROWS],
            [1.0] * len(ROWS),
            [count for _, _, count in ROWS],
        ],
        schema=pattern_schema(catalogue),
    )
    write_patterns(str(folder / "patterns.parquet"), table, catalogue.digest)
    return folder


def here(run: Path) -> list[str]:
    return ["--run", str(run), "--catalogue", str(run / "catalogue.yaml")]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, errors = call(capsys, *arguments, "--json")
    assert code == 0, errors
    return json.loads(out)


def test_a_curve_without_a_choice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = answer(capsys, "curve", *here(run), "--etas", "0.5", "0.95", "--caps", "1")
    assert len(content["points"]) == 12 and content["examples"] == EXAMPLES
    assert content["chosen"] is None and content["solve"] is None
    assert content["before"]["representation_bias"] == pytest.approx(abs(0.5 - 1290 / 3040))
    assert {point["status"] for point in content["points"]} == {"solved", "infeasible"}
    kept = Curve.model_validate_json((run / "curve.json").read_bytes())
    assert kept.model_dump(mode="json")["points"] == content["points"]
    record = read_run(str(run))["curve"]
    assert record.rows_in == record.kept == EXAMPLES
    assert not list(run.glob("*.partial"))


def test_what_is_chosen_can_be_solved(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed call of solve gives a policy with the chosen point's bias and sample size."""
    options = ["--etas", "0.5", "0.7", "--min-ess", "0.95", "--max-weight", "1.5"]
    content = answer(capsys, "curve", *here(run), *options)
    chosen = content["chosen"]["outcome"]
    assert 0.95 <= chosen["effective_share"] <= 0.9595
    assert {point["setting"]["cap"] for point in content["points"]} == {1.0, 1.5}
    code, out, _ = call(capsys, "curve", *here(run), *options)
    assert code == 0 and "> 0.7" in out and "Tolerances that cannot be met" not in out
    assert "gender.woman" in out.split("Dearest tolerances")[1]
    verb, *arguments = shlex.split(out.split("m4-balance ")[1])
    assert verb == "solve"
    policy = answer(capsys, verb, *arguments)
    assert policy["effective_sample_size"] == pytest.approx(chosen["effective_sample_size"])
    assert policy["after"]["association_bias"] == pytest.approx(
        chosen["association_bias"], abs=1e-7
    )
    assert policy["problem"]["eps_r"] == content["chosen"]["eps_r"]


def test_the_table_shows_what_cannot_be_met(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "curve", *here(run), "--etas", "0.5", "0.95", "--caps", "1")
    assert code == 0 and str(run / "curve.svg") in out
    solved, missing = out.split("Tolerances that cannot be met")
    assert solved.count("│ 0.5") == 6 and "as is" in solved and ">" not in solved
    assert "infeasible" in missing and "0.95" in missing
    for line in solved.splitlines():
        assert len(line) <= 80


def test_the_same_curve_gives_the_same_bytes(run: Path) -> None:
    settings = CurveSettings(
        run=str(run), catalogue=str(run / "catalogue.yaml"), etas=(0.5,), target_deff=1.05
    )
    curve(settings)
    first = (run / "curve.json").read_bytes()
    curve(settings)
    assert (run / "curve.json").read_bytes() == first


def svg(run: Path) -> tuple[str, list[str]]:
    text = (run / "curve.svg").read_text()
    tree = ElementTree.fromstring(text)
    return text, [element.text or "" for element in tree.iter() if element.tag.endswith("text")]


def test_the_chart_has_a_line_per_rate_and_marks_per_cap(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = answer(
        capsys, "curve", *here(run), "--etas", "0.4", "0.6", "--caps", "1", "2", "--min-ess", "0.95"
    )
    assert content["chart"] == str(run / "curve.svg")
    text, words = svg(run)
    assert {"rate 0.4", "rate 0.6", "cap 1", "cap 2"} <= set(words)
    assert {"representation bias", "association bias"} <= set(words)
    solved = [point for point in content["points"] if point["status"] == "solved"]
    # One mark per solved point and panel, one cross and one ring each.
    marks = text.count('aria-roledescription="point"')
    assert marks == 2 * (len(solved) + 2)
    assert text.count('aria-roledescription="line mark"') == 2 * 4
    assert "<script" not in text


def test_a_chart_of_nothing_feasible(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = answer(capsys, "curve", *here(run), "--etas", "0.99", "--caps", "1")
    assert {point["status"] for point in content["points"]} == {"infeasible"}
    text, _ = svg(run)
    assert text.count('aria-roledescription="point"') == 2  # the data as it is
    assert cost_chart(Curve.model_validate_json((run / "curve.json").read_bytes())) == text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--min-ess", "9000"], "9,000.0 of 4,000"),
        (["--etas", "0.99", "--caps", "1", "--min-ess", "0.5"], "largest feasible rate"),
        (["--etas", "3", "--caps", "1"], "the rate eta 3 is above the cap 1"),
        (["--factors", "-1"], "factor"),
    ],
)
def test_what_cannot_be_chosen_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str
) -> None:
    code, _, errors = call(capsys, "curve", *here(run), *options, "--quiet")
    assert code == 2 and "Traceback" not in errors
    assert errors.startswith("error: ") and named in errors and errors.count("\n") == 1


def test_the_curve_stands_where_nothing_can_be_chosen(run: Path) -> None:
    settings = CurveSettings(
        run=str(run), catalogue=str(run / "catalogue.yaml"), etas=(0.5,), min_ess=1e6
    )
    with pytest.raises(InputError, match="the nearest point"):
        curve(settings)
    assert len(Curve.model_validate_json((run / "curve.json").read_bytes()).points) == 18


def test_missing_and_foreign_patterns(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "catalogue.yaml"
    path.write_text(CATALOGUE.replace("0.02", "0.03"))
    code, _, errors = call(capsys, "curve", *here(run), "--quiet")
    assert code == 2 and "patterns.parquet: made with catalogue" in errors
    (run / "patterns.parquet").unlink()
    code, _, errors = call(capsys, "curve", *here(run), "--quiet")
    assert code == 2 and "run count first" in errors
    assert not (run / "curve.json").exists()


def test_solve_takes_a_factor_or_what_it_has_to_give(run: Path) -> None:
    base: dict[str, Any] = {"run": str(run), "catalogue": str(run / "catalogue.yaml"), "eta": 0.5}
    plain = solve(SolveSettings(**base))
    same = solve(SolveSettings(**base, tolerance_factor=1.0))
    assert same.policy == plain.policy
    wide = solve(SolveSettings(**base, tolerance_factor=3.0))
    assert (wide.policy.problem.eps_r, wide.policy.problem.eps_d) == (0.06, 0.12)
    for name, asked in (("min_ess", 0.95), ("target_deff", 1.0 / 0.95)):
        found = solve(SolveSettings(**{**base, name: asked}))
        assert 3799.999 <= found.effective_sample_size <= 1.01 * 3800
        assert Policy.load(run / "policy.json") == found.policy
    with pytest.raises(InputError, match=r"tolerance_factor 2 has no effect with min_ess 0\.8"):
        solve(SolveSettings(**base, tolerance_factor=2.0, min_ess=0.8))
    with pytest.raises(InputError, match=r"5,000\.0 of 4,000"):
        solve(SolveSettings(**base, min_ess=5000))
