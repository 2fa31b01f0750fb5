"""Words that come from elsewhere, made fit for a message, a terminal or a file."""

from __future__ import annotations

from typing import Any


def first_line(error: BaseException) -> str:
    """What an error of a library says, without what it says below."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip()


def one_line(error: BaseException, limit: int | None = None) -> str:
    """All that an error of a library says, in one line of at most `limit` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def without_secrets(place: str) -> str:
    """A URL without user, password and, on the web, query, in which signatures stand; other text as it is."""
    return "::".join(map(_without_secrets, place.split("::")))


def _without_secrets(url: str) -> str:
    scheme, there, rest = url.partition("://")
    if not there or not scheme.replace("+", "").isalnum():
        return url
    if scheme in ("http", "https"):
        rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def all_without_secrets(value: Any) -> Any:
    """The same of all texts in plain data."""
    if isinstance(value, dict):
        return {key: all_without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [all_without_secrets(inner) for inner in value]
    return without_secrets(value) if isinstance(value, str) else value


def printable(text: str) -> str:
    """Untrusted text without characters that a terminal would obey, such as escape sequences."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def without_halves(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode()
