"""The decoder child of the img2dataset engine: the library's resizer first, then our image check of what it made.

`python -m curation.fetch.resizer_child LIMITS`, started by `with_img2dataset.ResizingDecoder`; speaks the protocol of
`curation.image.child`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import os
import sys
from typing import Any

from curation.image.check import Finding, check
from curation.image.child import main
from curation.image.header import Header, read_header
from curation.image.rules import FaultName, Limits, broken_rule

# The library's format names. JPEG, PNG and WebP without alpha pass as they are; all else becomes a JPEG.
_ENCODINGS = {"jpeg": ("jpg", 95), "png": ("png", 6), "webp": ("webp", 101)}  # over 100: WebP without loss (OpenCV)

_FAULTS: dict[str, FaultName] = {
    "image too small": "too_small",
    "image area too large": "too_many_pixels",
    "aspect ratio too large": "aspect_too_extreme",
}


class ResizeAndCheck:
    """`curation.image.check.check`, with the library's resizer before it."""

    def __init__(self, resizer: Any) -> None:
        self._make = resizer
        self._resizers: dict[str, Any] = {}

    def __call__(self, data: bytes, limits: Limits) -> tuple[Finding, bytes | None]:
        found = read_header(data)
        if not isinstance(found, Header):
            return check(data, limits)  # it can say more about what this is
        # Before the library decodes anything: it would decode whatever OpenCV can.
        first = dataclasses.replace(limits, min_side=0, max_aspect=None)
        finding = Finding(format=found.format, width=found.width, height=found.height)
        if broken := broken_rule(first, found.format, found.width, found.height):
            finding.reason, finding.detail = broken
            return finding, None
        image, _, _, _, _, error = self._resizer(found.format, limits)(io.BytesIO(data))
        if error is not None:
            if "Insufficient memory" in error or "Unable to allocate" in error:
                raise MemoryError(error)
            if error not in _FAULTS:
                closer, _ = check(data, limits)  # it can say more about what is wrong
                if closer.reason is not None:
                    return closer, None
            finding.reason, finding.detail = _FAULTS.get(error, "damaged_image"), " ".join(error.split())
            return finding, None
        finding, stored = check(image, limits)
        if image != data:
            finding.format, finding.stored_as_is = found.format, False
        if finding.reason is None:
            finding.source_sha256 = hashlib.sha256(data).hexdigest()
        return finding, data if stored == data else stored

    def _resizer(self, format: str, limits: Limits) -> Any:
        if format not in self._resizers:
            encode_format, quality = _ENCODINGS.get(format, ("jpg", 95))
            self._resizers[format] = self._make(
                image_size=256,  # without meaning: the sides stay
                resize_mode="no",
                resize_only_if_bigger=True,
                encode_format=encode_format,
                encode_quality=quality,
                skip_reencode=True,
                min_image_size=limits.min_side,
                max_image_area=limits.max_pixels,
                max_aspect_ratio=limits.max_aspect or float("inf"),
            )
        return self._resizers[format]


def import_resizer() -> Any:
    """The library's class, without the 200 MB of torch and the question for newer versions that come with it."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    sys.modules["torch"] = None  # type: ignore[assignment]  # albumentations takes that for "not installed"
    return importlib.import_module("img2dataset.resizer").Resizer


if __name__ == "__main__":
    main(ResizeAndCheck(import_resizer()))
