"""Queues, slots and records of hosts, with a clock that the test winds."""

from __future__ import annotations

from typing import Any

import pytest

from curation.fetch.fetched import Fetched
from curation.fetch.hosts import BACKOFF_CAP_S, Hosts, backoff_s, host_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def row(host: str, index: int = 0) -> Fetched:
    batch: Any = None
    return Fetched(batch=batch, index=index, url=None, host=host)


def take_all(hosts: Hosts) -> list[str]:
    taken = []
    while (found := hosts.take()) is not None:
        taken.append(f"{found.host}{found.index}")
    return taken


def test_hosts_take_turns_and_keep_their_slots(clock: Clock) -> None:
    hosts = Hosts(2, 3, clock)
    for index in range(4):
        hosts.add(row("a", index))
    hosts.add(row("b"))
    assert take_all(hosts) == ["a0", "b0", "a1"]
    hosts.release("a")
    assert take_all(hosts) == ["a2"]
    hosts.release("a")
    hosts.release("a")
    assert take_all(hosts) == ["a3"]


def test_a_later_row_comes_when_it_is_due(clock: Clock) -> None:
    hosts = Hosts(2, 3, clock)
    assert hosts.due() is None
    hosts.add_later(row("a"), 5)
    assert hosts.take() is None
    assert hosts.due() == 105
    clock.now = 105
    assert take_all(hosts) == ["a0"]
    assert hosts.due() is None


def test_a_host_that_asks_us_to_wait_holds_back_all_its_rows(clock: Clock) -> None:
    hosts = Hosts(1, 3, clock)
    for index in range(3):
        hosts.add(row("a", index))
    assert hosts.take() is not None
    assert hosts.wait("a", 10) == []
    hosts.release("a")
    clock.now += 9.9
    assert hosts.take() is None
    assert hosts.due() == pytest.approx(110)
    clock.now += 0.1
    assert take_all(hosts) == ["a1"]


def test_failures_in_a_row_put_a_host_aside(clock: Clock) -> None:
    hosts = Hosts(10, 3, clock)
    for index in range(6):
        hosts.add(row("a", index))
    for _ in range(2):
        hosts.take()
    assert hosts.failed("a") == []
    assert hosts.failed("a") == []
    hosts.answered("a")
    assert hosts.failed("a") == []
    assert hosts.failed("a") == []
    hosts.add_later(row("a", 6), 5)
    assert [r.index for r in hosts.failed("a")] == [2, 3, 4, 5, 6]
    assert hosts.failed("a") == []
    assert not hosts.add(row("a", 7))
    assert not hosts.add_later(row("a", 7), 1)
    assert hosts.due() is None


def test_waits_in_a_row_put_a_host_aside_but_answers_under_way_together_count_once(clock: Clock) -> None:
    hosts = Hosts(10, 2, clock)
    for index in range(5):
        hosts.add(row("a", index))
    for _ in range(3):
        hosts.take()
    for _ in range(3):
        assert hosts.wait("a", 10) == []
    clock.now += 10
    assert [r.index for r in hosts.wait("a", 10)] == [3, 4]


def test_rows_can_be_withdrawn(clock: Clock) -> None:
    hosts = Hosts(2, 3, clock)
    for index in range(3):
        hosts.add(row("a", index))
    hosts.add_later(row("b", 3), 5)
    hosts.add_later(row("b", 4), 5)
    hosts.discard(lambda r: r.index != 4)
    assert hosts.take() is None
    clock.now += 5
    assert take_all(hosts) == ["b4"]


def test_memory_is_bounded(clock: Clock) -> None:
    hosts = Hosts(2, 1, clock, remember=10)
    for n in range(1000):
        hosts.add(row(f"good{n}"))
        hosts.take()
        hosts.answered(f"good{n}")
        hosts.release(f"good{n}")
    assert len(hosts) == 0, "a host with a clean record is forgotten as soon as it has no rows"
    for n in range(1000):
        hosts.add(row(f"bad{n}"))
        hosts.take()
        hosts.failed(f"bad{n}")
        hosts.release(f"bad{n}")
    assert len(hosts) == 10
    assert not hosts.add(row("bad999"))
    assert hosts.add(row("bad0")), "the ones that failed longest ago get a new chance"


def test_backoff_doubles_up_to_a_cap_and_spreads() -> None:
    for tries, middle in ((1, 0.5), (2, 1.0), (5, 8.0), (20, BACKOFF_CAP_S)):
        delays = [backoff_s(tries) for _ in range(200)]
        assert all(0.5 * middle <= delay <= 1.5 * middle for delay in delays)
        assert len(set(delays)) > 100


def test_a_host_is_a_name_and_an_odd_port() -> None:
    assert host_of("https://example.org/a") == host_of("http://example.org/b?c") == "example.org"
    assert host_of("http://example.org:8080/") == "example.org:8080"
