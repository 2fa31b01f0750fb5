"""Pictures brought to a working size, and their places in the renderer's coordinates; used by all parts of the judge.

The unit is the shorter side; x runs right and y down from the picture's middle, as in `background.py`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.scenes.shapes import Field

LIGHT = -1.6
"""Radians: the middle of where light may stand; what it really is differs by 0.8 at most."""


def framed(pixels: NDArray[np.uint8], short: int) -> Field:
    """`pixels` [H, W, 3] at a shorter side of `short` pixels, as float32; smaller pictures are enlarged."""
    height, width = pixels.shape[:2]
    ratio = short / min(width, height)
    size = (max(short, round(width * ratio)), max(short, round(height * ratio)))
    if size == (width, height):
        return pixels.astype(np.float32)
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, size, interpolation=how).astype(np.float32)


def axes(width: int, height: int) -> tuple[Field, Field]:
    """x [width] and y [height, 1] of pixels' middles."""
    short = min(width, height)
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) / np.float32(short)
    y = (np.arange(height, dtype=np.float32) + np.float32(0.5 - height / 2)) / np.float32(short)
    return x, y[:, None]


def glow(width: int, height: int) -> Field:
    """The light on a background [height, width] when it stands in the middle of its range; see `draw_background`."""
    x, y = axes(width, height)
    short = min(width, height)
    corner = (width * width + height * height) / (4 * short * short)
    lean = 0.06 / math.sqrt(corner)
    fall: Field = np.float32(0.1 / corner) * (x * x + y * y)
    return np.float32(1.02) + np.float32(lean * math.sin(LIGHT)) * y - fall


def middles(width: int, height: int) -> list[tuple[float, float]]:
    """Middles of the nine cells in pixels (x, y), in reading order."""
    return [((column + 0.5) / 3 * width, (row + 0.5) / 3 * height) for row in range(3) for column in range(3)]


def patch(image: Field, middle: tuple[float, float], side: int) -> Field:
    """`side`×`side` pixels around `middle` (pixels, borders between pixels are whole numbers); borders are repeated."""
    return cv2.getRectSubPix(image, (side, side), (middle[0] - 0.5, middle[1] - 0.5))  # type: ignore[return-value]
