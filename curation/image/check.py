"""The image check: one file's bytes in; out come a verdict, the columns, and the bytes for the image bank.

Called by `curation.image.child` in its disposable process, and by nothing else: it decodes hostile files. Allowed
formats are told by content and decoded by their own decoder alone; strictly: what is truncated or damaged is not
kept. Where the file already is a clean JPEG, PNG or WebP, its picture is stored as it came (`strip`); everything else
is encoded again, as JPEG (quality 97, 4:4:4) where the source was lossy and as PNG where it was not.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
import simplejpeg
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from curation.image.color import Pixels, flattened, from_cmyk, needs_conversion, upright, with_profile
from curation.image.extent import ends_early, gif_frames
from curation.image.header import Header, NeedMore, Unusable, read_header
from curation.image.ifd import orientation_of
from curation.image.measure import Measures, measure, reduction
from curation.image.protocol import ImageColumns
from curation.image.rules import Fault, Limits, broken_rule
from curation.image.strip import Parts, strip_jpeg, strip_png, strip_webp

if not (AvifImagePlugin.SUPPORTED and WebPImagePlugin.SUPPORTED):
    raise ImportError("this Pillow was built without AVIF or without WebP")

_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
_JPEG_QUALITY = 97
_STORED = {"jpeg": "jpg", "png": "png", "webp": "webp"}


@dataclass(slots=True, kw_only=True)
class Finding(ImageColumns):
    """What the check found out, and why the image is dropped or None."""

    reason: str | None = None
    detail: str = ""


@dataclass(slots=True)
class _Picture:
    """A decoded file: the working decode, and what is needed to store it."""

    pixels: Pixels
    width: int
    height: int
    frames: int = 1
    lossy: bool = False
    stored: bytes | None = None
    """The stripped file where it can be stored as it is."""


def set_up_libraries() -> None:
    """Settings of this whole process, which is the child's: one thread, strict decoding, and no limit but `Limits`."""
    Image.MAX_IMAGE_PIXELS = None  # it would warn and raise; `max_pixels` is asked before anything is decoded
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    cv2.setNumThreads(0)
    warnings.simplefilter("ignore")


def check(data: bytes, limits: Limits) -> tuple[Finding, bytes | None]:
    """The finding for one file and the bytes to store: `data` itself where nothing had to change, None if dropped.

    Raises MemoryError where `limits.memory` does not do; any other exception is a bug.
    """
    finding = Finding()
    try:
        stored = _check(data, limits, finding)
    except Fault as fault:
        finding.reason, finding.detail = fault.reason, fault.detail
        return finding, None
    return finding, stored


def _check(data: bytes, limits: Limits, finding: Finding) -> bytes:
    header = read_header(data)
    if isinstance(header, Unusable):
        raise Fault(header.reason, header.detail)
    if header.format is None:
        raise Fault("not_an_image", "too short for any image")
    finding.format = header.format
    if isinstance(header, Header):
        finding.width, finding.height = header.width, header.height
        _apply_rules(limits, header.format, header.width, header.height)
    elif header.format not in limits.formats:
        raise Fault("format_not_allowed", header.format)
    picture = _READERS[header.format](data, header, limits)
    finding.width, finding.height, finding.frames = picture.width, picture.height, picture.frames
    _apply_rules(limits, header.format, picture.width, picture.height)
    finding.source_sha256 = hashlib.sha256(data).hexdigest()
    measures: Measures = measure(picture.pixels, picture.width, picture.height)
    finding.pixel_sha256, finding.phash, finding.sharpness = measures.pixel_sha256, measures.phash, measures.sharpness
    finding.stored_as_is = picture.stored is not None
    if picture.stored is not None:
        stored, finding.stored_format = picture.stored, _STORED[header.format]
    else:
        stored, finding.stored_format = _encoded(picture.pixels, picture.lossy)
    finding.sha256 = finding.source_sha256 if stored is data else hashlib.sha256(stored).hexdigest()
    return stored


def _apply_rules(limits: Limits, format: str, width: int, height: int) -> None:
    if broken := broken_rule(limits, format, width, height):
        raise Fault(*broken)


# ---------------------------------------------------------------------------------------------------------------------
# Decoding


def _read_jpeg(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    if isinstance(header, NeedMore):
        raise Fault("truncated_image", "jpeg ends before its frame header")
    parts = strip_jpeg(data)
    grey = parts.channels == 1
    as_is = parts.storable and parts.orientation == 1 and not needs_conversion(parts.icc, grey)
    # A scaled decode reads the whole file and finds the same faults, at 3/4 of the time.
    pixels = _decoded_jpeg(parts, reduction(parts.width, parts.height) if as_is else 1)
    if as_is:
        return _Picture(pixels, parts.width, parts.height, parts.frames, stored=parts.stripped)
    pixels = from_cmyk(255 - pixels, parts.icc) if parts.channels == 4 else with_profile(pixels, parts.icc)
    pixels = upright(pixels, parts.orientation)
    return _Picture(pixels, pixels.shape[1], pixels.shape[0], parts.frames, lossy=True)


def _decoded_jpeg(parts: Parts, factor: int) -> Pixels:
    """[h, w, 3], [h, w] for grey, or [h, w, 4] inks as stored (inverted, as Adobe does it); reduced by `factor`."""
    # Asking for the very size that 1/factor gives, or the decoder picks one of the slower eighths in between.
    least = {"min_width": -(-parts.width // factor), "min_height": -(-parts.height // factor)} if factor > 1 else {}
    space = {1: "GRAY", 4: "CMYK"}.get(parts.channels, "RGB")
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(parts.stripped, space, strict=True, **least)
    except ValueError as error:
        if "memory" in str(error).lower():
            raise MemoryError from error
        raise Fault("damaged_image", f"jpeg: {error}") from error
    return pixels[..., 0] if parts.channels == 1 else pixels


def _read_png(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    if isinstance(header, NeedMore):
        raise Fault("truncated_image", "png ends within its first chunk")
    return _read_stripped(strip_png(data), "png", limits)


def _read_webp(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    return _read_stripped(strip_webp(data), "webp", limits)


def _read_stripped(parts: Parts, format: str, limits: Limits) -> _Picture:
    image = _decoded(parts.stripped, format, limits)
    as_is = parts.storable and parts.orientation == 1 and not needs_conversion(parts.icc, image.mode == "L")
    pixels = upright(_flattened(image, None if as_is else parts.icc, format), parts.orientation)
    stored = parts.stripped if as_is else None
    return _Picture(pixels, pixels.shape[1], pixels.shape[0], parts.frames, parts.lossy, stored)


def _read_gif(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    frames = gif_frames(data)
    pixels = _flattened(_decoded(data, "gif", limits), None, "gif")
    return _Picture(pixels, pixels.shape[1], pixels.shape[0], frames)


def _read_bmp(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    pixels = _flattened(_decoded(data, "bmp", limits), None, "bmp")
    return _Picture(pixels, pixels.shape[1], pixels.shape[0])


def _read_tiff(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    image = _decoded(data, "tiff", limits)  # turned upright by Pillow
    pixels = _flattened(image, image.info.get("icc_profile"), "tiff")
    lossy = image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    return _Picture(pixels, pixels.shape[1], pixels.shape[0], _frames(image), lossy)


def _read_avif(data: bytes, header: Header | NeedMore, limits: Limits) -> _Picture:
    image = _decoded(data, "avif", limits)
    pixels = _flattened(image, image.info.get("icc_profile"), "avif")
    # Rotation and mirroring of the container, which Pillow hands on in this form without applying them.
    pixels = upright(pixels, orientation_of(image.info.get("exif", b"")))
    return _Picture(pixels, pixels.shape[1], pixels.shape[0], _frames(image), lossy=True)


_READERS: dict[str, Callable[[bytes, Header | NeedMore, Limits], _Picture]] = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    "gif": _read_gif,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
    "avif": _read_avif,
}


def _decoded(data: bytes, format: str, limits: Limits) -> Image.Image:
    """The first frame, decoded by the one Pillow plug-in for `format`. Raises Fault and MemoryError."""
    with _blaming_the_file(format, data):
        image = _PLUGINS[format](BytesIO(data))  # `Image.open` would hide what is wrong
        size = image.size
    _apply_rules(limits, format, *size)
    with _blaming_the_file(format, data):
        image.load()
    return image


def _flattened(image: Image.Image, icc: bytes | None, format: str) -> Pixels:
    """As `color.flattened`; damaged palettes come to light only there."""
    with _blaming_the_file(format):
        return flattened(image, icc)


def _frames(image: Image.Image) -> int:
    """Pages of a TIFF, frames of an AVIF; 1 where what follows the first is damaged."""
    try:
        with _blaming_the_file("further frames"):
            return max(1, min(int(getattr(image, "n_frames", 1)), 2**31 - 1))
    except Fault:
        return 1


_SAYS_TRUNCATED = re.compile(r"truncat|not large enough|not enough|unexpected end|end of file|eof", re.IGNORECASE)


@contextmanager
def _blaming_the_file(format: str, data: bytes = b"") -> Iterator[None]:
    """Turns whatever a plug-in raises into Fault, and lack of memory into MemoryError.

    Malformed files make plug-ins raise nearly every exception there is, so here each of them means a malformed file.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        said = f"{format}: {type(error).__name__}: {error}"
        if "memory" in said.lower():
            raise MemoryError from error
        early = _SAYS_TRUNCATED.search(said) or (data and ends_early(data, format))
        raise Fault("truncated_image" if early else "damaged_image", said) from error


# ---------------------------------------------------------------------------------------------------------------------
# Encoding


def _encoded(pixels: Pixels, lossy: bool) -> tuple[bytes, str]:
    """Encoded bytes without any metadata, and their format."""
    grey = pixels.ndim == 2
    if lossy and max(pixels.shape) <= 65500:
        pixels = np.ascontiguousarray(pixels[..., None] if grey else pixels)
        space, subsampling = ("GRAY", "Gray") if grey else ("RGB", "444")
        encoded = simplejpeg.encode_jpeg(pixels, _JPEG_QUALITY, space, subsampling, fastdct=False)
        return bytes(encoded), "jpg"
    # Run-length matching, zlib level 1: a fifth faster than zlib's defaults at level 1, and a tenth smaller on photos.
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    done, buffer = cv2.imencode(".png", pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), fast)
    assert done
    return buffer.tobytes(), "png"
