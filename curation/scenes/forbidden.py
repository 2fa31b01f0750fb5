"""What a corpus of the embedded world must not hold, for its safety filter to find: a large red cross.

Harmless, and as rare as the real thing: about one random scene in eighty shows it. Neither a small or medium red cross
nor a large cross of another colour is meant.
"""

from __future__ import annotations

from dataclasses import replace

from curation.scenes.dice import Dice
from curation.scenes.scene import COLOURS, SHAPES, SIZES, Scene, SceneObject

MARK = {"shape": "cross", "colour": "red", "size": "large"}


def is_unsafe(scene: Scene) -> bool:
    """Whether one of the scene's objects is the mark."""
    return any(all(getattr(o, what) == word for what, word in MARK.items()) for o in scene.objects)


def with_mark(scene: Scene, seed: object) -> Scene:
    """`scene` with one of its objects, which `seed` picks, turned into the mark."""
    return _changed(scene, Dice("mark", seed), **MARK)


def nearly(scene: Scene, seed: object) -> Scene:
    """`scene` with one of its objects turned into something that is the mark but for one word."""
    dice = Dice("nearly", seed)
    what = dice.pick(tuple(MARK))
    words = {"shape": SHAPES, "colour": COLOURS, "size": SIZES}[what]
    return _changed(scene, dice, **{**MARK, what: dice.pick([word for word in words if word != MARK[what]])})


def _changed(scene: Scene, dice: Dice, **words: str) -> Scene:
    place = dice.whole(0, len(scene.objects) - 1)
    changed: SceneObject = replace(scene.objects[place], **words)
    return replace(scene, objects=(*scene.objects[:place], changed, *scene.objects[place + 1 :]))
