"""A number of bytes that many tasks share: each takes its part, waits where there is none, and gives it back.

`http.py` gives large bodies their memory from one.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """First come, first served; who asks for more than there is in all gets all."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> int:
        """Wait for `count` bytes; returns how many must be given back."""
        count = min(count, self._total)
        if not self._waiting and count <= self._free:
            self._free -= count
            return count
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((count, turn))
                self._serve()
            else:  # it was our turn in the same moment
                self.give_back(count)
            raise
        return count

    def give_back(self, count: int) -> None:
        """Give back what `take` returned."""
        self._free += count
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            count, turn = self._waiting.popleft()
            self._free -= count
            turn.set_result(None)
