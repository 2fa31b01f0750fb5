"""Which columns of a list are wanted, and what is said when one is not there.

Every reader asks `wanted`, so that only those columns are read; `Query` turns them into SQL.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

from curation.config import SourceColumns
from curation.errors import ConfigError
from curation.sources.scratch import Scratch
from curation.sql import fold, literal, nodes

MAPPED = {
    "url": "url",
    "alt_text": "alt_text",
    "license": "license",
    "md5": "expected_md5",
    "sha256": "expected_sha256",
}
"""Settings under `columns`, and the corpus's columns that they fill."""


def mapped(columns: SourceColumns) -> dict[str, str]:
    """Setting under `columns` → the list's column, where one is set."""
    return {name: getattr(columns, name) for name in MAPPED if getattr(columns, name) is not None}


def wanted(columns: SourceColumns) -> list[str]:
    """The list's columns that the corpus takes, each once."""
    return list(dict.fromkeys([*mapped(columns).values(), *columns.keep]))


def setting_of(columns: SourceColumns, column: str, setting: str) -> str:
    """Dotted path of the setting that asks for the list's column."""
    for name, wanted_column in mapped(columns).items():
        if wanted_column == column:
            return f"{setting}.columns.{name}"
    return f"{setting}.columns.keep"


def check_columns(columns: SourceColumns, there: Iterable[str], setting: str, *, file: str = "") -> None:
    """Raise ConfigError for the first wanted column that is not `there`, with the nearest of those that are."""
    names = list(there)
    for column in wanted(columns):
        if column not in names:
            place = f" in {file}" if file else ""
            raise ConfigError(
                setting_of(columns, column, setting), f"no column {column!r}{place}; {_hint(column, names)}"
            )


def _hint(column: str, there: list[str]) -> str:
    folded = {name.casefold(): name for name in reversed(there)}
    near = difflib.get_close_matches(column.casefold(), folded, n=1, cutoff=0.5)
    shown = ", ".join(there[:40]) + (f", … ({len(there)} columns)" if len(there) > 40 else "")
    return (f"did you mean {folded[near[0]]!r}? " if near else "") + f"The columns are: {shown or '(none)'}"


def columns_in(where: str | None, scratch: Scratch, setting: str) -> set[str] | None:
    """Names that may be columns in the condition `where`; None if it asks for all of them (`*`).

    Raises ConfigError at `setting`.where for a condition that is not SQL.
    """
    if where is None:
        return set()
    statement = f"SELECT 1 FROM list WHERE ({where}\n)"
    parsed = json.loads(scratch.value(f"SELECT json_serialize_sql({literal(statement)})"))
    if parsed["error"]:
        raise ConfigError(f"{setting}.where", f"{parsed['error_message']} (given: {where!r})")
    names: set[str] = set()
    for node in nodes(parsed):
        if node.get("class") == "STAR":
            return None
        if node.get("class") == "COLUMN_REF":
            names.update(node["column_names"])
    return names


def wanted_with_where(columns: SourceColumns, names: set[str], there: Iterable[str] | None) -> list[str]:
    """Wanted columns, then those that only `where` reads (in SQL, names are equal whatever their case).

    `there`: the list's columns; None where they are not known beforehand, then the spelling of `where` is taken.
    """
    taken = wanted(columns)
    folded = {fold(name) for name in taken}
    asked = {fold(name): name for name in sorted(names)}
    for name in asked.values() if there is None else there:
        if fold(name) in asked and fold(name) not in folded:
            taken.append(name)
            folded.add(fold(name))
    return taken
