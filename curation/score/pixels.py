"""The one decode of the score stage: from the bank's bytes to a small RGB picture that feeds all its operators.

JPEGs are scaled by their decoder in the DCT domain (by eighths), which costs a fraction of a whole decode and is as
clean as a good filter; what other formats hold is averaged by whole factors after a whole decode. `curation.score.read`
calls this. The bank's images were checked in a disposable child and are held to their hash, so they are decoded here.
"""

from __future__ import annotations

import io
import struct

import simplejpeg
from PIL import Image

from curation.errors import CorruptionError

FORMATS = ("JPEG", "PNG", "WEBP")

# What damaged files make Pillow raise, beyond OSError: two decoders can disagree about what they take.
_DECODE_ERRORS = (
    *(OSError, ValueError, IndexError, TypeError, SyntaxError, RuntimeError, KeyError, struct.error, MemoryError),
    Image.DecompressionBombError,
)


def decode(data: bytes, stored_format: str, side: int) -> Image.Image:
    """The bank's image `data` ("jpg", "png", "webp") as RGB, its shorter side `side` pixels or little more.

    Never enlarged; below twice `side` it may come whole. Raises CorruptionError if it cannot be decoded.
    """
    try:
        if stored_format == "jpg":
            try:
                pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side)
                return Image.fromarray(pixels)
            except ValueError:
                pass  # simplejpeg knows no CMYK and is stricter than Pillow, which has the last word
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.draft("RGB", (side, side))
            rgb = image.convert("RGB")
    except _DECODE_ERRORS as error:
        raise CorruptionError(f"the stored image cannot be decoded: {error}") from error
    factor = min(rgb.size) // max(side, 1)
    return rgb.reduce(factor) if factor > 1 else rgb
