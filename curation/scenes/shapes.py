"""Signed distances of the eight shapes, and the four textures as fields of mean zero; `render.py` draws with them.

Coordinates are in units of the object's radius: right is +u, down is +v, and a shape reaches about 1 from its middle.
Distances are negative inside. Formulas: Inigo Quilez, "2D distance functions"; where only bounds are needed (outside of
corners) the cheaper maximum of half-planes stands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def _circle(u: Field, v: Field) -> Field:
    return np.hypot(u, v) - np.float32(0.9)


def _ring(u: Field, v: Field) -> Field:
    return np.abs(np.hypot(u, v) - np.float32(0.68)) - np.float32(0.24)


def _box(u: Field, v: Field, half_u: float, half_v: float, corner: float) -> Field:
    """A rectangle with rounded corners."""
    over_u = np.abs(u) - np.float32(half_u - corner)
    over_v = np.abs(v) - np.float32(half_v - corner)
    outside = np.hypot(np.maximum(over_u, 0), np.maximum(over_v, 0))
    distance: Field = outside + np.minimum(np.maximum(over_u, over_v), 0) - np.float32(corner)
    return distance


def _square(u: Field, v: Field) -> Field:
    return _box(u, v, 0.8, 0.8, 0.1)


def _cross(u: Field, v: Field) -> Field:
    return np.minimum(_box(u, v, 0.92, 0.32, 0.08), _box(u, v, 0.32, 0.92, 0.08))


def _triangle(u: Field, v: Field) -> Field:
    slope = np.abs(u) * np.float32(math.sqrt(3) / 2) - v * np.float32(0.5)
    distance: Field = np.maximum(slope - np.float32(0.45), v - np.float32(0.62))
    return distance


def _hexagon(u: Field, v: Field) -> Field:
    a = np.abs(u)
    slope = a * np.float32(0.5) + np.abs(v) * np.float32(math.sqrt(3) / 2)
    distance: Field = np.maximum(a, slope) - np.float32(0.82)
    return distance


def _star(u: Field, v: Field) -> Field:
    """Five points; the plane is folded three times onto one edge."""
    x: Field = np.abs(u)
    y: Field = -v
    for kx, ky in ((0.809016994, -0.587785252), (-0.809016994, -0.587785252)):
        over: Field = 2 * np.maximum(np.float32(kx) * x + np.float32(ky) * y, 0)
        x, y = x - over * np.float32(kx), y - over * np.float32(ky)
    x, y = np.abs(x), y - np.float32(0.98)
    inner = 0.42
    edge_x, edge_y = inner * 0.587785252, inner * 0.809016994 - 1
    along = np.clip((x * np.float32(edge_x) + y * np.float32(edge_y)) / (edge_x**2 + edge_y**2), 0, 0.98)
    away = np.hypot(x - along * np.float32(edge_x), y - along * np.float32(edge_y))
    return np.copysign(away, y * np.float32(edge_x) - x * np.float32(edge_y))


def _heart(u: Field, v: Field) -> Field:
    scale = 1.62
    x, y = np.abs(u) / np.float32(scale), (np.float32(0.93) - v) / np.float32(scale)
    lobe = np.hypot(x - np.float32(0.25), y - np.float32(0.75)) - np.float32(math.sqrt(2) / 4)
    slide = np.float32(0.5) * np.maximum(x + y, 0)
    tip = np.minimum(np.hypot(x, y - 1), np.hypot(x - slide, y - slide)) * np.sign(x - y)
    distance: Field = np.where(y + x > 1, lobe, tip) * np.float32(scale)
    return distance


SIGNED_DISTANCE: dict[str, Callable[[Field, Field], Field]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "hexagon": _hexagon,
    "ring": _ring,
    "cross": _cross,
}


def texture(name: str, u: Field, v: Field, step: float) -> Field | None:
    """The texture as a field in about [-1, 1] whose mean is zero; None where nothing of it shows.

    `u` and `v` are in periods of the texture, `step` is the size of a pixel in periods. Everything is filtered to that
    size: as pixels grow to a period the field goes to zero, so the eye (or a scaled-down copy) gets the plain colour.
    """
    fade = np.float32(min(2 * (1 - step), 1.0))  # finer than two pixels it could only alias
    if name == "plain" or fade <= 0:
        return None
    if name == "striped":
        return _square_wave((u + v) * np.float32(math.sqrt(0.5)), step) * fade
    if name == "checkered":
        half = np.float32(0.7)  # checks a little larger than stripes are wide, so both look equally fine
        return _square_wave(u * half, step * 0.7) * _square_wave(v * half, step * 0.7) * fade
    radius, density = 0.36, math.pi * 0.36**2  # dots on a square lattice, and the share of the area that they cover
    away = np.hypot(u - np.rint(u), v - np.rint(v))
    dots = np.clip((np.float32(radius) - away) / np.float32(step) + np.float32(0.5), 0, 1)
    tone: Field = (dots - np.float32(density)) * (np.float32(1.6) * fade)
    return tone


def _square_wave(t: Field, step: float) -> Field:
    """A ±1 square wave of period 1, exactly box-filtered over `step`: a difference of its integral."""
    low = t - np.float32(step / 2)
    high = t + np.float32(step / 2)
    rise: Field = np.abs(high - np.floor(high) - np.float32(0.5)) - np.abs(low - np.floor(low) - np.float32(0.5))
    return rise * np.float32(1 / step)
