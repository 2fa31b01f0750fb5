"""The fragments of a run's stages as tables that DuckDB reads: out of core, from a disk or an object store."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation.errors import StorageError
from curation.fragments import Counts, Manifest, committed, read_manifest
from curation.report.record import StageRecord
from curation.row import RESERVED, Outcome
from curation.sql import identifier, literal
from curation.storage import Folder, storage_errors
from curation.text import first_line

MEMORY = "1GB"

CAPTION_COLUMN = re.compile(r"caption_(?P<kind>[a-z0-9]+)(?P<of>_model|_tokens|_similarity)?")
"""What the caption stage adds for each kind: the text, and what it knows of it."""


@dataclass(frozen=True)
class StageTable:
    """One stage as a table: what its manifest names or, while it is unfinished, what is committed."""

    record: StageRecord
    folder: Folder
    manifest: Manifest | None
    columns: frozenset[str]
    """Empty where the stage has no fragment; then there is no table."""
    counts: Counts

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def view(self) -> str:
        """The quoted name of its table."""
        return identifier(f"stage_{self.record.folder}")


class Tables:
    """A DuckDB connection over some stages. Memory is bounded: what does not fit spills to a temporary folder."""

    def __init__(self, output: Folder) -> None:
        self._output = output
        self._temp = tempfile.TemporaryDirectory(prefix="curation-report-")
        self._connection = duckdb.connect(
            config={
                "memory_limit": MEMORY,
                "temp_directory": self._temp.name,
                "preserve_insertion_order": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
        self._temp.cleanup()

    def query(self, sql: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of the answer. Raises StorageError where a fragment cannot be read."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except (duckdb.IOException, duckdb.InvalidInputException, OSError) as error:
            raise StorageError(f"cannot read the fragments of {self._output.url}: {first_line(error)}") from error

    def open(self, record: StageRecord) -> StageTable:
        """Make a stage's table."""
        folder = self._output.child(record.folder)
        manifest = read_manifest(folder)
        if manifest is not None:
            names = [fragment.name for fragment in manifest.fragments]
        else:
            names = [name for partition in committed(folder).values() for name in partition]
        if not names:
            return StageTable(record, folder, manifest, frozenset(), Counts())
        schema = _schema(folder, names[0])
        table = StageTable(record, folder, manifest, frozenset(schema.names), manifest.counts if manifest else Counts())
        if manifest is not None:
            self._make_view(table.view, folder, names, schema)
            return table
        raw = identifier(f"raw_{record.folder}")
        self._make_view(raw, folder, names, schema)
        # A row that a retried task committed twice counts once, as it will when the stage is settled. Only in the list
        # itself a uid may come more than once: such rows are `duplicate_url`.
        twice = record.name != "source" and self.query(f"SELECT 1 FROM {raw} GROUP BY uid HAVING count(*) > 1 LIMIT 1")
        once = " QUALIFY row_number() OVER (PARTITION BY uid ORDER BY outcome, reason, detail) = 1" if twice else ""
        self.query(f"CREATE TEMP VIEW {table.view} AS SELECT * FROM {raw}{once}")
        return replace(table, counts=self._count(table))

    def _make_view(self, view: str, folder: Folder, names: list[str], schema: pa.Schema) -> None:
        paths = [folder.path(name) for name in names]
        columns = ", ".join(map(identifier, schema.names))
        if folder.local is not None:
            # DuckDB's own reader takes half the time of Arrow's and a quarter of its memory.
            given = ", ".join(map(literal, paths))
            self.query(f"CREATE TEMP VIEW {view} AS SELECT {columns} FROM read_parquet([{given}])")
            return
        with storage_errors(folder.url):
            dataset = ds.dataset(paths, schema=schema, format="parquet", filesystem=folder.fs)
        source = f"files of {view[1:-1]}"
        self._connection.register(source, dataset)
        self.query(f"CREATE TEMP VIEW {view} AS SELECT {columns} FROM {identifier(source)}")

    def _count(self, table: StageTable) -> Counts:
        outcomes: dict[str, int] = {}
        reasons: dict[str, int] = {}
        for outcome, reason, count in self.query(
            f"SELECT outcome, reason, count(*) FROM {table.view} GROUP BY ALL ORDER BY ALL"
        ):
            outcomes[outcome] = outcomes.get(outcome, 0) + count
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) + count
        return Counts(
            sum(outcomes.values()),
            outcomes.get(Outcome.KEPT, 0),
            outcomes.get(Outcome.REJECTED, 0),
            outcomes.get(Outcome.FAILED, 0),
            reasons,
        )

    def numeric_columns(self, table: StageTable) -> list[str]:
        """Names of the table's number columns, in the table's order."""
        rows = self.query(f"DESCRIBE {table.view}")
        numbers = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE")
        return [name for name, kind, *_ in rows if kind in numbers]

    def free_columns(self, table: StageTable) -> list[str]:
        """Number columns that are not the project's own: scores, and what the list brought along."""
        names = self.numeric_columns(table) if table.columns else []
        return [name for name in names if name not in RESERVED and not CAPTION_COLUMN.fullmatch(name)]


def _schema(folder: Folder, name: str) -> pa.Schema:
    """The readable columns of a fragment; those of a stage are all alike."""
    path = folder.path(name)
    with storage_errors(path):
        try:
            with folder.fs.open(path, "rb") as file:
                return pa.schema([field for field in pq.read_schema(file) if _readable(field.type)])
        except pa.ArrowInvalid as error:
            raise StorageError(f"{path} is not readable as Parquet: {first_line(error)}") from None


def _readable(kind: pa.DataType) -> bool:
    """False for columns that DuckDB does not know (16-bit floats), and for those that no page shows (embeddings)."""
    if pa.types.is_list(kind):
        return bool(pa.types.is_struct(kind.value_type))  # microseconds by operator
    return not (pa.types.is_float16(kind) or pa.types.is_nested(kind)) or pa.types.is_struct(kind)
