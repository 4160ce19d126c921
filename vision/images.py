"""From encoded images to normalised tensors."""

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from m4.errors import UnusableSample

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
DECODING_ERRORS = (
    OSError,  # also PIL.UnidentifiedImageError
    ValueError,
    SyntaxError,  # a broken PNG
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageFormat:
    """What a model wants to see: pixels along each side, and the mean and deviation by channel."""

    size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD


def decode(content: bytes, size: int) -> Image.Image:
    """Decode an image to RGB.

    A JPEG whose sides are at least twice `size` is decoded at a half, a quarter or an eighth of
    its size, which costs a fraction of the time. Raises `UnusableSample`.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
        if min(image.size) >= 2 * size:
            image.draft("RGB", (size, size))
        image.load()
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # as Pillow wants it; transparent parts keep their colour
        return image if image.mode == "RGB" else image.convert("RGB")
    except DECODING_ERRORS as error:
        reason = f"image cannot be decoded: {type(error).__name__}"
        raise UnusableSample(reason) from None


def centre_box(width: int, height: int) -> Box:
    """The largest square in the middle of an image."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, smallest: float, key: str) -> Box:
    """A square at random, its side between `smallest` and 1 times the image's shorter side.

    The three random numbers are a hash of `key`.
    """
    words = struct.unpack("<3Q", hashlib.blake2b(key.encode(), digest_size=24).digest())
    share, right, down = (word / 2**64 for word in words)
    side = min(width, height) * (smallest + (1 - smallest) * share)
    left, top = right * (width - side), down * (height - side)
    return left, top, left + side, top + side


def fit(image: Image.Image, size: int, box: Box) -> np.ndarray:
    """The pixels of a box, resized; (3, size, size) uint8."""
    if image.size != (size, size) or box != (0.0, 0.0, size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def normalise(pictures: Sequence[np.ndarray], image_format: ImageFormat) -> torch.Tensor:
    """Stack pictures (B of 3, H, W uint8) and normalise them; (B, 3, H, W) float32."""
    if not len(pictures):
        return torch.empty(0, 3, image_format.size, image_format.size)
    mean = torch.tensor(image_format.mean).view(1, 3, 1, 1)
    std = torch.tensor(image_format.std).view(1, 3, 1, 1)
    stacked = torch.from_numpy(np.stack(pictures))
    return stacked.to(torch.float32).mul_(1 / (255 * std)).sub_(mean / std)
