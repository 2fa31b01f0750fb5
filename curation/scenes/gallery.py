"""A web of scenes on this machine, for the demo, the ablations and the tests: no network, every truth known.

    python -m curation.scenes.gallery --count 600 --seed 0 --list urls.parquet

serves until it is stopped; `with Gallery(600, seed=0) as gallery:` does the same from Python, in a child process. The
list has columns URL and TEXT. Its hosts are 127.0.0.2 to 127.0.0.17: fetching needs `allow_networks: [127.0.0.0/8]`.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from curation.scenes.exhibits import DEAD_HOST, HOSTS, LIVE_HOSTS, Exhibit, make_exhibits
from curation.scenes.loopback import WHOLE_RANGE, Child, bind, serve
from curation.scenes.pictures import Picture

CACHE_BYTES = 256_000_000
MOVED = "/moved"
"""Where redirects lead: this before the path that was asked for, on another host."""
_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_PAGE = b"<!doctype html><title>Sorry</title><p>This picture was removed by its owner.</p>"


class Gallery:
    """The gallery in a child process, as long as a `with` block lasts."""

    def __init__(self, count: int, seed: int = 0, *, port: int = 0, slow_s: float = 0.7) -> None:
        """`port` 0 takes a free one; URLs, and so every row's `uid`, depend on it. `slow_s`: delay of the slow host."""
        self.exhibits = make_exhibits(count, seed)
        arguments = ["--count", str(count), "--seed", str(seed), "--port", str(port), "--slow-s", str(slow_s)]
        self._child = Child("curation.scenes.gallery", [*arguments, "--with-parent"])
        self._bases: list[str] = []

    def __enter__(self) -> Gallery:
        self._child.__enter__()
        self._bases = self._child.announced["hosts"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.__exit__(kind, error, trace)

    def url(self, exhibit: Exhibit) -> str:
        """Where `exhibit` hangs."""
        return self._bases[exhibit.host] + exhibit.path

    def urls_table(self) -> pa.Table:
        """The list: columns URL and TEXT, a row for each exhibit, in order."""
        return _table(self.exhibits, self._bases)

    def write_list(self, path: str | Path) -> Path:
        """Write the list as Parquet."""
        pq.write_table(self.urls_table(), path)
        return Path(path)


def _table(exhibits: list[Exhibit], bases: list[str]) -> pa.Table:
    urls = [bases[e.host] + e.path for e in exhibits]
    return pa.table({"URL": pa.array(urls, pa.string()), "TEXT": pa.array([e.text for e in exhibits], pa.string())})


class _Server:
    """Answers requests; pictures are drawn when they are first asked for, and kept while there is room."""

    def __init__(self, exhibits: list[Exhibit], bases: list[str], slow_s: float) -> None:
        self._by_path = {e.path: e for e in reversed(exhibits)}
        self._bases = bases
        self._slow_s = slow_s
        self._painters = ThreadPoolExecutor(2, "painter")
        self._files: OrderedDict[Picture, asyncio.Future[bytes]] = OrderedDict()
        self._held = 0
        self._failed_once: set[str] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        moved = path.startswith(MOVED + "/")
        exhibit = self._by_path.get(path.removeprefix(MOVED) if moved else path)
        if exhibit is None or exhibit.kind == "missing":
            return web.Response(status=404, body=b"not found", content_type="text/plain")
        kind = exhibit.kind
        if kind == "slow":
            await asyncio.sleep(self._slow_s)
        if kind == "gone":
            return web.Response(status=410, body=b"gone", content_type="text/plain")
        if kind == "forbidden":
            return web.Response(status=403, body=b"members only", content_type="text/plain")
        if kind == "html":
            return web.Response(body=_PAGE, content_type="text/html")
        if kind == "empty":
            return web.Response(body=b"", content_type="image/jpeg")
        if kind == "loop":
            return web.Response(status=302, headers={"Location": path})
        if kind == "server_error":
            return web.Response(status=500, body=b"out of paint", content_type="text/plain")
        if kind == "flaky" and path not in self._failed_once:
            self._failed_once.add(path)
            return web.Response(status=503, headers={"Retry-After": "0"})
        if kind == "redirect" and not moved:
            elsewhere = self._bases[(exhibit.host + 1) % LIVE_HOSTS]
            return web.Response(status=302, headers={"Location": elsewhere + MOVED + path})
        assert exhibit.picture is not None
        body = await self._file(exhibit.picture)
        if kind == "truncated":
            body = body[: len(body) * 3 // 5]
        said = "text/html" if kind == "wrong_type" else _TYPES[exhibit.picture.format]
        headers = {"X-Robots-Tag": "noai, noimageai"} if kind == "opt_out" else None
        return web.Response(body=body, content_type=said, headers=headers)

    async def _file(self, picture: Picture) -> bytes:
        file = self._files.get(picture)
        if file is None:
            loop = asyncio.get_running_loop()
            file = self._files[picture] = asyncio.ensure_future(loop.run_in_executor(self._painters, picture.encode))
            file.add_done_callback(self._make_room)
        return await asyncio.shield(file)  # a client that goes away must not take the picture from others

    def _make_room(self, file: asyncio.Future[bytes]) -> None:
        self._held += len(file.result())
        while self._held > CACHE_BYTES and next(iter(self._files.values())).done():
            self._held -= len(self._files.popitem(last=False)[1].result())


def _sockets(port: int) -> list[socket.socket]:
    """One for each host, by number; where the system has one loopback address, all share one, but for the dead host."""
    if WHOLE_RANGE:
        return bind([f"127.0.0.{2 + i}" for i in range(HOSTS)], port)
    return [*bind(["127.0.0.1"], port) * DEAD_HOST, *bind(["127.0.0.1"])]


def main(arguments: list[str] | None = None) -> None:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m curation.scenes.gallery", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=600, help="rows of the list")
    parser.add_argument("--seed", type=int, default=0, help="decides what hangs where")
    parser.add_argument("--port", type=int, default=0, help="port on all its addresses; 0 takes a free one")
    parser.add_argument("--slow-s", type=float, default=0.7, help="seconds that the slow host takes to answer")
    parser.add_argument("--list", type=Path, help="write the list here (Parquet: URL, TEXT)")
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin closes")
    given = parser.parse_args(arguments)
    exhibits = make_exhibits(given.count, given.seed)
    try:
        sockets = _sockets(given.port)
    except OSError as error:
        raise SystemExit(f"cannot listen on port {given.port}: {error.strerror}") from None
    bases = ["http://{}:{}".format(*sock.getsockname()) for sock in sockets]
    if given.list:
        pq.write_table(_table(exhibits, bases), given.list)
    server = _Server(exhibits, bases, given.slow_s)
    serve(
        server.answer,
        dict.fromkeys(sockets[:DEAD_HOST]),
        announce={"rows": given.count, "hosts": bases},
        with_parent=given.with_parent,
    )


if __name__ == "__main__":
    main()
