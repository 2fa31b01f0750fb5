"""The size of an AVIF's primary image, from its `meta` box (ISO/IEC 23008-12, AV1 Image File Format 1.1).

Called by `header` on prefixes of a file; never raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import error, unpack_from

Buffer = bytes | bytearray


def avif_header(data: Buffer) -> tuple[int, int, int] | int | None:
    """(width, height, quarter turns) of the primary image; or the bytes needed to tell; or None if there is none."""
    at = 0
    for _ in range(64):
        if len(data) < at + 16:
            return at + 16
        body, end = _box(data, at)
        if end <= at:  # to the end of the file, or nonsense
            return None
        if data[at + 4 : at + 8] == b"meta":
            if len(data) < end:
                return end
            try:
                return _primary(data, body + 4, end)
            except (error, IndexError):
                return None
        at = end
    return None


def _box(data: Buffer, at: int) -> tuple[int, int]:
    """Where the payload of the box at `at` starts and ends; an end of 0 where it does not say."""
    (size,) = unpack_from(">I", data, at)
    if size == 1:
        (size,) = unpack_from(">Q", data, at + 8)
        return at + 16, at + size if 16 <= size < 2**62 else 0
    return at + 8, at + size if size >= 8 else 0


def _boxes(data: Buffer, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, payload start, payload end) of the boxes between `at` and `end`."""
    for _ in range(1024):
        if at + 8 > end:
            return
        body, box_end = _box(data, at)
        if not body <= box_end <= end:
            return
        yield bytes(data[at + 4 : at + 8]), body, box_end
        at = box_end


def _primary(data: Buffer, at: int, end: int) -> tuple[int, int, int] | None:
    children = {kind: (body, box_end) for kind, body, box_end in _boxes(data, at, end)}
    if b"pitm" not in children or b"iprp" not in children:
        return None
    pitm, _ = children[b"pitm"]
    (primary,) = unpack_from(">I" if data[pitm] else ">H", data, pitm + 4)
    parts = {kind: (body, box_end) for kind, body, box_end in _boxes(data, *children[b"iprp"])}
    if b"ipco" not in parts or b"ipma" not in parts:
        return None
    properties = list(_boxes(data, *parts[b"ipco"]))
    size, turns = None, 0
    for index in _properties_of(data, primary, *parts[b"ipma"]):
        if not 1 <= index <= len(properties):
            continue
        kind, body, _ = properties[index - 1]
        if kind == b"ispe":
            size = unpack_from(">II", data, body + 4)
        elif kind == b"irot":
            turns = data[body] & 3
    return (*size, turns) if size else None


def _properties_of(data: Buffer, item: int, at: int, end: int) -> list[int]:
    """Indices, from 1, of the properties that the `ipma` box ties to `item`."""
    wide_ids, wide_indices = data[at] >= 1, data[at + 3] & 1
    (entries,) = unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, 4096)):
        if at >= end:
            break
        (found,) = unpack_from(">I" if wide_ids else ">H", data, at)
        at += 4 if wide_ids else 2
        count = data[at]
        indices = [
            unpack_from(">H", data, at + 1 + 2 * i)[0] & 0x7FFF if wide_indices else data[at + 1 + i] & 0x7F
            for i in range(count)
        ]
        if found == item:
            return indices
        at += 1 + count * (2 if wide_indices else 1)
    return []
