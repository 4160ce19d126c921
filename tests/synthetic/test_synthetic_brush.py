"""The brush: its map from units to pixels, and the shapes it fills."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthetic.brush import Brush, both_sides

RED = (200, 30, 30)
lengths = st.floats(5, 40)


def canvas(size: int = 200) -> tuple[Image.Image, Brush]:
    image = Image.new("RGB", (size, size))
    return image, Brush.on(image)


def filled(image: Image.Image) -> np.ndarray:
    return np.asarray(np.asarray(image).any(axis=2))


def box(image: Image.Image) -> list[int]:
    bounds = image.getbbox()
    assert bounds is not None
    return list(bounds)


def test_a_rectangle_covers_the_pixels_between_its_sides() -> None:
    image, brush = canvas()
    brush.rectangle(10, 20, 30, 60, RED)
    assert box(image) == [20, 40, 60, 120]
    assert filled(image).sum() == 40 * 80


def test_a_mirrored_brush_flips_left_and_right() -> None:
    image, brush = canvas()
    brush.placed(100, 0, mirrored=True).rectangle(10, 20, 30, 60, RED)
    assert box(image) == [140, 40, 180, 120]


def test_a_placed_brush_moves_and_scales() -> None:
    image, brush = canvas()
    brush.placed(50, 50, scale=2.0).rectangle(-5, -5, 5, 5, RED)
    assert box(image) == [80, 80, 120, 120]


def test_a_quarter_turn_is_clockwise() -> None:
    image, brush = canvas()
    brush.placed(50, 50, turn=90).rectangle(10, -2, 30, 2, RED)
    assert box(image) == pytest.approx([96, 120, 104, 160], abs=1)


def test_a_half_turn_puts_shapes_upside_down() -> None:
    image, brush = canvas()
    brush.placed(50, 50, turn=180).rectangle(10, -2, 30, 8, RED)
    assert box(image) == pytest.approx([40, 84, 80, 104], abs=1)
    image, brush = canvas()
    brush.placed(50, 50, turn=180).ellipse(20, 10, 8, 4, RED)
    assert box(image) == pytest.approx([44, 72, 76, 88], abs=1)


def test_nested_placements_compose() -> None:
    direct, brush = canvas()
    brush.placed(60, 40, scale=1.5).rectangle(2, 2, 10, 8, RED)
    nested, brush = canvas()
    brush.placed(50, 40, scale=0.5).placed(20, 0, scale=3.0).rectangle(2, 2, 10, 8, RED)
    assert direct.tobytes() == nested.tobytes()


@given(across=lengths, down=lengths, turn=st.floats(-180, 180))
def test_an_ellipse_keeps_its_area_when_turned(across: float, down: float, turn: float) -> None:
    image, brush = canvas()
    brush.placed(50, 50, turn=turn).ellipse(0, 0, across, down, RED)
    # Pillow counts the pixels on the edge in, so each half-width is up to half a pixel more.
    least = np.pi * (2 * across) * (2 * down)
    most = np.pi * (2 * across + 1) * (2 * down + 1)
    assert 0.97 * least < filled(image).sum() < 1.03 * most


def test_a_blob_goes_through_its_corners_and_is_larger_than_their_polygon() -> None:
    corners = [(50, 20), (80, 50), (50, 80), (20, 50)]
    smooth, brush = canvas()
    brush.blob(corners, RED)
    straight, brush = canvas()
    brush.polygon(corners, RED)
    assert box(smooth) == pytest.approx([40, 40, 160, 160], abs=2)
    assert filled(smooth).sum() > 1.2 * filled(straight).sum()


def test_a_curve_ends_where_its_points_do() -> None:
    image, brush = canvas()
    brush.curve([(10, 50), (50, 20), (90, 50)], 1.0, RED)
    left, top, right, _ = box(image)
    assert (left, top, right) == pytest.approx((20, 40, 180), abs=2)


def test_a_limb_is_as_wide_as_asked_at_both_ends() -> None:
    image, brush = canvas()
    brush.limb((20, 50), (80, 50), 20, 10, RED)
    columns = filled(image).sum(axis=0)
    assert columns[40] == pytest.approx(40, abs=2)
    assert columns[160] == pytest.approx(20, abs=2)
    assert box(image)[0] == pytest.approx(20, abs=2)


def test_a_limb_of_no_length_is_a_dot() -> None:
    image, brush = canvas()
    brush.limb((50, 50), (50, 50), 20, 20, RED)
    assert box(image) == pytest.approx([80, 80, 120, 120], abs=1)


def test_rounded_rectangles_lack_their_corners() -> None:
    image, brush = canvas()
    brush.rounded(10, 10, 90, 60, 8, RED)
    pixels = filled(image)
    assert not pixels[20, 20] and pixels[20, 100] and pixels[60, 20]


def test_both_sides_mirrors_all_but_the_points_on_the_axis() -> None:
    assert both_sides([(0, 1), (2, 3), (4, 5)]) == [(0, 1), (2, 3), (4, 5), (-4, 5), (-2, 3)]


@given(st.lists(st.tuples(st.floats(0.1, 40), st.floats(-40, 40)), min_size=2, max_size=6))
def test_an_outline_of_both_sides_is_symmetric(half: list[tuple[float, float]]) -> None:
    outline = set(both_sides(half))
    assert outline == {(-x, y) for x, y in outline}
