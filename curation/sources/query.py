"""A list as one SELECT: the wanted columns under the corpus's names, filtered by `where`.

Every reader ends in a `Query`, over whatever DuckDB can scan: Parquet files (where the condition is pushed down),
text staged in `scratch`, or batches of a Hugging Face dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import duckdb
import pyarrow as pa

from curation.config import SourceSettings
from curation.errors import ConfigError, SourceError
from curation.sources.columns import MAPPED, check_columns, mapped
from curation.sources.scratch import BATCH_ROWS, Scratch
from curation.sql import identifier, message

OWN = "curate:"
"""Prefix of the columns that readers add to a list; no list has such names."""
SAMPLE, PLACE = OWN + "sample", OWN + "place"

RAW_FIELDS = (
    pa.field("url", pa.string()),
    pa.field("alt_text", pa.string()),
    pa.field("license", pa.string()),
    pa.field("expected_md5", pa.string()),
    pa.field("expected_sha256", pa.string()),
    pa.field("held_path", pa.string()),
    pa.field("held_offset", pa.int64()),
    pa.field("held_length", pa.int64()),
    pa.field(SAMPLE, pa.string()),  # names a sample that has no URL: "SHARD/KEY"
    pa.field(PLACE, pa.string()),  # "FILE:LINE", for messages
    pa.field("reason", pa.string()),  # curation.row.Reason, where reading the row failed
    pa.field("detail", pa.string()),
)
"""What a reader says of each row, beside the columns that the user keeps."""


class UrlList(Protocol):
    """An opened source."""

    keep: pa.Schema
    """The kept columns, with the types that the list gives them."""

    def batches(self) -> Iterator[pa.Table]:
        """The list's rows in its own order: columns of `RAW_FIELDS` (missing ones are null) and of `keep`."""
        ...


class Query:
    """One list. `scan` is a FROM item; `own` maps columns of `RAW_FIELDS` (or further ones) to SQL over it.

    `explain_fault` is asked for the error to raise when reading fails in the middle: it can look for the file at fault.
    `cursor` is given where `scan` is known to one connection only.
    """

    def __init__(
        self,
        scratch: Scratch,
        scan: str,
        settings: SourceSettings,
        setting: str,
        *,
        own: Mapping[str, str] | None = None,
        explain_fault: Callable[[duckdb.Error], Exception] | None = None,
        cursor: duckdb.DuckDBPyConnection | None = None,
    ) -> None:
        self._own = dict(own or {})
        self._settings = settings
        self._setting = setting
        self._explain_fault = explain_fault
        self._cursor = cursor or scratch.cursor()
        described = {name: kind for name, kind, *_ in self._describe(scan)}
        self.types = {n: kind for n, kind in described.items() if not n.startswith(OWN)}
        check_columns(settings.columns, self.types, setting)
        self._select = f"SELECT {', '.join(self._expressions())} FROM "
        self.sql = f"{self._select}{scan}{self._where()}"
        # an empty table of the list's types stands in for the list: checking the settings reads nothing of it again
        nulls = [f"CAST(NULL AS {kind}) AS {identifier(name)}" for name, kind in described.items()]
        schema = self._check(f"(SELECT {', '.join(nulls)} WHERE false)")
        self.keep = pa.schema([pa.field(f.name, f.type) for f in schema if f.name in settings.columns.keep])

    def _expressions(self) -> list[str]:
        columns = self._settings.columns
        parts = []
        for name, column in mapped(columns).items():
            parts.append(f"{self._as_text(column, f'{self._setting}.columns.{name}')} AS {MAPPED[name]}")
        for column in columns.keep:
            text = identifier(column)
            parts.append(text if self.types[column] != "JSON" else f"json_extract_string({text}, '$') AS {text}")
        return parts + [f"{expression} AS {identifier(name)}" for name, expression in self._own.items()]

    def _as_text(self, column: str, setting: str) -> str:
        kind = self.types[column]
        if kind == "VARCHAR":
            return identifier(column)
        if kind == "JSON":
            return f"json_extract_string({identifier(column)}, '$')"
        if kind == "BLOB":  # text that its writer did not mark as text; TRY: bytes that are no UTF-8 become null
            return f"TRY(decode({identifier(column)}))"
        if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
            raise ConfigError(setting, f"column {column!r} holds {kind}, not text")
        return f"CAST({identifier(column)} AS VARCHAR)"

    def _where(self) -> str:
        where = self._settings.where
        if where is None:
            return ""
        # rows that could not be read have no columns to decide over: they stay, to be accounted for
        faults = f" OR {self._own['reason']} IS NOT NULL" if "reason" in self._own else ""
        return f" WHERE ({where}\n){faults}"

    def _describe(self, scan: str) -> list[tuple[str, ...]]:
        try:
            return self._cursor.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
        except duckdb.Error as error:
            raise self._fault(error) from error

    def _check(self, empty: str) -> pa.Schema:
        """Schema of the SELECT over `empty`. Raises ConfigError for types that cannot be carried, and for `where`."""
        try:
            schema = self._cursor.sql(self._select + empty).to_arrow_table().schema
        except duckdb.Error as error:
            setting = f"{self._setting}.columns.keep"
            raise ConfigError(setting, f"a column's type cannot be carried: {message(error)}") from None
        try:
            self._cursor.sql(f"{self._select}{empty}{self._where()}").fetchall()
        except duckdb.Error as error:
            raise self._where_fault(error) from None
        return schema

    def _where_fault(self, error: duckdb.Error) -> ConfigError:
        return ConfigError(f"{self._setting}.where", f"{message(error)} (given: {self._settings.where!r})")

    def _fault(self, error: duckdb.Error) -> Exception:
        if self._explain_fault is not None:
            return self._explain_fault(error)
        return SourceError(f"source {self._settings.name}: {message(error)}")

    def batches(self) -> Iterator[pa.Table]:
        """Rows that pass `where`, at most `limit`, in the list's order. Raises SourceError or ConfigError."""
        return self.read("" if self._settings.limit is None else f" LIMIT {self._settings.limit}")

    def read(self, limit: str = "") -> Iterator[pa.Table]:
        """What `scan` holds now, through the SELECT; `limit` is a LIMIT clause."""
        try:
            for batch in self._cursor.sql(self.sql + limit).to_arrow_reader(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
        except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            # only the user's condition computes with values; the rest of the statement copies them
            raise (self._fault(error) if self._settings.where is None else self._where_fault(error)) from error
        except duckdb.Error as error:
            raise self._fault(error) from error
        except OSError as error:  # DuckDB's Arrow reader raises errors of its scan as these
            raise self._fault(duckdb.IOException(str(error))) from error
