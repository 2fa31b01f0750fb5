"""The one decode of the score stage: from the bank's bytes to a small RGB picture that feeds all its operators.

JPEGs are scaled by their decoder in the DCT domain (to a half, a quarter or an eighth), which costs a fraction of a
whole decode; other formats are decoded whole and resized. After CLIP's own resize to 224 pixels, either is 43 to 58 dB
from a whole decode for photos of 5 to 24 megapixels. `curation.score.read` calls this. The bank's images were checked
in a disposable child and are held to their hash, so they are decoded here.
"""

from __future__ import annotations

import io

import simplejpeg
from PIL import Image

from curation.decoding import DECODE_ERRORS
from curation.errors import CorruptionError

GAP = 2.0
"""Smaller reductions are left to the models' own filters; means of blocks go no further than this from the target."""
FORMATS = ("JPEG", "PNG", "WEBP")


def decode(data: bytes, stored_format: str, side: int) -> Image.Image:
    """The bank's image `data` ("jpg", "png", "webp") as RGB, its shorter side at least `side` pixels.

    Never enlarged, and less than twice as large as asked. Raises CorruptionError if it cannot be decoded.
    """
    try:
        rgb = _jpeg(data, side) if stored_format == "jpg" else None
        rgb = rgb or _any(data, side)
    except DECODE_ERRORS as error:
        raise CorruptionError(f"the stored image cannot be decoded: {error}") from error
    scale = side / min(rgb.size)
    if scale > 1 / GAP:
        return rgb
    size = (round(rgb.width * scale), round(rgb.height * scale))
    return rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=GAP)


def _jpeg(data: bytes, side: int) -> Image.Image | None:
    try:
        return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side))
    except ValueError:
        return None  # simplejpeg knows no CMYK and is stricter than Pillow, which has the last word


def _any(data: bytes, side: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.draft("RGB", (side, side))
        return image.convert("RGB")
