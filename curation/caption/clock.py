"""A worker's wall time, shared out among the rows that it has in hand."""

from __future__ import annotations

import time

import pyarrow as pa


class ShareClock:
    """Each moment belongs in equal parts to the rows that are in hand then, so all shares add up to the busy time."""

    def __init__(self) -> None:
        self._rows = 0
        self._each = 0.0  # seconds that a row would have got which had been in hand all the time
        self._at = time.perf_counter()

    def enter(self, rows: pa.Table) -> float:
        """Take `rows` in hand; give what this returns to `leave`."""
        self._tick()
        self._rows += rows.num_rows
        return self._each

    def leave(self, rows: pa.Table, entered: float) -> int:
        """Lay `rows` down: microseconds that each of them took."""
        self._tick()
        self._rows -= rows.num_rows
        return round((self._each - entered) * 1e6)

    def _tick(self) -> None:
        now = time.perf_counter()
        if self._rows:
            self._each += (now - self._at) / self._rows
        self._at = now
