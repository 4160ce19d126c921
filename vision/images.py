"""From encoded images to normalised tensors."""

import hashlib
import io
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from m4.errors import UnusableSample

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
LARGEST_IMAGE = 2**26  # pixels; 200 MB once decoded
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow runs programs to read some others
REDUCING_GAP = 3.0  # from there on Pillow's shortcut cannot be told from fair resampling
BOMB_FILTER = ("ignore", None, Image.DecompressionBombWarning, None, 0)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageFormat:
    """What a model wants to see: pixels along each side, and the mean and deviation by channel."""

    size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD


def decode(content: bytes, size: int) -> Image.Image:
    """Decode an image to RGB; of several frames, the first.

    A JPEG whose sides are at least twice `size` is decoded at a half, a quarter or an eighth of
    its size, which costs a fraction of the time. Nothing is decoded of an image that has more than
    `LARGEST_IMAGE` pixels by its header. Raises `UnusableSample`, and nothing else.
    """
    _silence_pillow()
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > LARGEST_IMAGE:
            raise Image.DecompressionBombError
        if min(image.size) >= 2 * size:
            image.draft("RGB", (size, size))
        image.load()
        return _rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableSample(f"image has more than {LARGEST_IMAGE} pixels") from None
    except Exception as error:  # Pillow raises whatever the damaged part of a file leads to
        reason = f"image cannot be decoded: {type(error).__name__}"
        raise UnusableSample(reason) from None


def _silence_pillow() -> None:
    """Turn Pillow's warning about large images off, as ours are refused before it would warn.

    For good, and not only while an image is opened: that cannot be undone safely among threads.
    """
    if BOMB_FILTER not in warnings.filters:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB; transparent parts keep their colour, and 16 bits their upper 8."""
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # as Pillow wants it
    if image.mode.startswith("I"):  # Pillow would cut all above 255
        grey = np.asarray(image).clip(0, 2**16 - 1) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    return image.convert("RGB")


def decode_all(
    contents: Sequence[bytes], size: int, *, threads: int | None = None
) -> list[Image.Image | UnusableSample]:
    """Decode images for models that want `size` pixels on the shorter side.

    Pillow decodes in `threads` threads, as many as torch computes with where left out.

    An image that cannot be used is returned as the error that says why. So that a batch of them
    fits in memory, a picture with twice the pixels or more on its shorter side is resized to
    `size` there, as open_clip does it for its models.
    """

    def one(content: bytes) -> Image.Image | UnusableSample:
        try:
            image = decode(content, size)
        except UnusableSample as error:
            return error
        shorter = min(image.size)
        if shorter < 2 * size:
            return image
        sides = (size * image.width // shorter, size * image.height // shorter)
        return image.resize(sides, Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)

    with ThreadPoolExecutor(threads or torch.get_num_threads()) as pool:
        return list(pool.map(one, contents))


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


def fit(
    image: Image.Image,
    size: int,
    box: Box,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> np.ndarray:
    """The pixels of a box, resized; (3, size, size) uint8."""
    if image.size != (size, size) or box != (0.0, 0.0, size, size):
        image = image.resize((size, size), resample, box=box)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def normalise(pictures: Sequence[np.ndarray], image_format: ImageFormat) -> torch.Tensor:
    """Stack pictures (B of 3, H, W uint8) and normalise them; (B, 3, H, W) float32."""
    if not len(pictures):
        return torch.empty(0, 3, image_format.size, image_format.size)
    return normalise_pixels(torch.from_numpy(np.stack(pictures)), image_format)


def normalise_pixels(pixels: torch.Tensor, image_format: ImageFormat) -> torch.Tensor:
    """Normalise pixels (B, 3, H, W) uint8 where they are; float32."""
    mean = torch.tensor(image_format.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(image_format.std, device=pixels.device).view(1, 3, 1, 1)
    return pixels.to(torch.float32).mul_(1 / (255 * std)).sub_(mean / std)
