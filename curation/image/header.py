"""Format and size of an image from the first bytes of its file, told by content alone; pure Python, never raises.

`curation.image.probe` calls `read_header` on the growing prefix of a download; `curation.image.check` on whole files.
Layouts: ITU-T T.81 B.2 (JPEG), W3C PNG 3rd edition, RFC 9649 (WebP), GIF89a, and Microsoft's BITMAPINFOHEADER.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from
from typing import Literal

from curation.image.avif import avif_header
from curation.image.foreign import iso_media_name, name_of
from curation.image.ifd import orientation_of, tiff_size

Buffer = bytes | bytearray

WHOLE_FILE = 2**63 - 1
"""`NeedMore.at_least` where no prefix will do."""

_MAX_JPEG_SEGMENTS = 2000  # before the frame header; the longest real ones (64 KiB pieces of XMP) have some hundreds


@dataclass(frozen=True, slots=True)
class Header:
    """The header says what the image is."""

    format: str
    """jpeg png webp gif bmp tiff avif"""
    width: int
    """Pixels, upright where the orientation stands in the bytes seen (it always does for JPEG, TIFF and AVIF)."""
    height: int
    """Pixels."""


@dataclass(frozen=True, slots=True)
class NeedMore:
    """Undecided: look again with at least `at_least` bytes of the file (`WHOLE_FILE`: with all of it)."""

    at_least: int
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """However many bytes follow, this will not be an image that can be decoded."""

    reason: Literal["not_an_image", "format_not_allowed", "damaged_image"]
    """The value of a `curation.row.Reason`."""
    detail: str
    """What it is instead: `html`, `heic`, …"""


Probe = Header | NeedMore | Unusable


def read_header(data: Buffer) -> Probe:
    """What the first bytes of a file, `data`, say. Any prefix will do; never raises."""
    if len(data) < 2:
        return NeedMore(32)
    if data[:2] == b"\xff\xd8" and data[2:3] in (b"\xff", b""):
        return _jpeg(data)
    for magic, parse in _PARSERS:
        if data[: len(magic)] == magic:
            return parse(data)
    if len(data) < 32:
        return NeedMore(32)
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    name, is_image = name_of(data)
    return Unusable("format_not_allowed" if is_image else "not_an_image", name)


def _jpeg(data: Buffer) -> Probe:
    size, at, orientation = len(data), 2, 1
    for _ in range(_MAX_JPEG_SEGMENTS):
        # Decoders skip junk up to the next marker; doubling keeps the cost of looking again and again linear.
        at = data.find(b"\xff", at)
        if at < 0:
            return NeedMore(2 * size, "jpeg")
        if at + 4 > size:
            return NeedMore(at + 4, "jpeg")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker <= 0x01 or 0xD0 <= marker <= 0xD8:  # stuffed zero, TEM, restart, SOI: no payload
            at += 2
        elif marker in (0xD9, 0xDA):
            return Unusable("damaged_image", "jpeg without a frame header")
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if at + 9 > size:
                return NeedMore(at + 9, "jpeg")
            height, width = unpack_from(">HH", data, at + 5)
            return _upright("jpeg", width, height, orientation)
        else:
            (length,) = unpack_from(">H", data, at + 2)
            end = at + 2 + max(length, 2)
            if end + 9 > size:  # the next segment, were it the frame header
                return NeedMore(end + 9, "jpeg")
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                orientation = orientation_of(data[at + 10 : end])
            at = end
    return Unusable("damaged_image", f"jpeg without a frame header in {_MAX_JPEG_SEGMENTS} segments")


def _upright(format: str, width: int, height: int, orientation: int) -> Header:
    return Header(format, height, width) if orientation >= 5 else Header(format, width, height)


def _png(data: Buffer) -> Probe:
    if len(data) < 33:
        return NeedMore(33, "png")
    if data[12:16] != b"IHDR":
        return Unusable("damaged_image", "png without IHDR")
    width, height = unpack_from(">II", data, 16)
    at = 33
    for _ in range(32):
        if at + 8 > len(data):
            break
        (length,) = unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        if name == b"IDAT":
            break
        if name == b"eXIf":
            return _upright("png", width, height, orientation_of(data[at + 8 : at + 8 + length]))
        at += 12 + length
    return Header("png", width, height)


def _riff(data: Buffer) -> Probe:
    if len(data) < 30:
        return NeedMore(30, "webp" if data[8:12] == b"WEBP" else None)
    if data[8:12] != b"WEBP":
        return Unusable("not_an_image", f"riff {data[8:12].decode('latin-1').strip().lower()!a}")
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return _upright("webp", width, height, _webp_orientation(data) if data[20] & 0x08 else 1)
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = unpack_from("<I", data, 21)
        return Header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", data, 26)
        return Header("webp", width & 0x3FFF, height & 0x3FFF)
    return Unusable("damaged_image", "webp without a bitstream header")


def _webp_orientation(data: Buffer) -> int:
    at = 12
    for _ in range(32):
        if at + 8 > len(data):
            break
        (length,) = unpack_from("<I", data, at + 4)
        if data[at : at + 4] == b"EXIF":
            return orientation_of(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return 1


def _gif(data: Buffer) -> Probe:
    if len(data) < 10:
        return NeedMore(10, "gif")
    width, height = unpack_from("<HH", data, 6)
    return Header("gif", width, height)


def _bmp(data: Buffer) -> Probe:
    if len(data) < 26:
        return NeedMore(26)
    (info,) = unpack_from("<I", data, 14)
    if info == 12:
        width, height = unpack_from("<HH", data, 18)
    elif info in (16, 40, 52, 56, 64, 108, 124):
        width, height = unpack_from("<ii", data, 18)
    else:
        return Unusable("not_an_image", "unknown")
    if width < 0:
        return Unusable("damaged_image", "bmp of negative width")
    return Header("bmp", width, abs(height))  # a negative height stores the rows from the top


def _tiff(data: Buffer) -> Probe:
    if data[8:10] == b"CR":
        return Unusable("format_not_allowed", "cr2")
    found = tiff_size(data)
    if isinstance(found, int):
        return NeedMore(found, "tiff")
    if found is None:
        return Unusable("damaged_image", "tiff without a size")
    return _upright("tiff", *found)


def _iso_media(data: Buffer) -> Probe:
    end = int.from_bytes(data[0:4], "big")
    if end > 4096 or end < 16:
        return Unusable("not_an_image", "iso media file")
    if len(data) < end:
        return NeedMore(end)
    brands = {bytes(data[at : at + 4]) for at in (8, *range(16, end - 3, 4))}
    if brands.isdisjoint((b"avif", b"avis")):
        name, is_image = iso_media_name(brands)
        return Unusable("format_not_allowed" if is_image else "not_an_image", name)
    found = avif_header(data)
    if isinstance(found, int):
        return NeedMore(found, "avif")
    if found is None:  # no primary item of known size: the decoder may find an image sequence
        return NeedMore(WHOLE_FILE, "avif")
    width, height, quarter_turns = found
    return Header("avif", height, width) if quarter_turns & 1 else Header("avif", width, height)


_PARSERS = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _riff),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
)
