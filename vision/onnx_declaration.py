"""What an ONNX model sees and what its outputs mean, declared in a short YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, ValidationError, model_validator

from m4.catalogue import Model, explain, read_yaml
from m4.errors import InputError
from vision.thresholds import Probability, Thresholds

PERSON = "person"
ROUNDING = 1e-3  # how far a probability may be out of [0, 1]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Channels = Finite | tuple[Finite, Finite, Finite]
Index = Annotated[int, Field(ge=0)]
Activation = Literal["none", "softmax", "sigmoid"]
Arrays = Mapping[str, np.ndarray]
"""What a model gave for a batch of pictures, by the name of the output."""


class Input(Model):
    """What the model wants to see: value = (pixel * scale - mean) / std, with pixels from 0 to 255.

    Attributes
    ----------
    name : of the model's input
    width, height : pixels
    layout : order of the axes, "nchw" or "nhwc"
    channels : their order; `mean` and `std` are one number, or three in this order
    resize : "stretch" to width and height; "fit" the whole picture within them, with the mean
        around; "crop" the largest middle part of their proportions
    """

    name: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    layout: Literal["nchw", "nhwc"] = "nchw"
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: Finite = 1.0
    mean: Channels = 0.0
    std: Channels = 1.0
    resize: Literal["stretch", "fit", "crop"] = "stretch"

    @model_validator(mode="after")
    def _divisible(self) -> "Input":
        if not self.scale or not np.all(self.std):
            raise ValueError(f"scale {self.scale:g} and std {self.std} must not be 0")
        return self

    @property
    def plain(self) -> bool:
        """Whether the model sees the pixels themselves."""
        return self.scale == 1 and not np.any(self.mean) and bool(np.all(np.equal(self.std, 1)))

    def values(self, picture: Image.Image) -> np.ndarray:
        """An RGB picture as the model wants it; float32 in the declared layout."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        part = self._resized(picture)
        pixels = np.asarray(part, dtype=np.float32)
        if self.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        whole = np.zeros((self.height, self.width, 3), dtype=np.float32)
        left, top = (self.width - part.width) // 2, (self.height - part.height) // 2
        inside = (slice(top, top + part.height), slice(left, left + part.width))
        whole[inside] = (pixels * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(whole.transpose(2, 0, 1)) if self.layout == "nchw" else whole

    def _resized(self, picture: Image.Image) -> Image.Image:
        (width, height), size = picture.size, (self.width, self.height)
        box = (0.0, 0.0, float(width), float(height))
        if self.resize == "fit":
            ratio = min(self.width / width, self.height / height)
            size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        elif self.resize == "crop":
            ratio = min(width / self.width, height / self.height)
            across, down = self.width * ratio, self.height * ratio
            left, top = (width - across) / 2, (height - down) / 2
            box = (left, top, left + across, top + down)
        return picture.resize(size, Image.Resampling.BILINEAR, box=box)


class Not(Model):
    """Whatever is not in a column: 1 minus its probability."""

    column: Index = Field(alias="not")


Column = Index | tuple[Index, ...] | Not


class Classifier(Model):
    """An output (n, columns) of probabilities, or of what an activation makes probabilities of.

    Attributes
    ----------
    output : name of the model's output
    activation : that the model leaves to us; softmax goes over all columns, or over the columns
        from the first of `softmax_over` up to, and without, its second
    columns : by mark (a sensitive value "gender.woman", a label, or "person") its column, several
        columns that are added up, or `{not: column}`
    thresholds : a probability from `upper` on is a yes, down from `lower` on a no, between them it
        is not known; left out, probabilities are given as they are, which labels do not allow
    """

    kind: Literal["classifier"]
    output: str
    activation: Activation = "none"
    softmax_over: tuple[Index, Index] | None = None
    columns: dict[str, Column] = Field(min_length=1)
    thresholds: Thresholds | None = None

    @model_validator(mode="after")
    def _probabilities(self) -> "Classifier":
        added = [mark for mark, column in self.columns.items() if isinstance(column, tuple)]
        if added and self.activation == "sigmoid":
            raise ValueError(
                f"{added[0]}: the columns of a sigmoid are separate questions; give one of them"
            )
        if self.softmax_over is None:
            return self
        first, after = self.softmax_over
        if self.activation != "softmax" or first >= after:
            raise ValueError(f"softmax_over [{first}, {after}] needs a softmax, and first < after")
        for mark in self.columns:
            if not all(first <= column < after for column in self.used(mark)):
                raise ValueError(f"{mark}: its column is not in softmax_over [{first}, {after}]")
        return self

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The model's outputs that are read."""
        return (self.output,)

    def used(self, mark: str) -> tuple[int, ...]:
        """Columns that a mark is read from."""
        column = self.columns[mark]
        if isinstance(column, Not):
            return (column.column,)
        return column if isinstance(column, tuple) else (column,)

    def read(self, given: Arrays) -> list[np.ndarray]:
        """Probabilities of the marks, (n,) float32 each; raises `InputError` if it has none."""
        values = given[self.output]
        needed = 1 + max(max(self.used(mark)) for mark in self.columns)
        needed = max(needed, self.softmax_over[1] if self.softmax_over else 0)
        if values.ndim != 2 or values.shape[1] < needed:
            raise InputError(
                f"output {self.output!r} has shape {list(values.shape)}; declared is a classifier "
                f"(pictures, columns) with {needed} columns at least"
            )
        first, after = self.softmax_over or (0, values.shape[1])
        found = probabilities(values[:, first:after], self.activation, self.output)
        read = []
        for mark, column in self.columns.items():
            each = found[:, [used - first for used in self.used(mark)]].sum(axis=1)
            each = probabilities(each, "none", self.output)  # also the sum must be one
            read.append(1 - each if isinstance(column, Not) else each)
        return read


class Detector(Model):
    """An output with a score for each of many boxes, (n, boxes) or (n, boxes, columns).

    Attributes
    ----------
    scores : name of the model's output; `column` says which of its columns counts
    boxes : name of the output with left, top, right and bottom of the boxes, (n, boxes, 4), as
        shares of the input's width and height
    smallest : boxes with a side that is a smaller share than this do not count
    threshold : the score from which on something is found
    absent_below : the best score down from which there is nothing; left out, finding nothing says
        nothing. What lies between is not known
    marks : "person", or the label that a find is
    """

    kind: Literal["detector"]
    scores: str
    column: Index | None = None
    activation: Activation = "none"
    boxes: str | None = None
    smallest: Probability = 0.0
    threshold: Probability
    absent_below: Probability | None = None
    mark: str = Field(default=PERSON, alias="marks")

    @model_validator(mode="after")
    def _consistent(self) -> "Detector":
        if self.smallest and self.boxes is None:
            raise ValueError("`smallest` has no effect without `boxes`; name that output")
        if self.activation == "softmax" and self.column is None:
            raise ValueError("softmax goes over columns; say which `column` counts")
        if self.absent_below is not None and self.mark != PERSON:
            raise ValueError(
                f"`absent_below` has no effect on the label {self.mark!r}: what is not found is "
                "not marked; leave it out"
            )
        if self.absent_below is not None and self.absent_below >= self.threshold:
            raise ValueError(
                f"absent_below {self.absent_below:g} is not below threshold {self.threshold:g}"
            )
        return self

    @property
    def marks(self) -> tuple[str, ...]:
        return (self.mark,)

    @property
    def names(self) -> tuple[str, ...]:
        """The model's outputs that are read."""
        return (self.scores,) if self.boxes is None else (self.scores, self.boxes)

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(lower=self.absent_below, upper=self.threshold)

    def read(self, given: Arrays) -> list[np.ndarray]:
        """The best score of the boxes, (n,) float32, 0 where there is none; as a list of one.

        Raises `InputError` where the model gave no such scores or boxes.
        """
        scores, axes = given[self.scores], 2 if self.column is None else 3
        if scores.ndim != axes or (self.column is not None and scores.shape[2] <= self.column):
            columns = "" if self.column is None else f", more than {self.column} columns"
            raise InputError(
                f"output {self.scores!r} has shape {list(scores.shape)}; declared are scores "
                f"(pictures, boxes{columns})"
            )
        found = probabilities(scores, self.activation, self.scores)
        if self.column is not None:
            found = found[:, :, self.column]
        if self.boxes is not None:
            found = np.where(self._large(given[self.boxes], found.shape), found, 0)
        return [found.max(axis=1, initial=0).astype(np.float32)]

    def _large(self, boxes: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
        """Which boxes are large enough to count, (n, boxes) bool."""
        if boxes.shape != (*expected, 4):
            raise InputError(
                f"output {self.boxes!r} has shape {list(boxes.shape)}; boxes that belong to "
                f"{self.scores!r} are {[*expected, 4]}"
            )
        sides = boxes[:, :, 2:] - boxes[:, :, :2]
        return sides.min(axis=2) >= self.smallest


def probabilities(values: np.ndarray, activation: Activation, name: str) -> np.ndarray:
    """Outputs put through an activation, float32 in [0, 1] or NaN; softmax over the last axis.

    Raises `InputError`, naming the output, where they are no probabilities.
    """
    values = values.astype(np.float32)
    if activation == "softmax":
        exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
        values = exponentials / exponentials.sum(axis=-1, keepdims=True)
    elif activation == "sigmoid":
        values = 0.5 + 0.5 * np.tanh(0.5 * values)  # 1 / (1 + exp(-x)) without overflow
    known = values[~np.isnan(values)]
    if len(known) and (known.min() < -ROUNDING or known.max() > 1 + ROUNDING):
        raise InputError(
            f"output {name!r} gives {known.min():.3g} to {known.max():.3g}, which are no "
            "probabilities; declare the activation that it lacks, softmax or sigmoid"
        )
    return values.clip(0, 1)


Output = Annotated[Classifier | Detector, Field(discriminator="kind")]


class Declaration(Model):
    """An ONNX model: its file, relative to the YAML file, what it sees, and what it says."""

    model: str
    input: Input
    outputs: tuple[Output, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _once(self) -> "Declaration":
        twice = [mark for mark in self.marks if self.marks.count(mark) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is marked by two outputs; keep one")
        return self

    @property
    def marks(self) -> tuple[str, ...]:
        """Everything that the model marks."""
        return tuple(mark for output in self.outputs for mark in output.marks)


def read_declaration(path: Path) -> Declaration:
    """Read a declaration. Raises `InputError` naming the file, the key and what is wrong."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a declaration is a mapping with `model`, `input`, `outputs`")
    try:
        return Declaration.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def declared_model(path: Path | str) -> str:
    """The file of the model that a declaration names. Raises `InputError`."""
    return str(Path(path).parent / read_declaration(Path(path)).model)
