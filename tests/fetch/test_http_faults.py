"""A hostile origin, for real: each fault has a reason of its own, and deadline and caps hold."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct

import pytest

from curation.row import Reason
from tests.fetch.harness import fetch, fetch_one, photo
from tests.fetch.origin import Handler, Origin, Request, answer, drips, says, says_and_closes

IMAGE = photo()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


async def _reset_in_the_middle(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(IMAGE, length=len(IMAGE) + 1000))
    await writer.drain()
    linger = struct.pack("ii", 1, 0)  # on close, RST instead of FIN
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _never_answers(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


FAULTS: dict[str, tuple[Handler, Reason]] = {
    "drip of headers": (drips(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), Reason.TIMEOUT),
    "drip within a header": (drips(b"HTTP/1.1 200 OK\r\nX-A: ", b"b"), Reason.TIMEOUT),
    "drip of interim answers": (drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.TIMEOUT),
    "drip of a body": (drips(HEAD + b"Content-Length: 1000000\r\n\r\n" + IMAGE[:100], b"\0"), Reason.TIMEOUT),
    "drip of chunks": (drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n\xff\r\n"), Reason.TIMEOUT),
    "no answer": (_never_answers, Reason.TIMEOUT),
    "closes without an answer": (says_and_closes(b""), Reason.CONNECTION_LOST),
    "closes within the head": (says_and_closes(HEAD), Reason.CONNECTION_LOST),
    "Content-Length says too much, closes": (
        says_and_closes(answer(IMAGE, length=len(IMAGE) + 1)),
        Reason.CONNECTION_LOST,
    ),
    "Content-Length says too much, waits": (says(answer(IMAGE, length=len(IMAGE) + 1)), Reason.TIMEOUT),
    "Content-Length says too little": (
        says(answer(IMAGE, length=len(IMAGE) // 2)),
        Reason.PROTOCOL_ERROR,
    ),
    "two Content-Lengths": (
        says(answer(IMAGE, Content_length=str(len(IMAGE) - 1))),
        Reason.PROTOCOL_ERROR,
    ),
    "no number as Content-Length": (says(HEAD + b"Content-Length: many\r\n\r\n" + IMAGE), Reason.PROTOCOL_ERROR),
    "Content-Length beyond 64 bits": (says(HEAD + b"Content-Length: %d\r\n\r\n" % 2**70), Reason.PROTOCOL_ERROR),
    "negative Content-Length": (says(HEAD + b"Content-Length: -1\r\n\r\n"), Reason.PROTOCOL_ERROR),
    "reset in the middle": (_reset_in_the_middle, Reason.CONNECTION_LOST),
    "chunks cut off": (
        says_and_closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(IMAGE) + IMAGE),
        Reason.CONNECTION_LOST,
    ),
    "chunks without sense": (
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(IMAGE) + IMAGE + b"\r\nzzz\r\n"),
        Reason.PROTOCOL_ERROR,
    ),
    "bad status line": (says_and_closes(b"HTTP/1.1 two hundred\r\n\r\n"), Reason.PROTOCOL_ERROR),
    "another protocol": (says_and_closes(b"SSH-2.0-OpenSSH_9.6\r\n"), Reason.PROTOCOL_ERROR),
    "an unasked switch of protocols": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        Reason.PROTOCOL_ERROR,
    ),
    "a huge header": (says(answer(IMAGE, X="a" * 100_000)), Reason.PROTOCOL_ERROR),
    "too many headers": (
        says(HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(1000)) + b"\r\n"),
        Reason.PROTOCOL_ERROR,
    ),
    "empty body": (says(answer()), Reason.EMPTY_BODY),
    "no content": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), Reason.EMPTY_BODY),
    "empty body, closes": (says_and_closes(HEAD + b"\r\n"), Reason.EMPTY_BODY),
    "a part nobody asked for": (says(answer(IMAGE, "206 Partial Content")), Reason.PROTOCOL_ERROR),
    "HTML as JPEG": (
        says(answer(b"<!doctype html><html><title>sorry</title></html>", Content_Type="image/jpeg")),
        Reason.NOT_AN_IMAGE,
    ),
    "a text too short to tell": (says(answer(b"no", Content_Type="image/jpeg")), Reason.NOT_AN_IMAGE),
    "compressed unasked": (
        says(answer(gzip.compress(IMAGE), Content_Encoding="gzip", Content_Type="image/jpeg")),
        Reason.PROTOCOL_ERROR,
    ),
    "half an image": (says(answer(IMAGE[: len(IMAGE) // 2])), Reason.TRUNCATED_IMAGE),
    "not found": (says(answer(b"no", "404 Not Found")), Reason.HTTP_NOT_FOUND),
    "gone": (says(answer(b"no", "410 Gone")), Reason.HTTP_NOT_FOUND),
    "forbidden": (says(answer(b"no", "403 Forbidden")), Reason.HTTP_CLIENT_ERROR),
    "server error": (says(answer(b"no", "500 Oh")), Reason.HTTP_SERVER_ERROR),
    "rate limit": (says(answer(b"no", "429 Slow down")), Reason.HTTP_RATE_LIMITED),
    "opt-out": (says(answer(IMAGE, X_Robots_Tag="noai")), Reason.OPT_OUT),
    "opt-out in a second header": (
        says(b"HTTP/1.1 200 OK\r\nX-Robots-Tag: nofollow\r\nX-Robots-Tag: noimageai\r\nContent-Length: 0\r\n\r\n"),
        Reason.OPT_OUT,
    ),
    "opt-out for us": (says(answer(IMAGE, X_Robots_Tag="otherbot: none, curation: noindex")), Reason.OPT_OUT),
    "redirect without an end": (
        says(b"HTTP/1.1 302 Found\r\nLocation: ?again\r\nContent-Length: 0\r\n\r\n"),
        Reason.HTTP_NOT_FOUND,  # the path with ?again is not served: shows that the redirect was followed
    ),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, object]]:
    """All faults at once, beside a healthy image; each from an address of its own, for a host is judged as a whole."""
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(Origin({"/x": handler})) for handler, _ in FAULTS.values()]
        healthy = stack.enter_context(Origin({"/x": says(answer(IMAGE))}))
        urls = [origin.url("/x") for origin in [*origins, healthy]]
        rows = fetch(urls, concurrency=len(urls), timeout_s=1.5)
    return dict(zip([*FAULTS, "healthy"], rows, strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_own_reason(fault: str, outcomes: dict[str, dict[str, object]]) -> None:
    row = outcomes[fault]
    assert (row["reason"], row["image"], row["tries"]) == (FAULTS[fault][1], None, 1), row["detail"]
    assert row["detail"]


def test_the_healthy_image_beside_them_is_kept(outcomes: dict[str, dict[str, object]]) -> None:
    row = outcomes["healthy"]
    assert (row["outcome"], row["reason"], row["detail"], row["transient"]) == ("kept", None, None, None)
    assert (row["status"], row["format"], row["width"], row["height"]) == (200, "jpeg", 64, 48)
    assert row["bytes_received"] == len(IMAGE)
    assert row["bytes_saved"] == 0
    assert row["image"]


def test_statuses_are_noted(outcomes: dict[str, dict[str, object]]) -> None:
    assert outcomes["not found"]["status"] == 404
    assert outcomes["no answer"]["status"] is None
    assert outcomes["HTML as JPEG"]["content_type"] == "image/jpeg"


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(drips(answer(IMAGE, length=10**12), b"\0" * 1_000_000, 0), id="endless, honest about it"),
        pytest.param(drips(HEAD + b"\r\n" + IMAGE, b"\0" * 1_000_000, 0), id="endless, says nothing"),
        pytest.param(
            drips(
                HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"f4240\r\n" + IMAGE.ljust(1_000_000, b"\0") + b"\r\n", 0
            ),
            id="endless chunks",
        ),
    ],
)
def test_an_endless_body_ends_at_the_cap(handler: Handler) -> None:
    with Origin({"/x": handler}) as origin:
        row = fetch_one(origin.url("/x"), max_bytes=3_000_000)
    assert row["reason"] == Reason.TOO_MANY_BYTES
    assert row["bytes_received"] < 4_000_000


def test_an_honest_length_over_the_cap_is_refused_before_the_body() -> None:
    with Origin({"/x": says(answer(b"", length=60_000_000))}) as origin:
        row = fetch_one(origin.url("/x"))
    assert (row["reason"], row["bytes_received"], row["bytes_saved"]) == (Reason.TOO_MANY_BYTES, 0, 50_000_000)


def test_too_few_bytes() -> None:
    with Origin({"/told": says(answer(b"", length=999)), "/seen": says_and_closes(HEAD + b"\r\n" + IMAGE)}) as origin:
        told, seen = fetch([origin.url("/told"), origin.url("/seen")], min_bytes=50_000)
    assert (told["reason"], told["bytes_received"]) == (Reason.TOO_FEW_BYTES, 0)
    assert (seen["reason"], seen["bytes_received"]) == (Reason.TOO_FEW_BYTES, len(IMAGE))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("wrong content type", answer(IMAGE, Content_Type="text/html")),
        ("no content type", answer(IMAGE)),
        ("a Content-Encoding that is none", answer(IMAGE, Content_Encoding="utf-8")),
        ("chunked", HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(IMAGE) + IMAGE + b"\r\n0\r\n\r\n"),
        ("opt-out for others", answer(IMAGE, X_Robots_Tag="otherbot: noai")),
        ("a large header", answer(IMAGE, Content_Security_Policy="a" * 20_000)),
        ("203", answer(IMAGE, "203 Transformed")),
    ],
)
def test_what_is_merely_odd_is_kept(name: str, data: bytes) -> None:
    with Origin({"/x": says(data)}) as origin:
        row = fetch_one(origin.url("/x"))
    assert row["outcome"] == "kept", row["detail"]


def test_until_close_is_kept() -> None:
    with Origin({"/x": says_and_closes(b"HTTP/1.0 200 OK\r\n\r\n" + IMAGE)}) as origin:
        assert fetch_one(origin.url("/x"))["outcome"] == "kept"


def test_opt_outs_can_be_turned_off() -> None:
    with Origin({"/x": says(answer(IMAGE, X_Robots_Tag="noai"))}) as origin:
        assert fetch_one(origin.url("/x"), opt_out_headers=())["outcome"] == "kept"


def test_a_dead_port_is_a_connect_error() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))  # bound, but nobody listens
        row = fetch_one(f"http://127.0.0.1:{placeholder.getsockname()[1]}/x")
    assert (row["reason"], row["transient"]) == (Reason.CONNECT_ERROR, True)


def test_a_name_that_does_not_exist_is_a_dns_error() -> None:
    row = fetch_one("http://nothing.invalid/x")
    assert (row["reason"], row["transient"]) == (Reason.DNS_ERROR, True)


def test_what_is_asked_for() -> None:
    with Origin({"/a%20b?q=1": says(answer(IMAGE))}) as origin:
        row = fetch_one(origin.url("/a b?q=1#frag"), user_agent="test/1 (+https://example.org)")
    (request,) = origin.requests
    assert row["outcome"] == "kept"
    assert request.headers["user-agent"] == "test/1 (+https://example.org)"
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers
    assert row["final_url"] == origin.url("/a%20b?q=1")


def test_raw_bytes_in_headers_end_up_as_text() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: image/\xff\xfe\r\nContent-Length: %d\r\n\r\n" % len(IMAGE)
    with Origin(
        {
            "/kept": says(raw + IMAGE),
            "/not found": says(b"HTTP/1.1 404 \xff\r\nContent-Length: 0\r\nContent-Type: \xc3\xa4\r\n\r\n"),
            "/moved": says(b"HTTP/1.1 302 \xff\r\nLocation: x\xff://\xff\r\nContent-Length: 0\r\n\r\n"),
            "/page": says(answer(b"<html>" * 100, Content_Encoding="\xff")),
            "/garbage": says_and_closes(b"HTTP/1.1 200\xff\xfe\r\n\xff: \xff\r\n\r\n"),
        }
    ) as origin:
        paths = ["/kept", "/not%20found", "/moved", "/page", "/garbage"]
        origin.routes["/not%20found"] = origin.routes["/not found"]
        rows = fetch([origin.url(path) for path in paths])
    assert rows[0]["outcome"] == "kept"
    assert rows[0]["content_type"] == "image/??"
    assert [row["reason"] for row in rows[1:3]] == [Reason.HTTP_NOT_FOUND, Reason.HTTP_NOT_FOUND]
    assert rows[3]["reason"] == Reason.PROTOCOL_ERROR
    assert rows[4]["reason"] == Reason.PROTOCOL_ERROR
