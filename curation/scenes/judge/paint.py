"""Colour and texture of a body whose outline is known.

Colour: the body's mean, with light and gloss, against what each colour would give. Texture: what is left after colour
and light are taken out, against each texture in the phase and turn that suit it best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from curation.scenes.judge.bodies import Body
from curation.scenes.judge.frame import LIGHT, patch
from curation.scenes.judge.reading import ABSTAINS, Finding, decide
from curation.scenes.render import COLOUR_RGB
from curation.scenes.shapes import Field, texture

FAR = 60.0
"""Levels: a mean further than this from all colours is none of them."""
FAINT = 0.40
"""Share of its textbook strength under which a texture is taken for none."""
MISFIT = 0.75
"""The most that may stay unexplained of what is left of a body, where there is a texture."""
UNEVEN = 0.45
"""Unexplained tone, as standard deviation, up to which a body without a texture is plain."""
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
    known = [np.ones_like(tone), across + 0 * down, down + 0 * across]
    known += [_gloss(across, down, light) for light in (-2.2, -1.0)]
    return Paint(colour, _texture(tone, inside, np.stack(known), x * detail, y * detail, detail / short, textures))


def _colour(seen: Field, inside: Field, lit: Field, gloss: Field, colours: tuple[str, ...]) -> Finding:
    share = inside / inside.sum()
    mean = np.einsum("hwc,hw->c", seen, share) - float((gloss * share).sum())
    light = float((lit * share).sum())
    misfits = {}
    for colour in colours:
        apart = mean - light * np.array(COLOUR_RGB[colour], np.float32)
        misfits[colour] = float(np.sqrt(apart @ apart))
    return decide(misfits, FAR)


def _texture(
    tone: Field, inside: Field, known: Field, along_x: Field, along_y: Field, step: float, textures: tuple[str, ...]
) -> Finding:
    """The texture of `tone` [side, side], where coordinates are in periods and `step` is a pixel in periods."""
    weight = inside.ravel()
    flat = known.reshape(len(known), -1)
    weighted = flat * weight
    ridge = np.diag([1e-3 * float(weight.sum())] * len(flat))
    inverse = np.linalg.inv(weighted @ flat.T + ridge)
    rest = ((tone.ravel() - (inverse @ (weighted @ tone.ravel())) @ flat) * np.sqrt(weight)).reshape(tone.shape)
    total = float((rest * rest).sum())
    spread = math.sqrt(total / float(weight.sum()))
    shone = rest * np.sqrt(inside)
    misfits = {}
    for name in textures:
        if name == "plain":
            continue
        strength, gain = _fit(name, shone, weight, weighted, inverse, flat, along_x, along_y, step)
        misfits[name] = 1 - gain / max(total, 1e-9) if strength > FAINT else 1.0
    best = min(misfits, key=lambda name: misfits[name])
    if misfits[best] < MISFIT:
        others = [misfits[name] for name in misfits if name != best] + [1.0]
        return Finding(best, 1 - misfits[best] / min(others))
    return Finding("plain", 1 - spread / UNEVEN) if spread < UNEVEN else ABSTAINS


def _fit(
    name: str,
    shone: Field,
    weight: Field,
    weighted: Field,
    inverse: Field,
    known: Field,
    along_x: Field,
    along_y: Field,
    step: float,
) -> tuple[float, float]:
    """Strength and explained squares of texture `name` at its best phase and turn."""
    waves = _WAVES[name]
    best = (0.0, 0.0)
    for tilt in _turns(name, shone, along_x, along_y):
        cos, sin = math.cos(tilt), math.sin(tilt)
        phases = []
        for fu, fv in waves:
            fx, fy = fu * cos - fv * sin, fu * sin + fv * cos
            ex, ey = np.exp(-2j * math.pi * fx * along_x.ravel()), np.exp(-2j * math.pi * fy * along_y.ravel())
            phases.append(float(np.angle(ey @ shone @ ex)))
        shift_u, shift_v = _shift(name, phases)
        u, v = cos * along_x + sin * along_y, cos * along_y - sin * along_x
        drawn = texture(name, u + np.float32(shift_u), v + np.float32(shift_v), step)
        if drawn is None:
            continue
        flat = drawn.ravel()
        shared = weighted @ flat
        energy = max(float((flat * flat) @ weight - shared @ inverse @ shared), 1e-3)
        overlap = float(flat @ shone.ravel())
        if overlap > 0 and overlap * overlap / energy > best[1]:
            best = (overlap / energy, overlap * overlap / energy)
    return best


_HALF = math.sqrt(0.5)
_WAVES: dict[str, tuple[tuple[float, float], ...]] = {
    "striped": ((_HALF, _HALF),),
    "checkered": ((0.7, 0.7), (0.7, -0.7)),
    "dotted": ((1.0, 0.0), (0.0, 1.0)),
}
"""Each texture's strongest waves: their frequencies along u and v, per period."""


def _shift(name: str, phases: list[float]) -> tuple[float, float]:
    """The texture's phase along u and v, in periods, from the phases of its strongest waves."""
    turn = 2 * math.pi
    if name == "striped":  # the square wave is −4/π · sin(2πt) + …
        shift = (phases[0] - math.pi / 2) / turn
        return shift / _HALF, 0.0
    if name == "checkered":  # sin a · sin b = ½ cos(a − b) − ½ cos(a + b)
        total, difference = phases[0] - math.pi, phases[1]
        return (total + difference) / 2 / turn / 0.7, (total - difference) / 2 / turn / 0.7
    return phases[0] / turn, phases[1] / turn


def _turns(name: str, shone: Field, along_x: Field, along_y: Field) -> list[float]:
    """The few turns, in radians, at which the texture's waves are strongest; fine where many periods are in sight."""
    periods = float(along_x.max()) * 2
    count = min(max(3, math.ceil(0.36 * periods * 4)) | 1, 41)
    turns = np.linspace(-0.18, 0.18, count)
    power = np.zeros(count)
    for fu, fv in _WAVES[name]:
        fx, fy = fu * np.cos(turns) - fv * np.sin(turns), fu * np.sin(turns) + fv * np.cos(turns)
        ex = np.exp(-2j * math.pi * np.outer(along_x.ravel(), fx)).astype(np.complex64)
        ey = np.exp(-2j * math.pi * np.outer(along_y.ravel(), fy)).astype(np.complex64)
        power += np.abs(np.einsum("hk,hk->k", ey, shone.astype(np.complex64) @ ex)) ** 2
    order = np.argsort(-power)
    return [float(turns[i]) for i in order[:2]]


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
