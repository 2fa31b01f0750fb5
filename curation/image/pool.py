"""Several decoders for an asyncio program: the async fetch operator awaits `DecoderPool.check`."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor

from curation.config import FetchSettings
from curation.image.decoder import Checked, Decoder


class DecoderPool:
    """`size` decoder children and a thread for each; checks beyond that wait their turn."""

    def __init__(self, settings: FetchSettings, size: int, kind: type[Decoder] = Decoder) -> None:
        self._decoders = [kind(settings) for _ in range(size)]
        self._free: queue.LifoQueue[Decoder] = queue.LifoQueue()  # last in, first out: idle children are not started
        for decoder in self._decoders:
            self._free.put(decoder)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="decoder")

    @property
    def starts(self) -> int:
        """Children started so far, see `Decoder.starts`."""
        return sum(decoder.starts for decoder in self._decoders)

    async def check(self, data: bytes) -> Checked:
        """As `Decoder.check`, without blocking the event loop. Cancelling it does not stop the child's work."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.check_now, data)

    def check_now(self, data: bytes) -> Checked:
        """As `Decoder.check`; call it from up to `size` threads at once."""
        decoder = self._free.get()
        try:
            return decoder.check(data)
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End all children at once. Checks under way raise RunError, waiting ones are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
