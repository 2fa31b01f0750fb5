"""Aspect buckets: the few image sizes that a corpus is resized to, and which of them an image gets.

`layout.py` asks here for whole columns of images at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.config import PackSettings

Size = tuple[int, int]
"""Width and height in pixels."""

# (height, width) for a resolution of 1024: Podell et al. 2023 (SDXL), appendix I, all 40 as printed. The table is not
# symmetric: 704x1344 stands in it, 1344x704 does not.
_SDXL = (
    *((512, 2048), (512, 1984), (512, 1920), (512, 1856), (576, 1792), (576, 1728), (576, 1664), (640, 1600)),
    *((640, 1536), (704, 1472), (704, 1408), (704, 1344), (768, 1344), (768, 1280), (832, 1216), (832, 1152)),
    *((896, 1152), (896, 1088), (960, 1088), (960, 1024), (1024, 1024), (1024, 960), (1088, 960), (1088, 896)),
    *((1152, 896), (1152, 832), (1216, 832), (1280, 768), (1344, 768), (1408, 704), (1472, 704), (1536, 640)),
    *((1600, 640), (1664, 576), (1728, 576), (1792, 576), (1856, 512), (1920, 512), (1984, 512), (2048, 512)),
)


def sdxl_sizes(resolution: int) -> list[Size]:
    """SDXL's buckets scaled to `resolution`.

    Sides are rounded to multiples of 64 from a resolution of 1024 on, as in the table, and below it to the power of two
    that is at most `resolution` / 16 (32 for 512, 16 for 256), but never under 8: an autoencoder's factor.
    """
    step = min(64, max(8, 1 << (max(resolution // 16, 1).bit_length() - 1)))

    def scaled(side: int) -> int:
        return max(step, int(side * resolution / 1024 / step + 0.5) * step)

    return [(scaled(width), scaled(height)) for height, width in _SDXL]


class Buckets:
    """A list of sizes. Of several with the same aspect only the largest counts."""

    def __init__(self, sizes: list[Size]) -> None:
        by_aspect: dict[float, Size] = {}
        for width, height in sorted(sizes):
            by_aspect[width / height] = (width, height)
        self.sizes: list[Size] = [by_aspect[aspect] for aspect in sorted(by_aspect)]
        aspects = np.array(sorted(by_aspect))
        # Halfway in log aspect is the geometric mean. A product and a root round alike on all machines; a log may not.
        self._borders = np.sqrt(aspects[:-1] * aspects[1:])

    def nearest(self, widths: npt.NDArray[np.int64], heights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Index into `sizes` of the bucket nearest in log aspect, for images [N]; int64 [N]."""
        return np.searchsorted(self._borders, widths / heights).astype(np.int64)


def least_side(settings: PackSettings) -> int:
    """Pixels that the shorter side of an image must have at least, or it fits no bucket; 0 where any will do."""
    if settings.buckets == "none" or settings.upscale or settings.fit == "pad":
        return 0
    return min(min(size) for size in Buckets(_sizes(settings)).sizes)


def _sizes(settings: PackSettings) -> list[Size]:
    if settings.buckets == "auto":
        return sdxl_sizes(settings.resolution)
    return [tuple(size) for size in settings.buckets]  # type: ignore[misc]


@dataclass(frozen=True)
class Targets:
    """What images [N] become: sizes in pixels (int64 [N]), and whether one is too small for that (bool [N])."""

    widths: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int64]
    too_small: npt.NDArray[np.bool_]

    def names(self) -> list[str]:
        """ "WIDTHxHEIGHT" for each image."""
        return [f"{w}x{h}" for w, h in zip(self.widths.tolist(), self.heights.tolist(), strict=True)]


def targets(widths: npt.NDArray[np.int64], heights: npt.NDArray[np.int64], settings: PackSettings) -> Targets:
    """The size that each image of `widths` and `heights` (int64 [N], pixels) gets under `settings`.

    With `fit: crop` an image must cover its bucket, with `fit: pad` reach it on one side, unless `upscale`.
    """
    if settings.buckets == "none":
        scale = settings.resolution / np.maximum(widths, heights)
        if not settings.upscale:
            scale = np.minimum(scale, 1.0)
        new_widths, new_heights = (
            np.maximum(1, np.floor(sides * scale + 0.5)).astype(np.int64) for sides in (widths, heights)
        )
        return Targets(new_widths, new_heights, np.zeros(len(widths), bool))
    buckets = Buckets(_sizes(settings))
    sizes = np.array(buckets.sizes, np.int64).reshape(-1, 2)[buckets.nearest(widths, heights)]
    new_widths, new_heights = sizes[:, 0], sizes[:, 1]
    narrow, low = widths < new_widths, heights < new_heights
    too_small = narrow | low if settings.fit == "crop" else narrow & low
    return Targets(new_widths, new_heights, np.zeros(len(widths), bool) if settings.upscale else too_small)


def parse_size(name: str) -> Size:
    """(1152, 896) for "1152x896"."""
    width, _, height = name.partition("x")
    return int(width), int(height)
