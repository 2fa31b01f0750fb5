"""Finds duplicate URLs, and orders rows so that one host's URLs stand far apart. All on disk, in bounded memory.

The order: a host with n rows gets them at the places (k + u) / n of the unit interval, k = 0 … n-1, in the order of the
rows' keyed hashes, with u the host's own hash. Hosts of more than 1/64 of the list keep these places; the rows of all
others are strung evenly along the interval in the order of theirs, so that a heavy host finds one of them in each of
its gaps, while there are as many. Rows that are dropped are strung along too, so that every part of the list has its
share. Where rows of one host still meet (many heavy hosts fall out of step), one of them changes places with a row
nearby.

Only names and hosts go through the database; the rows themselves wait in a file until they are sorted by place.

`stage.build_source` adds rows as they are read, then takes them in order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.sort import Cutter, Pile, sort_tables
from curation.sources.scratch import Scratch

HEAVY = 64
"""A host of more than 1/HEAVY of all live rows is spaced by itself. Fewer than HEAVY hosts can be."""
SWAP_REACH = 20
"""Rows over which two may change places."""

_NAMES = pa.schema(
    [
        pa.field("n", pa.int64()),  # place in the source's order
        pa.field("hi", pa.uint64()),
        pa.field("lo", pa.uint64()),
        pa.field("host", pa.uint64()),
        pa.field("key", pa.uint64()),
        pa.field("valid", pa.bool_()),
    ]
)
_PLACE, _TWICE, _HOST = "curate:place", "curate:twice", "curate:host"


class Spread:
    """The rows of a stage: `add` all of them, then read them once, `in_order`."""

    def __init__(self, scratch: Scratch, schema: pa.Schema) -> None:
        """`schema`: the rows' columns, `reason` among them (null where nothing is wrong with the row itself)."""
        self._scratch = scratch
        self._schema = schema
        self.rows = 0
        """Rows added so far."""
        self._live = 0
        scratch.create("names", _NAMES)
        self._unsorted = Pile(scratch.folder / "rows", schema.append(pa.field(_HOST, pa.uint64())))
        scratch.at_exit(self._unsorted.close)

    def add(self, rows: pa.Table, order: pa.Table) -> None:
        """Append `rows` and what `naming.name_rows` says of them."""
        n = pa.array(range(self.rows, self.rows + rows.num_rows), pa.int64())
        self._scratch.insert("names", pa.table([n, *order.columns], schema=_NAMES))
        self._unsorted.add(rows.append_column(_HOST, order["host"]))
        self.rows += rows.num_rows

    def in_order(self) -> Iterator[tuple[pa.Table, pa.Array]]:
        """(rows, which of them repeat an earlier row's uid), some at a time, in the final order."""
        self._place()
        self._scratch.run("SET memory_limit = '64MB'")  # sorting takes over: the database only hands out places
        for table in sort_tables(self._with_places(), [_PLACE], 1.0, self.rows, self._scratch.folder):
            live = np.flatnonzero(pc.is_null(table["reason"]).to_numpy() & ~table[_TWICE].to_numpy())
            order = np.arange(table.num_rows)
            order[live] = live[keep_apart(table[_HOST].to_numpy()[live])]
            table = table.take(order)
            yield table.select(self._schema.names), table[_TWICE].combine_chunks()

    def _place(self) -> None:
        """Make the table `placed`: for each live row, in the source's order, its number and its place in [0, 1).

        One sort or grouping a statement, its result on disk before the next: two at once do not fit in little memory.
        """
        run = self._scratch.run
        run(
            "CREATE TABLE live AS SELECT min(n) AS n, arg_min(host, n) AS host, key FROM names WHERE valid "
            "GROUP BY hi, lo, key"
        )
        self._live = self._scratch.value("SELECT count(*) FROM live")
        # sorted tables: their rowid is the row's rank
        run("CREATE TABLE by_host AS SELECT n, host FROM live ORDER BY host, key, n")
        run("CREATE TABLE hosts AS SELECT host, count(*) AS size, min(rowid) AS start FROM by_host GROUP BY host")
        run(
            f"""CREATE TABLE spots AS SELECT n, size * {HEAVY} > {self._live} AS heavy,
            (by_host.rowid - start + host::DOUBLE / 18446744073709551616::DOUBLE) / size AS place
            FROM by_host JOIN hosts USING (host)"""
        )
        run("CREATE TABLE others AS SELECT n FROM spots WHERE NOT heavy ORDER BY place, n")
        others = max(self._scratch.value("SELECT count(*) FROM others"), 1)
        run(
            f"""CREATE TABLE placed AS SELECT n, place FROM (
            SELECT n, place FROM spots WHERE heavy
            UNION ALL SELECT n, (rowid + 0.5::DOUBLE) / {others} FROM others) ORDER BY n"""
        )

    def _with_places(self) -> Iterator[pa.Table]:
        """The rows as they were added, with their places; dropped ones are strung along in the source's order."""
        placed = Cutter(self._scratch.read("SELECT n, place FROM placed"))
        dropped, most_dropped = 0, max(self.rows - self._live, 1)
        ahead = placed.next(0)
        first = 0
        for rows in self._unsorted.take():
            end = first + rows.num_rows
            # at most one live row a row: that many more placed rows are enough
            ahead = pa.concat_tables([ahead, placed.next(max(rows.num_rows - ahead.num_rows, 0))])
            cut = int(np.searchsorted(ahead["n"].to_numpy(), end))
            live = np.zeros(rows.num_rows, bool)
            live[ahead["n"].to_numpy()[:cut] - first] = True
            place = np.empty(rows.num_rows)
            place[live] = ahead["place"].to_numpy()[:cut]
            place[~live] = (dropped + np.arange(rows.num_rows - cut) + 0.5) / most_dropped
            dropped += rows.num_rows - cut
            twice = pc.and_(pa.array(~live), pc.is_null(rows["reason"]))
            yield rows.append_column(_PLACE, pa.array(place)).append_column(_TWICE, twice)
            ahead, first = ahead.slice(cut), end


def keep_apart(hosts: np.ndarray) -> np.ndarray:
    """An order of `hosts` (uint64) in which equal ones do not stand side by side, by single swaps of near rows.

    Where one host has most of a neighbourhood, some of its rows stay side by side; where it has most of them all, they
    are left as they are, for they are as even as they can be.
    """
    meetings = np.flatnonzero(hosts[1:] == hosts[:-1]) + 1
    if len(meetings) > max(len(hosts) // 8, 64):
        return np.arange(len(hosts))
    known: list[int] = hosts.tolist()
    order = np.arange(len(known))

    def meets(i: int) -> bool:
        return (i > 0 and known[i - 1] == known[i]) or (i + 1 < len(known) and known[i + 1] == known[i])

    def part(i: int) -> bool:
        for j in (j for step in range(1, SWAP_REACH) for j in (i + step, i - step)):
            if 0 <= j < len(known) and known[j] != known[i]:
                known[i], known[j] = known[j], known[i]
                if not meets(i) and not meets(j):
                    order[[i, j]] = order[[j, i]]
                    return True
                known[i], known[j] = known[j], known[i]
        return False

    for i in meetings.tolist():
        if known[i] == known[i - 1] and not part(i):  # else an earlier swap has parted them
            part(i - 1)
    return order
