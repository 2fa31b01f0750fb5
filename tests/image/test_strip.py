"""Metadata never survives, the picture always does, and files that end early are told from damaged ones."""

from __future__ import annotations

import random
from io import BytesIO
from struct import pack
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms, PngImagePlugin

from curation.image.check import check
from curation.image.rules import Fault
from curation.image.strip import strip_jpeg, strip_png, strip_webp
from tests.image.samples import LIMITS, insert_segments, opened, photo, pixels, png, saved

SECRET = b"EINSTEINHAUS-Kramgasse-49"


def gps_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[270] = SECRET.decode()
    exif[305] = SECRET.decode()
    gps = exif.get_ifd(0x8825)
    gps.update({1: "N", 2: (46.0, 56.0, 52.0), 3: "E", 4: (7.0, 26.0, 59.0), 27: SECRET})
    return exif


def revealing(format: str, image: Image.Image, **options: Any) -> bytes:
    """`image` with GPS and SECRET in every place for metadata that the format has."""
    xmp = b"<x:xmpmeta><rdf:Description exif:GPSLatitude='46,56.9N'>" + SECRET + b"</rdf:Description></x:xmpmeta>"
    if format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", SECRET.decode())
        info.add_text("Title", SECRET.decode(), zip=True)
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        info.add(b"prVt", SECRET)
        return saved(image, "png", exif=gps_exif(), pnginfo=info, **options)
    if format == "jpeg":
        data = saved(image, "jpeg", exif=gps_exif(), comment=SECRET, xmp=xmp, **options)
        return insert_segments(data, (0xED, b"Photoshop 3.0\0" + SECRET), (0xE7, SECRET)) + SECRET
    if format == "webp":
        return saved(image, "webp", exif=gps_exif(), xmp=xmp, **options) + b"trailer " + SECRET
    if format == "gif":
        return saved(image, "gif", comment=SECRET, **options) + SECRET
    if format == "tiff":
        return saved(image, "tiff", exif=gps_exif(), description=SECRET.decode(), **options)
    if format == "avif":
        return saved(image, "avif", exif=gps_exif(), xmp=xmp, **options)
    return saved(image, format, **options) + SECRET


REVEALING = [
    ("jpeg", "RGB", {}),
    ("jpeg", "RGB", {"progressive": True}),
    ("jpeg", "L", {}),
    ("jpeg", "CMYK", {}),
    ("png", "RGB", {}),
    ("png", "L", {}),
    ("png", "RGBA", {}),
    ("png", "P", {}),
    ("webp", "RGB", {}),
    ("webp", "RGB", {"lossless": True}),
    ("webp", "RGBA", {}),
    ("webp", "RGB", {"save_all": True, "append_images": [photo(seed=1)]}),
    ("gif", "P", {}),
    ("bmp", "RGB", {}),
    ("tiff", "RGB", {}),
    ("tiff", "L", {"compression": "tiff_lzw"}),
    ("avif", "RGB", {}),
]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("format", "mode", "options"), REVEALING)
def test_gps_never_survives(format: str, mode: str, options: dict[str, Any], orientation: int) -> None:
    data = revealing(format, photo().convert(mode), **options)
    assert SECRET in data
    if orientation != 1 and format in ("jpeg", "png", "webp", "tiff"):
        exif = gps_exif()
        exif[274] = orientation
        data = saved(photo().convert(mode), format, exif=exif, **options)
        assert SECRET in data
    finding, stored = check(data, LIMITS)
    assert stored is not None, finding.detail
    for trace in (SECRET, b"Exif", b"EXIF", b"eXIf", b"XMP", b"xmpmeta", b"GPS", b"Photoshop", b"tEXt", b"iTXt"):
        assert trace not in stored, trace
    image = opened(stored)
    assert not image.getexif()
    assert not {"comment", "xmp", "exif", "photoshop", "icc_profile"} & image.info.keys()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30, "restart_marker_rows": 1}]
)
def test_jpeg_pixels_are_untouched(options: dict[str, Any]) -> None:
    plain = saved(photo(), "jpeg", **options)
    parts = strip_jpeg(revealing("jpeg", photo(), **options))
    assert parts.stripped == plain
    assert parts.storable
    assert strip_jpeg(plain).stripped is plain


def test_jpeg_comments_between_scans_go() -> None:
    data = saved(photo(), "jpeg", progressive=True)
    scans = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    assert len(scans) > 3
    comment = b"\xff\xfe" + pack(">H", len(SECRET) + 2) + SECRET
    hidden = data[: scans[2]] + comment + data[scans[2] :]
    assert strip_jpeg(hidden).stripped == data


def test_jpeg_thumbnail_in_jfif_goes() -> None:
    data = saved(photo(), "jpeg")
    assert data[:4] == b"\xff\xd8\xff\xe0"
    thumb = b"\xff\xe0" + pack(">H", 16 + 12) + data[6:18] + bytes((2, 2)) + bytes(12)
    assert strip_jpeg(data[:2] + thumb + data[20:]).stripped == data
    fat_adobe = insert_segments(data, (0xEE, b"Adobe\0\x64\0\0\0\0\1" + SECRET))
    assert SECRET not in strip_jpeg(fat_adobe).stripped


def test_jpeg_colours_stay_what_adobe_says() -> None:
    """An RGB JPEG without colour transform: dropping its APP14 would turn it green."""
    raw = saved(photo(), "jpeg", keep_rgb=True, comment=SECRET, subsampling=0)
    parts = strip_jpeg(raw)
    assert SECRET not in parts.stripped
    assert np.array_equal(pixels(parts.stripped), pixels(raw))


def test_later_images_of_a_jpeg_go_and_are_counted() -> None:
    data = saved(photo(), "mpo", save_all=True, append_images=[photo(seed=2), photo(seed=3)])
    finding, stored = check(data, LIMITS)
    assert (finding.format, finding.frames, finding.stored_as_is) == ("jpeg", 3, True)
    assert stored is not None
    assert stored.count(b"\xff\xd8\xff") == 1
    assert len(stored) < len(data) // 2


def test_png_and_webp_pixels_are_untouched() -> None:
    for strip, format, options in (
        (strip_png, "png", {}),
        (strip_webp, "webp", {}),
        (strip_webp, "webp", {"lossless": True}),
    ):
        plain = saved(photo(), format, **options)
        parts = strip(revealing(format, photo(), **options))
        assert (parts.stripped, parts.storable) == (plain, True)
        assert strip(plain).stripped is plain


@pytest.mark.parametrize(("name", "tail"), [("jpeg", 300), ("png", 300), ("webp", 300)])
def test_every_cut_is_truncation(name: str, tail: int) -> None:
    strip = {"jpeg": strip_jpeg, "png": strip_png, "webp": strip_webp}[name]
    data = saved(photo(), name)
    cuts = [*range(len(data) - tail, len(data)), *random.Random(1).sample(range(40, len(data)), 300)]
    for cut in cuts:
        with pytest.raises(Fault) as caught:
            strip(data[:cut])
        assert caught.value.reason == "truncated_image", cut


def test_icc_is_read_whole_from_every_container() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(200_000)
    assert strip_jpeg(saved(photo(), "jpeg", icc_profile=icc)).icc == icc
    assert strip_png(saved(photo(), "png", icc_profile=icc)).icc == icc
    assert strip_webp(saved(photo(), "webp", icc_profile=icc)).icc == icc
    data = saved(photo(), "jpeg", icc_profile=icc)
    second = data.index(b"ICC_PROFILE\0\x02")
    assert strip_jpeg(data[: second + 12] + b"\x09" + data[second + 13 :]).icc is None  # a piece is missing


def test_png_profile_bomb_is_ignored() -> None:
    import zlib

    bomb = b"x\0\0" + zlib.compress(bytes(200_000_000), 9)
    plain = saved(photo(8, 8), "png")
    chunk = pack(">I", len(bomb)) + b"iCCP" + bomb + pack(">I", zlib.crc32(b"iCCP" + bomb))
    parts = strip_png(plain[:33] + chunk + plain[33:])
    assert parts.icc is None
    assert parts.stripped == plain


def test_png_checksums_are_checked() -> None:
    data = bytearray(saved(photo(), "png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(Fault, match="checksum"):
        strip_png(bytes(data))
    with pytest.raises(Fault, match="critical chunk"):
        strip_png(png([(b"CgBI", bytes(4))]))


def test_animations_are_not_stored_as_they_are() -> None:
    animated = saved(photo(), "webp", save_all=True, append_images=[photo(seed=1), photo(seed=2)], lossless=True)
    parts = strip_webp(animated)
    assert (parts.frames, parts.storable, parts.lossy) == (3, False, False)
    lossy = strip_webp(saved(photo(), "webp", save_all=True, append_images=[photo(seed=1)]))
    assert (lossy.frames, lossy.storable, lossy.lossy) == (2, False, True)


def test_apng_keeps_its_default_image() -> None:
    animated = saved(photo(), "png", save_all=True, append_images=[photo(seed=1), photo(seed=2)])
    parts = strip_png(animated)
    assert (parts.frames, parts.storable) == (3, True)
    assert np.array_equal(pixels(parts.stripped), pixels(saved(photo(), "png")))
    hidden = saved(photo(), "png", save_all=True, default_image=True, append_images=[photo(seed=1), photo(seed=2)])
    assert strip_png(hidden).frames == 3  # as Pillow counts: the default image and two frames


def test_webp_alpha_is_seen() -> None:
    for options in ({}, {"lossless": True}):
        translucent = photo().convert("RGBA")
        translucent.putalpha(100)
        assert not strip_webp(saved(translucent, "webp", **options)).storable


def test_never_anything_but_a_fault() -> None:
    """Random damage: the parsers raise Fault or return; what they return decodes or is refused, never crashes."""
    rng = random.Random(3)
    seeds = [
        (strip_jpeg, revealing("jpeg", photo(48, 40), progressive=True)),
        (strip_png, revealing("png", photo(48, 40))),
        (strip_webp, revealing("webp", photo(48, 40))),
    ]
    faults = 0
    for _ in range(3000):
        strip, good = rng.choice(seeds)
        data = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(12, len(data))] = rng.choice((0, 0xFF, 0xD9, 0xDA, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(12, len(data)) :]
        try:
            strip(bytes(data))
        except Fault:
            faults += 1
    assert 300 < faults < 3000


def test_stripped_jpeg_still_decodes_strictly() -> None:
    data = saved(photo(), "jpeg")
    for junk in (b"\0\0\0", b"\xff\xff", b"abc"):
        padded = data[:20] + junk + data[20:]
        assert strip_jpeg(padded).stripped in (data, data[:20] + data[20:])
    simplejpeg.decode_jpeg(strip_jpeg(data[:20] + b"abc" + data[20:]).stripped, strict=True)
    with Image.open(BytesIO(data)) as image:
        assert image.size == (320, 240)
