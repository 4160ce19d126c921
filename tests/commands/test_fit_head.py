"""m4-balance fit-head: from labels and embeddings to a head that annotate can use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from commands.fit_head import FitHeadSettings, fit_head
from commands.main import main
from vision.heads import load_head

VALUE = {"target": 0.5, "terms": ["x"]}
CATALOGUE: dict[str, Any] = {
    "name": "people",
    "purpose": "a test",
    "sensitive": {
        "gender": {
            "describes": "perceived gender",
            "values": {
                "woman": {**VALUE, "prompt": "a woman", "prompts": ["a lady"]},
                "man": {**VALUE, "prompt": "a man"},
            },
        },
        "signs": {
            "describes": "what can be seen",
            "exclusive": False,
            "values": {"glasses": VALUE, "beard": VALUE},
        },
    },
    "person": {"prompt": "a person", "absent_prompts": ["a landscape", "an object"]},
}
N, D = 900, 8


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 samples in two tables of embeddings, with labels; not to be changed.

    The first axis is gender, woman below 0; the second person, the third and fourth signs.
    """
    folder = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(0)
    truth = generator.random((N, 4)) < 0.5
    embeddings = 0.3 * generator.normal(size=(N, D))
    embeddings[:, :4] += truth - 0.5
    embeddings[:, 7] = 1.0
    uids = [f"{i:032x}" for i in generator.permutation(N)]
    for part in range(2):
        save(folder / "tables", f"{part:05d}", embeddings[part::2], uids[part::2])
    lines = ["uid,gender,person,glasses,beard"]
    for uid, (man, *others) in zip(uids, truth.tolist(), strict=True):
        lines.append(",".join([uid, "man" if man else "woman", *(str(int(o)) for o in others)]))
    lines.append("f" * 32 + ",man,1,0,0")  # no table has it
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "catalogue.yaml").write_text(yaml.safe_dump(CATALOGUE, sort_keys=False))
    return folder


def save(folder: Path, stem: str, embeddings: np.ndarray, uids: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{stem}.npz", image=embeddings.astype(np.float16))
    pq.write_table(pa.table({"uid": uids}), folder / f"{stem}.parquet")


def given(world: Path, attribute: str, out: Path, **more: str) -> dict[str, Any]:
    base: dict[str, Any] = {
        "catalogue": str(world / "catalogue.yaml"),
        "attribute": attribute,
        "embeddings": str(world / "tables"),
        "labels": str(world / "labels.csv"),
        "model": "ViT-B-32/openai",
        "out": str(out),
    }
    return {**base, **more}


def flags(settings: dict[str, Any]) -> list[str]:
    return [
        part for name, each in settings.items() for part in (f"--{name.replace('_', '-')}", each)
    ]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(["fit-head", *arguments])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, errors = call(capsys, *arguments)
    assert code == 2 and not out and "Traceback" not in errors
    assert errors.startswith("error: ") and errors.count("\n") == 1
    return errors


@pytest.mark.parametrize("calibration", ["platt", "isotonic"])
def test_a_head_from_labels(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], calibration: str
) -> None:
    out = tmp_path / "heads" / "gender.json"
    settings = given(world, "gender", out, calibration=calibration)
    code, printed, errors = call(capsys, *flags(settings), "--json")
    assert code == 0, errors
    content = json.loads(printed)
    head = load_head(out)
    assert content["head"] == str(out) and content["warnings"] == [] and "weights" not in content
    assert content["fit"] == head.fit.model_dump(mode="json")  # type: ignore[union-attr]
    assert (head.values, head.dimension, head.model) == (("woman", "man"), D, "ViT-B-32/openai")
    assert head.fit is not None and head.fit.samples == N
    assert head.fit.left_out == {"no embedding": 1}
    for fit in head.fit.values:
        assert fit.yes.bound is not None and fit.yes.bound >= 0.95 and fit.yes.share > 0.3
        assert fit.calibration_error < 0.05
    men = np.array([[0.6, 0, 0, 0, 0, 0, 0, 1.0], [-0.6, 0, 0, 0, 0, 0, 0, 1.0]])
    assert head.decide(head.probabilities(men)).tolist() == [[0, 1], [1, 0]]


def test_the_table_that_is_printed(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "head.json"
    code, printed, _ = call(capsys, *flags(given(world, "signs", out)))
    assert code == 0
    for part in (
        "signs: 900 labelled examples",
        "glasses: yes",
        "beard: no",
        "precision",
        str(out),
    ):
        assert part in printed
    assert max(map(len, printed.splitlines()[:9])) <= 80
    assert "1 labelled samples left out: no embedding" in printed and "never" not in printed


def test_what_can_never_be_decided_is_said(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = given(world, "gender", tmp_path / "head.json", precision="0.9999")
    code, printed, _ = call(capsys, *flags(settings))
    assert code == 0 and 'gender.woman is never a "yes"' in printed
    code, printed, _ = call(capsys, *flags(settings), "--json")
    assert len(json.loads(printed)["warnings"]) == 2


def test_without_out_it_is_named_after_the_attribute(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = given(world, "person", tmp_path)
    del settings["out"]
    head = fit_head(FitHeadSettings.model_validate(settings))
    assert load_head("heads/person.json") == head


def test_the_same_call_gives_the_same_bytes(world: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fit_head(FitHeadSettings.model_validate(given(world, "gender", tmp_path / name)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    shuffled = (world / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join([shuffled[0], *shuffled[:0:-1]]))
    again = given(world, "gender", tmp_path / "three", labels=str(tmp_path / "labels.csv"))
    fit_head(FitHeadSettings.model_validate(again))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "three").read_bytes()


class TestPrompts:
    @pytest.fixture
    def classes(self, tmp_path: Path) -> Callable[..., dict[str, str]]:
        def write(array: np.ndarray, *names: str) -> dict[str, str]:
            np.save(tmp_path / "classes.npy", array)
            (tmp_path / "names.json").write_text(json.dumps(names))
            return {
                "method": "prompts",
                "class_embeddings": str(tmp_path / "classes.npy"),
                "class_names": str(tmp_path / "names.json"),
            }

        return write

    def test_from_embeddings_of_the_prompts(
        self, world: Path, tmp_path: Path, classes: Callable[..., dict[str, str]]
    ) -> None:
        axis = np.eye(D)[0]
        extra = classes(
            np.stack([axis, -axis, -axis, axis]), "man", "woman", "gender.woman", "something else"
        )
        head = fit_head(
            FitHeadSettings.model_validate(given(world, "gender", tmp_path / "h.json", **extra))
        )
        assert head.fit is not None and head.fit.method == "prompts"
        assert head.weights[0][0] == -1 and head.weights[1][0] == 1
        assert all(each.yes.share > 0.3 for each in head.fit.values)

    def test_of_a_person(
        self, world: Path, tmp_path: Path, classes: Callable[..., dict[str, str]]
    ) -> None:
        axis = np.eye(D)[1]
        extra = classes(np.stack([-axis, axis]), "no person", "person")
        settings = given(world, "person", tmp_path / "h.json", **extra)
        head = fit_head(FitHeadSettings.model_validate(settings))
        assert head.weights[0][1] == 2 and head.thresholds[0].upper is not None

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (("man", "lady"), "no row 'woman'; it needs woman, man"),
            (("man",), "must be a list of 2 names"),
        ],
    )
    def test_names_that_do_not_fit(
        self,
        world: Path,
        tmp_path: Path,
        classes: Callable[..., dict[str, str]],
        capsys: pytest.CaptureFixture[str],
        names: tuple[str, ...],
        said: str,
    ) -> None:
        settings = given(world, "gender", tmp_path / "h.json", **classes(np.eye(2, D), *names))
        assert said in refused(capsys, *flags(settings))

    def test_of_another_model(
        self,
        world: Path,
        tmp_path: Path,
        classes: Callable[..., dict[str, str]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        settings = given(
            world, "gender", tmp_path / "h.json", **classes(np.eye(2, 5), "woman", "man")
        )
        assert "prompts of shape (2, 5)" in refused(capsys, *flags(settings))
        assert not (tmp_path / "h.json").exists()

    def test_by_a_text_tower(self, world: Path, tmp_path: Path) -> None:
        """An architecture of open_clip with random weights, whose own prompts are the samples."""
        import torch

        from vision.embedder import load_embedder
        from vision.model import ModelSettings, build_model

        name = architecture(tmp_path)
        torch.manual_seed(0)
        weights = tmp_path / "weights.pt"
        torch.save(build_model(ModelSettings(name=name), "clip").state_dict(), weights)
        embedder = load_embedder(name, weights, device="cpu")
        sides = embedder.encode_texts(["a woman", "a lady", "a man"])
        generator = np.random.default_rng(0)
        shown = np.arange(400) % 3
        noisy = sides[shown] + 0.02 * generator.normal(size=(400, sides.shape[1]))
        uids = [f"{i:032x}" for i in range(400)]
        save(tmp_path / "tables", "0", noisy, uids)
        who = [f"{uid},{'man' if i == 2 else 'woman'}" for uid, i in zip(uids, shown, strict=True)]
        (tmp_path / "labels.csv").write_text("\n".join(["uid,gender", *who]))
        settings = FitHeadSettings(
            catalogue=str(world / "catalogue.yaml"),
            attribute="gender",
            embeddings=str(tmp_path / "tables"),
            labels=str(tmp_path / "labels.csv"),
            model=name,
            method="prompts",
            pretrained=str(weights),
            templates=("{}",),
            device="cpu",
            out=str(tmp_path / "h.json"),
        )
        head = fit_head(settings)
        assert head.model == embedder.name and head.model.startswith(f"{name}/weights@")
        np.testing.assert_allclose(head.weights[1], sides[2], atol=1e-5)
        mean = (sides[0] + sides[1]) / np.linalg.norm(sides[0] + sides[1])
        np.testing.assert_allclose(head.weights[0], mean, atol=1e-5)
        named = settings.model_copy(update={"model": f"{name}/mine"})
        assert fit_head(named).model == f"{name}/mine"


def architecture(folder: Path) -> str:
    """Adds a tiny architecture to open_clip's list."""
    from vision.torchvision_guard import ensure_torchvision

    ensure_torchvision()
    import open_clip

    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 12, "width": 16, "heads": 1, "layers": 1}
    (folder / "configs").mkdir()
    path = folder / "configs" / "tiny-fit-head.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    return "tiny-fit-head"


class TestRefused:
    @pytest.mark.parametrize(
        ("attribute", "more", "said"),
        [
            ("sex", {}, "no 'sex'; it has gender, signs, person"),
            ("gender", {"labels": "none.csv"}, "none.csv: cannot be read"),
            ("gender", {"embeddings": "nowhere"}, "nowhere: no embeddings"),
            ("gender", {"embeddings": "none.npz"}, "none.npz: no such file"),
            ("gender", {"embedding_key": "text"}, "no array 'text'; it has image"),
            ("gender", {"catalogue": "none.yaml"}, "none.yaml"),
        ],
    )
    def test_input(
        self,
        world: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        attribute: str,
        more: dict[str, str],
        said: str,
    ) -> None:
        settings = given(world, attribute, tmp_path / "h.json", **more)
        assert said in refused(capsys, *flags(settings))
        assert not (tmp_path / "h.json").exists()

    def test_too_few_labels(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = (world / "labels.csv").read_text().splitlines()
        (tmp_path / "few.csv").write_text("\n".join(lines[:15]))
        settings = given(world, "gender", tmp_path / "h", labels=str(tmp_path / "few.csv"))
        said = refused(capsys, *flags(settings))
        assert "too few labelled examples of gender: woman" in said and "at least 10" in said

    def test_a_place_that_cannot_be_written(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        settings = given(world, "gender", tmp_path / "file" / "h.json")
        assert "h.json: cannot be written" in refused(capsys, *flags(settings))

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"method": "prompts"}, "needs the model's checkpoint"),
            ({"pretrained": "x.pt"}, "have no effect with method linear"),
            ({"method": "prompts", "class_embeddings": "x.npy"}, "belong together"),
            ({"templates": "a {}"}, "templates and device have no effect"),
            ({"templates": "a photo"}, "{} exactly once"),
            ({"precision": "1.5"}, "less than 1"),
        ],
    )
    def test_settings(
        self,
        world: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        more: dict[str, str],
        said: str,
    ) -> None:
        code, _, errors = call(capsys, *flags(given(world, "gender", tmp_path / "h", **more)))
        words = " ".join(errors.replace("│", " ").split())
        assert code == 2 and said in words and "Traceback" not in errors

    def test_prompts_without_words_for_nobody(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = {name: each for name, each in CATALOGUE.items() if name != "person"}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        more = {"method": "prompts", "pretrained": "x.pt", "catalogue": str(tmp_path / "c.yaml")}
        settings = given(world, "person", tmp_path / "h.json", **more)
        assert "no `person` with `absent_prompts`" in refused(capsys, *flags(settings))
