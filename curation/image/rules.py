"""The rules that a picture's format and size must pass; asked twice, of the header and of the decoded picture.

Called by `curation.image.probe` with a stage's settings, and in the decoder child with its `Limits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

MAX_SIDE = 1_000_000
"""Pixels. Longer pictures exist on paper only: libpng, which most readers use, refuses them."""

FaultName = Literal[
    "not_an_image",
    "format_not_allowed",
    "too_small",
    "too_many_pixels",
    "aspect_too_extreme",
    "truncated_image",
    "damaged_image",
]
"""Values of `curation.row.Reason`, spelled out because the child must not import it (and pyarrow with it)."""


class Fault(Exception):
    """Why an image is not kept: becomes the verdict of its row."""

    def __init__(self, reason: FaultName, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: FaultName = reason
        self.detail = detail


class Rules(Protocol):
    """What `curation.config.FetchSettings` and `Limits` have in common."""

    @property
    def formats(self) -> Sequence[str]: ...
    @property
    def min_side(self) -> int: ...
    @property
    def max_aspect(self) -> float | None: ...
    @property
    def max_pixels(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder child is told when it starts."""

    formats: tuple[str, ...]
    min_side: int
    """Pixels."""
    max_aspect: float | None
    max_pixels: int
    cpu_s: float
    """CPU seconds for one image."""
    memory: int
    """Bytes of address space."""


def broken_rule(rules: Rules, format: str, width: int, height: int) -> tuple[FaultName, str] | None:
    """The first rule that a picture of `width` x `height` pixels breaks, and why; None where it passes all."""
    if format not in rules.formats:
        return "format_not_allowed", format
    short, long = (width, height) if width < height else (height, width)
    if short <= 0:
        return "damaged_image", f"{format} of {width}x{height} pixels"
    if long > MAX_SIDE:
        return "too_many_pixels", f"{width}x{height} pixels, no side may have over {MAX_SIDE}"
    if width * height > rules.max_pixels:
        return "too_many_pixels", f"{width}x{height} pixels, at most {rules.max_pixels} are allowed"
    if short < rules.min_side:
        return "too_small", f"{width}x{height} pixels, the shorter side must have {rules.min_side}"
    if rules.max_aspect is not None and long > rules.max_aspect * short:
        return "aspect_too_extreme", f"{width}x{height} pixels, at most {rules.max_aspect:g}:1 is allowed"
    return None
