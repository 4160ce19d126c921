import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from m4.errors import UnusableSample
from vision.images import ImageFormat, centre_box, decode, fit, normalise, random_box


def encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("size", "wanted", "decoded"), [(128, 64, 64), (128, 65, 128), (512, 64, 64), (400, 64, 100)]
)
def test_large_jpegs_are_decoded_smaller_but_never_too_small(
    jpeg: Callable[..., bytes], size: int, wanted: int, decoded: int
):
    assert decode(jpeg(size), wanted).size == (decoded, decoded)


def test_a_draft_shows_the_same_picture(jpeg: Callable[..., bytes]):
    small = fit(decode(jpeg(128), 64), 64, (0.0, 0.0, 64, 64))
    whole = fit(decode(jpeg(128), 65), 64, (0.0, 0.0, 128, 128))
    assert np.abs(small.astype(int) - whole.astype(int)).mean() < 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = decode(encoded(Image.new(mode, (20, 10)), kind), 8)
    assert image.mode == "RGB" and image.size == (20, 10)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 broken"])
def test_what_is_no_image_is_refused(content: bytes):
    with pytest.raises(UnusableSample, match="image cannot be decoded: "):
        decode(content, 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_half_an_image_is_refused(kind: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UnusableSample, match="image cannot be decoded"):
        decode(content[: len(content) // 2], 64)


@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.floats(0.1, 1, exclude_max=True),
    st.text(max_size=5),
)
def test_boxes_are_squares_inside_the_image(width: int, height: int, smallest: float, key: str):
    for box in (centre_box(width, height), random_box(width, height, smallest, key)):
        left, top, right, bottom = box
        assert right - left == pytest.approx(bottom - top)
        assert smallest * min(width, height) <= right - left + 1e-9
        assert left >= 0 and top >= 0 and right <= width + 1e-9 and bottom <= height + 1e-9
    assert random_box(width, height, smallest, key) == random_box(width, height, smallest, key)


def test_random_boxes_use_the_whole_range():
    boxes = np.array([random_box(100, 100, 0.5, str(number)) for number in range(400)])
    sides = boxes[:, 2] - boxes[:, 0]
    assert sides.min() < 53 and sides.max() > 97
    assert abs(boxes[:, 0].mean() - (100 - sides).mean() / 2) < 2


def test_the_middle_is_kept():
    image = Image.new("RGB", (30, 10), "red")
    image.paste("blue", (10, 0, 20, 10))
    pixels = fit(image, 10, centre_box(*image.size))
    assert pixels.shape == (3, 10, 10) and (pixels[2] == 255).all() and (pixels[0] == 0).all()


def test_normalised_values_follow_the_formula():
    pictures = [
        np.random.default_rng(n).integers(0, 256, (3, 4, 4), dtype=np.uint8) for n in (0, 1)
    ]
    kind = ImageFormat(4)
    values = normalise(pictures, kind).numpy()
    mean, std = np.array(kind.mean)[:, None, None], np.array(kind.std)[:, None, None]
    assert values.shape == (2, 3, 4, 4) and values.dtype == np.float32
    np.testing.assert_allclose(values, (np.stack(pictures) / 255 - mean) / std, atol=1e-5)
    assert normalise([], kind).shape == (0, 3, 4, 4)
