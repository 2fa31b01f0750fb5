"""One server that looks like many: sockets on many addresses of 127.0.0.0/8, and the child process that serves them.

Used by the gallery, by the origin of the benchmarks, and by tests that need a web. Never binds anything but loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from curation.errors import RunError

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
WHOLE_RANGE = sys.platform == "linux"
"""Linux answers on all of 127.0.0.0/8; other systems only on 127.0.0.1."""


def bind(addresses: Sequence[str], port: int = 0) -> list[socket.socket]:
    """A bound socket for each loopback address, all on one port (0: any). It refuses connections until it listens.

    Raises ValueError for an address that is not loopback, OSError where a port that was asked for is taken.
    """
    for address in addresses:
        if not address.startswith("127."):
            raise ValueError(f"{address} is not a loopback address")
    for _ in range(20):
        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)))
        except OSError as error:
            for sock in sockets:
                sock.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
            continue  # a free port of the first address was taken on another: draw again
        return sockets
    raise OSError(errno.EADDRINUSE, "found no port that is free on all loopback addresses")


def serve(handler: Handler, listening: Iterable[socket.socket], *, announce: dict[str, Any], with_parent: bool) -> None:
    """Serve HTTP until SIGTERM, Ctrl-C or, `with_parent`, until stdin closes; prints `announce` as JSON when ready."""
    asyncio.run(_serve(handler, list(listening), announce, with_parent))


async def _serve(handler: Handler, listening: list[socket.socket], announce: dict[str, Any], with_parent: bool) -> None:
    runner = web.ServerRunner(web.Server(handler, access_log=None))
    await runner.setup()
    for sock in listening:
        await web.SockSite(runner, sock, backlog=1024).start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), stop.set)  # readable at its end, that is when the parent is gone
    print(json.dumps(announce), flush=True)
    await stop.wait()
    await runner.cleanup()


class Child:
    """A server in a process of its own, which lives as long as the `with` block and never longer than this process."""

    def __init__(self, module: str, arguments: Sequence[str], *, patience_s: float = 120) -> None:
        """`python -m module *arguments`, which prints a line of JSON when it serves, and ends when its stdin closes."""
        self._command = [sys.executable, "-m", module, *arguments]
        self._patience_s = patience_s
        self.announced: dict[str, Any] = {}
        """What the server said when it was ready."""

    def __enter__(self) -> Child:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the run; the server goes when the run is done
        )
        line = self._first_line()
        if not line:
            self.__exit__(None, None, None)
            raise RunError(f"{' '.join(self._command)} did not start (exit status {self._process.returncode})")
        self.announced = json.loads(line)
        return self

    def _first_line(self) -> bytes:
        assert self._process.stdout is not None
        line, end = b"", time.monotonic() + self._patience_s
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                return b""
            line += piece
        return line

    @property
    def pid(self) -> int:
        return self._process.pid

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
