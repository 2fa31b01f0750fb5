"""What the head of an HTTP answer says: its status as a reason, opt-outs, Retry-After.

Pure functions; `http.py` and `rules.py` call them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit

from curation.names import normalise_url
from curation.row import Reason, Verdict

REDIRECTS = frozenset([301, 302, 303, 307, 308])


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer sends us on."""

    url: str
    """Absolute and normalised."""


RETRY_AFTER_CAP_S = 60.0
"""The longest that a host may make its rows wait; a host that asks for more is asked again earlier."""

# X-Robots-Tag directives that carry a value, so that their colon does not name a crawler.
_VALUED = frozenset(["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"])


def judge_status(status: int) -> Verdict | None:
    """None where the answer's body may be the image (200, and 203 from a transforming proxy)."""
    if status in (200, 203):
        return None
    detail = f"HTTP status {status}"
    if status in (404, 410):
        return Verdict(Reason.HTTP_NOT_FOUND, detail)
    if status == 429:
        return Verdict(Reason.HTTP_RATE_LIMITED, detail)
    if status == 408:
        return Verdict(Reason.TIMEOUT, f"{detail}: the server says that it waited too long")
    if 400 <= status < 500:
        return Verdict(Reason.HTTP_CLIENT_ERROR, detail)
    if 500 <= status < 600:
        return Verdict(Reason.HTTP_SERVER_ERROR, detail)
    if status in (204, 205):
        return Verdict(Reason.EMPTY_BODY, detail)
    if 300 <= status < 400:
        return Verdict(Reason.BAD_REDIRECT, f"{detail} leads nowhere")
    return Verdict(Reason.PROTOCOL_ERROR, f"{detail} does not answer a plain GET")


def find_opt_out(values: Iterable[str], directives: Collection[str], agent: str) -> str | None:
    """The first of `directives` (lower case) that X-Robots-Tag headers `values` set for everyone or for `agent`.

    A header is a list of directives; `name:` before one makes it and those after it hold for that crawler only
    (Google, "Robots meta tag, data-nosnippet, and X-Robots-Tag specifications").
    """
    for value in values:
        addressee = "*"
        for part in value.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon and name.strip() not in _VALUED:
                addressee, part = name.strip(), rest
            directive = part.strip()
            if directive in directives and addressee in ("*", agent):
                return directive
    return None


def resolve_redirect(base: str, location: str) -> Redirect | Verdict:
    """Where `location` (a header as aiohttp decodes it) leads from `base`."""
    raw = location.encode("utf-8", "surrogateescape")
    try:
        target = urljoin(base, quote(raw, safe="!#$%&'()*+,/:;=?@[]~\\^`{|}\"<> "))
        scheme = urlsplit(target).scheme.lower()
    except ValueError as error:
        return Verdict(Reason.BAD_REDIRECT, f"redirect to {location[:200]!r}: {error}")
    if scheme not in ("http", "https"):
        return Verdict(Reason.BLOCKED_SCHEME, f"redirect to {target[:200]}")
    url = normalise_url(target)
    return Verdict(Reason.BAD_REDIRECT, f"redirect to {target[:200]}") if url is None else Redirect(url)


def agent_token(user_agent: str) -> str:
    """The product token by which a site addresses us (RFC 9309 §2.2.1): "curation" of "curation/0.1 (+…)"."""
    return user_agent.strip().partition("/")[0].partition(" ")[0].lower()


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 §10.2.3: seconds or a date), capped; None where it is none."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), RETRY_AFTER_CAP_S)
