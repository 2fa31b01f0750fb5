"""Pictures with an object in most cells: a scene has four at most, which leaves a vision tower little to learn from.

`captioner.py` shows them to its tower alone; no description speaks of them, and none is a scene that is held out.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.scenes.dice import Dice
from curation.scenes.scene import (
    COLOURS,
    MAX_OBJECTS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    SceneObject,
    random_scene,
)


@dataclass(frozen=True, kw_only=True)
class Crowd(Scene):
    """What the renderer takes for a scene, with more objects than a scene has."""

    def __post_init__(self) -> None:
        """A scene's limits do not hold."""


def crowd(seed: object) -> Crowd:
    """Five to nine objects in cells of their own, in reading order: a pure function."""
    dice = Dice("crowd", seed)
    cells = sorted(dice.shuffled(range(len(POSITIONS)))[: dice.whole(MAX_OBJECTS + 1, len(POSITIONS))])
    objects = tuple(
        SceneObject(
            shape=dice.pick(SHAPES),
            colour=dice.pick(COLOURS),
            texture=dice.pick(TEXTURES),
            size=dice.pick(SIZES),
            position=POSITIONS[cell],
        )
        for cell in cells
    )
    ground = random_scene(("crowd", seed))
    return Crowd(objects=objects, background=ground.background, pattern=ground.pattern)
