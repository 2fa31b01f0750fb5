"""A sample → pixels of its batch's shape and SDXL's size conditioning; the stream calls it as its `view`.

JPEGs are scaled down inside the decoder as far as the wanted size allows, the rest is one area-averaging resize; what
sticks out is cropped at the centre. Pixels and sizes are told by the header before anything is decoded. Pictures of
tars that were packed elsewhere become sRGB on white, as those that are fetched.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from curation.decoding import DECODE_ERRORS
from curation.errors import CorruptionError
from curation.image.color import flattened, with_profile
from curation.stream.corpus import MAX_PIXELS
from curation.stream.sample import Sample

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@dataclass(frozen=True)
class Picture:
    """One decoded sample."""

    pixels: NDArray[np.uint8]
    """[H, W, 3], RGB."""
    original_size: tuple[int, int]
    """(height, width) of the image before any resize, pixels (SDXL, Podell et al. 2023, §2.2)."""
    crop_top_left: tuple[int, int]
    """Rows and columns cut off, in pixels of the picture at its training size."""


@dataclass(frozen=True)
class Decoder:
    """Decodes samples to their batch's shape: the `view` of a stream for training."""

    resolution: int | None = None
    """Pictures have about this many pixels squared; None: the bucket's size."""
    upscale: bool = False
    """Enlarge what was packed smaller than that, which is left as it is otherwise. Such a picture's original size is
    the stored one: it has no more detail than that, whatever it was scaled down from."""
    multiple: int = 8
    """What both sides are a multiple of, where they are scaled."""

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(width, height) at which pictures of a bucket come."""
        width, height = shape
        if self.resolution is None or (self.resolution**2 >= width * height and not self.upscale):
            return shape
        scale = self.resolution / math.sqrt(width * height)
        sides = (max(self.multiple, round(side * scale / self.multiple) * self.multiple) for side in shape)
        return next(sides), next(sides)

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> Picture:
        """The picture at the size for `shape`; its centre, enlarged if need be. Raises CorruptionError."""
        width, height = self.size(shape)
        try:
            pixels, stored = _decoded(sample.image, (width, height))
            scale = max(width / stored[0], height / stored[1])
            covered = (max(width, round(stored[0] * scale)), max(height, round(stored[1] * scale)))
            _limit(*covered)  # a line of 60,000 x 1 pixels would be enlarged to gigabytes
            if (pixels.shape[1], pixels.shape[0]) != covered:
                method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
                pixels = np.asarray(cv2.resize(pixels, covered, interpolation=method), np.uint8)
        except _ERRORS as error:
            raise CorruptionError(f"the image of sample {sample.key} cannot be decoded: {error}") from error
        top, left = (covered[1] - height) // 2, (covered[0] - width) // 2
        facts = sample.facts
        original = (_number(facts, "original_height", stored[1]), _number(facts, "original_width", stored[0]))
        if self.upscale and scale > 1:
            original = (min(original[0], stored[1]), min(original[1], stored[0]))
        return Picture(
            pixels[top : top + height, left : left + width],
            original,
            (round(_number(facts, "crop_top", 0) * scale) + top, round(_number(facts, "crop_left", 0) * scale) + left),
        )


def _number(facts: dict[str, Any], name: str, otherwise: int) -> int:
    """A whole number of a sample's JSON, which may be anybody's."""
    found = facts.get(name)
    return found if isinstance(found, int) and 0 <= found < 2**31 else otherwise


_ERRORS = (*DECODE_ERRORS, cv2.error, ImageCms.PyCMSError)


def _decoded(data: memoryview, size: tuple[int, int]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """RGB pixels, no smaller than `size` needs where the decoder could scale; and the stored (width, height)."""
    if bytes(data[:3]) == b"\xff\xd8\xff":
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        _limit(width, height)
        if space not in ("CMYK", "YCCK") and b"Exif\0" not in bytes(data[:4096]):  # our own shards hold neither
            scale = max(size[0] / width, size[1] / height)
            least = (math.ceil(height * scale), math.ceil(width * scale)) if scale < 1 else (0, 0)
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1])
            return with_profile(pixels, _profile(data)), (width, height)
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _limit(*image.size)
        turned = ImageOps.exif_transpose(image)
        flat = flattened(turned, image.info.get("icc_profile"))
        return flat if flat.ndim == 3 else np.asarray(cv2.cvtColor(flat, cv2.COLOR_GRAY2RGB), np.uint8), turned.size


def _profile(jpeg: memoryview) -> bytes | None:
    """The colour profile of a JPEG; our own shards have none."""
    if b"ICC_PROFILE\0" not in bytes(jpeg[:65536]):
        return None
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        found: bytes | None = image.info.get("icc_profile")
        return found


def _limit(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are over the limit of {MAX_PIXELS:,}")
