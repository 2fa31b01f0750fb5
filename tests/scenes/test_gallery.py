"""The gallery serves what its plan says, on loopback only, and is gone when its owner is gone, however that ends."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from curation.errors import RunError
from curation.scenes.exhibits import Exhibit
from curation.scenes.gallery import Gallery
from curation.scenes.loopback import Child, bind

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Got:
    """What a client saw."""

    status: int = 0
    type: str = ""
    robots: str | None = None
    body: bytes = b""
    hops: int = 0
    error: str = ""
    seconds: float = 0


async def get(session: aiohttp.ClientSession, url: str) -> Got:
    start = time.monotonic()
    try:
        async with session.get(url, max_redirects=6) as response:
            body = await response.read()
            headers = response.headers
            return Got(
                response.status,
                response.content_type,
                headers.get("X-Robots-Tag"),
                body,
                len(response.history),
                seconds=time.monotonic() - start,
            )
    except (aiohttp.TooManyRedirects, aiohttp.ClientConnectorError) as error:
        return Got(error=type(error).__name__)


async def get_all(urls: list[str]) -> list[Got]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:
        return await asyncio.gather(*(get(session, url) for url in urls))


@pytest.fixture(scope="module")
def gallery() -> Iterator[Gallery]:
    with Gallery(110, seed=8, slow_s=0.4) as gallery:
        yield gallery


@pytest.fixture(scope="module")
def visit(gallery: Gallery) -> list[tuple[Exhibit, Got]]:
    """Every row of the list, fetched once."""
    urls = gallery.urls_table()["URL"].to_pylist()
    return list(zip(gallery.exhibits, asyncio.run(get_all(urls)), strict=True))


def of_kind(visit: list[tuple[Exhibit, Got]], kind: str) -> list[tuple[Exhibit, Got]]:
    found = [(exhibit, got) for exhibit, got in visit if exhibit.kind == kind]
    assert found
    return found


def test_pictures_have_the_size_and_format_of_the_plan(visit: list[tuple[Exhibit, Got]]) -> None:
    shown = 0
    for exhibit, got in visit:
        if got.status != 200 or exhibit.picture is None or exhibit.kind in ("truncated", "flaky"):
            continue
        image = Image.open(io.BytesIO(got.body))
        assert image.format == exhibit.picture.format.upper()
        assert ImageOps.exif_transpose(image).size == (exhibit.picture.width, exhibit.picture.height)
        assert got.type == ("text/html" if exhibit.kind == "wrong_type" else f"image/{exhibit.picture.format}")
        assert (got.robots is not None) is (exhibit.kind == "opt_out")
        shown += 1
    assert shown > 90


@pytest.mark.parametrize(
    ("kind", "status"),
    [("missing", 404), ("gone", 410), ("forbidden", 403), ("server_error", 500), ("html", 200), ("empty", 200)],
)
def test_rows_without_a_picture(visit: list[tuple[Exhibit, Got]], kind: str, status: int) -> None:
    for exhibit, got in of_kind(visit, kind):
        assert exhibit.picture is None
        assert got.status == status
        assert got.body.startswith(b"<!doctype html>") is (kind == "html")
        assert (got.body == b"") is (kind == "empty")


def test_redirects_lead_to_another_host_or_nowhere(visit: list[tuple[Exhibit, Got]]) -> None:
    assert all((got.status, got.hops) == (200, 1) for _, got in of_kind(visit, "redirect"))
    assert all(got.error == "TooManyRedirects" for _, got in of_kind(visit, "loop"))


def test_the_dead_host_refuses(visit: list[tuple[Exhibit, Got]]) -> None:
    assert all(got.error == "ClientConnectorError" for _, got in of_kind(visit, "refused"))


def test_the_slow_host_is_slow(visit: list[tuple[Exhibit, Got]]) -> None:
    assert all(got.status == 200 and got.seconds >= 0.4 for _, got in of_kind(visit, "slow"))


def test_truncated_files_cannot_be_read(visit: list[tuple[Exhibit, Got]]) -> None:
    for exhibit, got in of_kind(visit, "truncated"):
        image = Image.open(io.BytesIO(got.body))
        assert exhibit.picture is not None
        assert image.size == (exhibit.picture.width, exhibit.picture.height)
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_flaky_rows_work_at_the_second_try(gallery: Gallery, visit: list[tuple[Exhibit, Got]]) -> None:
    urls = []
    for exhibit, got in of_kind(visit, "flaky"):
        assert got.status == 503
        urls.append(gallery.url(exhibit))
    assert all(got.status == 200 for got in asyncio.run(get_all(urls)))


def test_twins(visit: list[tuple[Exhibit, Got]]) -> None:
    for exhibit, got in visit:
        if exhibit.twin_of is not None:
            assert (got.body == visit[exhibit.twin_of][1].body) is (exhibit.kind != "same_picture")


def test_the_list_is_written_as_it_is_served(gallery: Gallery, tmp_path: Path) -> None:
    table = pq.read_table(gallery.write_list(tmp_path / "urls.parquet"))
    assert table.column_names == ["URL", "TEXT"]
    assert table.num_rows == 110
    assert table["URL"].to_pylist() == [gallery.url(exhibit) for exhibit in gallery.exhibits]
    assert table["TEXT"].to_pylist() == [exhibit.text for exhibit in gallery.exhibits]
    assert len({url.split("/")[2] for url in table["URL"].to_pylist()}) > 12


def test_nothing_but_loopback_is_bound() -> None:
    for address in ("0.0.0.0", "10.0.0.1", ""):
        with pytest.raises(ValueError, match="not a loopback address"):
            bind([address])
    sockets = bind(["127.0.0.1"])
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(sockets[0].getsockname(), timeout=5)
    finally:
        sockets[0].close()


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    taken = bind(["127.0.0.9"])
    taken[0].listen()
    try:
        arguments = ["--count", "5", "--port", str(taken[0].getsockname()[1])]
        command = [sys.executable, "-m", "curation.scenes.gallery", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    finally:
        taken[0].close()
    assert done.returncode == 1
    assert done.stderr == f"cannot listen on port {arguments[-1]}: Address already in use\n"


def test_a_server_that_does_not_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="did not start"), Child("curation.scenes.gallery", ["--count", "0"]):
        pass
    assert "at least one picture" in capfd.readouterr().err


def served(base: str) -> bool:
    host, port = base.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def gone_within(base: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while served(base):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_it_goes_with_the_block() -> None:
    with Gallery(5) as gallery:
        base = gallery.url(gallery.exhibits[0]).rsplit("/", 1)[0].split("/", 3)
        address = f"http://{base[2]}"
        assert served(address)
    assert not served(address)


def test_it_goes_when_its_owner_is_killed() -> None:
    code = (
        "import time\nfrom curation.scenes.gallery import Gallery\n"
        "with Gallery(5) as g:\n    print(g.url(g.exhibits[0]), flush=True)\n    time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner, owner.stdout:
        url = owner.stdout.readline()
        base = "/".join(url.split("/")[:3])
        assert served(base)
        os.kill(owner.pid, signal.SIGKILL)
    assert gone_within(base, 30)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_when_it_is_told_to(name: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "curation.scenes.gallery", "--count", "5", "--list", str(tmp_path / "l.parquet")]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server, server.stdout:
        assert b'"rows": 5' in server.stdout.readline()
        assert pq.read_table(tmp_path / "l.parquet").num_rows == 5
        server.send_signal(name)
        assert server.wait(30) == 0
