"""robots.txt: RFC 9309's rules. How it is fetched is tested in test_crawl.py."""

from __future__ import annotations

import pytest

from curation.fetch.robots import Rule, may_fetch, parse_robots

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
