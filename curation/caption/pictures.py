"""Pictures for captioning: read from the bank, held to their hash, decoded, and scaled to what the model gets.

On threads: reading waits for storage and decoding leaves Python's lock alone, so both go on while a model works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from PIL import Image

from curation.bank import ImageBank
from curation.errors import CorruptionError
from curation.score.pixels import decode

_COLUMNS = ["tar", "offset", "length", "sha256", "stored_format", "width", "height"]

Picture = Image.Image | CorruptionError
"""RGB; or what is wrong with the stored bytes, a fault of that row."""


class Pictures:
    """Loads pictures whose longer side is at most `max_side` pixels."""

    def __init__(self, bank: ImageBank, max_side: int, threads: int) -> None:
        self._bank = bank
        self._max_side = max_side
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        # Fetch has counted the pixels of what is in the bank, by its own limit.
        Image.MAX_IMAGE_PIXELS = None

    def start(self, rows: pa.Table) -> Sequence[Future[Picture]]:
        """Begin to load the pictures of `rows`."""
        return [self._threads.submit(self._load, **place) for place in rows.select(_COLUMNS).to_pylist()]

    async def load(self, coming: Sequence[Future[Picture]]) -> list[Picture]:
        """What `start` began. Raises StorageError where the bank cannot be read at all."""
        return [await asyncio.wrap_future(future) for future in coming]

    def _load(self, *, width: int, height: int, stored_format: str, **place: Any) -> Picture:
        try:
            data = self._bank.read(**place)
            side = min(width, height) * self._max_side // max(width, height) + 1
            return fitted(decode(data, stored_format, side), self._max_side)
        except CorruptionError as error:
            return error

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def fitted(image: Image.Image, max_side: int) -> Image.Image:
    """`image` with a longer side of at most `max_side` pixels, its aspect kept; never enlarged."""
    if max(image.size) <= max_side:
        return image
    scale = max_side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)
