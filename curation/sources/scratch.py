"""A DuckDB database in a folder of its own: how a list of any size is sorted in bounded memory.

`stage.build_source` opens one; the readers stage text in it, and `spread` orders the rows in it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from curation.errors import RunError, StorageError
from curation.sql import message

BATCH_ROWS = 10_000
"""Rows of the tables that travel between Arrow and DuckDB."""


class Scratch:
    """The database. `memory` ("1GB") bounds DuckDB's buffers; what does not fit goes to `folder`."""

    def __init__(self, memory: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="curate-source-"))
        try:
            self.con = duckdb.connect(
                str(self.folder / "rows.duckdb"),
                config={
                    "memory_limit": memory,
                    "temp_directory": str(self.folder / "spill"),
                    "threads": min(os.cpu_count() or 1, 8),
                    "preserve_insertion_order": True,  # "the first in source order" leans on it
                    "autoinstall_known_extensions": False,  # a list never makes the run download code
                    "autoload_known_extensions": False,
                    "python_enable_replacements": False,  # a name in `where` never means a Python variable
                },
            )
            self.con.execute("SET parquet_metadata_cache = true")  # footers are read once, not at each step of opening
        except duckdb.Error as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise RunError(f"cannot open a scratch database in {self.folder}: {message(error)}") from error
        self._names = 0
        self._exits = ExitStack()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()
        self.con.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def at_exit(self, close: Callable[[], object]) -> None:
        """Call `close` when the work ends, well or not: an open file would keep its space on the disk."""
        self._exits.callback(close)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the database."""
        cursor = self.con.cursor()
        self.at_exit(cursor.close)
        return cursor

    def new_name(self, stem: str) -> str:
        """A table name that is not in use."""
        self._names += 1
        return f"{stem}_{self._names}"

    def run(self, sql: str) -> None:
        """Run a statement on the scratch tables. Raises StorageError when the disk is full."""
        with scratch_errors():
            self.con.execute(sql)

    def value(self, sql: str) -> Any:
        """The one value of a query on the scratch tables."""
        with scratch_errors():
            return self.con.execute(sql).fetchall()[0][0]  # fetched to the end: else the connection stays in use

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append `rows` to `table`, columns by position."""
        with scratch_errors():
            self.con.register("incoming", rows)
            self.con.execute(f"INSERT INTO {table} SELECT * FROM incoming")
            self.con.unregister("incoming")

    def create(self, table: str, schema: pa.Schema) -> None:
        """An empty table with DuckDB's types for `schema`."""
        with scratch_errors():
            self.con.register("incoming", schema.empty_table())
            self.con.execute(f"CREATE TABLE {table} AS SELECT * FROM incoming")
            self.con.unregister("incoming")

    def read(self, sql: str) -> Iterator[pa.Table]:
        """Stream a query on the scratch tables, at most `BATCH_ROWS` rows at a time; at least one table, if empty."""
        with scratch_errors():
            reader = self.cursor().sql(sql).to_arrow_reader(BATCH_ROWS)
            yield reader.schema.empty_table()
            for batch in reader:
                yield pa.Table.from_batches([batch])


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn what a full disk or too little memory does to DuckDB into errors for the user."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise RunError(f"ordering the source's rows: {message(error)}") from error
    except (duckdb.IOException, OSError) as error:
        raise StorageError(f"the source's scratch files: {message(error)}") from error
