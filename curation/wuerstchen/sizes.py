"""How large semantic latents are: told of a compressor's configuration alone, for a stream knows it before it reads.

Nothing here imports torch: the stage `encode` and the stream ask it as the compressor does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHRINK = 0.75
"""An EfficientNet sees pictures at this size."""
STRIDE = 32
"""Pixels a side of one place of an EfficientNet's last layer."""


def steps_of(config: Mapping[str, Any]) -> tuple[float, tuple[int, ...]]:
    """Of a compressor's configuration: the size at which it sees a picture, and the strides that then shrink it."""
    if config["trunk"] == "small":
        return 1.0, tuple(config["strides"])
    return SHRINK, (STRIDE,)


def semantic_size(height: int, width: int, shrink: float, strides: Sequence[int]) -> tuple[int, int]:
    """Height and width of the latents of a picture of these sides, pixels; each stride rounds up."""
    sides = [round(shrink * height), round(shrink * width)]
    for stride in strides:
        sides = [-(-side // stride) for side in sides]
    return sides[0], sides[1]
