"""robots.txt by RFC 9309: longest match, wildcards, one answer a site for each worker.

`crawl.py` asks before each request, where the settings want it. The standard library's parser knows no wildcards and
takes the first match instead of the longest, so it would let us in where sites say no.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple
from urllib.parse import quote, urlsplit
from weakref import WeakValueDictionary

from curation.config import FetchSettings
from curation.fetch.answer import Redirect, agent_token
from curation.fetch.fetched import Traffic
from curation.fetch.hosts import BACKOFF_S
from curation.fetch.http import Getter
from curation.row import Reason, Verdict

MAX_BYTES = 512_000
"""RFC 9309 §2.5 asks crawlers to read at least 500 KiB. A longer file is taken as a no."""
MAX_RULES = 10_000
MAX_REDIRECTS = 5  # RFC 9309 §2.3.1.2
CACHE_BYTES = 32_000_000
FAULT_TTL_S = BACKOFF_S / 2
"""How long a site whose robots.txt cannot be had is not asked for it again: a row's next try asks anew."""

_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One Allow or Disallow line."""

    pattern: str
    allow: bool

    def matches(self, path: str) -> bool:
        """True if the pattern matches from the start of `path`; `*` is anything, `$` at the end is the end."""
        pattern = self.pattern
        anchored = pattern.endswith("$")
        first, *rest = (pattern[:-1] if anchored else pattern).split("*")
        if not path.startswith(first):
            return False
        at = len(first)
        if not rest:
            return not anchored or at == len(path)
        *middle, last = rest
        for part in middle:
            found = path.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        if anchored:
            return path.endswith(last) and len(path) - len(last) >= at
        return path.find(last, at) >= 0


def parse_robots(text: str, agent: str) -> tuple[Rule, ...]:
    """The rules that hold for `agent` (a product token, lower case), the most specific first."""
    own: list[Rule] = []
    everyones: list[Rule] = []
    named = False  # some group is addressed to us
    ours = all_ = False  # whom the group that is being read is addressed to
    in_rules = False
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if in_rules:
                ours = all_ = in_rules = False
            token = agent_token(value)
            ours, all_ = ours or token == agent, all_ or token == "*"
            named = named or ours
        elif key in ("allow", "disallow"):
            in_rules = True
            if value and len(own) + len(everyones) < MAX_RULES:
                rule = Rule(_normal(value), key == "allow")
                if ours:
                    own.append(rule)
                elif all_:
                    everyones.append(rule)
    return tuple(sorted(own if named else everyones, key=lambda r: (-len(r.pattern), not r.allow)))


def may_fetch(rules: Iterable[Rule], path: str) -> bool:
    """What the longest of the matching rules says of `path` (with its query); yes where none matches."""
    path = _normal(path)
    return next((rule.allow for rule in rules if rule.matches(path)), True)


def _normal(path: str) -> str:
    escaped = quote(path, safe="/%:@!$&'()*+,;=~-._?")
    return _ESCAPE.sub(lambda m: m[0].upper(), escaped)


class Refusal(NamedTuple):
    """Why an address is not asked for."""

    verdict: Verdict
    asked: bool
    """Whether the site was asked just now; else this is what it said before, and says nothing new of the host."""


@dataclass(frozen=True, slots=True)
class _Site:
    rules: tuple[Rule, ...]
    fault: Verdict | None = None
    until: float = float("inf")

    @property
    def weight(self) -> int:
        return 200 + sum(100 + len(rule.pattern) for rule in self.rules)


class Robots:
    """The robots.txt of all sites that a worker asks."""

    def __init__(self, http: Getter, settings: FetchSettings) -> None:
        self._http = http
        self._timeout_s = settings.timeout_s
        self._agent = agent_token(settings.user_agent)
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._weight = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def refusal(self, url: str, timeout_s: float) -> Refusal | None:
        """None if `url` (normalised) may be asked for; else ROBOTS_TXT, or why that could not be found out."""
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(timeout_s):
                site, asked = await self._site(f"{parts.scheme}://{parts.netloc}", timeout_s)
        except TimeoutError:
            return Refusal(Verdict(Reason.TIMEOUT, f"robots.txt: no answer within {timeout_s:g} s"), True)
        if site.fault is not None:
            return Refusal(site.fault, asked)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return None if may_fetch(site.rules, path) else Refusal(Verdict(Reason.ROBOTS_TXT, "robots.txt says no"), asked)

    async def _site(self, origin: str, timeout_s: float) -> tuple[_Site, bool]:
        """What is known of a site, and whether it was asked for it now."""
        lock = self._locks.setdefault(origin, asyncio.Lock())
        async with lock:
            site = self._sites.get(origin)
            if site is not None and site.until > monotonic():
                self._sites.move_to_end(origin)
                return site, False
            site = await self._fetch(origin, timeout_s)
            self._remember(origin, site)
            return site, True

    def _remember(self, origin: str, site: _Site) -> None:
        old = self._sites.pop(origin, None)
        self._weight += site.weight - (old.weight if old else 0)
        self._sites[origin] = site
        while self._weight > CACHE_BYTES:
            _, oldest = self._sites.popitem(last=False)
            self._weight -= oldest.weight

    async def _fetch(self, origin: str, timeout_s: float) -> _Site:
        url = f"{origin}/robots.txt"
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._http.get(url, Traffic(), timeout_s=timeout_s, cap=MAX_BYTES)
            if not isinstance(answer, Redirect):
                break
            url = answer.url
        if isinstance(answer, bytes):
            return _Site(parse_robots(answer.decode("utf-8", "replace").removeprefix("\ufeff"), self._agent))
        if isinstance(answer, Redirect) or answer.reason in (
            Reason.HTTP_NOT_FOUND,
            Reason.HTTP_CLIENT_ERROR,
            Reason.EMPTY_BODY,
            Reason.BAD_REDIRECT,
        ):
            return _Site(())  # RFC 9309 §2.3.1.3: unavailable, so everything is allowed
        assert answer.reason is not None
        if answer.reason is Reason.TOO_MANY_BYTES:
            return _Site((Rule("/", False),))
        return _Site((), Verdict(answer.reason, f"robots.txt: {answer.detail}"), monotonic() + FAULT_TTL_S)
