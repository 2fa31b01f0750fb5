"""The benchmarks' origin serves what its list says: shares, sizes, keep-alive, latency, dead hosts."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import pool
from benchmarks.origin import Origin, Plan, serve
from benchmarks.pool import make_pool


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with serve(200, large=0.25, hosts=10, dead_share=0.2, dead="refuse") as origin:
        yield origin


def live_urls(origin: Origin) -> list[tuple[int, str]]:
    hosts, urls = origin.plan.host_of().tolist(), origin.table()["url"].to_pylist()
    return [(i, url) for i, (host, url) in enumerate(zip(hosts, urls, strict=True)) if host < origin.plan.live]


def test_a_plan_has_exactly_the_shares_it_states() -> None:
    plan = Plan(urls=1000, large=0.03, dead_share=0.05)
    assert plan.is_large().sum() == 30
    assert plan.live == 95
    assert (plan.host_of() >= plan.live).sum() == 50
    assert (plan.is_large() != replace(plan, seed=1).is_large()).any()


def test_the_pool_is_made_once_and_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_pool(2, 4, tmp_path)
    for kind, pictures in (("large", made.large), ("small", made.small)):
        for picture in pictures:
            image = Image.open(io.BytesIO(made.read(picture)))
            image.load()
            assert image.size == (picture.width, picture.height)
            assert (min(image.size) >= 1024) is (kind == "large")
    monkeypatch.setattr(pool, "cut", None)
    assert make_pool(2, 4, tmp_path) == made
    assert len(list(tmp_path.iterdir())) == 2


def test_the_pool_needs_no_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.photos.PHOTOS", tmp_path / "none")
    made = make_pool(1, 1, tmp_path / "pool")
    image = Image.open(io.BytesIO(made.read(made.large[0])))
    image.load()
    assert image.size == (made.large[0].width, made.large[0].height)


def test_every_address_has_bytes_of_its_own_and_the_pixels_of_the_plan(origin: Origin) -> None:
    pictures = origin.plan.pictures(origin.pool)
    seen = set()
    for index, url in live_urls(origin)[:60]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("GET", parts.path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert int(answer.headers["Content-Length"]) == len(body)
        image = Image.open(io.BytesIO(body))
        image.load()
        assert image.size == (pictures[index].width, pictures[index].height)
        assert (min(image.size) >= 1024) is bool(origin.plan.is_large()[index])
        plain = Image.open(io.BytesIO(origin.pool.read(pictures[index])))
        assert image.tobytes() == plain.tobytes()
        seen.add(body)
    assert len(seen) == 60


def test_connections_are_kept_and_requests_may_come_in_one_piece(origin: Origin) -> None:
    _, url = live_urls(origin)[0]
    parts = urlsplit(url)
    length = 0
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as sock, sock.makefile("rb") as file:
        sock.sendall(
            b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % p for p in (parts.path.encode(), b"/999.jpg", b"/x"))
        )
        for status in (b"200", b"404", b"404"):
            response = http.client.parse_headers  # the standard library's reader of header fields
            assert file.readline().split()[1] == status
            length = int(response(file)["Content-Length"])
            assert len(file.read(length)) == length


def test_a_client_that_leaves_early_harms_nobody(origin: Origin) -> None:
    large = [url for i, url in live_urls(origin) if origin.plan.is_large()[i]]
    for url in large[:8]:
        parts = urlsplit(url)
        sock = socket.create_connection((parts.hostname, parts.port or 0), timeout=10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET %s HTTP/1.1\r\n\r\n" % parts.path.encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        sock.close()
    stats = origin.stats()
    assert stats["requests"] > 8
    assert stats["bytes"] > 0
    assert stats["cpu_s"] > 0


def test_dead_hosts_that_refuse(origin: Origin) -> None:
    hosts, urls = origin.plan.host_of().tolist(), origin.table()["url"].to_pylist()
    dead = [urlsplit(url) for host, url in zip(hosts, urls, strict=True) if host >= origin.plan.live]
    assert len(dead) == 40
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((dead[0].hostname, dead[0].port or 0), timeout=10)


def test_dead_hosts_that_hang_and_latency() -> None:
    with serve(20, large=0.5, hosts=4, dead_share=0.25, dead="hang", latency_ms=150) as origin:
        hosts, urls = origin.plan.host_of().tolist(), origin.table()["url"].to_pylist()
        dead = next(urlsplit(url) for host, url in zip(hosts, urls, strict=True) if host >= origin.plan.live)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                socket.create_connection((dead.hostname, dead.port or 0), timeout=0.3)
        parts = urlsplit(live_urls(origin)[0][1])
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        for _ in range(2):
            start = time.monotonic()
            connection.request("GET", parts.path)
            connection.getresponse().read()
            assert time.monotonic() - start >= 0.15
        connection.close()


def test_the_list_and_what_a_floor_needs(origin: Origin, tmp_path: Path) -> None:
    table = pq.read_table(origin.write_list(tmp_path / "list.parquet"))
    assert table.column_names == ["url", "caption"]
    assert table.num_rows == len(set(table["url"].to_pylist())) == 200
    large, live = origin.plan.is_large(), origin.plan.host_of() < origin.plan.live
    kept = origin.kept_bytes()
    assert len(kept) == (large & live).sum()
    assert all(data.startswith(b"\xff\xd8") for data in kept)
