"""The stand-in for the web of a real list is true to the list, and answers as it says."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from curation.names import normalise_url
from tests.laion import Laion, laion_standin


@pytest.fixture(scope="module")
def laion() -> Iterator[Laion]:
    with laion_standin() as laion:
        yield laion


def test_every_row_keeps_its_identity(laion: Laion) -> None:
    assert len(laion.rows) == 1000
    hosts = {(urlsplit(row.original).hostname, row.address) for row in laion.rows}
    assert len(hosts) == len({address for _, address in hosts}) == 663
    for row in laion.rows:
        original, url = urlsplit(row.original), urlsplit(laion.url(row))
        assert (url.path, url.query) == (original.path, original.query)
    assert len({normalise_url(laion.url(row)) for row in laion.rows}) == 1000


def test_the_truth_is_mixed(laion: Laion) -> None:
    found = Counter(reason for row in laion.rows for reason in row.expected(min_side=1024))
    assert 100 < found["kept"] < 220
    assert 550 < found["too_small"] < 720
    assert 80 < found["http_not_found"] < 160
    for reason in ("not_an_image", "opt_out", "connect_error", "host_put_aside"):
        assert 5 < found[reason] < 80


def test_it_answers_as_it_says(laion: Laion) -> None:
    """Whole list; pictures are only looked at for the small ones, drawing the others takes seconds."""
    rows = [row for row in laion.rows if row.width * row.height < 400_000 or row.kind != "picture"]
    assert len(rows) > 500

    async def visit() -> list[tuple[int, bytes, bool]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:

            async def get(url: str) -> tuple[int, bytes, bool]:
                try:
                    async with session.get(URL(url, encoded=True)) as response:
                        return response.status, await response.read(), "X-Robots-Tag" in response.headers
                except aiohttp.ClientConnectorError:
                    return 0, b"", False

            return await asyncio.gather(*(get(normalise_url(laion.url(row)) or "") for row in rows))

    bodies = set()
    for row, (status, body, opted_out) in zip(rows, asyncio.run(visit()), strict=True):
        assert status == {"missing": 404, "refused": 0}.get(row.kind, 200), row
        assert opted_out is (row.kind == "opt_out")
        if row.kind == "picture":
            assert Image.open(io.BytesIO(body)).size == (row.width, row.height)
            bodies.add(body)
    assert len(bodies) == sum(row.kind == "picture" for row in rows)
