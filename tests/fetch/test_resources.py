"""Memory and file descriptors: what hostile servers, slow readers and many hosts can make a worker hold."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest

import curation.fetch.crawl
import curation.fetch.http
from curation.errors import RunError
from curation.fetch.operator import Fetch
from curation.row import Reason
from tests.fetch.harness import fetch, operator, photo, settings, settled, table
from tests.fetch.origin import Origin, Request, answer, drips, says

IMAGE_BYTES = photo()


def test_a_machine_without_file_descriptors_is_no_row_outcome() -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n"
        "from tests.fetch.harness import fetch\n"
        "fetch([f'{sys.argv[1]}{n}' for n in range(64)], concurrency=64, per_host=64)\n"
    )

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    with Origin({f"/{n}": silent for n in range(64)}) as origin:
        done = subprocess.run(
            [sys.executable, "-c", script, origin.url("/")],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            timeout=120,
            check=False,
        )
    assert f"{RunError.__module__}.RunError: too many open files" in done.stderr


def test_idle_connections_do_not_use_up_the_file_descriptors() -> None:
    """600 hosts that keep connections open, and a process that may have 200 files."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "from tests.fetch.harness import fetch\n"
        "urls = [f'http://127.1.{n // 200}.{n % 200 + 1}:{sys.argv[1]}/x' for n in range(600)]\n"
        "rows = fetch(urls, concurrency=20, allow_networks=('127.0.0.0/8',), min_side=1000)\n"
        "print({row['reason'] for row in rows})\n"
    )
    with Origin({"/x": says(answer(IMAGE_BYTES))}, host="0.0.0.0") as origin:
        done = subprocess.run(
            [sys.executable, "-c", script, str(origin.port)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            timeout=120,
            check=False,
        )
    assert done.stdout.strip() == "{'too_small'}", done.stderr
    assert origin.connections == 600


def test_setup_asks_for_enough_file_descriptors() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        fetcher = Fetch(settings(), concurrency=500, per_host=4, decoders=1)
        fetcher.setup()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 1000
        fetcher.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_finished_images_that_nobody_takes_stop_new_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curation.fetch.crawl, "PENDING_BYTES", 5 * len(IMAGE_BYTES))
    with Origin({f"/{n}": says(answer(IMAGE_BYTES)) for n in range(200)}) as origin:
        rows = table([origin.url(f"/{n}") for n in range(200)])
        fetcher = operator()

        async def run() -> int:
            stream = fetcher.stream(rows)
            first = await anext(stream)
            asked = await settled(origin)
            rest = [chunk.num_rows async for chunk in stream]
            assert first.num_rows + sum(rest) == 200
            return asked - first.num_rows

        waiting = asyncio.run(run())
        fetcher.close()
    assert waiting <= 5 + 8, "the limit, and the rows that were under way when it was reached"


def test_hostile_bodies_cost_no_more_memory_than_their_caps() -> None:
    """Endless bodies, and a gzip bomb of 300 MB in 300 kB, sixteen at a time."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    endless = drips(b"HTTP/1.1 200 OK\r\n\r\n" + IMAGE_BYTES, b"\0" * 500_000, 0)
    routes = {f"/endless{n}": endless for n in range(8)}
    routes |= {f"/bomb{n}": says(answer(bomb, Content_Encoding="gzip")) for n in range(8)}
    with Origin(routes) as origin:
        urls = [origin.url(path) for path in routes]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        try:
            rows = fetch(urls, concurrency=16, per_host=16, max_bytes=2_000_000)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert [row["reason"] for row in rows] == [Reason.TOO_MANY_BYTES] * 8 + [Reason.PROTOCOL_ERROR] * 8
    assert peak < 16 * 2 * 2_000_000 + 30_000_000, "at most twice the cap for each, and what tests and libraries take"


def test_large_bodies_wait_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it they are read one after the other, and none is called slow for having waited its turn."""
    monkeypatch.setattr(curation.fetch.http, "LARGE_BYTES", 100_000)
    monkeypatch.setattr(curation.fetch.http, "LARGE_MEMORY", 1)
    large = photo(1200, 1000, quality=100)
    size = len(large) // 5 + 1
    pieces = [large[start : start + size] for start in range(0, len(large), size)]
    assert size > 400_000, "larger than what sockets and aiohttp buffer"
    flowing = most = 0

    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal flowing, most
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        writer.write(answer(b"", length=len(large)))
        for number, piece in enumerate(pieces):
            writer.write(piece)
            await writer.drain()  # comes back only if the other side reads
            flowing += number == 3
            most = max(most, flowing)
            await asyncio.sleep(0.15)
        flowing -= 1

    with Origin({f"/{n}": slow for n in range(4)}) as origin:
        rows = fetch([origin.url(f"/{n}") for n in range(4)], timeout_s=2.5)
    assert [row["outcome"] for row in rows] == ["kept"] * 4
    assert most < 4, "the next may begin before the last one notices that it is done"
