"""One image's way through the check: verdict, columns, and what goes into the image bank."""

from __future__ import annotations

import hashlib
import random
import zlib
from dataclasses import replace
from struct import pack
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from curation.image.check import Finding, check
from curation.image.rules import FaultName
from curation.row import FETCH_FIELDS, Reason
from tests.image.samples import ALL_FORMATS, LIMITS, blank_png, insert_segments, opened, photo, pixels, png, saved


def test_names_agree_with_the_rows() -> None:
    assert {Reason(name).value for name in get_args(FaultName)} == set(get_args(FaultName))
    fetched = {field.name for field in FETCH_FIELDS}
    assert set(Finding.__dataclass_fields__) - {"reason", "detail"} <= fetched


@pytest.mark.parametrize(
    ("format", "mode", "options", "stored_format", "as_is"),
    [
        ("jpeg", "RGB", {}, "jpg", True),
        ("jpeg", "RGB", {"progressive": True}, "jpg", True),
        ("jpeg", "L", {}, "jpg", True),
        ("jpeg", "CMYK", {}, "jpg", False),
        ("png", "RGB", {}, "png", True),
        ("png", "L", {}, "png", True),
        ("png", "P", {}, "png", False),
        ("png", "1", {}, "png", False),
        ("png", "RGBA", {}, "png", False),
        ("webp", "RGB", {}, "webp", True),
        ("webp", "RGB", {"lossless": True}, "webp", True),
        ("webp", "RGBA", {}, "webp", True),  # all opaque: Pillow writes no alpha
        ("gif", "P", {}, "png", False),
        ("bmp", "RGB", {}, "png", False),
        ("tiff", "RGB", {}, "png", False),
        ("tiff", "RGB", {"compression": "jpeg"}, "jpg", False),
        ("avif", "RGB", {}, "jpg", False),
    ],
)
def test_what_is_stored(format: str, mode: str, options: dict[str, Any], stored_format: str, as_is: bool) -> None:
    data = saved(photo().convert(mode), format, **options)
    finding, stored = check(data, LIMITS)
    assert stored is not None, finding.detail
    assert (finding.format, finding.stored_format, finding.stored_as_is) == (format, stored_format, as_is)
    assert (finding.width, finding.height, finding.frames) == (320, 240, 1)
    assert finding.source_sha256 == hashlib.sha256(data).hexdigest()
    assert finding.sha256 == hashlib.sha256(stored).hexdigest()
    assert finding.pixel_sha256 is not None
    assert finding.sharpness is not None
    assert finding.sharpness > 0
    difference = np.abs(pixels(stored) - pixels(data))
    assert difference.max() == 0 if as_is or stored_format == "png" else difference.mean() < 2


def test_translucent_lossy_webp_becomes_jpeg() -> None:
    image = photo().convert("RGBA")
    image.putalpha(128)
    assert check(saved(image, "webp"), LIMITS)[0].stored_format == "jpg"
    assert check(saved(image, "webp", lossless=True), LIMITS)[0].stored_format == "png"


def test_clean_files_come_back_as_the_same_object() -> None:
    for format in ("jpeg", "png", "webp"):
        data = saved(photo(), format)
        finding, stored = check(data, LIMITS)
        assert stored is data
        assert finding.sha256 == finding.source_sha256


@pytest.mark.parametrize("format", ["gif", "webp", "png", "tiff", "avif"])
def test_first_frame_and_frame_count(format: str) -> None:
    frames = [photo(64, 48, seed).convert("P") if format == "gif" else photo(64, 48, seed) for seed in range(3)]
    options = {"lossless": True} if format == "webp" else {}
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    finding, stored = check(data, LIMITS)
    assert stored is not None, finding.detail
    assert finding.frames == 3
    assert getattr(opened(stored), "n_frames", 1) == 1
    assert np.abs(pixels(stored) - np.asarray(frames[0].convert("RGB"), np.int16)).mean() < 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"min_side": 300}, "too_small"),
        ({"max_aspect": 1.2}, "aspect_too_extreme"),
        ({"max_pixels": 50_000}, "too_many_pixels"),
        ({"formats": ()}, "format_not_allowed"),
    ],
)
@pytest.mark.parametrize("format", ALL_FORMATS)
def test_rules(format: str, change: dict[str, Any], reason: str) -> None:
    finding, stored = check(saved(photo(), format), replace(LIMITS, **change))
    assert (finding.reason, stored) == (reason, None)
    assert finding.format == format
    assert (finding.width, finding.height) == (320, 240)
    assert finding.source_sha256 is None


def test_rules_see_the_upright_size() -> None:
    exif = Image.Exif()
    exif[274] = 6
    finding, _ = check(saved(photo(300, 100), "jpeg", exif=exif), replace(LIMITS, min_side=200))
    assert (finding.reason, finding.width, finding.height) == ("too_small", 100, 300)


def test_a_frame_larger_than_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GIF whose screen passes the rules and whose first frame does not: asked again, before it is decoded."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in the child
    data = bytearray(saved(photo(64, 48).convert("P"), "gif"))
    frame = data.index(b"\x2c\0\0\0\0\x40\0\x30\0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    finding, _ = check(bytes(data), LIMITS)
    assert finding.reason == "too_many_pixels"
    assert finding.detail.startswith("65535x65535")


def test_two_orientations_in_one_file() -> None:
    """The last one counts, and what is stored has the size that the row says."""

    def exif(orientation: int) -> tuple[int, bytes]:
        return 0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes((orientation, 0, 0, 0, 0, 0, 0))

    for size in ((300, 200), (1300, 1100)):
        plain = saved(photo(*size), "jpeg")
        for first, last in ((6, 1), (1, 6)):
            finding, stored = check(insert_segments(plain, exif(first), exif(last)), LIMITS)
            assert stored is not None
            assert (finding.width, finding.height) == opened(stored).size == (size if last == 1 else size[::-1])


def test_pixel_bombs_are_not_decoded() -> None:
    """40 kB that would take 300 MB; the pixel cap must act on the header, so this takes no time and no memory."""
    bomb = blank_png(20_000, 20_000, 1, 0)
    assert len(bomb) < 100_000
    assert check(bomb, LIMITS)[0].reason == "too_many_pixels"
    lying = bytearray(saved(photo(), "jpeg"))
    sof = lying.index(b"\xff\xc0")
    lying[sof + 5 : sof + 9] = b"\xff\xff\xff\xff"
    assert check(bytes(lying), LIMITS)[0].reason == "too_many_pixels"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_an_image"),
        (b"G", "not_an_image"),
        (b"<html><body>Sorry, this image is not available any more</body></html>", "not_an_image"),
        (b"\xff\xd8", "truncated_image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "truncated_image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "truncated_image"),
        (b"II*\0\xff\xff\xff\x7f" + bytes(40), "truncated_image"),
        (b"%PDF-1.4" + bytes(40), "format_not_allowed"),
    ],
)
def test_what_never_was_an_image(data: bytes, reason: str) -> None:
    assert check(data, LIMITS)[0].reason == reason


@pytest.mark.parametrize("size", [(320, 240), (1100, 1030)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}]
)
def test_jpeg_cut_anywhere_is_truncated(options: dict[str, Any], size: tuple[int, int]) -> None:
    """With and without DCT scaling, baseline and progressive, upright and turned: no cut passes as whole."""
    data = saved(photo(*size), "jpeg", **options)
    assert check(data, LIMITS)[0].reason is None
    cuts = {*range(len(data) - 40, len(data)), *random.Random(2).sample(range(3, len(data)), 25)}
    for cut in sorted(cuts):
        assert check(data[:cut], LIMITS)[0].reason == "truncated_image", cut


@pytest.mark.parametrize("size", [(320, 240), (1100, 1030)])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_with_a_hole_is_damaged(size: tuple[int, int], progressive: bool) -> None:
    """Bytes missing in the middle, the end marker in place: the scaled decode must see it as well."""
    data = saved(photo(*size), "jpeg", progressive=progressive)
    start = data.index(b"\xff\xda") + 20
    for at in range(start, len(data) - 600, (len(data) - 600 - start) // 12):
        assert check(data[:at] + data[-2:], LIMITS)[0].reason == "damaged_image", at
    assert check(data[: len(data) - 30] + b"\xff\xd9", LIMITS)[0].reason == "damaged_image"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("format", ALL_FORMATS)
def test_other_formats_cut_anywhere(format: str) -> None:
    """Never kept; nearly always named truncated. (Decoders of TIFF and AVIF may meet nonsense before the end.)"""
    options: dict[str, Any] = {"compression": "tiff_lzw"} if format == "tiff" else {}
    data = saved(photo().convert("P" if format == "gif" else "RGB"), format, **options)
    cuts = random.Random(5).sample(range(40, len(data) - 1), 40)
    reasons = [check(data[:cut], LIMITS)[0].reason for cut in cuts]
    assert None not in reasons
    assert reasons.count("truncated_image") >= 38


def test_palette_that_is_missing() -> None:
    """It comes to light only when the colours are looked up, behind the decoding proper."""
    chunks = [(b"IHDR", pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(20))), (b"IEND", b"")]
    assert check(png(chunks), LIMITS)[0].reason == "damaged_image"


def test_gif_without_its_trailer_is_whole() -> None:
    """Many GIFs of the web lack the last byte; every browser shows them."""
    data = saved(photo().convert("P"), "gif")
    assert data[-1:] == b";"
    assert check(data[:-1], LIMITS)[0].reason is None
    assert check(data[:-2], LIMITS)[0].reason == "truncated_image"


def test_junk_between_jpeg_segments_does_not_cost_the_image() -> None:
    data = saved(photo(), "jpeg")
    finding, stored = check(data[:20] + b"\0\0junk" + data[20:], LIMITS)
    assert finding.reason is None
    assert stored == data


def test_unusual_jpegs() -> None:
    four_one_one = insert_segments(saved(photo(), "jpeg", subsampling="4:1:1"), (0xFE, b"x"))
    assert check(four_one_one, LIMITS)[0].stored_as_is is True
    motion_jpeg, stored = check(saved(photo(), "jpeg").replace(b"\xff\xc4", b"\xff\xfe"), LIMITS)
    assert motion_jpeg.stored_as_is is False  # it leaves the default Huffman tables to the reader
    assert stored is not None
    assert b"\xff\xc4" in stored
    no_quantiser = saved(photo(), "jpeg").replace(b"\xff\xdb", b"\xff\xfe")
    assert check(no_quantiser, LIMITS)[0].reason == "damaged_image"
    twelve_bit = bytearray(saved(photo(), "jpeg"))
    twelve_bit[twelve_bit.index(b"\xff\xc0") + 4] = 12
    assert check(bytes(twelve_bit), LIMITS)[0].reason == "damaged_image"


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (513, 511), (1024, 1024), (2049, 1025)])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_extreme_shapes(format: str, size: tuple[int, int]) -> None:
    finding, _ = check(saved(photo(*size), format), LIMITS)
    assert (finding.reason, finding.width, finding.height) == (None, *size)
