"""One GET, no redirects: a hard wall deadline, a byte cap counted on the stream, and a stop as soon as a rule says no.

`crawl.py` asks for images with it, `robots.py` for robots.txt. Whatever a server does ends as a value: the body, a
redirect, or a verdict. Connections are kept alive; those whose answer was stopped early are closed, unless the rest of
the answer is cheaper to read than a new connection.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from curation.config import FetchSettings
from curation.errors import RunError
from curation.fetch.answer import REDIRECTS, judge_status, parse_retry_after
from curation.fetch.fetched import Traffic
from curation.fetch.guard import BlockedAddress, Guard, GuardedResolver, is_disguised
from curation.row import Reason, Verdict, normalise_url

DNS_TTL_S = 300
DNS_NAMES = 10_000

DRAIN_BYTES = 64_000
"""An unwanted rest of at most this size is read, so that the connection can be used again."""
DRAIN_S = 1.0

LOOK_BYTES = 64_000
"""Up to this size each new piece of a body may be looked at; beyond it, only after it has grown by a quarter."""

LARGE_BYTES = 4_000_000
"""Bodies over this size must wait for one of a few permits, which bounds what hostile servers can make us hold."""
LARGE_MEMORY = 1_000_000_000
"""What all bodies that hold a permit may come to …"""
MIN_PERMITS = 4
"""… but so many may always go on, however large `max_bytes` is."""


class Watch(Protocol):
    """Rules that can stop a transfer."""

    def head(self, headers: CIMultiDictProxy[str], length: int | None) -> Verdict | None:
        """Judge the headers; `length` is Content-Length in bytes, or None."""

    def prefix(self, data: bytes) -> Verdict | int | None:
        """Judge the first bytes of the body: a verdict, None if all is well, or how many bytes it takes to tell."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer sends us on."""

    url: str
    """Absolute and normalised."""


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

    def __init__(self, settings: FetchSettings, guard: Guard) -> None:
        self._settings = settings
        self._resolver = GuardedResolver(guard)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # crawl.py holds the limits, so that nobody waits here on a row's deadline
                resolver=self._resolver,
                socket_factory=guard.open_socket,
                ttl_dns_cache=DNS_TTL_S,
                dns_cache_max_size=DNS_NAMES,
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=settings.connect_timeout_s),
            headers={"User-Agent": settings.user_agent, "Accept": "image/*,*/*;q=0.8", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=16_384,
            max_field_size=32_768,
        )
        self._large = asyncio.Semaphore(max(MIN_PERMITS, LARGE_MEMORY // max(settings.max_bytes, LARGE_BYTES)))

    async def close(self) -> None:
        await self._session.close()
        await self._resolver.close()

    def let_go(self, traffic: Traffic) -> None:
        """The body that `get` gave for `traffic` is not held any more."""
        if traffic.large:
            traffic.large = False
            self._large.release()

    async def get(
        self, url: str, traffic: Traffic, *, timeout_s: float, cap: int, watch: Watch | None = None
    ) -> Answer:
        """Ask for `url` (normalised), for at most `timeout_s` and `cap` bytes; books what happened in `traffic`.

        Call `let_go` in the end: `traffic` may hold a permit for a large body.
        """
        target = URL(url, encoded=True)
        if is_disguised(target.raw_host or ""):
            return Verdict(Reason.BLOCKED_ADDRESS, f"{target.raw_host} is an IP address in disguise")
        transfer = _Transfer()
        traffic.retry_after_s, traffic.hopeless = None, False
        try:
            async with (
                asyncio.timeout(timeout_s) as deadline,
                self._session.get(target, allow_redirects=False) as response,
            ):
                traffic.status = response.status
                transfer.content = response.content
                transfer.length = response.content_length
                return await self._read(url, response, traffic, transfer, deadline, cap, watch)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:  # TimeoutError is an OSError
            traffic.hopeless = _does_not_exist(error)
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
        traffic.content_type = headers.get("Content-Type")
        length = transfer.length
        stop = judge_status(response.status) or (watch.head(headers, length) if watch else None)
        if stop is None and length is not None and length > cap:
            stop = Verdict(Reason.TOO_MANY_BYTES, f"Content-Length is {length}, the limit {cap}")
        if stop is not None:
            await transfer.leave()
            return stop
        if length is not None and length > LARGE_BYTES:
            await self._permit(traffic, deadline)

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
            if size > LARGE_BYTES and not traffic.large:
                await self._permit(traffic, deadline)
        if not size:
            return Verdict(Reason.EMPTY_BODY, f"HTTP status {response.status} with no body")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _permit(self, traffic: Traffic, deadline: asyncio.Timeout) -> None:
        """Wait until there is memory for a large body. The server is not to blame for the wait: the clock stops."""
        loop = asyncio.get_running_loop()
        until = deadline.when()
        assert until is not None
        began = loop.time()
        deadline.reschedule(None)
        await self._large.acquire()
        traffic.large = True
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


def resolve_redirect(base: str, location: str) -> Redirect | Verdict:
    """Where `location` (a header as aiohttp decodes it) leads from `base`."""
    raw = location.encode("utf-8", "surrogateescape")
    try:
        target = urljoin(base, quote(raw, safe="!#$%&'()*+,/:;=?@[]~\\^`{|}\"<> "))
        scheme = urlsplit(target).scheme.lower()
    except ValueError as error:
        return Verdict(Reason.BAD_REDIRECT, f"redirect to {location[:200]!r}: {error}")
    if scheme not in ("http", "https"):
        return Verdict(Reason.BLOCKED_SCHEME, f"redirect to {target[:200]}")
    url = normalise_url(target)
    return Verdict(Reason.BAD_REDIRECT, f"redirect to {target[:200]}") if url is None else Redirect(url)


def _blame_encoding(verdict: Verdict, headers: Mapping[str, str]) -> Verdict:
    """What is no image because the server compressed it unasked is the server's fault; it is never inflated."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if verdict.reason is Reason.NOT_AN_IMAGE and encoding not in ("", "identity"):
        return Verdict(Reason.PROTOCOL_ERROR, f"Content-Encoding {encoding[:50]} though identity was asked for")
    return verdict


def explain(error: Exception, progress: str) -> Verdict:
    """The verdict for what aiohttp or a socket raised. Raises RunError where this machine is at fault."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        raise RunError("too many open files: lower stages.fetch.run.concurrency or raise `ulimit -n`") from error
    if isinstance(cause, BlockedAddress):
        return Verdict(Reason.BLOCKED_ADDRESS, str(cause))
    detail = " ".join(f"{type(error).__name__}: {error}".split())  # aiohttp quotes what it could not parse
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Verdict(Reason.TIMEOUT, "no connection within connect_timeout_s")
        case TimeoutError():
            return Verdict(Reason.TIMEOUT, progress)
        case aiohttp.ClientConnectorDNSError():
            return Verdict(Reason.DNS_ERROR, str(cause))
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return Verdict(Reason.TLS_ERROR, detail)
        case aiohttp.ClientConnectorError():
            return Verdict(Reason.CONNECT_ERROR, detail)
        case aiohttp.ClientConnectionError():
            return Verdict(Reason.CONNECTION_LOST, detail)
        case aiohttp.ClientPayloadError():
            return Verdict(Reason.CONNECTION_LOST, f"{progress}: {detail}")
        case aiohttp.InvalidURL():
            return Verdict(Reason.INVALID_URL, detail)
        case aiohttp.ClientError() | HttpProcessingError():
            return Verdict(Reason.PROTOCOL_ERROR, detail)
        case _:
            return Verdict(Reason.CONNECTION_LOST, detail)


def _does_not_exist(error: Exception) -> bool:
    """True where the name system says for certain that there is no such host."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorDNSError) else None
    return isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
