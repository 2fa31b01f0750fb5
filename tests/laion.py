"""A stand-in for the web of a real list: 1,000 rows of LAION, each URL answered on this machine with a real photo.

    python -m tests.laion --list urls.parquet

serves until it is stopped; tests use `with laion_standin() as web:`. Every host of the list gets a loopback address of
its own, every path stays as it is, and what becomes of a row is fixed by its URL. Needs the shared photos and list.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from benchmarks.photos import cut
from curation.row import Reason
from curation.scenes.dice import Dice
from curation.scenes.loopback import Child, bind, serve
from tests.shared import FOLDER, shared

LIST = FOLDER / "urls" / "laion_1000.parquet"
DEAD_HOSTS = 0.04
KINDS = {"picture": 0.84, "missing": 0.12, "html": 0.02, "opt_out": 0.02}
"""What live hosts answer, and how often."""
_ANSWERED = {"missing": Reason.HTTP_NOT_FOUND.value, "html": Reason.NOT_AN_IMAGE.value, "opt_out": Reason.OPT_OUT.value}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the list, and its truth."""

    original: str
    """The URL as LAION has it."""
    text: str
    address: str
    """The loopback address that stands for its host."""
    target: str
    """Path and query, as in the original."""
    kind: str
    """A key of `KINDS`, or `refused`."""
    width: int
    height: int

    def expected(self, *, min_side: int = 0, max_aspect: float | None = None) -> frozenset[str]:
        """What source and fetch may make of it: `Reason` values or `kept`; several where order decides."""
        if self.kind == "refused":
            return frozenset({Reason.CONNECT_ERROR.value, Reason.HOST_PUT_ASIDE.value})
        if self.kind in _ANSWERED:
            return frozenset({_ANSWERED[self.kind]})
        found = set()
        if min(self.width, self.height) < min_side:
            found.add(Reason.TOO_SMALL.value)
        if max_aspect is not None and max(self.width, self.height) > max_aspect * min(self.width, self.height):
            found.add(Reason.ASPECT_TOO_EXTREME.value)
        return frozenset(found or {"kept"})

    def encode(self) -> bytes:
        """The JPEG that is served: no two rows share one."""
        return cut(self.original, self.width, self.height, Dice("quality", self.original).whole(82, 93))


def make_rows(large: float, seed: int) -> list[Row]:
    """The rows of the list in its order; `large` is the share of pictures of at least 1024 pixels a side."""
    table = pq.read_table(LIST, columns=["URL", "TEXT"])
    return [_row(url, text or "", large, seed) for url, text in zip(*table.to_pydict().values(), strict=True)]


def _row(url: str, text: str, large: float, seed: int) -> Row:
    parts = urlsplit(url)
    assert parts.hostname
    dice = Dice("laion", seed, url)
    dead = Dice("laion", seed, parts.hostname).chance(DEAD_HOSTS)
    kind = "refused" if dead else dice.weighted(KINDS)
    aspect = dice.weighted({1.0: 0.35, 4 / 3: 0.3, 3 / 2: 0.25, 16 / 9: 0.08, 2.4: 0.02})
    shorter = round(dice.between(1024, 1300) if dice.chance(large) else 1000 * dice.between(0.4, 1.0) ** 2)
    longer = round(shorter * aspect)
    width, height = (longer, shorter) if dice.chance(0.7) else (shorter, longer)
    return Row(
        original=url,
        text=text,
        address=_address(parts.hostname),
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        kind=kind,
        width=width,
        height=height,
    )


def _address(host: str) -> str:
    """127.x.y.z for a host name; the same for ever."""
    a, b, c = hashlib.blake2b(host.lower().encode(), digest_size=3).digest()
    return f"127.{1 + a % 254}.{b}.{1 + c % 254}"


class Laion:
    """The stand-in, while it runs."""

    def __init__(self, rows: list[Row], port: int) -> None:
        self.rows = rows
        self.port = port

    def url(self, row: Row) -> str:
        """Where `row` is served."""
        return f"http://{row.address}:{self.port}{row.target}"

    def urls_table(self) -> pa.Table:
        """The list, with loopback URLs: columns URL and TEXT."""
        return pa.table({"URL": [self.url(row) for row in self.rows], "TEXT": [row.text for row in self.rows]})

    def write_list(self, path: str | Path) -> Path:
        """Write the list as Parquet."""
        pq.write_table(self.urls_table(), path)
        return Path(path)


@contextmanager
def laion_standin(
    list_path: str | Path | None = None, *, port: int = 0, large: float = 0.2, seed: int = 0
) -> Iterator[Laion]:
    """Serve while the `with` block lasts; writes the list to `list_path`. Skips the test where material is missing."""
    for needed in ("urls", "photos"):
        shared(needed)
    arguments = ["--port", str(port), "--large", str(large), "--seed", str(seed), "--with-parent"]
    with Child("tests.laion", arguments) as child:
        laion = Laion(make_rows(large, seed), child.announced["port"])
        if list_path is not None:
            laion.write_list(list_path)
        yield laion


class _Server:
    def __init__(self, rows: list[Row]) -> None:
        self._rows = {(row.address, unquote(row.target)): row for row in rows}
        self._painters = ThreadPoolExecutor(2, "photo")
        self._encode = lru_cache(maxsize=400)(Row.encode)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        row = self._rows.get((address, unquote(request.raw_path)))
        if row is None or row.kind == "missing":
            return web.Response(status=404, body=b"not found", content_type="text/plain")
        if row.kind == "html":
            return web.Response(body=b"<!doctype html><title>Image not available</title>", content_type="text/html")
        body = await asyncio.get_running_loop().run_in_executor(self._painters, self._encode, row)
        headers = {"X-Robots-Tag": "noai"} if row.kind == "opt_out" else None
        return web.Response(body=body, content_type="image/jpeg", headers=headers)


def main() -> None:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m tests.laion", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="port on all addresses; 0: any")
    parser.add_argument("--large", type=float, default=0.2, help="share of pictures of at least 1024 pixels a side")
    parser.add_argument("--seed", type=int, default=0, help="decides what each URL answers")
    parser.add_argument("--list", type=Path, help="write the list here (Parquet: URL, TEXT)")
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin closes")
    given = parser.parse_args()
    rows = make_rows(given.large, given.seed)
    live = sorted({row.address for row in rows if row.kind != "refused"})
    dead = sorted({row.address for row in rows if row.kind == "refused"})
    sockets = bind([*live, *dead], given.port)
    port = sockets[0].getsockname()[1]
    if given.list:
        Laion(rows, port).write_list(given.list)
    announce = {"rows": len(rows), "port": port}
    serve(_Server(rows).answer, sockets[: len(live)], announce=announce, with_parent=given.with_parent)


if __name__ == "__main__":
    main()
