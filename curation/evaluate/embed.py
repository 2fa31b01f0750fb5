"""CLIP's embeddings for metrics, by the operator that scores corpora; several metrics of one evaluation share one.

`clip_score`, `preference`, `cmmd`, `kid` and `nearest` take a `ClipEmbedder`; the ablations make it, once for all arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.evaluate.metric import Embed, Floats
from curation.score.clip import Clip

Float32 = npt.NDArray[np.float32]


class ClipEmbedder:
    """Embeddings of length 1. It remembers those of the last pictures, for which several metrics ask in turn."""

    def __init__(self, clip: Clip) -> None:
        """`clip` is set up already."""
        self._clip = clip
        self._last: tuple[Sequence[Image.Image], Float32] | None = None

    def __call__(self, images: Sequence[Image.Image]) -> Float32:
        """[N, D] of RGB pictures. The list that it is given must not change afterwards."""
        if self._last is None or self._last[0] is not images:
            self._last = images, self._clip.embed_images(images)
        return self._last[1]

    def cosines(self, texts: Sequence[str], images: Sequence[Image.Image]) -> Floats:
        """Of each text and its picture, [N]. Texts beyond the model's limit (77 tokens) count by their beginning."""
        found: Floats = (self(images).astype(np.float64) * self._clip.embed_texts(texts)).sum(axis=1)
        return found

    @property
    def logit_scale(self) -> float:
        """What the model multiplies cosines with, e to the power of the number that it has learned."""
        return float(self._clip.model.logit_scale.detach().exp())


def embed_all(embed: Embed, images: Iterable[Image.Image], batch: int = 64) -> npt.NDArray[np.floating]:
    """Features [N, D] of many pictures, `batch` at a time: a reference set, or a training set. Raises ValueError for
    no pictures."""
    parts: list[npt.NDArray[np.floating]] = []
    waiting: list[Image.Image] = []
    for image in images:
        waiting.append(image.convert("RGB"))
        if len(waiting) == batch:
            parts.append(embed(waiting))
            waiting = []
    if waiting:
        parts.append(embed(waiting))
    return np.concatenate(parts)
