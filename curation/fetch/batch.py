"""The rows of one `stream` call: which are under way, and which are finished and wait to be handed on."""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa

from curation.fetch.fetched import Fetched

CHUNK_ROWS = 64
CHUNK_BYTES = 16_000_000
CHUNK_S = 1.0
"""Finished rows are handed on once there are this many rows, or bytes of images, or after this time."""


class Batch:
    """Made from the operator's input; `crawl.py` finishes its rows, `operator.py` takes them out."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self.tasks: set[asyncio.Task[None]] = set()
        """Rows that are being worked on."""
        self._finished: list[Fetched] = []
        self._bytes = 0
        self._left = rows.num_rows
        self._bug: BaseException | None = None
        self._enough = asyncio.Event()

    def make(self) -> list[Fetched]:
        """A `Fetched` for each row of the table."""

        def column(name: str) -> list[Any]:
            return self.rows[name].to_pylist() if name in self.rows.column_names else [None] * self.rows.num_rows

        return [
            Fetched(
                batch=self,
                index=index,
                url=url,
                expected_md5=md5,
                expected_sha256=sha256,
                held=None if path is None else (path, offset, length),
            )
            for index, (url, md5, sha256, path, offset, length) in enumerate(
                zip(
                    column("url"),
                    column("expected_md5"),
                    column("expected_sha256"),
                    column("held_path"),
                    column("held_offset"),
                    column("held_length"),
                    strict=True,
                )
            )
        ]

    def finish(self, row: Fetched) -> None:
        """Take a row that has its verdict."""
        assert row.verdict is not None
        self._finished.append(row)
        self._left -= 1
        self._bytes += row.stored_bytes
        if not self._left or len(self._finished) >= CHUNK_ROWS or self._bytes >= CHUNK_BYTES:
            self._enough.set()

    def flush(self) -> None:
        """Hand on what is finished without waiting for more."""
        self._enough.set()

    def fail(self, bug: BaseException) -> None:
        """Working on a row raised: that is no outcome of a row, so the run must hear of it."""
        self._bug = self._bug or bug
        self._enough.set()

    async def take(self) -> list[Fetched]:
        """The next finished rows; none when all were handed on. Raises what `fail` was given."""
        while self._left or self._finished:
            try:
                async with asyncio.timeout(CHUNK_S):
                    await self._enough.wait()
            except TimeoutError:
                pass  # what there is by now will do
            if self._bug is not None:
                raise self._bug
            if self._left:
                self._enough.clear()
            if self._finished:
                return self.abandon()
        return []

    def abandon(self) -> list[Fetched]:
        """All finished rows, at once."""
        taken, self._finished, self._bytes = self._finished, [], 0
        return taken
