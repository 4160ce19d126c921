"""The verb `evaluate`: protocols on real pictures and on given embeddings, compared and listed."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from commands.main import main
from evaluation.prompt_sets import load_prompt_set
from evaluation.protocol import built_in_protocols
from evaluation.results import ProtocolRun

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
    result = json.loads(out)["original"]
    assert result["sets"]["images"]["name"] == "gallery-shards"
    measures = {each["measure"] for each in result["headlines"]}
    assert measures == {"association_bias, mean", "association_bias, largest"}
    for each in result["headlines"]:
        assert each["interval"]["low"] <= each["interval"]["high"]
        assert 0 < each["p_value"] <= 1

    first = str(tmp_path / "original.json")
    code, out, _ = call(
        capsys, *on_pictures(demo_run, "balanced", tmp_path, cache, "--against", first)
    )
    assert code == 0
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
    assert code in (0, 2) and "Traceback" not in err


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
    code, out, _ = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given, "--json")
    assert code == 0
    result = json.loads(out)["own"]
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
        (["--compat", "oxai", "--split", "test"], "split"),
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
    try:
        code, out, err = call(capsys, "protocol", str(tmp_path / "own.yaml"), *given, *change)
    except SystemExit as stopped:  # the command line's parser explains settings itself
        code = int(str(stopped.code))
        captured = capsys.readouterr()
        out, err = captured.out, captured.err
    assert code == 2
    assert says in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err


def test_a_suite_names_the_images_of_each_set(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    at = dict(zip(given[::2], given[1::2], strict=False))
    suite = {
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
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    code, out, _ = call(capsys, "suite", str(path), "--json")
    assert code == 0
    assert json.loads(out)["first"]["sets"]["images"]["images"] == 60

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


def test_protocols_are_listed(capsys: pytest.CaptureFixture[str]):
    code, out, _ = call(capsys, "list", "--json")
    assert code == 0
    assert [each["name"] for each in json.loads(out)] == list(built_in_protocols())
    code, out, _ = call(capsys, "list")
    assert code == 0
    assert "Hair colour, by gender" in out
