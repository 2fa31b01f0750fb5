"""Pictures as files: sizes, formats and effects are real, and equal pictures are equal bytes."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from curation.scenes.pictures import Picture

PLAIN = Picture(scene="9", width=420, height=280, format="jpeg", quality=90)


def opened(picture: Picture) -> Image.Image:
    image = Image.open(io.BytesIO(picture.encode()))
    image.load()
    return image


def sharpness(picture: Picture) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture.pixels(), cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp"])
def test_files_are_what_they_claim(format_: str) -> None:
    picture = replace(PLAIN, format=format_)
    image = opened(picture)
    assert image.format == format_.upper()
    assert image.size == (420, 280)
    assert image.mode == "RGB"
    error = np.abs(np.asarray(image).astype(int) - picture.pixels())
    assert error.mean() < (0.01 if format_ == "png" else 4)
    assert picture.encode() == picture.encode()


def test_a_photo_of_a_phone_is_stored_sideways_and_says_where_it_was_taken() -> None:
    picture = replace(PLAIN, effect="rotated")
    image = opened(picture)
    assert image.size == (280, 420)
    assert image.getexif()[0x0112] == 6
    assert image.getexif().get_ifd(0x8825)[1] == "N"
    upright = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert np.abs(upright - PLAIN.pixels()).mean() < 4


def test_blurred_pictures_are_blurred() -> None:
    assert sharpness(replace(PLAIN, effect="blurred")) < 0.2 * sharpness(replace(PLAIN, format="png"))


def test_watermarks_cover_the_picture_and_let_it_through() -> None:
    changed = np.abs(replace(PLAIN, effect="watermarked").pixels().astype(int) - PLAIN.pixels()).max(-1) > 8
    assert 0.02 < changed.mean() < 0.3
    quarters = [changed[:140, :210], changed[:140, 210:], changed[140:, :210], changed[140:, 210:]]
    assert all(quarter.any() for quarter in quarters)
