"""Tables for the screen: the headlines to look at first, and what is said of the others."""

import json

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from commands.console import Shown
from commands.protocol_tables import MOST_HEADLINES, difference_table, headline_table
from evaluation.results import compare_runs
from reporting.charts import FEWEST
from tests.measured_runs import draws_of, run_of


def text(table: Table) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def squeezed(shown: str) -> str:
    return " ".join(shown.split())


def headline(number: int, figure: float):
    return draws_of("c_asc", {f"gender: {number}": figure})


def test_of_many_headlines_the_most_significant_are_shown():
    figures = [0.01 * number for number in range(MOST_HEADLINES + 8)]
    many = run_of("a", [headline(number, figure) for number, figure in enumerate(figures)])
    shown = text(headline_table("words", many))
    # The larger the figure the rarer it is under the null, which is 0 to 0.2.
    assert "gender: 19" in shown and "gender: 8 " in shown and "gender: 7 " not in shown
    said = "The 12 of 20 headlines with the smallest p; all are in words.csv."
    assert said in squeezed(shown)


def test_few_headlines_are_all_shown_in_their_order():
    run = run_of("a", [headline(number, number / 100) for number in range(MOST_HEADLINES)])
    shown = text(headline_table("words", run))
    assert shown.index("gender: 0") < shown.index("gender: 11") and "headlines with" not in shown
    assert "C-ASC; gender: 3" in shown


@pytest.mark.parametrize(("group", "marked"), [(FEWEST - 1, True), (FEWEST, False), (None, False)])
def test_figures_that_tell_of_few_images_are_marked(group: int | None, marked: bool):
    run = run_of("a", [draws_of("gap", {"gender: all": 0.4}, smallest_group=group)])
    assert ("(few images)" in text(headline_table("words", run))) is marked


def test_differences_are_cut_as_headlines_are():
    first, second = (
        run_of(model, [headline(number, shift * number) for number in range(MOST_HEADLINES + 1)])
        for model, shift in (("a", 0.0), ("b", 0.01))
    )
    shown = text(difference_table(compare_runs(first, second)))
    assert "The 12 of 13 headlines with the smallest p; --json prints all." in squeezed(shown)


def test_json_has_null_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]):
    content = {"a": float("nan"), "b": [1.5, float("inf")], "c": "é"}
    Shown(json=True).result(content)
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"a": None, "b": [1.5, None], "c": "é"}
    assert np.isnan(content["a"])
