"""Sorts tables of any size in bounded memory: distribution sort over files (Knuth, TAOCP 3, 5.2.5).

Rows are dealt out by their key into ever smaller files, until one fits in memory. Columns keep their types, for what
is written is Arrow. `sources.spread` orders a list's rows with it, `pack.layout` a corpus's samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.storage import storage_errors

SORT_ROWS = 20_000
"""Rows that are sorted in memory."""
MOST_PILES = 64
"""Files that are open at once."""
DEAL_ROWS = 20_000
"""Rows that are dealt out at once."""
_FINEST = 2.0**-64
"""Keys that lie closer than this share of the range are sorted in memory, however many they are."""


def sort_tables(
    tables: Iterator[pa.Table], by: Sequence[str], below: float, rows: int, folder: Path
) -> Iterator[pa.Table]:
    """The rows of `tables` by their columns `by`, up to `SORT_ROWS` at a time; equal ones in the order they came in.

    `tables`: at least one, perhaps empty, all of one schema and `rows` rows together. `by`: numbers without nulls; the
    first should be spread evenly over [0, `below`), the others decide where it is equal. `folder`: where the files lie
    meanwhile; two sorts at once need two. Raises StorageError when the disk is full.
    """

    def part(tables: Iterator[pa.Table], low: float, high: float, rows: int, name: str) -> Iterator[pa.Table]:
        """Those with keys in [low, high)."""
        piles = min(MOST_PILES, -(-rows // SORT_ROWS))
        step = (high - low) / max(piles, 1)
        if piles <= 1 or step < _FINEST * below:
            table = pa.concat_tables(tables)
            if table.num_rows:
                yield table.take(np.lexsort([table[column].to_numpy() for column in reversed(by)]))
            return
        cutter = Cutter(tables)
        with ExitStack() as exits:
            dealt = [exits.enter_context(Pile(folder / f"{name}-{i}", cutter.schema)) for i in range(piles)]
            while (table := cutter.next(DEAL_ROWS)).num_rows:
                places = np.clip((table[by[0]].to_numpy() - low) / step, 0, piles - 1).astype(np.int64)
                order = np.argsort(places, kind="stable")
                bounds = np.searchsorted(places[order], np.arange(piles + 1))
                table = table.take(order).combine_chunks()
                for pile, start, end in zip(dealt, bounds[:-1], bounds[1:], strict=True):
                    pile.add(table.slice(start, end - start))
            for i, pile in enumerate(dealt):
                yield from part(pile.take(), low + i * step, low + (i + 1) * step, pile.rows, f"{name}-{i}")

    return part(tables, 0.0, below, rows, "part")


class Pile:
    """Tables in a file: added one by one, then taken once in the same order."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self.rows = 0
        """Rows added so far."""
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with storage_errors(str(path)):
            self._file = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_stream(self._file, schema, options=options)

    def __enter__(self) -> Pile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file: an open one would keep its space on the disk."""
        with suppress(OSError):  # a full disk was told when it was met
            self._file.close()

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        with storage_errors(str(self._path)):
            self._writer.write_table(table)

    def take(self) -> Iterator[pa.Table]:
        """The tables, at least one, if empty; then the file is gone."""
        with storage_errors(str(self._path)):
            self._writer.close()
            self._file.close()
            with pa.OSFile(str(self._path), "rb") as file, pa.ipc.open_stream(file) as reader:
                yield reader.schema.empty_table()
                for batch in reader:
                    yield pa.Table.from_batches([batch])
            self._path.unlink()


class Cutter:
    """A stream of tables, cut anew into pieces of any length."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        """`tables`: at least one."""
        self._tables = tables
        self._rest = next(tables)
        self.schema = self._rest.schema

    def next(self, rows: int) -> pa.Table:
        """The next `rows` rows; fewer only at the end."""
        waiting, count = [self._rest], self._rest.num_rows
        while count < rows and (table := next(self._tables, None)) is not None:
            waiting.append(table)
            count += table.num_rows
        whole = pa.concat_tables(waiting)
        self._rest = whole.slice(rows)
        return whole.slice(0, rows)
