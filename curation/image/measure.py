"""Numbers about a decoded picture: perceptual hash, sharpness, and a name for its pixels.

Called by `curation.image.check` in the decoder child, on the one decode that the check makes anyway.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.image.color import Pixels

SHORT_SIDE = 512
"""Pixels. Sharpness and hash are measured on the picture reduced to this shorter side."""

_FLAT = 2.0
"""Standard deviation of luma (of 255) under which a picture has no structure to hash."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What the columns of the same names hold."""

    pixel_sha256: str
    phash: int | None
    sharpness: float


def measure(pixels: Pixels, width: int, height: int) -> Measures:
    """Measures of the working decode `pixels` of a picture of `width` x `height` true pixels."""
    luma = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    luma = at_measuring_size(luma)
    return Measures(pixel_sha256(pixels, width, height), phash(luma), sharpness(luma))


def reduction(width: int, height: int) -> int:
    """The power of two, up to 8, by which a picture may be reduced with its shorter side still `SHORT_SIDE`."""
    short = min(width, height)
    return next((f for f in (8, 4, 2) if short >= f * SHORT_SIDE), 1)


def at_measuring_size(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W] luma with a shorter side of 512 pixels; smaller pictures as they are.

    First by a power of two (a box, as JPEG's scaled decode does it), then bilinear by less than 2: half the cost of a
    box filter for any ratio, which the budget of the check does not hold. The longer side becomes a multiple of 16,
    so that `phash` reduces on whole blocks.
    """
    height, width = luma.shape
    if (factor := reduction(width, height)) > 1:
        height, width = height // factor, width // factor
        whole = luma[: height * factor, : width * factor]
        luma = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    short = min(height, width)
    if short < SHORT_SIDE:
        return luma
    long = round(max(height, width) * SHORT_SIDE / short / 16) * 16
    size = (SHORT_SIDE, long) if width < height else (long, SHORT_SIDE)
    if size == (width, height):
        return luma
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000, eq. 6, with the 4-neighbour kernel): high is sharp."""
    _, deviation = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def phash(luma: NDArray[np.uint8]) -> int | None:
    """64-bit DCT hash (Zauner 2010, §3.2.1); None where there is no structure.

    Of a 32x32 reduction, the 8x8 lowest frequencies without the constant ones, a bit each: over the median or not.
    """
    height, width = luma.shape
    if min(height, width) == SHORT_SIDE and not max(height, width) % 16:
        luma = np.asarray(cv2.resize(luma, (width // 16, height // 16), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(luma.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    if float(small.std()) < _FLAT:
        return None
    low = cv2.dct(small)[1:9, 1:9].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def pixel_sha256(pixels: Pixels, width: int, height: int) -> str:
    """SHA-256 over true size and RGB values of the working decode: equal for the same picture with other metadata.

    The working decode of an upright JPEG in sRGB is reduced while it is decoded (see `reduction`), that of all others
    is the full picture; so a JPEG and a PNG made from it do not agree. A reduced one is halved once more by a box,
    which saves a tenth of the whole check: pictures agree although they differ where no 4x4 block (or larger) sees it.
    """
    rgb = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    high, wide = rgb.shape[:2]
    if (high, wide) != (height, width):
        whole = rgb[: high // 2 * 2, : wide // 2 * 2]
        rgb = cv2.resize(whole, (wide // 2, high // 2), interpolation=cv2.INTER_AREA)
    name = hashlib.sha256(f"{width}x{height}\n".encode())
    name.update(np.ascontiguousarray(rgb).data)
    return name.hexdigest()
