"""The fetch operator: rows with URLs in, rows with images and outcomes out.

`curation.fetch.stage` makes and runs it.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator

import pyarrow as pa

from curation.config import FetchSettings
from curation.fetch.batch import Batch
from curation.fetch.crawl import Crawl
from curation.fetch.fetched import WRITES, finished_table
from curation.fetch.guard import Guard
from curation.fetch.http import Getter, Http
from curation.image.pool import DecoderPool
from curation.op import Cost, StreamOperator

FILES = 8192
"""Files that a worker may have open, where the system's hard limit allows it: connections stay open for a while."""


class Fetch(StreamOperator):
    """One GET a row, stopped as soon as the header shows that the image will not do; then the image check.

    `concurrency` connections in all and `per_host` to one host are this worker's shares; `decoders` child processes
    check images. Several `stream` calls may run at once in one event loop: they share limits, connections and decoders.
    Do not leave one unread while you read another: what it has finished holds memory that the others need.
    """

    cost = Cost.NETWORK
    reads = ("uid", "url", "expected_md5", "expected_sha256", "held_path", "held_offset", "held_length")
    writes = WRITES

    def __init__(self, settings: FetchSettings, *, concurrency: int, per_host: int, decoders: int) -> None:
        self._settings = settings
        self._concurrency = concurrency
        self._per_host = per_host
        self._decoders = decoders
        self._pool: DecoderPool | None = None
        self._crawl: Crawl | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None

    def setup(self) -> None:
        """Allow as many open files as this worker can need; the rest is made inside the event loop."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = max(FILES, 4 * self._concurrency)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    async def stream(self, rows: pa.Table) -> AsyncIterator[pa.Table]:
        crawl = self._open()
        batch = Batch(rows)
        try:
            crawl.submit(batch)
            while taken := await batch.take():
                crawl.hand_over(taken)
                yield finished_table(rows, taken)
        finally:
            await crawl.withdraw(batch)

    def _open(self) -> Crawl:
        """What this worker's streams share. Connections live as long as the event loop; `close` ends them too."""
        loop = asyncio.get_running_loop()
        if self._pool is None:
            self._pool = self._make_pool()
        if self._crawl is None or self._loop is not loop or self._keeper is None or self._keeper.done():
            self._loop = loop
            self._crawl = Crawl(self._settings, self._concurrency, self._per_host, self._pool, self._make_http())
            self._keeper = loop.create_task(_keep(self._crawl))
        return self._crawl

    def _make_pool(self) -> DecoderPool:
        return DecoderPool(self._settings, self._decoders)

    def _make_http(self) -> Getter:
        return Http(self._settings, Guard(self._settings.allow_networks), self._concurrency)

    def close(self) -> None:
        """End the decoders, and close connections. Call it from the event loop's own thread, or where none runs."""
        loop, keeper, pool = self._loop, self._keeper, self._pool
        self._loop = self._keeper = self._crawl = self._pool = None
        if pool is not None:
            pool.close()
        if loop is None or keeper is None or keeper.done() or loop.is_closed():
            return
        keeper.cancel()
        if not loop.is_running():
            loop.run_until_complete(asyncio.wait([keeper]))


async def _keep(crawl: Crawl) -> None:
    """Wait to be cancelled, by `close` or by the end of `asyncio.run`, then close the connections inside their loop."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await crawl.close()
