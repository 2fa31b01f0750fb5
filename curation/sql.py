"""SQL for DuckDB: names and texts as it takes them, its messages, and the tree that it makes of a condition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


def identifier(name: str) -> str:
    """A column's or table's name as an SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def fold(name: str) -> str:
    """The form in which SQL compares names: only ASCII letters lose their case."""
    return name.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def message(error: BaseException) -> str:
    """What DuckDB says, in one line, without the excerpt of our SQL that it draws."""
    return " ".join(re.split(r"\n\n|\n\s*LINE \d+:", str(error))[0].split())


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects of a tree as `json_serialize_sql` gives it, from the root on."""
    if isinstance(tree, dict):
        yield tree
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for child in children:
        yield from nodes(child)
