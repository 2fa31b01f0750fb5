"""The embedded world's metric: what the judge finds of what a prompt mentions; and the judge's features, for KID.

Texture (`judge.texture`) is what resolution shows in first: the studio's textures are clear at 48 pixels, faint in a
copy of 24, gone in one of 12. How well the judge itself reads is measured by `curation.scenes.judge_report`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from curation.evaluate.metric import Floats, PromptMetric
from curation.evaluate.prompts import Prompt
from curation.scenes.judge import ASKED, Mentioned, Reading, read_scene, score_scene
from curation.scenes.judge.reading import Finding
from curation.scenes.scene import World
from curation.scenes.studio import LOOK, SIDE, STUDIO, studio_picture

ATTRIBUTES = ASKED["dense"]


class JudgeMetric(PromptMetric):
    """`judge.share`: share of the mentioned attributes that are right; `judge.<attribute>`: of each; `judge.all_right`:
    1 where all that is mentioned is right and nothing else stands there, else 0.

    NaN for attributes that a prompt of its kind does not mention, and for prompts that describe no scene.
    """

    name = "judge"
    paper = "this project: reading by synthesis, curation/scenes/judge"
    higher_is_better = True

    @property
    def columns(self) -> tuple[str, ...]:
        return ("judge.share", *(f"judge.{attribute}" for attribute in ATTRIBUTES), "judge.all_right")

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        return np.array([_scores(*pair) for pair in zip(prompts, images, strict=True)], np.float64)


def judge_features(images: Sequence[Image.Image]) -> Floats:
    """What the judge reads of each picture as numbers, [N, 86]: one for a word that it sees, 0 else.

    Background and pattern, then for each place of the studio whether something stands there, its shape, size, colour
    and texture. An abstention is all zeros. With KID it compares how often things occur together.
    """
    return np.array([_features(_read(image), STUDIO) for image in images], np.float64)


def true_pictures(prompts: Sequence[Prompt], seed: object = "reference", side: int = SIDE) -> list[Image.Image]:
    """A true picture of each prompt's scene, RGB [side, side]; raises ValueError for a prompt that has none.

    What no prompt says (grain, a slight tilt) comes from `seed` and the prompt's place.
    """
    pictures = []
    for place, prompt in enumerate(prompts):
        if prompt.scene is None:
            raise ValueError(f"{prompt.text!r} describes no scene that is known")
        pictures.append(Image.fromarray(studio_picture(prompt.scene, (seed, place), side)))
    return pictures


def _read(image: Image.Image) -> Reading:
    return read_scene(np.asarray(image.convert("RGB")), STUDIO, LOOK)


def _scores(prompt: Prompt, image: Image.Image) -> list[float]:
    mentioned = _mentioned(prompt.kind)
    if prompt.scene is None or mentioned is None:
        return [float("nan")] * (len(ATTRIBUTES) + 2)
    score = score_scene(_read(image), prompt.scene, mentioned)
    each = [score.right[a] / score.asked[a] if a in score.asked else float("nan") for a in ATTRIBUTES]
    return [score.share, *each, float(score.all_right)]


def _mentioned(kind: str) -> Mentioned | None:
    return next((mentioned for mentioned in ASKED if mentioned == kind), None)


def _features(reading: Reading, world: World) -> list[float]:
    row = [*_one_hot(reading.background, world.backgrounds), *_one_hot(reading.pattern, world.patterns)]
    cells = {cell.position: cell for cell in reading.cells}
    for position in world.positions:
        cell = cells[position]
        row.append(float(bool(cell.present)))
        for finding, words in (
            (cell.shape, world.shapes),
            (cell.size, world.sizes),
            (cell.colour, world.colours),
            (cell.texture, world.textures),
        ):
            row += _one_hot(finding, words)
    return row


def _one_hot(finding: Finding, words: tuple[str, ...]) -> list[float]:
    return [float(finding.word == word) for word in words]
