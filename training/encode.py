"""Embeddings of a trained model, for evaluation and the methods that work on embeddings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m4.errors import InputError, UnusableSample
from pipelines.shards import Failure, SampleSpan
from pipelines.tables import IDENTITY_COLUMNS, committed, read_table
from training.checkpoints import checkpoint_path, checkpoint_steps, read_checkpoint
from training.samples import SpanReader, parse_span
from training.trainer import TrainSettings
from vision import images
from vision.images import ImageFormat
from vision.model import build_model, image_format, tokenizer

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained model, ready to encode.

    Attributes
    ----------
    model : of open_clip, in evaluation mode, on the CPU or where `load_checkpoint` was told
    tokenize : from captions to token ids (B, L)
    settings : that it was trained with
    step : that it was trained for
    """

    model: Any
    tokenize: Callable[[list[str]], torch.Tensor]
    settings: TrainSettings
    step: int
    device: str

    @property
    def image_format(self) -> ImageFormat:
        return image_format(self.model)


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Embeddings of the samples that could be read; n of them.

    Attributes
    ----------
    uids, captions : n strings each, in the order of the tables
    features : (n, d) float32, L2-normalised
    failures : the samples that could not be read
    """

    uids: list[str]
    captions: list[str]
    features: np.ndarray
    failures: tuple[Failure, ...]


def load_checkpoint(path: Path | str, *, device: str = "cpu") -> LoadedModel:
    """Load a checkpoint of `train`, or the last one of a folder. Raises `InputError`."""
    path = Path(path)
    if path.is_dir():
        steps = checkpoint_steps(path)
        if not steps:
            raise InputError(f"{path}: no checkpoints (step-*.pt); run train first")
        path = checkpoint_path(path, steps[-1])
    found = read_checkpoint(path)
    settings = TrainSettings.model_validate({**found.settings, "out": str(path.parent)})
    # The weights are in the checkpoint: those that training began with are not needed again.
    plain = settings.model.model_copy(update={"pretrained": None})
    model = build_model(plain, settings.loss)
    model.load_state_dict(found.model)
    tokenize = tokenizer(settings.model)
    return LoadedModel(model.to(device).eval(), tokenize, settings, found.step, device)


def encode_images(
    model: LoadedModel,
    annotations_folder: str,
    *,
    batch_size: int = 256,
    max_failures: float = 0.01,
    progress: Progress | None = None,
) -> EncodedImages:
    """Encode every sample of all committed tables (annotations or a manifest) of a folder.

    Images are cut to their middle square and resized: no chance is involved.

    Parameters
    ----------
    max_failures : share of samples that may be unreadable
    progress : called with (samples done, samples in all) after each batch

    Raises `InputError` where there is no committed table, or too many samples are unreadable.
    """
    total = sum(commit.rows for _, commit in committed(annotations_folder))
    uids: list[str] = []
    captions: list[str] = []
    features: list[np.ndarray] = []
    failures: list[Failure] = []
    pictures: list[np.ndarray] = []

    def encode() -> None:
        features.append(_encode_pictures(model, pictures))
        pictures.clear()
        if progress is not None:
            progress(len(uids) + len(failures), total)

    for found in _read_pictures(annotations_folder, model.image_format.size):
        if isinstance(found, Failure):
            failures.append(found)
            continue
        uids.append(found.uid)
        captions.append(found.caption)
        pictures.append(found.pixels)
        if len(pictures) == batch_size:
            encode()
    if pictures:
        encode()
    if len(failures) > max_failures * total or not uids:
        first = failures[0] if failures else "there are none"
        raise InputError(
            f"{annotations_folder}: {len(failures)} of {total} samples cannot be read, more than "
            f"max_failures {max_failures:g} allows; the first: {first}"
        )
    return EncodedImages(uids, captions, np.concatenate(features), tuple(failures))


@dataclass(frozen=True, eq=False)
class _Picture:
    uid: str
    caption: str
    pixels: np.ndarray


def _read_pictures(folder: str, size: int) -> Iterator[_Picture | Failure]:
    """Every sample of a folder of tables, its middle square resized to (3, size, size) uint8."""
    reader = SpanReader()
    try:
        for stem, commit in committed(folder):
            shard = commit.ref
            for row in read_table(folder, stem, IDENTITY_COLUMNS).to_pylist():
                span = SampleSpan(row["offset"], row["length"])
                try:
                    sample = parse_span(reader.read(shard, span), row["key"])
                    image = images.decode(sample.image, size)
                except UnusableSample as error:
                    yield Failure(shard.name, row["key"], str(error))
                    continue
                pixels = images.fit(image, size, images.centre_box(*image.size))
                yield _Picture(row["uid"], sample.caption, pixels)
    finally:
        reader.close()


def _encode_pictures(model: LoadedModel, pictures: Sequence[np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        values = images.normalise(pictures, model.image_format).to(model.device)
        return model.model.encode_image(values, normalize=True).float().cpu().numpy()


def encode_texts(model: LoadedModel, texts: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
    """Embeddings of captions or prompts; (n, d) float32, L2-normalised.

    Raises `InputError` where there are none.
    """
    if not texts:
        raise InputError("no texts to encode; give at least one")
    parts: list[np.ndarray] = []
    with torch.inference_mode():
        for first in range(0, len(texts), batch_size):
            tokens = model.tokenize(list(texts[first : first + batch_size])).to(model.device)
            parts.append(model.model.encode_text(tokens, normalize=True).float().cpu().numpy())
    return np.concatenate(parts)
