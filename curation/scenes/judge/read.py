"""Pixels → `Reading`: background, then what stands out from it, then shapes, paint and pattern."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation.scenes.judge.bodies import BLOB, REACH, read_bodies
from curation.scenes.judge.frame import framed, middles, patch
from curation.scenes.judge.ground import UNLIKE, Ground, read_ground, tone_of
from curation.scenes.judge.paint import Paint, read_paint
from curation.scenes.judge.patterns import read_pattern
from curation.scenes.judge.reading import ABSTAINS, NOTHING, Cell, Reading
from curation.scenes.render import DEFAULT_LOOK, RADIUS, Look
from curation.scenes.scene import POSITIONS, WHOLE, World
from curation.scenes.shapes import Field

SMALL_SIDE, SIDE = 64, 128
"""Shorter sides in pixels at which small pictures and others are read."""
FINE_SIDES = (96, 512)
"""Least and greatest at which textures are: in a smaller picture an object has few pixels that it covers whole."""
LEAST_AREA = 0.5
"""Radii squared of the world's smallest size: less is no object. The smallest, a star, covers 1.2."""


def read_scene(pixels: NDArray[np.uint8], world: World = WHOLE, look: Look = DEFAULT_LOOK) -> Reading:
    """What `pixels`, uint8 RGB [H, W, 3], show in the words of `world`, if they were drawn with `look`.

    Of `look` only `detail`, the fineness of textures, matters. Pictures may be compressed, soft or a little off; what
    resembles nothing of this world, such as noise, is abstained from. Raises ValueError for other arrays, and for sides
    under 32 pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < 32:
        raise ValueError(f"a picture is uint8 [H, W, 3] of at least 32 pixels, not {pixels.dtype} {pixels.shape}")
    short = min(pixels.shape[:2])
    fine = framed(pixels, min(max(short, FINE_SIDES[0]), FINE_SIDES[1]))
    picture = framed(pixels, SIDE if short >= SIDE else SMALL_SIDE)
    ground = read_ground(picture, world.backgrounds)
    if ground.colour.word is None:
        return NOTHING
    cells = _cells(fine, ground, world, look.detail)
    pattern = read_pattern(tone_of(ground), ground.unlike < UNLIKE, world.patterns)
    return Reading(background=ground.colour, pattern=pattern, cells=cells)


def _cells(fine: Field, ground: Ground, world: World, detail: float) -> tuple[Cell, ...]:
    height, width = ground.unlike.shape
    short = min(width, height)
    side = 2 * round(REACH * short)
    places = middles(width, height)
    views = [patch(ground.unlike, middle, side) for middle in places]
    areas = [float((view > UNLIKE).sum()) / short**2 for view in views]
    least = LEAST_AREA * min(RADIUS[size] for size in world.sizes) ** 2
    cells = [
        Cell(position=POSITIONS[i], present=False, sure=max(0.0, 1 - area / least)) for i, area in enumerate(areas)
    ]
    taken = [i for i, area in enumerate(areas) if area > least]
    if not taken:
        return tuple(cells)
    bodies = read_bodies(np.stack([_cover(views[i]) for i in taken]), short, world)
    fine_middles = middles(fine.shape[1], fine.shape[0])
    for i, body in zip(taken, bodies, strict=True):
        paint = Paint(ABSTAINS, ABSTAINS)
        if body.misfit <= BLOB:
            paint = read_paint(fine, fine_middles[i], body, world.colours, world.textures, detail)
        cells[i] = Cell(
            position=POSITIONS[i],
            present=True,
            sure=1 - least / areas[i],
            shape=body.shape,
            size=body.size,
            colour=paint.colour,
            texture=paint.texture,
        )
    return tuple(cells)


def _cover(view: Field) -> Field:
    """How much of each pixel something covers, in [0, 1], from how unlike the background it is."""
    level = view[view > 0.5 * view.max()]
    full = float(np.median(level))
    low = 0.2 * full
    cover: Field = np.clip((view - low) / (0.85 * full - low), 0, 1)
    return cover
