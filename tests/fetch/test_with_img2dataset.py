"""The engine on img2dataset: the same rows as ours on a clean origin, the same reasons on a hostile one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.errors import ConfigError
from curation.row import Reason
from tests.fetch.harness import collect, fetch, photo, settings, table
from tests.fetch.origin import Handler, Origin, Request, answer, drips, says, says_and_closes

if sys.version_info >= (3, 13):
    pytest.skip("img2dataset does not run on this Python", allow_module_level=True)

from curation.fetch.with_img2dataset import FetchWithImg2dataset, explain

IMAGE = photo()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


def fetch_with_library(rows: list[Any], **changes: Any) -> list[dict[str, Any]]:
    operator = FetchWithImg2dataset(settings(**changes), concurrency=32, per_host=32, decoders=1)
    operator.setup()
    try:
        return asyncio.run(collect(operator, table(rows)))
    finally:
        operator.close()


def png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(file, "PNG")
    return file.getvalue()


def sideways() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return photo(90, 60, exif=exif)


FILES = {
    "plain.jpg": photo(80, 60),
    "other.jpg": photo(60, 80, seed=1),
    "small.jpg": photo(30, 60),
    "wide.jpg": photo(300, 60),
    "sideways.jpg": sideways(),
    "plain.png": png((80, 60)),
    "grey.png": png((80, 60), "L"),
    "alpha.png": png((80, 60), "RGBA"),
    "small.png": png((20, 20)),
    "plain.webp": photo(80, 60, "webp", lossless=True),
    "huge.png": png((700, 700)),
    "half.jpg": photo(80, 60)[:2500],
    "page.jpg": b"<!doctype html><html><title>sorry</title></html>",
}
RULES: dict[str, Any] = {"min_side": 50, "max_aspect": 3.0, "max_pixels": 400_000}


def test_both_engines_keep_the_same_rows_of_a_clean_origin(tmp_path: Path) -> None:
    (tmp_path / "held.jpg").write_bytes(FILES["plain.jpg"])
    paths = [*FILES, "gone.jpg"]
    with Origin({f"/{name}": says(answer(data)) for name, data in FILES.items()}) as origin:
        origin.routes["/moved.jpg"] = says(answer(b"", "301 Moved", Location="/plain.jpg"))
        rows: list[Any] = [origin.url(f"/{name}") for name in [*paths, "moved.jpg"]]
        rows.append({"url": origin.url("/plain.jpg"), "expected_md5": "0" * 32})
        rows.append(
            {"url": origin.url("/plain.jpg"), "expected_sha256": hashlib.sha256(FILES["plain.jpg"]).hexdigest()}
        )
        rows.append({"held_path": str(tmp_path / "held.jpg")})
        ours, theirs = fetch(rows, **RULES), fetch_with_library(rows, **RULES)
    assert [row["reason"] for row in theirs] == [row["reason"] for row in ours]
    assert sum(row["outcome"] == "kept" for row in ours) == 10
    assert {row["reason"] for row in ours} == {
        None,
        Reason.TOO_SMALL,
        Reason.ASPECT_TOO_EXTREME,
        Reason.TOO_MANY_PIXELS,
        Reason.HTTP_NOT_FOUND,
        Reason.HASH_MISMATCH,
        Reason.TRUNCATED_IMAGE,
        Reason.NOT_AN_IMAGE,
    }
    for our, their in zip(ours, theirs, strict=True):
        same = ("uid", "status", "final_url", "format", "width", "height", "source_sha256", "tries")
        assert {name: their[name] for name in same} == {name: our[name] for name in same}
        if our["outcome"] == "kept" and our["format"] == "jpeg":
            assert (their["pixel_sha256"], their["image"]) == (our["pixel_sha256"], our["image"])
        assert bool(their["image"]) == bool(our["image"])


async def _never_answers(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


FAULTS: dict[str, tuple[Handler, Reason]] = {
    "drip of headers": (drips(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), Reason.TIMEOUT),
    "drip of a body": (drips(HEAD + b"Content-Length: 1000000\r\n\r\n" + IMAGE[:100], b"\0"), Reason.TIMEOUT),
    "no answer": (_never_answers, Reason.TIMEOUT),
    "closes without an answer": (says_and_closes(b""), Reason.CONNECTION_LOST),
    "Content-Length says too much": (says_and_closes(answer(IMAGE, length=10**5)), Reason.CONNECTION_LOST),
    "endless body": (drips(HEAD + b"\r\n" + IMAGE, b"\0" * 1_000_000, 0), Reason.TOO_MANY_BYTES),
    "bad status line": (says_and_closes(b"HTTP/1.1 two hundred\r\n\r\n"), Reason.PROTOCOL_ERROR),
    "empty body": (says(answer()), Reason.EMPTY_BODY),
    "not found": (says(answer(b"no", "404 Not Found")), Reason.HTTP_NOT_FOUND),
    "forbidden": (says(answer(b"no", "403 Forbidden")), Reason.HTTP_CLIENT_ERROR),
    "server error": (says(answer(b"no", "500 Oh")), Reason.HTTP_SERVER_ERROR),
    "rate limit": (says(answer(b"no", "429 Slow down")), Reason.HTTP_RATE_LIMITED),
    "opt-out": (says(answer(IMAGE, X_Robots_Tag="noai")), Reason.OPT_OUT),
    "redirect loop": (says(answer(b"", "302 Found", Location="/x")), Reason.BAD_REDIRECT),
    "redirect to a private address": (
        says(answer(b"", "302 Found", Location="http://10.0.0.1/")),
        Reason.BLOCKED_ADDRESS,
    ),
    "redirect to a number": (says(answer(b"", "302 Found", Location="http://2130706434/")), Reason.BLOCKED_ADDRESS),
    "redirect to loopback": (says(answer(b"", "302 Found", Location="http://127.0.0.2/")), Reason.BLOCKED_ADDRESS),
    "redirect to a file": (says(answer(b"", "302 Found", Location="file:///etc/passwd")), Reason.BLOCKED_SCHEME),
    "redirect to ftp": (says(answer(b"", "302 Found", Location="ftp://127.0.0.1/")), Reason.BLOCKED_SCHEME),
    "redirect to data": (says(answer(b"", "302 Found", Location="data:,x")), Reason.BLOCKED_SCHEME),
}


def test_hostile_origins_get_the_same_reasons() -> None:
    with contextlib.ExitStack() as stack, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        origins = [stack.enter_context(Origin({"/x": handler})) for handler, _ in FAULTS.values()]
        urls = [origin.url("/x") for origin in origins]
        urls += [
            f"http://127.0.0.1:{dead.getsockname()[1]}/",
            "http://10.0.0.1/",
            "file:///etc/passwd",
            "http://nothing.invalid/",
        ]
        rows = fetch_with_library(urls, timeout_s=1.5, max_bytes=3_000_000)
    found = dict(zip([*FAULTS, "dead", "private", "file", "no name"], rows, strict=True))
    reasons = {name: row["reason"] for name, row in found.items()}
    assert reasons == {
        **{name: reason for name, (_, reason) in FAULTS.items()},
        "dead": Reason.CONNECT_ERROR,
        "private": Reason.BLOCKED_ADDRESS,
        "file": Reason.BLOCKED_SCHEME,
        "no name": Reason.DNS_ERROR,
    }
    assert found["endless body"]["bytes_received"] < 3_200_000
    assert {row["image"] for row in rows} == {None}


def test_retries_and_the_user_agent_are_ours() -> None:
    with Origin({"/x": says(answer(b"no", "500 Oh"), answer())}) as origin:
        second, gone = fetch_with_library(
            [origin.url("/x"), origin.url("/gone")], retries=2, user_agent="tester/1 (+https://example.org)"
        )
    assert (second["reason"], second["tries"]) == (Reason.EMPTY_BODY, 2)
    assert (gone["reason"], gone["tries"]) == (Reason.HTTP_NOT_FOUND, 1)
    assert {request.headers["user-agent"] for request in origin.requests} == {"tester/1 (+https://example.org)"}


def test_other_requests_of_the_process_are_left_alone() -> None:
    operator = FetchWithImg2dataset(settings(allow_networks=()), concurrency=2, per_host=2, decoders=1)

    async def run(origin: Origin) -> bytes:
        (row,) = await collect(operator, table([origin.url("/x")]))
        assert row["reason"] == Reason.BLOCKED_ADDRESS
        return await asyncio.to_thread(lambda: urllib.request.urlopen(origin.url("/x"), timeout=10).read())

    with Origin({"/x": says(answer(IMAGE))}) as origin:
        assert asyncio.run(run(origin)) == IMAGE
    operator.close()


def test_a_missing_library_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "img2dataset.downloader", None)
    with pytest.raises(ConfigError, match=r"stages\.fetch\.engine: img2dataset cannot be imported"):
        FetchWithImg2dataset(settings(), concurrency=1, per_host=1, decoders=1)


def test_a_python_that_is_too_new_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13))
    with pytest.raises(ConfigError, match=r"needs Python < 3\.13"):
        FetchWithImg2dataset(settings(), concurrency=1, per_host=1, decoders=1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", Reason.DNS_ERROR),
        ("encoding with 'idna' codec failed (UnicodeError: label empty or too long)", Reason.DNS_ERROR),
        ("<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)>", Reason.TLS_ERROR),
        ("<urlopen error timed out>", Reason.TIMEOUT),
        ("The read operation timed out", Reason.TIMEOUT),
        ("[Errno 104] Connection reset by peer", Reason.CONNECTION_LOST),
        ("<urlopen error [Errno 113] No route to host>", Reason.CONNECT_ERROR),
        ("<urlopen error no host given>", Reason.INVALID_URL),
        ("HTTP Error 418: I'm a teapot", Reason.HTTP_CLIENT_ERROR),
        ("something new", Reason.PROTOCOL_ERROR),
        ("", Reason.PROTOCOL_ERROR),
    ],
)
def test_error_strings(error: str, reason: Reason) -> None:
    assert explain(error).reason is reason
