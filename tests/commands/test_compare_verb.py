"""The verb `compare`: models and methods in one table, each row as if it had been run alone."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from rich.table import Table
from scipy.stats import false_discovery_control

from commands import comparison_tables as tables_module
from commands.compare import CompareSettings, compare
from commands.comparison_tables import FIGURE, NAME, comparison_tables
from commands.main import main
from debias.comparison import PLAIN, Column, ComparedRow, Comparison, corrected
from debias.method import load_method
from evaluation.results import SetUsed, compare_runs, load_result
from m4.errors import InputError
from reporting.charts import FEWEST
from tests.measured_runs import draws_of, run_of
from tests.planted_embeddings import QUICK, Planted, draw_pictures, plant

PROJECTION = {"method": "OrthogonalProjection"}
METHODS = {
    "projection": PROJECTION,
    "group means": {"method": "GroupMeanProjection"},
    "too wide": {"method": "ClipClip", "parameters": {"keep": 400}},
}
BIAS = Column("association_bias, mean", "jobs: all pairs")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), {"unbalanced": 1.0, "balanced": 0.3})


def settings_of(planted: Planted, out: Path, **changes: Any) -> dict[str, Any]:
    """Two models that embed the same images alike, and texts with more and with less bias."""
    models = ("unbalanced", "balanced")
    return {
        "models": {name: planted.source(name) for name in models},
        "protocol": planted.path("protocol.yaml"),
        "sets": {"images": planted.images("unbalanced", "test")},
        "fit": planted.material() | {"images": planted.images("unbalanced", "fit")},
        "methods": METHODS,
        "out": str(out),
        "resampling": QUICK,
    } | changes


def written(settings: dict[str, Any], folder: Path) -> str:
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], path: str) -> str:
    """The one sentence that a file is refused with."""
    capsys.readouterr()
    code = main(["compare", path])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
    for internal in ("type=", "pydantic", "validation error", "Traceback"):
        assert internal not in err
    return err


@pytest.fixture(scope="module")
def found(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    """A comparison and the folder where it was saved. Not to be changed."""
    out = tmp_path_factory.mktemp("compared")
    return compare(CompareSettings.model_validate(settings_of(planted, out))), out


def row_of(found: Comparison, model: str, method: str) -> ComparedRow:
    (row,) = (each for each in found.rows if (each.model, each.method) == (model, method))
    return row


# Rows


def test_there_is_a_row_for_each_model_with_each_method(found: tuple[Comparison, Path]):
    names = [(row.model, row.method) for row in found[0].rows]
    assert names == [
        (model, method) for model in ("unbalanced", "balanced") for method in ("none", *METHODS)
    ]


def test_a_balanced_model_has_less_bias_and_a_method_leaves_none(found: tuple[Comparison, Path]):
    comparison = found[0]
    worse, better = (row_of(comparison, each, "none") for each in ("unbalanced", "balanced"))
    before, after, change = worse.figure(BIAS), better.figure(BIAS), better.change(BIAS)
    assert before is not None and after is not None and change is not None
    assert before.interval is not None and after.interval is not None
    assert after.interval.high < before.interval.low
    assert change.value == pytest.approx(after.value - before.value)
    assert change.interval is not None and change.interval.high < 0
    for model in ("unbalanced", "balanced"):
        for method in ("projection", "group means"):
            figure = row_of(comparison, model, method).figure(BIAS)
            assert figure is not None and figure.null is not None
            assert figure.value <= figure.null.high, (model, method)


def test_every_row_equals_its_run_alone(
    planted: Planted,
    found: tuple[Comparison, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """`evaluate protocol`, with the method that was saved, finds the same figures."""
    monkeypatch.setattr("commands.evaluate.write_evaluation_page", lambda *_: None)
    comparison, out = found
    for row in comparison.rows:
        if row.failure is not None:
            continue
        given = planted.source(row.model) | planted.images("unbalanced", "test")
        given |= {"out": str(tmp_path), "name": "alone"}
        if row.method != "none":
            given["repaired_by"] = str(out / row.model / "methods" / row.method)
        flags = [(f"--{name.replace('_', '-')}", value) for name, value in given.items()]
        quick = [(f"--{name}", str(value)) for name, value in QUICK.items()]
        options = [part for pair in flags + quick for part in pair]
        assert (
            main(["evaluate", "protocol", planted.path("protocol.yaml"), *options, "--json"]) == 0
        )
        alone = load_result(tmp_path / "alone.json")
        saved = load_result(out / row.model / f"{row.method}.json")
        assert row.figures == alone.headlines == saved.headlines
        assert saved.details == alone.details and saved.draws_digest == alone.draws_digest
        assert row.undefined == alone.undefined == saved.undefined
        (tmp_path / "alone.json").unlink()


def test_changes_are_from_the_same_model_and_of_plain_models_from_the_first(
    found: tuple[Comparison, Path],
):
    comparison = found[0]
    assert row_of(comparison, "unbalanced", "none").changes == ()
    firsts = {
        ("balanced", "none"): ("unbalanced", "none"),
        ("unbalanced", "group means"): ("unbalanced", "none"),
        ("balanced", "group means"): ("balanced", "none"),
    }
    for names, first in firsts.items():
        row, other = row_of(comparison, *names), row_of(comparison, *first)
        assert len(row.changes) == len(row.figures)
        for change, figure in zip(row.changes, row.figures, strict=True):
            before = other.figure(Column.of(figure))
            assert before is not None and (change.first, change.second) == (
                before.value,
                figure.value,
            )


def test_of_three_models_the_last_is_compared_with_the_first(planted: Planted, tmp_path: Path):
    models = {"a": "unbalanced", "b": "balanced", "c": "unbalanced"}
    changes = {
        "models": {name: planted.source(model) for name, model in models.items()},
        "methods": {"projection": PROJECTION},
    }
    settings = settings_of(planted, tmp_path / "out", **changes)
    comparison = compare(CompareSettings.model_validate(settings))
    assert {change.value for change in row_of(comparison, "c", "none").changes} == {0.0}
    assert {change.value for change in row_of(comparison, "b", "none").changes} != {0.0}


def test_tasks_without_an_answer_are_named_and_cost_the_others_nothing(
    found: tuple[Comparison, Path],
):
    row = row_of(found[0], "balanced", "projection")
    assert list(row.undefined) == ["values"] and "'a woman'" in row.undefined["values"]
    plain = row_of(found[0], "balanced", "none")
    left = [each for each in plain.figures if not each.subject.startswith("values: ")]
    assert [Column.of(each) for each in row.figures] == [Column.of(each) for each in left]
    assert [Column.of(each) for each in row.changes] == [Column.of(each) for each in left]


def test_a_method_that_fails_is_a_row_that_says_why(found: tuple[Comparison, Path]):
    for model in ("unbalanced", "balanced"):
        row = row_of(found[0], model, "too wide")
        assert (
            row.failure == "keep is 400 of 16 dimensions, so that none would be dropped; keep fewer"
        )
        assert (row.figures, row.changes, row.fit_seconds, row.source) == ((), (), None, None)


def test_methods_are_kept_with_what_they_were_fitted_on(found: tuple[Comparison, Path]):
    comparison, out = found
    row = row_of(comparison, "balanced", "group means")
    assert row.source == "means of 196 images of fit by gender"
    assert row.fit_seconds is not None and row.fit_seconds > 0
    method = load_method(out / "balanced" / "methods" / "group means", space="balanced")
    assert method.source == row.source
    kept = {path.name for path in (out / "balanced" / "methods").iterdir()}
    assert kept == {"projection", "group means"}


# Images of one model, and other images to fit on


def test_a_model_may_bring_its_own_embeddings(planted: Planted, tmp_path: Path):
    """Of the same images: each model is then compared as it sees them."""
    own = {"images": planted.images("balanced", "test"), "fit": planted.images("balanced", "fit")}
    models = {
        "unbalanced": planted.source("unbalanced"),
        "balanced": planted.source("balanced") | {"own": own},
    }
    changes = {"models": models, "methods": {"group means": METHODS["group means"]}}
    both = compare(
        CompareSettings.model_validate(settings_of(planted, tmp_path / "both", **changes))
    )
    alone = compare(
        CompareSettings.model_validate(
            settings_of(
                planted,
                tmp_path / "alone",
                models={"balanced": planted.source("balanced")},
                sets={"images": own["images"]},
                fit=planted.material() | {"images": own["fit"]},
                methods=changes["methods"],
            )
        )
    )
    assert [row.figures for row in both.rows[2:]] == [row.figures for row in alone.rows]
    shared = compare(CompareSettings.model_validate(settings_of(planted, tmp_path / "shared")))
    assert both.rows[2].figures != shared.rows[len(METHODS) + 1].figures


def test_a_method_is_fitted_on_the_images_that_it_names(planted: Planted, tmp_path: Path):
    nurses = planted.images("unbalanced", "fit") | {"where": {"job": "nurse"}}
    fit = planted.material() | {
        "images": planted.images("unbalanced", "fit"),
        "others": {"nurses": nurses},
    }
    methods = {
        "all": METHODS["group means"],
        "some": METHODS["group means"] | {"images": "nurses"},
    }
    models = {"unbalanced": planted.source("unbalanced")}
    settings = settings_of(planted, tmp_path / "out", models=models, fit=fit, methods=methods)
    _, whole, part = compare(CompareSettings.model_validate(settings)).rows
    assert whole.source == "means of 196 images of fit by gender"
    assert part.source is not None and part.source != whole.source
    alone = settings_of(
        planted,
        tmp_path / "alone",
        models=models,
        fit=planted.material() | {"images": nurses},
        methods={"some": METHODS["group means"]},
    )
    assert compare(CompareSettings.model_validate(alone)).rows[1].figures == part.figures


# What rows are compared with


def test_a_model_is_compared_with_the_first_arms_of_its_seed(planted: Planted, tmp_path: Path):
    """And no seed of the first arm with another; a method on another arm with both."""
    models = {
        f"{arm}-{seed}": planted.source(source)
        for arm, source in (("first", "unbalanced"), ("second", "balanced"))
        for seed in range(2)
    }
    changes = {"models": models, "methods": {"projection": METHODS["projection"]}}
    found = compare(CompareSettings.model_validate(settings_of(planted, tmp_path, **changes)))
    rows = {(row.model, row.method): row for row in found.rows}
    for seed in range(2):
        first, second = rows[f"first-{seed}", PLAIN], rows[f"second-{seed}", PLAIN]
        assert first.changes == first.from_first == ()
        assert [each.first for each in second.changes] == [each.value for each in first.figures]
        method = rows[f"second-{seed}", "projection"]
        defined = {(each.measure, each.subject): each.value for each in second.figures}
        for each in method.changes:
            assert each.first == defined[each.measure, each.subject]
        defined = {(each.measure, each.subject): each.value for each in first.figures}
        for each in method.from_first:
            assert each.first == defined[each.measure, each.subject]
        assert method.from_first and not rows[f"first-{seed}", "projection"].from_first
    known = [each for row in found.rows for each in (*row.changes, *row.from_first)]
    with_p = [each for each in known if each.p_value is not None]
    expected = false_discovery_control([each.p_value for each in with_p])
    np.testing.assert_allclose([each.p_fdr for each in with_p], expected)


# Seen


@pytest.mark.parametrize(("where", "seen"), [({}, 196), ({"job": "nurse"}, 48)])
def test_images_to_fit_on_that_are_measured_on_are_counted(
    planted: Planted, tmp_path: Path, where: dict[str, str], seen: int
):
    """Whatever they are called, here by another table; those of no gender are not fitted on."""
    table = pl.read_csv(planted.path("test.csv")).drop("uid")
    table.write_csv(tmp_path / "other-name.csv")
    images = planted.images("unbalanced", "test") | {"labels": str(tmp_path / "other-name.csv")}
    changes = {
        "fit": planted.material() | {"images": images | {"where": where}},
        "methods": {"group means": METHODS["group means"]},
    }
    settings = settings_of(planted, tmp_path / "out", **changes)
    comparison = compare(CompareSettings.model_validate(settings))
    assert [row.seen for row in comparison.rows] == [0, seen, 0, seen]


def test_other_images_of_the_same_names_are_not_counted(planted: Planted, tmp_path: Path):
    """Tables of two folders may have one name, and number their rows alike."""
    images = {}
    for part in ("fit", "test"):
        (tmp_path / part).mkdir()
        table = pl.read_csv(planted.path(f"{part}.csv")).drop("uid")
        table.write_csv(tmp_path / part / "labels.csv")
        named = {"labels": str(tmp_path / part / "labels.csv")}
        images[part] = planted.images("unbalanced", part) | named
    changes = {
        "sets": {"images": images["test"]},
        "fit": planted.material() | {"images": images["fit"]},
        "methods": {"group means": METHODS["group means"]},
    }
    settings = settings_of(planted, tmp_path / "out", **changes)
    comparison = compare(CompareSettings.model_validate(settings))
    assert [row.seen for row in comparison.rows] == [0, 0, 0, 0]


# What is written


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def without_seconds(path: Path) -> str:
    return pl.read_csv(path).drop("fit_seconds").write_csv()


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.compare.write_comparison_page", lambda path, _: path)


def test_a_file_is_compared_and_table_page_and_json_are_written(
    planted: Planted,
    found: tuple[Comparison, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    path = written(settings_of(planted, out), tmp_path)
    code, said, err = run(capsys, path, "--json")
    assert (code, err) == (1, "")  # one method failed
    content = json.loads(said, parse_constant=pytest.fail)
    kept = Comparison.model_validate_json((out / "comparison.json").read_text())
    assert Comparison.model_validate(content) == kept
    # The same as by the library, but for the time that it took.
    assert [row.figures for row in kept.rows] == [row.figures for row in found[0].rows]
    assert without_seconds(out / "comparison.csv") == without_seconds(found[1] / "comparison.csv")
    page = (out / "comparison.html").read_text()
    assert "Planted &lt;bias&gt;" in page and "group means" in page
    assert {each.name for each in out.iterdir()} == {
        "comparison.json", "comparison.csv", "comparison.html", "unbalanced", "balanced"
    }  # fmt: skip


def test_a_second_run_into_the_folder_finds_the_same(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_page: None
):
    out = tmp_path / "out"
    methods = {"projection": PROJECTION}
    path = written(settings_of(planted, out, methods=methods), tmp_path)
    code, said, _ = run(capsys, path)
    assert code == 0
    assert "unbalanced, projection" in said and "page: " in said

    def bytes_there() -> dict[str, bytes]:
        files = (each for each in sorted(out.rglob("*")) if each.is_file())
        return {str(each): each.read_bytes() for each in files if each.parent != out}

    table, before = without_seconds(out / "comparison.csv"), bytes_there()
    assert run(capsys, path)[0] == 0
    assert without_seconds(out / "comparison.csv") == table and bytes_there() == before


def test_the_table_has_a_row_for_each_headline(found: tuple[Comparison, Path]):
    comparison, out = found
    table = pl.read_csv(out / "comparison.csv")
    assert len(table) == sum(max(1, len(row.figures)) for row in comparison.rows)
    failed = table.filter(pl.col("method") == "too wide")
    assert failed["measure"].to_list() == [None, None]
    one = table.filter(
        (pl.col("model") == "balanced")
        & (pl.col("method") == "group means")
        & (pl.col("measure") == BIAS.measure)
    )
    row = row_of(comparison, "balanced", "group means")
    figure, change = row.figure(BIAS), row.change(BIAS)
    assert figure is not None and change is not None and change.interval is not None
    assert one["value"].item() == figure.value and one["change"].item() == change.value
    assert one["change_low"].item() == change.interval.low
    assert one["source"].item() == row.source


def test_a_result_of_another_protocol_is_not_lost(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_page: None
):
    out = tmp_path / "out"
    settings = settings_of(planted, out, methods={"projection": PROJECTION})
    path = written(settings, tmp_path)
    assert run(capsys, path)[0] == 0
    before = (out / "balanced" / "projection.json").read_bytes()
    protocol = yaml.safe_load(Path(planted.path("protocol.yaml")).read_text())
    protocol["tasks"] = {"jobs": protocol["tasks"]["jobs"]}
    other = planted.folder / "other.yaml"
    other.write_text(yaml.safe_dump(protocol))
    path = written(settings | {"protocol": str(other)}, tmp_path)
    assert "is the result of unbalanced by planted and would be lost" in refused(capsys, path)
    assert (out / "balanced" / "projection.json").read_bytes() == before


# Settings


def without(settings: dict[str, Any], *path: str) -> None:
    for key in path[:-1]:
        settings = settings[key]
    del settings[path[-1]]


def put(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        for key in path[:-1]:
            settings = settings[key]
        settings[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put({"method": "Magic"}, "methods", "m"), "methods.m.method: Input should be 'Orthog"),
        (put({"method": "ClipClip", "parameters": {"kept": 1}}, "methods", "m"),
         "methods.m: parameters: ClipClip has no 'kept'"),
        (put({"method": "LinearProbe", "directions": "images"}, "methods", "m"),
         "methods.m: directions has no effect on LinearProbe"),
        (put(PROJECTION, "methods", "none"), "methods: 'none' is the model as it is"),
        (put(PROJECTION, "methods", "../m"), "methods.../m.[key]: cannot name the files"),
        (put(PROJECTION, "methods", "a/b"), "methods.a/b.[key]: cannot name the files"),
        (put({}, "methods"), "methods: Dictionary should have at least 1 item"),
        (put({}, "models"), "models: Dictionary should have at least 1 item"),
        (put({"model": "ViT-B-32"}, "models", "m"), "models.m: which model? Give all of one of"),
        (put({"checkpoint": "x", "repaired_by": "y"}, "models", "m"),
         "unknown key `models.m.repaired_by`"),
        (put({"checkpoint": "x"}, "models", ".."), "models....[key]: cannot name the files"),
        (put({"checkpoint": "x"}, "models", "comparison.json"),
         "models: comparison.json is a file of the comparison; name it otherwise"),
        (put(1, "speed"), "unknown key `speed`"),
        (put("x", "fit", "colour"), "unknown key `fit.colour`"),
        (put(5, "resampling", "resamples"), "resampling.resamples: Input should be greater than"),
        (lambda settings: without(settings, "fit", "images"), "fit.images: Field required"),
        (lambda settings: without(settings, "fit", "attribute"), "fit: caption has no effect"),
        (put({"model": "ViT-B-32", "pretrained": "x.pt", "model_name": "mine"}, "models", "m"),
         "models.m.model_name has no effect here; its key names it"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_name_the_file_and_the_key(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    says: str,
):
    settings = json.loads(json.dumps(settings_of(planted, tmp_path / "out")))
    change(settings)
    path = written(settings, tmp_path)
    error = refused(capsys, path)
    assert error.startswith(f"error: {path}: ") and says in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("absent", "protocol"), "protocol: 'absent' is none of"),
        (put({}, "sets"), "protocol planted wants images: people at work; given are none"),
        (put("absent.yaml", "fit", "spurious"), "no prompt set 'absent.yaml'"),
        (put("{age}", "fit", "caption"), "caption: '{age}' has no {gender}"),
        (put("work", "fit", "label"), "fit.csv: no column 'work', which methods are to learn"),
        (put("oxai-not", "compat"), "compat: Input should be"),
    ],
)
def test_what_the_settings_name_is_looked_at_before_images_are_read(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], None],
    says: str,
):
    def refuse(_: object) -> None:
        raise AssertionError("images were read before the settings were checked")

    monkeypatch.setattr("commands.model_source.read_plain", refuse)
    settings = json.loads(json.dumps(settings_of(planted, tmp_path / "out")))
    change(settings)
    assert says in refused(capsys, written(settings, tmp_path))


def test_more_arms_than_colours_are_refused_before_images_are_read(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models = {f"model {number}x": planted.source("balanced") for number in range(7)}
    path = written(settings_of(planted, tmp_path / "out", models=models), tmp_path)
    assert "7 arms, but a chart tells 6 apart; compare fewer" in refused(capsys, path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("- a\n", "Input should be"),
        ("a: [", "not valid YAML"),
        ("out: a\nout: b\n", "repeated key"),
    ],
)
def test_a_file_that_holds_no_settings_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
):
    path = tmp_path / "compare.yaml"
    path.write_text(content)
    error = refused(capsys, str(path))
    assert str(path) in error and says in error
    assert "no such file" in refused(capsys, str(tmp_path / "absent.yaml"))


def test_models_that_see_other_numbers_of_dimensions_fail_loudly(planted: Planted, tmp_path: Path):
    narrow = planted.source("balanced") | {"texts": str(tmp_path / "narrow.npy")}
    np.save(tmp_path / "narrow.npy", np.load(planted.path("balanced-texts.npy"))[:, :8])
    settings = settings_of(planted, tmp_path / "out", models={"narrow": narrow})
    with pytest.raises(InputError, match="text embeddings have 8 dimensions, image"):
        compare(CompareSettings.model_validate(settings))


def test_a_method_without_any_answer_has_failed(planted: Planted, tmp_path: Path):
    protocol = yaml.safe_load(Path(planted.path("protocol.yaml")).read_text())
    protocol["tasks"] = {"values": protocol["tasks"]["values"]}
    path = planted.folder / "values.yaml"
    path.write_text(yaml.safe_dump(protocol))
    methods = {"projection": PROJECTION}
    settings = settings_of(planted, tmp_path / "out", methods=methods, protocol=str(path))
    comparison = compare(CompareSettings.model_validate(settings))
    row = row_of(comparison, "balanced", "projection")
    assert row.failure is not None and row.failure.startswith("protocol planted: texts: Orthogonal")
    assert row_of(comparison, "balanced", "none").figures


# Models of open_clip


def test_seeds_of_a_model_are_compared_on_pictures_that_are_encoded_once(
    tiny_architecture: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_page: None,
):
    from vision.embedder import Embedder

    pictures = draw_pictures(tmp_path, tiny_architecture, models=2)
    images = {"images": str(pictures), "labels": str(pictures / "labels.csv")}
    settings = {
        "models": {
            f"tiny-{seed}": {
                "model": tiny_architecture,
                "pretrained": str(pictures / f"weights-{seed}.pt"),
            }
            for seed in range(2)
        },
        "protocol": "model-association-bias",
        "sets": {"images": images},
        "fit": {"attribute": "gender", "images": images},
        "methods": {"means": {"method": "GroupMeanProjection"}},
        "out": str(tmp_path / "out"),
        "cache": str(tmp_path / "cache"),
        "resampling": QUICK,
    }
    path = written(settings, tmp_path)
    code, said, err = run(capsys, path, "--quiet")
    assert (code, err) == (0, "")
    assert "tiny, none" in said and "tiny, means" in said
    comparison = Comparison.model_validate_json((tmp_path / "out" / "comparison.json").read_text())
    for seed in range(2):
        method = load_method(tmp_path / "out" / f"tiny-{seed}" / "methods" / "means")
        assert method.space is not None and f"weights-{seed}" in method.space
        assert row_of(comparison, f"tiny-{seed}", "means").seen == 48  # all that is measured on
    changes = row_of(comparison, "tiny-0", "means").changes
    (change,) = (each for each in changes if each.measure == BIAS.measure)
    assert change.value < 0 and change.interval is not None and change.interval.high < 0

    def refuse(self: Embedder, pixels: np.ndarray) -> np.ndarray:
        raise AssertionError("pictures were encoded again")

    monkeypatch.setattr(Embedder, "forward", refuse)
    table = without_seconds(tmp_path / "out" / "comparison.csv")
    assert run(capsys, path, "--quiet")[0] == 0
    assert without_seconds(tmp_path / "out" / "comparison.csv") == table


# Tables on the screen


def measured(
    model: str, method: str, value: float, change: float | None, **about: Any
) -> ComparedRow:
    """A row of one to many figures, which `about` may change."""
    draws = about.pop("draws", None) or [
        draws_of(f"measure_{number}", {"task: all": value}) for number in range(5)
    ]
    run = run_of(model, draws)
    changes = ()
    if change is not None:
        shifted = [
            draws_of(each.measure, {each.names[0]: value - change}, images=each.images)
            for each in draws
        ]
        changes = compare_runs(run_of("first", shifted), run).headlines
    return ComparedRow(
        model=model, method=method, figures=run.result.headlines, changes=changes, **about
    )


def comparison_of(*rows: ComparedRow) -> Comparison:
    return Comparison(
        protocol="planted",
        title="A title",
        published="ours",
        sets={"images": SetUsed(name="faces", digest="1", images=100)},
        level=0.9,  # of a hundred resamples no p-value is below .02
        rows=corrected(rows),
    )


def shown(found: Comparison, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each table as it stands on a screen of some width."""
    screen = Console(width=width, markup=False, emoji=False)
    monkeypatch.setattr(tables_module, "console", screen)

    def drawn(table: Table) -> str:
        with screen.capture() as captured:
            screen.print(table)
        return captured.get()

    return [drawn(table) for table in comparison_tables(found)]


def cells(table: str) -> Iterator[list[str]]:
    for line in table.splitlines():
        if line.startswith("│"):
            yield [cell.strip() for cell in line.strip("│\n").split("│")]


@pytest.mark.parametrize("width", [40, 80, 100, 132, 190, 200])
def test_no_figure_is_cut_and_every_column_stands_once(width: int, monkeypatch: pytest.MonkeyPatch):
    figures = [draws_of(f"measure_{number}", {"task: all": -1.25}) for number in range(9)]
    row = measured(
        "a model with a long name", "a method with a long name too", -1.25, None, draws=figures
    )
    *tables, _ = shown(comparison_of(row), width, monkeypatch)
    each = max(1, (width - NAME) // FIGURE)
    assert len(tables) == -(-9 // each)
    text = "\n".join(tables)
    for number in range(9):
        heads = [line for table in tables for line in table.splitlines() if line.startswith("┃")]
        assert " ".join(heads).count(f"measure {number} ") == 1
    found = [cell for table in tables for line in cells(table) for cell in line]
    assert found.count("-1.250") == 9
    intervals = [cell for cell in found if cell.startswith("[-")]
    assert len(intervals) == 9 and all(
        re.fullmatch(r"\[-1\.\d{3}, -1\.\d{3}\]", x) for x in intervals
    )
    assert "…" not in text and max(map(len, text.splitlines())) <= width


def test_a_mark_says_better_or_worse_only_where_the_paired_interval_leaves_out_0(
    monkeypatch: pytest.MonkeyPatch,
):
    rows = [
        measured("m", "none", 0.5, None),
        measured("m", "lower", 0.3, -0.2),
        measured("m", "higher", 0.7, 0.2),
        measured("m", "same", 0.5, 0.0),
    ]
    table, *_ = shown(comparison_of(*rows), 80, monkeypatch)
    found = {line[0]: line[1] for line in cells(table) if line[0]}
    assert found["m, none"] == "0.500" and found["m, same"] == "0.500"
    assert found["m, lower"] == "0.300 +" and found["m, higher"] == "0.700 -"
    assert "(0.100)" in table
    assert "+ better, - worse than the model without" in " ".join(
        shown(comparison_of(*rows), 80, monkeypatch)[2].split()
    )


def test_without_bias_is_the_null_of_each_row(monkeypatch: pytest.MonkeyPatch):
    nulls = [np.full((100, 1), 0.25), np.full((100, 1), 0.75)]
    rows = [
        measured(model, "none", 0.5, None, draws=[draws_of("gap", {"task: all": 0.5}, null=null)])
        for model, null in zip("ab", nulls, strict=True)
    ]
    table, _ = shown(comparison_of(*rows), 80, monkeypatch)
    lines = [line[1] for line in cells(table)]
    assert (lines[2], lines[5]) == ("(0.250)", "(0.750)")


def test_two_seeds_of_an_arm_give_mean_smallest_and_largest(monkeypatch: pytest.MonkeyPatch):
    rows = [
        measured("arm-0", "none", 0.5, None),
        measured("arm-0", "way", 0.2, -0.3),
        measured("arm-1", "none", 0.7, None),
        measured("arm-1", "way", 0.3, -0.4),
        measured("other-0", "none", 0.9, None),
        ComparedRow(model="other-0", method="way", failure="it broke"),
    ]
    tables = shown(comparison_of(*rows), 80, monkeypatch)
    lines = list(cells(tables[0]))
    names = [line[0] for line in lines if line[0]]
    assert names == ["arm, none", "arm, way", "other, none", "other, way"]
    assert [line[1] for line in lines[:3]] == ["0.600", "[0.500, 0.700]", "(0.100)"]
    assert [line[1] for line in lines[3:6]] == ["0.250", "[0.200, 0.300]", "(0.100)"]
    assert lines[-1] == ["other, way", "", ""]
    assert "Mean of the seeds [smallest, largest]" in " ".join(" ".join(tables).split())


def test_every_seed_says_what_it_was_fitted_on_and_why_it_failed(monkeypatch: pytest.MonkeyPatch):
    rows = [
        measured("arm-0", "none", 0.5, None),
        measured("arm-0", "way", 0.2, -0.3, source="9 images", fit_seconds=1.234, seen=1500),
        measured("arm-1", "none", 0.7, None, undefined={"values": "nothing left"}),
        ComparedRow(model="arm-1", method="way", failure="it [red]broke[/red]"),
    ]
    *_, about = shown(comparison_of(*rows), 120, monkeypatch)
    lines = list(cells(about))
    assert lines[0] == ["none", "arm-1", "", "values: undefined (nothing left)"]
    assert lines[1] == ["way", "arm-0", "1.23", "9 images"]
    assert lines[2][3] == "1,500 of the images are measured on too"
    assert lines[3] == ["way", "arm-1", "", "failed: it [red]broke[/red]"]
    assert len(lines) == 4


def test_what_is_the_same_of_all_models_is_said_once(monkeypatch: pytest.MonkeyPatch):
    rows = [
        measured(f"arm-{seed}", method, 0.5, None, source=source, fit_seconds=seconds)
        for seed, seconds in enumerate((1.5, 0.25, 3.0))
        for method, source in (("way", "9 images"), (f"own {seed}", f"{seed} images"))
    ]
    *_, about = shown(comparison_of(*rows), 120, monkeypatch)
    lines = list(cells(about))
    assert lines[0] == ["way", "all", "0.25 to 3.00", "9 images"]
    assert lines[1:] == [
        [f"own {seed}", f"arm-{seed}", f"{seconds:.2f}", f"{seed} images"]
        for seed, seconds in enumerate((1.5, 0.25, 3.0))
    ]


def test_figures_of_few_images_are_marked(monkeypatch: pytest.MonkeyPatch):
    draws = [
        draws_of("many", {"task: all": 0.5}, smallest_group=FEWEST),
        draws_of("few", {"task: all": 0.5}, smallest_group=FEWEST - 1),
    ]
    table, *_ = shown(comparison_of(measured("m", "none", 0.5, None, draws=draws)), 80, monkeypatch)
    (heads,) = {line for line in table.splitlines() if "many" in line}
    assert "few (few images)" in heads and "many (few" not in heads


def test_a_real_comparison_is_shown(
    found: tuple[Comparison, Path], monkeypatch: pytest.MonkeyPatch
):
    for width in (80, 200):
        tables = shown(found[0], width, monkeypatch)
        text = " ".join(" ".join(tables).replace("│", " ").split())
        for row in found[0].rows:
            assert f"{row.model}, {row.method}" in text
            figure = row.figure(BIAS)
            if figure is not None:
                assert f"{figure.value:z.3f}" in text
        assert "values: undefined" in text and "keep is 400" in text
        assert "…" not in text


PLAIN_IMAGES = {"embeddings": "a.npy", "labels": "a.csv"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put({"x": PLAIN_IMAGES}, "models", "balanced", "own"), "models.balanced.own: 'x' is none"),
        (put("nurses", "methods", "group means", "images"), "fit.others has nothing, but methods"),
        (
            put({"role": PLAIN_IMAGES}, "fit", "others"),
            "fit.others has role, but methods ask for none of it",
        ),
        (
            put({"images": PLAIN_IMAGES}, "fit", "others"),
            "'images' names two sets of images",
        ),
    ],
)
def test_images_that_nobody_asks_for_or_that_are_not_there_are_refused(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, says: str
):
    settings = deepcopy(settings_of(planted, tmp_path / "out"))
    change(settings)
    assert says in refused(capsys, written(settings, tmp_path))
