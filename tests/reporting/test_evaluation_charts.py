"""Charts of protocols: which figures they show, where, and what they leave out."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.draws import Difference, Interval
from evaluation.results import ProtocolResult, compare_runs
from m4.errors import InputError
from reporting.charts import FEWEST, MOST_LABELS
from reporting.drawings import Table, readable, tables
from reporting.evaluation_charts import (
    association_heat_map,
    before_after,
    cells,
    headline_dots,
    skew_dumbbells,
    verdict,
)
from tests.measured_runs import draws_of, marked, run_of

SKEW = Table("gender", "max_skew@10")
WORDS = Table("race", "association")
BEFORE = {"doctor": 0.5, "nurse": 0.9, "pilot": 0.7}
AFTER = {"doctor": 0.4, "nurse": 0.2, "pilot": 0.75}


def result_of(model: str, figures: dict[str, float], **changes: Any) -> ProtocolResult:
    named = {f"gender: {name}": figure for name, figure in figures.items()}
    return run_of(model, [draws_of("max_skew@10", named, **changes)]).result


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter()]


def words_of(model: str, figures: dict[str, float], **changes: Any) -> ProtocolResult:
    named = {f"race: {cell}": figure for cell, figure in figures.items()}
    return run_of(model, [draws_of("association", named, tail="both", **changes)]).result


def test_a_prompt_has_a_point_for_each_model_and_a_line_between_them():
    both = [result_of("before", BEFORE), result_of("after", AFTER)]
    drawing = skew_dumbbells(both, SKEW)
    points = {(row["name"], row["model"]): row["x"] for row in marked(drawing, "point")}
    assert points == {(name, "before"): figure for name, figure in BEFORE.items()} | {
        (name, "after"): figure for name, figure in AFTER.items()
    }
    ways = {row["name"]: (row["x"], row["x2"]) for row in marked(drawing, "rule")}
    assert ways == {"doctor": (0.4, 0.5), "nurse": (0.2, 0.9), "pilot": (0.7, 0.75)}


def test_one_model_is_shown_with_intervals():
    rows = marked(skew_dumbbells([result_of("a", BEFORE)], SKEW), "rule")
    assert {row["name"] for row in rows} == set(BEFORE)
    for row in rows:
        assert row["x"] < BEFORE[row["name"]] < row["x2"]


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_band_and_the_tick_are_those_of_the_null_and_named(level: float):
    resampling = run_of("a", []).result.resampling.model_copy(update={"level": level})
    named = [draws_of("max_skew@10", {"gender: doctor": 0.5, "gender: nurse": 0.6})]
    drawing = skew_dumbbells([run_of("a", named, resampling=resampling).result], SKEW)
    ends = np.quantile(np.linspace(0, 0.2, 100), [(1 - level) / 2, (1 + level) / 2])
    for row in marked(drawing, "bar"):
        assert [row["x"], row["x2"]] == pytest.approx(ends)
    assert [row["x"] for row in marked(drawing, "tick")] == pytest.approx([0.1, 0.1])
    assert f"without bias: {level * 100:g} %, and the mean" in texts(drawing.svg)


def test_without_a_null_there_is_no_band():
    drawing = skew_dumbbells([result_of("a", BEFORE, null=None)], SKEW)
    assert marked(drawing, "bar") == [] and "nurse" in texts(drawing.svg)


def test_prompts_stand_in_the_order_of_the_first_model():
    both = [result_of("before", BEFORE), result_of("after", AFTER)]
    for results, order in (
        (both, ["nurse", "pilot", "doctor"]),
        (both[::-1], ["pilot", "doctor", "nurse"]),
    ):
        found = [text for text in texts(skew_dumbbells(results, SKEW).svg) if text in BEFORE]
        assert found == order


@pytest.mark.parametrize("better, gone", [("lower", "name 0"), ("higher", f"name {MOST_LABELS}")])
def test_the_worst_are_shown_and_the_others_counted(better: str, gone: str):
    figures = {f"name {i}": 0.1 + i / 100 for i in range(MOST_LABELS + 1)}
    drawing = skew_dumbbells([result_of("a", figures, better=better)], SKEW)
    shown = {row["name"] for row in marked(drawing, "point")}
    assert shown == figures.keys() - {gone}
    assert (drawing.beyond, drawing.hidden) == (1, 0)
    assert drawing.note == f"Shown are the first {MOST_LABELS} of {MOST_LABELS + 1}."


def test_a_large_negative_figure_is_among_the_worst():
    figures = {f"name {i}": 0.1 + i / 100 for i in range(MOST_LABELS)} | {"negative": -3.0}
    drawing = skew_dumbbells([result_of("a", figures, tail="both")], SKEW)
    shown = [text for text in texts(drawing.svg) if text in figures]
    assert shown[-1] == "negative" and "name 0" not in shown


@pytest.mark.parametrize("images, hidden", [(FEWEST, 0), (FEWEST - 1, 3)])
def test_figures_of_few_images_are_not_shown_but_counted(images: int, hidden: int):
    drawing = skew_dumbbells([result_of("a", BEFORE, images=images)], SKEW)
    assert drawing.hidden == hidden
    assert ("nurse" in drawing.svg) is (hidden == 0)
    assert drawing.note == (
        "" if hidden == 0 else f"Left out, as they tell of fewer than {FEWEST} images: 3."
    )


def test_a_small_group_is_hidden_wherever_it_is_compared():
    drawing = skew_dumbbells([result_of("a", BEFORE, smallest_group=FEWEST - 1)], SKEW)
    assert (drawing.svg, drawing.hidden) == ("", 3)
    headline = draws_of("association, largest", {"gender: all": 0.4}, smallest_group=3)
    drawing = headline_dots([run_of("a", [headline]).result])
    assert (drawing.svg, drawing.hidden) == ("", 1)


def test_of_two_groups_none_is_shown_where_one_is_small():
    sizes = np.array([FEWEST - 1, 500])
    two = result_of("a", {"female": 0.2, "male": 0.4}, images_of_each=sizes)
    assert skew_dumbbells([two], SKEW).hidden == 2
    three = result_of("a", BEFORE, images_of_each=np.array([FEWEST - 1, 500, 500]))
    drawing = skew_dumbbells([three], SKEW)
    assert {row["name"] for row in marked(drawing, "point")} == {"nurse", "pilot"}


def test_a_word_is_hidden_with_all_its_groups():
    sizes = np.array([FEWEST - 1, 500, 500, 500])
    drawing = association_heat_map([words_of("a", CELLS, images_of_each=sizes)], WORDS)
    assert {row["word"] for row in marked(drawing, "rect")} == {"looks: ugly"}
    assert drawing.hidden == 2


def test_two_models_have_their_own_bands_and_ticks():
    wide = np.repeat(np.linspace(0.1, 0.5, 100)[:, None], 3, axis=1)
    both = [result_of("before", BEFORE), result_of("after", AFTER, null=wide)]
    drawing = skew_dumbbells(both, SKEW)
    ticks = {row["model"]: row["x"] for row in marked(drawing, "tick")}
    assert ticks == {"before": pytest.approx(0.1), "after": pytest.approx(0.3)}
    band, tick, *others = drawing.chart.to_dict()["layer"]
    assert band["encoding"]["yOffset"]["field"] == tick["encoding"]["yOffset"]["field"] == "model"
    assert tick["encoding"]["color"]["field"] == "model"
    assert all("yOffset" not in layer["encoding"] for layer in others)


@pytest.mark.parametrize(
    ("measure", "said"),
    [("c_asc", "C-ASC"), ("ndkl@10, mean", "NDKL@10, mean"), ("able_x", "able x"),
     ("max_skew@10", "max skew@10")],
)  # fmt: skip
def test_measures_are_named_as_the_field_does(measure: str, said: str):
    assert readable(measure) == said


def test_tables_of_two_tasks_are_told_apart():
    draws = [
        draws_of("max_skew@10", {f"{task}: doctor": figure, f"{task}: nurse": figure})
        for task, figure in (("gender", 0.3), ("race", 0.6))
    ]
    found = run_of("a", draws).result
    assert tables(found) == (SKEW, Table("race", "max_skew@10"))
    for table, figure in zip(tables(found), (0.3, 0.6), strict=True):
        rows = marked(skew_dumbbells([found], table), "point")
        assert [(row["name"], row["x"]) for row in rows] == [
            ("doctor", figure),
            ("nurse", figure),
        ]


def test_a_table_that_is_not_there_is_said():
    with pytest.raises(InputError, match=r"no table gender: NDKL; there are gender: max skew@10"):
        skew_dumbbells([result_of("a", BEFORE)], Table("gender", "ndkl"))


def test_models_that_were_not_measured_alike_are_not_drawn_together():
    draws = [draws_of("ndkl", {"gender: all": 0.1})]
    first = run_of("a", draws).result
    with pytest.raises(InputError, match="a and b were measured with different digest: the tasks"):
        headline_dots([first, run_of("b", draws, digest="e").result])
    with pytest.raises(InputError, match="models a, a: give each once"):
        headline_dots([first, first])


def headlines_of(model: str, skew: float, accuracy: float) -> Any:
    draws = [
        draws_of("max_skew@10, mean", {"gender: all prompts": skew}),
        draws_of("max_skew@10, mean", {"race: all prompts": skew / 2}),
        draws_of("zero_shot_top1", {"zero-shot: all": accuracy}, better="higher", null=None),
        draws_of("max_skew@5, mean", {"small: all prompts": 0.5}, images=FEWEST - 1),
    ]
    return run_of(model, draws)


def test_each_measure_has_a_chart_with_its_own_scale():
    runs = [headlines_of("before", 0.6, 0.61), headlines_of("after", 0.3, 0.62)]
    drawing = headline_dots([run.result for run in runs])
    panels = drawing.chart.to_dict()["concat"]
    titles = [panel["title"]["text"] for panel in panels]
    assert titles == ["max skew@10, mean", "zero shot top1"]
    points = {(row["subject"], row["model"]): row["x"] for row in marked(drawing, "point")}
    assert points[("race: all prompts", "after")] == 0.15
    assert points[("zero-shot: all", "before")] == 0.61
    assert drawing.hidden == 1
    assert {row["subject"] for row in marked(drawing, "bar")} == {
        "gender: all prompts",
        "race: all prompts",
    }


def test_biases_are_seen_from_0_and_accuracies_are_not():
    panels = headline_dots([headlines_of("a", 0.6, 0.61).result]).chart.to_dict()["concat"]
    zeros = {layer["encoding"]["x"]["scale"]["zero"] for layer in panels[0]["layer"]}
    assert zeros == {True}
    assert {layer["encoding"]["x"]["scale"]["zero"] for layer in panels[1]["layer"]} == {False}


def test_no_headline_left_is_no_picture():
    draws = [draws_of("ndkl", {"small: all": 0.1}, images=FEWEST - 1)]
    drawing = headline_dots([run_of("a", draws).result])
    assert (drawing.svg, drawing.hidden) == ("", 1)


CELLS = {"crime: thief, Black": 0.3, "crime: thief, White": -0.4,
         "looks: ugly, Black": 0.05, "looks: ugly, White": 0.02}  # fmt: skip


def test_a_heat_map_has_a_cell_for_each_word_and_group_and_dots_where_p_is_small():
    drawing = association_heat_map([words_of("a", CELLS)], WORDS)
    squares = {(row["word"], row["group"]): row["value"] for row in marked(drawing, "rect")}
    assert squares == {tuple(cell.rsplit(", ", 1)): figure for cell, figure in CELLS.items()}
    dots = {(row["word"], row["group"]) for row in marked(drawing, "point")}
    assert dots == {("crime: thief", "Black"), ("crime: thief", "White")}


def test_dots_are_explained_where_there_is_one():
    says = "at most 5 % false discoveries"
    assert says in texts(association_heat_map([words_of("a", CELLS)], WORDS).svg)
    none = association_heat_map([words_of("a", {cell: 0.1 for cell in CELLS})], WORDS)
    assert marked(none, "point") == [] and says not in texts(none.svg)


def test_0_is_the_middle_of_the_colours_of_all_models():
    results = [words_of("a", CELLS), words_of("b", {cell: 0.01 for cell in CELLS})]
    charts = association_heat_map(results, WORDS).chart.to_dict()["vconcat"]
    assert [chart["title"]["text"] for chart in charts] == ["a", "b"]
    for chart in charts:
        squares = chart.get("layer", [chart])[0]  # without a dot there is one layer
        scale = squares["encoding"]["color"]["scale"]
        assert (scale["domain"], scale["domainMid"]) == ([-0.4, 0.4], 0)


def test_the_words_furthest_from_0_are_shown():
    figures = {
        f"word {i}, {group}": (i + 1) / 100 * sign
        for i in range(MOST_LABELS + 2)
        for group, sign in (("Black", 0.1), ("White", -1))
    }
    drawing = association_heat_map([words_of("a", figures)], WORDS)
    shown = [text for text in texts(drawing.svg) if text.startswith("word ")]
    assert shown == [f"word {i}" for i in range(MOST_LABELS + 1, 1, -1)]
    assert drawing.beyond == 2


def test_cells_of_few_images_are_counted():
    drawing = association_heat_map([words_of("a", CELLS, images=FEWEST - 1)], WORDS)
    assert (drawing.svg, drawing.hidden) == ("", len(CELLS))


@pytest.mark.parametrize(
    "names",
    [
        ["thief, Black", "thief, White", "ugly, Black"],
        ["thief, Black", "ugly, Black"],
        ["thief", "ugly, Black"],
        ["nurse or doctor", "pilot or cook"],
    ],
)
def test_what_is_no_table_of_words_by_groups_is_said(names: list[str]):
    result = words_of("a", {name: 0.1 for name in names})
    assert cells([result], WORDS) is None
    with pytest.raises(InputError, match="race: association is no table of words by groups"):
        association_heat_map([result], WORDS)


def test_differences_are_of_the_headlines_with_their_paired_intervals():
    first, second = headlines_of("before", 0.6, 0.61), headlines_of("after", 0.3, 0.62)
    found = compare_runs(first, second)
    drawing = before_after(first.result, second.result, (*found.headlines, *found.details))
    points = {row["subject"]: row["x"] for row in marked(drawing, "point")}
    rules = marked(drawing, "rule")
    spans = {row["subject"]: (row["x"], row["x2"]) for row in rules if "subject" in row}
    for each in found.headlines[:3]:
        assert each.interval is not None
        assert points[each.subject] == each.value
        assert spans[each.subject] == (each.interval.low, each.interval.high)
    assert (len(points), len(spans), drawing.hidden) == (3, 3, 1)
    assert "after \N{MINUS SIGN} before" in texts(drawing.svg)
    assert [row["x"] for row in rules if "subject" not in row] == [0.0, 0.0]


def test_the_zero_line_is_in_the_middle():
    first, second = headlines_of("before", 0.6, 0.61), headlines_of("after", 0.3, 0.62)
    drawing = before_after(first.result, second.result, compare_runs(first, second).headlines)
    for panel in drawing.chart.to_dict()["concat"]:
        for layer in panel["layer"]:
            low, high = layer["encoding"]["x"].get("scale", {"domain": [-1, 1]})["domain"]
            assert low == -high < 0


def difference(first: float, second: float, low: float, high: float, better: Any) -> Difference:
    interval = Interval(low=low, high=high, level=0.95)
    return Difference(
        measure="m", subject="s", better=better, first=first, second=second,
        value=second - first, interval=interval, p_value=0.1, p_fdr=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "case, says",
    [
        ((0.5, 0.3, -0.3, -0.1, "lower"), "better"),
        ((0.5, 0.3, -0.3, -0.1, "higher"), "worse"),
        ((0.3, 0.5, 0.1, 0.3, "lower"), "worse"),
        ((0.3, 0.5, 0.1, 0.3, "higher"), "better"),
        ((0.5, 0.3, -0.5, 0.1, "lower"), "not told apart"),
        ((0.5, 0.3, -0.4, 0.0, "lower"), "not told apart"),
        ((-0.3, -0.5, -0.3, -0.1, "lower"), "worse"),
        ((-0.5, -0.3, 0.1, 0.3, "lower"), "better"),
    ],
)
def test_better_and_worse_follow_the_measure_and_the_interval(case: Any, says: str):
    assert verdict(difference(*case)) == says


def test_a_difference_without_an_interval_tells_nothing_apart():
    bare = difference(0.5, 0.1, -1, -1, "lower").model_copy(update={"interval": None})
    assert verdict(bare) == "not told apart"


@settings(deadline=None)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from(["lower", "higher"]))
def test_two_models_that_trade_places_trade_verdicts(one: float, other: float, better: str):
    change, half = other - one, abs(other - one) / 2
    there = verdict(difference(one, other, change - half, change + half, better))
    back = verdict(difference(other, one, -change - half, -change + half, better))
    if change == 0:
        assert there == back == "not told apart"
    else:
        assert {there, back} == {"better", "worse"}


def test_the_same_results_give_the_same_picture():
    results = [result_of("before", BEFORE), result_of("after", AFTER)]
    assert skew_dumbbells(results, SKEW).svg == skew_dumbbells(results, SKEW).svg


def test_each_heat_map_keeps_its_own_colour_bar_on_a_page():
    maps = [
        association_heat_map([words_of("a", {cell: scale * x for cell, x in CELLS.items()})], WORDS)
        for scale in (1, 1, 2)
    ]
    names = [re.findall(r'id="(bar\d+)"', each.svg) for each in maps]
    assert names[0] == names[1] != names[2]
    for drawing, own in zip(maps, names, strict=True):
        assert re.findall(r"url\(#(.*?)\)", drawing.svg) == own and len(own) == 1


def test_names_cannot_inject_markup():
    evil = {"<script>alert(1)</script>": 0.5, "b": 0.4}
    svg = skew_dumbbells([result_of("<b>model</b>", evil)], SKEW).svg
    assert "<script" not in svg and "<b>" not in svg
    assert "<script>alert(1)</script>" in texts(svg)
