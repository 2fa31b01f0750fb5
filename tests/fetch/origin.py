"""An HTTP origin that does whatever a test tells it to, byte by byte, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

Handler = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    connection: int
    """Which of the origin's connections it came on."""
    number: int
    """How many requests for this path came before it."""


def answer(body: bytes = b"", status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """An HTTP/1.1 answer. `length` lies about the body; underscores in names of headers become dashes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def says(*answers: bytes) -> Handler:
    """A handler that gives these answers in turn; the last one for all further requests."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[min(request.number, len(answers) - 1)])

    return handler


def redirects_to(url: str, status: str = "302 Found") -> Handler:
    """A handler that sends the client on."""
    return says(answer(b"moved", status, Location=url))


def says_and_closes(data: bytes) -> Handler:
    """A handler that sends `data`, as it stands, and closes the connection."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return handler


def drips(start: bytes, drop: bytes, every_s: float = 0.05) -> Handler:
    """A handler that sends `start`, then `drop` again and again for ever."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(every_s)

    return handler


class Origin:
    """Serves `routes` (path → handler) on a loopback address while the `with` block lasts. 404 for other paths."""

    def __init__(
        self, routes: dict[str, Handler] | None = None, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.routes = dict(routes or {})
        self.requests: list[Request] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        """Requests that were being answered at the same time, at most."""
        self.bytes_sent = 0
        """Body and head bytes that handlers got rid of, into the network or its buffers."""
        self._host, self._tls = host, tls
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="origin", daemon=True)

    @property
    def asked(self) -> Counter[str]:
        """Requests by path."""
        return Counter(request.path for request in self.requests)

    def url(self, path: str, host: str | None = None) -> str:
        scheme = "https" if self._tls else "http"
        host = host or self._host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{path}"

    def __enter__(self) -> Origin:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._run())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head.decode("latin-1"), connection, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the origin closes: nothing that it should mind
        finally:
            writer.close()

    async def _answer(self, head: str, connection: int, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.rstrip().split("\r\n")
        path = first.split(" ")[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        request = Request(path, headers, connection, self.asked[path])
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            handler = self.routes.get(path) or says(answer(b"no", "404 Not Found"))
            await handler(request, writer)
            await writer.drain()
        finally:
            self.at_once -= 1
