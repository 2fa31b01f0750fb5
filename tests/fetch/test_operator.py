"""The fetch operator as an engine sees it: chunks, columns, streams that run together, ends before the end."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import curation.fetch.crawl
import curation.fetch.http
from curation.errors import RunError
from curation.fetch.batch import CHUNK_ROWS
from curation.fetch.operator import Fetch
from curation.row import IMAGE, OUTCOME_FIELDS, Reason
from tests.fetch.harness import SCHEMA, collect, fetch, photo, settings, table
from tests.fetch.origin import Origin, Request, answer, drips, says

IMAGE_BYTES = photo()


def operator(**changes: Any) -> Fetch:
    made = Fetch(settings(**changes), concurrency=8, per_host=4, decoders=1)
    made.setup()
    return made


async def settled(origin: Origin) -> int:
    """How many requests the origin has had, once no more come."""
    asked = -1
    while asked != len(origin.requests):
        asked = len(origin.requests)
        await asyncio.sleep(0.3)
    return asked


def test_columns_are_those_of_the_contract() -> None:
    with Origin({"/x": says(answer(IMAGE_BYTES))}) as origin:
        rows = table([origin.url("/x"), origin.url("/gone")])
        fetcher = operator()

        async def run() -> pa.Table:
            return pa.concat_tables([chunk async for chunk in fetcher.stream(rows)])

        done = asyncio.run(run())
        fetcher.close()
    assert done.schema == pa.schema([*SCHEMA, *Fetch.writes, IMAGE, *OUTCOME_FIELDS])
    kept, gone = sorted(done.to_pylist(), key=lambda row: row["note"])
    never_null = {field.name for field in Fetch.writes} - {"content_type", "phash"}
    assert {name for name in never_null if kept[name] is None} == set()
    assert (kept["stored_format"], kept["frames"], kept["tries"]) == ("jpg", 1, 1)
    assert gone["image"] is None
    assert gone["sha256"] is None


def test_no_rows_make_no_chunks() -> None:
    assert fetch([]) == []


def test_chunks_come_as_rows_finish() -> None:
    """A row that takes for ever does not hold back the others."""

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    count = 2 * CHUNK_ROWS + 10
    with Origin({**{f"/{n}": says(answer(IMAGE_BYTES)) for n in range(count)}, "/slow": silent}) as origin:
        rows = table([origin.url("/slow"), *(origin.url(f"/{n}") for n in range(count))])
        fetcher = operator(timeout_s=60)

        async def run() -> list[int]:
            sizes = []
            stream = fetcher.stream(rows)
            async for chunk in stream:
                sizes.append(chunk.num_rows)
                if sum(sizes) == count:
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            return sizes

        sizes = asyncio.run(run())
        fetcher.close()
    assert sum(sizes) == count
    assert max(sizes) < count, "not all in one piece"


def test_streams_run_together_and_share_limits_and_connections() -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(answer(IMAGE_BYTES))

    with Origin({f"/{n}": slow for n in range(60)}) as origin:
        parts = [table([origin.url(f"/{n}") for n in range(start, start + 20)]) for start in (0, 20, 40)]
        fetcher = operator()

        async def run() -> list[list[dict[str, Any]]]:
            return await asyncio.gather(*(collect(fetcher, part) for part in parts))

        done = asyncio.run(run())
        fetcher.close()
    assert [row["outcome"] for part in done for row in part] == ["kept"] * 60
    assert origin.most_at_once == 4
    assert origin.connections == 4


def test_one_operator_serves_one_event_loop_after_another() -> None:
    with Origin({"/x": says(answer(IMAGE_BYTES))}) as origin:
        fetcher = operator()
        for _ in range(2):
            (row,) = asyncio.run(collect(fetcher, table([origin.url("/x")])))
            assert row["outcome"] == "kept"
        fetcher.close()


def test_close_inside_the_event_loop_and_twice() -> None:
    with Origin({"/x": says(answer(IMAGE_BYTES))}) as origin:
        fetcher = operator()

        async def run() -> None:
            await collect(fetcher, table([origin.url("/x")]))
            fetcher.close()
            fetcher.close()
            await asyncio.sleep(0)

        asyncio.run(run())


@pytest.mark.filterwarnings("error")
def test_a_stream_that_is_left_early_stops_its_work() -> None:
    with Origin({f"/{n}": says(answer(IMAGE_BYTES)) for n in range(500)}) as origin:
        rows = table([origin.url(f"/{n}") for n in range(500)])
        fetcher = operator()

        async def run() -> tuple[int, int]:
            stream = fetcher.stream(rows)
            async for _ in stream:
                break
            await stream.aclose()  # type: ignore[attr-defined]
            asked = await settled(origin)
            # What was not withdrawn would go on now, while another stream uses the same connections.
            (row,) = await collect(fetcher, table([origin.url("/0")]))
            assert row["outcome"] == "kept"
            return asked, len(asyncio.all_tasks())

        asked, tasks = asyncio.run(run())
        assert asked < 500
        assert len(origin.requests) == asked + 1
        assert tasks == 2, "this one, and the one that keeps the connections"
        fetcher.close()
        gc.collect()


def test_cancelling_a_stream_frees_its_slots() -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    with Origin({**dict.fromkeys([f"/{n}" for n in range(20)], silent), "/x": says(answer(IMAGE_BYTES))}) as origin:
        fetcher = operator(timeout_s=60)

        async def run() -> dict[str, Any]:
            task = asyncio.create_task(collect(fetcher, table([origin.url(f"/{n}") for n in range(20)])))
            while origin.at_once < 4:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (row,) = await collect(fetcher, table([origin.url("/x")]))
            return row

        row = asyncio.run(run())
        fetcher.close()
    assert row["outcome"] == "kept"


def test_a_bug_stops_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(curation.fetch.crawl.ImageWatch, "prefix", broken)
    with Origin({"/x": says(answer(IMAGE_BYTES))}) as origin, pytest.raises(ZeroDivisionError, match="a bug"):
        fetch([origin.url("/x")])


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
    assert most <= 2, "the next may begin before the last one notices that it is done"
