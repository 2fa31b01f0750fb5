"""A scene as the file that a web server would send: size, format, quality, what people do to it; for the gallery."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from curation.scenes.render import DEFAULT_LOOK, Look, render
from curation.scenes.scene import Scene, random_scene

Effect = Literal["none", "blurred", "watermarked", "rotated"]
CLEAN = Look(grain=0.0)
"""PNGs on the web are drawings and screenshots, without noise; with it they would be ten times the size."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One file. Two rows with equal pictures get the same bytes."""

    scene: str
    """Seed of the scene, and of its rendering."""
    width: int
    """Pixels, as people see it (upright)."""
    height: int
    format: Literal["jpeg", "png", "webp"]
    quality: int = 90
    effect: Effect = "none"

    def encode(self) -> bytes:
        """The file's bytes; the same on every call. Takes 5 to 60 ms at 1.5 megapixels."""
        pixels = self.pixels()
        if self.effect == "rotated":
            return _rotated_jpeg(pixels, self.quality)
        if self.format == "jpeg":
            return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), self.quality, "RGB", "420"))
        if self.format == "webp":
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "WEBP", quality=self.quality, method=1)  # a third of the default's time
            return out.getvalue()
        done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])
        assert done
        return data.tobytes()

    def pixels(self) -> NDArray[np.uint8]:
        """What people see: uint8 RGB [height, width, 3]."""
        look = CLEAN if self.format == "png" else Look()
        return draw(random_scene(self.scene), self.width, self.height, seed=self.scene, effect=self.effect, look=look)


def draw(
    scene: Scene,
    width: int,
    height: int,
    *,
    seed: object,
    effect: Effect = "none",
    look: Look = DEFAULT_LOOK,
    thumbnail: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """`scene` with what an effect does to it: uint8 RGB [height, width, 3], upright.

    `blurred` is a thumbnail that somebody blew up: of a twelfth of the sides where `thumbnail` does not say its own.
    """
    if effect == "blurred":
        small = thumbnail or (width // 12, height // 12)
        tiny = render(scene, max(8, small[0]), max(8, small[1]), seed=seed, look=CLEAN)
        return cv2.resize(tiny, (width, height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
    pixels = render(scene, width, height, seed=seed, look=look)
    return _watermarked(pixels) if effect == "watermarked" else pixels


def _watermarked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The name of a stock site, half-transparent, all over the picture."""
    height, width = pixels.shape[:2]
    size = max(10, min(width, height) // 14)
    font = ImageFont.load_default(size)
    mark = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mark)
    for row, y in enumerate(range(size, height, 4 * size)):
        for x in range(-(row % 2) * 4 * size, width, 9 * size):
            draw.text((x, y), "STOCKSHAPES", fill=120, font=font)
    return np.asarray(Image.composite(Image.new("RGB", mark.size, "grey"), Image.fromarray(pixels), mark))


def _rotated_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """As a phone held upright writes it: stored sideways, EXIF orientation 6, a camera's name and a GPS position."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn clockwise by 90° to see it
    exif[0x010F], exif[0x0110] = "Embedded World", "Scene 1"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(out, "JPEG", quality=quality, exif=exif)
    return out.getvalue()
