"""The loop behind `benchmarks/origin.py`: as little work as possible for each request.

One process, one thread; a request is one `recv`, one `send` of head and comment, one `sendfile` from the page cache.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import resource
import selectors
import socket
import time
from pathlib import Path
from typing import IO, Any

from benchmarks.pool import Picture

COMMENT = b"\xff\xd8\xff\xfe\x00\x12%016d"
"""Start of image, then a comment segment of 18 bytes: takes the place of a picture's first two bytes."""
ADDED = len(COMMENT % 0) - 2


class Connection:
    """One client: what it asked for and what it is still to get."""

    __slots__ = ("close", "head", "left", "offset", "read", "sock", "waiting", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.read = b""
        self.head = b""  # to be sent before the file
        self.offset = self.left = 0  # of the file, bytes
        self.waiting = False  # for the latency to pass
        self.close = False  # after this answer
        self.watched = selectors.EVENT_READ


class Server:
    """A loop over ready sockets. Errors of a connection end that connection; there is nothing else that may fail."""

    def __init__(self, path: Path, pictures: list[Picture], latency_s: float) -> None:
        """Address `/I.jpg` answers with `pictures[I]`, whose bytes are in the file at `path`."""
        self._selector = selectors.DefaultSelector()
        self._file = os.open(path, os.O_RDONLY)
        self._pictures = pictures
        self._latency_s = latency_s
        self._due: list[tuple[float, int, Connection]] = []
        self._requests = self._bytes = 0
        self._running = True

    def listen(self, sock: socket.socket) -> None:
        """Answer on `sock`, which is bound."""
        sock.listen(1024)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, None)

    def stop_with(self, file: IO[str]) -> None:
        """Stop when `file` is at its end: a parent's end of a pipe, when the parent is gone."""
        self._selector.register(file, selectors.EVENT_READ, self.stop)

    def stop(self, *_: object) -> None:
        """Stop within half a second; may be a signal's handler."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`."""
        while self._running:
            pause = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.5
            for key, events in self._selector.select(pause):
                if key.data is None:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
                elif key.data == self.stop:
                    self.stop()
                else:
                    self._guarded(key.data, events)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                connection = heapq.heappop(self._due)[2]
                connection.waiting = False
                if connection.sock.fileno() >= 0:
                    self._guarded(connection, selectors.EVENT_WRITE)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                sock, _ = listening.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(sock, selectors.EVENT_READ, Connection(sock))

    def _guarded(self, connection: Connection, events: int) -> None:
        try:
            going = True
            if events & selectors.EVENT_READ:
                data = connection.sock.recv(65536)
                connection.read += data
                going = bool(data) and len(connection.read) < 100_000
            going = going and self._advance(connection)
        except BlockingIOError:
            going = True
        except (ConnectionError, TimeoutError):
            going = False
        if not going:
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def _advance(self, c: Connection) -> bool:
        """Send what can be sent, take the next request; False when the connection is done with."""
        while not c.waiting:
            if c.head or c.left:
                if not self._send(c):
                    self._watch(c, selectors.EVENT_READ | selectors.EVENT_WRITE)
                    return True
                if c.close:
                    return False
            self._watch(c, selectors.EVENT_READ)
            request, found, rest = c.read.partition(b"\r\n\r\n")
            if not found:
                return True
            c.read = rest
            self._answer(c, request)
            if self._latency_s:
                c.waiting = True
                heapq.heappush(self._due, (time.monotonic() + self._latency_s, id(c), c))
        return True

    def _answer(self, c: Connection, request: bytes) -> None:
        line, _, fields = request.partition(b"\r\n")
        name = line[5 : line.find(b".jpg", 5)] if line.startswith(b"GET /") else b""
        c.close = b"connection: close" in fields.lower() or line.endswith(b"/1.0")
        self._requests += 1
        if name.isdigit() and int(name) < len(self._pictures):
            index = int(name)
            picture = self._pictures[index]
            fields = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (picture.length + ADDED)
            c.head = b"HTTP/1.1 200 OK\r\n" + fields + COMMENT % index
            c.offset, c.left = picture.offset + 2, picture.length - 2
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        known = line.startswith(b"GET /stats ")
        found: dict[str, Any] = {"requests": self._requests, "bytes": self._bytes}
        body = json.dumps(found | {"cpu_s": used.ru_utime + used.ru_stime}).encode() if known else b"no such picture"
        status = b"200 OK" if known else b"404 Not Found"
        c.head = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    def _send(self, c: Connection) -> bool:
        """True when all is sent. Raises BlockingIOError, or the connection's error."""
        try:
            if c.head:
                sent = c.sock.send(c.head, getattr(socket, "MSG_MORE", 0) if c.left else 0)
                c.head = c.head[sent:]
                self._bytes += sent
            while c.left and not c.head:
                sent = os.sendfile(c.sock.fileno(), self._file, c.offset, c.left)
                c.offset, c.left = c.offset + sent, c.left - sent
                self._bytes += sent
        except BlockingIOError:
            return False
        return not c.head and not c.left

    def _watch(self, c: Connection, events: int) -> None:
        if c.watched != events:
            c.watched = events
            self._selector.modify(c.sock, events, c)


def hang(sock: socket.socket) -> socket.socket:
    """Make connecting to `sock`, which is bound, take for ever: one connection may wait there, and one does.

    Returns that one; it must be kept open.
    """
    sock.listen(0)
    filler = socket.create_connection(sock.getsockname(), timeout=10)
    return filler
