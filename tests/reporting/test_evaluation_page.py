"""The page of an evaluation: what it says, and that it is one file that stands alone."""

import re
from pathlib import Path

import pytest

from evaluation.results import ProtocolRun, SetUsed
from m4.errors import InputError
from reporting import evaluation_page as module
from reporting.charts import FEWEST
from reporting.evaluation_page import ProtocolSection, evaluation_page, write_evaluation_page
from reporting.page import EMPTY, LARGEST
from tests.measured_runs import draws_of, run_of


def measured(model: str, skew: float = 0.6, **changes: object) -> ProtocolRun:
    """A run with every kind of table: prompts, words by groups, too few images, no null."""
    draws = [
        draws_of("max_skew@10, mean", {"gender: all prompts": skew}),
        draws_of("max_skew@10", {"gender: doctor": skew, "gender: nurse": skew / 2}),
        draws_of("zero_shot_top1", {"zero-shot: all": 0.625}, better="higher", null=None),
        draws_of("representation_bias", {"values: woman": 0.2}, null_kind="multinomial"),
        draws_of(
            "association",
            {f"race: {w}, {g}": skew / 3 for w in ("thief", "ugly") for g in ("Black", "White")},
            tail="both",
        ),
        draws_of("ndkl, mean", {"small: all prompts": 0.123}, images=FEWEST - 1),
    ]
    return run_of(model, draws, **changes)


def cells_of(page: str) -> list[list[str]]:
    """Rows of the first table, as text."""
    table = page.split("<table>")[1].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
        for row in rows
    ]


def test_the_table_has_every_headline_with_its_interval_and_its_null():
    run = measured("ViT-B-32")
    page = evaluation_page([ProtocolSection.of([run])])
    rows = cells_of(page)
    assert ["max skew@10, mean lower is better"] in rows
    assert ["zero shot top1 higher is better"] in rows
    found = run.result.headlines[0]
    assert found.interval is not None and found.null is not None and found.p_value is not None
    assert [
        "gender: all prompts",
        "0.600",
        f"{found.interval.low:.3f} to {found.interval.high:.3f}",
        f"0.100 ({found.null.low:.3f} to {found.null.high:.3f})",
        "0.500",
        f"{found.p_value:.3f}",
        "500",
    ] in rows
    bare = next(row for row in rows if row[0] == "zero-shot: all")
    assert bare[1] == "0.625" and bare[3:6] == [EMPTY] * 3


def test_it_says_what_was_measured_and_how():
    sets = {"images": SetUsed(name="faces", digest="1", images=12345, left_out={"no label": 7})}
    run = measured("ViT-B-32", sets=sets, compat="oxai")
    page = evaluation_page([ProtocolSection.of([run])])
    assert "Who is found first" in page and "Source: Someone (2021)" in page
    assert "faces, 12,345 images, 7 left out (no label)." in page
    assert "holds the percentile and the basic bootstrap interval, 100 resamples" in page
    assert "images trade their groups; preferences are drawn from the target shares" in page
    assert "the quirks of the code oxai" in page


def test_it_says_what_every_task_lost():
    lost = {"gender": {"not split 2": 1200, "<gender> not known": 3}}
    run = measured("ViT-B-32", left_out=lost, empty={"race": ("Other",)})
    page = evaluation_page([ProtocolSection.of([run])])
    assert "gender: 1,200 left out (not split 2), 3 left out (&lt;gender&gt; not known)." in page
    assert "race: no images of Other." in page
    assert "left out (" not in evaluation_page([ProtocolSection.of([measured("ViT-B-32")])])


def test_a_figure_without_a_better_direction_claims_none():
    run = run_of("a", [draws_of("rate", {"all": 0.3}, better=None)])
    page = evaluation_page([ProtocolSection.of([run])])
    assert ["rate "] in cells_of(page)
    assert "None is better" not in page


def test_two_models_stand_below_each_other_with_their_differences():
    runs = [measured("before"), measured("after", skew=0.3)]
    page = evaluation_page([ProtocolSection.of(runs)])
    rows = [row for row in cells_of(page) if row[0] == "gender: all prompts"]
    assert [row[:3] for row in rows] == [
        ["gender: all prompts", "before", "0.600"],
        ["gender: all prompts", "after", "0.300"],
    ]
    alone = evaluation_page([ProtocolSection.of(runs[:1])])
    assert page.count("<svg") == alone.count("<svg") + 1
    assert "after \N{MINUS SIGN} before" in page and "not told apart" in page


def test_every_table_of_details_has_a_chart():
    page = evaluation_page([ProtocolSection.of([measured("ViT-B-32")])])
    charts = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(charts) == 3
    assert ">doctor<" in charts[1] and ">thief<" in charts[2] and ">White<" in charts[2]


def test_figures_of_few_images_are_nowhere():
    page = evaluation_page([ProtocolSection.of([measured("ViT-B-32")])])
    assert "0.123" not in page and "small: all prompts" not in page
    assert f"Left out, as they tell of fewer than {FEWEST} images: 1." in page


def test_a_headline_that_compares_a_small_group_is_nowhere_but_counted():
    headlines = [
        draws_of("association, largest", {"gender: all": 0.123}, smallest_group=FEWEST - 1),
        draws_of("association, mean", {"race: all": 0.456}, smallest_group=FEWEST),
    ]
    page = evaluation_page([ProtocolSection.of([run_of("a", headlines)])])
    assert "0.123" not in page and "gender: all" not in page and "race: all" in page
    # Below the table and below the chart.
    assert page.count(f"Left out, as they tell of fewer than {FEWEST} images: 1.") == 2


def test_each_protocol_has_its_part():
    runs = [measured("a"), measured("a", protocol="other", title="Another protocol", digest="e")]
    page = evaluation_page([ProtocolSection.of([run]) for run in runs])
    assert page.index("<h2>Who is found first</h2>") < page.index("<h2>Another protocol</h2>")
    assert "<title>Evaluation of a</title>" in page


def test_names_cannot_inject_markup():
    evil = "<script>alert(1)</script>"
    draws = [
        draws_of(evil, {f"{evil}: a": 0.3, f"{evil}: {evil}": 0.4}),
        draws_of(f"{evil}, mean", {f"{evil}: all": 0.3}),
    ]
    sets = {evil: SetUsed(name=evil, digest="1", images=5, left_out={evil: 1})}
    run = run_of(evil, draws, title=evil, source=evil, sets=sets, compat=evil)
    page = evaluation_page([ProtocolSection.of([run])])
    assert "<script" not in page and "&lt;script&gt;" in page


def test_it_is_small_and_stands_alone():
    runs = [measured("before"), measured("after", skew=0.3)]
    page = evaluation_page([ProtocolSection.of(runs)])
    assert len(page.encode()) < LARGEST
    assert "<script" not in page and "url(http" not in page and "@import" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_a_page_that_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    section = ProtocolSection.of([measured("a")])
    with pytest.raises(InputError, match=r"the page of 1 protocols would be .* above 1,000"):
        write_evaluation_page(tmp_path / "page.html", [section])
    assert not list(tmp_path.iterdir())


def test_it_is_written_whole_and_the_same_each_time(tmp_path: Path):
    section = ProtocolSection.of([measured("a")])
    pages = [write_evaluation_page(tmp_path / name, [section]).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1] == evaluation_page([section]).encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_run_that_was_saved_gives_the_same_page(tmp_path: Path):
    runs = [measured("before"), measured("after", skew=0.3)]
    for run in runs:
        run.save(tmp_path, run.result.model)
    read = [ProtocolRun.load(tmp_path / f"{name}.json") for name in ("before", "after")]
    pages = [evaluation_page([ProtocolSection.of(each)]) for each in (runs, read)]
    assert cells_of(pages[0]) == cells_of(pages[1])


def test_a_model_cannot_stand_beside_itself():
    runs = [measured("a"), measured("a", skew=0.1)]
    with pytest.raises(InputError, match="models a, a: give each once"):
        evaluation_page([ProtocolSection.of(runs)])
