"""Damaged answers, hundreds of them: whatever the bytes, and however the connection ends, each row gets an outcome."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from curation.row import Reason
from tests.fetch.harness import fetch, photo
from tests.fetch.origin import Handler, Origin, Request, answer

IMAGE = photo()
HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = (
    answer(IMAGE, Content_Type="image/jpeg"),
    answer(IMAGE, Content_Encoding="gzip"),
    answer(IMAGE) + answer(b"", "408 Request Timeout"),
    answer(b"", "302 Found", Location="/0"),
    answer(b"no", "404 Not Found"),
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(IMAGE) + IMAGE + b"\r\n0\r\n\r\n",
    HEAD + b"\r\n" + IMAGE,
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(IMAGE),
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + IMAGE,
)
INSERTS = (b"\r\n", b"\n", b":", b"\0", b"\xff", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n")
CASES = 300


def damaged(chance: random.Random, data: bytes) -> bytes:
    head = data.index(b"\r\n\r\n") + 24
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        at = chance.randrange(min(head, len(data)) if chance.random() < 0.8 else len(data))
        new = chance.choice([chance.randbytes(1), b"", chance.choice(INSERTS)])
        data = data[:at] + new + data[at + chance.choice([0, 1, 5]) :]
    return data


def ends_badly(chance: random.Random) -> Handler:
    data = damaged(chance, chance.choice(ANSWERS))
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.choice([0, 1, 3])))
    end = chance.choice(["close", "abort", "stay"])

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            writer.write(data[start:stop])
            await writer.drain()
            await asyncio.sleep(0)
        if end == "close":
            writer.close()
        elif end == "abort":
            writer.transport.abort()

    return handler


@pytest.mark.parametrize("seed", [1, 2])
def test_any_answer_ends_as_an_outcome(seed: int) -> None:
    chance = random.Random(seed)
    with Origin({f"/{n}": ends_badly(chance) for n in range(CASES)}) as origin:
        urls = [origin.url(f"/{n}") for n in range(CASES)]
        rows = fetch(urls, concurrency=64, per_host=64, timeout_s=1, host_failures=10_000)
    reasons = Counter(row["reason"] for row in rows)
    assert reasons[None] > 10, "some damage does no harm"
    assert reasons[Reason.PROTOCOL_ERROR] > 50
