"""From pictures to marks as a user goes: embed, fit-head, annotate by pixels or by embeddings."""

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from commands.main import main
from vision.model import ModelSettings, build_model

CATALOGUE = """
name: colours
purpose: tests
sensitive:
  gender:
    describes: as drawn
    values:
      woman: {target: 0.5, prompt: a woman}
      man: {target: 0.5, prompt: a man}
"""
SAMPLES = 160


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_architecture: str) -> Path:
    """Two shards of reddish women and greenish men, labels of all, a checkpoint, a catalogue."""
    folder = tmp_path_factory.mktemp("embed")
    draw = np.random.default_rng(0)
    labels = []
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in range(SAMPLES // 2):
                woman = bool(draw.random() < 0.5)
                uid = draw.bytes(16).hex()
                labels.append({"uid": uid, "gender": "woman" if woman else "man"})
                noise = draw.integers(0, 60, (40, 36, 3))
                noise[..., 0 if woman else 1] += 190
                stream = io.BytesIO()
                Image.fromarray(noise.astype(np.uint8)).save(stream, "PNG")
                for name, content in (
                    (f"{row:04d}.png", stream.getvalue() if row != 5 else b"no picture"),
                    (f"{row:04d}.txt", b"a picture"),
                    (f"{row:04d}.json", json.dumps({"uid": uid}).encode()),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    with (folder / "labels.csv").open("w") as stream_of_text:
        writer = csv.DictWriter(stream_of_text, ["uid", "gender"])
        writer.writeheader()
        writer.writerows(labels)
    torch.manual_seed(0)
    model = build_model(ModelSettings(name=tiny_architecture), "clip")
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    return folder


def embedding(world: Path, model: str, out: Path) -> list[str]:
    return [
        *("embed", "--shards", str(world), "--model", model),
        *("--pretrained", str(world / "weights.pt"), "--out", str(out)),
        *("--max-failures", "0.05", "--quiet"),
    ]


def marks(run: Path) -> dict[str, float | None]:
    """The probability of a woman, by uid."""
    tables = [pq.read_table(path) for path in sorted((run / "annotations").glob("*.parquet"))]
    return {
        uid: woman
        for table in tables
        for uid, woman in zip(
            table["uid"].to_pylist(), table["gender.woman"].to_pylist(), strict=True
        )
    }


@pytest.fixture(scope="module")
def fitted(world: Path, tiny_architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of the shards, and a head that was fitted on them."""
    folder = tmp_path_factory.mktemp("fitted")
    assert main(embedding(world, tiny_architecture, folder / "embeddings")) == 0
    schema = pq.read_schema(folder / "embeddings" / "00000.parquet")
    command = [
        *("fit-head", "--catalogue", str(world / "catalogue.yaml"), "--attribute", "gender"),
        *("--embeddings", str(folder / "embeddings"), "--embedding-key", "embedding"),
        *("--labels", str(world / "labels.csv"), "--model", schema.metadata[b"model"].decode()),
        *("--precision", "0.9", "--out", str(folder / "gender.json")),
    ]
    assert main(command) == 0
    return folder


def annotate(world: Path, fitted: Path, run: Path, *more: str) -> int:
    return main(
        [
            *("annotate", "--shards", str(world), "--catalogue", str(world / "catalogue.yaml")),
            *("--run", str(run), "--heads", str(fitted / "gender.json"), *more, "--quiet"),
            *("--max-failures", "0.05"),
        ]
    )


def test_embeddings_have_unit_length_and_name_their_model(fitted: Path) -> None:
    table = pq.read_table(fitted / "embeddings" / "00001.parquet")
    assert table.column_names == ["uid", "key", "embedding"]
    assert len(table) == SAMPLES // 2 - 1  # one cannot be decoded
    vectors = np.array(table["embedding"].to_pylist())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert table.schema.metadata[b"model"].startswith(b"tiny-test/weights@")


def test_pixels_and_embeddings_come_to_the_same_marks(
    world: Path, fitted: Path, tiny_architecture: str, tmp_path: Path
) -> None:
    by_pixels = [
        *("--annotators", "pixels", "--model", tiny_architecture),
        *("--pretrained", str(world / "weights.pt")),
    ]
    assert annotate(world, fitted, tmp_path / "pixels", *by_pixels) == 0
    by_embeddings = [
        *("--annotators", "embeddings", "--embeddings", str(fitted / "embeddings")),
        *("--embedding-key", "embedding"),
    ]
    assert annotate(world, fitted, tmp_path / "embeddings", *by_embeddings) == 0
    seen, read = marks(tmp_path / "pixels"), marks(tmp_path / "embeddings")
    assert len(seen) == SAMPLES - 2  # two cannot be decoded
    assert {uid: read[uid] for uid in seen} == seen
    with (world / "labels.csv").open() as stream:
        truth = {row["uid"]: float(row["gender"] == "woman") for row in csv.DictReader(stream)}
    decided = {uid: woman for uid, woman in seen.items() if woman is not None}
    assert len(decided) > SAMPLES / 2
    right = sum(truth[uid] == woman for uid, woman in decided.items())
    assert right / len(decided) >= 0.9
    # A picture that cannot be decoded is of no use; an embedding that is missing only knows less.
    assert {uid for uid, woman in read.items() if uid not in seen and woman is None}


def test_probabilities_instead_of_decisions(world: Path, fitted: Path, tmp_path: Path) -> None:
    by_embeddings = [
        *("--annotators", "embeddings", "--embeddings", str(fitted / "embeddings")),
        *("--embedding-key", "embedding", "--marks", "probabilities"),
    ]
    assert annotate(world, fitted, tmp_path / "run", *by_embeddings) == 0
    known = [woman for woman in marks(tmp_path / "run").values() if woman is not None]
    assert len(known) == SAMPLES - 2
    assert any(0.001 < woman < 0.999 for woman in known)


REFUSED: list[tuple[Sequence[str], str]] = [
    (("--annotators", "captions"), "heads has no effect without annotator embeddings or pixels"),
    (("--annotators", "embeddings"), "annotator embeddings needs embeddings; give it"),
    (("--annotators", "pixels", "--model", "tiny-test"), "annotator pixels needs pretrained"),
    (
        ("--annotators", "embeddings", "--embeddings", "none", "--fusion", "agree"),
        "fusion agree has no effect with one annotator",
    ),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_options_that_lack_or_do_nothing_are_refused(
    world: Path,
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: Sequence[str],
    said: str,
) -> None:
    try:
        code = annotate(world, fitted, tmp_path / "run", *options)
    except SystemExit as stopped:  # the command line's own way of refusing an option
        code = int(str(stopped.code))
    assert code == 2
    printed = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert said in printed
    assert not (tmp_path / "run").exists()


def test_too_many_pictures_that_cannot_be_read(
    world: Path, tiny_architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = embedding(world, tiny_architecture, tmp_path / "out")
    command[command.index("0.05")] = "0.001"
    assert main(command) == 2
    assert "2 of 160 samples cannot be used" in capsys.readouterr().err
