"""The fetch operator as an engine sees it: chunks, columns, streams that run together, ends before the end."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pyarrow as pa
import pytest

import curation.fetch.crawl
import curation.fetch.http
from curation.fetch.batch import CHUNK_ROWS
from curation.fetch.operator import Fetch
from curation.row import IMAGE, OUTCOME_FIELDS
from tests.fetch.harness import SCHEMA, collect, fetch, operator, photo, settled, table
from tests.fetch.origin import Origin, Request, answer, says

IMAGE_BYTES = photo()


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
    with warnings.catch_warnings():  # what earlier tests left behind is not this one's
        warnings.simplefilter("ignore")
        gc.collect()
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
