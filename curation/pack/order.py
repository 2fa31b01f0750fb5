"""Puts rows into the order of a keyed hash of their uid, in bounded memory: a radix sort over files.

`layout.py` adds tables of any size and reads them back in order. Hashes spread evenly, so rows are dealt by the first
bits of theirs to files of some thousand rows, and only one file at a time is sorted. Columns keep their types, for
what is written is Arrow. The files lie in a folder of their own, which goes when the work ends.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.storage import storage_errors

FILE_ROWS = 10_000
"""Rows that a file should hold: what is sorted at once."""
MOST_FILES = 256
"""Open files; a table of over 2.5 million rows has more rows in each."""


class Order:
    """Rows of `schema` (with `uid`), of which about `rows` are expected, by MD5 of "SEED:UID"."""

    def __init__(self, schema: pa.Schema, rows: int, seed: int) -> None:
        self._schema = schema
        self._seed = seed
        self._files = min(MOST_FILES, max(1, -(-rows // FILE_ROWS)))
        self._flush_rows = max(FILE_ROWS, 128 * self._files)
        self._waiting: list[pa.Table] = []
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="curate-layout-"))

    def __enter__(self) -> Order:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            with suppress(OSError):  # a full disk, say, which was told when it was met; the files go in any case
                writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, table: pa.Table) -> None:
        """Take some rows."""
        self._waiting.append(table.cast(self._schema))
        if sum(t.num_rows for t in self._waiting) >= self._flush_rows:
            self._flush()

    def _keys(self, table: pa.Table) -> list[bytes]:
        return [hashlib.md5(f"{self._seed}:{uid}".encode()).digest() for uid in table["uid"].to_pylist()]

    def _flush(self) -> None:
        """Deal what waits to the files."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting = []
        first = np.frombuffer(b"".join(key[:4] for key in self._keys(table)), ">u4").astype(np.int64)
        files = first * self._files >> 32
        order = np.argsort(files, kind="stable")
        table = table.take(pa.array(order))
        numbers, starts, counts = np.unique(files[order], return_index=True, return_counts=True)
        for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
            with storage_errors(str(self._path(number))):
                self._writer(number).write_table(table.slice(start, count))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:03d}.arrows"

    def _writer(self, number: int) -> pa.RecordBatchStreamWriter:
        if number not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[number] = pa.ipc.new_stream(str(self._path(number)), self._schema, options=options)
        return self._writers[number]

    def read(self) -> Iterator[pa.Table]:
        """All rows in order, some thousand at a time. Ends the adding."""
        self._flush()
        for number in sorted(self._writers):
            with storage_errors(str(self._path(number))):
                self._writers[number].close()
                with pa.OSFile(str(self._path(number))) as file, pa.ipc.open_stream(file) as stream:
                    table = stream.read_all()
                self._path(number).unlink()
            keys = self._keys(table)
            yield table.take(pa.array(sorted(range(len(keys)), key=keys.__getitem__), pa.int64()))
