"""What the captioner's descriptions are worth: facts said against facts shown, at full size and from poorer pictures.

`captioner.py` calls `evaluate` at the end of a training. Captions are written by the backend of the caption stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from curation.caption.backend import Request
from curation.caption.pictures import fitted
from curation.caption.prompts import DENSE, MEDIUM_FROM_IMAGE, MEDIUM_FROM_TEXT, SHORT_FROM_IMAGE, SHORT_FROM_TEXT
from curation.caption.with_transformers import TransformersBackend
from curation.config.caption import CaptionRun, CaptionSettings
from curation.scenes.describe import medium, parse_dense, recited, short
from curation.scenes.scene import Scene
from curation.scenes.zoo.cards import Quality
from curation.scenes.zoo.shots import Shot, shot

F1 = "attribute F1 of dense captions"
POOR = (256, 128, 96, 64)
"""Shorter sides of poorer copies, pixels."""
MAX_SIDE = 1024
MAX_TOKENS = 100
"""No description has more than 80."""


def facts(scene: Scene) -> set[tuple[str, str, str]]:
    """What a dense description says: (place, attribute, word) for each object, and the background's two."""
    found = {("", "background", scene.background), ("", "pattern", scene.pattern)}
    for o in scene.objects:
        found |= {(o.position, what, getattr(o, what)) for what in ("shape", "colour", "texture", "size")}
    return found


@dataclass
class Tally:
    """Facts said, shown, and both."""

    said: int = 0
    shown: int = 0
    both: int = 0

    def add(self, said: set[tuple[str, str, str]], shown: set[tuple[str, str, str]]) -> None:
        self.said, self.shown = self.said + len(said), self.shown + len(shown)
        self.both += len(said & shown)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.both / max(1, self.said + self.shown)


def judged(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """F1 over all facts, and of each attribute; the share of scenes all right; the share that can be parsed.

    What cannot be parsed says nothing.
    """
    tallies = {name: Tally() for name in (F1, "background", "pattern", "shape", "colour", "texture", "size")}
    whole = parsed = 0
    for caption, scene in zip(captions, scenes, strict=True):
        shown = facts(scene)
        try:
            said = facts(parse_dense(caption))
            parsed += 1
        except ValueError:
            said = set()
        whole += said == shown
        tallies[F1].add(said, shown)
        for name in list(tallies)[1:]:
            tallies[name].add({f for f in said if f[1] == name}, {f for f in shown if f[1] == name})
    rates = {"scenes all right": whole / len(scenes), "captions that can be parsed": parsed / len(scenes)}
    return {name: tally.f1 for name, tally in tallies.items()} | rates


def evaluate(folder: Path, count: int) -> Quality:
    """On held-out pictures of full size; the first half of them again as poorer copies."""
    backend = TransformersBackend(CaptionSettings(model=str(folder), max_side=MAX_SIDE, run=CaptionRun(batch=20)))
    backend.setup(1)
    shots = [shot(("captions", i), held_out=True, effect="none") for i in range(count)]
    pictures = [fitted(s.decoded(MAX_SIDE * min(s.width, s.height) // max(s.width, s.height)), MAX_SIDE) for s in shots]
    scenes = [s.scene for s in shots]
    said = _written(backend, [DENSE.text] * count, pictures)
    native = judged(said, scenes)
    quality: dict[str, float | dict[str, float]] = {F1: native.pop(F1), "scenes all right": native["scenes all right"]}
    told = [recited(scene) for scene in scenes]
    texts: list[Image.Image | None] = [None] * count
    for name, prompts, images, kind in (
        ("medium captions right, from the image", [MEDIUM_FROM_IMAGE.text] * count, pictures, "medium"),
        ("short captions right, from the image", [SHORT_FROM_IMAGE.text] * count, pictures, "short"),
        (
            "medium captions right, from the dense one",
            [MEDIUM_FROM_TEXT.fill(caption=t) for t in told],
            texts,
            "medium",
        ),
        ("short captions right, from the dense one", [SHORT_FROM_TEXT.fill(caption=t) for t in told], texts, "short"),
    ):
        wanted = [medium(scene) if kind == "medium" else short(scene) for scene in scenes]
        answers = _written(backend, prompts, images)
        quality[name] = sum(a == w for a, w in zip(answers, wanted, strict=True)) / count
    quality["F1 by attribute, at full size"] = native
    poor = _poorer(backend, shots[: max(1, count // 2)])
    backend.close()
    return {**quality, "F1 of copies by their shorter side in pixels": poor}


def _poorer(backend: TransformersBackend, shots: Sequence[Shot]) -> dict[str, float]:
    found = {}
    for side in POOR:
        small = [fitted(s.decoded(side), side * max(s.width, s.height) // min(s.width, s.height)) for s in shots]
        said = _written(backend, [DENSE.text] * len(shots), small)
        found[str(side)] = judged(said, [s.scene for s in shots])[F1]
    return found


def _written(backend: TransformersBackend, prompts: Sequence[str], images: Sequence[Image.Image | None]) -> list[str]:
    requests = [
        Request(str(i), prompt, image, MAX_TOKENS)
        for i, (prompt, image) in enumerate(zip(prompts, images, strict=True))
    ]
    return [reply.text for reply in asyncio.run(backend.write(requests))]
