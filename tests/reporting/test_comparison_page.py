"""The page of a comparison: what its chart and its table say, and that it stands alone."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from debias.comparison import ComparedRow, Comparison, corrected
from evaluation.draws import Draws
from evaluation.results import ProtocolRun, SetUsed, compare_runs
from m4.errors import InputError
from reporting.charts import ARMS, FEWEST
from reporting.comparison_chart import check_arms, comparison_chart
from reporting.comparison_page import comparison_page, write_comparison_page
from reporting.drawings import COLOURS
from reporting.page import EMPTY, LARGEST
from tests.measured_runs import draws_of, marked, run_of
from tests.reporting.test_page import BROWSER, open_in_browser

EVIL = "<b>bold</b><script>alert(1)</script>"


def measured(model: str, skew: float, **changes: Any) -> ProtocolRun:
    """A bias, a quality without a null, and a figure of few images."""
    draws = [
        draws_of("max_skew@10, mean", {"gender: all prompts": skew}),
        draws_of("zero_shot_top1", {"zero-shot: all": 0.625}, better="higher", null=None),
        draws_of("ndkl, mean", {"small: all prompts": 0.123}, smallest_group=FEWEST - 1),
    ]
    return run_of(model, draws, **changes)


def row_of(run: ProtocolRun, against: ProtocolRun | None, **about: Any) -> ComparedRow:
    return ComparedRow(
        **{"model": run.result.model, "method": "none"} | about,
        figures=run.result.headlines,
        changes=() if against is None else compare_runs(against, run).headlines,
        undefined=run.result.undefined,
    )


def comparison_of(*rows: ComparedRow, **changes: Any) -> Comparison:
    given = {
        "protocol": "retrieval-test",
        "title": "Who is found first",
        "published": "Someone (2021)",
        "sets": {"images": SetUsed(name="faces", digest="1", images=12345, left_out={"cut": 7})},
        "level": 0.9,  # of a hundred resamples no p-value is below .02
        "rows": corrected(rows),
    }
    return Comparison(**{**given, **changes})


@pytest.fixture
def found() -> Comparison:
    """Two models, a method that helps, one that harms and one that fails."""
    first, second = measured("original-0", 0.6), measured("balanced-0", 0.3)
    fitted = {"fit_seconds": 1.5, "source": "900 images of faces by gender"}
    return comparison_of(
        row_of(first, None),
        row_of(measured("helped", 0.2), first, model="original-0", method="helps", **fitted),
        row_of(measured("harmed", 0.8), first, model="original-0", method="harms", **fitted),
        ComparedRow(model="original-0", method="fails", failure="keep is 400 of 16"),
        row_of(second, first),
        row_of(
            measured("again", 0.3),
            second,
            model="balanced-0",
            method="idle",
            seen=1234,
            from_first=compare_runs(first, measured("again", 0.3)).headlines,
        ),
    )


def tables_of(page: str) -> list[list[str]]:
    """The rows of each table, as they are written."""
    found = re.findall(r"<table>(.*?)</table>", page, re.S)
    return [re.findall(r"<tr>(.*?)</tr>", table, re.S) for table in found]


def cells(row: str) -> list[str]:
    """What a row says, a blank in place of each mark."""
    found = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S)
    return [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in found]


def line(page: str, *names: str) -> str:
    """The row of the first table that begins with these names."""
    (row,) = (row for row in tables_of(page)[0] if tuple(cells(row)[: len(names)]) == names)
    return row


def test_every_row_has_its_figures_with_intervals(found: Comparison):
    page = comparison_page(found)
    head, *rows = tables_of(page)[0]
    assert cells(head) == [
        "model",
        "method",
        "gender: all prompts max skew@10, mean; lower is better",
        "zero-shot: all zero shot top1; higher is better",
        "seconds to fit",
    ]
    names = [cells(row)[:2] for row in rows]
    assert names == [[row.model, row.method] for row in found.rows]
    interval = found.rows[1].figures[0].interval
    assert interval is not None
    around = f"{interval.low:.3f} to {interval.high:.3f}"
    helped = f"0.200 ▲ {around} without bias 0.100"
    assert cells(rows[1])[2:] == [helped, cells(rows[0])[3], "1.50"]
    assert cells(rows[3])[2:] == [EMPTY, EMPTY, ""]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("original-0", "none"), []),  # there is nothing to compare it with
        (("original-0", "helps"), ["better", "better"]),  # than the first, and by the method
        (("original-0", "harms"), ["worse", "worse"]),
        (("original-0", "fails"), []),
        (("balanced-0", "none"), ["better"]),
        (("balanced-0", "idle"), ["better"]),  # than the first, but not by the method
    ],
)
def test_green_and_red_only_where_the_paired_interval_leaves_out_0(
    found: Comparison, names: tuple[str, str], classes: list[str]
):
    assert re.findall(r'class="(better|worse)"', line(comparison_page(found), *names)) == classes


def test_a_change_within_its_interval_has_no_colour():
    """The figures differ by more than rounding, in resamples to either side."""
    first = measured("a", 0.6)
    other = measured("b", 0.55)
    noisy = replace(other.headlines[0], bootstrap=first.headlines[0].bootstrap[::-1] - 0.05)
    second = replace(other, headlines=(noisy, *other.headlines[1:]))
    page = comparison_page(comparison_of(row_of(first, None), row_of(second, first, method="m")))
    assert 'class="better"' not in page and 'class="worse"' not in page
    plain = comparison_page(comparison_of(row_of(first, None), row_of(other, first, method="m")))
    assert plain.count('class="better"') == 2  # with paired resamples the same change is certain


def test_a_signed_bias_is_better_nearer_to_0():
    first = run_of("a", [draws_of("gap", {"task: all": -0.6}, better="nearer 0")])
    second = run_of("b", [draws_of("gap", {"task: all": 0.1}, better="nearer 0")])
    page = comparison_page(comparison_of(row_of(first, None), row_of(second, first, method="m")))
    assert 'class="better">0.100' in line(page, "b", "m") and "nearer 0 is better" in page


def test_chance_among_many_differences_has_no_colour():
    """One difference that is as far off as 2 % of resamples are, alone and among twenty of none."""
    first = measured("a", 0.6)
    rows = [row_of(first, None), row_of(measured("b", 0.2), first, method="m")]
    idle = [row_of(measured("a", 0.6), first, method=f"idle {number}") for number in range(20)]
    assert 'class="better"' in line(comparison_page(comparison_of(*rows)), "b", "m")
    assert 'class="better"' not in line(comparison_page(comparison_of(*rows, *idle)), "b", "m")


def test_over_seeds_only_what_all_of_them_say_has_a_colour():
    def rows(arm: str, skews: tuple[float, float]) -> list[ComparedRow]:
        firsts = [measured(f"first-{seed}", 0.6) for seed in range(2)]
        return [
            row_of(measured(f"{arm}-{seed}", skew), None if arm == "first" else firsts[seed])
            for seed, skew in enumerate(skews)
        ]

    both = comparison_of(*rows("first", (0.6, 0.6)), *rows("both", (0.2, 0.3)))
    one = comparison_of(*rows("first", (0.6, 0.6)), *rows("one", (0.2, 0.6)))
    for comparison, arm, coloured in ((both, "both", True), (one, "one", False)):
        over_seeds, _, *_ = tables_of(comparison_page(comparison))
        (found,) = [row for row in over_seeds if cells(row)[0] == arm]
        assert ('class="better"' in found) == coloured
        assert "without bias 0.100" in found


def test_what_methods_were_fitted_on_and_where_they_fail_is_said(found: Comparison):
    rows = [cells(row) for row in tables_of(comparison_page(found))[1][1:]]
    assert rows == [
        ["helps", "original-0", "1.50", "900 images of faces by gender"],
        ["harms", "original-0", "1.50", "900 images of faces by gender"],
        ["fails", "original-0", "", "failed: keep is 400 of 16"],
        ["idle", "balanced-0", "", "1,234 of the images are measured on too"],
    ]


@pytest.mark.parametrize("method", ["none", "m"])
def test_tasks_without_an_answer_are_named_for_models_and_methods(method: str):
    run = measured("a", 0.5, undefined={"values": "nothing is left of 'a woman'"})
    page = comparison_page(comparison_of(row_of(run, None, method=method)))
    assert "values: undefined (nothing is left of &#39;a woman&#39;)" in tables_of(page)[1][1]


def test_a_measure_that_tells_of_few_images_is_in_neither_table_nor_chart(found: Comparison):
    page = comparison_page(found)
    assert "0.123" not in page and "small: all prompts" not in page
    assert f"Left out, as they tell of fewer than {FEWEST} images: 1." in page
    assert comparison_chart(found).hidden == 1


def test_one_row_of_few_images_hides_the_measure_of_all():
    """Else the other models would tell of them."""
    rows = [
        row_of(run_of("a", [draws_of("gap", {"t: all": 0.4}, smallest_group=FEWEST)]), None),
        row_of(run_of("b", [draws_of("gap", {"t: all": 0.5}, smallest_group=FEWEST - 1)]), None),
    ]
    found = comparison_of(*rows)
    page = comparison_page(found)
    assert "0.400" not in page and "0.500" not in page
    drawing = comparison_chart(found)
    assert (drawing.chart, drawing.hidden, drawing.svg) == (None, 1, "")
    assert "0.400" in comparison_page(comparison_of(rows[0]))


def panels(found: Comparison) -> dict[str, dict[str, Any]]:
    chart = comparison_chart(found).chart.to_dict()
    return {panel["title"]["text"]: panel for panel in chart["concat"]}


def test_the_chart_has_a_panel_for_each_measure_and_a_point_for_each_figure(found: Comparison):
    assert list(panels(found)) == [
        "gender: all prompts; max skew@10, mean",
        "zero-shot: all; zero shot top1",
    ]
    points = marked(comparison_chart(found), "point")
    figures = [figure for row in found.rows for figure in row.figures if figure.images == 500]
    assert len(points) == len([each for each in figures if each.smallest_group is None])
    one = {(each["model"], each["method"]): each["x"] for each in points[:5]}
    assert one == {
        ("original-0", "none"): 0.6,
        ("original-0", "helps"): 0.2,
        ("original-0", "harms"): 0.8,
        ("balanced-0", "none"): 0.3,
        ("balanced-0", "idle"): 0.3,
    }
    assert {each["arm"] for each in points} == {"original", "balanced"}
    rules = marked(comparison_chart(found), "rule")
    assert len(rules) == len(points)
    assert all(each["x"] <= each["value"] <= each["x2"] for each in rules)


def test_every_method_has_its_line_in_every_panel_also_where_it_failed(found: Comparison):
    for panel in panels(found).values():
        (domain,) = {
            tuple(layer["encoding"]["y"]["scale"]["domain"]) for layer in panel["layer"][1:]
        }
        assert domain == ("none", "helps", "harms", "fails", "idle")


def test_each_row_has_a_band_of_its_own(found: Comparison):
    """What is without bias depends on the row: a worst group's on the accuracy of all."""
    bands = marked(comparison_chart(found), "bar")
    expected = [
        (row.model, row.method, figure.null.low, figure.null.high)
        for row in found.rows
        for figure in row.figures[:1]  # the second measure has no null, the third few images
        if figure.null is not None
    ]
    assert len(expected) == 5
    assert [
        (each["model"], each["method"], each["null_low"], each["null_high"]) for each in bands
    ] == expected


def test_arms_have_the_colours_of_the_other_pages(found: Comparison):
    svg = comparison_chart(found).svg
    assert ARMS["original"] in svg and ARMS["balanced"] in svg and COLOURS[2] not in svg


def test_more_arms_than_colours_are_refused():
    rows = [row_of(measured(f"arm {letter}", 0.5), None) for letter in "abcdefg"]
    with pytest.raises(InputError, match=r"7 arms, but a chart tells 6 apart; compare fewer"):
        comparison_page(comparison_of(*rows))
    assert comparison_page(comparison_of(*rows[:6]))
    check_arms(["a"] * 7)  # seeds of one arm


@pytest.mark.parametrize("interval", [True, False])
def test_figures_without_interval_or_null_are_shown(interval: bool):
    draws = draws_of("gap", {"task: all": 0.4}, null=None)
    if not interval:
        draws = replace(draws, bootstrap=draws.bootstrap * float("nan"))
    found = comparison_of(row_of(run_of("a", [draws]), None))
    assert len(marked(comparison_chart(found), "rule")) == int(interval)
    assert len(marked(comparison_chart(found), "point")) == 1
    text = cells(line(comparison_page(found), "a", "none"))[2]
    assert text.startswith("0.400 ") if interval else text == "0.400"
    assert "nan" not in comparison_page(found).lower()


def test_a_figure_that_is_not_a_number_is_a_dash():
    figure = measured("a", 0.5).result.headlines[0].model_copy(update={"value": float("nan")})
    row = ComparedRow(model="a", figures=(figure.model_copy(update={"interval": None}),))
    page = comparison_page(comparison_of(row))
    assert cells(line(page, "a", "none"))[2].startswith(EMPTY) and "nan" not in page.lower()


def test_only_failures_make_a_page_too():
    row = ComparedRow(model="a", method="m", failure="it broke")
    page = comparison_page(comparison_of(row))
    assert "failed: it broke" in page and "<svg" not in page and "<figure>" not in page


def test_names_cannot_inject_markup():
    def evil(skew: float) -> list[Draws]:
        return [draws_of(f"{EVIL}, mean", {f"{EVIL}: {EVIL}": skew})]

    first = run_of(EVIL, evil(0.5), undefined={EVIL: EVIL})
    rows = (
        row_of(first, None),
        row_of(first, None, method=EVIL, source=EVIL),
        ComparedRow(model=EVIL, method="m", failure=EVIL),
    )
    sets = {EVIL: SetUsed(name=EVIL, digest="1", images=5, left_out={EVIL: 1})}
    page = comparison_page(comparison_of(*rows, title=EVIL, published=EVIL, sets=sets))
    assert "<script" not in page and "<b>" not in page
    # Names in the page and in the chart: both are written, as text.
    assert "&lt;b&gt;bold&lt;/b&gt;" in page.split("<svg")[1].split("</svg>")[0]
    assert page.count("&lt;script&gt;") > 12


def test_it_says_what_was_measured(found: Comparison):
    page = comparison_page(found)
    assert "faces, 12,345 images, 7 left out (cut)." in page
    assert "Source: Someone (2021)" in page and "intervals of 90 %" in page
    sets = {role: SetUsed(name=role, digest="1", images=1) for role in ("at_work", "portraits")}
    page = comparison_page(found.model_copy(update={"sets": sets}))
    assert "at work: at_work, 1 images; portraits: portraits, 1 images." in page


def test_it_is_small_stands_alone_and_is_the_same_each_time(found: Comparison, tmp_path: Path):
    path = write_comparison_page(tmp_path / "page.html", found)
    page = path.read_text()
    assert page == comparison_page(found) and [path] == list(tmp_path.iterdir())
    assert len(page.encode()) < LARGEST
    assert "<script" not in page and "url(http" not in page and "@import" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_a_comparison_that_was_saved_gives_the_same_page(found: Comparison, tmp_path: Path):
    found.save(tmp_path)
    read = Comparison.model_validate_json((tmp_path / "comparison.json").read_text())
    assert comparison_page(read) == comparison_page(found)


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_it_opens_in_a_browser(found: Comparison, tmp_path: Path):
    path = write_comparison_page(tmp_path / "page.html", found)
    opened = open_in_browser(path, tmp_path)
    assert "What the methods were fitted on" in opened.dom and "</svg>" in opened.dom
    assert not opened.script_errors
    assert not {url for url in opened.loaded if not url.startswith(("file:", "data:"))}
