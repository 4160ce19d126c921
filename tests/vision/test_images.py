import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from m4.errors import UnusableSample
from vision import images
from vision.images import (
    LARGEST_IMAGE,
    ImageFormat,
    centre_box,
    decode,
    decode_all,
    fit,
    normalise,
    random_box,
)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises these sides, and whose data is one row short of nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"\0" * 100)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


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


class TestWebPictures:
    """What stands in tars of the web, most of it by mistake."""

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
    def test_modes(self, mode: str, kind: str):
        image = Image.new("RGB", (20, 10), "white").convert(mode)
        found = decode(encoded(image, kind), 8)
        assert (found.mode, found.size) == ("RGB", (20, 10))
        assert np.asarray(found).min() > 247

    def test_cmyk_jpeg(self):
        found = decode(encoded(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG"), 8)
        red, green, blue = found.getpixel((3, 3))  # type: ignore[misc]
        assert found.size == (8, 8) and red > 200 > 100 > max(green, blue)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bits_keep_their_upper_eight(self, kind: str):
        grey = (np.arange(4096).reshape(64, 64) * 16).astype(np.uint16)
        found = np.asarray(decode(encoded(Image.fromarray(grey), kind), 64))
        assert np.array_equal(found, np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, 2))

    def test_a_transparent_palette(self):
        image = Image.new("P", (4, 4))
        image.putpalette([10, 200, 30] * 256)
        found = decode(encoded(image, "PNG", transparency=bytes([0] * 256)), 4)
        assert found.getpixel((0, 0)) == (10, 200, 30)

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_of_several_frames_the_first(self, kind: str):
        red, *rest = (Image.new("RGB", (16, 16), each) for each in ("red", "blue", "lime"))
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(red, kind, save_all=True, append_images=rest, **options)
        assert Image.open(io.BytesIO(content)).n_frames == 3  # type: ignore[attr-defined]
        assert decode(content, 16).getpixel((8, 8)) == (255, 0, 0)

    @pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"P6 "])
    def test_formats_that_are_not_of_the_web_are_not_even_opened(self, head: bytes):
        with pytest.raises(UnusableSample, match="cannot be decoded: UnidentifiedImageError"):
            decode(head + bytes(500), 8)


class TestLargeImages:
    @pytest.mark.parametrize(
        ("width", "height"),
        [(LARGEST_IMAGE + 1, 1), (9000, 9000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 9)],
    )
    def test_are_refused_by_their_header(self, width: int, height: int):
        tracemalloc.start()
        with pytest.raises(UnusableSample) as caught:
            decode(png_of(width, height), 8)
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()
        assert str(caught.value) == f"image has more than {LARGEST_IMAGE} pixels"

    def test_the_limit_itself_is_allowed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(images, "LARGEST_IMAGE", 200)
        assert decode(encoded(noise(20, 10), "PNG"), 8).size == (20, 10)
        with pytest.raises(UnusableSample, match="image has more than 200 pixels"):
            decode(encoded(noise(67, 3), "PNG"), 8)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_in_every_format(self, kind: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(images, "LARGEST_IMAGE", 1000)
        with pytest.raises(UnusableSample, match="more than 1000 pixels"):
            decode(encoded(noise(40, 30), kind), 8)

    @pytest.mark.parametrize("flags", [[], ["-W", "always"], ["-W", "error"]])
    def test_pillow_does_not_warn(self, flags: list[str]):
        code = (
            "import sys; from vision.images import decode_all\n"
            "print(*decode_all([sys.stdin.buffer.read()] * 3, 8, threads=2), sep='; ')"
        )
        # numpy and torch have warnings of their own while they are imported
        only = [flags[0], f"{flags[1]}::UserWarning"] if flags else []
        done = subprocess.run(
            [sys.executable, *only, "-c", code],
            input=png_of(12_000, 10_000),  # Pillow warns from 89 million pixels on
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert done.stdout.decode().count("image has more than") == 3, done.stderr
        assert b"DecompressionBomb" not in done.stderr

    def test_nor_where_its_warnings_are_made_errors_later(self):
        with pytest.warns() as caught:
            import warnings

            warnings.warn("another", stacklevel=1)
            warnings.simplefilter("error")
            with pytest.raises(UnusableSample, match="more than"):
                decode(png_of(12_000, 10_000), 8)
        assert [str(each.message) for each in caught] == ["another"]


class TestDamage:
    """Whatever the bytes, there is a picture or an `UnusableSample`."""

    SOUND = tuple(
        encoded(noise(24, 17), kind, **options)
        for kind, options in (
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
            ("GIF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("BMP", {}),
        )
    )

    @staticmethod
    def check(content: bytes) -> None:
        try:
            found = decode(content, 8)
        except UnusableSample as error:
            reason = str(error)
            assert reason.startswith("image cannot be decoded: ") or reason == (
                f"image has more than {LARGEST_IMAGE} pixels"
            )
            assert reason.partition(": ")[2].isidentifier() or "more than" in reason
        else:
            assert found.mode == "RGB" and min(found.size) > 0

    @pytest.mark.parametrize("sound", SOUND)
    def test_every_length(self, sound: bytes):
        for length in range(0, len(sound), max(1, len(sound) // 150)):
            self.check(sound[:length])

    @given(
        st.sampled_from(SOUND),
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=12),
    )
    def test_some_bytes_changed(self, sound: bytes, changes: list[tuple[int, int]]):
        content = bytearray(sound)
        for place, value in changes:
            content[place % len(content)] = value
        self.check(bytes(content))

    @given(st.sampled_from(SOUND), st.integers(0, 400), st.binary(max_size=200))
    def test_a_part_replaced(self, sound: bytes, place: int, part: bytes):
        self.check(sound[:place] + part + sound[place + len(part) :])

    @given(
        st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"II*\0"]),
        st.binary(),
    )
    @example(b"", b"")
    def test_any_bytes(self, head: bytes, rest: bytes):
        self.check(head + rest)

    @pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (5, 0)])
    def test_no_pixels(self, width: int, height: int):
        with pytest.raises(UnusableSample, match="image cannot be decoded: "):
            decode(png_of(width, height), 8)

    def test_reasons_are_the_same_for_all_of_a_kind(self):
        png = encoded(noise(64, 64), "PNG")
        reasons = set()
        for length in (2000, 3000, 4000):
            with pytest.raises(UnusableSample) as caught:
                decode(png[:length], 8)
            reasons.add(str(caught.value))
        assert len(reasons) == 1


class TestDecodingMany:
    @given(st.integers(1, 4), st.lists(st.sampled_from(["small", "large", "broken"]), max_size=9))
    def test_as_one_by_one_in_order(self, threads: int, kinds: list[str]):
        made = {
            "small": encoded(noise(20, 30), "PNG"),
            "large": encoded(noise(90, 70), "JPEG"),
            "broken": b"\xff\xd8",
        }
        found = decode_all([made[kind] for kind in kinds], 16, threads=threads)
        assert len(found) == len(kinds)
        for kind, each in zip(kinds, found, strict=True):
            if kind == "broken":
                assert isinstance(each, UnusableSample) and "cannot be decoded" in str(each)
            else:
                assert isinstance(each, Image.Image)
                assert each.size == ((20, 30) if kind == "small" else (23, 18))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    @given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 60))
    def test_small_enough_to_keep_and_large_enough_to_use(
        self, kind: str, width: int, height: int, size: int
    ):
        (found,) = decode_all([encoded(Image.new("RGB", (width, height)), kind)], size, threads=1)
        assert isinstance(found, Image.Image)
        shorter = min(width, height)
        assert min(shorter, size) <= min(found.size) <= max(2 * size - 1, 1)

    def test_what_is_made_smaller_is_the_same_picture(self):
        image = noise(16, 16).resize((640, 480), Image.Resampling.BICUBIC)
        (found,) = decode_all([encoded(image, "PNG")], 100)
        assert isinstance(found, Image.Image) and found.size == (133, 100)
        back = np.asarray(found.resize((640, 480), Image.Resampling.BICUBIC), dtype=int)
        assert np.abs(back - np.asarray(image)).mean() < 3

    def test_threads_are_used(self, monkeypatch: pytest.MonkeyPatch):
        together = threading.Barrier(3, timeout=20)

        def meet(content: bytes, size: int) -> Image.Image:
            together.wait()  # passes only where three decode at once
            return Image.new("RGB", (8, 8))

        monkeypatch.setattr(images, "decode", meet)
        assert len(decode_all([b""] * 6, 8, threads=3)) == 6

    def test_nothing_to_decode(self):
        assert decode_all([], 8) == []


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
