"""Guard, byte cap, wall deadline and an honest user agent for code that can only call `urllib.request.urlopen`.

`with_img2dataset.py` installs it for the library's downloader. It holds for requests made inside `with Job(…)`; all
other requests of the process go on as they would without it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.request
from functools import partial
from typing import Any
from urllib.error import HTTPError

from curation.fetch.answer import parse_retry_after
from curation.fetch.fetched import Traffic
from curation.fetch.guard import BlockedAddress, Guard, is_disguised

PIECE = 65_536
TOO_LARGE = "more than the allowed number of bytes"

_here = threading.local()


class TooLarge(Exception):
    """The body is larger than the job's cap."""


class Job:
    """One download, made in one thread (`with job:`), which another thread can stop."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stopped = False
        self.redirects = 0
        self.url: str | None = None
        self.status: int | None = None
        self.content_type: str | None = None
        self.retry_after: str | None = None
        self.received = 0

    def __enter__(self) -> Job:
        _here.job = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.job = None

    def holds(self, connection: socket.socket) -> None:
        """`connection` is the one to cut if the job is stopped. Raises TimeoutError if it was stopped already."""
        with self._lock:
            if self._stopped:
                connection.close()
                raise TimeoutError("timed out")
            self._socket = connection

    def stop(self) -> None:
        """Cut the connection, which ends whatever waits for it, and allow no other."""
        with self._lock:
            self._stopped = True
            if self._socket is not None and self._socket.fileno() >= 0:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # the other side was faster

    def takes(self, count: int) -> None:
        """`count` more bytes of a body came. Raises TooLarge over the cap."""
        self.received += count
        if self.received > self._cap:
            raise TooLarge(f"{TOO_LARGE}, {self._cap}")

    def book(self, traffic: Traffic) -> None:
        traffic.final_url = self.url or traffic.final_url
        traffic.status, traffic.content_type = self.status, self.content_type
        traffic.retry_after_s = parse_retry_after(self.retry_after)
        traffic.bytes_received += self.received


def current_job() -> Job | None:
    """The job of this thread."""
    return getattr(_here, "job", None)


class _Response(http.client.HTTPResponse):
    """Counts and caps what a job reads; the library reads whole bodies with a bare `read()`."""

    def begin(self) -> None:
        super().begin()
        if (job := current_job()) is not None:
            job.status = self.status
            job.content_type = self.headers.get("Content-Type")
            job.retry_after = self.headers.get("Retry-After")

    def read(self, amt: int | None = None) -> bytes:
        job = current_job()
        if job is None or amt is not None:
            return super().read(amt)
        pieces = []
        while piece := self.read1(PIECE):
            pieces.append(piece)
            job.takes(len(piece))
        if self.length:  # read1, unlike read, takes an early end for the end
            raise http.client.IncompleteRead(b"".join(pieces), self.length)
        return b"".join(pieces)


class _Http(http.client.HTTPConnection):
    response_class = _Response

    def __init__(self, *args: Any, guard: Guard, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = guard

    def connect(self) -> None:
        self.sock = _connect(self._guard, self.host, self.port, self.timeout)


class _Https(http.client.HTTPSConnection):
    response_class = _Response

    def __init__(self, *args: Any, guard: Guard, tls: ssl.SSLContext, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = guard
        self._tls = tls

    def connect(self) -> None:
        plain = _connect(self._guard, self.host, self.port, self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        if (job := current_job()) is not None:
            job.holds(self.sock)
        self.sock.do_handshake()


def _connect(guard: Guard, host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection to the first address of `host` that the guard lets through and that answers."""
    if is_disguised(host):
        raise BlockedAddress(f"{host} is an IP address in disguise")
    last: OSError = OSError(f"{host} has no address")
    for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            connection = guard.open_socket(info)
        except BlockedAddress as error:
            last = error
            continue
        if (job := current_job()) is not None:
            job.holds(connection)
        try:
            connection.settimeout(timeout)
            connection.connect(info[4])
        except OSError as error:
            connection.close()
            last = error
            continue
        return connection
    raise last


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, guard: Guard, user_agent: str) -> None:
        super().__init__()
        self._guard, self._user_agent = guard, user_agent

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        job = current_job()
        if job is None:
            return super().http_open(req)
        _sign(req, job, self._user_agent)
        return self.do_open(partial(_Http, guard=self._guard), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, guard: Guard, user_agent: str) -> None:
        super().__init__()
        self._guard, self._user_agent = guard, user_agent
        self._own_tls = ssl.create_default_context()

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        job = current_job()
        if job is None:
            return super().https_open(req)
        _sign(req, job, self._user_agent)
        connection = partial(_Https, guard=self._guard, tls=self._own_tls)
        return self.do_open(connection, req)


def _sign(request: urllib.request.Request, job: Job, user_agent: str) -> None:
    job.url = request.full_url
    request.remove_header("User-agent")
    request.add_unredirected_header("User-agent", user_agent)
    request.add_unredirected_header("Accept-encoding", "identity")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Counts redirects; urllib itself refuses schemes other than http, https and ftp."""

    def __init__(self, most: int) -> None:
        self._most = most

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        job = current_job()
        if job is not None:
            job.redirects += 1
            if not newurl.lower().startswith(("http:", "https:")):
                raise HTTPError(newurl, code, f"Redirection to url '{newurl}' is not allowed", headers, fp)
            if job.redirects > self._most:
                raise HTTPError(newurl, code, f"more than {self._most} redirects", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_through(guard: Guard, user_agent: str, max_redirects: int) -> None:
    """Install the opener for this process."""
    urllib.request.install_opener(
        urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            _HttpHandler(guard, user_agent),
            _HttpsHandler(guard, user_agent),
            _Redirects(max_redirects),
        )
    )


def close_opener() -> None:
    """Go back to urllib's own way."""
    urllib.request.install_opener(urllib.request.build_opener())
