"""Embeddings of a trained model, for evaluation and the methods that work on embeddings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from m4.errors import InputError, UnusableSample
from pipelines.shards import Failure, SampleSpan
from pipelines.tables import IDENTITY_COLUMNS, committed, read_table
from training.checkpoints import checkpoint_path, checkpoint_steps, read_checkpoint
from training.samples import SpanReader, parse_span
from training.trainer import TrainSettings
from vision import images
from vision.embedder import Embedder, Preprocessing, space_name
from vision.model import build_model, image_format, tokenizer

BATCH = 256  # pictures or texts that the model is given at once

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MiddleSquare(Preprocessing):
    """What `train` shows its models, but for the chance in it: the largest square in the middle.

    The box that open_clip's preprocessing leaves of a picture is the same where it is square, and
    else up to a pixel off.
    """

    def pixels(self, picture: Image.Image) -> np.ndarray:
        box = images.centre_box(*picture.size)
        return images.fit(picture, self.image_format.size, box)


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


def load_checkpoint(path: Path | str, *, device: str = "cpu") -> Embedder:
    """Load a checkpoint of `train`, or the last one of a folder. Raises `InputError`.

    The name of its embedding space carries the digest of the file.
    """
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
    return Embedder(
        model.to(device).eval(),
        tokenizer(settings.model),
        MiddleSquare(image_format(model)),
        space_name(settings.model.name or "small", path),
        device,
        BATCH,
        torch.get_num_threads(),
        plain,
    )


def encode_images(
    embedder: Embedder,
    annotations_folder: str,
    *,
    batch_size: int = BATCH,
    max_failures: float = 0.01,
    progress: Progress | None = None,
) -> EncodedImages:
    """Encode every sample of all committed tables (annotations or a manifest) of a folder.

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
        features.append(embedder.forward(np.stack(pictures)))
        pictures.clear()
        if progress is not None:
            progress(len(uids) + len(failures), total)

    for found in _read_pictures(annotations_folder, embedder):
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


def _read_pictures(folder: str, embedder: Embedder) -> Iterator[_Picture | Failure]:
    """Every sample of a folder of tables, as the model sees it."""
    reader = SpanReader()
    try:
        for stem, commit in committed(folder):
            shard = commit.ref
            for row in read_table(folder, stem, IDENTITY_COLUMNS).to_pylist():
                span = SampleSpan(row["offset"], row["length"])
                try:
                    sample = parse_span(reader.read(shard, span), row["key"])
                    image = images.decode(sample.image, embedder.size)
                except UnusableSample as error:
                    yield Failure(shard.name, row["key"], str(error))
                    continue
                pixels = embedder.preprocessing.pixels(image)
                yield _Picture(row["uid"], sample.caption, pixels)
    finally:
        reader.close()
