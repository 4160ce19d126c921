"""What `m4-balance solve` shows beside the policy: costs, prices in words, violations, a plot."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from commands.main import main
from commands.solve import price_in_words
from m4.policy import Policy


@pytest.fixture
def run(counted: Path, tmp_path: Path) -> Path:
    """A copy of the counted run, to be solved."""
    return Path(shutil.copytree(counted, tmp_path / "run"))


def solve(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is printed."""
    capsys.readouterr()
    here = ["--catalogue", str(run / "catalogue.yaml"), "--run", str(run)]
    assert main(["solve", *here, *options]) == 0
    return capsys.readouterr().out


def first_cell(line: str) -> str:
    return line.removeprefix("│").partition("│")[0].strip()


def test_json_holds_the_policy_as_it_is_and_the_diagnostics(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(solve(run, capsys, "--eta", "0.6", "--json"))
    found = content.pop("diagnostics")
    assert content == json.loads((run / "policy.json").read_text())
    policy = Policy.load(run / "policy.json")
    assert found["design_effect"] == pytest.approx(policy.examples / policy.effective_sample_size)
    assert 0.01 < found["top_share"] < 0.05
    names = {str(name) for name in policy.problem.constraints()}
    assert {row["constraint"] for row in found["love"]} == names and len(names) == 12
    costs = [row["objective_price"] for row in found["prices"]]
    assert costs == sorted(costs, reverse=True) and min(costs) > 0
    assert {row["constraint"] for row in found["prices"]} <= set(policy.duals)
    assert found["violated"] == []


def test_a_person_reads_what_is_dear_and_which_way_it_is_held(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(solve(run, capsys, "--eta", "0.6", "--json"))
    text = solve(run, capsys, "--eta", "0.6")
    assert f"{content['diagnostics']['design_effect']:.3f}" in text
    prices = content["diagnostics"]["prices"]
    for place, row in enumerate(prices):
        shown = [line for line in text.splitlines() if row["constraint"] == first_cell(line)]
        assert len(shown) == (place < 5)
        if shown:
            assert (" down " in shown[0]) == (row["multiplier"] > 0)
            assert f"{row['effective_share_price']:.2f} % of all examples" in shown[0]
    assert "Violated" not in text
    assert f"Love plot: {run / 'love.svg'}" in text


def test_violations_that_are_paid_for_are_listed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--eta", "0.98", "--penalty", "0.05")
    found = json.loads(solve(run, capsys, *options, "--json"))["diagnostics"]["violated"]
    sizes = [row["violation"] for row in found]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 2
    table = solve(run, capsys, *options).split("Violated")[1]
    for row in found[:10]:
        assert row["constraint"] in table and f"{row['excess']:.4f}" in table
    assert "of the objective" in solve(run, capsys, *options)


def test_prices_in_words() -> None:
    assert price_in_words(0.3, 0.74) == "0.74 % of all examples"
    assert price_in_words(0.3, 0.001) == "0.00 % of all examples"
    assert price_in_words(0.3, None) == "0.003 of the objective"


def test_the_love_plot_is_a_picture_of_the_largest_rows(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(solve(run, capsys, "--eta", "0.6", "--json"))
    svg = (run / "love.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for row in content["diagnostics"]["love"]:
        assert (f">{row['constraint'].replace('&', '&amp;')}<" in svg) == (row["examples"] >= 20)
    solve(run, capsys, "--eta", "0.6", "--json")
    assert (run / "love.svg").read_text() == svg
