"""A fast image origin on loopback, for benchmarks: so light that it never limits whoever is measured against it.

    python -m benchmarks.origin --urls 20000 --large 0.2 --list urls.parquet [--latency-ms 100] [--dead 0.05]

serves as many addresses (`http://127.0.x.y:PORT/INDEX.jpg`, plain HTTP/1.1, Content-Length, keep-alive) until it is
stopped; `with serve(20000, large=0.2) as origin:` does the same from Python, in a child process. The list has columns
url and caption. Bytes differ for every address (a JPEG comment holds the index); pixels come from a pool and repeat, so
rules against duplicates of pixels would reject most rows.

A share of the hosts can be dead. `hang` (the default) is what a firewall makes of them: connecting takes until the
client's own deadline (the queue of new connections is full, and the kernel drops them: Linux only); it is the costly
kind, and the common one. `refuse` says no at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.origin_server import Server, hang
from benchmarks.pool import Picture, Pool, make_pool
from curation.scenes.describe import alt
from curation.scenes.loopback import Child, bind
from curation.scenes.scene import random_scene


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which address gets what: a pure function of these numbers, so parent and child agree."""

    urls: int
    large: float
    """Share of addresses whose picture has 1024 pixels or more on its shorter side."""
    dead_share: float = 0.0
    """Share of hosts that are dead, and so of addresses."""
    hosts: int = 100
    seed: int = 0

    def is_large(self) -> NDArray[np.bool_]:
        """[urls]; exactly the stated share."""
        flags = np.arange(self.urls) < round(self.large * self.urls)
        return np.random.default_rng([self.seed, 1]).permutation(flags)

    def host_of(self) -> NDArray[np.int64]:
        """[urls]; each host has the same number of addresses, give or take one. Hosts from `live` on are dead."""
        return np.random.default_rng([self.seed, 2]).permutation(np.arange(self.urls) % self.hosts)

    @property
    def live(self) -> int:
        """Number of live hosts; they come first."""
        return self.hosts - round(self.dead_share * self.hosts)

    def pictures(self, pool: Pool) -> list[Picture]:
        """[urls]; the picture of each address."""
        draw = np.random.default_rng([self.seed, 3]).integers(0, 2**31, self.urls)
        return [
            pool.large[n % len(pool.large)] if large else pool.small[n % len(pool.small)]
            for n, large in zip(draw.tolist(), self.is_large().tolist(), strict=True)
        ]


class Origin:
    """A running origin, seen from outside."""

    def __init__(self, plan: Plan, pool: Pool, port: int, pid: int) -> None:
        self.plan, self.pool, self.port, self.pid = plan, pool, port, pid

    def table(self) -> pa.Table:
        """The list: url and caption, a row for each address."""
        hosts = [f"http://{address}:{self.port}" for address in _addresses(self.plan.hosts)]
        captions = [alt(random_scene(k), k) for k in range(min(self.plan.urls, 1000))]
        return pa.table(
            {
                "url": [f"{hosts[host]}/{i}.jpg" for i, host in enumerate(self.plan.host_of().tolist())],
                "caption": [captions[i % len(captions)] for i in range(self.plan.urls)],
            }
        )

    def write_list(self, path: str | Path) -> Path:
        """Write the list as Parquet."""
        pq.write_table(self.table(), path)
        return Path(path)

    def kept_bytes(self, min_side: int = 1024) -> list[bytes]:
        """JPEGs of live hosts with a shorter side of `min_side` or more: what a floor decodes. Repeats share memory."""
        live = (self.plan.host_of() < self.plan.live).tolist()
        kept = [p for p, up in zip(self.plan.pictures(self.pool), live, strict=True) if up]
        kept = [p for p in kept if min(p.width, p.height) >= min_side]
        held = {picture: self.pool.read(picture) for picture in set(kept)}
        return [held[picture] for picture in kept]

    def stats(self) -> dict[str, float]:
        """So far: `requests`, `bytes` sent, and `cpu_s` of the origin's process."""
        with urllib.request.urlopen(f"http://{_addresses(1)[0]}:{self.port}/stats", timeout=30) as answer:
            found: dict[str, float] = json.load(answer)
        return found


@contextmanager
def serve(
    urls: int,
    *,
    large: float = 0.2,
    latency_ms: float = 0,
    dead_share: float = 0,
    dead: str = "hang",
    hosts: int = 100,
    port: int = 0,
    seed: int = 0,
) -> Iterator[Origin]:
    """Serve as long as the `with` block lasts, from a process of its own. `dead` is `hang` or `refuse`."""
    plan = Plan(urls=urls, large=large, dead_share=dead_share, hosts=hosts, seed=seed)
    pool = make_pool()
    given = {"urls": urls, "large": large, "latency-ms": latency_ms, "dead": dead_share, "dead-kind": dead}
    given |= {"hosts": hosts, "port": port, "seed": seed}
    arguments = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    with Child("benchmarks.origin", [*arguments, "--with-parent"]) as child:
        yield Origin(plan, pool, child.announced["port"], child.pid)


def _addresses(hosts: int) -> list[str]:
    """127.0.1.1, 127.0.1.2, …; the first is always live."""
    return [f"127.0.{1 + i // 250}.{1 + i % 250}" for i in range(hosts)]


def main(arguments: list[str] | None = None) -> None:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.origin", description=__doc__.partition("\n")[0])
    parser.add_argument("--urls", type=int, default=2000, help="addresses")
    parser.add_argument("--large", type=float, default=0.2, help="share with 1024 pixels or more on the shorter side")
    parser.add_argument("--latency-ms", type=float, default=0, help="wait before each answer")
    parser.add_argument("--dead", type=float, default=0, help="share of dead hosts")
    parser.add_argument("--dead-kind", choices=["hang", "refuse"], default="hang", help="what dead hosts do")
    parser.add_argument("--hosts", type=int, default=100, help="loopback addresses in the list")
    parser.add_argument("--port", type=int, default=0, help="port on all of them; 0: any")
    parser.add_argument("--seed", type=int, default=0, help="decides which address gets what")
    parser.add_argument("--list", type=Path, help="write the list here (Parquet: url, caption)")
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin closes")
    given = parser.parse_args(arguments)
    plan = Plan(urls=given.urls, large=given.large, dead_share=given.dead, hosts=given.hosts, seed=given.seed)
    pool = make_pool()
    sockets = bind(_addresses(plan.hosts), given.port)
    port = sockets[0].getsockname()[1]
    server = Server(pool.path, plan.pictures(pool), given.latency_ms / 1000)
    fillers: list[socket.socket] = []
    for sock in sockets[: plan.live]:
        server.listen(sock)
    if given.dead_kind == "hang":
        fillers = [hang(sock) for sock in sockets[plan.live :]]
    if given.list:
        Origin(plan, pool, port, os.getpid()).write_list(given.list)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, server.stop)
    if given.with_parent:
        server.stop_with(sys.stdin)
    print(json.dumps({"port": port, "urls": plan.urls, "list": str(given.list or "")}), flush=True)
    server.run()
    for sock in (*sockets, *fillers):
        sock.close()


if __name__ == "__main__":
    main()
