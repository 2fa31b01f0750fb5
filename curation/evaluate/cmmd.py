"""CMMD (Jayasumana et al. 2024): Gaussian MMD between CLIP embeddings of generated and of true pictures.

The paper's embeddings are those of CLIP ViT-L/14 at 336 pixels, of length 1, which `curation.evaluate.embed` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.evaluate.metric import Embed, Floats, SetMetric
from curation.evaluate.mmd import biased_mmd2

SIGMA = 10.0
"""Width of the kernel, as in the paper."""
SCALE = 1000.0
"""The paper's, for numbers that are good to read."""


def cmmd(x: npt.ArrayLike, y: npt.ArrayLike, sigma: float = SIGMA) -> float:
    """1000 · MMD² of embeddings [N, D] and [M, D] under exp(-|x - y|² / 2σ²) (Jayasumana et al. 2024).

    Of the two estimators the biased one, as in the published code: equal sets have 0. It falls with the number of
    pictures, so compare equal numbers. Raises ValueError for other shapes, or for no rows.
    """

    def gaussian(a: Floats, b: Floats) -> Floats:
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        weights: Floats = np.exp(-squares / (2 * sigma**2))
        return weights

    return SCALE * biased_mmd2(x, y, gaussian)


class Cmmd(SetMetric):
    """CMMD of the pictures against a reference set, by the embeddings that `embed` gives."""

    name = "cmmd"
    paper = "Jayasumana, Ramalingam, Veit, Glasner, Chakrabarti & Kumar 2024 (CMMD)"
    higher_is_better = False

    def __init__(self, embed: Embed, reference: npt.ArrayLike) -> None:
        """`reference`: embeddings [M, D] of true pictures, by the same `embed`."""
        self._embed = embed
        self._reference = np.asarray(reference, np.float64)

    def features(self, images: Sequence[Image.Image]) -> npt.NDArray[np.floating]:
        return self._embed(images)

    def value(self, features: Floats) -> float:
        return cmmd(features, self._reference) if len(features) else float("nan")
