"""What the vision models of the zoo share: an image processor that cuts nothing off, the proportions of a layer, and
patch embeddings that see fine detail from the start."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from curation.scenes.zoo.shots import shot

SAMPLE = 160
"""Pictures from which a patch embedding begins."""
FLOOR = 0.02
"""Added to the variance of each component: what is weaker than that is noise."""


def image_processor(side: int) -> CLIPImageProcessorPil:
    """Squeezes the whole picture to `side` × `side`, whatever its aspect: a crop would cut off objects at the sides."""
    square = {"height": side, "width": side}
    return CLIPImageProcessorPil(
        size=square, crop_size=square, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def layers(width: int, depth: int) -> dict[str, Any]:
    """Settings of a CLIP transformer; heads of 32, an MLP four times as wide."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": depth,
        "num_attention_heads": width // 32,
    }


def whiten(convolution: nn.Conv2d, positions: Tensor, side: int) -> None:
    """Let an untrained patch embedding begin as the strongest components of the world's patches, each of unit variance
    (whitening, as in Jordan 2024, arXiv 2404.00498, §3.2).

    `positions` [..., 1 + patches, width] come after the class token's; `side` is that of the pictures in pixels. A
    texture's share of a patch's variance is about 5 %: from random weights, a tower takes far longer to find it.
    """
    size, width = convolution.kernel_size[0], convolution.out_channels
    patches = _patches(np.stack([shot(("whiten", i)).look(side) for i in range(SAMPLE)]), size)
    mean = patches.mean(axis=0)
    variance, components = np.linalg.eigh(np.cov((patches - mean).T))
    strongest = components[:, ::-1][:, :width] / np.sqrt(variance[::-1][:width] + FLOOR)
    filters = strongest.T.reshape(width, size, size, 3).transpose(0, 3, 1, 2)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor(filters, dtype=torch.float32))
        # CLIP's convolution has no bias, so the mean patch is taken off with the positions
        positions[..., 1:, :] -= torch.tensor(mean @ strongest, dtype=torch.float32)


def whiten_clip(tower: CLIPVisionModel) -> None:
    """`whiten` for CLIP's vision tower."""
    embeddings = tower.embeddings
    whiten(embeddings.patch_embedding, embeddings.position_embedding.weight, tower.config.image_size)


def _patches(images: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """[N, size · size · 3] in [-1, 1] from uint8 [B, H, W, 3]."""
    batch, per_side = len(images), images.shape[1] // size
    cut = images.reshape(batch, per_side, size, per_side, size, 3).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(batch * per_side**2, -1) / 127.5 - 1
