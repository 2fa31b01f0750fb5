"""Stored image bytes → a small JPEG for the report, or None. Never hands on the stored bytes themselves."""

from __future__ import annotations

import io
import logging

from PIL import Image, ImageOps

from curation.report.facts import Thumbnail

log = logging.getLogger(__name__)

SIDE = 256
"""Longer side of a thumbnail, pixels."""
MAX_BYTES = 16_000
"""A report shows up to a hundred thumbnails and should stay near 3 MB."""
MAX_PIXELS = 100_000_000
FORMATS = ("JPEG", "PNG", "WEBP")


def thumbnail(data: bytes) -> Thumbnail | None:
    """A JPEG of at most 256 pixels a side and 16 kB, white behind alpha; None for bytes that cannot be shown."""
    try:
        return _shrink(data)
    # The image check has passed these bytes once; should they be damaged since, decoders raise nearly anything
    # (ValueError, SyntaxError, struct.error, …), and one tile of a report is no reason to have no report.
    except Exception as error:
        log.warning("a stored image cannot be shown: %s: %s", type(error).__name__, error)
        return None


def _shrink(data: bytes) -> Thumbnail | None:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            return None
        opened.draft("RGB", (SIDE, SIDE))
        picture: Image.Image = ImageOps.exif_transpose(opened)
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        picture = picture.convert("RGB")
    picture.info = {}
    for quality in (84, 74, 62, 48, 34, 20):
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= MAX_BYTES:
            break
    return Thumbnail(out.getvalue(), *picture.size)
