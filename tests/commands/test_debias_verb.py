"""The verb `debias`: methods are fitted, applied and measured by the command line."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from commands.main import main
from commands.model_source import ModelSource, PlainSource, open_model, open_plain
from debias.method import load_method
from evaluation.results import ProtocolResult, ProtocolRun, load_result
from m4.errors import UndefinedError
from pipelines.plain_embeddings import PlainSettings
from tests.planted_embeddings import DIMENSION, Planted, draw_pictures, plant

FITTED = {
    "OrthogonalProjection": "2 prompts of genders",
    "CalibratedProjection": "2 prompts of genders, 4 pairs of pairs",
    "FairCLIP": "196 images of fit by gender, classes jobs",
    "FairerCLIP": "196 images of fit by gender, labels of jobs",
    "GroupMeanProjection": "means of 196 images of fit by gender",
    "ClosedForm": "means of 196 images of fit by gender",
    "LinearProbe": "196 images of fit by gender, labels of jobs",
}

READS = {
    "OrthogonalProjection": "spurious",
    "CalibratedProjection": "spurious candidates",
    "FairCLIP": "images attribute classes",
    "JointDebias": "images attribute label classes caption",
    "FairerCLIP": "images attribute label classes",
    "ClipClip": "images attribute",
    "GroupMeanProjection": "images attribute",
    "ClosedForm": "images attribute",
    "LinearProbe": "images attribute label classes",
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), {"theirs": 1.0, "others": 0.5})


@dataclass(frozen=True)
class Said:
    """What a call of the command line gave back and printed."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> str:
        """The error, which is one sentence and nothing else."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.startswith("error: ") and self.err.count("\n") == 1, self.err
        for internal in ("type=", "pydantic", "validation error", "Traceback"):
            assert internal not in self.err
        return self.err

    @property
    def content(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=pytest.fail)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    capsys.readouterr()
    code = main(list(arguments))
    return Said(code, *capsys.readouterr())


def flags(settings: Mapping[str, str]) -> list[str]:
    named = [(f"--{name.replace('_', '-')}", value) for name, value in settings.items()]
    return [part for pair in named for part in pair]


def fitting(
    planted: Planted, method: str, out: Path, *more: str, reads: str | None = None
) -> list[str]:
    """Options of `debias fit` with what the method reads, or with these parts of the material."""
    parts = (READS.get(method, "") if reads is None else reads).split()
    given = planted.source("theirs")
    if "images" in parts:
        given |= planted.images("theirs", "fit")
    given |= {name: value for name, value in planted.material().items() if name in parts}
    return ["debias", "fit", *flags(given), "--method", method, "--out", str(out), *more]


def protocol(planted: Planted, model: str, out: Path, *more: str) -> list[str]:
    """Options of `evaluate protocol` and of `debias evaluate`."""
    given = planted.source(model) | planted.images(model, "test") | {"out": str(out)}
    quick = ["--resamples", "100", "--permutations", "100"]
    return [planted.path("protocol.yaml"), *flags(given), *quick, *more]


@pytest.fixture(scope="module")
def methods(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of fitted methods, by name of their class. Not to be changed."""
    folder = tmp_path_factory.mktemp("methods")
    for method in ("OrthogonalProjection", "GroupMeanProjection"):
        assert main(fitting(planted, method, folder / method, "--quiet", "--json")) == 0
    return folder


# fit


@pytest.mark.parametrize("method", FITTED)
def test_a_method_is_fitted_and_its_folder_says_of_what(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
):
    out = tmp_path / "method"
    content = call(capsys, *fitting(planted, method, out, "--json")).content
    loaded = load_method(out, dimension=DIMENSION, space="theirs")
    assert type(loaded).__name__ == content["method"] == method
    assert loaded.source == FITTED[method]
    assert content["parameters"] == loaded.get_params()
    assert (content["dimension"], content["out"]) == (DIMENSION, str(out))
    assert content["fit_seconds"] > 0


def test_a_fit_is_shown_to_a_person(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = call(capsys, *fitting(planted, "ClosedForm", tmp_path / "method"))
    assert said.code == 0
    for part in ("ClosedForm in", "theirs", "means of 196 images of fit by gender", "16"):
        assert part in said.out


def test_fitting_again_gives_the_same_bytes(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        assert (
            call(capsys, *fitting(planted, "ClipClip", folder, "--parameters", "keep", "9")).code
            == 0
        )
    first, second = ({path.name: path.read_bytes() for path in each.iterdir()} for each in folders)
    assert first == second


@pytest.mark.parametrize(
    ("method", "given", "parameters", "reads"),
    [
        ("CalibratedProjection", ["lam", "500"], {"lam": 500.0, "orthogonal": True}, None),
        ("CalibratedProjection", ["orthogonal", "False"], {"orthogonal": False}, "candidates"),
        ("ClipClip", ["keep", "5", "seed", "3"], {"keep": 5, "seed": 3}, None),
        ("LinearProbe", ["inverse_strength", "1e-2"], {"inverse_strength": 0.01}, None),
    ],
)  # fmt: skip
def test_parameters_reach_the_method_with_their_types(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    given: list[str],
    parameters: dict[str, Any],
    reads: str | None,
):
    out = tmp_path / "method"
    said = call(capsys, *fitting(planted, method, out, "--parameters", *given, reads=reads))
    assert said.code == 0, said.err
    found = load_method(out).get_params()
    for name, value in parameters.items():
        assert (found[name], type(found[name])) == (value, type(value))


def test_directions_change_what_is_learned(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "method"
    given = ("OrthogonalProjection", out, "--directions", "images")
    said = call(capsys, *fitting(planted, *given, reads="images attribute"))
    assert said.code == 0, said.err
    of_prompts, of_images = load_method(methods / "OrthogonalProjection"), load_method(out)
    assert of_images.source == "means of 196 images of fit by gender"
    assert of_prompts.text_matrix is not None and of_images.text_matrix is not None
    # Prompts span "a person" as well; of images only the planted axis is learned.
    assert DIMENSION - np.linalg.matrix_rank(of_prompts.text_matrix) == 2
    assert DIMENSION - np.linalg.matrix_rank(of_images.text_matrix) == 1


EVERYTHING = "images attribute label classes spurious candidates caption"


@pytest.mark.parametrize(
    ("method", "reads", "more", "idle"),
    [
        ("OrthogonalProjection", EVERYTHING, [],
         "--embeddings, --attribute, --label, --classes, --candidates, --caption"),
        ("OrthogonalProjection", "spurious images", [], "--embeddings"),
        ("CalibratedProjection", "spurious candidates", ["--parameters", "orthogonal", "no"],
         "--spurious"),
        ("GroupMeanProjection", "images attribute spurious", [], "--spurious"),
        ("ClosedForm", "images attribute spurious", ["--directions", "prompts"],
         "--embeddings, --attribute"),
        ("FairCLIP", EVERYTHING, [], "--label, --spurious, --candidates, --caption"),
        ("FairCLIP", "images attribute classes", ["--parameters", "alpha", "0"], "--classes"),
        ("FairerCLIP", "images attribute label classes", ["--supervised", "False"], "--label"),
        ("ClipClip", "images attribute label", [], "--label"),
        ("LinearProbe", EVERYTHING, [], "--spurious, --candidates, --caption"),
        ("JointDebias", EVERYTHING, [], "--spurious, --candidates"),
    ],
)  # fmt: skip
def test_what_has_no_effect_on_a_method_is_refused_before_a_model_is_opened(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    reads: str,
    more: list[str],
    idle: str,
):
    monkeypatch.setattr("commands.debias.open_plain", never)
    said = call(capsys, *fitting(planted, method, tmp_path / "method", *more, reads=reads))
    assert f"{method}, as it is set, learns from --" in said.refused
    assert f"; without effect: {idle}; leave that out\n" in said.refused


def never(*_: object) -> None:
    raise AssertionError("this came too early")


def test_pictures_are_named_by_their_flag(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = fitting(planted, "OrthogonalProjection", tmp_path / "method", "--images", "x.tar")
    assert "without effect: --images; leave that out" in call(capsys, *arguments).refused


@pytest.mark.parametrize(
    ("method", "change", "says"),
    [
        ("ClipClip", ["--parameters", "kept", "4"], "parameters: ClipClip has no 'kept'; it"),
        ("ClipClip", ["--parameters", "keep", "many"], "parameters of ClipClip: keep: Input"),
        ("ClipClip", ["--parameters", "space", "x"], "parameters: ClipClip has no 'space'"),
        ("ClipClip", ["--parameters", "keep", "0"], "keep is 0; give at least 1 dimension"),
        ("CalibratedProjection", ["--directions", "images"], "directions has no effect on"),
        ("ClosedForm", ["--supervised", "True"], "supervised has no effect on ClosedForm"),
        ("ClosedForm", ["--images", "x"], "which images? Give one of images and embeddings"),
        ("ClosedForm", ["--split", "x"], "split has no effect on embeddings that are given"),
        ("ClosedForm", ["--cache", "x"], "cache has no effect on embeddings"),
        ("ClosedForm", ["--device", "cuda"], "device has no effect on embeddings"),
        ("ClosedForm", ["--checkpoint", "x"], "which model? Give all of one of"),
        ("ClosedForm", ["--max-failures", "2"], "max_failures: Input should be less than or equal"),
        ("ClosedForm", ["--attribute", "age"], "no column 'age', which methods are to learn from"),
        ("LinearProbe", ["--label", "work"], "no column 'work', which methods are to learn from"),
        ("JointDebias", ["--caption", "{gender} at {rolle}"], "no column 'rolle', which the cap"),
        ("OrthogonalProjection", ["--outside", "x"], "outside has no effect without attribute"),
        ("CalibratedProjection", ["--candidates", "genders.yaml"], "prompt set genders has no pai"),
        ("ClosedForm", ["--groups", "woman", "w"], "label gender holds 'man'"),
        ("ClosedForm", ["--groups", "woman", "all", "man", "all"], "all are 'all'; give"),
        ("ClosedForm", ["--where", "gender", "child"], "where gender child holds in none of 200"),
        ("ClipClip", [], "keep is 400 of 16 dimensions"),
        ("OrthogonalProjection", ["--spurious", "absent.yaml"], "no prompt set 'absent.yaml'"),
        ("FairCLIP", ["--directions", "prompts", "--spurious", "genders.yaml"],
         "give the model, or learn from images"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_said_in_a_sentence_and_nothing_is_written(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    change: list[str],
    says: str,
):
    out = tmp_path / "method"
    change = [planted.path(each) if each == "genders.yaml" else each for each in change]
    assert says in call(capsys, *fitting(planted, method, out, *change)).refused
    assert not out.exists()


def test_a_method_that_is_none_is_refused_with_those_there_are(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(fitting(planted, "Projection", tmp_path / "method"))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "'Projection'" in said and "CalibratedProjection" in said


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("LinearProbe", ["--label", "work"]),
        ("LinearProbe", ["--classes", "absent.yaml"]),
        ("JointDebias", ["--caption", "{gender} {work}"]),
    ],
)
def test_material_is_checked_before_images_are_read(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    change: list[str],
):
    monkeypatch.setattr("commands.model_source.read_plain", never)
    said = call(capsys, *fitting(planted, method, tmp_path / "method", *change))
    assert change[1].split("{")[-1].strip("}") in said.refused


@pytest.mark.parametrize(
    ("left_out", "method", "says"),
    [
        ("spurious", "OrthogonalProjection", "learns from --spurious; missing: --spurious; give"),
        ("candidates", "CalibratedProjection", "CalibratedProjection, as it is set, learns from "
         "--spurious, --candidates; missing: --candidates; give"),
        ("attribute", "ClipClip", "learns from --embeddings, --attribute; missing: --attribute"),
        ("classes", "LinearProbe", "missing: --classes; give what is missing"),
        ("label", "LinearProbe", "missing: --label; give what is missing"),
        ("caption", "JointDebias", "missing: --caption; give what is missing"),
        ("embeddings", "ClosedForm", "which images? Give one of images and embeddings"),
        ("labels", "ClosedForm", "labels: Field required"),
        ("model_name", "ClosedForm", "model_name: what is the model called"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    left_out: str,
    method: str,
    says: str,
):
    arguments = fitting(planted, method, tmp_path / "method")
    at = arguments.index(f"--{left_out.replace('_', '-')}")
    assert says in call(capsys, *arguments[:at], *arguments[at + 2 :]).refused


def test_missing_images_are_named(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = fitting(planted, "ClosedForm", tmp_path / "method", reads="attribute")
    assert (
        "learns from --images, --attribute; missing: --images" in call(capsys, *arguments).refused
    )


def test_a_method_is_not_fitted_on_a_method(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        main(fitting(planted, "ClosedForm", tmp_path / "method", "--repaired-by", "x"))
    assert "--repaired-by" in capsys.readouterr().err


# apply


def applying(method: Path, embeddings: Path, out: Path, of: str, *more: str) -> list[str]:
    given = {"embeddings": str(embeddings), "of": of, "out": str(out)}
    return ["debias", "apply", str(method), *flags(given), *more]


@pytest.mark.parametrize("of", ["images", "texts"])
def test_applied_embeddings_are_those_of_the_method(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], of: str
):
    source = planted.folder / ("theirs-test.npy" if of == "images" else "others-texts.npy")
    array = np.load(source)
    out = tmp_path / "moved.npy"
    folder = methods / "GroupMeanProjection"
    content = call(capsys, *applying(folder, source, out, of, "--json")).content
    assert content == {"tables": [str(out)], "rows": len(array), "undefined": {}}
    method = load_method(folder)
    transform = method.transform_images if of == "images" else method.transform_texts
    np.testing.assert_array_equal(np.load(out), transform(array))


def test_images_and_texts_are_told_apart(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, out = planted.folder / "theirs-test.npy", tmp_path / "moved.npy"
    moved = {}
    for of in ("images", "texts"):
        assert call(capsys, *applying(methods / "OrthogonalProjection", source, out, of)).code == 0
        moved[of] = np.load(out)
    lengths = np.linalg.norm(np.load(source), axis=1, keepdims=True)
    np.testing.assert_allclose(moved["images"], np.load(source) / lengths, atol=1e-6)
    women = moved["images"][4::2]  # the first four are of nobody who is known
    assert women[:, 0].mean() > 0.4 and np.abs(moved["texts"][:, 0]).max() < 0.05


def test_embeddings_that_have_no_image_are_nan_and_counted(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = json.loads((planted.folder / "texts.json").read_text())
    array = np.load(planted.folder / "theirs-texts.npy")
    array = np.vstack([array, np.zeros((1, DIMENSION)), np.full((2, DIMENSION), np.nan)])
    np.save(tmp_path / "texts.npy", array.astype(np.float32))
    arguments = applying(
        methods / "OrthogonalProjection", tmp_path / "texts.npy", tmp_path / "out.npy", "texts"
    )
    content = call(capsys, *arguments, "--json").content
    assert sum(content["undefined"].values()) == 5
    assert sorted(content["undefined"].values()) == [2, 3]
    gone = np.isnan(np.load(tmp_path / "out.npy")).all(axis=1)
    lost = [names.index("a woman"), names.index("a man")]
    assert np.flatnonzero(gone).tolist() == [*lost, len(names), len(names) + 1, len(names) + 2]
    shown = call(capsys, *arguments).out
    assert f"{len(array)}" in shown and shown.count("of them NaN: ") == 2


def test_a_table_with_uids_becomes_one(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    array = np.load(planted.folder / "theirs-test.npy")
    uids = [f"uid{row}" for row in range(len(array))]
    column = pl.Series("mine", array, dtype=pl.Array(pl.Float32, DIMENSION))
    table = pl.DataFrame({"uid": uids}).with_columns(column)
    table.write_parquet(tmp_path / "some.parquet")
    folder, out = methods / "GroupMeanProjection", tmp_path / "out"
    arguments = applying(folder, tmp_path / "some.parquet", out, "images")
    content = call(capsys, *arguments, "--embedding-key", "mine", "--json").content
    (written,) = content["tables"]
    found = pl.read_parquet(written)
    assert found["uid"].to_list() == uids
    moved = load_method(folder).transform_images(array)
    np.testing.assert_array_equal(found["embedding"].to_numpy(), moved)


def test_embeddings_of_another_space_are_refused(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A method is not applied twice, nor to another model."""
    array = np.load(planted.folder / "theirs-test.npy")
    column = pl.Series("embedding", array, dtype=pl.Array(pl.Float32, DIMENSION))
    uids = pl.Series("uid", [str(row) for row in range(len(array))])
    pl.DataFrame([uids, column]).write_parquet(tmp_path / "some.parquet")
    folder, once, twice = methods / "GroupMeanProjection", tmp_path / "once", tmp_path / "twice"
    assert call(capsys, *applying(folder, tmp_path / "some.parquet", once, "images")).code == 0
    said = call(capsys, *applying(folder, once, twice, "images")).refused
    assert f"{once / 'some.parquet'}: embeddings of theirs + GroupMeanProjection, but the" in said
    assert "is for those of theirs;" in said and not twice.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embeddings": "narrow.npy"}, "16"),
        ({"embeddings": "absent.npy"}, "absent.npy"),
        ({"out": "moved.parquet"}, "name a .npy file"),
        ({"out": "wide.npy"}, "would be written over what is read"),
        ({"embedding_key": "x"}, "embedding_key has no effect on one array"),
    ],
)
def test_what_cannot_be_applied_is_said_in_a_sentence(
    planted: Planted,
    methods: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    says: str,
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(planted.folder / "theirs-test.npy", "wide.npy")
    np.save("narrow.npy", np.ones((3, 8), dtype=np.float32))
    given = {"embeddings": "wide.npy", "of": "images", "out": "moved.npy"} | change
    folder = methods / "GroupMeanProjection"
    assert says in call(capsys, "debias", "apply", str(folder), *flags(given)).refused
    assert sorted(path.name for path in tmp_path.iterdir()) == ["narrow.npy", "wide.npy"]


@pytest.mark.parametrize("damage", ["nothing", "record", "arrays"])
def test_a_folder_that_is_no_method_is_refused(
    planted: Planted,
    methods: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
):
    folder = tmp_path / "method"
    folder.mkdir()
    if damage != "nothing":
        shutil.copytree(methods / "GroupMeanProjection", folder, dirs_exist_ok=True)
        name = "method.json" if damage == "record" else "arrays.safetensors"
        (folder / name).write_bytes((folder / name).read_bytes()[:-3])
    source = planted.folder / "theirs-test.npy"
    said = call(capsys, *applying(folder, source, tmp_path / "out.npy", "images"))
    assert str(folder) in said.refused


# evaluate


def figures(result: ProtocolResult, task: str) -> dict[str, Any]:
    return {
        each.measure: each
        for each in result.headlines
        if each.subject.startswith(f"{task}: ")
    }  # fmt: skip


@pytest.fixture(scope="module")
def measured(
    planted: Planted, methods: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """By method, the folder where `debias evaluate` wrote. Not to be changed."""
    found = {}
    for method in ("OrthogonalProjection", "GroupMeanProjection"):
        found[method] = tmp_path_factory.mktemp(method)
        options = protocol(planted, "theirs", found[method], "--name", "us", "--quiet", "--json")
        with pytest.MonkeyPatch.context() as patched:  # drawing takes seconds
            patched.setattr("commands.debias.write_evaluation_page", lambda *_: None)
            assert main(["debias", "evaluate", str(methods / method), *options]) == 0
    return found


def test_figures_are_those_of_evaluate_protocol_without_and_with_the_method(
    planted: Planted,
    methods: Path,
    measured: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("commands.evaluate.write_evaluation_page", lambda *_: None)
    for method, folder in measured.items():
        for name, more in {
            "us-plain": (),
            "us": ("--repaired-by", str(methods / method)),
        }.items():
            options = protocol(planted, "theirs", tmp_path, "--name", name, *more)
            assert call(capsys, "evaluate", "protocol", *options, "--json").code == 0
            assert load_result(tmp_path / f"{name}.json") == load_result(folder / f"{name}.json")
            (tmp_path / f"{name}.json").unlink()
    names = [load_result(measured[method] / "us.json").model for method in measured]
    assert names == ["theirs + OrthogonalProjection", "theirs + GroupMeanProjection"]


@pytest.mark.parametrize("method", ["OrthogonalProjection", "GroupMeanProjection"])
def test_a_planted_bias_vanishes(measured: dict[str, Path], method: str):
    before, after = (load_result(measured[method] / f"{name}.json") for name in ("us-plain", "us"))
    for task, measure in (
        ("jobs", "association_bias, mean"),
        ("skew", "max_skew@20, uniform, mean"),
    ):
        plain, moved = figures(before, task)[measure], figures(after, task)[measure]
        assert plain.value > 2 * plain.null.high and plain.p_value < 0.02
        assert moved.value <= moved.null.high and moved.p_value > 0.05
    # What the texts know of jobs is not lost.
    assert figures(after, "worst")["average_accuracy"].value > 0.95


def test_what_has_no_answer_is_said_and_the_rest_is_measured(measured: dict[str, Path]):
    result = load_result(measured["OrthogonalProjection"] / "us.json")
    assert list(result.undefined) == ["values"] and "'a woman'" in result.undefined["values"]
    assert not figures(result, "values") and figures(result, "jobs")
    assert not load_result(measured["OrthogonalProjection"] / "us-plain.json").undefined


def test_differences_are_printed_and_a_page_is_written(
    planted: Planted,
    methods: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    method = str(methods / "GroupMeanProjection")
    options = protocol(planted, "theirs", tmp_path, "--name", "us")
    content = call(capsys, "debias", "evaluate", method, *options, "--json").content
    assert (content["first"], content["second"]) == ("theirs", "theirs + GroupMeanProjection")
    plain, moved = (ProtocolRun.load(tmp_path / f"{name}.json") for name in ("us-plain", "us"))
    for each, one, other in zip(
        content["headlines"], plain.result.headlines, moved.result.headlines, strict=True
    ):
        assert (each["measure"], each["subject"]) == (one.measure, one.subject)
        assert each["value"] == pytest.approx(other.value - one.value)
    page = (tmp_path / "us.html").read_text()
    assert "theirs + GroupMeanProjection" in page and "Planted &lt;bias&gt;" in page
    kinds = ("json", "csv", "draws.npz")
    written = {f"{name}.{kind}" for name in ("us", "us-plain") for kind in kinds} | {"us.html"}
    assert {path.name for path in tmp_path.iterdir()} == written

    monkeypatch.setattr("commands.debias.write_evaluation_page", lambda path, _: path)
    shown = call(capsys, "debias", "evaluate", method, *options)  # the same again
    assert shown.code == 0
    for part in (
        "page: ",
        "us-plain: theirs, 200 of test",
        "us: theirs + GroupMean",
        "On the same images",
    ):
        assert part in shown.out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--against", "x.json"], "against has no effect beside a method; leave it out"),
        (["--repaired-by", "x"], "repaired_by has no effect beside a method; leave it out"),
        (["--name", "../x"], "name: cannot name the files of a result"),
        (["--model-name", "others"], "for embeddings of theirs, not others"),
        (["--texts", "absent.npy"], "absent.npy"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(
    planted: Planted,
    methods: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    says: str,
):
    options = protocol(planted, "theirs", tmp_path / "out", *change)
    method = str(methods / "GroupMeanProjection")
    assert says in call(capsys, "debias", "evaluate", method, *options).refused
    assert not (tmp_path / "out").exists()


def test_a_result_of_something_else_is_not_lost(
    planted: Planted,
    methods: Path,
    measured: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    shutil.copy(measured["OrthogonalProjection"] / "us.json", tmp_path / "us.json")
    options = protocol(planted, "theirs", tmp_path, "--name", "us")
    said = call(capsys, "debias", "evaluate", str(methods / "GroupMeanProjection"), *options)
    assert "is the result of theirs + OrthogonalProjection by planted" in said.refused
    assert [path.name for path in tmp_path.iterdir()] == ["us.json"]


def test_a_method_of_another_space_is_refused_by_evaluate(
    planted: Planted, methods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    method = methods / "GroupMeanProjection"
    options = protocol(planted, "others", tmp_path / "out", "--repaired-by", str(method))
    error = call(capsys, "evaluate", "protocol", *options).refused
    assert f"{method}: for embeddings of theirs, not others" in error


def test_a_repaired_model_moves_images_as_images_and_texts_as_texts(
    planted: Planted, methods: Path
):
    folder = methods / "OrthogonalProjection"
    source, method = planted.source("theirs"), load_method(folder)
    plain = open_plain(PlainSource(**source), None)
    repaired = open_model(ModelSource(**source, repaired_by=str(folder)), None)
    assert repaired.name == "theirs + OrthogonalProjection" and repaired.space == "theirs"
    images = plain.embed(PlainSettings(**planted.images("theirs", "test")))
    moved = repaired.debiased(images)
    np.testing.assert_array_equal(moved.embeddings, method.transform_images(images.embeddings))
    assert np.abs(moved.embeddings - method.transform_texts(images.embeddings)).max() > 0.1
    assert (moved.keys, moved.digest) == (images.keys, images.digest)
    assert plain.debiased(images) is images
    texts = ["a nurse", "a doctor"]
    expected = method.transform_texts(plain.encode_texts(texts))
    np.testing.assert_array_equal(repaired.encode_texts(texts), expected)
    with pytest.raises(UndefinedError, match=r"leaves nothing of row 1 \('a woman'\)"):
        repaired.encode_texts(["a nurse", "a woman"])


# A model of open_clip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, tiny_architecture: str) -> Path:
    """A folder of 48 reddish and greenish pictures with labels, and weights of a tiny model."""
    return draw_pictures(tmp_path_factory.mktemp("pictures"), tiny_architecture, models=1)


def on_pictures(pictures: Path, architecture: str) -> list[str]:
    return flags(
        {
            "model": architecture,
            "pretrained": str(pictures / "weights-0.pt"),
            "images": str(pictures),
            "labels": str(pictures / "labels.csv"),
            "cache": str(pictures / "cache"),
        }
    )


def test_a_model_on_pictures_is_fitted_and_measured(
    pictures: Path, tiny_architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = on_pictures(pictures, tiny_architecture)
    out = tmp_path / "method"
    fit = [*given, "--attribute", "gender", "--method", "GroupMeanProjection", "--out", str(out)]
    content = call(capsys, "debias", "fit", *fit, "--json").content
    method = load_method(out)
    assert method.source == f"means of 48 images of {pictures.name} by gender"
    assert method.space is not None and method.space.startswith("tiny-test/weights")

    options = [*given, "--out", str(tmp_path / "out"), "--resamples", "100"]
    options += ["--permutations", "100", "--name", "tiny"]
    measure = ["debias", "evaluate", str(out), "model-association-bias", *options]
    content = call(capsys, *measure, "--json").content
    assert content["second"] == f"{content['first']} + GroupMeanProjection"
    plain, moved = (
        load_result(tmp_path / "out" / f"{each}.json") for each in ("tiny-plain", "tiny")
    )
    assert plain.sets == moved.sets and plain.sets["images"].images == 48
    before, after = (
        {each.measure: each.value for each in result.headlines} for result in (plain, moved)
    )
    assert after["association_bias, mean"] < before["association_bias, mean"]


def test_pictures_need_a_model_and_embeddings_none(
    planted: Planted,
    pictures: Path,
    tiny_architecture: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    rest = ["--attribute", "gender", "--method", "ClosedForm", "--out", str(tmp_path / "method")]
    of_pictures = {"images": str(pictures), "labels": str(pictures / "labels.csv")}
    said = call(capsys, "debias", "fit", *flags(planted.source("theirs") | of_pictures), *rest)
    assert "pictures need a model" in said.refused
    of_model = {"model": tiny_architecture, "pretrained": str(pictures / "weights-0.pt")}
    given = flags(of_model | planted.images("theirs", "fit"))
    assert "give pictures instead" in call(capsys, "debias", "fit", *given, *rest).refused


# Help


def shown_help(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "lists"),
    [
        (["debias"], ["fit", "apply", "export", "evaluate"]),
        (
            ["debias", "fit"],
            ["--method", "--parameters", "--directions", "--supervised", "--attribute", "--groups",
             "--spurious", "--candidates", "--classes", "--caption", "--words", "--embeddings",
             "--images", "--labels", "--texts", "--checkpoint", "--out", "--cache", "--json"],
        ),
        (["debias", "apply"], ["--embeddings", "--embedding-key", "--of {images,texts}", "--out"]),
        (["debias", "export"], ["--checkpoint", "--model", "--pretrained", "--out"]),
        (["debias", "evaluate"], ["--resamples", "--name", "--compat", "--embeddings", "--out"]),
        (["compare"], ["YAML file", "--json"]),
    ],
)  # fmt: skip
def test_help_lists_the_options(
    capsys: pytest.CaptureFixture[str], arguments: list[str], lists: list[str]
):
    shown = shown_help(capsys, arguments)
    assert not [each for each in lists if each not in shown]


def test_help_of_fit_has_no_options_without_effect(capsys: pytest.CaptureFixture[str]):
    shown = shown_help(capsys, ["debias", "fit"])
    for option in ("--repaired-by", "--against", "--space", "--source", "--name "):
        assert option not in shown


@pytest.mark.parametrize("verb", ["debias", "compare"])
def test_the_list_of_verbs_names_them(capsys: pytest.CaptureFixture[str], verb: str):
    assert f"\n  {verb} " in shown_usage(capsys)


def shown_usage(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["--help"]) == 0
    return capsys.readouterr().out
