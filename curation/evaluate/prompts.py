"""What models are asked to paint when they are measured: `Prompt`, and the embedded world's held-out prompts.

Of the studio's scenes one in sixteen is held out from all training (`curation.scenes.studio.is_held_out`). What is held
out is the scene: a short description fits many scenes, so its words may well have been a caption of another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.scenes.describe import dense, medium, short
from curation.scenes.judge import Mentioned
from curation.scenes.scene import Scene
from curation.scenes.studio import studio_scene


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text, and what is known of it."""

    text: str
    kind: str
    """Results are given for each kind apart. Of a scene: "dense", "medium" or "short", which says what is asked for."""
    scene: Scene | None = None
    """What the text describes; None where only the text is known."""


def held_out_prompts(
    count: int, kinds: Sequence[Mentioned] = ("dense", "short"), seed: object = "evaluate"
) -> list[Prompt]:
    """Prompts for `count` different held-out scenes of the studio: first all of the first kind, then of the next.

    All kinds describe the same scenes in the same order. The same on every machine.
    """
    scenes: dict[Scene, int] = {}
    drawn = 0
    while len(scenes) < count:
        scenes.setdefault(studio_scene((seed, drawn), held_out=True), drawn)
        drawn += 1
    return [
        Prompt(text=_described(scene, kind, (seed, draw)), kind=kind, scene=scene)
        for kind in kinds
        for scene, draw in scenes.items()
    ]


def _described(scene: Scene, kind: Mentioned, seed: object) -> str:
    if kind == "dense":
        return dense(scene, seed)
    return medium(scene) if kind == "medium" else short(scene)
