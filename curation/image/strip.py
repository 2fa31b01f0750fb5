"""Takes JPEG, PNG and WebP files apart: the same picture without any metadata, bit for bit, and what it said.

Called by `curation.image.check` before it decodes, so that the bytes that are decoded are the bytes that are stored.
EXIF, XMP, IPTC, ICC, comments, thumbnails and whatever follows the end of the picture are gone; nothing of the
compressed picture changes. Also tells a file that ends early from one that is damaged.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from struct import pack, unpack_from

import numpy as np

from curation.image.ifd import images_in, orientation_of
from curation.image.rules import Fault

_MAX_ICC = 4_000_000
"""Bytes; larger profiles are ignored."""


@dataclass(slots=True)
class Parts:
    """A file taken apart."""

    stripped: bytes = b""
    """The picture alone. The very object that came in where there was nothing to remove."""
    icc: bytes | None = None
    orientation: int = 1
    """As EXIF has it: 1 is upright."""
    frames: int = 1
    """Images in the file; `stripped` holds the first (of animated WebP: all, see `storable`)."""
    storable: bool = False
    """8-bit RGB or grey without alpha, a single frame, in a variant that every reader knows."""
    lossy: bool = False
    channels: int = 3
    """JPEG only: colour components."""
    width: int = 0
    """JPEG only: pixels, as stored."""
    height: int = 0


# ---------------------------------------------------------------------------------------------------------------------
# JPEG: ITU-T T.81 B.1


@dataclass(slots=True)
class _Spans:
    """Parts of a file to keep, in order, neighbours merged; and short pieces that replace some."""

    data: bytes
    pieces: list[tuple[int, int] | bytes] = field(default_factory=list)

    def keep(self, start: int, end: int) -> None:
        if self.pieces and isinstance(last := self.pieces[-1], tuple) and last[1] == start:
            self.pieces[-1] = (last[0], end)
        else:
            self.pieces.append((start, end))

    def joined(self) -> bytes:
        if self.pieces == [(0, len(self.data))]:
            return self.data
        view = memoryview(self.data)
        return b"".join(view[p[0] : p[1]] if isinstance(p, tuple) else p for p in self.pieces)


def strip_jpeg(data: bytes) -> Parts:
    """`data` without APPn (but the two that fix the colours), comments, junk, and bytes after EOI. Raises Fault."""
    parts, kept = Parts(lossy=True), _Spans(data)
    kept.keep(0, 2)
    icc: dict[int, bytes] = {}
    frame = 0  # marker of the frame header
    tables = False
    scans: _ScanMarkers | None = None
    at = 2
    while True:
        at = data.find(b"\xff", at) if scans is None else scans.next(at)
        if at < 0 or at + 2 > len(data):
            raise Fault("truncated_image", "jpeg ends before its end marker")
        marker = data[at + 1]
        if marker == 0xD9:
            kept.keep(at, at + 2)
            break
        if marker == 0xFF or marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if at + 4 > len(data):
            raise Fault("truncated_image", "jpeg ends within a segment")
        (length,) = unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2:
            raise Fault("damaged_image", f"jpeg segment of {length} bytes")
        if end > len(data):
            raise Fault("truncated_image", "jpeg ends within a segment")
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            _application_segment(data, at, end, marker, parts, icc, kept)
        else:
            kept.keep(at, end)
            tables = tables or marker == 0xC4
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                if length < 8 or frame:
                    raise Fault("damaged_image", "jpeg with a bad frame header")
                frame, parts.channels = marker, data[at + 9]
                parts.height, parts.width = unpack_from(">HH", data, at + 5)
                parts.storable = marker <= 0xC2 and data[at + 4] == 8 and parts.channels in (1, 3)
            elif marker == 0xDA:
                if not frame:
                    raise Fault("damaged_image", "jpeg scan before its frame header")
                scans = scans or _ScanMarkers(data, end)
                scan_end = scans.next(end)
                kept.keep(end, scan_end if scan_end >= 0 else len(data))
                end = max(scan_end, end)
        at = end
    if scans is None:
        raise Fault("damaged_image", "jpeg without a scan")
    if icc and len(icc) == max(icc) and sum(map(len, icc.values())) <= _MAX_ICC:
        parts.icc = b"".join(icc[i] for i in sorted(icc))
    parts.storable = parts.storable and tables  # frames of Motion JPEG lack them; not every reader knows the defaults
    parts.stripped = kept.joined()
    return parts


def _application_segment(
    data: bytes, at: int, end: int, marker: int, parts: Parts, icc: dict[int, bytes], kept: _Spans
) -> None:
    payload = at + 4
    if marker == 0xE0 and data[payload : payload + 5] == b"JFIF\0" and end - payload >= 14:
        if end - payload == 14:
            kept.keep(at, end)
        else:  # has a thumbnail, perhaps of what was later cropped away
            kept.pieces.append(b"\xff\xe0\x00\x10" + data[payload : payload + 12] + b"\0\0")
    elif marker == 0xEE and data[payload : payload + 5] == b"Adobe" and end - payload >= 12:
        if end - payload == 12:
            kept.keep(at, end)
        else:
            kept.pieces.append(b"\xff\xee\x00\x0e" + data[payload : payload + 12])
    elif marker == 0xE1 and data[payload : payload + 6] == b"Exif\0\0":
        parts.orientation = orientation_of(data[payload + 6 : end])
    elif marker == 0xE2 and data[payload : payload + 12] == b"ICC_PROFILE\0" and end - payload > 14:
        icc[data[payload + 12]] = data[payload + 14 : end]  # numbered from 1
    elif marker == 0xE2 and data[payload : payload + 4] == b"MPF\0":
        parts.frames = images_in(data[payload + 4 : end])


class _ScanMarkers:
    """Places of the markers behind the first scan's header, found at once: 0xFF and neither 0, 0xFF nor a restart."""

    def __init__(self, data: bytes, start: int) -> None:
        codes = np.frombuffer(data, np.uint8)[start:]
        candidates = np.flatnonzero(codes[:-1] == 0xFF)
        following = codes[candidates + 1]
        real = (following != 0) & (following != 0xFF) & ((following & 0xF8) != 0xD0)
        self._places = candidates[real] + start

    def next(self, at: int) -> int:
        """The first marker at or behind `at`; -1 where there is none."""
        index = int(np.searchsorted(self._places, at))
        return int(self._places[index]) if index < len(self._places) else -1


# ---------------------------------------------------------------------------------------------------------------------
# PNG


def strip_png(data: bytes) -> Parts:
    """`data` with IHDR, PLTE, tRNS, IDAT and IEND alone; checksums of these are checked. Raises Fault.

    Of an animation the default image stays. gAMA and cHRM go too: no reader of training images applies them.
    """
    parts, kept = Parts(), _Spans(data)
    kept.keep(0, 8)
    depth = colour = -1
    transparent = False
    animated = default = 0
    at = 8
    view = memoryview(data)
    while True:
        if at + 12 > len(data):
            raise Fault("truncated_image", "png ends before its end chunk")
        (length,) = unpack_from(">I", data, at)
        name = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise Fault("truncated_image", f"png ends within its {name!a} chunk")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            if zlib.crc32(view[at + 4 : end - 4]) != unpack_from(">I", data, end - 4)[0]:
                raise Fault("damaged_image", f"png with a wrong checksum in its {name!a} chunk")
            if name == b"IHDR" and length == 13:
                depth, colour = data[at + 16], data[at + 17]
            if name == b"IDAT" and not animated:
                default = 1  # an image of its own, shown where animation is not supported
            if name == b"tRNS":
                transparent = True
            if not (name == b"PLTE" and colour != 3):  # elsewhere only a hint for old displays
                kept.keep(at, end)
        elif name == b"iCCP":
            parts.icc = _inflated_profile(data[at + 8 : end - 4])
        elif name == b"eXIf":
            parts.orientation = orientation_of(data[at + 8 : end - 4])
        elif name == b"fcTL":
            animated += 1
        elif not name[0] & 0x20:
            raise Fault("damaged_image", f"png with an unknown critical chunk {name!a}")
        at = end
        if name == b"IEND":
            break
    parts.storable = depth == 8 and colour in (0, 2) and not transparent
    parts.frames = max(animated + default, 1)
    parts.stripped = kept.joined()
    return parts


def _inflated_profile(chunk: bytes) -> bytes | None:
    name_end = chunk.find(b"\0")
    if not 0 <= name_end <= 79:
        return None
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(chunk[name_end + 2 :], _MAX_ICC)
    except zlib.error:
        return None
    return profile if inflate.eof else None


# ---------------------------------------------------------------------------------------------------------------------
# WebP: RFC 9649 §2


def strip_webp(data: bytes) -> Parts:
    """`data` as a simple file with its one bitstream; with alpha or several frames as it came. Raises Fault."""
    (riff,) = unpack_from("<I", data, 4)
    stop = 8 + riff
    if stop > len(data):
        raise Fault("truncated_image", f"webp of {stop} bytes ends after {len(data)}")
    parts = Parts()
    picture: tuple[int, int] | None = None
    alpha = False
    frames = 0
    canvas = b""
    at = 12
    while at + 8 <= stop:
        name = data[at : at + 4]
        (length,) = unpack_from("<I", data, at + 4)
        body, end = at + 8, at + 8 + length
        if end > stop:
            raise Fault("truncated_image", f"webp ends within its {name!a} chunk")
        if name in (b"VP8 ", b"VP8L") and picture is None:
            picture = (at, end)
            parts.lossy = name == b"VP8 "
            alpha = alpha or (name == b"VP8L" and length > 4 and bool(data[body + 4] & 0x10))
        elif name == b"VP8X":
            canvas = data[body:end]
        elif name == b"ALPH":
            alpha = True
        elif name == b"ANMF":
            if not frames:
                parts.lossy = b"VP8 " in data[body + 16 : end]
            frames += 1
        elif name == b"ICCP" and length <= _MAX_ICC:
            parts.icc = data[body:end]
        elif name == b"EXIF":
            parts.orientation = orientation_of(data[body:end])
        at = end + (length & 1)
    parts.frames = max(frames, 1)
    parts.storable = picture is not None and not alpha and not frames
    if not parts.storable or picture is None:
        parts.stripped = data
        return parts
    start, end = picture
    if not canvas and start == 12 and at == len(data):
        parts.stripped = data
        return parts
    padding = b"\0" * ((end - start) & 1)
    parts.stripped = b"RIFF" + pack("<I", 4 + end - start + len(padding)) + b"WEBP" + data[start:end] + padding
    return parts
