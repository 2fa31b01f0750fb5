"""What stands behind the objects: a colour, a soft pattern in a second tone of it, and light; used by `render.py`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curation.scenes.dice import Dice
from curation.scenes.shapes import Field

Rgb = tuple[int, int, int]

BACKGROUND_RGB: dict[str, tuple[Rgb, Rgb]] = {  # the colour, and the tone of it that patterns are drawn in
    "cream": ((247, 239, 220), (236, 222, 190)),
    "sand": ((214, 190, 152), (198, 171, 128)),
    "rose": ((240, 210, 208), (228, 188, 188)),
    "lilac": ((216, 206, 236), (196, 184, 222)),
    "sky": ((196, 222, 242), (168, 204, 232)),
    "mint": ((206, 234, 218), (178, 218, 198)),
    "grey": ((150, 154, 160), (130, 134, 142)),
    "navy": ((38, 50, 84), (54, 69, 108)),
}
BAND = 32768
"""Pixels worked on at once: what stays in a processor's cache, about twice as fast as whole planes."""


def draw_background(
    colour: str, pattern: str, width: int, height: int, dice: Dice, light: float, grain: Field | None
) -> NDArray[np.uint8]:
    """uint8 RGB [height, width, 3]. `dice` gives the pattern's place, `light` is a direction in radians."""
    short = min(width, height)
    x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) / np.float32(short)
    y = ((np.arange(height, dtype=np.float32) + np.float32(0.5 - height / 2)) / np.float32(short))[:, None]
    place = (dice.unit(), dice.unit(), dice.unit())
    base, tone = (np.array(rgb, np.float32) for rgb in BACKGROUND_RGB[colour])
    corner = (width * width + height * height) / (4 * short * short)  # its squared distance from the middle
    lean = 0.06 / math.sqrt(corner)
    across = np.float32(1.02) + np.float32(lean * math.cos(light)) * x - np.float32(0.10 / corner) * x * x
    down = np.float32(lean * math.sin(light)) * y - np.float32(0.10 / corner) * y * y
    canvas = np.empty((height, width, 3), np.uint8)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height))
        glow = across + down[band]
        mask = pattern_mask(pattern, x, y[band], height / (2 * short), 1 / short, place)
        for channel in range(3):
            level = base[channel] if mask is None else base[channel] + (tone[channel] - base[channel]) * mask
            plane = glow * level
            if grain is not None:
                plane += grain[band]
            np.clip(plane, 0, 255, out=plane)
            canvas[band, :, channel] = plane
    return canvas


def pattern_mask(
    name: str, x: Field, y: Field, bottom: float, pixel: float, place: tuple[float, float, float]
) -> Field | None:
    """How much of the second tone shows, in [0, 1], for columns `x` and rows `y`; None for none at all."""
    first, second = np.float32(place[0]), np.float32(place[1])
    if name == "plain":
        return None
    if name == "gradient":
        turn = 2 * math.pi * place[0]
        slope_x, slope_y = np.float32(1.6 * math.cos(turn)), np.float32(1.6 * math.sin(turn))
        return np.clip(slope_x * x + (slope_y * y + np.float32(0.5)), np.float32(-0.5), np.float32(1.5))
    if name == "waves":
        crest = (y * 7 + second) + np.float32(0.22) * np.sin(np.float32(2 * math.pi) * (2 * x + first))
        return _edge(np.abs(_saw(crest)) - np.float32(0.25), 7 * pixel)
    if name == "grid":
        lines_x = _edge(np.float32(0.035) - np.abs(_saw(x * 9 + first)), 9 * pixel)
        lines_y = _edge(np.float32(0.035) - np.abs(_saw(y * 9 + second)), 9 * pixel)
        return np.maximum(lines_x, lines_y)
    if name == "dots":
        across, down = _saw(x * 8 + first), _saw(y * 8 + second)
        return _edge(np.float32(0.2) - np.sqrt(across * across + down * down), 8 * pixel)
    height = np.float32(bottom + 0.3) - y  # rays from a point below the picture: evenly spaced along its top edge
    slope = (x - np.float32(place[2] - 0.5)) / height
    return _edge(np.abs(_saw(slope * 6 + first)) - np.float32(0.25), (6 * pixel) / height)


def _saw(t: Field) -> Field:
    """Signed distance to the nearest whole number, in [-0.5, 0.5]."""
    return t - np.rint(t)


def _edge(inside: Field, pixel: float | Field) -> Field:
    """0 to 1 over one pixel around `inside` = 0; `pixel` is a pixel's size in the units of `inside`."""
    return np.clip(inside * np.float32(1 / pixel) + np.float32(0.5), 0, 1)  # type: ignore[no-any-return]
