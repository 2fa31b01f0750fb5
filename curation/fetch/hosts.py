"""Who may be asked next: politeness towards hosts, and fairness between them.

Rows wait in the queue of their host and take no slot while they wait. `take` goes round the hosts that have a free
slot, so a slow host holds up nobody else. State is per worker; `crawl.py` calls it, and brings its own clock.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import count
from urllib.parse import urlsplit

from curation.fetch.fetched import Fetched

BACKOFF_S = 0.5
BACKOFF_CAP_S = 30.0


def host_of(url: str) -> str:
    """The host that a normalised URL's request counts against; the port too, where it is not the scheme's own."""
    return urlsplit(url).netloc


def backoff_s(tries: int) -> float:
    """Seconds before the try after `tries` failed ones: doubling, capped, ±50 % so that rows spread."""
    return min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.5)


class _Host:
    __slots__ = ("active", "aside", "failures", "later", "listed", "name", "not_before", "queue", "waits")

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: deque[Fetched] = deque()
        self.active = 0
        self.failures = 0  # connections in a row
        self.waits = 0  # times in a row that it asked us to wait
        self.later = 0  # its entries among those that wait for their time
        self.not_before = 0.0
        self.aside = False
        self.listed = False  # stands in the round of ready hosts


class Hosts:
    """Queues and slots.

    `per_host`: slots of a host; `patience`: failures in a row after which a host is put aside; `remember`: hosts with a
    bad record that are kept in memory while they have no rows (others are forgotten at once).
    """

    def __init__(self, per_host: int, patience: int, now: Callable[[], float], remember: int = 20_000) -> None:
        self._per_host = per_host
        self._patience = patience
        self._now = now
        self._remember = remember
        self._hosts: dict[str, _Host] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._round: deque[_Host] = deque()
        self._later: list[tuple[float, int, _Host, Fetched | None]] = []
        self._sequence = count()

    def add(self, row: Fetched) -> bool:
        """Queue `row` at `row.host`; False if that host was put aside."""
        host = self._host(row.host)
        if host.aside:
            self._rest(host)
            return False
        host.queue.append(row)
        self._list(host)
        return True

    def add_later(self, row: Fetched, delay_s: float) -> bool:
        """Queue `row` once `delay_s` seconds have passed; False if its host was put aside."""
        host = self._host(row.host)
        if host.aside:
            self._rest(host)
            return False
        self._push(self._now() + delay_s, host, row)
        return True

    def take(self) -> Fetched | None:
        """The next row, with a slot of its host taken for it; None while no host is ready."""
        self._wake()
        while self._round:
            host = self._round.popleft()
            host.listed = False
            if not self._ready(host):
                continue
            row = host.queue.popleft()
            host.active += 1
            self._list(host)
            return row
        return None

    def due(self) -> float | None:
        """When to ask `take` again though nothing else happened (the clock's seconds), or None."""
        return self._later[0][0] if self._later else None

    def release(self, name: str) -> None:
        """Give back a slot."""
        host = self._hosts[name]
        host.active -= 1
        self._list(host)
        self._rest(host)

    def answered(self, name: str) -> None:
        """The host sent an answer: its record is clean again."""
        host = self._hosts[name]
        host.failures = host.waits = 0

    def failed(self, name: str) -> list[Fetched]:
        """A connection failed. Returns the host's queued rows if it is put aside for it."""
        host = self._hosts[name]
        host.failures += 1
        return self._put_aside(host) if host.failures >= self._patience else []

    def wait(self, name: str, seconds: float) -> list[Fetched]:
        """The host asked us to come back later. Returns its queued rows if it did so too often in a row."""
        host = self._hosts[name]
        now = self._now()
        host.failures = 0
        if now >= host.not_before:  # answers to requests that were under way together count once
            host.waits += 1
        if host.waits >= self._patience:
            return self._put_aside(host)
        if now + seconds > host.not_before:
            host.not_before = now + seconds
            self._push(host.not_before, host, None)
        return []

    def discard(self, doomed: Callable[[Fetched], bool]) -> None:
        """Forget the rows that wait and are `doomed`."""
        self._drop_later(lambda host, row: row is not None and doomed(row))
        for host in list(self._hosts.values()):
            host.queue = deque(row for row in host.queue if not doomed(row))
            self._rest(host)

    def __len__(self) -> int:
        """Hosts in memory."""
        return len(self._hosts)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name)
        self._idle.pop(name, None)
        return host

    def _ready(self, host: _Host) -> bool:
        return bool(host.queue) and host.active < self._per_host and host.not_before <= self._now()

    def _list(self, host: _Host) -> None:
        if not host.listed and self._ready(host):
            host.listed = True
            self._round.append(host)

    def _push(self, when: float, host: _Host, row: Fetched | None) -> None:
        host.later += 1
        heapq.heappush(self._later, (when, next(self._sequence), host, row))

    def _drop_later(self, doomed: Callable[[_Host, Fetched | None], bool]) -> list[Fetched]:
        dropped = [e for e in self._later if doomed(e[2], e[3])]
        if dropped:
            self._later = [e for e in self._later if not doomed(e[2], e[3])]
            heapq.heapify(self._later)
        for _, _, host, _ in dropped:
            host.later -= 1
        return [e[3] for e in dropped if e[3] is not None]

    def _wake(self) -> None:
        now = self._now()
        while self._later and self._later[0][0] <= now:
            _, _, host, row = heapq.heappop(self._later)
            host.later -= 1
            if row is not None:
                host.queue.append(row)
            self._list(host)
            self._rest(host)

    def _put_aside(self, host: _Host) -> list[Fetched]:
        host.aside = True
        rows = list(host.queue)
        host.queue.clear()
        return rows + self._drop_later(lambda other, _: other is host)

    def _rest(self, host: _Host) -> None:
        """Forget a host that has nothing to do: at once if its record is clean, else when too many are remembered."""
        if host.active or host.queue or host.later:
            return
        if not (host.aside or host.failures or host.waits or host.not_before > self._now()):
            self._hosts.pop(host.name, None)
            return
        self._idle[host.name] = None
        self._idle.move_to_end(host.name)
        while len(self._idle) > self._remember:
            oldest, _ = self._idle.popitem(last=False)
            del self._hosts[oldest]
