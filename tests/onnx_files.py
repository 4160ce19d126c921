"""Small ONNX models for tests, encoded by hand: nothing but a protobuf's few field kinds.

Field numbers are those of onnx.proto.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Shape = Sequence[int | str | None]
TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10}


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _field(number: int, content: int | str | bytes) -> bytes:
    if isinstance(content, int):
        return _number(number << 3) + _number(content)
    content = content.encode() if isinstance(content, str) else content
    return _number(number << 3 | 2) + _number(len(content)) + content


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_field(1, side) for side in array.shape)
    return dims + _field(2, TYPES[array.dtype.name]) + _field(8, name) + _field(9, array.tobytes())


def _value(name: str, kind: str, shape: Shape) -> bytes:
    def dimension(side: int | str | None) -> bytes:
        if side is None:
            return b""
        return _field(1 if isinstance(side, int) else 2, side)

    dims = b"".join(_field(1, dimension(side)) for side in shape)
    tensor = _field(1, TYPES[kind]) + _field(2, dims)
    return _field(1, name) + _field(2, _field(1, tensor))


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    return _field(1, name) + b"".join(_field(8, each) for each in value) + _field(20, 7)


@dataclass(frozen=True)
class Node:
    """One operator: its kind, what it reads, what it writes, its attributes."""

    kind: str
    reads: tuple[str, ...]
    writes: str
    attributes: Mapping[str, int | Sequence[int]]

    def encoded(self) -> bytes:
        parts = [_field(1, name) for name in self.reads]
        parts += [_field(2, self.writes), _field(4, self.kind)]
        parts += [_field(5, _attribute(name, value)) for name, value in self.attributes.items()]
        return b"".join(parts)


@dataclass(frozen=True)
class Port:
    """An input or output of a model."""

    name: str
    shape: Shape
    kind: str = "float32"


def write_model(
    path: Path,
    inputs: Sequence[Port],
    nodes: Sequence[Node],
    outputs: Sequence[Port],
    constants: Mapping[str, np.ndarray],
) -> Path:
    parts = [_field(1, node.encoded()) for node in nodes] + [_field(2, "test")]
    parts += [_field(5, _tensor(name, array)) for name, array in constants.items()]
    for number, ports in ((11, inputs), (12, outputs)):
        parts += [_field(number, _value(port.name, port.kind, port.shape)) for port in ports]
    opset = _field(1, "") + _field(2, 13)
    path.write_bytes(_field(1, 8) + _field(7, b"".join(parts)) + _field(8, opset))
    return path


def write_colour_classifier(
    path: Path,
    weights: np.ndarray,
    *,
    batch: int | str = "n",
    height: int | str = "h",
    width: int | str = "w",
    layout: str = "nchw",
    kind: str = "float32",
    softmax: bool = False,
) -> Path:
    """Outputs "scores" (n, columns): the mean of the three channels times weights (3, columns)."""
    shape = [batch, 3, height, width] if layout == "nchw" else [batch, height, width, 3]
    nodes = [Node("Cast", ("data",), "numbers", {"to": TYPES["float32"]})]
    perm = (0, 1, 2, 3) if layout == "nchw" else (0, 3, 1, 2)
    nodes += [
        Node("Transpose", ("numbers",), "planes", {"perm": perm}),
        Node("GlobalAveragePool", ("planes",), "pooled", {}),
        Node("Flatten", ("pooled",), "means", {"axis": 1}),
        Node("MatMul", ("means", "weights"), "logits" if softmax else "scores", {}),
    ]
    if softmax:
        nodes.append(Node("Softmax", ("logits",), "scores", {"axis": 1}))
    output = Port("scores", [batch, weights.shape[1]])
    constants = {"weights": weights.astype(np.float32)}
    return write_model(path, [Port("data", shape, kind)], nodes, [output], constants)


def write_colour_detector(path: Path, *, size: int = 8, cells: int = 2) -> Path:
    """One picture at a time. Outputs "scores" (1, boxes, 3), the mean colour of cells of a grid,
    and "boxes" (1, boxes, 4), where they are; values are to be in [0, 1].
    """
    step = size // cells
    edges = np.arange(cells, dtype=np.float32) / cells
    left, top = np.meshgrid(edges, edges)
    corners = np.stack([left, top, left + 1 / cells, top + 1 / cells], axis=-1)
    constants = {
        "where": corners.reshape(1, -1, 4).astype(np.float32),
        "flat": np.array([1, 3, cells * cells]),
    }
    grid = {"kernel_shape": (step, step), "strides": (step, step)}
    nodes = [
        Node("AveragePool", ("data",), "cells", grid),
        Node("Reshape", ("cells", "flat"), "planes", {}),
        Node("Transpose", ("planes",), "scores", {"perm": (0, 2, 1)}),
        Node("Identity", ("where",), "boxes", {}),
    ]
    outputs = [Port("scores", [1, cells * cells, 3]), Port("boxes", [1, cells * cells, 4])]
    return write_model(path, [Port("data", [1, 3, size, size])], nodes, outputs, constants)
