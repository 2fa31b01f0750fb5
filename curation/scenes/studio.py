"""The studio: the part of the embedded world that the small text-to-image models live in, at 48 pixels.

One or two objects, few words of each kind, and textures coarse enough for 48 pixels: clear at full size, faint in a
copy of 24 pixels, gone in one of 12. Scenes are divided once and for all: `is_held_out` picks one in sixteen by a hash
of what it shows, and no training of this project may see those.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from curation.scenes.dice import Dice
from curation.scenes.render import Look, render
from curation.scenes.scene import Scene, World, random_scene

STUDIO = World(
    shapes=("circle", "square", "triangle", "star"),
    colours=("red", "yellow", "green", "blue", "purple", "turquoise"),
    textures=("plain", "striped", "dotted"),
    sizes=("medium", "large"),
    positions=("top left", "top right", "centre", "bottom left", "bottom right"),
    backgrounds=("cream", "sky", "grey", "navy"),
    patterns=("plain", "waves"),
    counts=(0.4, 0.6),
)
SIDE = 48
"""Pixels."""
LOOK = Look(detail=10.0, grain=0.5)
"""A texture's period is 4.8 pixels at `SIDE`."""


def is_held_out(scene: Scene) -> bool:
    """Whether `scene` is kept for tests: one in sixteen, by what it shows alone."""
    return hashlib.blake2b(repr(scene).encode(), digest_size=1).digest()[0] < 16


def studio_scene(seed: object, held_out: bool) -> Scene:
    """A scene of the studio from the one side of the division or the other; the same on every machine."""
    dice = Dice("studio", seed, held_out)
    while True:
        scene = random_scene(dice.whole(0, 2**52), STUDIO)
        if is_held_out(scene) == held_out:
            return scene


def studio_picture(scene: Scene, seed: object, side: int = SIDE) -> NDArray[np.uint8]:
    """`scene` as uint8 RGB [side, side, 3]."""
    return render(scene, side, side, seed=seed, look=LOOK)
