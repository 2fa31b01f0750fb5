"""The background's colour, and how unlike it each pixel is: the first thing that the judge reads.

A background's pixels are modelled as normal: its colour, spread along the tone of its patterns, along more or less
light, and by noise. The colour is read from the gaps between the cells, where nothing else can stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from curation.scenes.background import BACKGROUND_RGB
from curation.scenes.judge.frame import axes, glow
from curation.scenes.judge.reading import ABSTAINS, Finding, decide
from curation.scenes.shapes import Field

NOISE = 6.0
"""Levels: grain, compression, and what a decoder adds."""
TONE_MIDDLE, TONE_SPREAD = 0.4, 0.6
"""How much of the second tone shows, over all patterns."""
LIGHT_SPREAD, SHADOW_SPREAD = 0.04, 0.15
"""Of the brightness: from where the light stands, and where shadows fall."""
MISFIT = 1.8
"""The most that a background's pixels may stray from their model, in mean squared deviations a channel."""
UNLIKE = 26.0
"""Levels from which on a pixel is no background; the faintest object has twice as many."""


@dataclass(frozen=True)
class Ground:
    """The background of one picture."""

    colour: Finding
    flat: Field
    """The picture without the light's fall-off, [H, W, 3]."""
    unlike: Field
    """Levels by which a pixel differs from anything that the background, lit or shaded, can be; [H, W]."""


def read_ground(picture: Field, names: tuple[str, ...]) -> Ground:
    """The background of `picture` [H, W, 3]; of no colour where most gaps between cells fit none of `names`."""
    height, width = picture.shape[:2]
    flat = picture / glow(width, height)[..., None]
    seen = flat[gaps(width, height)]
    misfits = {name: _misfit(seen, name) for name in names}
    found = decide(misfits, MISFIT)
    if found.word is None:
        return Ground(ABSTAINS, flat, np.zeros((height, width), np.float32))
    middle, whiten = _model(found.word, SHADOW_SPREAD)
    apart = (flat - middle) @ whiten
    return Ground(found, flat, np.sqrt(np.einsum("hwc,hwc->hw", apart, apart)) * np.float32(NOISE))


@lru_cache(maxsize=16)
def gaps(width: int, height: int) -> NDArray[np.bool_]:
    """Pixels [height, width] that no object of the world reaches."""
    x, y = axes(width, height)
    short = min(width, height)
    cell_x, cell_y = width / short / 3, height / short / 3
    off_x, off_y = x - np.rint(x / cell_x) * cell_x, y - np.rint(y / cell_y) * cell_y
    free: NDArray[np.bool_] = off_x * off_x + off_y * off_y > 0.175**2
    return free


def tone_of(ground: Ground) -> Field:
    """How much of the second tone shows at each pixel [H, W]; about 0 to 1, and free of most of the light's lean."""
    base, tone = (np.array(rgb, np.float32) for rgb in BACKGROUND_RGB[str(ground.colour.word)])
    step = tone - base
    light = base + step * TONE_MIDDLE
    spread = np.eye(3) * NOISE**2 + np.outer(light, light) * LIGHT_SPREAD**2
    weigh = np.linalg.solve(spread, step)
    weigh /= weigh @ step
    shown: Field = (ground.flat - base) @ weigh.astype(np.float32)
    return shown


def _misfit(seen: Field, name: str) -> float:
    """Mean squared deviation a channel of the better four fifths of pixels [N, 3]."""
    middle, whiten = _model(name, LIGHT_SPREAD)
    apart = (seen - middle) @ whiten
    squares = np.einsum("nc,nc->n", apart, apart)
    kept = np.partition(squares, int(0.8 * len(squares)))[: int(0.8 * len(squares))]
    return float(kept.mean()) / 3


@lru_cache(maxsize=32)
def _model(name: str, light_spread: float) -> tuple[Field, Field]:
    """Middle [3], and the matrix [3, 3] that makes deviations from it white."""
    base, tone = (np.array(rgb, np.float64) for rgb in BACKGROUND_RGB[name])
    step = tone - base
    middle = base + TONE_MIDDLE * step
    spread = np.eye(3) * NOISE**2 + np.outer(step, step) * TONE_SPREAD**2 + np.outer(middle, middle) * light_spread**2
    whiten = np.linalg.cholesky(np.linalg.inv(spread))
    return middle.astype(np.float32), whiten.astype(np.float32)
