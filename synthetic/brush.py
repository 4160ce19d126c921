"""A brush that draws flat shapes in picture units, moved, scaled, mirrored or turned at will."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthetic.palette import Colour

Point = tuple[float, float]
Points = Sequence[Point]

UNITS = 100.0
"""Width and height of a picture in the units that every drawing function uses."""

_STEPS = 4
_CIRCLE = tuple(
    (math.cos(math.tau * step / 28), math.sin(math.tau * step / 28)) for step in range(28)
)


@cache
def _smoothing(count: int, closed: bool) -> NDArray[np.float64]:
    """Return the matrix which takes `count` corners to points of a Catmull-Rom curve.

    Shape (points, count). Linear in the corners, so one cached matrix serves all such curves.
    """
    spans = count if closed else count - 1
    rows = []
    for span in range(spans):
        around = [span - 1, span, span + 1, span + 2]
        around = [place % count if closed else min(max(place, 0), count - 1) for place in around]
        for step in range(_STEPS):
            t = step / _STEPS
            weights = (
                (-t + 2 * t**2 - t**3) / 2,
                (2 - 5 * t**2 + 3 * t**3) / 2,
                (t + 4 * t**2 - 3 * t**3) / 2,
                (-(t**2) + t**3) / 2,
            )
            row = np.zeros(count)
            for place, weight in zip(around, weights, strict=True):
                row[place] += weight
            rows.append(row)
    if not closed:
        last = np.zeros(count)
        last[-1] = 1.0
        rows.append(last)
    return np.array(rows)


def both_sides(half: Points) -> Points:
    """Return the outline whose right half is given from top to bottom, mirrored in x = 0."""
    return [*half, *((-x, y) for x, y in reversed(half) if x != 0)]


class Brush:
    """Draws on one image through an affine map from its own units to pixels."""

    def __init__(
        self, drawing: ImageDraw.ImageDraw, columns: tuple[Point, Point], origin: Point
    ) -> None:
        self._drawing = drawing
        (self._xx, self._yx), (self._xy, self._yy) = columns
        self._ox, self._oy = origin
        self._scale = math.hypot(self._xx, self._yx)
        upright = abs(self._xy) < 1e-9 and abs(self._yx) < 1e-9
        self._straight = upright and self._yy > 0

    @classmethod
    def on(cls, image: Image.Image) -> Brush:
        """Return a brush for a square image, whose units run from 0 to 100 both ways."""
        scale = image.width / UNITS
        return cls(ImageDraw.Draw(image), ((scale, 0.0), (0.0, scale)), (0.0, 0.0))

    def placed(
        self, x: float, y: float, *, scale: float = 1.0, turn: float = 0.0, mirrored: bool = False
    ) -> Brush:
        """Return a brush whose origin lies at (x, y) of this one.

        `turn` is in degrees clockwise; `mirrored` flips left and right before the turn.
        """
        cosine = math.cos(math.radians(turn)) * scale if turn else scale
        sine = math.sin(math.radians(turn)) * scale if turn else 0.0
        side = -1.0 if mirrored else 1.0
        right = self._direction(cosine * side, sine * side)
        down = self._direction(-sine, cosine)
        return Brush(self._drawing, (right, down), self._pixel(x, y))

    def _direction(self, x: float, y: float) -> Point:
        return self._xx * x + self._xy * y, self._yx * x + self._yy * y

    def _pixel(self, x: float, y: float) -> Point:
        return (
            self._xx * x + self._xy * y + self._ox,
            self._yx * x + self._yy * y + self._oy,
        )

    def _smooth_pixels(self, corners: Points, closed: bool) -> list[float]:
        smooth = _smoothing(len(corners), closed) @ np.array(corners)
        linear = np.array(((self._xx, self._yx), (self._xy, self._yy)))
        pixels: list[float] = (smooth @ linear + (self._ox, self._oy)).ravel().tolist()
        return pixels

    def polygon(self, corners: Points, colour: Colour) -> None:
        """Fill the polygon with these corners."""
        self._drawing.polygon([self._pixel(x, y) for x, y in corners], fill=colour)

    def blob(self, corners: Points, colour: Colour) -> None:
        """Fill the smooth closed curve through these corners."""
        self._drawing.polygon(self._smooth_pixels(corners, closed=True), fill=colour)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """Fill an ellipse about (x, y) with half-width `across` and half-height `down`."""
        if not self._straight:
            self.polygon([(x + across * c, y + down * s) for c, s in _CIRCLE], colour)
            return
        first, last = self._pixel(x - across, y - down), self._pixel(x + across, y + down)
        left, right = sorted((first[0], last[0]))
        self._drawing.ellipse((left, first[1], right, last[1]), fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle about (x, y)."""
        pixel_x, pixel_y = self._pixel(x, y)
        reach = radius * self._scale
        box = (pixel_x - reach, pixel_y - reach, pixel_x + reach, pixel_y + reach)
        self._drawing.ellipse(box, fill=colour)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, colour: Colour
    ) -> None:
        """Fill a rectangle given by its sides."""
        if not self._straight:
            self.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), colour)
            return
        first, last = self._pixel(left, top), self._pixel(right, bottom)
        start, end = sorted((first[0], last[0]))
        # Pillow includes the last row and column; leaving it out keeps neighbours apart.
        box = (start, first[1], max(start, end - 1), max(first[1], last[1] - 1))
        self._drawing.rectangle(box, fill=colour)

    def rounded(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        radius: float,
        colour: Colour,
    ) -> None:
        """Fill a rectangle with rounded corners."""
        self.rectangle(left + radius, top, right - radius, bottom, colour)
        self.rectangle(left, top + radius, right, bottom - radius, colour)
        for x in (left + radius, right - radius):
            for y in (top + radius, bottom - radius):
                self.dot(x, y, radius, colour)

    def stroke(self, points: Points, width: float, colour: Colour) -> None:
        """Draw straight lines through the points, with round joints and ends."""
        pixels = [self._pixel(x, y) for x, y in points]
        self._line(pixels, width, colour)

    def curve(self, points: Points, width: float, colour: Colour) -> None:
        """Draw a smooth open line through the points."""
        flat = self._smooth_pixels(points, closed=False)
        pixels = list(zip(flat[::2], flat[1::2], strict=True))
        self._line(pixels, width, colour)

    def _line(self, pixels: list[Point], width: float, colour: Colour) -> None:
        thickness = max(1, round(width * self._scale))
        self._drawing.line(pixels, fill=colour, width=thickness)
        if thickness < 4:
            return
        reach = (thickness - 1) / 2
        for x, y in pixels:
            self._drawing.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)

    def limb(
        self, start: Point, end: Point, start_width: float, end_width: float, colour: Colour
    ) -> None:
        """Fill a limb with round ends that tapers from one width to another."""
        length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1.0
        across = (end[1] - start[1]) / length / 2, (start[0] - end[0]) / length / 2
        corners = [
            (start[0] + side * across[0] * start_width, start[1] + side * across[1] * start_width)
            for side in (1, -1)
        ] + [
            (end[0] + side * across[0] * end_width, end[1] + side * across[1] * end_width)
            for side in (-1, 1)
        ]
        self.polygon(corners, colour)
        self.dot(*start, start_width / 2, colour)
        self.dot(*end, end_width / 2, colour)
