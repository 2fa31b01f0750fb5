"""Thumbnails: small, re-encoded, and never a reason to have no report."""

from __future__ import annotations

import io
import os
import struct
import zlib

import pytest
from PIL import Image

from curation.report.thumbnail import MAX_BYTES, SIDE, thumbnail
from tests.shared import shared


def encoded(picture: Image.Image, format_: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format_, **options)
    return out.getvalue()


def shown(data: bytes) -> Image.Image:
    small = thumbnail(data)
    assert small is not None
    picture = Image.open(io.BytesIO(small.jpeg))
    assert picture.format == "JPEG"
    assert picture.size == (small.width, small.height)
    return picture


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_longer_side_is_256_and_aspect_stays(format_: str) -> None:
    picture = shown(encoded(Image.new("RGB", (1200, 800), "teal"), format_))
    assert picture.size == (SIDE, 171)
    assert all(abs(a - b) < 12 for a, b in zip(picture.getpixel((99, 99)), (0, 128, 128), strict=True))


def test_small_images_are_not_enlarged() -> None:
    assert shown(encoded(Image.new("RGB", (40, 30)), "PNG")).size == (40, 30)


def test_noise_stays_within_the_byte_limit() -> None:
    noise = Image.frombytes("RGB", (512, 512), os.urandom(512 * 512 * 3))
    small = thumbnail(encoded(noise, "PNG"))
    assert small is not None
    assert len(small.jpeg) <= MAX_BYTES


def test_alpha_lies_on_white() -> None:
    assert min(shown(encoded(Image.new("RGBA", (50, 50), (0, 0, 0, 0)), "PNG")).getpixel((9, 9))) > 245


def test_palette_grey_and_cmyk_are_shown() -> None:
    for mode, format_ in (("P", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("I;16", "PNG")):
        assert shown(encoded(Image.new(mode, (50, 40)), format_)).mode == "RGB"


def test_metadata_does_not_survive() -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    small = thumbnail(encoded(Image.new("RGB", (50, 50)), "JPEG", exif=exif, comment=b"SECRET PLACE"))
    assert small is not None
    assert b"SECRET" not in small.jpeg


def test_other_formats_are_not_opened() -> None:
    for format_ in ("GIF", "BMP", "TIFF", "PPM"):
        assert thumbnail(encoded(Image.new("RGB", (50, 50)), format_)) is None


def test_a_huge_canvas_is_not_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert thumbnail(png) is None


def test_damage_gives_no_thumbnail() -> None:
    whole = encoded(Image.effect_noise((300, 300), 60).convert("RGB"), "PNG")
    for data in (b"", b"not an image", whole[: len(whole) // 2], whole[:40] + bytes(200)):
        assert thumbnail(data) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_malformed_files_never_raise() -> None:
    files = sorted(p for p in (shared("malformed") / "pillow").rglob("*") if p.is_file() and p.stat().st_size < 60_000)
    results = [thumbnail(path.read_bytes()) for path in files[::3]]
    assert any(results)
    assert not all(results)
