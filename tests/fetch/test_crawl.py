"""Rows on their way: redirects, retries, politeness, robots.txt, hashes, early stops."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from curation.row import Reason
from tests.fetch.harness import fetch, fetch_one, photo
from tests.fetch.origin import Handler, Origin, Request, answer, drips, says, says_and_closes

IMAGE = photo()


def redirect(to: str, status: str = "302 Found") -> Handler:
    return says(answer(b"moved", status, Location=to))


# -- redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 a", "302 b", "303 c", "307 d", "308 e"])
def test_redirects_are_followed(status: str) -> None:
    with Origin({"/a": redirect("b?c=d", status), "/b?c=d": says(answer(IMAGE))}) as origin:
        row = fetch_one(origin.url("/a"))
    assert (row["outcome"], row["final_url"], row["status"]) == ("kept", origin.url("/b?c=d"), 200)
    assert row["tries"] == 1
    assert origin.connections == 1, "the redirect's body was read, so that its connection could be used again"


def test_redirects_to_another_host_are_followed() -> None:
    with Origin({"/b": says(answer(IMAGE))}) as second, Origin({"/a": redirect(second.url("/b"))}) as first:
        row = fetch_one(first.url("/a"))
    assert (row["outcome"], row["final_url"]) == ("kept", second.url("/b"))


@pytest.mark.parametrize(("limit", "reason"), [(5, None), (4, Reason.BAD_REDIRECT), (0, Reason.BAD_REDIRECT)])
def test_the_number_of_redirects_is_limited(limit: int, reason: Reason | None) -> None:
    routes = {f"/{n}": redirect(f"/{n + 1}") for n in range(5)}
    with Origin({**routes, "/5": says(answer(IMAGE))}) as origin:
        row = fetch_one(origin.url("/0"), max_redirects=limit)
    assert row["reason"] == reason
    assert sum(origin.asked.values()) == limit + 1


def test_redirect_loops() -> None:
    with Origin({"/self": redirect("/self#x"), "/a": redirect("/b"), "/b": redirect("/a")}) as origin:
        itself, other = fetch([origin.url("/self"), origin.url("/a")])
    assert (itself["reason"], other["reason"]) == (Reason.BAD_REDIRECT, Reason.BAD_REDIRECT)
    assert "loop" in itself["detail"]
    assert origin.asked == {"/self": 1, "/a": 1, "/b": 1}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", Reason.BLOCKED_SCHEME),
        ("ftp://127.0.0.1/x.jpg", Reason.BLOCKED_SCHEME),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", Reason.BLOCKED_SCHEME),
        ("gopher://127.0.0.1:80/", Reason.BLOCKED_SCHEME),
        ("javascript:alert(1)", Reason.BLOCKED_SCHEME),
        ("http://127.0.0.2:{port}/x", Reason.BLOCKED_ADDRESS),
        ("http://10.0.0.1/x", Reason.BLOCKED_ADDRESS),
        ("http://169.254.169.254/latest/meta-data/", Reason.BLOCKED_ADDRESS),
        ("http://[::1]:{port}/x", Reason.BLOCKED_ADDRESS),
        ("http://[::ffff:127.0.0.2]:{port}/x", Reason.BLOCKED_ADDRESS),
        ("http://2130706434:{port}/x", Reason.BLOCKED_ADDRESS),
        ("http://0x7f000002:{port}/x", Reason.BLOCKED_ADDRESS),
        ("http://127.0.0.1:22/x", Reason.BLOCKED_ADDRESS),
        ("http://0:{port}/x", Reason.BLOCKED_ADDRESS),
        ("http://", Reason.BAD_REDIRECT),
        ("http://[::1/x", Reason.BAD_REDIRECT),
        ("http://a b/x", Reason.BAD_REDIRECT),
        ("http://127.0.0.1:99999/x", Reason.BAD_REDIRECT),
    ],
)
def test_redirects_to_where_nobody_may_go(target: str, reason: Reason) -> None:
    with Origin() as origin:
        origin.routes["/x"] = redirect(target.format(port=origin.port))
        row = fetch_one(origin.url("/x"), retries=1)
    assert (row["reason"], row["image"], row["tries"]) == (reason, None, 1), row["detail"]
    assert sum(origin.asked.values()) == 1


def test_a_redirect_without_a_location_leads_nowhere() -> None:
    with Origin({"/x": says(answer(b"", "302 Found"))}) as origin:
        assert fetch_one(origin.url("/x"))["reason"] == Reason.BAD_REDIRECT


def test_a_location_in_raw_bytes_is_understood() -> None:
    raw = "HTTP/1.1 302 Found\r\nLocation: /ä b\r\nContent-Length: 0\r\n\r\n".encode()
    with Origin({"/x": says(raw), "/%C3%A4%20b": says(answer(IMAGE))}) as origin:
        assert fetch_one(origin.url("/x"))["outcome"] == "kept"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", Reason.BLOCKED_SCHEME),
        ("FTP://example.org/x", Reason.BLOCKED_SCHEME),
        ("data:image/png;base64,AAAA", Reason.BLOCKED_SCHEME),
        ("http://", Reason.INVALID_URL),
        ("no url", Reason.INVALID_URL),
        ("", Reason.INVALID_URL),
        (None, Reason.INVALID_URL),
        ("http://10.0.0.1/x", Reason.BLOCKED_ADDRESS),
        ("http://localhost./x", Reason.BLOCKED_ADDRESS),
        ("http://" + "a" * 64 + ".org/", Reason.DNS_ERROR),
    ],
)
def test_urls_that_are_not_asked_for(url: str | None, reason: Reason) -> None:
    row = fetch_one({"url": url}, allow_networks=())
    assert row["reason"] == reason
    assert row["status"] is None


# -- retries and politeness --------------------------------------------------------------------------------------------


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
            origin.routes = {f"/{n}": redirect(target.url(f"/{n}")) for n in range(12)}
        rows = fetch([origin.url(f"/{n}") for origin in (first, second) for n in range(12)], per_host=3)
    assert [row["outcome"] for row in rows] == ["kept"] * 24
    assert target.most_at_once <= 3


# -- early stops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"min_side": 1024}, Reason.TOO_SMALL),
        ({"max_aspect": 1.5}, Reason.ASPECT_TOO_EXTREME),
        ({"max_pixels": 100_000}, Reason.TOO_MANY_PIXELS),
        ({"formats": ("png",)}, Reason.FORMAT_NOT_ALLOWED),
    ],
)
def test_a_transfer_stops_at_the_header(rules: dict[str, Any], reason: Reason) -> None:
    large = photo(1000, 600)  # some 700 kB, which come in pieces

    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        head = answer(large)
        for start in range(0, len(head), 20_000):
            writer.write(head[start : start + 20_000])
            await writer.drain()
            await asyncio.sleep(0.02)

    with Origin({"/x": slowly}) as origin:
        row = fetch_one(origin.url("/x"), **rules)
    assert (row["reason"], row["format"], row["width"], row["height"]) == (reason, "jpeg", 1000, 600)
    assert row["bytes_received"] < len(large) / 4
    assert row["bytes_received"] + row["bytes_saved"] == len(large)


def test_a_small_rest_is_read_to_keep_the_connection() -> None:
    with Origin({f"/{n}": says(answer(photo(100, 100))) for n in range(5)}) as origin:
        rows = fetch([origin.url(f"/{n}") for n in range(5)], min_side=1024, per_host=1)
    assert {row["reason"] for row in rows} == {Reason.TOO_SMALL}
    assert {row["bytes_saved"] for row in rows} == {0}
    assert origin.connections == 1


def test_a_rest_that_does_not_come_changes_nothing() -> None:
    with Origin({"/x": drips(answer(IMAGE, length=len(IMAGE) + 1000), b"", 1)}) as origin:
        row = fetch_one(origin.url("/x"), min_side=1024)
    assert row["reason"] == Reason.TOO_SMALL


# -- hashes, TLS, held images, robots.txt ------------------------------------------------------------------------------


def test_expected_hashes() -> None:
    md5, sha256 = hashlib.md5(IMAGE).hexdigest(), hashlib.sha256(IMAGE).hexdigest()
    with Origin({"/x": says(answer(IMAGE))}) as origin:
        url = origin.url("/x")
        rows = fetch(
            [
                {"url": url, "expected_md5": md5},
                {"url": url, "expected_md5": md5.upper(), "expected_sha256": sha256},
                {"url": url, "expected_md5": "0" * 32},
                {"url": url, "expected_md5": md5, "expected_sha256": "no hash at all"},
            ]
        )
    assert [row["reason"] for row in rows] == [None, None, Reason.HASH_MISMATCH, Reason.HASH_MISMATCH]
    assert rows[0]["source_sha256"] == sha256
    assert rows[2]["image"] is None


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PEM file with a key and a certificate for 127.0.0.1 that nobody vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem))
    return path


def test_a_certificate_that_nobody_vouches_for(self_signed: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(self_signed)
    with Origin({"/x": says(answer(IMAGE))}, tls=tls) as origin:
        row = fetch_one(origin.url("/x"), retries=2)
    assert (row["reason"], row["tries"]) == (Reason.TLS_ERROR, 1)
    assert not origin.requests


def test_held_images(tmp_path: Path) -> None:
    file = tmp_path / "some images.bin"
    file.write_bytes(b"junk" + IMAGE + photo(20, 20) + b"html")
    places = [(4, len(IMAGE)), (4 + len(IMAGE), len(photo(20, 20))), (0, 4), (10**6, 5), (4, 10**6), (4, 10**9)]
    rows = [{"held_path": str(file), "held_offset": start, "held_length": size} for start, size in places]
    rows += [{"held_path": str(tmp_path / "gone"), "held_offset": 0, "held_length": 1}]
    rows += [{"held_path": file.as_uri().replace("%20", " "), "held_offset": 4, "held_length": len(IMAGE)}]
    done = fetch(rows, min_side=40)
    assert [row["reason"] for row in done] == [
        None,
        Reason.TOO_SMALL,
        Reason.NOT_AN_IMAGE,
        Reason.SOURCE_IMAGE_UNREADABLE,
        Reason.SOURCE_IMAGE_UNREADABLE,
        Reason.TOO_MANY_BYTES,
        Reason.SOURCE_IMAGE_UNREADABLE,
        None,
    ]
    assert done[0]["source_sha256"] == hashlib.sha256(IMAGE).hexdigest()
    assert (done[0]["bytes_received"], done[0]["status"], done[0]["final_url"]) == (0, None, None)


def test_a_whole_file_is_a_held_image_too(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    assert fetch_one({"held_path": str(tmp_path / "a.jpg")})["outcome"] == "kept"
    assert fetch_one({"held_path": str(tmp_path / "a.jpg")}, max_bytes=100)["reason"] == Reason.TOO_MANY_BYTES


ROBOTS = b"User-agent: *\nDisallow: /private\n"


def test_robots_txt_is_asked_for_once_and_obeyed() -> None:
    with Origin({path: says(answer(IMAGE)) for path in ("/a", "/b", "/private/c")}) as origin:
        origin.routes["/robots.txt"] = says(answer(ROBOTS))
        rows = fetch([origin.url(path) for path in ("/a", "/b", "/private/c")], robots_txt=True)
    assert [row["reason"] for row in rows] == [None, None, Reason.ROBOTS_TXT]
    assert origin.asked == {"/robots.txt": 1, "/a": 1, "/b": 1}


def test_robots_txt_holds_for_redirects_too() -> None:
    with Origin({"/a": redirect("/private/c"), "/private/c": says(answer(IMAGE))}) as origin:
        origin.routes["/robots.txt"] = says(answer(ROBOTS))
        assert fetch_one(origin.url("/a"), robots_txt=True)["reason"] == Reason.ROBOTS_TXT


@pytest.mark.parametrize(
    ("robots", "reason"),
    [
        (answer(b"", "404 Not Found"), None),
        (answer(b"", "403 Forbidden"), None),
        (answer(b""), None),
        (answer(b"", "302 Found", Location="/robots.txt"), None),
        (answer(b"", "302 Found", Location="/other.txt"), Reason.ROBOTS_TXT),
        (answer(b"#" * 600_000), Reason.ROBOTS_TXT),
        (answer(b"", "500 Oh"), Reason.HTTP_SERVER_ERROR),
        (answer(b"", "302 Found", Location="http://10.0.0.1/robots.txt"), Reason.BLOCKED_ADDRESS),
    ],
)
def test_what_a_site_without_a_plain_robots_txt_allows(robots: bytes, reason: Reason | None) -> None:
    with Origin({"/robots.txt": says(robots), "/other.txt": says(answer(b"user-agent: *\ndisallow: /"))}) as origin:
        origin.routes["/x"] = says(answer(IMAGE))
        row = fetch_one(origin.url("/x"), robots_txt=True)
    assert row["reason"] == reason, row["detail"]
    assert origin.asked["/x"] == (reason is None)
