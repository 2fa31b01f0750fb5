"""Rows with their pixels: read from the bank, held to their hash and decoded, on threads ahead of the operators.

Reading waits for storage and decoding leaves Python's lock alone: both go on while a model works on the batch before.
`curation.score.stage` uses it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
from PIL import Image

from curation.bank import ImageBank
from curation.errors import CorruptionError
from curation.score.pixels import decode

_PLACE = ["tar", "offset", "length", "sha256"]


@dataclass
class Loaded:
    """One row's pixels, or what is wrong with them."""

    data: bytes = b""
    image: Image.Image | None = None
    """None where no operator wants it."""
    error: str | None = None
    """The stored bytes are damaged."""
    us: int = 0
    """Wall microseconds for reading and decoding."""


@dataclass
class Batch:
    """Some rows, and what is known of their pixels (empty where no operator wants any)."""

    rows: pa.Table
    loaded: list[Loaded] = field(default_factory=list)


class Reader:
    """Reads batches ahead of who works on them."""

    def __init__(self, bank: ImageBank, threads: int, side: int | None) -> None:
        """`side`: shorter side of the pictures in pixels; None: encoded bytes alone."""
        self._bank = bank
        self._side = side
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        # Fetch has counted the pixels of what is in the bank, by its own limit.
        Image.MAX_IMAGE_PIXELS = None

    def batches(self, rows: pa.Table, size: int) -> Iterator[Batch]:
        """`rows` in batches of `size`; while one is worked on, the next one is read.

        Raises StorageError where the bank cannot be read at all.
        """
        coming: list[Future[Loaded]] = []
        try:
            coming = self._start(rows.slice(0, size))
            for start in range(0, rows.num_rows, size):
                loaded = [future.result() for future in coming]
                coming = self._start(rows.slice(start + size, size))
                yield Batch(rows.slice(start, size), loaded)
        finally:
            for future in coming:
                future.cancel()

    def _start(self, rows: pa.Table) -> list[Future[Loaded]]:
        return [self._pool.submit(self._load, **place) for place in rows.select([*_PLACE, "stored_format"]).to_pylist()]

    def _load(self, *, tar: str, offset: int, length: int, sha256: str, stored_format: str) -> Loaded:
        started = time.perf_counter()
        try:
            data = self._bank.read(tar, offset, length, sha256)
            image = None if self._side is None else decode(data, stored_format, self._side)
        except CorruptionError as error:
            return Loaded(error=str(error))
        return Loaded(data, image, us=round((time.perf_counter() - started) * 1e6))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
