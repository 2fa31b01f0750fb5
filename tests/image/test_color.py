"""Every kind of pixel ends as 8-bit sRGB or grey on white, upright."""

from __future__ import annotations

from io import BytesIO
from struct import pack

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from curation.image.check import Finding, check
from curation.image.color import flattened, needs_conversion, to_srgb, upright, with_profile
from tests.image.samples import LIMITS, opened, photo, pixels, png, saved

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def stored(data: bytes) -> tuple[Finding, Image.Image]:
    finding, kept = check(data, LIMITS)
    assert kept is not None, finding.detail
    return finding, opened(kept)


def matrix_profile(primaries: list[tuple[float, float, float]], gamma: float | None, space: bytes = b"RGB ") -> bytes:
    """A display profile: XYZ (D50) of the primaries, and a gamma or, without one, sRGB's curve (ICC.1:2001-04 §6.3)."""

    def fixed(value: float) -> bytes:
        return pack(">i", round(value * 65536))

    if gamma is None:
        curve = b"para" + bytes(4) + pack(">HH", 3, 0)
        curve += b"".join(map(fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    else:
        curve = b"curv" + bytes(4) + pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = [(b"desc", b"desc" + bytes(4) + pack(">I", 5) + b"made\0" + bytes(78) + bytes(1))]
    tags += [(b"wtpt", b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1.0) + fixed(0.8249))]
    if space == b"RGB ":
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True):
            tags.append((name, b"XYZ " + bytes(4) + b"".join(map(fixed, xyz))))
        tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    else:
        tags.append((b"kTRC", curve))
    table, body, at = pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        content += bytes(-len(content) % 4)
        table += name + pack(">II", at + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    head = pack(">I", size) + b"lcms" + pack(">I", 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    head += bytes(28) + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return head + bytes(128 - len(head)) + table + body


ADOBE_RGB = matrix_profile([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 2.2)
SRGB_2_2 = matrix_profile([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)], 2.2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_pillows(orientation: int) -> None:
    image = photo(7, 5)
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(upright(np.asarray(photo(7, 5)), orientation), expected)
    grey = photo(7, 5).convert("L")
    assert upright(np.asarray(grey), orientation).shape == expected.shape[:2]


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_every_format(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    source = photo(64, 40)
    source.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(source), np.int16)
    finding, image = stored(saved(photo(64, 40), format, exif=exif))
    assert (finding.width, finding.height) == image.size == (expected.shape[1], expected.shape[0])
    assert np.abs(np.asarray(image, np.int16) - expected).mean() < 8


def test_avif_rotation() -> None:
    exif = Image.Exif()
    exif[274] = 6
    finding, image = stored(saved(photo(64, 40), "avif", exif=exif, quality=95))
    assert (finding.width, finding.height) == (40, 64)
    truth = np.asarray(photo(64, 40).transpose(Image.Transpose.ROTATE_270), np.int16)
    assert np.abs(np.asarray(image, np.int16) - truth).mean() < 8


def half_transparent(mode: str) -> Image.Image:
    """The left half opaque (200, 40, 40), the right half fully transparent black, a strip of half in between."""
    image = Image.new("RGBA", (30, 10), (0, 0, 0, 0))
    image.paste((200, 40, 40, 255), (0, 0, 10, 10))
    image.paste((200, 40, 40, 128), (10, 0, 20, 10))
    return image.convert(mode)


@pytest.mark.parametrize("format", ["png", "webp", "tiff", "avif"])
def test_alpha_is_laid_on_white(format: str) -> None:
    options = {"lossless": True} if format == "webp" else {"quality": 100} if format == "avif" else {}
    _, image = stored(saved(half_transparent("RGBA"), format, **options))
    rgb = np.asarray(image.convert("RGB"), int)
    assert np.abs(rgb[5, 5] - (200, 40, 40)).max() <= 6
    assert np.abs(rgb[5, 15] - (227, 147, 147)).max() <= 8
    assert np.abs(rgb[5, 25] - 255).max() <= 4


def test_grey_alpha_palette_and_key_transparency_are_laid_on_white() -> None:
    grey = Image.new("LA", (4, 4), (10, 0))
    assert np.asarray(stored(saved(grey, "png"))[1]).min() == 255
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    palette.putpixel((0, 0), 2)
    for format in ("png", "gif"):
        image = stored(saved(palette, format, transparency=1))[1].convert("RGB")
        assert image.getpixel((0, 0)) == (200, 0, 0)
        assert image.getpixel((1, 1)) == (255, 255, 255)
    key = saved(Image.new("RGB", (4, 4), (1, 2, 3)), "png", transparency=(1, 2, 3))
    assert np.asarray(stored(key)[1]).min() == 255
    key = saved(Image.new("L", (4, 4), 7), "png", transparency=7)
    assert np.asarray(stored(key)[1]).min() == 255


def test_16_bit_is_scaled_not_cut_off() -> None:
    ramp = np.linspace(0, 65535, 256 * 8).astype(np.uint16).reshape(8, 256)
    expected = np.round(ramp / 257.0)
    for format in ("png", "tiff"):
        finding, image = stored(saved(Image.fromarray(ramp), format))
        assert image.mode == "L"
        assert finding.stored_format == "png"
        assert np.abs(np.asarray(image, int) - expected).max() <= 0
    big_endian = Image.frombytes("I;16B", (256, 8), ramp.astype(">u2").tobytes())
    assert np.array_equal(flattened(big_endian, None), expected)


def test_16_bit_colour_and_alpha_are_scaled() -> None:
    rows = b"".join(b"\0" + pack(">HHH", v, 65535 - v, 0x8080) * 4 for v in range(0, 65536, 4096))
    header = pack(">IIBBBBB", 4, 16, 16, 2, 0, 0, 0)
    import zlib

    _, image = stored(png([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]))
    rgb = np.asarray(image, int)[:, 0]
    assert np.abs(rgb[:, 0] - np.arange(0, 65536, 4096) / 257).max() < 1
    assert np.abs(rgb[:, 1] - (65535 - np.arange(0, 65536, 4096)) / 257).max() < 1
    assert (rgb[:, 2] == 128).all()
    grey_alpha = b"".join(b"\0" + pack(">HH", v, 65535) * 4 for v in range(0, 65536, 4096))
    header = pack(">IIBBBBB", 4, 16, 16, 4, 0, 0, 0)
    _, image = stored(png([(b"IHDR", header), (b"IDAT", zlib.compress(grey_alpha)), (b"IEND", b"")]))
    assert np.abs(np.asarray(image.convert("L"), int)[:, 0] - np.arange(0, 65536, 4096) / 257).max() < 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 127.0, 255.0]], np.float32), [0, 127, 255]),
        (np.array([[-3.0, 32767.5, 65535.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0.25, 1.0]], np.float32), [0, 64, 255]),
        (np.array([[np.inf, 0.0, 1.0]], np.float32), [255, 0, 0]),
        (np.array([[0, 1, 255]], np.int32), [0, 1, 255]),
        (np.array([[0, 65535, 257]], np.int32), [0, 255, 1]),
        (np.array([[-5, 2**31 - 1, 0]], np.int32), [0, 127, 0]),
    ],
)
def test_32_bit_tiff(values: np.ndarray, expected: list[int]) -> None:
    _, image = stored(saved(Image.fromarray(values), "tiff"))
    assert np.asarray(image)[0].tolist() == expected


def test_one_bit_and_palette() -> None:
    checker = Image.fromarray((np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8))
    for format in ("png", "bmp", "tiff", "gif"):
        _, image = stored(saved(checker.convert("1"), format))
        assert np.array_equal(np.asarray(image.convert("L")), np.asarray(checker))
    source = photo(64, 64).quantize(64)
    _, image = stored(saved(source, "png"))
    assert np.array_equal(np.asarray(image), np.asarray(source.convert("RGB")))


def test_cmyk() -> None:
    source = photo().convert("CMYK")
    finding, image = stored(saved(source, "jpeg", quality=95))
    assert (finding.format, finding.stored_format, finding.stored_as_is) == ("jpeg", "jpg", False)
    assert np.abs(np.asarray(image, int) - np.asarray(photo(), int)).mean() < 6
    assert image.layer[0][1:3] == (1, 1)  # type: ignore[attr-defined]  # 4:4:4
    _, tiff = stored(saved(source, "tiff"))
    assert np.abs(np.asarray(tiff, int) - np.asarray(photo(), int)).mean() < 1


def test_icc_of_another_gamut_is_applied() -> None:
    """Against Pillow's own conversion of the same pixels, in every container that holds a profile."""
    source = photo()
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(BytesIO(ADOBE_RGB)), ImageCms.createProfile("sRGB"), "RGB", "RGB", 1, 0x2000
    )
    truth = np.asarray(ImageCms.applyTransform(source, transform), int)
    assert np.abs(truth - np.asarray(source, int)).max() > 30
    for format, options in (("png", {}), ("tiff", {}), ("webp", {"lossless": True}), ("jpeg", {"quality": 98})):
        finding, image = stored(saved(source, format, icc_profile=ADOBE_RGB, **options))
        assert finding.stored_as_is is False
        assert "icc_profile" not in image.info
        assert np.abs(np.asarray(image, int) - truth).mean() < (0.01 if format != "jpeg" else 3), format
    _, avif = stored(saved(source, "avif", icc_profile=ADOBE_RGB, quality=100))
    assert np.abs(np.asarray(avif, int) - truth).mean() < 3


def test_srgb_profiles_do_not_cost_the_original_bytes() -> None:
    for icc in (SRGB, SRGB + bytes(100)):
        plain = saved(photo(), "jpeg")
        finding, kept = check(saved(photo(), "jpeg", icc_profile=icc), LIMITS)
        assert finding.stored_as_is is True
        assert kept == plain
    assert not needs_conversion(SRGB, grey=False)
    assert needs_conversion(SRGB_2_2, grey=False)  # the same primaries, but another curve: darks differ by 6 levels
    assert needs_conversion(ADOBE_RGB, grey=False)


def test_grey_profiles() -> None:
    linear = matrix_profile([], 1.0, b"GRAY")
    finding, image = stored(saved(photo().convert("L"), "png", icc_profile=linear))
    assert image.mode == "L"
    assert finding.stored_as_is is False
    grey = np.full((2, 2), 55, np.uint8)
    assert np.abs(with_profile(grey, linear).astype(int) - 128).max() <= 1  # sRGB encodes linear 0.2157 as 128
    assert needs_conversion(linear, grey=True)
    assert not needs_conversion(linear, grey=False)  # a grey profile on a colour picture means nothing
    assert not needs_conversion(matrix_profile([], None, b"GRAY"), grey=True)  # sRGB's own curve
    _, rgb = stored(saved(photo().convert("L"), "jpeg", icc_profile=SRGB))
    assert rgb.mode == "L"


@pytest.mark.parametrize("icc", [b"", b"not a profile", SRGB[:200], SRGB[:128] + bytes(4000), bytes(132)])
def test_broken_profiles_are_ignored(icc: bytes) -> None:
    assert to_srgb(icc, "RGB") is None
    finding, kept = check(saved(photo(), "png", icc_profile=icc or b"\0"), LIMITS)
    assert finding.stored_as_is is True
    assert kept is not None
    assert np.array_equal(pixels(kept), np.asarray(photo(), np.int16))


def test_lab_tiff() -> None:
    lab = ImageCms.applyTransform(
        photo(), ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    )
    assert lab is not None
    _, image = stored(saved(lab, "tiff"))
    assert np.abs(np.asarray(image, int) - np.asarray(photo(), int)).mean() < 3
