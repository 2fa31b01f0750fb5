"""Runs rows through the fetch operator the way an engine does, and gives back what became of each."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from curation.config import FetchSettings
from curation.fetch.operator import Fetch
from curation.names import make_uid
from curation.op import StreamOperator
from curation.row import SOURCE_FIELDS
from tests.fetch.origin import Origin

SCHEMA = pa.schema([*SOURCE_FIELDS, pa.field("note", pa.int64())])


def settings(**changes: Any) -> FetchSettings:
    """Settings with short deadlines that may reach the test's own origin on 127.0.0.1."""
    plain: dict[str, Any] = {"allow_networks": ("127.0.0.1/32",), "timeout_s": 10, "connect_timeout_s": 5, "retries": 0}
    return FetchSettings(**{**plain, **changes})


def table(rows: Sequence[str | dict[str, Any] | None]) -> pa.Table:
    """Source rows from URLs or from dicts of columns."""
    full = []
    for index, row in enumerate(rows):
        given = row if isinstance(row, dict) else {"url": row}
        full.append({"uid": make_uid("test", f"{index}"), "source": "test", "note": index, **given})
    return pa.Table.from_pylist(full, schema=SCHEMA)


def operator(**changes: Any) -> Fetch:
    """A `Fetch` of eight connections, four to one host, with `settings(**changes)`."""
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


async def collect(fetcher: StreamOperator, rows: pa.Table) -> list[dict[str, Any]]:
    """All rows that come out, in the order of the input; each came out exactly once."""
    tables = [chunk async for chunk in fetcher.stream(rows)]
    done = [row for chunk in tables for row in chunk.to_pylist()]
    assert sorted(row["uid"] for row in done) == sorted(rows["uid"].to_pylist())
    return sorted(done, key=lambda row: row["note"])


def fetch(
    rows: Sequence[str | dict[str, Any] | None], *, concurrency: int = 16, per_host: int = 4, **changes: Any
) -> list[dict[str, Any]]:
    """Run `rows` through `Fetch` with `settings(**changes)`."""
    fetcher = Fetch(settings(**changes), concurrency=concurrency, per_host=per_host, decoders=1)
    fetcher.setup()
    try:
        return asyncio.run(collect(fetcher, table(rows)))
    finally:
        fetcher.close()


def fetch_one(url: str | dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What became of one row."""
    (row,) = fetch([url], **changes)
    return row


def photo(width: int = 64, height: int = 48, format: str = "jpeg", seed: int = 0, **options: Any) -> bytes:
    """A picture of noise: about 1.2 bytes a pixel as JPEG, so its file is as large as it looks."""
    noise = random.Random(seed).randbytes(width * height * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), noise).save(file, format, **options)
    return file.getvalue()
