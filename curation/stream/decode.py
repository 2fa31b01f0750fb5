"""Batches of samples → pixels of one shape, captions and SDXL's size conditioning.

JPEGs are scaled down inside the decoder as far as the wanted size allows, the rest is one area-averaging resize; what
sticks out is cropped at the centre. Pixels and sizes are told by the header before anything is decoded.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from curation.errors import CorruptionError
from curation.stream.sample import Sample
from curation.stream.stream import Batch

MAX_PIXELS = 100_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@dataclass(frozen=True)
class DecodedBatch:
    """A batch as a trainer wants it, in NumPy."""

    keys: list[str]
    pixels: NDArray[np.uint8]
    """[B, H, W, 3], RGB."""
    captions: list[str]
    original_sizes: NDArray[np.int64]
    """[B, 2]: height and width of the image before any resize, pixels (SDXL, Podell et al. 2023, §2.2)."""
    crop_top_lefts: NDArray[np.int64]
    """[B, 2]: rows and columns cut off, in pixels of the picture at its training size."""
    epoch: int
    step: int
    damaged: list[str]


def target_size(shape: tuple[int, int], resolution: int | None, multiple: int = 8) -> tuple[int, int]:
    """(width, height) of a bucket at `resolution` (about that many pixels squared, never more than it has)."""
    width, height = shape
    if resolution is None or resolution**2 >= width * height:
        return shape
    scale = resolution / math.sqrt(width * height)
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (width, height))  # type: ignore[return-value]


def decode_batch(batch: Batch, resolution: int | None = None) -> DecodedBatch:
    """All samples of `batch`, decoded. Raises CorruptionError where an image cannot be."""
    size = target_size(batch.shape, resolution)
    pixels = np.empty((len(batch.samples), size[1], size[0], 3), np.uint8)
    originals, crops = np.empty((len(pixels), 2), np.int64), np.empty((len(pixels), 2), np.int64)
    for i, sample in enumerate(batch.samples):
        picture, scale, crop = decode_image(sample, size)
        pixels[i] = picture
        facts = sample.facts
        whole = (round(picture.shape[0] / scale), round(picture.shape[1] / scale))
        originals[i] = (facts.get("original_height", whole[0]), facts.get("original_width", whole[1]))
        packed = (facts.get("crop_top", 0), facts.get("crop_left", 0))
        crops[i] = [round(p * scale) + c for p, c in zip(packed, crop, strict=True)]
    keys = [sample.key for sample in batch.samples]
    return DecodedBatch(keys, pixels, batch.captions, originals, crops, batch.epoch, batch.step, batch.damaged)


def decode_image(sample: Sample, size: tuple[int, int]) -> tuple[NDArray[np.uint8], float, tuple[int, int]]:
    """(uint8 RGB [H, W, 3] of `size` = (W, H), scale from the stored image, (top, left) cut off at that scale).

    The image covers the size, its centre is kept; smaller ones are enlarged. Raises CorruptionError.
    """
    data = sample.image
    width, height = size
    try:
        pixels, whole = _decoded(data, size)
    except _ERRORS as error:
        raise CorruptionError(f"the image of sample {sample.key} cannot be decoded: {error}") from error
    scale = max(width / whole[0], height / whole[1])
    covered = (max(width, round(whole[0] * scale)), max(height, round(whole[1] * scale)))
    if (pixels.shape[1], pixels.shape[0]) != covered:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        pixels = np.asarray(cv2.resize(pixels, covered, interpolation=method), np.uint8)
    top, left = (covered[1] - height) // 2, (covered[0] - width) // 2
    return pixels[top : top + height, left : left + width], scale, (top, left)


_ERRORS = (
    OSError,
    ValueError,
    IndexError,
    TypeError,
    SyntaxError,
    RuntimeError,
    KeyError,
    Image.DecompressionBombError,
)
"""What damaged files make decoders raise."""


def _decoded(data: bytes, size: tuple[int, int]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """RGB pixels, no smaller than `size` needs where the decoder could scale; and the stored (width, height)."""
    if data[:3] == b"\xff\xd8\xff":
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        _limit(width, height)
        if space not in ("CMYK", "YCCK"):
            scale = max(size[0] / width, size[1] / height)
            least = (math.ceil(height * scale), math.ceil(width * scale)) if scale < 1 else (0, 0)
            return simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1]), (width, height)
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _limit(*image.size)
        return np.asarray(image.convert("RGB")), image.size


def _limit(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are over the limit of {MAX_PIXELS:,}")
