"""The verb `evaluate`: protocols on real pictures and on given embeddings, compared and listed."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from commands.main import main
from evaluation.prompt_sets import FOLDER, load_prompt_set
from evaluation.protocol import built_in_protocols, load_protocol
from evaluation.results import ProtocolRun
from pipelines.encoded_sets import EncodedSet
from pipelines.plain_embeddings import PlainSettings, read_plain

QUICK = ["--resamples", "100", "--permutations", "100"]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["evaluate", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def on_pictures(run: Path, arm: str, out: Path, cache: str, *more: str) -> Sequence[str]:
    return (
        "protocol",
        "model-association-bias",
        "--checkpoint",
        str(run / "checkpoints" / f"{arm}-0"),
        "--images",
        str(run / "gallery-shards"),
        "--columns",
        "gender",
        "depicted_gender",
        "--out",
        str(out),
        "--name",
        arm,
        "--cache",
        cache,
        *QUICK,
        *more,
    )


def test_a_protocol_runs_on_pictures_and_two_models_are_compared(
    demo_run: Path, tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str]
):
    code, out, _ = call(capsys, *on_pictures(demo_run, "original", tmp_path, cache, "--json"))
    assert code == 0
    result = json.loads(out)["results"]["original"]
    assert re.fullmatch(r"original-0/step-\d+@\w+", result["model"])
    assert result["sets"]["images"]["name"] == "gallery-shards"
    measures = {each["measure"] for each in result["headlines"]}
    assert measures == {"association_bias, mean", "association_bias, largest"}
    for each in result["headlines"]:
        assert each["interval"]["low"] <= each["interval"]["high"]
        assert 0 < each["p_value"] <= 1

    first = str(tmp_path / "original.json")
    more = ("--against", first, "--model-name", "fairer")
    code, out, _ = call(capsys, *on_pictures(demo_run, "balanced", tmp_path, cache, *more))
    assert code == 0
    assert "balanced: fairer, " in out
    assert "without bias [95%]" in out
    assert "On the same images and prompts" in out
    kinds = ("json", "csv", "html", "draws.npz")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{arm}.{kind}" for arm in ("original", "balanced") for kind in kinds
    }

    second = str(tmp_path / "balanced.json")
    code, out, _ = call(capsys, "compare", first, second, "--json")
    assert code == 0
    found = json.loads(out)
    values = [ProtocolRun.load(Path(path)).result.headlines[0].value for path in (first, second)]
    assert found["headlines"][0]["value"] == pytest.approx(values[1] - values[0])
    code, _, err = call(capsys, "compare", first, first, "--out", str(tmp_path / "page.html"))
    assert (code, "give each once" in err) == (2, True)


def test_pictures_are_encoded_once(
    demo_run: Path,
    tmp_path: Path,
    cache: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    from vision.embedder import Embedder

    arguments = on_pictures(demo_run, "original", tmp_path / "a", cache, "--json")
    code, first, _ = call(capsys, *arguments)
    assert code == 0

    def refuse(self: Embedder, pixels: np.ndarray) -> np.ndarray:
        raise AssertionError("pictures were encoded again")

    monkeypatch.setattr(Embedder, "forward", refuse)
    code, again, _ = call(capsys, *arguments)
    assert code == 0
    assert again == first


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Embeddings of 60 faces and of the prompts of a protocol, made elsewhere."""
    random = np.random.default_rng(0)
    texts, _ = load_prompt_set("retrieval-319").each()
    np.save(tmp_path / "texts.npy", random.normal(size=(len(texts), 16)).astype(np.float32))
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    np.save(tmp_path / "images.npy", random.normal(size=(60, 16)).astype(np.float16))
    sex = ["Male", "Female"] * 30
    pl.DataFrame({"sex": sex, "split": ["test"] * 50 + ["train"] * 10}).write_csv(
        tmp_path / "labels.csv"
    )
    protocol = {
        "name": "own",
        "title": "Our own",
        "source": "ours",
        "sets": {"images": "faces"},
        "tasks": {
            "gender": {
                "kind": "retrieval_skew",
                "attribute": "gender",
                "prompts": "retrieval-319",
                "k": 10,
            }
        },
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(protocol))
    return [
        "--texts", str(tmp_path / "texts.npy"), "--text-names", str(tmp_path / "texts.json"),
        "--model-name", "theirs", "--embeddings", str(tmp_path / "images.npy"),
        "--labels", str(tmp_path / "labels.csv"), "--columns", "gender", "sex",
        "--where", "split", "test", "--out", str(tmp_path / "out"), *QUICK,
    ]  # fmt: skip


def test_a_protocol_runs_on_embeddings_made_elsewhere(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    renamed = ("--values", "gender.Male", "man", "gender.Female", "")
    code, _, err = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given, *renamed)
    assert (code, "25 items in 1 groups" in err) == (2, True), err  # women are not known
    code, out, _ = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given, "--json")
    assert code == 0
    result = json.loads(out)["results"]["own"]
    assert {each["smallest_group"] for each in result["headlines"]} == {25}
    assert result["model"] == "theirs"
    assert result["sets"]["images"]["images"] == 50
    table = pl.read_csv(tmp_path / "out" / "own.csv")
    assert (
        table.filter(pl.col("measure").str.starts_with("max_skew@10"))["subject"].n_unique() > 319
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--model", "ViT-B-32"], "which model? Give all of one of"),
        (["--device", "cuda"], "device has no effect on embeddings"),
        (["--images", "x"], "which images? Give one of images and embeddings"),
        (["--split", "test"], "split has no effect on embeddings that are given"),
        (["--resamples", "5"], "resamples: Input should be greater than or equal to 100 (given 5)"),
        (["--name", "../x"], "name: cannot name the files of a result; use letters"),
        (["--name", ".."], "name: cannot name the files of a result; use letters"),
        (["--name", "a/b"], "name: cannot name the files of a result; use letters"),
        (["--values", "gender.male", "man"], "male"),
        (["--columns", "sex", "split"], "no column 'gender', which protocol own reads"),
        (["--cache", "x"], "cache has no effect on embeddings"),
        (["--against", "absent.json"], "absent.json: cannot be read"),
    ],
)
def test_options_that_do_not_go_together_are_said_in_a_sentence(
    given: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    says: str,
):
    code, out, err = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given, *change)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("error: ") and err.count("\n") == 1
    for internal in ("type=", "pydantic", "validation error", "Traceback"):
        assert internal not in err


def test_what_the_command_line_cannot_read_is_said_by_its_parser(
    given: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "protocol", "zero-shot", *given, "--seed", "many"])
    assert "Error parsing --seed" in capsys.readouterr().err


@pytest.fixture
def not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("images were read before the settings were checked")

    monkeypatch.setattr("commands.model_source.read_plain", refuse)


@pytest.fixture
def finished(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The result of the model "theirs"."""
    assert call(capsys, "protocol", str(tmp_path / "own.yaml"), *given)[0] == 0
    return tmp_path / "out" / "own.json"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--name", "own"], "would be written over the result that it is compared with"),
        (["--name", "new", "--model-name", "theirs"], "its model is called theirs as well"),
        (["--name", "new", "--resamples", "101"], "different resampling: resamples 100 and 101"),
        (["--name", "new", "--compat", "oxai"], "different compat: none and oxai"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_images_are_read(
    given: list[str],
    finished: Path,
    not_encoded: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    says: str,
):
    before = finished.read_bytes()
    given += ["--model-name", "ours", "--against", str(finished), *change]
    code, _, err = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given)
    assert (code, says in err, finished.read_bytes()) == (2, True, before), err


def test_a_result_of_another_model_is_not_lost(
    given: list[str],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    protocol = str(tmp_path / "own.yaml")
    before = finished.read_bytes()
    assert call(capsys, "protocol", protocol, *given)[0] == 0  # the same again
    assert finished.read_bytes() == before
    code, _, err = call(capsys, "protocol", protocol, *given, "--model-name", "ours")
    assert code == 2
    assert "own.json: is the result of theirs by own and would be lost; give this result" in err
    assert finished.read_bytes() == before


def test_own_prompts_lie_beside_the_protocol_and_are_read_first(
    given: list[str],
    not_encoded: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    folder = tmp_path / "mine"
    folder.mkdir()
    protocol = yaml.safe_load((tmp_path / "own.yaml").read_text())
    protocol["tasks"]["gender"]["prompts"] = "prompts.yaml"
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(protocol))
    code, _, err = call(capsys, "protocol", str(path), *given)
    assert (code, f"no prompt set '{folder / 'prompts.yaml'}'" in err) == (2, True)
    built_in = (FOLDER / "retrieval-319.yaml").read_text()
    (folder / "prompts.yaml").write_text(built_in)
    # Where the prompts lie makes no difference to what is measured.
    assert load_protocol(str(path)).digest == load_protocol(str(tmp_path / "own.yaml")).digest


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ({"man": 3, "woman": -2}, "targets.man: Input should be less than or equal to 1 (given 3)"),
        ({"man": 0.5, "woman": 0.4}, "targets: they sum to 0.9; give shares that sum to 1"),
    ],
)
def test_targets_that_are_no_shares_are_refused(
    given: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    targets: dict[str, float],
    says: str,
):
    protocol = yaml.safe_load((tmp_path / "own.yaml").read_text())
    task = {"kind": "representation_bias", "prompts": "gender-values", "targets": targets}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**protocol, "tasks": {"gender": task}}))
    code, _, err = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given)
    assert (code, says in err) == (2, True), err


@pytest.fixture
def suite(given: list[str], tmp_path: Path) -> dict[str, Any]:
    """A suite of one run, "first", on given embeddings."""
    at = dict(zip(given[::2], given[1::2], strict=False))
    return {
        "model": {
            "texts": at["--texts"],
            "text_names": at["--text-names"],
            "model_name": "theirs",
        },
        "out": str(tmp_path / "suite"),
        "resampling": {"resamples": 100, "permutations": 100},
        "runs": {
            "first": {
                "protocol": str(tmp_path / "own.yaml"),
                "sets": {
                    "images": {
                        "embeddings": str(tmp_path / "images.npy"),
                        "labels": str(tmp_path / "labels.csv"),
                        "columns": {"gender": "sex"},
                    }
                },
            }
        },
    }


def test_a_suite_names_the_images_of_each_set(
    suite: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    code, out, _ = call(capsys, "suite", str(path), "--json")
    assert code == 0
    assert json.loads(out)["results"]["first"]["sets"]["images"]["images"] == 60

    suite["runs"]["first"]["protocol"] = "joint-vision-language"
    path.write_text(yaml.safe_dump(suite))
    code, _, err = call(capsys, "suite", str(path))
    assert code == 2
    assert "wants faces: FairFace's validation images" in err
    suite["runs"]["first"]["sets"]["images"]["colour"] = "red"
    path.write_text(yaml.safe_dump(suite))
    code, _, err = call(capsys, "suite", str(path))
    assert code == 2
    assert f"{path}: unknown key `runs.first.sets.images.embeddings.colour`" in err


def test_a_suite_encodes_a_set_once(
    suite: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    first = suite["runs"]["first"]
    (images,) = first["sets"].values()
    other = {**images, "where": {"split": "test"}}
    suite["runs"] |= {"again": first, "fewer": {**first, "sets": {"images": other}}}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    read: list[PlainSettings] = []

    def counted(settings: PlainSettings) -> EncodedSet:
        read.append(settings)
        return read_plain(settings)

    monkeypatch.setattr("commands.model_source.read_plain", counted)
    code, out, _ = call(capsys, "suite", str(path), "--json")
    assert (code, len(read)) == (0, 2)
    sizes = {name: found["sets"]["images"]["images"] for name, found in
             json.loads(out)["results"].items()}  # fmt: skip
    assert sizes == {"first": 60, "again": 60, "fewer": 50}


def test_a_suite_that_fails_late_shows_what_it_finished(
    suite: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = suite["runs"]["first"]
    (images,) = first["sets"].values()
    suite["runs"]["second"] = {**first, "sets": {"images": {**images, "where": {"split": "none"}}}}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    code, out, err = call(capsys, "suite", str(path), "--json")
    assert code == 2
    assert list(json.loads(out)["results"]) == ["first"]
    assert err.startswith("error: ")
    code, out, err = call(capsys, "suite", str(path))
    assert code == 2
    assert "first: theirs, 60 of labels" in out
    assert "first.html" in out and (tmp_path / "suite" / "first.html").is_file()


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ({}, "runs: Dictionary should have at least 1 item"),
        ({"a/b": None}, "runs.a/b.[key]: cannot name the files of a result"),
    ],
)
def test_runs_of_a_suite_have_names_of_files(
    suite: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runs: dict[str, Any],
    says: str,
):
    suite["runs"] = {name: suite["runs"]["first"] for name in runs}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    code, _, err = call(capsys, "suite", str(path))
    assert (code, says in err) == (2, True), err


def test_a_file_that_is_no_result_is_not_repeated_in_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "long.json"
    path.write_text("not JSON " * 1000)
    code, _, err = call(capsys, "compare", str(path), str(path))
    assert (code, len(err) < 300 + len(str(path))) == (2, True), err


def test_results_go_into_a_table_of_clip_benchmark_under_its_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    facts = {"dataset": "wds_d", "model": "m", "pretrained": "p", "task": "zeroshot_classification"}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({**facts, "metrics": {"acc1": 0.5}}))
    table = tmp_path / "tables" / "all.csv"
    arguments = ("clip-benchmark", str(path), "--out", str(table), "--datasets")
    code, out, _ = call(capsys, *arguments, "wds_d", "wds/d", "--json")
    assert (code, json.loads(out)[0]["dataset"]) == (0, "wds/d")
    assert pl.read_csv(table)["dataset"].to_list() == ["wds/d"]
    code, _, err = call(capsys, *arguments, "cifar", "wds/cifar")
    assert (code, "no row is of 'cifar'" in err) == (2, True)


@pytest.mark.parametrize("name", built_in_protocols())
def test_a_protocol_is_shown_to_be_copied(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, _ = call(capsys, "show", name)
    assert code == 0
    (tmp_path / "mine.yaml").write_text(out)
    assert load_protocol(str(tmp_path / "mine.yaml")).digest == load_protocol(name).digest
    code, out, _ = call(capsys, "show", name, "--json")
    assert (code, json.loads(out)["name"]) == (0, name)


def test_what_is_not_built_in_is_not_shown(capsys: pytest.CaptureFixture[str]):
    code, _, err = call(capsys, "show", "absent")
    assert (code, "protocol: 'absent' is none of celeba-hair" in err) == (2, True)


def test_protocols_are_listed(capsys: pytest.CaptureFixture[str]):
    code, out, _ = call(capsys, "list", "--json")
    assert code == 0
    assert [each["name"] for each in json.loads(out)] == list(built_in_protocols())
    code, out, _ = call(capsys, "list")
    assert code == 0
    assert "Hair colour, by gender" in " ".join(out.replace("│", " ").split())
    for name in built_in_protocols():  # whole, in the 80 columns of a terminal
        assert f"│ {name} " in out


def test_a_gallery_is_measured_with_intervals_and_nulls(
    demo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = Path(shutil.copytree(demo_run, tmp_path / "run"))
    code, out, _ = call(
        capsys, "gallery", "--checkpoint", str(run / "checkpoints" / "original-0"),
        "--shards", str(run / "gallery-shards"), "--catalogue", str(run / "catalogue.yaml"),
        "--run", str(run), "--name", "again-0", "--quiet",
        "--pairs", "nurse", "doctor", "teacher", "farmer",
    )  # fmt: skip
    assert code == 0
    assert "association" in out and "excess" in out
    assert "without bias [95%]" in out
    assert (run / "evaluation" / "again-0.json").is_file()
