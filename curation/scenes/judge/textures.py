"""The texture of a body: what is left of it after colour and light, against each texture in many phases and turns.

Where few periods are in sight all phases are tried; where many are, those that the texture's strongest waves show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.scenes.judge.reading import ABSTAINS, Finding
from curation.scenes.shapes import Field, texture

FAINT = 0.40
"""Share of its textbook strength under which a texture is taken for none."""
MISFIT = 0.75
"""The most that may stay unexplained of what is left of a body, where there is a texture."""
UNEVEN = 0.45
"""Unexplained tone, as standard deviation, up to which a body without a texture is plain."""
MOST_TILT = 0.18
"""Radians."""
FEW = 6.0
"""Periods across a body, up to which all phases are tried."""
_HALF = math.sqrt(0.5)
_WAVES: dict[str, tuple[tuple[float, float], ...]] = {
    "striped": ((_HALF, _HALF),),
    "checkered": ((0.7, 0.7), (0.7, -0.7)),
    "dotted": ((1.0, 0.0), (0.0, 1.0)),
}
"""Each texture's strongest waves: their frequencies along u and v, per period."""


@dataclass(frozen=True)
class Surface:
    """What is seen of a body's texture."""

    tone: Field
    """Levels over those of the plain body, in textbook strengths of a texture, [side, side]."""
    inside: Field
    """How far each pixel counts, in [0, 1]."""
    known: Field
    """What light may add to `tone`, [K, side, side]."""
    x: Field
    """Columns in periods of the texture, [side]."""
    y: Field
    """Rows, [side, 1]."""
    step: float
    """A pixel in periods."""


def read_texture(surface: Surface, names: tuple[str, ...]) -> Finding:
    """The best of `names`; plain where none fits and little is left; open where much is left that fits none."""
    rest = _Rest(surface)
    misfits = {name: _misfit(name, surface, rest) for name in names if name != "plain"}
    best = min(misfits, key=lambda name: misfits[name])
    if misfits[best] < MISFIT:
        others = [misfits[name] for name in misfits if name != best] + [1.0]
        return Finding(best, 1 - misfits[best] / min(others))
    return Finding("plain", 1 - rest.spread / UNEVEN) if rest.spread < UNEVEN else ABSTAINS


class _Rest:
    """What is left of a tone after weighted least squares on what light may add."""

    def __init__(self, surface: Surface) -> None:
        self.weight = surface.inside.ravel()
        known = surface.known.reshape(len(surface.known), -1)
        self.weighted = known * self.weight
        ridge = np.diag(np.full(len(known), 1e-3 * float(self.weight.sum()), np.float32))
        self.inverse = np.linalg.inv(self.weighted @ known.T + ridge)
        tone = surface.tone.ravel()
        left = tone - (self.inverse @ (self.weighted @ tone)) @ known
        self.shone: Field = (left * self.weight).astype(np.float32)
        self.squares = float(self.shone @ left)
        self.spread = math.sqrt(self.squares / float(self.weight.sum()))

    def strength_and_gain(self, drawn: Field) -> tuple[float, float]:
        """Of the best of `drawn` [N, pixels]: its factor of least squares, and the squares that it explains."""
        shared = drawn @ self.weighted.T
        energy = (drawn * drawn) @ self.weight - np.einsum("nk,kl,nl->n", shared, self.inverse, shared)
        energy = np.maximum(energy, 1e-3)
        overlap = drawn @ self.shone
        gain = np.maximum(overlap, 0) ** 2 / energy
        best = int(gain.argmax())
        return float(overlap[best] / energy[best]), float(gain[best])


def _misfit(name: str, surface: Surface, rest: _Rest) -> float:
    """Share of the squares that `name` leaves unexplained at its best; 1 where it is too faint to be one."""
    few = float(surface.x.max() - surface.x.min()) < FEW
    poses = _all_poses(name) if few else _likely_poses(name, surface, rest)
    tilt, shift_u, shift_v = (part.astype(np.float32)[:, None, None] for part in poses.T)
    u = np.cos(tilt) * surface.x + np.sin(tilt) * surface.y + shift_u
    v = np.cos(tilt) * surface.y - np.sin(tilt) * surface.x + shift_v
    drawn = texture(name, u, v, surface.step)
    if drawn is None:
        return 1.0
    strength, gain = rest.strength_and_gain(drawn.reshape(len(drawn), -1))
    return 1 - gain / max(rest.squares, 1e-9) if strength > FAINT else 1.0


def _all_poses(name: str) -> NDArray[np.float64]:
    """Turns and phases that cover all there can be: rows of tilt (radians), shift along u and along v (periods)."""
    if name == "striped":
        shifts = [(i / 12 / _HALF, 0.0) for i in range(12)]
    else:
        cycle = 1 / 0.7 if name == "checkered" else 1.0
        shifts = [(i / 7 * cycle, j / 7 * cycle) for i in range(7) for j in range(7)]
    return np.array([(tilt, *shift) for tilt in (-0.11, 0.0, 0.11) for shift in shifts])


def _likely_poses(name: str, surface: Surface, rest: _Rest) -> NDArray[np.float64]:
    """The same for the two turns at which the texture's waves are strongest, with the phases of those waves."""
    periods = float(surface.x.max() - surface.x.min())
    turns = np.linspace(-MOST_TILT, MOST_TILT, min(math.ceil(8 * MOST_TILT * periods) | 1, 41))
    shone = rest.shone.reshape(surface.tone.shape).astype(np.complex64)
    waves = []
    for fu, fv in _WAVES[name]:
        fx, fy = fu * np.cos(turns) - fv * np.sin(turns), fu * np.sin(turns) + fv * np.cos(turns)
        ex = np.exp(-2j * math.pi * np.outer(surface.x.ravel(), fx)).astype(np.complex64)
        ey = np.exp(-2j * math.pi * np.outer(surface.y.ravel(), fy)).astype(np.complex64)
        waves.append(np.einsum("hk,hk->k", ey, shone @ ex))
    strongest = np.argsort(-sum(np.abs(wave) ** 2 for wave in waves))[:2]
    return np.array([(turns[i], *_shift(name, [float(np.angle(wave[i])) for wave in waves])) for i in strongest])


def _shift(name: str, phases: list[float]) -> tuple[float, float]:
    """The texture's phase along u and v, in periods, from the phases of its strongest waves in radians."""
    turn = 2 * math.pi
    if name == "striped":  # the square wave is −4/π · sin(2πt) + …
        return (phases[0] - math.pi / 2) / turn / _HALF, 0.0
    if name == "checkered":  # sin a · sin b = ½ cos(a − b) − ½ cos(a + b)
        total, difference = phases[0] - math.pi, phases[1]
        return (total + difference) / 2 / turn / 0.7, (total - difference) / 2 / turn / 0.7
    return phases[0] / turn, phases[1] / turn
