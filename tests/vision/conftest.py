"""A picture to decode."""

import io
from collections.abc import Callable

import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """A JPEG of a red disc on blue, `size` pixels along each side."""

    def make(size: int = 32) -> bytes:
        image = Image.new("RGB", (size, size), "blue")
        ImageDraw.Draw(image).ellipse((size // 5, size // 5, size * 4 // 5, size * 4 // 5), "red")
        stream = io.BytesIO()
        image.save(stream, "JPEG")
        return stream.getvalue()

    return make
