"""Order and duplicates: hosts stand apart, heavy ones evenly, and the result depends on the rows alone."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from curation import sort
from curation.fragments import conform
from curation.sources.naming import name_rows
from curation.sources.query import RAW_FIELDS
from curation.sources.scratch import Scratch
from curation.sources.spread import Spread, keep_apart

SCHEMA = pa.schema([("url", pa.string()), ("reason", pa.string())])


def spread_out(urls: Sequence[str], seed: int = 0, batch: int = 1000) -> list[tuple[str, str | None, bool]]:
    """(url, reason, is a duplicate) in the final order."""
    with Scratch("64MB") as scratch:
        spread = Spread(scratch, SCHEMA)
        for start in range(0, len(urls), batch):
            rows = pa.table({"url": pa.array(urls[start : start + batch], pa.string())})
            named, order = name_rows(conform(rows, pa.schema(RAW_FIELDS)), "s", seed)
            spread.add(conform(named, SCHEMA), order)
        assert spread.rows == len(urls)
        out = []
        for rows, twice in spread.in_order():
            out += zip(rows["url"].to_pylist(), rows["reason"].to_pylist(), twice.to_pylist(), strict=True)
        return out


def host(url: str) -> str:
    return url.split("/")[2]


def adjacent(urls: Sequence[str]) -> int:
    hosts = [host(u) for u in urls]
    return sum(a == b for a, b in pairwise(hosts))


def zipf(rows: int, hosts: int, seed: int) -> list[str]:
    """URLs of hosts whose sizes fall as 1/rank, each host's in a row: the worst order to start from."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(hosts)]
    counts = Counter(rng.choices(range(hosts), weights, k=rows))
    return [f"http://host{h}.example/{i}.jpg" for h, n in counts.items() for i in range(n)]


@pytest.mark.parametrize("hosts", [20, 500, 20_000])
def test_one_hosts_urls_do_not_arrive_in_a_row(hosts: int) -> None:
    urls = zipf(20_000, hosts, seed=1)
    ordered = [url for url, _, _ in spread_out(urls)]
    assert sorted(ordered) == sorted(urls)
    shuffled = random.Random(0).sample(urls, len(urls))
    assert adjacent(shuffled) > 1
    assert adjacent(ordered) == 0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5])
def test_a_dominant_host_is_spaced_evenly(share: float) -> None:
    rows = 10_000
    heavy = [f"http://heavy.example/{i}" for i in range(int(rows * share))]
    light = [f"http://light{i}.example/" for i in range(rows - len(heavy))]
    ordered = [url for url, _, _ in spread_out(heavy + light)]
    places = [i for i, url in enumerate(ordered) if host(url) == "heavy.example"]
    gaps = np.diff(places)
    assert set(gaps.tolist()) <= {int(1 / share) - 1, int(1 / share), int(1 / share) + 1}
    if share < 0.5:
        assert adjacent(ordered) == 0
    for start in range(0, rows, 1000):  # every partition has its share of it
        assert abs(sum(start <= p < start + 1000 for p in places) - 1000 * share) <= 1


def test_a_majority_host_fills_what_the_others_leave() -> None:
    urls = [f"http://heavy.example/{i}" for i in range(900)] + [f"http://light{i}.example/" for i in range(100)]
    ordered = [host(url) for url, _, _ in spread_out(urls)]
    runs = "".join("x" if h == "heavy.example" else " " for h in ordered).split()
    assert max(map(len, runs)) <= 11


def test_the_first_of_equal_addresses_is_live() -> None:
    urls = ["http://a/1", "http://b/1", "HTTP://A:80/1", "bad", "http://a/1#x", "bad", "http://c/1", "http://b/1"]
    out = spread_out(urls, batch=3)
    assert sorted(url for url, reason, twice in out if reason is None and not twice) == [
        "http://a/1",
        "http://b/1",
        "http://c/1",
    ]
    assert sorted(url for url, _, twice in out if twice) == ["HTTP://A:80/1", "http://a/1#x", "http://b/1"]
    assert [(url, twice) for url, reason, twice in out if reason is not None] == [("bad", False)] * 2


def test_duplicates_far_apart_are_found() -> None:
    urls = [f"http://h{i % 700}.example/{i}" for i in range(30_000)]
    again = urls[:5000] + urls[25_000:]
    out = spread_out(urls + again, batch=5000)
    assert sorted(url for url, _, twice in out if twice) == sorted(again)
    assert len(out) == len(urls) + len(again)


def test_order_is_of_the_live_rows_alone() -> None:
    urls = zipf(3000, 50, seed=2)
    ordered = [url for url, _, twice in spread_out(urls) if not twice]
    again = random.Random(5).sample(urls, len(urls)) + urls[:40] + ["bad"]
    live = [url for url, reason, twice in spread_out(again) if reason is None and not twice]
    assert live == ordered
    assert [url for url, _, _ in spread_out(urls, seed=1)] != ordered


def test_dropped_rows_are_strung_along() -> None:
    urls = [f"http://h{i}.example/" for i in range(2000)] + ["bad"] * 200
    dropped = [i for i, (_, reason, _) in enumerate(spread_out(urls)) if reason is not None]
    assert set(np.diff(dropped).tolist()) <= {10, 11, 12}


def test_rows_of_a_list_without_live_ones() -> None:
    assert [(r, t) for _, r, t in spread_out(["bad", "worse"])] == [("invalid_url", False)] * 2


def test_dealing_out_gives_the_same_order_as_sorting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://host{i % 1500}.example/{i}" for i in range(4000)] + ["bad"] * 77 + ["http://host0.example/0"] * 50
    whole = spread_out(urls)
    monkeypatch.setattr(sort, "SORT_ROWS", 40)
    monkeypatch.setattr(sort, "MOST_PILES", 5)  # so that files are dealt out again, three levels deep
    monkeypatch.setattr(sort, "DEAL_ROWS", 300)
    assert spread_out(urls) == whole


def test_every_host_keeps_its_rows_far_apart() -> None:
    """A host with n of N rows has about N/n others between two of its own: half of that holds for nearly all."""
    urls = zipf(20_000, 300, seed=4)
    places = defaultdict(list)
    for i, (url, _, _) in enumerate(spread_out(urls)):
        places[host(url)].append(i)
    close = total = 0
    for found in places.values():
        gaps = np.diff(found) / (len(urls) / len(found))
        close += int((gaps < 0.5).sum())
        total += len(gaps)
    assert close / total < 0.02


@pytest.mark.parametrize(
    ("hosts", "meetings"),
    [
        ([], 0),
        ([1], 0),
        ([1, 1], 1),
        ([1, 1, 2], 0),
        ([2, 1, 1], 0),
        ([1, 2, 3, 3, 2, 1], 0),
        ([1, 1, 1, 2, 3], 0),
        ([1, 1, 1, 1, 2], 2),
        ([1, 2] * 20 + [2, 1] * 20, 1),  # no single swap helps
    ],
)
def test_keep_apart(hosts: list[int], meetings: int) -> None:
    order = keep_apart(np.array(hosts, np.uint64))
    assert sorted(order.tolist()) == list(range(len(hosts)))
    parted = [hosts[i] for i in order]
    assert sum(a == b for a, b in pairwise(parted)) == meetings


def test_keep_apart_leaves_what_is_apart() -> None:
    hosts = np.array([1, 2, 3, 1, 2, 3, 3, 4, 5, 1, 2], np.uint64)
    moved = np.flatnonzero(keep_apart(hosts) != np.arange(len(hosts)))
    assert 0 < len(moved) <= 2
