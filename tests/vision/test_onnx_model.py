"""ONNX models written in the test, loaded and run by their declarations."""

import builtins
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from m4.errors import InputError
from tests.onnx_files import (
    Node,
    Port,
    write_colour_classifier,
    write_colour_detector,
    write_model,
)
from vision import onnx_model
from vision.onnx_declaration import (
    Classifier,
    Declaration,
    Detector,
    Input,
    probabilities,
    read_declaration,
)
from vision.onnx_model import OnnxModel, load_onnx_model
from vision.thresholds import Thresholds

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

UNIT = 1 / 255
COLOURS = ("red", "lime", "blue", "white", "black")
OUTPUT = {"kind": "classifier", "output": "scores", "columns": {"a": 0}}
DETECTOR = {"kind": "detector", "scores": "scores", "column": 0, "threshold": 0.7}

Declare = Callable[..., Path]


def plain(colour: str, width: int = 12, height: int = 10) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    """Writes a declaration of `model.onnx` beside it; what is given replaces the defaults."""

    def write(*outputs: dict[str, Any], model: str = "model.onnx", **seen: Any) -> Path:
        entry = {"name": "data", "width": 8, "height": 8, "scale": UNIT, **seen}
        content = {"model": model, "input": entry, "outputs": list(outputs) or [OUTPUT]}
        path = tmp_path / "colours.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A classifier that gives the mean red, green and blue of a picture."""
    return write_colour_classifier(tmp_path / "model.onnx", np.eye(3))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A detector that gives the colour of four quarters, one picture at a time."""
    return write_colour_detector(tmp_path / "model.onnx")


def scores(model: OnnxModel, *pictures: Image.Image) -> dict[str, list[float]]:
    return {each.mark: each.probabilities.round(4).tolist() for each in model.score(list(pictures))}


class TestInput:
    def test_the_formula(self):
        seen = Input(name="x", width=4, height=2, scale=UNIT, mean=(0.1, 0.2, 0.3), std=(1, 2, 4))
        values = seen.values(Image.new("RGB", (4, 2), (255, 51, 102)))
        assert values.shape == (3, 2, 4) and values.dtype == np.float32
        expected = [(1 - 0.1) / 1, (0.2 - 0.2) / 2, (0.4 - 0.3) / 4]
        np.testing.assert_allclose(values[:, 0, 0], expected, atol=1e-6)

    def test_layouts_and_channels(self):
        image = Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        )
        pixels = np.asarray(image, dtype=np.float32)
        made = {
            (layout, channels): Input(
                name="x", width=7, height=5, layout=layout, channels=channels
            ).values(image)
            for layout in ("nchw", "nhwc")
            for channels in ("rgb", "bgr")
        }
        assert np.array_equal(made["nhwc", "rgb"], pixels)
        assert np.array_equal(made["nhwc", "bgr"], pixels[:, :, ::-1])
        assert np.array_equal(made["nchw", "bgr"], pixels[:, :, ::-1].transpose(2, 0, 1))
        assert all(each.flags.c_contiguous for each in made.values())

    def test_three_numbers_are_in_the_order_of_the_channels(self):
        seen = Input(name="x", width=1, height=1, channels="bgr", mean=(1, 2, 3))
        assert seen.values(Image.new("RGB", (1, 1), (30, 20, 10))).ravel().tolist() == [9, 18, 27]

    @given(
        st.sampled_from(["stretch", "fit", "crop"]),
        st.integers(1, 90),
        st.integers(1, 90),
        st.integers(1, 40),
        st.integers(1, 40),
    )
    def test_any_picture_fits(self, resize: Any, width: int, height: int, w: int, h: int):
        seen = Input(name="x", width=w, height=h, mean=10, resize=resize)
        values = seen.values(Image.new("RGB", (width, height), (110, 60, 35)))
        inside = values[:, values[0] != 0]
        assert values.shape == (3, h, w) and inside.size
        assert np.array_equal(np.unique(inside, axis=1), [[100], [50], [25]])
        if resize != "fit":
            assert inside.shape[1] == w * h

    def test_ways_to_resize(self):
        image = Image.new("RGB", (30, 10), "black")  # three squares
        image.paste((255, 255, 255), (10, 0, 20, 10))

        def row(resize: Any) -> np.ndarray:
            seen = Input(name="x", width=10, height=10, mean=51, resize=resize)
            return seen.values(image)[0]

        assert (row("crop") == 204).all()  # the square in the middle
        fitted = row("fit")
        assert (fitted[:3] == 0).all() and (fitted[7:] == 0).all()  # the mean, above and below
        assert fitted[4].max() > 150 and fitted[4, 0] == -51
        stretched = row("stretch")
        assert np.array_equal(stretched[0], stretched[9]) and stretched[0, 0] == -51

    @pytest.mark.parametrize("wrong", [{"scale": 0}, {"std": 0}, {"std": (1, 0, 1)}])
    def test_what_cannot_be_undone(self, wrong: dict[str, Any]):
        with pytest.raises(ValueError, match="must not be 0"):
            Input(name="x", width=1, height=1, **wrong)


class TestProbabilities:
    VALUES = arrays(np.float32, (3, 4), elements=st.floats(-80, 80, width=32))

    @given(VALUES)
    def test_softmax(self, values: np.ndarray):
        found = probabilities(values, "softmax", "x")
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(found, probabilities(values + 3, "softmax", "x"), atol=1e-4)
        best = np.take_along_axis(found, values.argmax(axis=1)[:, None], axis=1)
        assert (best == found.max(axis=1, keepdims=True)).all()

    @given(VALUES)
    def test_sigmoid(self, values: np.ndarray):
        found = probabilities(values, "sigmoid", "x")
        expected = 1 / (1 + np.exp(-values.astype(np.float64)))
        np.testing.assert_allclose(found, expected, atol=1e-6)

    @given(arrays(np.float32, 5, elements=st.floats(0, 1, width=32)))
    def test_none_leaves_them_alone(self, values: np.ndarray):
        assert np.array_equal(probabilities(values, "none", "x"), values)

    @pytest.mark.parametrize("wrong", [1.01, -0.01, np.inf, -np.inf])
    def test_what_is_no_probability(self, wrong: float):
        with pytest.raises(InputError, match=r"output 'x' gives .* declare the activation"):
            probabilities(np.array([[0.5, wrong]]), "none", "x")

    def test_rounding_is_forgiven_and_nan_is_kept(self):
        found = probabilities(np.array([1.0005, -0.0005, np.nan]), "none", "x")
        assert found[:2].tolist() == [1, 0] and np.isnan(found[2])


class TestClassifier:
    def classifier(self, **given: Any) -> Classifier:
        return Classifier.model_validate({**OUTPUT, **given})

    def test_columns_sums_and_complements(self):
        output = self.classifier(columns={"child": [0, 1], "adult": 2, "someone": {"not": 3}})
        values = np.array([[0.1, 0.2, 0.6, 0.1], [0.5, 0.5, 0, 0]])
        child, adult, someone = output.read({"scores": values})
        np.testing.assert_allclose(child, [0.3, 1.0], atol=1e-6)
        np.testing.assert_allclose(adult, [0.6, 0.0], atol=1e-6)
        np.testing.assert_allclose(someone, [0.9, 1.0], atol=1e-6)

    def test_softmax_over_a_part(self):
        """Several questions in one output, as models of age and gender have them."""
        output = self.classifier(
            activation="softmax", softmax_over=(1, 3), columns={"woman": 1, "man": 2}
        )
        woman, man = output.read({"scores": np.array([[99.0, 2.0, 2.0, -99.0]])})
        assert woman.tolist() == man.tolist() == [0.5]

    @given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), max_size=5))
    def test_rows_are_read_alone(self, rows: list[list[float]]):
        output = self.classifier(activation="softmax", columns={"a": [0, 3], "b": {"not": 1}})
        values = np.array(rows, dtype=np.float32).reshape(-1, 4)
        together = np.array(output.read({"scores": values}))
        for number in range(len(values)):
            alone = np.array(output.read({"scores": values[number : number + 1]}))
            np.testing.assert_allclose(together[:, number], alone[:, 0], atol=1e-6)

    @pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 5, 1)])
    def test_another_shape(self, shape: tuple[int, ...]):
        output = self.classifier(columns={"a": 0, "b": [1, 4]})
        with pytest.raises(InputError, match=r"has shape .*\(pictures, columns\) with 5 columns"):
            output.read({"scores": np.zeros(shape)})

    def test_a_sum_above_one(self):
        output = self.classifier(columns={"a": [0, 1]})
        with pytest.raises(InputError, match=r"gives 1\.5 to 1\.5, which are no probabilities"):
            output.read({"scores": np.array([[0.75, 0.75]])})

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"activation": "sigmoid", "columns": {"a": [0, 1]}}, "a: the columns of a sigmoid"),
            ({"softmax_over": (0, 2)}, r"softmax_over \[0, 2\] needs a softmax"),
            ({"activation": "softmax", "softmax_over": (2, 2)}, "first < after"),
            ({"activation": "softmax", "softmax_over": (1, 3)}, "a: its column is not in softmax"),
            ({"columns": {}}, "at least 1"),
            ({"columns": {"a": -1}}, "greater than or equal to 0"),
            ({"thresholds": {"lower": 0.6, "upper": 0.5}}, "lower 0.6 is not below upper 0.5"),
            ({"colums": {}}, "Extra inputs"),
        ],
    )
    def test_declarations_that_contradict_themselves(self, given: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            self.classifier(**given)


class TestDetector:
    def detector(self, **given: Any) -> Detector:
        return Detector.model_validate({**DETECTOR, **given})

    def test_the_best_box_counts(self):
        values = np.array([[[0.1, 0.9], [0.4, 0.2]], [[0.2, 0.0], [0.1, 0.0]]])
        for column, expected in ((0, [0.4, 0.2]), (1, [0.9, 0.0])):
            (found,) = self.detector(column=column).read({"scores": values})
            np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_scores_without_columns(self):
        (found,) = self.detector(column=None).read({"scores": np.array([[0.1, 0.3], [0.2, 0.0]])})
        np.testing.assert_allclose(found, [0.3, 0.2], atol=1e-6)

    def test_no_box_at_all(self):
        (found,) = self.detector().read({"scores": np.zeros((3, 0, 2))})
        assert found.tolist() == [0, 0, 0]

    def test_small_boxes_do_not_count(self):
        boxes = np.array([[[0.1, 0.1, 0.15, 0.9], [0.0, 0.0, 0.5, 0.5]]])
        given = {"scores": np.array([[[0.9], [0.4]]]), "boxes": boxes}
        for smallest, expected in ((0.0, 0.9), (0.2, 0.4), (0.6, 0.0)):
            (found,) = self.detector(boxes="boxes", smallest=smallest).read(given)
            assert found[0] == pytest.approx(expected)

    def test_scores_below_zero_are_not_taken_for_absence(self):
        with pytest.raises(InputError, match=r"gives -7 to -2, .* declare the activation"):
            self.detector().read({"scores": np.array([[[-7.0], [-2.0]]])})
        (found,) = self.detector(activation="sigmoid").read({"scores": np.array([[[0.0], [-2.0]]])})
        assert found[0] == pytest.approx(0.5)

    def test_thresholds(self):
        assert self.detector().thresholds == Thresholds(lower=None, upper=0.7)
        assert self.detector(absent_below=0.1).thresholds == Thresholds(lower=0.1, upper=0.7)

    @pytest.mark.parametrize(
        ("given", "arrays_given", "message"),
        [
            ({}, {"scores": np.zeros((1, 5))}, r"'scores' has shape \[1, 5\]; .*more than 0 col"),
            ({"column": 2}, {"scores": np.zeros((1, 5, 2))}, "more than 2 columns"),
            ({"column": None}, {"scores": np.zeros((1, 5, 2))}, r"\(pictures, boxes\)"),
            (
                {"boxes": "boxes"},
                {"scores": np.zeros((1, 5, 2)), "boxes": np.zeros((1, 4, 4))},
                r"'boxes' has shape \[1, 4, 4\]; boxes that belong to 'scores' are \[1, 5, 4\]",
            ),
        ],
    )
    def test_other_shapes(self, given: dict, arrays_given: dict, message: str):
        with pytest.raises(InputError, match=message):
            self.detector(**given).read(arrays_given)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"smallest": 0.1}, "`smallest` has no effect without `boxes`"),
            ({"activation": "softmax", "column": None}, "say which `column` counts"),
            ({"marks": "dog", "absent_below": 0.1}, "no effect on the label 'dog'"),
            ({"absent_below": 0.7}, "absent_below 0.7 is not below threshold 0.7"),
            ({"threshold": 1.5}, "less than or equal to 1"),
        ],
    )
    def test_declarations_that_contradict_themselves(self, given: dict, message: str):
        with pytest.raises(ValueError, match=message):
            self.detector(**given)


class TestReading:
    def test_a_declaration(self, declare: Declare):
        found = read_declaration(declare(OUTPUT, {**DETECTOR, "marks": "dog"}, mean=[1, 2, 3]))
        assert isinstance(found, Declaration) and found.marks == ("a", "dog")
        assert found.input.mean == (1, 2, 3)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("- 1", "a declaration is a mapping"),
            ("model: [", "not valid YAML"),
            ("model: a\ninput: {name: x, width: 1, height: 1}", "outputs: Field required"),
            ("model: a\nmodel: b", "repeated key 'model'"),
        ],
    )
    def test_what_is_none(self, tmp_path: Path, content: str, message: str):
        path = tmp_path / "x.yaml"
        path.write_text(content)
        with pytest.raises(InputError, match=rf"x\.yaml: .*{message}"):
            read_declaration(path)

    def test_one_mark_twice(self, declare: Declare):
        with pytest.raises(InputError, match=r"colours\.yaml: a is marked by two outputs"):
            read_declaration(declare(OUTPUT, {**DETECTOR, "marks": "a"}))

    def test_no_such_file(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"gone\.yaml: no such file"):
            read_declaration(tmp_path / "gone.yaml")


class TestRunning:
    def test_a_classifier(self, colours: Path, declare: Declare):
        output = {**OUTPUT, "columns": {"r": 0, "g": 1, "b": 2}}
        model = load_onnx_model(declare(output), threads=1)
        assert (model.name, model.size) == ("colours", 8)
        found = scores(model, *map(plain, COLOURS))
        assert found == {"r": [1, 0, 0, 1, 0], "g": [0, 1, 0, 1, 0], "b": [0, 0, 1, 1, 0]}

    @given(st.integers(1, 6), st.lists(st.sampled_from(COLOURS), max_size=13), st.integers(1, 3))
    def test_batches_and_threads_change_nothing(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        batch_size: int,
        chosen: list[str],
        threads: int,
    ):
        path = tmp_path_factory.mktemp("made") / "c.yaml"
        write_colour_classifier(path.with_name("c.onnx"), np.eye(3))
        entry = {"name": "data", "width": 4, "height": 4, "scale": UNIT}
        content = {"model": "c.onnx", "input": entry, "outputs": [OUTPUT]}
        path.write_text(yaml.safe_dump(content))
        model = load_onnx_model(path, batch_size=batch_size, threads=threads)
        expected = [float(colour in ("red", "white")) for colour in chosen]
        assert scores(model, *map(plain, chosen)) == {"a": expected}

    @pytest.mark.parametrize("fixed", [1, 3])
    def test_a_model_that_wants_a_fixed_number(self, tmp_path: Path, declare: Declare, fixed: int):
        write_colour_classifier(tmp_path / "model.onnx", np.eye(3), batch=fixed)
        model = load_onnx_model(declare(), batch_size=32)
        assert model.batch_size == fixed
        assert scores(model, *map(plain, COLOURS)) == {"a": [1, 0, 0, 1, 0]}
        assert scores(model) == {"a": []}

    @pytest.mark.parametrize("kind", ["float16", "uint8"])
    @pytest.mark.parametrize("layout", ["nchw", "nhwc"])
    def test_other_types_and_layouts(
        self, tmp_path: Path, declare: Declare, kind: str, layout: str
    ):
        weights = np.eye(3) * (UNIT if kind == "uint8" else 1)
        write_colour_classifier(tmp_path / "model.onnx", weights, kind=kind, layout=layout)
        seen = {"scale": 1.0} if kind == "uint8" else {}
        model = load_onnx_model(declare(layout=layout, **seen))
        assert scores(model, *map(plain, COLOURS)) == {"a": [1, 0, 0, 1, 0]}

    def test_bgr(self, colours: Path, declare: Declare):
        assert scores(load_onnx_model(declare(channels="bgr")), plain("blue")) == {"a": [1]}

    def test_a_softmax_of_the_model_and_ours_agree(self, tmp_path: Path, declare: Declare):
        weights = np.array([[4, -1], [0, 3], [1, 1]])
        write_colour_classifier(tmp_path / "model.onnx", weights)
        write_colour_classifier(tmp_path / "soft.onnx", weights, softmax=True)
        ours = load_onnx_model(declare({**OUTPUT, "activation": "softmax"}))
        theirs = load_onnx_model(declare(model="soft.onnx"))
        pictures = [plain(colour) for colour in COLOURS]
        assert scores(ours, *pictures)["a"] == pytest.approx(scores(theirs, *pictures)["a"])

    def test_a_detector(self, grid: Path, declare: Declare):
        output = {**DETECTOR, "boxes": "boxes", "smallest": 0.4}
        model = load_onnx_model(declare(output))
        corner = plain("black", 16, 16)
        corner.paste((255, 0, 0), (8, 8, 16, 16))
        (found,) = model.score([plain("black"), corner, plain("blue")])
        assert found.mark == "person" and found.thresholds == Thresholds(upper=0.7)
        assert found.probabilities.tolist() == [0, pytest.approx(1, abs=0.1), 0]
        small = load_onnx_model(declare({**output, "smallest": 0.6}))
        assert scores(small, corner) == {"person": [0]}

    def test_several_outputs(self, grid: Path, declare: Declare):
        outputs = ({**DETECTOR}, {**DETECTOR, "column": 2, "marks": "sea", "threshold": 0.5})
        found = load_onnx_model(declare(*outputs)).score([plain("blue"), plain("red")])
        assert [(each.mark, each.probabilities.tolist()) for each in found] == [
            ("person", [0, 1]),
            ("sea", [1, 0]),
        ]

    def test_nan_is_passed_on(self, tmp_path: Path, declare: Declare):
        weights = np.array([[np.nan], [0], [0]])
        write_colour_classifier(tmp_path / "model.onnx", weights)
        (found,) = load_onnx_model(declare()).score([plain("blue")])
        assert np.isnan(found.probabilities).all()

    def test_what_is_no_probability_is_said_with_the_file(self, tmp_path: Path, declare: Declare):
        write_colour_classifier(tmp_path / "model.onnx", np.array([[-3.0], [0], [0]]))
        with pytest.raises(InputError, match=r"colours\.yaml: output 'scores' gives -1\.49 to"):
            load_onnx_model(declare())  # already on the blank picture

    def test_the_next_batch_is_resized_meanwhile(
        self, colours: Path, declare: Declare, monkeypatch: pytest.MonkeyPatch
    ):
        model = load_onnx_model(declare(), batch_size=2, threads=2)
        lock, second, count = threading.Lock(), threading.Event(), 0
        original = Input.values

        def values(self: Input, image: Image.Image) -> np.ndarray:
            nonlocal count
            with lock:
                count += 1
                if count == 4:
                    second.set()
            return original(self, image)

        def forward(self: OnnxModel, batch: np.ndarray) -> list[np.ndarray]:
            assert second.wait(20)
            return [np.zeros(len(batch), np.float32)]

        monkeypatch.setattr(Input, "values", values)
        monkeypatch.setattr(OnnxModel, "forward", forward)
        assert len(model.score([plain("red")] * 6)[0].probabilities) == 6


class TestLoading:
    """What the model really has is said in every message."""

    @pytest.mark.parametrize(
        ("seen", "message"),
        [
            ({"name": "image"}, "named 'image', but the model has 'data' .*'n', 3, 8, 8"),
            ({"width": 9}, r"\[pictures, 3, 8, 9\] \(nchw\), but .* 3, 8, 8"),
            ({"height": 4}, r"\[pictures, 3, 4, 8\] \(nchw\), but .* 3, 8, 8"),
            ({"layout": "nhwc"}, r"\[pictures, 8, 8, 3\] \(nhwc\), but .* 3, 8, 8"),
        ],
    )
    def test_another_input(
        self, tmp_path: Path, declare: Declare, seen: dict[str, Any], message: str
    ):
        write_colour_classifier(tmp_path / "model.onnx", np.eye(3), width=8, height=8)
        with pytest.raises(InputError, match=rf"colours\.yaml: input is .*{message}"):
            load_onnx_model(declare(**seen))

    def test_another_output(self, grid: Path, declare: Declare):
        with pytest.raises(InputError, match=r"no output 'logits'; the model has 'scores' \[1, 4"):
            load_onnx_model(declare({**DETECTOR, "scores": "logits"}))
        with pytest.raises(InputError, match="no output 'frames'"):
            load_onnx_model(declare({**DETECTOR, "boxes": "frames"}))
        with pytest.raises(InputError, match=r"'scores' has shape \[1, 4, 3\].*classifier"):
            load_onnx_model(declare(OUTPUT))
        with pytest.raises(InputError, match=r"more than 3 columns"):
            load_onnx_model(declare({**DETECTOR, "column": 3}))

    def test_two_inputs(self, tmp_path: Path, declare: Declare):
        ports = [Port("data", [1, 3, 8, 8]), Port("other", [1, 3, 8, 8])]
        nodes = [Node("Add", ("data", "other"), "scores", {})]
        write_model(tmp_path / "model.onnx", ports, nodes, [Port("scores", [1, 3, 8, 8])], {})
        with pytest.raises(InputError, match=r"'data' .*, 'other' .*; it must be its only one"):
            load_onnx_model(declare())

    def test_no_row_for_each_picture(self, tmp_path: Path, declare: Declare):
        nodes = [
            Node("Cast", ("data",), "numbers", {"to": 1}),
            Node("Identity", ("fixed",), "scores", {}),
        ]
        ports = [Port("data", ["n", 3, 8, 8])]
        fixed = {"fixed": np.zeros((7, 2), np.float32)}
        write_model(tmp_path / "model.onnx", ports, nodes, [Port("scores", [7, 2])], fixed)
        with pytest.raises(InputError, match=r"'scores' has shape \[7, 2\] for 1 pictures"):
            load_onnx_model(declare())

    def test_types(self, tmp_path: Path, declare: Declare):
        write_colour_classifier(tmp_path / "model.onnx", np.eye(3), kind="uint8")
        with pytest.raises(InputError, match="plain pixels; leave scale, mean and std out"):
            load_onnx_model(declare())
        write_colour_classifier(tmp_path / "model.onnx", np.eye(3), kind="int64")
        with pytest.raises(InputError, match=r"tensor\(int64\).*must be one of"):
            load_onnx_model(declare())

    def test_no_model(self, tmp_path: Path, declare: Declare):
        with pytest.raises(InputError, match=r"model .*gone\.onnx does not exist"):
            load_onnx_model(declare(model="gone.onnx"))
        (tmp_path / "model.onnx").write_bytes(b"\x07not a protobuf")
        with pytest.raises(InputError, match=r"colours\.yaml: model .* cannot be loaded: "):
            load_onnx_model(declare())

    def test_a_model_that_fails(self, tmp_path: Path, declare: Declare):
        nodes = [Node("Reshape", ("data", "flat"), "scores", {})]
        shape = {"flat": np.array([1, 7])}
        write_model(
            tmp_path / "model.onnx", [Port("data", ["n", 3, "h", "w"])], nodes,
            [Port("scores", ["n", 7])], shape,
        )  # fmt: skip
        with pytest.raises(InputError, match="the model fails on a blank picture: "):
            load_onnx_model(declare())

    def test_devices(self, colours: Path, declare: Declare):
        assert load_onnx_model(declare(), device="cpu").session.get_providers() == [onnx_model.CPU]
        with pytest.raises(InputError, match="device: 'gpu' is not one of auto, cpu, cuda"):
            load_onnx_model(declare(), device="gpu")
        if onnx_model.CUDA not in onnxruntime.get_available_providers():
            with pytest.raises(InputError, match=r"has only CPUEx.* pip install onnxruntime-gpu"):
                load_onnx_model(declare(), device="cuda")

    def test_threads(self, colours: Path, declare: Declare):
        model = load_onnx_model(declare(), threads=3)
        assert model.threads == 3
        assert model.session.get_session_options().intra_op_num_threads == 3
        assert load_onnx_model(declare()).threads >= 1

    def test_without_onnx_runtime(
        self, colours: Path, declare: Declare, monkeypatch: pytest.MonkeyPatch
    ):
        original = builtins.__import__

        def missing(name: str, *rest: Any, **options: Any) -> Any:
            if name == "onnxruntime":
                raise ImportError(name)
            return original(name, *rest, **options)

        monkeypatch.delitem(sys.modules, "onnxruntime")
        monkeypatch.setattr(builtins, "__import__", missing)
        with pytest.raises(InputError, match="run: pip install onnxruntime"):
            load_onnx_model(declare())

    def test_nothing_is_printed(self, declare: Declare, shared_face: Path, capfd: Any):
        entry = {"name": "input", "width": 320, "height": 240, "scale": 1.0}
        load_onnx_model(declare({**DETECTOR, "column": 1}, model=str(shared_face), **entry))
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")


@pytest.fixture(scope="session")
def shared_face() -> Path:
    """A face detector of the real data beside the repository; skips the test where it is absent."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "models"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder.name} of a folder `shared` beside the repository")
    return folder / "ultraface_slim_320.onnx"


def test_a_real_detector_finds_a_drawn_face(declare: Declare, shared_face: Path):
    """No photographs are among the real data: what it says of a drawing is at least not nothing."""
    output = {**DETECTOR, "column": 1, "boxes": "boxes", "absent_below": 0.2}
    entry = {"name": "input", "width": 320, "height": 240, "scale": 1.0, "mean": 127, "std": 128}
    model = load_onnx_model(declare(output, model=str(shared_face), **entry))
    assert model.size == 320 and model.batch_size == 1
    blank, face = scores(model, plain("white", 400, 300), drawn_face())["person"]
    assert blank < 0.2 < 0.7 < face


def drawn_face() -> Image.Image:
    from PIL import ImageDraw, ImageFilter

    image = Image.new("RGB", (400, 300), (190, 200, 210))
    draw = ImageDraw.Draw(image)
    draw.ellipse((130, 40, 270, 240), (224, 180, 150))
    draw.chord((128, 30, 272, 180), 180, 360, (70, 45, 30))
    draw.ellipse((135, 75, 265, 235), (224, 180, 150))
    for left in (160, 215):
        draw.ellipse((left, 115, left + 28, 130), "white")
        draw.ellipse((left + 8, 115, left + 21, 130), (50, 40, 40))
        draw.line((left, 105, left + 28, 103), (70, 45, 30), 4)
    draw.line((200, 125, 193, 165, 206, 167), (180, 130, 105), 4)
    draw.chord((170, 180, 230, 210), 0, 180, (170, 60, 60))
    return image.filter(ImageFilter.GaussianBlur(2))
