"""The score stage's decode: scaled where it can be, close to a whole decode, RGB from all that the bank holds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from curation.errors import CorruptionError
from curation.score.pixels import decode
from tests.score.scenes import pictures

WIDTH, HEIGHT = 1003, 751
"""Odd, so that nothing divides evenly."""


def encoded(image: Image.Image, format: str) -> bytes:
    out = io.BytesIO()
    image.save(out, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[format], quality=95, compress_level=1, method=0)
    return out.getvalue()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return pictures(1, WIDTH, HEIGHT)[0]


def decibels(one: Image.Image, other: Image.Image) -> float:
    difference = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    return float(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-9)))


@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
@pytest.mark.parametrize("side", [32, 224, 400])
def test_close_to_a_whole_decode(picture: Image.Image, format: str, side: int) -> None:
    data = encoded(picture, format)
    found = decode(data, format, side)
    assert found.mode == "RGB"
    assert side <= min(found.size) < 2 * side + 2
    small = (side * WIDTH // HEIGHT, side)  # what a model's own resize would then make of both
    whole = Image.open(io.BytesIO(data)).convert("RGB").resize(small, Image.Resampling.BICUBIC)
    assert decibels(found.resize(small, Image.Resampling.BICUBIC), whole) > 38


@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
def test_small_pictures_come_as_they_are(format: str) -> None:
    small = pictures(1, 50, 40)[0]
    found = decode(encoded(small, format), format, 224)
    assert found.size == (50, 40)
    assert decibels(found, small) > 25


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours_are_rgb(picture: Image.Image, mode: str) -> None:
    data = encoded(picture.convert(mode), "jpg")
    found = decode(data, "jpg", 96)
    assert found.mode == "RGB"
    expected = Image.open(io.BytesIO(data)).convert("RGB").resize(found.size, Image.Resampling.BICUBIC)
    assert decibels(found, expected) > 30


def test_greys_and_palettes_are_rgb(picture: Image.Image) -> None:
    for mode in ("L", "P"):
        assert decode(encoded(picture.convert(mode), "png"), "png", 96).mode == "RGB"


@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
def test_damage_is_said(picture: Image.Image, format: str) -> None:
    data = encoded(picture, format)
    for broken in (data[: len(data) // 2], b"", b"GIF89a" + data[6:]):
        with pytest.raises(CorruptionError, match="cannot be decoded"):
            decode(broken, format, 96)
