"""Annotators that look: heads on a small model's embeddings, and ONNX models of colours."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from m4.catalogue import Attribute, Catalogue, Concept, Value
from m4.errors import InputError
from pipelines.annotation import AnnotationJob, annotate_shard
from pipelines.annotators.embeddings import marks_of_heads
from pipelines.annotators.marks import Batch, Marks
from pipelines.annotators.pixels import OnnxAnnotator, PixelAnnotator
from pipelines.fusion import fuse
from pipelines.shards import Sample, SampleSpan, ShardRef
from tests.onnx_files import write_colour_classifier, write_colour_detector
from vision.calibrated import Platt
from vision.embedder import Embedder, Preprocessing
from vision.heads import Head, HeadSet
from vision.model import ModelSettings, build_model, tokenizer
from vision.thresholds import Thresholds

UNIT = 1 / 255
COLOURS = ("red", "lime", "blue", "white", "black", "yellow")

CATALOGUE = Catalogue(
    name="colours",
    purpose="tests of annotators that look",
    sensitive={
        "gender": Attribute(
            describes="red or green",
            values={
                "woman": Value(target=0.5, terms=("woman",)),
                "man": Value(target=0.5, terms=("man",)),
            },
        ),
        "age": Attribute(
            describes="blue",
            exclusive=False,
            values={"child": Value(target=0.3, terms=("child",))},
        ),
    },
    labels={"sea": Concept(terms=("sea",)), "meadow": Concept(terms=("meadow",))},
)


def batch_of(*colours: str) -> Batch:
    samples = [
        Sample(f"{n:032x}", str(n), SampleSpan(0, 0), colour, {})
        for n, colour in enumerate(colours)
    ]
    return Batch(samples, [Image.new("RGB", (40, 40), colour) for colour in colours])


@pytest.fixture(scope="module")
def embedder(small_model: ModelSettings) -> Embedder:
    torch.manual_seed(0)
    model = build_model(small_model, "clip").eval()
    return Embedder(model, tokenizer(small_model), Preprocessing.of(model), "small/test")


@pytest.fixture(scope="module")
def heads(embedder: Embedder) -> tuple[Head, ...]:
    """Heads that tell colours apart: of gender red from green, of a person black from the rest."""
    red, green, black, white = embedder.embed(batch_of("red", "lime", "black", "white").pictures)
    apart = red - green
    middle = float(apart @ (red + green)) / 2
    lit = white - black
    common: dict[str, Any] = {"model": embedder.name, "dimension": embedder.dim}
    steep = Platt(slope=1e4, intercept=0.0)
    sure = Thresholds(lower=0.1, upper=0.9)
    return (
        Head(
            attribute="gender",
            values=("woman", "man"),
            exclusive=True,
            weights=(tuple(apart.tolist()), tuple((-apart).tolist())),
            bias=(-middle, middle),
            calibrations=(steep, steep),
            thresholds=(sure, sure),
            **common,
        ),
        Head(
            attribute="person",
            values=("person",),
            exclusive=False,
            weights=(tuple(lit.tolist()),),
            bias=(-float(lit @ (black + black + black + white)) / 4,),
            calibrations=(steep,),
            thresholds=(sure,),
            **common,
        ),
    )


class TestPixelAnnotator:
    def test_marks_what_heads_say(self, embedder: Embedder, heads: tuple[Head, ...]):
        annotator = PixelAnnotator(CATALOGUE, embedder, heads, True)
        assert (annotator.name, annotator.size) == ("pixels", 32)
        annotator.begin("00000")
        marks = annotator.annotate(batch_of("red", "lime", "black"))
        assert marks.values[:2, :2].tolist() == [[1, 0], [0, 1]]
        assert np.isnan(marks.values[:, 2]).all()  # no head of age
        assert marks.person[[0, 2]].tolist() == [1, 0] and np.isnan(marks.values[2]).all()
        assert len(marks.label_rows) == 0 and not marks.unusable

    @pytest.mark.parametrize("decide", [True, False])
    @given(st.lists(st.sampled_from(COLOURS), min_size=1, max_size=7))
    def test_is_heads_on_embeddings(
        self, embedder: Embedder, heads: tuple[Head, ...], decide: bool, colours: list[str]
    ):
        batch = batch_of(*colours)
        marks = PixelAnnotator(CATALOGUE, embedder, heads, decide).annotate(batch)
        embeddings = embedder.embed(batch.pictures)
        expected = marks_of_heads(embeddings, HeadSet(heads), CATALOGUE, decide)
        assert np.array_equal(marks.values, expected.values, equal_nan=True)
        assert np.array_equal(marks.person, expected.person, equal_nan=True)

    def test_heads_of_other_embeddings(self, embedder: Embedder, heads: tuple[Head, ...]):
        other = [head.model_copy(update={"model": "ViT-B-32/openai"}) for head in heads]
        message = r"are for embeddings of ViT-B-32/openai \(32 numbers\), but .* of small/test"
        with pytest.raises(InputError, match=message):
            PixelAnnotator(CATALOGUE, embedder, other, True)

    def test_heads_of_another_catalogue(self, embedder: Embedder, heads: tuple[Head, ...]):
        fewer = CATALOGUE.model_copy(update={"sensitive": {"age": CATALOGUE.sensitive["age"]}})
        with pytest.raises(InputError, match="a head is of attribute 'gender', which catalogue"):
            PixelAnnotator(fewer, embedder, heads, True)
        with pytest.raises(InputError, match="no heads given"):
            PixelAnnotator(CATALOGUE, embedder, [], True)

    def test_no_pictures_are_a_mistake_of_ours(self, embedder: Embedder, heads: tuple[Head, ...]):
        with pytest.raises(AssertionError, match="needs every picture"):
            PixelAnnotator(CATALOGUE, embedder, heads, True).annotate(
                Batch(batch_of("red").samples)
            )


GENDER = {"gender.woman": 0, "gender.man": 1}


@pytest.fixture
def colour_model(tmp_path: Path) -> Callable[..., Any]:
    """Loads a classifier whose columns are red, green and blue, with these outputs."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    from vision.onnx_model import load_onnx_model

    def load(*outputs: dict[str, Any], weights: np.ndarray | None = None) -> Any:
        write_colour_classifier(tmp_path / "c.onnx", np.eye(3) if weights is None else weights)
        entry = {"name": "data", "width": 8, "height": 8, "scale": UNIT}
        common = {"kind": "classifier", "output": "scores"}
        content = {
            "model": "c.onnx",
            "input": entry,
            "outputs": [{**common, **output} for output in outputs],
        }
        path = tmp_path / "colours.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_onnx_model(path, threads=1)

    return load


@pytest.fixture
def annotator(colour_model: Callable[..., Any]) -> Callable[..., OnnxAnnotator]:
    return lambda *outputs, **given: OnnxAnnotator(CATALOGUE, colour_model(*outputs, **given))


def rows_of(marks: Marks, name: str) -> list[int]:
    wanted = CATALOGUE.label_names.index(name)
    return [
        int(row) for row, r in zip(marks.label_rows, marks.label_ids, strict=True) if r == wanted
    ]


class TestOnnxAnnotator:
    def test_name_and_size(self, annotator: Callable[..., OnnxAnnotator]):
        found = annotator({"columns": GENDER})
        assert (found.name, found.size) == ("onnx:colours", 8)
        found.begin("00000")

    def test_probabilities_of_exclusive_values_are_shares(
        self, annotator: Callable[..., OnnxAnnotator]
    ):
        marks = annotator({"columns": GENDER}).annotate(batch_of("red", "yellow", "blue", "lime"))
        assert marks.values[0, :2].tolist() == [1, 0] and marks.values[3, :2].tolist() == [0, 1]
        assert marks.values[1, :2].tolist() == [0.5, 0.5]
        assert np.isnan(marks.values[2]).all()  # neither: nothing to share
        assert np.isnan(marks.values[:, 2]).all() and np.isnan(marks.person).all()

    @given(colours=st.lists(st.sampled_from(COLOURS), max_size=9))
    def test_invariants(self, tmp_path_factory: pytest.TempPathFactory, colours: list[str]):
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
        from vision.onnx_model import load_onnx_model

        path = tmp_path_factory.mktemp("made") / "all.yaml"
        write_colour_classifier(path.with_name("c.onnx"), np.hstack([np.eye(3), np.eye(3) / 2]))
        output = {"kind": "classifier", "output": "scores"}
        wanted = {"lower": 0.2, "upper": 0.8}
        outputs = [
            {**output, "columns": GENDER},
            {**output, "columns": {"age.child": 2, "sea": 2, "meadow": 1}, "thresholds": wanted},
            {**output, "columns": {"person": 3}, "thresholds": {"lower": 0.1, "upper": 0.4}},
        ]
        entry = {"name": "data", "width": 4, "height": 4, "scale": UNIT}
        content = {"model": "c.onnx", "input": entry, "outputs": outputs}
        path.write_text(yaml.safe_dump(content))
        batch = batch_of(*colours)
        marks = OnnxAnnotator(CATALOGUE, load_onnx_model(path, threads=1)).annotate(batch)
        assert marks.values.shape == (len(colours), 3) and len(marks) == len(colours)
        known = ~np.isnan(marks.values[:, :2]).any(axis=1)
        np.testing.assert_allclose(marks.values[known, :2].sum(axis=1), 1, atol=1e-6)
        assert np.isnan(marks.values[marks.person == 0]).all()
        assert (
            set(np.unique(marks.values[:, 2])) <= {0.0, 1.0} or np.isnan(marks.values[:, 2]).any()
        )
        pairs = list(zip(marks.label_rows.tolist(), marks.label_ids.tolist(), strict=True))
        assert pairs == sorted(set(pairs))
        assert rows_of(marks, "sea") == [
            row for row, colour in enumerate(colours) if colour in ("blue", "white")
        ]
        if colours:  # as other annotators' marks, they can be fused
            assert len(fuse([marks, marks], CATALOGUE, "agree")) == len(colours)

    def test_three_ways(self, annotator: Callable[..., OnnxAnnotator]):
        sure = {"lower": 0.2, "upper": 0.8}
        outputs = (
            {"columns": GENDER, "thresholds": sure},
            {"columns": {"age.child": 2}, "thresholds": sure},
        )
        colours = ("#ff0000", "#ff0080", "#ffff00", "#800080", "#00ff30")
        marks = annotator(*outputs).annotate(batch_of(*colours))
        woman, man, child = marks.values.T
        np.testing.assert_array_equal(woman, [1, 1, np.nan, np.nan, 0])
        np.testing.assert_array_equal(man, [0, 0, np.nan, np.nan, 1])
        np.testing.assert_array_equal(child, [0, np.nan, 0, np.nan, 0])

    def test_one_logit_for_two_values(self, annotator: Callable[..., OnnxAnnotator]):
        """What most models of two classes have: one column and its complement."""
        output = {
            "activation": "sigmoid",
            "columns": {"gender.woman": 0, "gender.man": {"not": 0}},
        }
        weights = np.array([[6.0], [-6.0], [0.0]])
        marks = annotator(output, weights=weights).annotate(batch_of("red", "lime", "blue"))
        np.testing.assert_allclose(marks.values[:, 0], [0.9975, 0.0025, 0.5], atol=1e-4)
        np.testing.assert_allclose(marks.values[:, :2].sum(axis=1), 1, atol=1e-6)

    def test_labels_hold_from_the_upper_threshold_on(self, annotator: Callable[..., OnnxAnnotator]):
        output = {"columns": {"meadow": 1, "sea": 2}, "thresholds": {"upper": 0.5}}
        marks = annotator(output).annotate(batch_of("white", "red", "blue", "lime"))
        assert marks.label_rows.tolist() == [0, 0, 2, 3]
        assert marks.label_ids.tolist() == [0, 1, 0, 1]
        assert marks.label_rows.dtype == marks.label_ids.dtype == np.int64

    def test_nobody_has_no_attributes(self, annotator: Callable[..., OnnxAnnotator]):
        outputs = (
            {"columns": GENDER},
            {"columns": {"person": 2}, "thresholds": {"lower": 0.1, "upper": 0.9}},
        )
        marks = annotator(*outputs).annotate(batch_of("red", "#ff00ff", "#ff0080"))
        np.testing.assert_array_equal(marks.person, [0, 1, np.nan])
        assert np.isnan(marks.values[0]).all()
        assert marks.values[1:, 0].tolist() == [1, 1]
        fused = fuse([marks], CATALOGUE, "first")
        np.testing.assert_array_equal(fused.person, marks.person)

    def test_nan_is_set_aside(self, annotator: Callable[..., OnnxAnnotator]):
        weights = np.array([[np.nan, 0.0], [0.0, 1.0], [0.0, 0.0]])
        marks = annotator({"columns": GENDER}, weights=weights).annotate(batch_of("red", "lime"))
        assert marks.unusable == dict.fromkeys([0, 1], "onnx:colours gives NaN for gender.woman")

    def test_nothing_to_look_at(self, annotator: Callable[..., OnnxAnnotator]):
        marks = annotator({"columns": GENDER}).annotate(Batch([]))
        assert marks.values.shape == (0, 3) and marks.person.shape == (0,)

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            ([{"columns": {"gender.robot": 0}}], "marks 'gender.robot', which catalogue 'colours'"),
            ([{"columns": {"gender.woman": 0}}], "marks gender.woman but not gender.man, though"),
            ([{"columns": {"sea": 0}}], "'sea' is a label, .* `thresholds` with `upper`"),
            (
                [{"columns": {"sea": 0}, "thresholds": {"lower": 0.5}}],
                "'sea' is a label, .* `thresholds` with `upper`",
            ),
            (
                [
                    {"columns": {"gender.woman": 0}},
                    {"columns": {"gender.man": 1}, "thresholds": {"upper": 0.5}},
                ],
                "some values of 'gender' have thresholds and some have not",
            ),
        ],
    )
    def test_declarations_that_do_not_fit_the_catalogue(
        self, annotator: Callable[..., OnnxAnnotator], outputs: list[dict], message: str
    ):
        with pytest.raises(InputError, match=rf"colours\.yaml: .*{message}"):
            annotator(*outputs)

    def test_a_label_that_is_called_person(self, colour_model: Callable[..., Any]):
        labels = {"person": Concept(terms=("person",))}
        catalogue = Catalogue(
            name="colours", purpose="", sensitive=CATALOGUE.sensitive, labels=labels
        )
        model = colour_model({"columns": {"person": 0}, "thresholds": {"upper": 0.5}})
        with pytest.raises(InputError, match="also a label of catalogue 'colours'"):
            OnnxAnnotator(catalogue, model)

    @pytest.mark.parametrize(("absent", "expected"), [(0.2, [0, 1, np.nan]), (None, None)])
    def test_a_detector(self, tmp_path: Path, absent: float | None, expected: list | None):
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
        from vision.onnx_model import load_onnx_model

        write_colour_detector(tmp_path / "d.onnx")
        output = {"kind": "detector", "scores": "scores", "column": 0, "threshold": 0.8}
        if absent is not None:
            output["absent_below"] = absent
        entry = {"name": "data", "width": 8, "height": 8, "scale": UNIT}
        content = {"model": "d.onnx", "input": entry, "outputs": [output]}
        (tmp_path / "d.yaml").write_text(yaml.safe_dump(content))
        found = OnnxAnnotator(CATALOGUE, load_onnx_model(tmp_path / "d.yaml"))
        marks = found.annotate(batch_of("black", "red", "#800000"))
        np.testing.assert_array_equal(marks.person, expected or [np.nan, 1, np.nan])
        assert np.isnan(marks.values).all() and not len(marks.label_rows)


def encoded(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(stream, "PNG")
    return stream.getvalue()


class TestInAShard:
    """Both on a real tar, by the loop that the stage runs."""

    @pytest.fixture
    def shard(
        self,
        tmp_path: Path,
        tar_bytes: Callable[..., bytes],
        write: Callable[[Path, bytes], ShardRef],
    ) -> ShardRef:
        members = []
        for number in range(300):  # more than a batch of pictures
            colour = COLOURS[number % 4]
            members += [
                (f"{number:06d}.png", encoded(colour) if number != 7 else b"broken"),
                (f"{number:06d}.txt", f"a {colour} picture".encode()),
                (f"{number:06d}.json", json.dumps({"colour": colour}).encode()),
            ]
        return write(tmp_path / "00000.tar", tar_bytes(members))

    def test_pixels_and_onnx_together(
        self,
        tmp_path: Path,
        shard: ShardRef,
        embedder: Embedder,
        heads: tuple[Head, ...],
        annotator: Callable[..., OnnxAnnotator],
    ):
        output = {"columns": {"sea": 2}, "thresholds": {"upper": 0.5}}
        annotators = [PixelAnnotator(CATALOGUE, embedder, heads, True), annotator(output)]
        tables = []
        for run in ("one", "again"):
            job = AnnotationJob(str(tmp_path / run), CATALOGUE, "first", "digest")
            commit = annotate_shard(shard, job, annotators)
            assert commit.rows == 299
            assert commit.failures == {"image cannot be decoded: UnidentifiedImageError": 1}
            tables.append(pq.read_table(tmp_path / run / "annotations" / "00000.parquet"))
        assert tables[0].equals(tables[1])
        rows = {int(row["key"]): row for row in tables[0].to_pylist()}
        assert 7 not in rows and len(rows) == 299
        for number, row in rows.items():
            colour = COLOURS[number % 4]
            assert row["labels"] == ([0] if colour in ("blue", "white") else [])
            assert set(row["label_sources"]) <= {"onnx:colours"}
            if colour in ("red", "lime"):
                assert row["gender.woman"] == float(colour == "red")
                assert row["gender:source"] == "pixels"
