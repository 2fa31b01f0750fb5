"""Retries, Retry-After, limits of hosts, and hosts that keep failing."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from curation.row import Reason
from tests.fetch.harness import fetch, fetch_one, photo
from tests.fetch.origin import Origin, Request, answer, redirects_to, says, says_and_closes

IMAGE = photo()


def test_a_server_error_is_tried_again() -> None:
    with Origin({"/x": says(answer(b"no", "500 Oh"), answer(IMAGE))}) as origin:
        row = fetch_one(origin.url("/x"), retries=1)
    assert (row["outcome"], row["tries"], row["status"]) == ("kept", 2, 200)
    assert row["bytes_received"] == len(IMAGE) + 2, "all tries count"


def test_a_lost_connection_is_tried_again() -> None:
    lies = answer(IMAGE, length=len(IMAGE) + 1)

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        await (says_and_closes(lies) if request.number == 0 else says(answer(IMAGE)))(request, writer)

    with Origin({"/x": handler}) as origin:
        row = fetch_one(origin.url("/x"), retries=2)
    assert (row["outcome"], row["tries"]) == ("kept", 2)


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone", "403 Forbidden", "400 Bad Request"])
def test_a_definite_no_is_asked_for_once(status: str) -> None:
    with Origin({"/x": says(answer(b"no", status))}) as origin:
        row = fetch_one(origin.url("/x"), retries=3)
    assert row["tries"] == 1
    assert origin.asked == {"/x": 1}


def test_a_name_that_does_not_exist_is_looked_up_once() -> None:
    assert fetch_one("http://a..b/x", retries=3)["tries"] == 1


def test_retries_end() -> None:
    with Origin({"/x": says(answer(b"no", "503 No"))}) as origin:
        row = fetch_one(origin.url("/x"), retries=2)
    assert (row["reason"], row["transient"], row["tries"]) == (Reason.HTTP_SERVER_ERROR, True, 3)
    assert origin.asked == {"/x": 3}


def test_retry_after_holds_back_the_whole_host() -> None:
    asked_at: list[float] = []

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        asked_at.append(time.monotonic())
        first = len(asked_at) == 1
        writer.write(answer(b"wait", "429 Slow down", Retry_After="1") if first else answer(IMAGE))

    with Origin(dict.fromkeys(["/a", "/b", "/c"], handler)) as origin:
        rows = fetch([origin.url(path) for path in ("/a", "/b", "/c")], retries=1, per_host=1)
    assert [row["outcome"] for row in rows] == ["kept"] * 3
    assert sorted(row["tries"] for row in rows) == [1, 1, 2]
    assert asked_at[1] - asked_at[0] >= 1, "nobody asked before the time that the host named"


def test_a_host_that_always_limits_is_put_aside() -> None:
    paths = [f"/{n}" for n in range(20)]
    with Origin(dict.fromkeys(paths, says(answer(b"", "429 Slow down", Retry_After="0")))) as origin:
        rows = fetch([origin.url(path) for path in paths], retries=50, host_failures=3, per_host=1)
    assert {row["reason"] for row in rows} == {Reason.HTTP_RATE_LIMITED, Reason.HOST_PUT_ASIDE}
    assert sum(origin.asked.values()) == 3


def test_a_dead_host_is_put_aside_and_holds_up_nobody() -> None:
    with socket.socket() as dead, Origin({f"/{n}": says(answer(IMAGE)) for n in range(20)}) as healthy:
        dead.bind(("127.0.0.1", 0))
        bad = [f"http://127.0.0.1:{dead.getsockname()[1]}/{n}" for n in range(40)]
        rows = fetch([*bad, *(healthy.url(f"/{n}") for n in range(20))], retries=1, host_failures=4, per_host=2)
    reasons = [row["reason"] for row in rows[:40]]
    assert [row["outcome"] for row in rows[40:]] == ["kept"] * 20
    assert set(reasons) == {Reason.CONNECT_ERROR, Reason.HOST_PUT_ASIDE}
    assert reasons.count(Reason.CONNECT_ERROR) <= 4 + 1, "two at once, and then nobody tried any more"
    assert all(row["transient"] for row in rows[:40])
    assert {row["tries"] for row in rows if row["reason"] == Reason.HOST_PUT_ASIDE} == {0}


def test_a_silent_host_takes_no_slot_from_others() -> None:
    """Its 30 rows wait for its two slots; of the four slots in all, two stay free for the healthy host."""

    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    done: list[float] = []

    async def healthy(request: Request, writer: asyncio.StreamWriter) -> None:
        done.append(time.monotonic())
        writer.write(answer(IMAGE))

    with (
        Origin({f"/{n}": silent for n in range(30)}) as bad,
        Origin({f"/{n}": healthy for n in range(30)}) as good,
    ):
        urls = [origin.url(f"/{n}") for origin in (bad, good) for n in range(30)]
        rows = fetch(urls, concurrency=4, per_host=2, timeout_s=1.5, host_failures=2)
    assert [row["outcome"] for row in rows[30:]] == ["kept"] * 30
    reasons = [row["reason"] for row in rows[:30]]
    assert set(reasons) == {Reason.TIMEOUT, Reason.HOST_PUT_ASIDE}
    assert reasons.count(Reason.TIMEOUT) <= 3, "two at once, and one that began between their ends"
    assert good.most_at_once <= 2


def test_limits_hold_and_connections_are_kept_alive() -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(answer(IMAGE))

    with Origin({f"/{n}": slow for n in range(60)}) as origin:
        rows = fetch([origin.url(f"/{n}") for n in range(60)], per_host=3)
    assert [row["outcome"] for row in rows] == ["kept"] * 60
    assert origin.most_at_once == 3
    assert origin.connections == 3


def test_redirects_count_against_the_host_that_they_lead_to() -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(answer(IMAGE))

    with Origin({f"/{n}": slow for n in range(12)}) as target, Origin() as first, Origin() as second:
        for origin in (first, second):
            origin.routes = {f"/{n}": redirects_to(target.url(f"/{n}")) for n in range(12)}
        rows = fetch([origin.url(f"/{n}") for origin in (first, second) for n in range(12)], per_host=3)
    assert [row["outcome"] for row in rows] == ["kept"] * 24
    assert target.most_at_once <= 3
