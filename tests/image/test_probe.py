"""The header probe: right sizes, from few bytes, and no exception whatever the bytes."""

from __future__ import annotations

import random
from struct import pack
from typing import Any

import pytest
from PIL import Image

from curation.config import FetchSettings
from curation.image.probe import Header, NeedMore, Unusable, check_header, probe
from curation.row import Reason
from tests.image.samples import blank_png, insert_segments, many_scans, opened, photo, saved
from tests.shared import shared

VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("jpeg", "RGB", {}),
    ("jpeg", "RGB", {"progressive": True}),
    ("jpeg", "L", {}),
    ("jpeg", "CMYK", {}),
    ("jpeg", "RGB", {"icc_profile": bytes(150_000)}),
    ("png", "RGB", {}),
    ("png", "P", {}),
    ("webp", "RGB", {}),
    ("webp", "RGB", {"lossless": True}),
    ("webp", "RGBA", {}),
    ("webp", "RGB", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ("gif", "P", {}),
    ("bmp", "RGB", {}),
    ("bmp", "1", {}),
    ("tiff", "RGB", {}),
    ("tiff", "RGB", {"compression": "tiff_lzw"}),
    ("tiff", "L", {"big_tiff": True}),
    ("avif", "RGB", {}),
    ("avif", "RGBA", {}),
]


@pytest.mark.parametrize(("format", "mode", "options"), VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (321, 240)])
def test_size_is_pillows(format: str, mode: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    data = saved(photo(*size).convert(mode), format, **options)
    assert probe(data) == Header(format, *opened(data).size)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_upright(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(photo(60, 40), format, exif=exif)
    assert probe(data) == Header(format, *((40, 60) if orientation >= 5 else (60, 40)))


def test_exif_orientation_samples() -> None:
    for path in sorted(shared("malformed").glob("exif-orientation/*.jpg")):
        found = probe(path.read_bytes())
        assert isinstance(found, Header)
        assert (found.width > found.height) == path.name.startswith("Landscape"), path.name


@pytest.mark.parametrize(("format", "mode", "options"), VARIANTS)
def test_prefixes_ask_for_more_and_then_agree(format: str, mode: str, options: dict[str, Any]) -> None:
    """Following `at_least` ends at the header; no prefix gives another answer than the whole file."""
    data = saved(photo(64, 48).convert(mode), format, **options)
    seen, looks = 0, 0
    while isinstance(found := probe(data[:seen]), NeedMore):
        assert found.at_least > seen
        seen, looks = found.at_least, looks + 1
        assert looks < 30
    assert found == probe(data)
    assert all(isinstance(early := probe(data[:n]), NeedMore) or early == found for n in range(min(len(data), 1000)))


def test_how_many_bytes_are_enough() -> None:
    plain, thumbnail = saved(photo(2000, 1500), "jpeg"), insert_segments(saved(photo(), "jpeg"), (0xE1, bytes(60_000)))
    assert probe(plain[:700]) == Header("jpeg", 2000, 1500)
    assert probe(thumbnail[:4096]) == NeedMore(2 + 60_004 + 9, "jpeg")
    assert isinstance(probe(thumbnail[: 60_004 + 400]), Header)
    for format in ("png", "webp", "gif", "bmp"):
        assert isinstance(probe(saved(photo(), format)[:33]), Header)
    assert isinstance(probe(saved(photo(), "avif")[:1000]), Header)


def test_tiff_directory_at_the_end_needs_the_whole_file() -> None:
    data = saved(photo(), "tiff")
    body = data[8:]
    at = 8 + len(body)
    entries = [(256, 4, 1, 640), (257, 4, 1, 480)]
    tiff = b"II*\0" + pack("<I", at) + body + pack("<H", 2) + b"".join(pack("<HHII", *e) for e in entries)
    assert probe(tiff[:1000]) == NeedMore(at + 2, "tiff")
    assert probe(tiff) == Header("tiff", 640, 480)
    big_endian = b"MM\0*" + pack(">I", 8) + pack(">H", 2) + pack(">HHIHH", 256, 3, 1, 640, 0)
    assert probe(big_endian + pack(">HHIHH", 257, 3, 1, 480, 0)) == Header("tiff", 640, 480)


def test_junk_and_fill_bytes_between_segments() -> None:
    data = saved(photo(), "jpeg")
    assert probe(data[:2] + b"\xff\xff\xff" + data[2:]) == Header("jpeg", 320, 240)
    assert probe(data[:20] + b"junk" + data[20:]) == Header("jpeg", 320, 240)


@pytest.mark.parametrize(
    ("data", "reason", "name"),
    [
        (b"<!DOCTYPE html><html><body>not found</body></html>", "not_an_image", "html"),
        (b"\xef\xbb\xbf \r\n<HTML><body>captcha, please wait", "not_an_image", "html"),
        (b'{"error": "no such image", "code": 404}', "not_an_image", "json"),
        (b"just a line of text that goes on and on", "not_an_image", "text"),
        (b"\x1f\x8b\x08\x00" + bytes(40), "not_an_image", "gzip"),
        (b"RIFF\x10\0\0\0WAVEfmt " + bytes(40), "not_an_image", "riff 'wave'"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(40), "not_an_image", "iso media file (video)"),
        (bytes(64), "not_an_image", "binary data"),
        (b"BM but only as the first letters of a text", "not_an_image", "unknown"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "format_not_allowed", "heic"),
        (b'<?xml version="1.0"?>\n<!-- x --><svg xmlns="http://w3.org"></svg>', "format_not_allowed", "svg"),
        (b'<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>', "format_not_allowed", "svg"),
        (b"8BPS\0\1" + bytes(40), "format_not_allowed", "psd"),
        (b"\0\0\1\0\1\0" + bytes(40), "format_not_allowed", "ico"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "format_not_allowed", "jp2"),
        (b"\xff\x0a" + bytes(40), "format_not_allowed", "jxl"),
        (b"%PDF-1.7\n" + bytes(40), "format_not_allowed", "pdf"),
        (b"P6\n640 480\n255\n" + bytes(40), "format_not_allowed", "pnm"),
        (b"\xff\xd8\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(40), "damaged_image", "jpeg without a frame header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged_image", "png without IHDR"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, reason: str, name: str) -> None:
    assert probe(data) == Unusable(reason, name)  # type: ignore[arg-type]
    verdict = check_header(probe(data), FetchSettings())
    assert verdict is not None
    assert (verdict.reason, verdict.detail) == (Reason(reason), name)


@pytest.mark.parametrize(
    ("settings", "size", "reason"),
    [
        ({}, (1, 1), None),
        ({"min_side": 240}, (320, 240), None),
        ({"min_side": 241}, (320, 240), Reason.TOO_SMALL),
        ({"max_aspect": 4 / 3}, (320, 240), None),
        ({"max_aspect": 1.3}, (240, 320), Reason.ASPECT_TOO_EXTREME),
        ({"max_pixels": 76_800}, (320, 240), None),
        ({"max_pixels": 76_799}, (320, 240), Reason.TOO_MANY_PIXELS),
        ({"formats": ("jpeg", "webp")}, (320, 240), Reason.FORMAT_NOT_ALLOWED),
        ({}, (0, 240), Reason.DAMAGED_IMAGE),
        ({}, (1_000_000, 1), None),
        ({}, (1_000_001, 1), Reason.TOO_MANY_PIXELS),
    ],
)
def test_rules_on_the_header(settings: dict[str, Any], size: tuple[int, int], reason: Reason | None) -> None:
    verdict = check_header(Header("png", *size), FetchSettings(**settings))
    assert (verdict.reason if verdict else None) is reason


def test_a_format_that_is_not_allowed_needs_no_more_bytes() -> None:
    only_png = FetchSettings(formats=("png",))
    assert check_header(NeedMore(100), only_png) is None
    verdict = check_header(probe(saved(photo(), "jpeg")[:20]), only_png)
    assert verdict is not None
    assert verdict.reason is Reason.FORMAT_NOT_ALLOWED


def test_never_raises() -> None:
    """Random bytes behind every magic, and random damage to real headers; every prefix length that matters."""
    rng = random.Random(7)
    seeds = [saved(photo(40, 30).convert(m), f, **o)[:2000] for f, m, o in VARIANTS]
    seeds += [blank_png(3, 3), many_scans(128, 3)[:500]]
    seeds += [
        b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\0\x40Exif\0\0", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM",
        b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP8L", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"<svg", b"",
        b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1\0\0\0\x80meta",
    ]  # fmt: skip
    kinds = set()
    for _ in range(20_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(6)):
            if data:
                data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        data += rng.randbytes(rng.randrange(80))
        data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data
        found = probe(bytes(data))
        kinds.add(type(found))
        assert not isinstance(found, NeedMore) or found.at_least > len(data)
        assert check_header(found, FetchSettings(min_side=64)) is None or not isinstance(found, NeedMore)
    assert kinds == {Header, NeedMore, Unusable}


def test_hostile_headers_cost_little() -> None:
    """Looking at a growing prefix must not be quadratic: endless fill, junk and tiny segments end the search."""
    for endless in (b"\xff" * 200_000, b"\xff\xd8\xff\xfe\0\2" + b"\xff\xfe\0\2" * 50_000):
        assert isinstance(probe(b"\xff\xd8" + endless), Unusable)
    assert probe(b"\xff\xd8\xff\xfe\0\2" + bytes(100_000)) == NeedMore(200_012, "jpeg")
