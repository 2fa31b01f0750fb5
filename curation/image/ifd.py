"""TIFF directories: the size of a TIFF file, and single tags of the EXIF and MPF blocks inside other formats.

TIFF 6.0 §2; BigTIFF as libtiff writes it; the orientation tag: TIFF 6.0 §8 and CIPA DC-008 (Exif). Called by
`header` (on prefixes) and `strip`; never raises.
"""

from __future__ import annotations

from struct import error, unpack_from

Buffer = bytes | bytearray

_WIDTH, _HEIGHT, _ORIENTATION, _MPF_IMAGES = 256, 257, 274, 0xB001
_NUMBER_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
_MAX_ENTRIES = 4096


def _first_directory(data: Buffer) -> dict[int, int] | int | None:
    """Whole numbers of the first directory by tag; or how many bytes that takes; or None if there is none."""
    order = ">" if data[:1] == b"M" else "<"
    big = data[2:4] in (b"+\0", b"\0+")
    head, counter, entry, inline = (16, "Q", 20, 12) if big else (8, "H", 12, 8)
    if len(data) < head:
        return head
    start: int = unpack_from(order + ("Q" if big else "I"), data, head // 2)[0]
    entries_at = start + (8 if big else 2)
    if start < 8 or start > 2**62:
        return None
    if len(data) < entries_at:
        return entries_at
    count: int = unpack_from(order + counter, data, start)[0]
    if not 0 < count <= _MAX_ENTRIES:
        return None
    if len(data) < entries_at + count * entry:
        return entries_at + count * entry
    found: dict[int, int] = {}
    for at in range(entries_at, entries_at + count * entry, entry):
        tag, kind = unpack_from(order + "HH", data, at)
        if kind in _NUMBER_FORMATS and tag not in found:
            (found[tag],) = unpack_from(order + _NUMBER_FORMATS[kind], data, at + inline)
    return found


def tiff_size(data: Buffer) -> tuple[int, int, int] | int | None:
    """Width, height (as stored) and orientation of a TIFF; or the bytes needed to tell; or None: it has no size.

    The directory may stand anywhere, often at the end of the file.
    """
    tags = _first_directory(data)
    if not isinstance(tags, dict):
        return tags
    if _WIDTH not in tags or _HEIGHT not in tags:
        return None
    orientation = tags.get(_ORIENTATION, 1)
    return tags[_WIDTH], tags[_HEIGHT], orientation if 1 <= orientation <= 8 else 1


def orientation_of(exif: Buffer) -> int:
    """Orientation, 1 to 8, in an EXIF block (with or without its `Exif` prefix); 1 where there is none."""
    orientation = _tag(exif[6:] if exif[:6] == b"Exif\0\0" else exif, _ORIENTATION)
    return orientation if 1 <= orientation <= 8 else 1


def images_in(mpf: Buffer) -> int:
    """Images of a multi-picture JPEG, from the block after `MPF` (CIPA DC-007); 1 where it does not say."""
    images = _tag(mpf, _MPF_IMAGES)
    return images if 1 <= images <= 1000 else 1


def _tag(block: Buffer, tag: int) -> int:
    """Value of `tag` in the first directory; 0 where it is not there. A directory cut off in front of it counts."""
    if block[:4] not in (b"II*\0", b"MM\0*") or len(block) < 14:
        return 0
    order = ">" if block[:1] == b"M" else "<"
    (start,) = unpack_from(order + "I", block, 4)
    try:
        (count,) = unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            number, kind = unpack_from(order + "HH", block, at)
            if number == tag and kind in (3, 4):
                return int(unpack_from(order + _NUMBER_FORMATS[kind], block, at + 8)[0])
    except error:  # the block ends within its directory
        return 0
    return 0
