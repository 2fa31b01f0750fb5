"""Pictures of any size for benchmarks and tests: cut from real photos where there are some, else rendered scenes.

Real photos give JPEGs their real size and decoding time, which rendered ones do not; both are the same on every run.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from curation.scenes.dice import Dice
from curation.scenes.render import render
from curation.scenes.scene import random_scene

PHOTOS = Path(os.environ.get("CURATION_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "photos"
"""Nine photos of 5 to 24 megapixels: in the folder `CURATION_SHARED`, or `shared` beside the checkout."""


def material() -> str:
    """What `cut` cuts from, for the notes of a benchmark."""
    return "cut from photos" if photo_files() else "rendered scenes, for there are no photos here"


def photo_files() -> list[Path]:
    """The photos at hand, sorted; empty where there are none."""
    return sorted(PHOTOS.glob("*.jpg"))


@lru_cache(maxsize=9)
def _photo(path: Path) -> tuple[NDArray[np.uint8], ...]:
    """A photo as uint8 RGB [H, W, 3], 2,700 to 3,100 pixels wide, and at a half, a quarter, an eighth of it."""
    data = path.read_bytes()
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    scale = min(1.0, 2700 / width)
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data, "RGB", min_height=int(height * scale), min_width=int(width * scale)
    )
    if scale < 1 and pixels.shape[1] > 3100:
        size = (int(width * scale), int(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    levels = [pixels]
    for _ in range(3):
        half = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False))
    return tuple(levels)


def cut(key: object, width: int, height: int, quality: int) -> bytes:
    """A JPEG of `width` x `height` pixels: a window of a photo that `key` picks, scaled (or a scene of that seed)."""
    dice = Dice("cut", key)
    files = photo_files()
    if not files:
        pixels = render(random_scene(("cut", key)), width, height, seed=key)
    else:
        levels = _photo(dice.pick(files))
        height_0, width_0 = levels[0].shape[:2]
        largest = min(width_0 / width, height_0 / height)
        zoom = min(largest, max(1.0, largest * dice.between(0.5, 1.0)))  # under 1, blown up, only where it must be
        depth = min(int(math.log2(max(1.0, zoom))), len(levels) - 1)
        whole, zoom = levels[depth], zoom / 2**depth
        window_w, window_h = min(int(width * zoom), whole.shape[1]), min(int(height * zoom), whole.shape[0])
        left = int(dice.unit() * (whole.shape[1] - window_w))
        top = int(dice.unit() * (whole.shape[0] - window_h))
        window = np.ascontiguousarray(whole[top : top + window_h, left : left + window_w])
        shrink = cv2.INTER_AREA if zoom >= 1 else cv2.INTER_CUBIC
        pixels = cv2.resize(window, (width, height), interpolation=shrink).astype(np.uint8, copy=False)
    return bytes(simplejpeg.encode_jpeg(pixels, quality, "RGB", "420"))
