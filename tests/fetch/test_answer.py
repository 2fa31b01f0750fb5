"""Heads of answers: status codes, opt-outs, Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from curation.fetch.answer import RETRY_AFTER_CAP_S, agent_token, find_opt_out, judge_status, parse_retry_after
from curation.row import Reason

DIRECTIVES = {"noai", "noimageai", "noindex", "noimageindex"}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, None),
        (203, None),
        (101, Reason.PROTOCOL_ERROR),
        (204, Reason.EMPTY_BODY),
        (206, Reason.PROTOCOL_ERROR),
        (304, Reason.BAD_REDIRECT),
        (400, Reason.HTTP_CLIENT_ERROR),
        (403, Reason.HTTP_CLIENT_ERROR),
        (404, Reason.HTTP_NOT_FOUND),
        (408, Reason.TIMEOUT),
        (410, Reason.HTTP_NOT_FOUND),
        (429, Reason.HTTP_RATE_LIMITED),
        (451, Reason.HTTP_CLIENT_ERROR),
        (500, Reason.HTTP_SERVER_ERROR),
        (503, Reason.HTTP_SERVER_ERROR),
        (999, Reason.PROTOCOL_ERROR),
    ],
)
def test_status(status: int, reason: Reason | None) -> None:
    judged = judge_status(status)
    assert (judged and judged.reason) == reason


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["noai"], "noai"),
        (["NoAI"], "noai"),
        (["nofollow, noimageai"], "noimageai"),
        (["nofollow", "noindex"], "noindex"),
        (["curation: noai"], "noai"),
        (["Curation: nofollow, noai"], "noai"),
        (["googlebot: nofollow, curation: noai"], "noai"),
        (["*: noai"], "noai"),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], "noai"),
        (["max-snippet:20, noindex"], "noindex"),
        ([], None),
        ([""], None),
        ([",,:,"], None),
        (["all"], None),
        (["nofollow"], None),
        (["googlebot: noindex"], None),
        (["googlebot: nofollow, noindex"], None),
        (["xnoai"], None),
    ],
)
def test_opt_out(values: list[str], found: str | None) -> None:
    assert find_opt_out(values, DIRECTIVES, "curation") == found


@pytest.mark.parametrize(
    ("agent", "token"), [("curation/0.1 (+x)", "curation"), ("Bot", "bot"), ("My bot/2", "my"), ("", "")]
)
def test_agent_token(agent: str, token: str) -> None:
    assert agent_token(agent) == token


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("86400", RETRY_AFTER_CAP_S),
        ("1e400", RETRY_AFTER_CAP_S),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:47 GMT", RETRY_AFTER_CAP_S),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    now = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert parse_retry_after(value, now) == seconds
