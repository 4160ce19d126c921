"""Any classifier or detector in ONNX, loaded and run as its declaration says."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from m4.errors import InputError
from vision.ahead import ahead
from vision.onnx_declaration import Declaration, Input, read_declaration
from vision.thresholds import Thresholds

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TYPES: Mapping[str, type] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
ERRORS_ONLY = 3  # ONNX Runtime's log level; it warns of each weight that could be folded
BATCH = 32


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model says of n pictures about one mark.

    Attributes
    ----------
    mark : a sensitive value, a label, or "person"
    probabilities : (n,) float32; of a detector, the best score. NaN where the model gave NaN
    thresholds : of a yes and a no; None where the probability itself is wanted
    """

    mark: str
    probabilities: np.ndarray
    thresholds: Thresholds | None


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A loaded model and what its declaration says of it.

    Attributes
    ----------
    path : of the declaration
    session : of ONNX Runtime
    batch_size : pictures that it is given at once; the model's own number where that is fixed
    threads : that resize pictures
    """

    path: Path
    declaration: Declaration
    session: Any
    batch_size: int
    threads: int

    @property
    def name(self) -> str:
        """The stem of the declaration's file."""
        return self.path.stem

    @property
    def size(self) -> int:
        """Pixels that it wants to see along a picture's shorter side, at most."""
        return max(self.declaration.input.width, self.declaration.input.height)

    def score(self, pictures: Sequence[Image.Image]) -> list[Scored]:
        """What it says of RGB pictures, about each mark in the order of the declaration.

        The next batch is resized in threads while the model has the one before. Raises
        `InputError` where an output has not the shape that is declared, or is no probability.
        """
        seen = self.declaration.input
        parts: list[list[np.ndarray]] = [[] for _ in self.declaration.marks]
        with ThreadPoolExecutor(self.threads) as pool:

            def resized() -> Iterator[np.ndarray]:
                for first in range(0, len(pictures), self.batch_size):
                    part = pictures[first : first + self.batch_size]
                    yield np.stack(list(pool.map(seen.values, part)))

            for values in ahead(resized()):
                for column, found in zip(parts, self.forward(values), strict=True):
                    column.append(found)
        joined = (np.concatenate(each) if each else np.zeros(0, np.float32) for each in parts)
        outputs = self.declaration.outputs
        marked = [(mark, output.thresholds) for output in outputs for mark in output.marks]
        return [
            Scored(mark, found, thresholds)
            for (mark, thresholds), found in zip(marked, joined, strict=True)
        ]

    def forward(self, values: np.ndarray) -> list[np.ndarray]:
        """Probabilities or best scores (B,) by mark, of a batch as `Input.values` made it."""
        entry = self.session.get_inputs()[0]
        rows, fixed = len(values), entry.shape[0]
        if isinstance(fixed, int) and rows < fixed:  # the last batch
            values = np.concatenate([values, np.zeros((fixed - rows, *values.shape[1:]))])
        names = list(
            dict.fromkeys(name for output in self.declaration.outputs for name in output.names)
        )
        given = self.session.run(names, {entry.name: values.astype(TYPES[entry.type], copy=False)})
        try:
            for name, array in zip(names, given, strict=True):
                if array.ndim == 0 or len(array) != len(values):
                    raise InputError(
                        f"output {name!r} has shape {list(array.shape)} for {len(values)} "
                        "pictures; it must have a row for each"
                    )
            arrays = {name: array[:rows] for name, array in zip(names, given, strict=True)}
            return [found for output in self.declaration.outputs for found in output.read(arrays)]
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None


def load_onnx_model(
    path: Path | str,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = BATCH,
) -> OnnxModel:
    """Load the model that a declaration names, and try it on a blank picture.

    Parameters
    ----------
    path : of the declaration, a YAML file
    device : "auto" is CUDA where ONNX Runtime has it, else the CPU; or "cpu", "cuda"
    threads : that compute, and that resize pictures; one for each processor where left out

    Raises `InputError` where ONNX Runtime is missing, and where the model has other inputs or
    outputs than the declaration says.
    """
    path = Path(path)
    declaration = read_declaration(path)
    session = _session(path, declaration, device, threads)
    fixed = _check_input(path, declaration.input, session)
    _check_outputs(path, declaration, session)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = OnnxModel(path, declaration, session, fixed or batch_size, threads or usable or 1)
    blank = Image.new("RGB", (declaration.input.width, declaration.input.height), (127,) * 3)
    try:
        model.score([blank])
    except InputError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common ancestor of their own
        raise InputError(f"{path}: the model fails on a blank picture: {_short(error)}") from None
    return model


def _session(path: Path, declaration: Declaration, device: str, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"{path}: ONNX models need ONNX Runtime; run: pip install onnxruntime"
        ) from None
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: {device!r} is not one of auto, cpu, cuda")
    there = onnxruntime.get_available_providers()
    providers = [CUDA, CPU] if device != "cpu" and CUDA in there else [CPU]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    file = path.parent / declaration.model
    if not file.is_file():
        raise InputError(f"{path}: model {file} does not exist; it is sought beside the YAML file")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common ancestor of their own
        raise InputError(f"{path}: model {file} cannot be loaded: {_short(error)}") from None
    if device == "cuda" and CUDA not in session.get_providers():
        raise InputError(
            f"device: cuda, but ONNX Runtime has only {', '.join(session.get_providers())}; run: "
            "pip install onnxruntime-gpu, or take auto"
        )
    return session


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _check_input(path: Path, declared: Input, session: Any) -> int | None:
    """Check a declared input; return how many pictures the model wants, None for any number."""
    inputs = session.get_inputs()
    has = ", ".join(f"{each.name!r} {each.type} {each.shape}" for each in inputs)
    if len(inputs) != 1 or inputs[0].name != declared.name:
        raise InputError(
            f"{path}: input is named {declared.name!r}, but the model has {has}; it must be its "
            "only one"
        )
    entry = inputs[0]
    if entry.type not in TYPES:
        raise InputError(f"{path}: the model's input is {has}; it must be one of {list(TYPES)}")
    if TYPES[entry.type] is np.uint8 and not declared.plain:
        raise InputError(
            f"{path}: the model's input is {has}, plain pixels; leave scale, mean and std out"
        )
    sides = [declared.height, declared.width]
    wanted = [3, *sides] if declared.layout == "nchw" else [*sides, 3]
    fixed = [
        one if isinstance(one, int) else other
        for one, other in zip(entry.shape[1:], wanted, strict=False)
    ]
    if len(entry.shape) != 4 or fixed != wanted:
        raise InputError(
            f"{path}: input is declared [pictures, {', '.join(map(str, wanted))}] "
            f"({declared.layout}), but the model has {has}"
        )
    return entry.shape[0] if isinstance(entry.shape[0], int) else None


def _check_outputs(path: Path, declaration: Declaration, session: Any) -> None:
    has = {each.name: f"{each.name!r} {each.shape}" for each in session.get_outputs()}
    for output in declaration.outputs:
        for name in output.names:
            if name not in has:
                raise InputError(
                    f"{path}: no output {name!r}; the model has {', '.join(has.values())}"
                )
