"""Pictures and image files that the tests of curation.image make for themselves."""

from __future__ import annotations

import zlib
from io import BytesIO
from struct import pack
from typing import Any

import numpy as np
from PIL import Image

from curation.image.rules import Limits

ALL_FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")
LIMITS = Limits(ALL_FORMATS, 0, None, 100_000_000, 10.0, 2_000_000_000)


def photo(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    """An RGB picture with large shapes, edges and grain."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 9, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    edges = (np.add.outer(np.arange(height), np.arange(width)) // 40 % 2 * 24)[..., None]
    grain = rng.integers(-6, 7, (height, width, 1))
    return Image.fromarray(np.clip(smooth + edges + grain, 0, 255).astype(np.uint8))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """`image` encoded by Pillow."""
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    """`data` decoded by Pillow."""
    image = Image.open(BytesIO(data))
    image.load()
    return image


def pixels(data: bytes) -> np.ndarray:
    """`data` decoded by Pillow, [H, W, 3], signed for differences."""
    return np.asarray(opened(data).convert("RGB"), np.int16)


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these (name, payload) chunks."""
    body = b"".join(pack(">I", len(p)) + n + p + pack(">I", zlib.crc32(n + p)) for n, p in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def blank_png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A black PNG: a few kB for any size."""
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 6: 4}[colour] + 7) // 8
    pack_rows = zlib.compressobj(9)
    rows = b"".join(pack_rows.compress(bytes(row)) for _ in range(height)) + pack_rows.flush()
    header = pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = [(b"PLTE", bytes(range(6)))] if colour == 3 else []
    return png([(b"IHDR", header), *palette, (b"IDAT", rows), (b"IEND", b"")])


def many_scans(blocks: int, scans: int, components: int = 1) -> bytes:
    """A valid progressive JPEG, 8 * `blocks` pixels a side (a power of two, 128 or more), of many tiny scans.

    Each scan says in a few bytes that nothing changes, and makes the decoder visit every block (ITU-T T.81 G.1.2).
    """
    side = 8 * blocks
    sof = pack(">BHHB", 8, side, side, components) + b"".join(bytes((i + 1, 0x11, 0)) for i in range(components))
    dc_table = bytes((0x00, 1, *[0] * 15, 0x00))  # code "0": no change of the mean
    ac_table = bytes((0x10, 1, *[0] * 15, 0xE0))  # code "0": a run of 2**14 empty blocks, and 14 more bits
    out = [b"\xff\xd8", _segment(0xDB, bytes(1) + bytes([1]) * 64), _segment(0xC2, sof)]
    out += [_segment(0xC4, dc_table), _segment(0xC4, ac_table)]
    who = b"".join(bytes((i + 1, 0x00)) for i in range(components))
    out += [_segment(0xDA, bytes((components,)) + who + bytes((0, 0, 0x00))), bytes(blocks * blocks * components // 8)]
    runs = bytes(-(-(blocks * blocks >> 14) * 15 // 8))
    steps = [(k, high, low) for low in range(13, -1, -1) for high in [low + 1 if low < 13 else 0] for k in range(1, 64)]
    for k, high, low in steps[:scans]:
        out += [_segment(0xDA, bytes((1, 1, 0x00, k, k, high << 4 | low))), runs]
    return b"".join(out) + b"\xff\xd9"


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + pack(">H", len(payload) + 2) + payload


def insert_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """`jpeg` with (marker, payload) segments behind its SOI."""
    return jpeg[:2] + b"".join(_segment(m, p) for m, p in segments) + jpeg[2:]


GOOD = saved(photo(), "jpeg")
CPU_BOMB = many_scans(1024, 800)
