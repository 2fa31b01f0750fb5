"""One GET, no redirects: a hard wall deadline, a byte cap counted on the stream, and a stop as soon as a rule says no.

`crawl.py` asks for images with it, `robots.py` for robots.txt. Whatever a server does ends as a value: the body, a
redirect, or a verdict. Connections are kept alive; those whose answer was stopped early are closed, unless the rest of
the answer is cheaper to read than a new connection.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from curation.config import FetchSettings
from curation.fetch.answer import REDIRECTS, Redirect, judge_status, parse_retry_after, resolve_redirect
from curation.fetch.budget import Budget
from curation.fetch.faults import explain, no_such_host
from curation.fetch.fetched import Traffic, storable
from curation.fetch.guard import Guard, GuardedResolver, is_disguised
from curation.row import Reason, Verdict
from curation.text import one_line

DNS_TTL_S = 300
DNS_NAMES = 10_000

DRAIN_BYTES = 64_000
"""An unwanted rest of at most this size is read, so that the connection can be used again."""
DRAIN_S = 1.0

LOOK_BYTES = 64_000
"""Up to this size each new piece of a body may be looked at; beyond it, only after it has grown by a quarter."""

LARGE_BYTES = 2_000_000
"""Bodies over this size take their memory from a common budget, which bounds what hostile servers can make us hold."""
LARGE_MEMORY = 1_000_000_000
"""The budget, for each worker."""

KEEPALIVE_S = 5.0


class Watch(Protocol):
    """Rules that can stop a transfer."""

    def head(self, headers: CIMultiDictProxy[str], length: int | None) -> Verdict | None:
        """Judge the headers; `length` is Content-Length in bytes, or None."""

    def prefix(self, data: bytes) -> Verdict | int | None:
        """Judge the first bytes of the body: a verdict, None if all is well, or how many bytes it takes to tell."""


Answer = bytes | Redirect | Verdict


class Getter(Protocol):
    """What `crawl.py` and `robots.py` need: `Http`, or another engine's downloader behind the same methods."""

    async def get(
        self, url: str, traffic: Traffic, *, timeout_s: float, cap: int, watch: Watch | None = None
    ) -> Answer:
        """Ask for `url`."""

    def let_go(self, traffic: Traffic) -> None:
        """What `get` gave is not held any more."""

    async def close(self) -> None:
        """Close all connections."""


class Http:
    """Connections of one worker. Make it inside the event loop that will use it."""

    def __init__(self, settings: FetchSettings, guard: Guard, concurrency: int) -> None:
        """`concurrency`: transfers at once, which `crawl.py` limits."""
        self._settings = settings
        self._guard = guard
        self._resolver = GuardedResolver(guard, concurrency)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._many = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._keeping = self._make_session(aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE_S, **self._connecting()))
        self._closing = self._make_session(aiohttp.TCPConnector(force_close=True, **self._connecting()))
        self._memory = Budget(LARGE_MEMORY)

    def _connecting(self) -> dict[str, Any]:
        return {
            "limit": 0,  # crawl.py holds the limits, so that nobody waits here on a row's deadline
            "resolver": self._resolver,
            "socket_factory": self._open_socket,
            "ttl_dns_cache": DNS_TTL_S,
            "dns_cache_max_size": DNS_NAMES,
        }

    def _make_session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s),
            headers={
                "User-Agent": self._settings.user_agent,
                "Accept": "image/*,*/*;q=0.8",
                "Accept-Encoding": "identity",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=16_384,
            max_field_size=32_768,
        )

    def _open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        opened = self._guard.open_socket(info)
        self._sockets.add(opened)
        return opened

    async def close(self) -> None:
        async with AsyncExitStack() as stack:  # the end of an event loop may cancel the first; the others still count
            for part in (self._resolver, self._closing, self._keeping):
                stack.push_async_callback(part.close)

    def let_go(self, traffic: Traffic) -> None:
        """The body that `get` gave for `traffic` is not held any more."""
        if traffic.memory:
            self._memory.give_back(traffic.memory)
            traffic.memory = 0

    async def get(
        self, url: str, traffic: Traffic, *, timeout_s: float, cap: int, watch: Watch | None = None
    ) -> Answer:
        """Ask for `url` (normalised), for at most `timeout_s` and `cap` bytes; books what happened in `traffic`.

        Call `let_go` in the end: `traffic` may hold memory for a large body.
        """
        try:
            target = URL(url, encoded=True)
        except ValueError as error:  # it is stricter than who normalised `url`
            return Verdict(Reason.INVALID_URL, one_line(error, 200))
        if is_disguised(target.raw_host or ""):
            return Verdict(Reason.BLOCKED_ADDRESS, f"{target.raw_host} is an IP address in disguise")
        # Connections to many hosts stay idle for a while; before they use up all files, new ones are not kept.
        session = self._closing if len(self._sockets) > self._many else self._keeping
        transfer = _Transfer()
        traffic.retry_after_s, traffic.hopeless = None, False
        try:
            async with (
                asyncio.timeout(timeout_s) as deadline,
                session.get(target, allow_redirects=False) as response,
            ):
                traffic.status = response.status
                transfer.content = response.content
                transfer.length = response.content_length
                return await self._read(url, response, traffic, transfer, deadline, cap, watch)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:  # TimeoutError is an OSError
            traffic.hopeless = no_such_host(error)
            return explain(error, transfer.progress(timeout_s))
        finally:
            traffic.bytes_received += transfer.received
            if transfer.stopped and transfer.length is not None:
                traffic.bytes_saved += max(0, min(transfer.length, cap) - transfer.received)

    async def _read(
        self,
        url: str,
        response: aiohttp.ClientResponse,
        traffic: Traffic,
        transfer: _Transfer,
        deadline: asyncio.Timeout,
        cap: int,
        watch: Watch | None,
    ) -> Answer:
        headers = response.headers
        traffic.retry_after_s = parse_retry_after(headers.get("Retry-After"))
        if response.status in REDIRECTS and (location := headers.get("Location")) is not None:
            await transfer.leave()
            return resolve_redirect(url, location)
        content_type = headers.get("Content-Type")
        traffic.content_type = None if content_type is None else storable(content_type)
        length = transfer.length
        stop = judge_status(response.status) or (watch.head(headers, length) if watch else None)
        if stop is None and length is not None and length > cap:
            stop = Verdict(Reason.TOO_MANY_BYTES, f"Content-Length is {length}, the limit {cap}")
        if stop is not None:
            await transfer.leave()
            return stop

        chunks: list[bytes] = []
        size = 0
        look_at: int | None = None if watch is None else 1
        while chunk := await response.content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > cap:
                transfer.stopped = True
                return Verdict(Reason.TOO_MANY_BYTES, f"more than {cap} bytes came")
            if watch is not None and look_at is not None and size >= look_at:
                if len(chunks) > 1:
                    chunks = [b"".join(chunks)]
                judged = watch.prefix(chunks[0])
                if isinstance(judged, Verdict):
                    await transfer.leave()
                    return _blame_encoding(judged, headers)
                # Growing steps keep the cost linear, whatever a file claims to need.
                look_at = None if judged is None else max(judged, size + 1 + (size >> 2 if size > LOOK_BYTES else 0))
            if size > LARGE_BYTES and not traffic.memory:
                await self._take_memory(cap if length is None else length, traffic, deadline)
        if not size:
            return Verdict(Reason.EMPTY_BODY, f"HTTP status {response.status} with no body")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _take_memory(self, size: int, traffic: Traffic, deadline: asyncio.Timeout) -> None:
        """Wait until there is memory for a large body. The server is not to blame for the wait: the clock stops."""
        loop = asyncio.get_running_loop()
        until = deadline.when()
        assert until is not None
        began = loop.time()
        deadline.reschedule(None)
        traffic.memory = await self._memory.take(size)
        deadline.reschedule(until + loop.time() - began)


class _Transfer:
    """How far an answer has come."""

    def __init__(self) -> None:
        self.content: aiohttp.StreamReader | None = None
        self.length: int | None = None
        self.stopped = False
        """We turned away before the end."""

    @property
    def received(self) -> int:
        return self.content.total_bytes if self.content is not None else 0

    def progress(self, timeout_s: float) -> str:
        """For the detail of a fault."""
        if self.content is None:
            return f"no answer within {timeout_s:g} s"
        of = "" if self.length is None else f" of {self.length}"
        return f"{self.received}{of} bytes came within {timeout_s:g} s"

    async def leave(self) -> None:
        """Turn away from the rest of the body: read it where that is cheap, else the connection will be closed."""
        content = self.content
        assert content is not None
        if content.is_eof():
            return
        if self.length is not None and self.length - content.total_bytes <= DRAIN_BYTES:
            try:
                async with asyncio.timeout(DRAIN_S):
                    while await content.readany():
                        pass
                return
            except (aiohttp.ClientError, HttpProcessingError, OSError):
                return  # the verdict stands already; what breaks now costs the connection, which aiohttp closes
        self.stopped = True


def _blame_encoding(verdict: Verdict, headers: Mapping[str, str]) -> Verdict:
    """What is no image because the server compressed it unasked is the server's fault; it is never inflated."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if verdict.reason is Reason.NOT_AN_IMAGE and encoding not in ("", "identity"):
        return Verdict(Reason.PROTOCOL_ERROR, f"Content-Encoding {encoding[:50]} though identity was asked for")
    return verdict
