"""Shape, size and pose of what stands in a cell: every silhouette of the world in many poses, against what is seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curation.scenes.judge.reading import Finding, decide
from curation.scenes.render import RADIUS
from curation.scenes.scene import World
from curation.scenes.shapes import SIGNED_DISTANCE, Field

REACH = 0.1875
"""Half the side of what is looked at of a cell, in shorter sides."""
SCALES = (0.95, 1.0, 1.05)
TILTS = (-0.16, -0.08, 0.0, 0.08, 0.16)
MISFIT = 0.26
"""Squared difference from the best silhouette, over the larger area of the two: more is no shape of this world."""
BLOB = 0.50
"""The same for what still has a size and a colour, though its shape may be none."""


@dataclass(frozen=True)
class Body:
    """What stands in a cell, with its pose in shorter sides and radians; offsets are from the cell's middle."""

    shape: Finding
    size: Finding
    misfit: float
    """Of the best silhouette."""
    outline: str
    """The shape that fits best, even where the judge abstains."""
    radius: float
    offset: tuple[float, float]
    tilt: float

    def distance(self, x: Field, y: Field) -> Field:
        """Signed distance to the outline, in radii, at offsets from the cell's middle in shorter sides."""
        u, v = (x - np.float32(self.offset[0])) / self.radius, (y - np.float32(self.offset[1])) / self.radius
        cos, sin = np.float32(math.cos(self.tilt)), np.float32(math.sin(self.tilt))
        return SIGNED_DISTANCE[self.outline](
            (cos * u + sin * v).astype(np.float32), (cos * v - sin * u).astype(np.float32)
        )


@dataclass(frozen=True)
class _Bank:
    poses: list[tuple[str, str, float, float, float, float]]
    """Shape, size, scale, tilt, and offset of each silhouette."""
    silhouettes: Field
    """[N, side · side]"""
    areas: Field
    """Their squares' sums, [N]."""
    kinds: dict[tuple[str, str], NDArray[np.intp]]
    """Where in the bank each shape and size is found."""


def read_bodies(covers: Field, short: int, world: World) -> list[Body]:
    """Bodies from how much of each pixel is covered: [N, side, side] in [0, 1], at `short` pixels a shorter side."""
    count, side = covers.shape[:2]
    bank = _bank(world.shapes, world.sizes, short, side)
    flat = covers.reshape(count, -1)
    energy = np.einsum("np,np->n", flat, flat)
    misfit = (energy[:, None] - 2 * flat @ bank.silhouettes.T + bank.areas) / np.maximum(
        np.maximum(energy[:, None], bank.areas), 1
    )
    return [_body(row, bank) for row in misfit]


def _body(misfit: Field, bank: _Bank) -> Body:
    best = {kind: float(misfit[where].min()) for kind, where in bank.kinds.items()}
    shapes: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for (shape, size), value in best.items():
        shapes[shape] = min(value, shapes.get(shape, math.inf))
        sizes[size] = min(value, sizes.get(size, math.inf))
    shape, size, scale, tilt, right, down = bank.poses[int(misfit.argmin())]
    least = float(misfit.min())
    return Body(decide(shapes, MISFIT), decide(sizes, BLOB), least, shape, RADIUS[size] * scale, (right, down), tilt)


@lru_cache(maxsize=8)
def _bank(shapes: tuple[str, ...], sizes: tuple[str, ...], short: int, side: int) -> _Bank:
    """All silhouettes, drawn as `render.py` draws them. Small pictures are read with more places: models wander."""
    places = (-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03) if short <= 64 else (-0.011, 0.0, 0.011)
    at = (np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)) / np.float32(short)
    poses: list[tuple[str, str, float, float, float, float]] = []
    drawn: list[Field] = []
    for shape in shapes:
        for size in sizes:
            for scale in SCALES:
                for tilt in (0.0,) if shape in ("circle", "ring") else TILTS:
                    cos, sin = np.float32(math.cos(tilt)), np.float32(math.sin(tilt))
                    radius = np.float32(RADIUS[size] * scale)
                    for right in places:
                        for down in places:
                            x, y = (at - np.float32(right)) / radius, ((at - np.float32(down)) / radius)[:, None]
                            distance = SIGNED_DISTANCE[shape](cos * x + sin * y, cos * y - sin * x)
                            drawn.append(np.clip(np.float32(0.5) - distance * (radius * short), 0, 1).ravel())
                            poses.append((shape, size, scale, tilt, right, down))
    silhouettes = np.stack(drawn).astype(np.float32)
    kinds = {
        (shape, size): np.array([i for i, pose in enumerate(poses) if pose[:2] == (shape, size)])
        for shape in shapes
        for size in sizes
    }
    return _Bank(poses, silhouettes, np.einsum("np,np->n", silhouettes, silhouettes), kinds)
