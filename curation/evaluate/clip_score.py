"""CLIPScore (Hessel et al. 2021): how well a picture fits its prompt, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from curation.evaluate.embed import ClipEmbedder
from curation.evaluate.metric import Floats, PromptMetric
from curation.evaluate.prompts import Prompt

WEIGHT = 2.5
"""Of Hessel et al. 2021: stretches the range of cosines that occur to about 0–1."""


def clip_score(cosines: Floats) -> Floats:
    """w · max(cos, 0) with w = 2.5, for cosines of any shape.

    This is the paper's scale; papers about image generation often give 100 · cos instead, 40 times as much.
    """
    return WEIGHT * np.maximum(cosines, 0)


class ClipScore(PromptMetric):
    """CLIPScore on the paper's scale, 0 to 2.5. Prompts are taken as they are. The paper, which scores captions of
    photos, puts "A photo depicts" before them; generators are asked for more than photos."""

    name = "clip_score"
    paper = "Hessel, Holtzman, Forbes, Le Bras & Choi 2021 (CLIPScore, w = 2.5; without its prefix)"
    higher_is_better = True

    def __init__(self, clip: ClipEmbedder) -> None:
        self._clip = clip

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        return clip_score(self._clip.cosines([prompt.text for prompt in prompts], images))[:, None]
