"""Names of rows: the form in which two spellings of one URL are equal, and the `uid` made of it.

Sources name rows with it; fetch follows redirects with it; `explain` finds a row by it.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit, urlunsplit

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#%/<>?@\[\\\]^|]")
"""Characters that no host has: WHATWG's forbidden domain code points, but for the colons of IPv6 addresses."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def normalise_url(url: str) -> str | None:
    """The form in which two spellings of one address are equal (RFC 3986 §6.2.2–6.2.3), or None if it is no URL.

    Lower-case scheme and host, no default port, no fragment, an explicit "/" path, characters that may not stand in
    a URL percent-encoded. Query parameters stay as they are: their order can matter to a server.
    """
    text = url.strip()
    if not text or len(text) > 8192:
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not host:
        return None
    scheme = parts.scheme.lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    host = host.rstrip(".")
    if not host or _FORBIDDEN.search(host):  # after IDNA, which turns wide spaces and brackets into plain ones
        return None
    if ":" in host:
        try:
            host = f"[{IPv6Address(host)}]"
        except ValueError:
            return None
    if port is not None and str(port) != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{port}"
    try:
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return urlunsplit((scheme, host, path, query, ""))


def make_uid(source: str, name: str) -> str:
    """32 hex digits: a pure function of the source's name and of the normalised URL (or the sample's key)."""
    return hashlib.blake2b(f"{source}\x00{name}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


UID_PATTERN = re.compile(r"[0-9a-f]{32}")
