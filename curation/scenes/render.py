"""Scene → pixels, at any size and aspect; called by the gallery, by tests, and by what trains on the embedded world.

Everything is drawn from signed distances in coordinates whose unit is the shorter side, with edges one pixel wide, so a
picture is the same at every size except for the detail that its pixels cannot hold. Textures keep their mean colour:
scaled down far enough, a striped star is a plain one (`Look.detail` says how far). Only grain is per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.scenes.background import draw_background
from curation.scenes.dice import Dice
from curation.scenes.scene import POSITIONS, Scene, SceneObject
from curation.scenes.shapes import SIGNED_DISTANCE, Field, texture

COLOUR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (212, 44, 46),
    "orange": (238, 128, 36),
    "yellow": (240, 200, 52),
    "green": (48, 158, 70),
    "turquoise": (40, 186, 190),
    "blue": (48, 94, 214),
    "purple": (134, 64, 186),
    "pink": (232, 104, 166),
}
RADIUS = {"small": 0.070, "medium": 0.105, "large": 0.150}
"""Radius of an object, as a share of the shorter side; a cell of the grid is at least a third of that side."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a scene is drawn, beside what it shows."""

    detail: float = 64.0
    """Periods of a texture along the shorter side: faint under two pixels a period, gone under one."""
    jitter: float = 1.0
    """Scales the seed's slight shifts, tilts and size changes of objects; 0 draws every scene in its textbook pose."""
    grain: float = 1.0
    """Scales the noise; 1 is at most ±4 of 255."""


DEFAULT_LOOK = Look()


def render(scene: Scene, width: int, height: int, *, seed: object = 0, look: Look = DEFAULT_LOOK) -> NDArray[np.uint8]:
    """`scene` as uint8 RGB [height, width, 3]; the same arguments give the same pixels.

    `seed` decides what the scene does not say: light, the pattern's place, slight shifts and tilts, grain. Raises
    ValueError for sides under 8 pixels.
    """
    if min(width, height) < 8:
        raise ValueError(f"a picture has at least 8 pixels a side, not {width}x{height}")
    dice = Dice("render", seed)
    light = dice.between(-2.4, -0.8)  # where light comes from, radians: always from above
    poses = [_Pose.of(dice, look.jitter) for _ in scene.objects]
    grain = _grain(width, height, dice.whole(0, 2**50), look.grain)
    canvas = draw_background(scene.background, scene.pattern, width, height, dice, light, grain)
    for thing, pose in zip(scene.objects, poses, strict=True):
        _draw_object(canvas, grain, thing, pose, light, look.detail)
    return canvas


@dataclass(frozen=True)
class _Pose:
    """What the seed adds to an object."""

    shift: tuple[float, float]  # of the shorter side
    tilt: float  # radians
    scale: float
    phase: tuple[float, float]  # of the texture, periods

    @classmethod
    def of(cls, dice: Dice, jitter: float) -> _Pose:
        shift = (jitter * dice.between(-0.01, 0.01), jitter * dice.between(-0.01, 0.01))
        tilt, scale = jitter * dice.between(-0.16, 0.16), 1 + jitter * dice.between(-0.04, 0.04)
        return cls(shift, tilt, scale, (dice.unit(), dice.unit()))


def _grain(width: int, height: int, seed: int, strength: float) -> Field | None:
    """Brightness noise [height, width], mean zero; None for none."""
    if strength <= 0:
        return None
    noise = np.frombuffer(np.random.Generator(np.random.PCG64(seed)).bytes(width * height), np.uint8)
    field: Field = noise.reshape(height, width).astype(np.float32)
    field -= np.float32(127.5)
    field *= np.float32(4 * strength / 127.5)
    return field


def _draw_object(
    canvas: NDArray[np.uint8], grain: Field | None, thing: SceneObject, pose: _Pose, light: float, detail: float
) -> None:
    """Shadow, body with texture and light, darker rim: painted into `canvas` within the object's bounds."""
    height, width = canvas.shape[:2]
    short = min(width, height)
    row, column = divmod(POSITIONS.index(thing.position), 3)
    radius = RADIUS[thing.size] * pose.scale * short  # pixels
    centre_x = (column + 0.5) / 3 * width + pose.shift[0] * short
    centre_y = (row + 0.5) / 3 * height + pose.shift[1] * short
    reach = 1.35 * radius + 2
    left, right = max(0, int(centre_x - reach)), min(width, int(centre_x + reach) + 1)
    top, bottom = max(0, int(centre_y - reach)), min(height, int(centre_y + reach) + 1)
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - centre_x)) / np.float32(radius)
    y = ((np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - centre_y)) / np.float32(radius))[:, None]
    cos, sin = np.float32(math.cos(pose.tilt)), np.float32(math.sin(pose.tilt))
    u, v = cos * x + sin * y, cos * y - sin * x
    distance = SIGNED_DISTANCE[thing.shape](u, v)  # in radii
    body = np.clip(np.float32(0.5) - distance * np.float32(radius), 0, 1)

    # the shadow is the same distance field, seen a little off; it fades over a fifth of the radius
    move_x, move_y = round(-0.09 * math.cos(light) * radius), round(0.12 * radius)
    shadow = np.clip(np.float32(0.6) - 4 * _moved(distance, move_y, move_x), 0, 1)
    shadow *= shadow * np.float32(0.34)

    tone = None
    if thing.texture != "plain":
        periods = RADIUS[thing.size] * pose.scale * detail  # in a radius
        along_u = u * np.float32(periods) + np.float32(pose.phase[0])
        along_v = v * np.float32(periods) + np.float32(pose.phase[1])
        tone = texture(thing.texture, along_u, along_v, detail / short)
    lit = np.float32(0.96) + np.float32(0.10 * math.cos(light)) * x + np.float32(0.10 * math.sin(light)) * y
    lit -= np.float32(0.28) * np.clip(1 + distance * np.float32(1 / 0.09), 0, 1)  # a darker rim
    gloss_x, gloss_y = np.float32(0.36 * math.cos(light)), np.float32(0.36 * math.sin(light))
    gloss = np.clip(1 - ((x - gloss_x) ** 2 + (y - gloss_y) ** 2) * np.float32(1 / 0.30), 0, 1)
    gloss *= gloss * np.float32(34)
    if grain is not None:
        gloss += grain[top:bottom, left:right]

    under, kept = canvas[top:bottom, left:right], (1 - shadow) * (1 - body)
    for channel, level in enumerate(COLOUR_RGB[thing.colour]):
        swing = min(0.85 * min(level, 255 - level), 55)  # both ways without clipping, and without leaving the hue
        paint = lit * np.float32(level) if tone is None else lit * (tone * np.float32(swing) + np.float32(level))
        paint += gloss
        np.clip(paint, 0, 255, out=paint)
        under[..., channel] = under[..., channel] * kept + paint * body + np.float32(0.5)


def _moved(field: Field, down: int, right: int) -> Field:
    """`field` moved by whole pixels; what comes in at the borders is far outside."""
    out = np.full_like(field, 9)
    height, width = field.shape
    target = out[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    target[...] = field[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    return out
