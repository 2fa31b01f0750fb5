"""Kernel Inception Distance (Bińkowski et al. 2018): MMD between features of generated and of true pictures.

The paper's features are Inception's; here they are what is given, so numbers compare only where the features are the
same. Without bias in expectation at any number of pictures, unlike FID, so small sets will do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.evaluate.metric import Embed, Floats, SetMetric
from curation.evaluate.mmd import unbiased_mmd2


def kid(x: npt.ArrayLike, y: npt.ArrayLike, gamma: float | None = None) -> float:
    """Unbiased MMD² of features [N, D] and [M, D] under the kernel (γ xᵀy + 1)³ (Bińkowski et al. 2018).

    γ is 1/D as in the paper, if it is not given; for features of length 1, γ = 1 weighs more than their means. Raises
    ValueError for other shapes, or for fewer than two rows.
    """

    def cubic(a: Floats, b: Floats) -> Floats:
        product: Floats = a @ b.T
        return (product * (1 / a.shape[1] if gamma is None else gamma) + 1) ** 3

    return unbiased_mmd2(x, y, cubic)


class Kid(SetMetric):
    """KID of the pictures against a reference set, by the features that `embed` gives. In MMD², not ×1000."""

    paper = "Bińkowski, Sutherland, Arbel & Gretton 2018 (KID); Gretton et al. 2012, eq. 3"
    higher_is_better = False

    def __init__(
        self, embed: Embed, reference: npt.ArrayLike, *, gamma: float | None = None, name: str = "kid"
    ) -> None:
        """`reference`: features [M, D] of true pictures, by the same `embed`; not of what the prompts say:
        the estimate takes the two sets for independent, and is too small where they are not."""
        self.name = name
        self._embed, self._gamma = embed, gamma
        self._reference = np.asarray(reference, np.float64)

    def features(self, images: Sequence[Image.Image]) -> npt.NDArray[np.floating]:
        return self._embed(images)

    def value(self, features: Floats) -> float:
        return kid(features, self._reference, self._gamma) if len(features) > 1 else float("nan")
