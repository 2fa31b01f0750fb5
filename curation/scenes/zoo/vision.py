"""What the vision models of the zoo share: an image processor that cuts nothing off, and the proportions of a layer."""

from __future__ import annotations

from typing import Any

from transformers import CLIPImageProcessorPil


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
