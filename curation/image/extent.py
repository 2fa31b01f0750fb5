"""Whether a file ends before its own structure does; and a GIF's frames. Called by `curation.image.check`.

(JPEG, PNG and WebP tell it while they are taken apart, see `strip`.)
"""

from __future__ import annotations

import re
from struct import error, unpack_from

from curation.image.rules import Fault

_BLOCK = re.compile(rb"[!,;]")


def gif_frames(data: bytes) -> int:
    """Frames of a GIF, counted without decoding. Raises Fault where it ends within a block.

    A file that only lacks its trailer counts as whole; many are written so.
    """
    frames = 0
    try:
        at = 13 + _colours(data[10])
        while at < len(data):
            block = data[at]
            if block == 0x21:  # extension
                at = _past_sub_blocks(data, at + 2)
            elif block == 0x2C:  # image
                at = _past_sub_blocks(data, at + 11 + _colours(data[at + 9]))
                frames += 1
            elif block == 0x3B:  # trailer
                break
            else:  # readers skip junk between blocks
                following = _BLOCK.search(data, at)
                at = following.start() if following else len(data)
    except IndexError:
        raise Fault("truncated_image", f"gif ends within its frame {frames}") from None
    if not frames:
        raise Fault("truncated_image" if at >= len(data) else "damaged_image", "gif without a frame")
    return frames


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _past_sub_blocks(data: bytes, at: int) -> int:
    while length := data[at]:
        at += length + 1
    return at + 1


def ends_early(data: bytes, format: str) -> bool:
    """Whether the structure of a file that could not be decoded runs past its end."""
    try:
        return {"bmp": _bmp, "tiff": _tiff, "avif": _boxes}.get(format, _never)(data) > len(data)
    except error:  # not even its header is there
        return True


def _never(data: bytes) -> int:
    return 0


def _bmp(data: bytes) -> int:
    (pixels_at, info) = unpack_from("<II", data, 10)
    if info == 12:
        width, height, _, bits = unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    if compression not in (0, 3) or bits not in (1, 4, 8, 16, 24, 32):
        return 0
    return int(pixels_at + (width * bits + 31) // 32 * 4 * abs(height))


def _boxes(data: bytes) -> int:
    at = 0
    while at + 8 <= len(data):
        (size,) = unpack_from(">I", data, at)
        if size == 1:
            (size,) = unpack_from(">Q", data, at + 8)
        if size < 8:
            break
        at += size
    return at


def _tiff(data: bytes) -> int:
    """Where the first directory or the strips and tiles that it names end (classic TIFF)."""
    order = ">" if data[:1] == b"M" else "<"
    if data[2:4] not in (b"*\0", b"\0*"):
        return 0
    (start,) = unpack_from(order + "I", data, 4)
    (count,) = unpack_from(order + "H", data, start)
    numbers: dict[int, list[int]] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values = unpack_from(order + "HHI", data, at)
        if tag in (273, 279, 324, 325) and kind in (3, 4) and values <= 1_000_000:
            code, size = ("H", 2) if kind == 3 else ("I", 4)
            (place,) = (at + 8,) if values * size <= 4 else unpack_from(order + "I", data, at + 8)
            numbers[tag] = list(unpack_from(f"{order}{values}{code}", data, place))
    offsets, lengths = numbers.get(273) or numbers.get(324) or [], numbers.get(279) or numbers.get(325) or []
    return max((o + n for o, n in zip(offsets, lengths, strict=False)), default=0)
