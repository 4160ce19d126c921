"""The benchmark of annotating from pixels, at a tiny size; and that it measures what it says."""

import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks import pixels
from benchmarks.pixels import (
    Measured,
    Settings,
    Stopwatch,
    Timing,
    measure,
    random_heads,
    random_jpeg,
    table_of,
    timed_embedder,
    two_values,
    write_shards,
)
from pipelines.annotators.pixels import PixelAnnotator
from pipelines.shards import Sample, read_samples
from tests.onnx_files import write_colour_classifier
from vision.model import ModelSettings


@pytest.fixture
def settings(small_model: ModelSettings) -> Settings:
    return Settings(pictures=23, repeats=1, model=small_model, batch_size=8, device="cpu")


def figures(markdown: str) -> dict[str, str]:
    """Second column by first."""
    return dict(re.findall(r"^\| (\S.*?) +\| (\S.*?) +\|", markdown, re.MULTILINE))


class TestPictures:
    def test_are_as_large_as_is_said(self):
        jpegs = [random_jpeg(number) for number in range(6)]
        assert 15e3 < np.mean([len(jpeg) for jpeg in jpegs]) < 28e3
        assert len(set(jpegs)) == 6 and jpegs[0] == random_jpeg(0)
        assert Image.open(io.BytesIO(jpegs[0])).size == (256, 256)

    def test_are_dealt_to_tars_of_three_members(self, tmp_path: Path, settings: Settings):
        shards = write_shards(tmp_path, settings)
        samples = [list(read_samples(shard, images=True)) for shard in shards]
        assert [len(each) for each in samples] == [12, 11]
        for sample in (each for shard in samples for each in shard):
            assert isinstance(sample, Sample) and sample.image and sample.metadata
            assert sample.caption == f"picture {int(sample.key)}"


class TestMeasuring:
    def test_what_is_watched_adds_up(self):
        watch = Stopwatch()
        for _ in range(3):
            with watch.running():
                time.sleep(0.01)
        assert watch.total >= 0.03
        with pytest.raises(OSError), watch.running():
            raise OSError
        assert 0.03 <= watch.total < 5

    def test_every_picture_passes_the_model(
        self, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ):
        seen: list[int] = []
        original = pixels.TimedEmbedder.forward

        def forward(self: pixels.TimedEmbedder, given: np.ndarray) -> np.ndarray:
            seen.append(len(given))
            return original(self, given)

        monkeypatch.setattr(pixels.TimedEmbedder, "forward", forward)
        (tmp_path / "shards").mkdir()
        shards = write_shards(tmp_path / "shards", settings)
        embedder, catalogue = timed_embedder(settings), two_values()
        annotator = PixelAnnotator(catalogue, embedder, random_heads(embedder), True)
        seen.clear()
        found = measure(shards, tmp_path, catalogue, annotator, embedder, 2)
        # once to warm up, then in two shards of 12 and 11, and from memory
        assert seen == [8, *[8, 4, 8, 3, 8, 8, 7] * 2]
        assert found.pictures == 23
        for each in (found.annotate, found.memory):
            assert 0 < each.forward < each.wall and each.processors > 0
        written = sorted(each.name for each in tmp_path.glob("pixels/annotations/*.parquet"))
        assert written == ["00000.parquet", "00001.parquet"]

    def test_figures_follow_from_what_was_measured(self):
        found = Measured(1000, Timing(10.0, 18.0, 9.5), Timing(9.0, 15.3, 9.0))
        assert (found.share, found.ratio, found.work_ratio) == pytest.approx((0.95, 0.9, 0.85))
        cpu = figures(table_of("x", "cpu", found).markdown())
        assert cpu["annotate"] == "100 pictures/s"
        assert cpu["in the forward pass"] == "95.0% of the wall time"
        assert cpu["ratio"] == "0.9"
        assert cpu["a billion pairs"] == "5,000 core-hours"  # 0.018 s a pair
        assert "GPU" not in table_of("x", "cpu", found).markdown()
        assert "2,778 GPU-hours" in table_of("x", "cuda", found).markdown()


def test_the_report(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    write_colour_classifier(tmp_path / "c.onnx", np.eye(3))
    output = {"kind": "classifier", "output": "scores", "columns": {"person": 0}}
    entry = {"name": "data", "width": 8, "height": 8, "scale": 1 / 255}
    declaration = tmp_path / "colours.yaml"
    declaration.write_text(yaml.safe_dump({"model": "c.onnx", "input": entry, "outputs": [output]}))
    file = tmp_path / "report.md"
    given = Settings(**{**vars(settings), "onnx": (declaration,), "markdown": file, "pictures": 9})
    report = pixels.main(given)
    assert [len(table.rows) for table in report.tables] == [5, 5]
    assert file.read_text() == capsys.readouterr().out
    assert "a small model, 256 x 256 JPEGs of" in file.read_text()
    assert "colours on cpu." in file.read_text()
    for table in report.tables:
        found = figures(table.markdown())
        share = float(found["in the forward pass"].split("%")[0])
        assert 0 < share <= 100
        assert float(found["ratio"]) > 0


@pytest.mark.slow
def test_most_of_the_time_is_the_models(tmp_path: Path):
    """ViT-B-32, as it is asked for."""
    settings = Settings(pictures=128, device="cpu")
    (tmp_path / "shards").mkdir()
    shards = write_shards(tmp_path / "shards", settings)
    embedder, catalogue = timed_embedder(settings), two_values()
    annotator = PixelAnnotator(catalogue, embedder, random_heads(embedder), True)
    found = measure(shards, tmp_path, catalogue, annotator, embedder, 1)
    assert found.pictures == 128 and found.share > 0.5  # the benchmark says how much exactly
