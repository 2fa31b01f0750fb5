"""From the bank's bytes to a shard's: one decode, one resize with an antialiasing filter, one encode.

The same bytes and frame give the same result on the same library versions: single-threaded, no state. `sample.py`
calls `encode_image`; `docs` and tests lean on the pieces.

The fast filter. At a scale s = source pixels per target pixel that is no whole number, `cv2.INTER_AREA` is scalar code:
10 ms for 1600x1200 → 1024x768, twice the decode. Here the image is smoothed by [a, 1-2a, a] with a = (s-1)/4, then
sampled by OpenCV's bicubic, both of which are vectorised (4 ms). The smoothing grows from nothing at s = 1 to the
binomial filter at s = 2, which is zero at the Nyquist frequency, and ends with three equal taps. Measured against
Lanczos on sharp photos that is as near as INTER_AREA or nearer (s = 1.25: 51 dB against 47; s = 2: 47 against 46), and
less is folded back from beyond the target's Nyquist frequency from s = 1.5 on. From s = 2.5 on the image is first
halved, by the JPEG decoder in the DCT domain or by 2x2 means: half the time, 1 to 2 dB. `tests/pack/test_encode.py`
holds all this.
"""

from __future__ import annotations

import io
import math

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from curation.config import PackSettings
from curation.decoding import DECODE_ERRORS
from curation.errors import CorruptionError
from curation.pack.frame import Frame

Pixels = npt.NDArray[np.uint8]
"""[H, W, 3], RGB."""

BICUBIC_GAP = 1.25
"""The image is halved only as long as it stays this many times as large as its target …"""
LANCZOS_GAP = 2.0
"""… so that the halving leaves no trace, where quality was asked for (Pillow's `reducing_gap` says the same)."""
PNG_LEVEL = 4
"""zlib level of PNGs: 6, the default, takes twice the time for 2 % fewer bytes."""
WEBP_METHOD = 4


def use_one_thread() -> None:
    """For this process: one thread (the pool has a worker a core), and no limit on pixels (fetch has counted them)."""
    cv2.setNumThreads(1)
    Image.MAX_IMAGE_PIXELS = None


def encode_image(data: bytes, stored_format: str, frame: Frame, settings: PackSettings) -> bytes:
    """The bank's image `data` ("jpg", "png", "webp") as it goes into a shard.

    Raises CorruptionError if it cannot be decoded, or has not the size that its row says.
    """
    gap = LANCZOS_GAP if settings.filter == "lanczos" else BICUBIC_GAP
    halvings = max(0, math.floor(math.log2(1 / (gap * max(frame.scale_x, frame.scale_y)))))
    try:
        pixels, halved = _decode(data, stored_format, frame, min(halvings, 3))
    except DECODE_ERRORS as error:
        raise CorruptionError(f"the stored image cannot be decoded: {error}") from error
    if settings.filter == "lanczos":
        content = _lanczos(pixels, halved, frame)
    else:
        content = _bicubic(pixels, halved, halvings, frame)
    return _encode(_pad(content, frame), settings)


def _decode(data: bytes, stored_format: str, frame: Frame, halvings: int) -> tuple[Pixels, int]:
    """Pixels, each side halved as often as said (rounding up), where the format allows; and how often that was."""
    width, height = frame.original
    if stored_format == "jpg":
        part = 1 << halvings
        shape = (-(-height // part), -(-width // part), 3)
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=shape[0], min_width=shape[1])
            if pixels.shape == shape:
                return pixels, halvings
        except ValueError:
            pass  # simplejpeg knows no CMYK and is stricter than Pillow, which has the last word
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
        if image.size != (width, height):
            raise CorruptionError(f"the stored image has {image.size} pixels, not {(width, height)} as its row says")
        return np.array(image.convert("RGB")), 0


def _bicubic(pixels: Pixels, halved: int, halvings: int, frame: Frame) -> Pixels:
    for _ in range(halvings - halved):
        pixels = _halve(pixels)
    scale_x, scale_y = frame.scale_x * 2**halvings, frame.scale_y * 2**halvings
    if scale_x != 1 or scale_y != 1:
        pixels = _smooth(pixels, 1 / scale_x, 1 / scale_y)
        # `fx` and `fy` keep the scale exact where a halved side was odd; the size that they give is rounded.
        pixels = cv2.resize(pixels, None, fx=scale_x, fy=scale_y, interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]
    (left, top), (width, height) = (frame.crop_left, frame.crop_top), frame.content
    missing = max(0, left + width - pixels.shape[1]), max(0, top + height - pixels.shape[0])
    if any(missing):  # by one pixel, where that rounding and the frame's fall apart
        pixels = cv2.copyMakeBorder(pixels, 0, missing[1], 0, missing[0], cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return pixels[top : top + height, left : left + width]


def _halve(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _smooth(pixels: Pixels, step_x: float, step_y: float) -> Pixels:
    """`pixels` under [a, 1-2a, a], a = (step - 1) / 4 up to 0.33; `step`: source pixels a target pixel."""
    (size_x, sigma_x), (size_y, sigma_y) = _gaussian(step_x), _gaussian(step_y)
    if size_x == size_y == 1:
        return pixels
    return cv2.GaussianBlur(  # type: ignore[return-value]
        pixels, (size_x, size_y), sigmaX=sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REPLICATE
    )


def _gaussian(step: float) -> tuple[int, float]:
    """Length and sigma that make OpenCV's Gaussian the three taps wanted: a / (1-2a) = exp(-1 / (2 sigma²))."""
    a = min((step - 1) / 4, 0.33)
    if a < 1 / 512:  # under half a step of the 8-bit kernel
        return 1, 0.0
    return 3, math.sqrt(-0.5 / math.log(a / (1 - 2 * a)))


def _lanczos(pixels: Pixels, halved: int, frame: Frame) -> Pixels:
    scale_x, scale_y = frame.scale_x * 2**halved, frame.scale_y * 2**halved
    (left, top), (width, height) = (frame.crop_left, frame.crop_top), frame.content
    box = (
        left / scale_x,
        top / scale_y,
        min(pixels.shape[1], (left + width) / scale_x),
        min(pixels.shape[0], (top + height) / scale_y),
    )
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, box))


def _pad(content: Pixels, frame: Frame) -> Pixels:
    if frame.content == frame.size:
        return np.ascontiguousarray(content)
    width, height = frame.size
    page = np.full((height, width, 3), 255, np.uint8)
    page[frame.pad_top : height - frame.pad_bottom, frame.pad_left : width - frame.pad_right] = content
    return page


def _encode(pixels: Pixels, settings: PackSettings) -> bytes:
    if settings.format == "jpg":
        return bytes(simplejpeg.encode_jpeg(pixels, settings.quality, "RGB", "420"))
    out = io.BytesIO()
    if settings.format == "png":
        Image.fromarray(pixels).save(out, "PNG", compress_level=PNG_LEVEL)
    else:
        lossless = settings.quality == 100
        Image.fromarray(pixels).save(
            out, "WEBP", quality=settings.quality, lossless=lossless, exact=lossless, method=WEBP_METHOD
        )
    return out.getvalue()
