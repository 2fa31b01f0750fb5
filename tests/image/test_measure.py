"""Perceptual hash, sharpness and pixel names: what must agree agrees, what must differ differs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from curation.image.check import Finding, check
from curation.image.measure import SHORT_SIDE, at_measuring_size, phash, pixel_sha256, reduction, sharpness
from tests.image.samples import LIMITS, photo, saved


def luma(image: Image.Image) -> np.ndarray:
    return at_measuring_size(np.asarray(image.convert("L")))


def found(data: bytes) -> Finding:
    finding, _ = check(data, LIMITS)
    assert finding.reason is None, finding.detail
    return finding


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 768), (688, 512)),
        ((768, 1024), (512, 688)),
        ((512, 512), (512, 512)),
        ((3000, 2000), (768, 512)),
        ((300, 200), (300, 200)),
        ((1, 5000), (1, 5000)),
        ((8193, 4097), (1024, 512)),
    ],
)
def test_measuring_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    high, wide = at_measuring_size(np.zeros((size[1], size[0]), np.uint8)).shape
    assert (wide, high) == expected


def test_reduction_leaves_512_pixels() -> None:
    assert [reduction(w, 10_000) for w in (1, 1023, 1024, 2047, 2048, 4095, 4096, 9000)] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert all(side // reduction(side, side) >= min(side, SHORT_SIDE) for side in range(1, 9000))


def test_phash_survives_what_a_copy_goes_through() -> None:
    original = photo(1600, 1200)
    name = phash(luma(original))
    assert name is not None
    copies = [
        original.resize((800, 600), Image.Resampling.LANCZOS),
        original.resize((400, 300), Image.Resampling.LANCZOS),
        original.point(lambda v: min(255, round(v * 1.1))),
        original.filter(ImageFilter.GaussianBlur(2)),
    ]
    for copy in copies:
        other = phash(luma(copy))
        assert other is not None
        assert (name ^ other).bit_count() <= 4
    for quality in (95, 40):
        other = found(saved(original, "jpeg", quality=quality)).phash
        assert other is not None
        assert (name ^ other).bit_count() <= 4


def test_phash_tells_pictures_apart() -> None:
    names = [phash(luma(photo(600, 600, seed))) for seed in range(30)]
    distances = [(a ^ b).bit_count() for i, a in enumerate(names) for b in names[:i] if a is not None and b is not None]
    assert len(distances) == 435
    assert min(distances) > 10
    assert 28 < np.mean(distances) < 36
    assert all(name is not None and name.bit_count() == 32 for name in names)  # split at the median


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (32, 32), (700, 700), (1, 4000), (4000, 600)])
def test_flat_pictures_have_no_hash(size: tuple[int, int]) -> None:
    flat = np.full((size[1], size[0]), 180, np.uint8)
    assert phash(at_measuring_size(flat)) is None
    assert sharpness(at_measuring_size(flat)) == 0
    noise = np.random.default_rng(0).integers(178, 183, flat.shape).astype(np.uint8)
    assert phash(at_measuring_size(noise)) is None


def test_sharpness_falls_with_blur() -> None:
    original = photo(1400, 1050)
    values = [sharpness(luma(original.filter(ImageFilter.GaussianBlur(r)))) for r in (0, 1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * values[-1]


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    """Against the definition, on the inner pixels (borders are mirrored)."""
    grey = np.asarray(photo(200, 150).convert("L"), int)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    assert sharpness(grey.astype(np.uint8)) == pytest.approx(laplacian.var(), rel=0.03)


def test_sharpness_does_not_depend_on_the_container() -> None:
    """JPEG is measured on its scaled decode, PNG on a box-reduced one: nearly the same."""
    source = photo(2100, 1500)
    jpeg, png = found(saved(source, "jpeg", quality=98, subsampling=0)), found(saved(source, "png", compress_level=1))
    assert jpeg.sharpness == pytest.approx(png.sharpness, rel=0.15)


@pytest.mark.parametrize("size", [(640, 480), (1500, 1100), (2051, 2049)])
def test_pixel_name_ignores_metadata_only(size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[271] = "Maker"
    plain = found(saved(photo(*size), "jpeg"))
    tagged = found(saved(photo(*size), "jpeg", exif=exif, comment=b"hello"))
    assert plain.source_sha256 != tagged.source_sha256
    assert plain.pixel_sha256 == tagged.pixel_sha256
    assert plain.sha256 == tagged.sha256
    other = photo(*size)
    other.paste((255, 0, 0), (10, 10, 26, 26))
    assert found(saved(other, "jpeg")).pixel_sha256 != plain.pixel_sha256
    optimised = found(saved(photo(*size), "jpeg", optimize=True))  # other Huffman tables, same pixels
    assert optimised.sha256 != plain.sha256
    assert optimised.pixel_sha256 == plain.pixel_sha256


def test_pixel_name_is_the_same_in_all_lossless_formats() -> None:
    names = {
        found(saved(photo(), f, **o)).pixel_sha256
        for f, o in (("png", {}), ("bmp", {}), ("tiff", {}), ("webp", {"lossless": True}))
    }
    assert len(names) == 1
    grey = photo().convert("L")
    assert found(saved(grey, "png")).pixel_sha256 == found(saved(grey.convert("RGB"), "png")).pixel_sha256


def test_pixel_name_sees_size_and_every_pixel() -> None:
    block = np.zeros((4, 6, 3), np.uint8)
    assert pixel_sha256(block, 6, 4) != pixel_sha256(block.reshape(6, 4, 3), 4, 6)
    for at in np.ndindex(4, 6, 3):
        changed = block.copy()
        changed[at] = 1
        assert pixel_sha256(changed, 6, 4) != pixel_sha256(block, 6, 4)
