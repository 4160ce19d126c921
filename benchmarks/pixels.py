"""Annotating from pixels: how much of the time the model itself takes, and what a billion costs."""

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image

from benchmarks.machine import Clock, describe
from benchmarks.report import Report, Table, progress, seconds, times
from m4.catalogue import Attribute, Catalogue, Value, load_catalogue
from pipelines.annotation import AnnotationJob, annotate_shard
from pipelines.annotators.marks import Annotator
from pipelines.annotators.pixels import OnnxAnnotator, PixelAnnotator
from pipelines.shards import ShardRef, find_shards, read_samples
from vision.calibrated import Platt
from vision.embedder import Embedder, Preprocessing, usable_device
from vision.heads import PERSON, Head
from vision.images import decode_all
from vision.model import ModelSettings, build_model, tokenizer
from vision.onnx_model import OnnxModel, load_onnx_model
from vision.thresholds import Thresholds

BILLION = 1e9
HOUR = 3600
ASKED = 0.9  # of the wall time, in the model's forward pass
SIDE = 256  # pixels, as tars for this purpose have them
QUALITY = 73  # of the JPEGs, which makes them 20 kB
DISTINCT = 64  # pictures; decoding does not get faster by having seen one before
VIT = ModelSettings(name="ViT-B-32")

LEAVES_OUT = (
    "What the model says: weights and pictures are random.",
    "Reading over a network: the tars are read right after they are written.",
    "Loading the model, once in each worker process.",
    "The forward pass runs beside threads that decode, and shares the processors with them: its "
    "share of the wall time does not say that it is as fast as alone. The ratio does.",
    "On CUDA the forward pass includes moving pixels to the device and embeddings back.",
)


@dataclass(frozen=True)
class Settings:
    """What is annotated, and by which model.

    Attributes
    ----------
    pictures : in all
    shards : tars that they are in
    repeats : of everything; the fastest counts
    model : with random weights
    batch_size : pictures that the model is given at once
    device : "auto", "cpu" or "cuda"
    onnx : declarations of ONNX models that are measured too
    catalogue : that these are declared for; where left out, one of a woman, a man and a person
    markdown : file that the report is also written to
    """

    pictures: int = 512
    shards: int = 2
    repeats: int = 3
    model: ModelSettings = VIT
    batch_size: int = 64
    device: str = "auto"
    onnx: tuple[Path, ...] = ()
    catalogue: str | None = None
    markdown: Path | None = None


@dataclass
class Stopwatch:
    """Seconds spent in what is watched, all together."""

    total: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.total += time.perf_counter() - begin


@dataclass(frozen=True, eq=False)
class TimedEmbedder(Embedder):
    """An embedder whose forward passes are timed."""

    watch: Stopwatch = field(default_factory=Stopwatch)

    def forward(self, pixels: np.ndarray) -> np.ndarray:
        with self.watch.running():
            return super().forward(pixels)


@dataclass(frozen=True, eq=False)
class TimedOnnxModel(OnnxModel):
    """An ONNX model whose forward passes are timed."""

    watch: Stopwatch = field(default_factory=Stopwatch)

    def forward(self, values: np.ndarray) -> list[np.ndarray]:
        with self.watch.running():
            return super().forward(values)


def timed_embedder(settings: Settings) -> TimedEmbedder:
    """The model of the settings with random weights."""
    torch.manual_seed(0)
    device = usable_device(settings.device)
    model = build_model(settings.model, "clip").to(device).eval()
    return TimedEmbedder(
        model,
        tokenizer(settings.model),
        Preprocessing.of(model),
        "random",
        device,
        settings.batch_size,
        torch.get_num_threads(),
    )


def timed_onnx_model(path: Path, settings: Settings) -> TimedOnnxModel:
    plain = load_onnx_model(path, device=settings.device, batch_size=settings.batch_size)
    return TimedOnnxModel(**{each.name: getattr(plain, each.name) for each in fields(OnnxModel)})


def two_values() -> Catalogue:
    """A catalogue of one attribute, for heads with random weights."""
    values = {name: Value(target=0.5, terms=(name,)) for name in ("woman", "man")}
    gender = Attribute(describes="gender as perceived", values=values)
    return Catalogue(name="benchmark", purpose="benchmark", sensitive={"gender": gender})


def random_heads(embedder: Embedder) -> list[Head]:
    """Heads of gender and of a person."""
    random = np.random.default_rng(0)

    def head(attribute: str, *values: str) -> Head:
        weights = random.normal(size=(len(values), embedder.dim))
        return Head(
            attribute=attribute,
            values=values,
            exclusive=attribute != PERSON,
            model=embedder.name,
            dimension=embedder.dim,
            weights=tuple(map(tuple, weights.tolist())),
            bias=(0.0,) * len(values),
            calibrations=(Platt(slope=1.0, intercept=0.0),) * len(values),
            thresholds=(Thresholds(lower=0.3, upper=0.7),) * len(values),
        )

    return [head("gender", "woman", "man"), head(PERSON, PERSON)]


def random_jpeg(number: int, side: int = SIDE) -> bytes:
    """Noise whose spectrum falls like that of photographs, amplitude ~ 1 / frequency."""
    random = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = 1 / side
    grey = np.fft.ifft2(np.fft.fft2(random.normal(size=(3, side, side))) / frequency).real
    pixels = 128 + 50 * (grey - grey.mean()) / grey.std()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def write_shards(folder: Path, settings: Settings) -> list[ShardRef]:
    """Tars of three members a sample: a JPEG, a caption, a json."""
    jpegs = [random_jpeg(number) for number in range(min(DISTINCT, settings.pictures))]
    for shard in range(settings.shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(shard, settings.pictures, settings.shards):
                members = (
                    ("jpg", jpegs[number % len(jpegs)]),
                    ("txt", f"picture {number}".encode()),
                    ("json", json.dumps({"width": SIDE, "height": SIDE}).encode()),
                )
                for extension, content in members:
                    info = tarfile.TarInfo(f"{number:09d}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return find_shards(str(folder))


@dataclass(frozen=True)
class Timing:
    """Seconds on the wall, of all processors together, and of the wall in the forward pass."""

    wall: float
    processors: float
    forward: float


@dataclass(frozen=True)
class Measured:
    """How long a number of pictures took to annotate, and the model to see them from memory."""

    pictures: int
    annotate: Timing
    memory: Timing

    @property
    def share(self) -> float:
        """Of the wall time of annotating, in the forward pass."""
        return self.annotate.forward / self.annotate.wall

    @property
    def ratio(self) -> float:
        """Pictures a second against the model from memory."""
        return self.memory.wall / self.annotate.wall

    @property
    def work_ratio(self) -> float:
        """The same by the processors' time, which other work on the machine hardly changes."""
        return self.memory.processors / self.annotate.processors


def timing(work: Callable[[], object], watch: Stopwatch) -> Timing:
    watch.total, clock, before = 0.0, Clock(), time.process_time()
    work()
    return Timing(clock.lap(), time.process_time() - before, watch.total)


def measure(
    shards: Sequence[ShardRef],
    folder: Path,
    catalogue: Catalogue,
    annotator: Annotator,
    model: TimedEmbedder | TimedOnnxModel,
    repeats: int,
) -> Measured:
    """Annotate shards as the stage does in one worker, and feed the model from memory, in turn."""
    job = AnnotationJob(str(folder / annotator.name), catalogue, "first", "benchmark")
    batches = list(_resized(shards, model))
    model.forward(batches[0])  # the first pass is slower than all others

    def annotate() -> None:
        rows = sum(annotate_shard(shard, job, [annotator]).rows for shard in shards)
        assert rows == sum(map(len, batches)), f"{rows} of the pictures were annotated"

    def feed() -> None:
        for batch in batches:
            model.forward(batch)

    taken = [(timing(annotate, model.watch), timing(feed, model.watch)) for _ in range(repeats)]
    annotating, feeding = (
        min(each, key=lambda timing: timing.wall) for each in zip(*taken, strict=True)
    )
    return Measured(sum(map(len, batches)), annotating, feeding)


def _resized(
    shards: Sequence[ShardRef], model: TimedEmbedder | TimedOnnxModel
) -> Iterator[np.ndarray]:
    """The pictures of all shards as the model is given them, batch by batch."""
    size = model.size
    see: Any = (
        model.preprocessing.pixels
        if isinstance(model, Embedder)
        else model.declaration.input.values
    )
    samples = (each for shard in shards for each in read_samples(shard, images=True))
    pictures = decode_all([getattr(each, "image", b"") for each in samples], size)
    for first in range(0, len(pictures), model.batch_size):
        yield np.stack([see(each) for each in pictures[first : first + model.batch_size]])


def table_of(name: str, device: str, measured: Measured) -> Table:
    """The figures of one annotator."""
    rate, alone = (measured.pictures / each.wall for each in (measured.annotate, measured.memory))
    core_hours = measured.annotate.processors / measured.pictures * BILLION / HOUR
    rows = [
        ("annotate", f"{seconds(rate)} pictures/s", f"{measured.pictures:,} pictures"),
        ("the model from memory", f"{seconds(alone)} pictures/s", ""),
        ("ratio", times(measured.ratio), f"{times(measured.work_ratio)} by processors' time"),
        (
            "in the forward pass",
            f"{measured.share:.1%} of the wall time",
            f"{ASKED:.0%} asked for",
        ),
        ("a billion pairs", f"{core_hours:,.0f} core-hours", "by the processors' time"),
    ]
    if device.startswith("cuda"):
        hours = BILLION / rate / HOUR
        rows.append(("a billion pairs", f"{hours:,.0f} GPU-hours", "by the wall time"))
    return Table(f"{name} on {device}.", ("part", "figure", "note"), tuple(rows))


def main(settings: Settings) -> Report:
    """Write the tars, annotate them, and show the report."""
    machine = describe(("torch", "open_clip_torch", "onnxruntime", "pillow"))
    tables = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        shards = write_shards(folder / "shards", settings)
        kilobytes = np.mean([len(random_jpeg(number)) for number in range(8)]) / 1e3
        progress(f"{settings.pictures} JPEGs of {kilobytes:.1f} kB")
        embedder = timed_embedder(settings)
        catalogue = two_values()
        pixels = PixelAnnotator(catalogue, embedder, random_heads(embedder), True)
        measured = measure(shards, folder, catalogue, pixels, embedder, settings.repeats)
        title = settings.model.name or "a small model"
        tables.append(
            table_of(
                f"{title}, {SIDE} x {SIDE} JPEGs of {kilobytes:.0f} kB, "
                f"{torch.get_num_threads()} threads",
                embedder.device,
                measured,
            )
        )
        for path in settings.onnx:
            model = timed_onnx_model(path, settings)
            if settings.catalogue is not None:
                catalogue = load_catalogue(settings.catalogue)
            annotator = OnnxAnnotator(catalogue, model)
            measured = measure(shards, folder, catalogue, annotator, model, settings.repeats)
            device = "cuda" if "CUDA" in model.session.get_providers()[0] else "cpu"
            tables.append(table_of(model.name, device, measured))
    report = Report("Annotating from pixels", tuple(tables), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
