"""Redirects are followed by hand: each hop passes every check again."""

from __future__ import annotations

import pytest

from curation.row import Reason
from tests.fetch.harness import fetch, fetch_one, photo
from tests.fetch.origin import Origin, answer, redirects_to, says

IMAGE = photo()


@pytest.mark.parametrize("status", ["301 a", "302 b", "303 c", "307 d", "308 e"])
def test_redirects_are_followed(status: str) -> None:
    with Origin({"/a": redirects_to("b?c=d", status), "/b?c=d": says(answer(IMAGE))}) as origin:
        row = fetch_one(origin.url("/a"))
    assert (row["outcome"], row["final_url"], row["status"]) == ("kept", origin.url("/b?c=d"), 200)
    assert row["tries"] == 1
    assert origin.connections == 1, "the redirect's body was read, so that its connection could be used again"


def test_redirects_to_another_host_are_followed() -> None:
    with Origin({"/b": says(answer(IMAGE))}) as second, Origin({"/a": redirects_to(second.url("/b"))}) as first:
        row = fetch_one(first.url("/a"))
    assert (row["outcome"], row["final_url"]) == ("kept", second.url("/b"))


@pytest.mark.parametrize(("limit", "reason"), [(5, None), (4, Reason.BAD_REDIRECT), (0, Reason.BAD_REDIRECT)])
def test_the_number_of_redirects_is_limited(limit: int, reason: Reason | None) -> None:
    routes = {f"/{n}": redirects_to(f"/{n + 1}") for n in range(5)}
    with Origin({**routes, "/5": says(answer(IMAGE))}) as origin:
        row = fetch_one(origin.url("/0"), max_redirects=limit)
    assert row["reason"] == reason
    assert sum(origin.asked.values()) == limit + 1


def test_redirect_loops() -> None:
    with Origin({"/self": redirects_to("/self#x"), "/a": redirects_to("/b"), "/b": redirects_to("/a")}) as origin:
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
        ("http://127.0.0.1:{port}\\x", Reason.BAD_REDIRECT),
        ("http://ex\\ample.com/x", Reason.BAD_REDIRECT),
    ],
)
def test_redirects_to_where_nobody_may_go(target: str, reason: Reason) -> None:
    with Origin() as origin:
        origin.routes["/x"] = redirects_to(target.format(port=origin.port))
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
        ("http://example.com\\images\\a.jpg", Reason.INVALID_URL),
        ("http://]..][v1.fe\u00e9[/", Reason.INVALID_URL),
        ("http://10.0.0.1/x", Reason.BLOCKED_ADDRESS),
        ("http://localhost./x", Reason.BLOCKED_ADDRESS),
        ("http://" + "a" * 64 + ".org/", Reason.DNS_ERROR),
    ],
)
def test_urls_that_are_not_asked_for(url: str | None, reason: Reason) -> None:
    row = fetch_one({"url": url}, allow_networks=())
    assert row["reason"] == reason
    assert row["status"] is None
