"""Whatever a decoder gives, as 8-bit sRGB or grey on white, upright. Called by `curation.image.check` in the child.

Grey stays one channel. ICC profiles are applied with the relative colorimetric intent and black point compensation
(what browsers and photo editors default to); a profile that cannot be read is ignored, as browsers do. CMYK without a
profile is converted as Pillow and browsers do, (1 - C)(1 - K).
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]
"""[H, W] grey or [H, W, 3] RGB."""

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_SAME = 2
"""Levels of 255. sRGB profiles of different makers differ by 1 from each other; Display P3 by over 100."""


@lru_cache(maxsize=16)
def to_srgb(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from `icc` to sRGB for pictures of `mode` (L, RGB, CMYK); None where there is nothing to do.

    That is the case for profiles that are sRGB in all but name, that cannot be read, and that belong to another mode.
    """
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if space != {"L": "GRAY"}.get(mode, mode):
            return None
        transform = ImageCms.buildTransform(
            profile,
            _SRGB,
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "CMYK" and _changes(transform, mode) <= _SAME:
            return None
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    return transform


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> int:
    """By how many levels a transform moves a colour at most, over a grid of all colours."""
    levels = np.linspace(0, 255, 52 if mode == "L" else 18).round().astype(np.uint8)
    if mode == "L":
        grid = levels[None, :]
    else:
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(len(levels), -1, 3)
    moved = np.asarray(_applied(Image.fromarray(grid), transform)).astype(int)
    return int(np.abs(moved - (grid[..., None] if mode == "L" else grid)).max())


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # only with inPlace
    return converted


def with_profile(pixels: Pixels, icc: bytes | None) -> Pixels:
    """`pixels` brought from the colours of `icc` to sRGB. Grey under an RGB profile counts as RGB."""
    if icc is None:
        return pixels
    if pixels.ndim == 2 and (transform := to_srgb(icc, "L")):
        rgb = np.asarray(_applied(Image.fromarray(pixels), transform))
        return np.ascontiguousarray(rgb[..., 1])  # the transform of a grey profile gives greys
    if transform := to_srgb(icc, "RGB"):
        rgb = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        return np.asarray(_applied(Image.fromarray(rgb), transform))
    return pixels


def needs_conversion(icc: bytes | None, grey: bool) -> bool:
    """Whether `with_profile` would change a picture."""
    return icc is not None and bool((grey and to_srgb(icc, "L")) or to_srgb(icc, "RGB"))


def from_cmyk(cmyk: NDArray[np.uint8], icc: bytes | None) -> Pixels:
    """[H, W, 4] inks, 255 full, to sRGB [H, W, 3]."""
    image = Image.frombuffer("CMYK", (cmyk.shape[1], cmyk.shape[0]), np.ascontiguousarray(cmyk), "raw", "CMYK", 0, 1)
    transform = to_srgb(icc, "CMYK") if icc else None
    return np.asarray(_applied(image, transform) if transform else image.convert("RGB"))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """`pixels` turned as EXIF `orientation` (1 to 8) asks. TIFF 6.0, p. 36."""
    if orientation == 1:
        return pixels
    turned = {
        2: lambda: cv2.flip(pixels, 1),
        3: lambda: cv2.rotate(pixels, cv2.ROTATE_180),
        4: lambda: cv2.flip(pixels, 0),
        5: lambda: cv2.transpose(pixels),
        6: lambda: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
        7: lambda: cv2.flip(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), 0),
        8: lambda: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
    }[orientation]()
    return np.asarray(turned, np.uint8)


def flattened(image: Image.Image, icc: bytes | None) -> Pixels:
    """A loaded Pillow image of any mode as sRGB or grey; alpha laid on white. Raises ValueError for unknown modes."""
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        levels = _scaled(np.asarray(image))
        if isinstance(key := image.info.get("transparency"), int) and mode.startswith("I;16"):
            levels[np.asarray(image) == key] = 255
        return with_profile(levels, icc)
    if mode == "CMYK":
        return from_cmyk(np.asarray(image), icc)
    if mode == "LAB":
        lab = ImageCms.buildTransform(ImageCms.createProfile("LAB"), _SRGB, "LAB", "RGB")
        return np.asarray(_applied(image, lab))
    if image.has_transparency_data:
        image = _on_white(image)
    elif mode in ("1", "L"):
        image = image.convert("L")
    else:
        image = image.convert("RGB")
    return with_profile(np.asarray(image), icc)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def _scaled(levels: NDArray[np.generic]) -> Pixels:
    """Grey of more than 8 bits as 8: scaled from its full range, rounded, never cut off at 255.

    The range of 16-bit files is 65,535. For 32-bit integers and floats the file does not say; it is the smallest of
    1 (floats only), 255, 65,535 and 2³² - 1 that holds the values; below 0 is black, so is NaN.
    """
    if levels.dtype.itemsize == 2:
        return np.asarray((levels.astype(np.uint32) + 128) // 257, np.uint8)
    whole = np.issubdtype(levels.dtype, np.integer)
    values = np.nan_to_num(levels.astype(np.float64 if whole else np.float32), nan=0.0, posinf=2.0**32, neginf=0.0)
    top = values.max(initial=0)
    full = next((r for r in (1.0, 255.0, 65535.0) if top <= r and not (whole and r == 1.0)), 2.0**32 - 1)
    return np.asarray(np.clip(values * (255.0 / full) + 0.5, 0, 255), np.uint8)
