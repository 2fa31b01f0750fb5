"""How the report says things: what reasons and stages mean, and numbers, times and untrusted text for people."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from curation.row import Reason

STAGES = {
    "source": "Read the list, name each row, mark URLs that come twice",
    "fetch": "One GET a row, stopped as soon as the header rules the image out; then the image check",
    "score": "Add columns to each row",
    "select": "Rules over columns, duplicates, top-k",
    "caption": "Write captions",
    "layout": "Give each image its aspect bucket and its shard",
    "pack": "Resize once, write the shards",
    "encode": "Store latents and text embeddings, so that trainings need not compute them",
}

REASONS: dict[str, str] = {
    Reason.INVALID_URL: "The address is not a URL",
    Reason.DUPLICATE_URL: "The list has this address before; the first one stays",
    Reason.DNS_ERROR: "The host's name does not resolve",
    Reason.CONNECT_ERROR: "No connection to the host",
    Reason.TLS_ERROR: "The encrypted connection could not be set up",
    Reason.CONNECTION_LOST: "The connection broke off in the middle",
    Reason.TIMEOUT: "The transfer did not end before its deadline",
    Reason.HOST_PUT_ASIDE: "The host had failed too often in a row and was put aside",
    Reason.PROTOCOL_ERROR: "The answer was not valid HTTP",
    Reason.BAD_REDIRECT: "Redirects in a circle, too many of them, or to nowhere",
    Reason.HTTP_NOT_FOUND: "The server has no such image (404, 410)",
    Reason.HTTP_CLIENT_ERROR: "The server refused the request (4xx)",
    Reason.HTTP_RATE_LIMITED: "The server asked for fewer requests (429)",
    Reason.HTTP_SERVER_ERROR: "The server failed (5xx)",
    Reason.EMPTY_BODY: "The answer had no content",
    Reason.SOURCE_IMAGE_UNREADABLE: "The image could not be read from the source",
    Reason.BLOCKED_SCHEME: "Only http and https are fetched",
    Reason.BLOCKED_ADDRESS: "The address is not on the public internet",
    Reason.OPT_OUT: "The site opted out in its response headers",
    Reason.ROBOTS_TXT: "The site's robots.txt disallows it",
    Reason.TOO_MANY_BYTES: "The file is larger than allowed",
    Reason.TOO_FEW_BYTES: "The file is smaller than asked for",
    Reason.NOT_AN_IMAGE: "The content is not an image",
    Reason.FORMAT_NOT_ALLOWED: "An image format that is not on the list",
    Reason.TOO_SMALL: "The shorter side is below the minimum",
    Reason.TOO_MANY_PIXELS: "More pixels than allowed",
    Reason.ASPECT_TOO_EXTREME: "Too wide or too tall",
    Reason.HASH_MISMATCH: "The file is not the one that the list describes",
    Reason.TRUNCATED_IMAGE: "The image ends too early",
    Reason.DAMAGED_IMAGE: "The image cannot be decoded",
    Reason.DECODE_CPU_LIMIT: "Decoding took too much time",
    Reason.DECODE_MEMORY_LIMIT: "Decoding took too much memory",
    Reason.DECODER_DIED: "The decoder process died on it",
    Reason.OPERATOR_FAULT: "A scoring operator failed on this row",
    Reason.WHERE: "The rule “where” is not true for it",
    Reason.DUPLICATE_BYTES: "The same file as another row",
    Reason.DUPLICATE_PIXELS: "The same pixels as another row",
    Reason.NEAR_DUPLICATE: "Looks the same as another row; the largest image stays",
    Reason.SEMANTIC_DUPLICATE: "Shows the same as another row; the better one stays",
    Reason.BELOW_TOP: "Not among the best rows that were asked for",
    Reason.CAPTION_REFUSAL: "The model refused to describe it",
    Reason.CAPTION_EMPTY: "The model wrote nothing",
    Reason.CAPTION_REPETITION: "The caption goes round in a loop",
    Reason.CAPTION_CUT_OFF: "Cut off at the token limit, with no whole sentence before it",
    Reason.CAPTION_WRONG_SCRIPT: "Written in another script than asked for",
    Reason.CAPTION_TOO_SHORT: "Fewer words than a good caption has",
    Reason.CAPTION_TOO_LONG: "More words than a good caption has",
    Reason.CAPTION_LOW_SIMILARITY: "The caption does not fit the image, by CLIP",
    Reason.CAPTION_BACKEND: "The caption model could not answer",
    Reason.NO_CAPTION: "The caption that was asked for is missing",
    Reason.SMALLER_THAN_BUCKET: "Smaller than its aspect bucket, and enlarging is off",
    Reason.BANK_DAMAGED: "The stored pixels are gone or changed",
    Reason.NOT_FINITE: "A model, or the type that its output is stored in, has no number for it",
}


def reason_text(reason: str) -> str:
    """What a reason means, in a few words; its name where nobody has written them yet."""
    return REASONS.get(reason, reason.replace("_", " "))


def count(number: float) -> str:
    """ "12,345"; large numbers in full."""
    return f"{number:,.0f}"


def share(part: float, whole: float) -> str:
    """ "18.7%", never "0%" or "100%" for a part that is neither."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "<0.1%"
    if part != whole and percent > 99.9:
        return ">99.9%"
    return f"{percent:.1f}%" if 0 < part < whole else f"{percent:.0f}%"


def rate(number: float | None) -> str:
    """A rate with three significant digits, "–" for none."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def price(number: float | None) -> str:
    """An amount of money: two decimals, or two significant digits below 1; "–" for none."""
    if number is None:
        return "–"
    if 0 < number < 0.001:
        return "<0.001"
    return f"{number:,.2f}" if number >= 1 or not number else f"{number:.2g}"


def duration(seconds: float) -> str:
    """ "2 h 5 min", "3 min 12 s", "4.2 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def moment(text: str) -> str:
    """ "31 Jan 2026, 12:05 UTC" for an ISO time; anything else as it stands."""
    try:
        return f"{datetime.fromisoformat(text):%-d %b %Y, %H:%M UTC}"
    except ValueError:
        return text


def seconds_between(started: str, finished: str | None) -> float | None:
    """Wall time of a run; None while it runs."""
    try:
        return (
            (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds() if finished else None
        )
    except (ValueError, TypeError):
        return None


def shown(text: str, limit: int = 300) -> str:
    """Untrusted text as it may stand on a page: one line, no control or direction-changing characters, cut at its end.

    Escaping is the template's work; this keeps text from *looking* like something else (a URL that reads backwards).
    """
    line = " ".join(text[: 4 * limit].split())
    clean = "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\u200d" else c for c in line)
    return clean if len(clean) <= limit else clean[: limit - 1].rstrip() + "…"


def shown_url(url: str, limit: int = 96) -> str:
    """An untrusted URL: as `shown`, but cut in its middle, since host and file name tell most."""
    clean = shown(url, 8192)
    if len(clean) <= limit:
        return clean
    head = limit * 2 // 3
    return f"{clean[:head]}…{clean[head + 1 - limit :]}"
