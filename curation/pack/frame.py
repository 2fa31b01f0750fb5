"""Where an image comes to lie in its bucket: one scale, then a centred crop or a white border. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from curation.pack.buckets import Size


@dataclass(frozen=True)
class Frame:
    """The geometry of one image: original → scaled → cropped → padded. All in pixels, except the scales."""

    original: Size
    scale_x: float
    """Width of a scaled pixel's image over its original's; equal to `scale_y` up to the rounding of sides."""
    scale_y: float
    scaled: Size
    """Of the whole image after the resize."""
    crop_left: int
    """Cut off the scaled image on the left; what SDXL is conditioned on, with `crop_top`."""
    crop_top: int
    content: Size
    """What the crop leaves."""
    pad_left: int
    """White border on the left; what is left over on the right is `size` - `content` - this."""
    pad_top: int
    size: Size
    """Of the image in the shard."""

    @property
    def pad_right(self) -> int:
        return self.size[0] - self.content[0] - self.pad_left

    @property
    def pad_bottom(self) -> int:
        return self.size[1] - self.content[1] - self.pad_top


def cover(original: Size, size: Size) -> Frame:
    """Scale until `size` is covered, and crop the centre."""
    scale = max(size[0] / original[0], size[1] / original[1])
    scaled = max(size[0], round(original[0] * scale)), max(size[1], round(original[1] * scale))
    left, top = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return Frame(original, scale, scale, scaled, left, top, size, 0, 0, size)


def stretch(original: Size, size: Size) -> Frame:
    """Scale each side to `size`: for sizes that have the image's aspect up to rounding."""
    return Frame(original, size[0] / original[0], size[1] / original[1], size, 0, 0, size, 0, 0, size)


def contain(original: Size, size: Size, upscale: bool) -> Frame:
    """Scale until the image lies in `size`, never enlarging it unless `upscale`, and pad around it."""
    scale = min(size[0] / original[0], size[1] / original[1])
    if not upscale:
        scale = min(scale, 1.0)
    scaled = tuple(min(full, max(1, round(side * scale))) for side, full in zip(original, size, strict=True))
    width, height = scaled
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scale_x, scale_y = width / original[0], height / original[1]
    return Frame(original, scale_x, scale_y, (width, height), 0, 0, (width, height), left, top, size)
