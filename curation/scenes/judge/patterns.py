"""The background's pattern: every pattern in many places, drawn by the renderer, against the tone that is seen."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.scenes.background import pattern_mask
from curation.scenes.judge.frame import axes
from curation.scenes.judge.reading import ABSTAINS, Finding
from curation.scenes.shapes import Field

SIDE = 64
"""Pixels: the middle square of the picture is compared at this size. Finest pattern: 7 pixels a period."""
FAINT = 0.45
"""Share of its textbook strength under which a pattern is taken for none."""
STEEP = 0.6
"""The same for gradients, which uneven light resembles by up to 0.35."""
MISFIT = 0.6
"""The most that may stay unexplained where there is a pattern."""
UNEVEN = 0.45
"""Unexplained tone, as standard deviation, up to which a background without a pattern is plain."""


def read_pattern(tone: Field, free: NDArray[np.bool_], names: tuple[str, ...]) -> Finding:
    """The pattern in `tone` [H, W] (see `ground.tone_of`), looking at pixels that are `free` of objects."""
    height, width = tone.shape
    short = min(width, height)
    top, left = (height - short) // 2, (width - short) // 2
    seen = _resized(tone[top : top + short, left : left + short])
    kept = _resized(free[top : top + short, left : left + short].astype(np.float32)).ravel() > 0.99
    if kept.sum() < SIDE * SIDE // 20:
        return ABSTAINS
    weight = kept.astype(np.float32)
    x, y = (np.broadcast_to(axis, (SIDE, SIDE)).ravel() for axis in axes(SIDE, SIDE))
    even = np.ones(SIDE * SIDE, np.float32)
    level = seen.ravel()
    sloped = _compare(level, weight, np.stack([even]), _bank("gradient", 0.5)) if "gradient" in names else None
    if sloped is not None and sloped[0] > STEEP and sloped[1] < MISFIT:
        return Finding("gradient", min(1.0, 1 - sloped[1]))
    misfits, spread = {}, 0.0
    for name in names:
        if name not in ("plain", "gradient"):
            bank = _bank(name, round(height / (2 * short), 3) if name == "rays" else 0.5)
            strength, misfits[name], spread = _compare(level, weight, np.stack([even, x, y]), bank)
            if strength < FAINT:
                misfits[name] = 1.0
    best = min(misfits, key=lambda name: misfits[name])
    if misfits[best] < MISFIT:
        others = [misfits[name] for name in misfits if name != best] + [1.0]
        return Finding(best, 1 - misfits[best] / min(others))
    return Finding("plain", 1 - spread / UNEVEN) if spread < UNEVEN else ABSTAINS


def _resized(plane: Field) -> Field:
    if plane.shape[0] == SIDE:
        return plane
    return cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _compare(level: Field, weight: Field, known: Field, bank: tuple[Field, Field]) -> tuple[float, float, float]:
    """The best of `bank` [N, P] after `known` [K, P] has been taken out of `level` [P]: strength, misfit and spread.

    Strength is the factor of least squares; misfit is the share of squares that it leaves; spread is the standard
    deviation of `level` before.
    """
    drawn, squares = bank
    weighted = known * weight
    inverse = np.linalg.inv(weighted @ known.T)
    rest = (level - (inverse @ (weighted @ level)) @ known) * weight
    total = float(rest @ rest)
    spread = (total / float(weight.sum())) ** 0.5
    shared = drawn @ weighted.T
    energy = squares @ weight - np.einsum("nk,kl,nl->n", shared, inverse, shared)
    energy = np.maximum(energy, 1e-3)
    overlap = drawn @ rest
    gain = np.where(overlap > 0, overlap, 0) ** 2 / energy
    best = int(gain.argmax())
    return float(overlap[best] / energy[best]), 1 - float(gain[best]) / max(total, 1e-9), spread


@lru_cache(maxsize=10)
def _bank(name: str, bottom: float) -> tuple[Field, Field]:
    """`name` in all places [N, SIDE · SIDE], and its squares; `bottom` is half the picture's height (rays need it)."""
    x, y = axes(SIDE, SIDE)
    steps = {"gradient": (24, 1, 1), "waves": (12, 12, 1), "grid": (16, 16, 1), "dots": (10, 10, 1), "rays": (8, 1, 20)}
    across, down, aside = steps[name]
    drawn = []
    for first in range(across):
        for second in range(down):
            for third in range(aside):
                place = (first / across, second / down, (third + 0.5) / aside)
                mask = pattern_mask(name, x, y, bottom, 1 / SIDE, place)
                assert mask is not None  # only of plain
                drawn.append(mask.ravel())
    bank = np.stack(drawn).astype(np.float32)
    return bank, bank * bank
