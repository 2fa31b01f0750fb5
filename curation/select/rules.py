"""The operator's SQL: `where`, `by` and `prefer`, checked against a schema before any work starts.

A rule sees one row at a time: the stage's columns under their own names, in DuckDB's SQL. So that the same table
always gives the same rows, a rule holds no subquery, aggregate or window and calls nothing random or clock-bound; it
cannot read files. NaN counts as null (in DuckDB it is larger than every number, and a broken score would pass every
threshold). `curation.select.decide` runs what is checked here.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import duckdb
import pyarrow as pa

from curation.config import SelectSettings
from curation.errors import ConfigError
from curation.models import check_installed
from curation.row import CLIP_EMBEDDING, OUTCOME_FIELDS, RESERVED
from curation.sql import fold, identifier, message, nodes

MEMORY = "2GB"
"""What DuckDB may hold before it spills to scratch files."""

EXACT = {"bytes": "source_sha256", "pixels": "pixel_sha256"}
"""Columns whose equality makes exact duplicates."""

AESTHETIC = "aesthetic"
"""Column that decides between semantic duplicates unless the config says otherwise."""

WHERE = "stages.select.where"
BY = "stages.select.by"
PREFER = "stages.select.dedup.prefer"
SEMANTIC = "stages.select.dedup.semantic"


@dataclass(frozen=True)
class Rule:
    """A checked expression."""

    setting: str
    sql: str
    columns: tuple[str, ...]
    """Columns that it reads, in the schema's order."""
    type: str
    """DuckDB type of its value."""


@dataclass(frozen=True)
class Rules:
    """The expressions of a config; None where there is none."""

    where: Rule | None
    by: Rule | None
    prefer: Rule | None
    """Which of two semantic duplicates stays, where something says so: `dedup.prefer`, `by`, or column `aesthetic`."""


def check_rules(settings: SelectSettings, schema: pa.Schema) -> None:
    """Refuse rules that cannot work over a table of `schema`. Raises ConfigError naming the setting."""
    compile_rules(settings, schema)
    dedup = settings.dedup
    for setting, column in (("exact", EXACT.get(dedup.exact)), ("phash", None if dedup.phash is None else "phash")):
        if column is not None and column not in schema.names:
            raise ConfigError(
                f"stages.select.dedup.{setting}", f"needs column {column!r}, which no stage before writes"
            )


def check_syntax(settings: SelectSettings) -> None:
    """Refuse rules that are no SQL over single rows, whatever columns there are. Raises ConfigError."""
    rules = ((WHERE, settings.where), (BY, settings.by), (PREFER, settings.dedup.prefer))
    with connect() as connection:
        for setting, sql in rules:
            if sql is not None:
                _parse(connection, setting, sql)


def compile_rules(settings: SelectSettings, schema: pa.Schema) -> Rules:
    """The rules over a table of `schema`. Raises ConfigError naming the setting."""
    dedup = settings.dedup
    with connect() as connection:
        where = _compile(connection, WHERE, settings.where, schema)
        by = _compile(connection, BY, settings.by, schema)
        prefer = _compile(connection, PREFER, dedup.prefer, schema)
        if prefer is None:
            prefer = by or _compile(connection, PREFER, AESTHETIC if _is_number(schema, AESTHETIC) else None, schema)
    if where is not None and where.type != "BOOLEAN":
        raise ConfigError(WHERE, f"{settings.where!r} is no condition: its value is {where.type}, not BOOLEAN")
    for rule in (by, prefer):
        if rule is not None and rule.type == '"NULL"':
            raise ConfigError(rule.setting, f"{rule.sql!r} is always null")
    if dedup.semantic is not None:
        _check_semantic(schema)
    return Rules(where, by, prefer)


def _is_number(schema: pa.Schema, column: str) -> bool:
    kind = schema.field(column).type if column in schema.names else pa.null()
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _check_semantic(schema: pa.Schema) -> None:
    if CLIP_EMBEDDING not in schema.names:
        raise ConfigError(
            SEMANTIC, f"needs column {CLIP_EMBEDDING!r}, which no stage before writes: put clip into stages.score.ops"
        )
    kind = schema.field(CLIP_EMBEDDING).type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise ConfigError(SEMANTIC, f"column {CLIP_EMBEDDING!r} holds no embeddings of one length: its type is {kind}")
    check_installed(SEMANTIC, "faiss")


def connect(scratch: str | None = None) -> duckdb.DuckDBPyConnection:
    """A database in memory that spills into the folder `scratch` and can touch no other file."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "threads": os.cpu_count() or 1,
        "temp_directory": scratch or "",
    }
    connection = duckdb.connect(config=settings)
    connection.execute("SET enable_external_access = false").fetchall()
    connection.execute("SET lock_configuration = true").fetchall()
    return connection


def without_nan(schema: pa.Schema) -> list[str]:
    """SELECT list of all columns, NaN as null."""
    parts = []
    for field in schema:
        name = identifier(field.name)
        floating = pa.types.is_float32(field.type) or pa.types.is_float64(field.type)
        parts.append(f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" if floating else name)
    return parts


def _compile(connection: duckdb.DuckDBPyConnection, setting: str, sql: str | None, schema: pa.Schema) -> Rule | None:
    if sql is None:
        return None
    names, functions = _parse(connection, setting, sql)
    visible = _visible(schema)
    folded = set(map(fold, names))
    for name in sorted(names & set(schema.names) - set(visible.values())):
        seen = visible.get(fold(name))
        reason = f"SQL cannot tell it from {seen!r}, which a rule sees" if seen else "it belongs to the stage before"
        raise ConfigError(setting, f"a rule cannot see column {name!r}: {reason}")
    # current_date and its like look like columns
    for name in sorted((functions | folded - set(visible)) & _unsteady()):
        raise ConfigError(setting, f"{name} gives another value each time; the same table must give the same rows")
    columns = tuple(name for key, name in visible.items() if key in folded)
    for name in columns:
        if not _readable(connection, schema.field(name)):
            raise ConfigError(setting, f"DuckDB cannot read column {name!r}, whose type is {schema.field(name).type}")
    # One row of nulls: constants that cannot be converted show too.
    row = {name: pa.nulls(1, schema.field(name).type) for name in columns} or {"no column": pa.nulls(1)}
    connection.register("rows", pa.table(row))
    try:
        # A WHERE clause takes neither aggregates nor windows; DESCRIBE tells the type.
        connection.execute(f"SELECT 1 FROM rows WHERE (\n{sql}\n) IS NOT NULL").fetchall()
        described = connection.execute(f"DESCRIBE SELECT (\n{sql}\n) AS value FROM rows").fetchall()
    except duckdb.Error as error:
        raise ConfigError(setting, _explain(error, visible.values())) from None
    return Rule(setting, sql, columns, described[0][1])


def _parse(connection: duckdb.DuckDBPyConnection, setting: str, sql: str) -> tuple[set[str], set[str]]:
    """Names that may be columns, and names of functions."""
    try:
        duckdb.SQLExpression(sql)  # one whole expression: it cannot close our parenthesis
        tree = connection.execute("SELECT json_serialize_sql($1)", [f"SELECT (\n{sql}\n)"]).fetchall()[0][0]
    except duckdb.Error as error:
        raise ConfigError(setting, f"{sql!r} is no SQL expression: {message(error)}") from None
    names: set[str] = set()
    functions: set[str] = set()
    for node in nodes(json.loads(tree)):
        match node.get("class"):
            case "SUBQUERY":
                raise ConfigError(setting, "a rule sees one row at a time and cannot hold a subquery")
            case "COLUMN_REF":
                names.update(node["column_names"])
            case "STAR":
                raise ConfigError(setting, "a rule names its columns one by one; * and COLUMNS(…) are not allowed")
            case "FUNCTION":
                functions.add(node["function_name"].lower())
    return names, functions


def _readable(connection: duckdb.DuckDBPyConnection, field: pa.Field) -> bool:
    try:
        connection.register("one", pa.table({"one": pa.nulls(0, field.type)}))
        connection.execute("SELECT * FROM one").fetchall()
    except (duckdb.NotImplementedException, pa.ArrowNotImplementedError):
        return False
    return True


def _visible(schema: pa.Schema) -> dict[str, str]:
    """Columns that rules see, by folded name. Of names that differ in case only, the corpus's own column is seen."""
    hidden = {field.name for field in OUTCOME_FIELDS}
    names = [name for name in schema.names if name not in hidden]
    first = {fold(name): name for name in reversed(names)}
    own = {fold(name): name for name in names if name in RESERVED}
    return {key: own.get(key, name) for key, name in reversed(first.items())}


@cache
def _unsteady() -> frozenset[str]:
    """Functions whose value depends on more than their arguments."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT function_name FROM duckdb_functions() WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
        ).fetchall()
    return frozenset(name for (name,) in rows) | {"current_time", "current_timestamp", "localtime", "localtimestamp"}


def _explain(error: duckdb.Error, columns: Iterable[str]) -> str:
    """DuckDB's message in one line; for an unknown column, the nearest one that there is."""
    unknown = re.search(r'Referenced (?:column|table) "(.+?)" not found', str(error))
    if unknown is None:
        return message(error)
    near = difflib.get_close_matches(unknown[1], list(columns), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(columns))}"
    return f"unknown column {unknown[1]!r}; {hint}"
