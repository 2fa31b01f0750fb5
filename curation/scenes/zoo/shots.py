"""Pictures of the whole world as scorers and captioners get them; `clip`, `aesthetic`, `classifiers` and `captioner`
train on them and are measured on them.

Two ways to the same pixels. `file` is a picture as the web serves it, a thousand pixels and more a side, for `measured`
quality: it goes through the decoder of the score stage. `look` draws the scene at the size at which that decoder hands
it to a model's image processor, which costs a twentieth, for training. Scenes are divided by `studio.is_held_out`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from curation.scenes.dice import Dice
from curation.scenes.exhibits import ASPECTS
from curation.scenes.pictures import CLEAN, Effect, draw
from curation.scenes.scene import Scene, random_scene
from curation.scenes.studio import is_held_out
from curation.score.pixels import decode

EFFECTS: dict[Effect, float] = {"none": 0.8, "blurred": 0.1, "watermarked": 0.1}
"""In what fetch keeps of the gallery, blurred and watermarked pictures are about one in seventeen each."""
SIDES = {1024: 0.4, 1050: 0.2, 1080: 0.25, 1200: 0.12, 1440: 0.03}
"""Shorter side, pixels; as in the gallery."""
LOOKS = (224, 320)
"""Shorter sides at which `look` draws, pixels: what scaled decoding gives for models of 113 to 224 pixels."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of the web's."""

    scene: Scene
    seed: str
    width: int
    height: int
    effect: Effect = "none"
    quality: int = 90
    """Of the JPEG."""

    def file(self) -> bytes:
        """The JPEG that the web serves."""
        pixels = draw(self.scene, self.width, self.height, seed=self.seed, effect=self.effect)
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), self.quality, "RGB", "420"))

    def decoded(self, side: int) -> Image.Image:
        """What the score stage decodes from `file` for a model of `side` pixels."""
        return decode(self.file(), "jpg", side)

    def look(self, side: int, short: int | None = None) -> NDArray[np.uint8]:
        """uint8 [side, side, 3]: drawn with a shorter side of `short` pixels, squeezed as image processors do it."""
        dice = Dice("look", self.seed)
        scale = (short or dice.whole(*LOOKS)) / min(self.width, self.height)
        size = round(self.width * scale), round(self.height * scale)
        thumbnail = (self.width // 12, self.height // 12)
        pixels = draw(self.scene, *size, seed=self.seed, effect=self.effect, look=CLEAN, thumbnail=thumbnail)
        if dice.chance(0.3):  # finer than on the web, whose pictures are scaled down behind their JPEG
            pixels = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, self.quality, "RGB", "420"), "RGB")
        return squeezed(Image.fromarray(pixels), side)


def squeezed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """uint8 [side, side, 3]: the whole picture, its aspect given up, as the models' image processors do it."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def shot(index: object, held_out: bool = False, effect: Effect | None = None) -> Shot:
    """Picture `index` of the one side of the division or the other: the same on every machine."""
    dice = Dice("shot", index, held_out)
    while True:
        seed = f"shot-{dice.whole(0, 2**52)}"
        scene = random_scene(seed)
        if is_held_out(scene) == held_out:
            break
    wide, tall = dice.weighted(ASPECTS)
    side = dice.weighted(SIDES)
    drawn = dice.weighted(EFFECTS)
    return Shot(
        scene=scene,
        seed=seed,
        width=side * wide // min(wide, tall),
        height=side * tall // min(wide, tall),
        effect=effect or drawn,
        quality=dice.whole(75, 95),
    )
