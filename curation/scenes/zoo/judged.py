"""What the judge says of pictures of the studio that models made; `vae` and `teacher` write it into their cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from curation.scenes.judge.read import read_scene
from curation.scenes.judge.score import Mentioned, score_scene
from curation.scenes.scene import Scene
from curation.scenes.studio import LOOK, STUDIO


def judged(images: Iterable[NDArray[np.uint8]], scenes: Sequence[Scene], mentioned: Mentioned) -> dict[str, float]:
    """Share that is right of each attribute that a prompt of this kind mentions, and of scenes all right.

    `images` are uint8 [H, W, 3], one a scene of the studio.
    """
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    whole = 0
    for image, scene in zip(images, scenes, strict=True):
        score = score_scene(read_scene(image, STUDIO, LOOK), scene, mentioned)
        right.update(score.right)
        asked.update(score.asked)
        whole += score.all_right
    return {name: right[name] / asked[name] for name in asked} | {"all right": whole / len(scenes)}
