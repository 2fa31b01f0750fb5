"""Memorisation: how far each generated picture is from the nearest one that the model was trained on.

A model that copies its training set is near it however good its scores are; a small training set invites that. Compare
with what true held-out pictures have: noise is far from everything too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.evaluate.metric import Embed, Floats, PromptMetric
from curation.evaluate.prompts import Prompt

BLOCK = 4096
"""Training pictures that are compared with at once."""


def nearest_distance(x: npt.ArrayLike, training: npt.ArrayLike) -> Floats:
    """Euclidean distance of each of x [N, D] to the nearest of `training` [M, D]: [N]. Raises ValueError for no M."""
    one, all_others = np.asarray(x, np.float64), np.asarray(training)
    if not len(all_others):
        raise ValueError("there are no training pictures")
    least = np.full(len(one), np.inf)
    for start in range(0, len(all_others), BLOCK):
        other = all_others[start : start + BLOCK].astype(np.float64)
        squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
        least = np.minimum(least, squares.min(axis=1))
    distances: Floats = np.sqrt(np.maximum(least, 0))
    return distances


class Nearest(PromptMetric):
    """Distance to the nearest training picture, by the features that `embed` gives. More is less of a copy; it is also
    what fewer training pictures give."""

    name = "nearest_training"
    paper = "Somepalli et al. 2023 (nearest training image in a feature space); Carlini et al. 2023"
    higher_is_better = None

    def __init__(self, embed: Embed, training: npt.ArrayLike) -> None:
        """`training`: features [M, D] of the pictures that this model was trained on, by the same `embed`."""
        self._embed = embed
        self._training = np.asarray(training)

    def scores(self, prompts: Sequence[Prompt], images: Sequence[Image.Image]) -> Floats:
        return nearest_distance(self._embed(images), self._training)[:, None]
