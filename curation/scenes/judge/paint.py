"""Colour and texture of a body whose outline is known.

The colour is the body's mean, with light and gloss, against what each colour would give; `textures.py` reads the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from curation.scenes.judge.bodies import Body
from curation.scenes.judge.frame import LIGHT, patch
from curation.scenes.judge.reading import ABSTAINS, Finding, decide
from curation.scenes.judge.textures import Surface, read_texture
from curation.scenes.render import COLOUR_RGB
from curation.scenes.shapes import Field

FAR = 60.0
"""Levels: a mean further than this from all colours is none of them."""
RIM = 0.09
"""In radii: `render.py` darkens the outline this far inwards."""


@dataclass(frozen=True)
class Paint:
    colour: Finding
    texture: Finding


def read_paint(
    picture: Field,
    middle: tuple[float, float],
    body: Body,
    colours: tuple[str, ...],
    textures: tuple[str, ...],
    detail: float,
) -> Paint:
    """What `body` in the cell around `middle` (pixels) of `picture` [H, W, 3] is painted with."""
    short = min(picture.shape[:2])
    centre = (middle[0] + body.offset[0] * short, middle[1] + body.offset[1] * short)
    side = 2 * math.ceil(1.05 * body.radius * short)
    seen = patch(picture, centre, side)
    x, y = (axis / np.float32(short) for axis in _axes(side))
    distance = body.distance(x + np.float32(body.offset[0]), y + np.float32(body.offset[1]))
    inside = np.clip(-(distance + np.float32(RIM)) * np.float32(body.radius * short), 0, 1)
    if inside.sum() < 8:
        return Paint(ABSTAINS, ABSTAINS)
    across, down = x / np.float32(body.radius), y / np.float32(body.radius)
    lit = np.float32(0.96) + np.float32(0.1 * math.sin(LIGHT)) * down + 0 * across
    gloss = 34 * _gloss(across, down, LIGHT)
    colour = _colour(seen, inside, lit, gloss, colours)
    if colour.word is None:
        return Paint(colour, ABSTAINS)
    level = np.array(COLOUR_RGB[colour.word], np.float32)
    swing = np.minimum(0.85 * np.minimum(level, 255 - level), 55)
    plain = lit[..., None] * level + gloss[..., None]
    tone = (seen - plain) @ (swing / (swing @ swing)).astype(np.float32)
    lights = [np.ones_like(tone), across + 0 * down, down + 0 * across]
    lights += [_gloss(across, down, light) for light in (-2.2, -1.0)]
    surface = Surface(tone, inside, np.stack(lights), x * detail, y * detail, detail / short)
    return Paint(colour, read_texture(surface, textures))


def _colour(seen: Field, inside: Field, lit: Field, gloss: Field, colours: tuple[str, ...]) -> Finding:
    share = inside / inside.sum()
    mean = np.einsum("hwc,hw->c", seen, share) - float((gloss * share).sum())
    light = float((lit * share).sum())
    misfits = {}
    for colour in colours:
        apart = mean - light * np.array(COLOUR_RGB[colour], np.float32)
        misfits[colour] = float(np.sqrt(apart @ apart))
    return decide(misfits, FAR)


@lru_cache(maxsize=256)
def _axes(side: int) -> tuple[Field, Field]:
    at = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    return at, at[:, None]


def _gloss(across: Field, down: Field, light: float) -> Field:
    """The bright spot of `render.py`, in [0, 1], at places in radii."""
    off_x, off_y = across - np.float32(0.36 * math.cos(light)), down - np.float32(0.36 * math.sin(light))
    spot = np.clip(1 - (off_x * off_x + off_y * off_y) * np.float32(1 / 0.30), 0, 1)
    bright: Field = spot * spot
    return bright
