"""robots.txt: RFC 9309's rules. And how it is fetched and obeyed."""

from __future__ import annotations

import asyncio

import pytest

from curation.fetch.robots import Rule, may_fetch, parse_robots
from curation.row import Reason
from tests.fetch.harness import fetch, fetch_one, photo
from tests.fetch.origin import Handler, Origin, Request, answer, redirects_to, says

IMAGE = photo()

RFC_9309_EXAMPLE = """
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("curation", "/x.jpg", True),
        ("curation", "/a/b.gif", False),
        ("curation", "/a/b.gif?x=1", True),
        ("curation", "/example/x", False),
        ("curation", "/publications/x", True),
        ("foobot", "/x", False),
        ("foobot", "/example/page.html", True),
        ("foobot", "/example/allowed.gif", True),
        ("foobot", "/example/", False),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("barbot", "/a.gif", True),
        ("quxbot", "/example/", True),
    ],
)
def test_the_example_of_rfc_9309(agent: str, path: str, allowed: bool) -> None:
    assert may_fetch(parse_robots(RFC_9309_EXAMPLE, agent), path) is allowed


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/", "/anything", True),
        ("/fish", "/fish.html", True),
        ("/fish", "/catfish", False),
        ("/fish*", "/fishheads", True),
        ("/*.php", "/folder/x.php?y", True),
        ("/*.php$", "/x.php", True),
        ("/*.php$", "/x.php5", False),
        ("/fish*.php", "/fishheads/catfish.php", True),
        ("*", "/x", True),
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/a*b*c$", "/a-b-c", True),
        ("/a*bc$", "/abc", True),
        ("/ab*bc$", "/abc", False),
        ("/a**c", "/abc", True),
        ("/$", "/", True),
        ("/$", "/x", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert Rule(pattern, True).matches(path) is matches


def test_the_longest_match_wins_and_allow_wins_ties() -> None:
    assert may_fetch(parse_robots("user-agent: *\ndisallow: /a\nallow: /a/b\n", "x"), "/a/b")
    assert not may_fetch(parse_robots("user-agent: *\nallow: /a\ndisallow: /a/b\n", "x"), "/a/b")
    assert may_fetch(parse_robots("user-agent: *\ndisallow: /p\nallow: /p\n", "x"), "/p")


def test_groups_of_one_agent_are_one() -> None:
    text = "user-agent: x\ndisallow: /a\n\nuser-agent: y\ndisallow: /b\n\nuser-agent: X/1.0\ndisallow: /c\n"
    assert [may_fetch(parse_robots(text, "x"), path) for path in ("/a", "/b", "/c")] == [False, True, False]


def test_an_empty_disallow_allows() -> None:
    assert may_fetch(parse_robots("user-agent: *\ndisallow:\n", "x"), "/a")


def test_escapes_are_compared_as_one_spelling() -> None:
    assert not may_fetch(parse_robots("user-agent: *\ndisallow: /a%3cd\n", "x"), "/a%3Cd")
    assert not may_fetch(parse_robots("user-agent: *\ndisallow: /ä\n", "x"), "/%C3%A4/x")


@pytest.mark.parametrize("text", ["", "\0\0\0", "<html>no</html>", "disallow: /\n", ":::\n#\n", "user-agent: *"])
def test_what_is_no_robots_txt_forbids_nothing(text: str) -> None:
    assert may_fetch(parse_robots(text, "x"), "/a")


def test_a_hostile_pattern_costs_no_more_than_its_length() -> None:
    path = "/" + "a" * 8000
    assert not Rule("/" + "*a" * 9000 + "b", False).matches(path)  # a backtracking matcher would not come back


ROBOTS = b"User-agent: *\nDisallow: /private\n"


def closes_first(data: bytes) -> Handler:
    """Closes the first connection without a word, and then says `data`."""

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.close() if request.number == 0 else writer.write(data)

    return handler


def test_robots_txt_is_asked_for_once_and_obeyed() -> None:
    with Origin({path: says(answer(IMAGE)) for path in ("/a", "/b", "/private/c")}) as origin:
        origin.routes["/robots.txt"] = says(answer(ROBOTS))
        rows = fetch([origin.url(path) for path in ("/a", "/b", "/private/c")], robots_txt=True)
    assert [row["reason"] for row in rows] == [None, None, Reason.ROBOTS_TXT]
    assert origin.asked == {"/robots.txt": 1, "/a": 1, "/b": 1}


def test_robots_txt_holds_for_redirects_too() -> None:
    with Origin({"/a": redirects_to("/private/c"), "/private/c": says(answer(IMAGE))}) as origin:
        origin.routes["/robots.txt"] = says(answer(ROBOTS))
        assert fetch_one(origin.url("/a"), robots_txt=True)["reason"] == Reason.ROBOTS_TXT


@pytest.mark.parametrize(
    "fails",
    [says(answer(b"", "503 Busy"), answer(ROBOTS)), closes_first(answer(ROBOTS))],
    ids=["busy", "closed"],
)
def test_a_robots_txt_that_fails_once_costs_no_row(fails: Handler) -> None:
    paths = [f"/{n}" for n in range(40)]
    with Origin({path: says(answer(IMAGE)) for path in paths}) as origin:
        origin.routes["/robots.txt"] = fails
        rows = fetch([origin.url(path) for path in paths], robots_txt=True, retries=2)
    assert {row["reason"] for row in rows} == {None}
    assert origin.asked["/robots.txt"] == 2


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
