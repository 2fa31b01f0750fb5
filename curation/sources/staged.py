"""A list that has no types of its own (text, JSON) laid out as a typed table in `scratch`.

Values are staged as text; when all rows are in, each column gets the narrowest type that holds every value, so that one
odd value far down the file widens a column and fails nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curation.row import Reason
from curation.sources.query import OWN, PLACE, RAW_FIELDS, SAMPLE
from curation.sources.scratch import Scratch
from curation.sources.text import HALVED
from curation.sql import identifier

FLUSH_ROWS = 50_000
_HELD = ("held_path", "held_offset", "held_length", SAMPLE)
_NOTES = (PLACE, "reason", "detail")
_TYPES = {f.name: f.type for f in RAW_FIELDS}

_INTEGER = r"[+-]?(0|[1-9][0-9]{0,18})"
_NUMBER = r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:nan|inf|infinity)"


class Staged:
    """Rows of a list, given as text. `columns` are the list's own; `held`: the list says where each image is."""

    def __init__(self, scratch: Scratch, columns: Sequence[str], *, held: bool = False) -> None:
        self._scratch = scratch
        self._columns = list(columns)
        self._own = (*_HELD, *_NOTES) if held else _NOTES
        self._table = scratch.new_name("staged")
        self._schema = pa.schema(
            [pa.field(name, pa.string()) for name in self._columns]
            + [pa.field(_staged(name), _TYPES[name]) for name in self._own]
        )
        self._rows: list[tuple[Any, ...]] = []
        self._seen: dict[str, set[type]] = {}
        scratch.create(self._table, self._schema)

    def add(self, values: tuple[str | None, ...], place: str, held: tuple[Any, ...] = ()) -> None:
        """A row; `held` are its path, offset, length and sample name."""
        self._rows.append((*values, *held, place, None, None))
        if len(self._rows) >= FLUSH_ROWS:
            self._flush()

    def add_fault(
        self, place: str, problem: str, reason: Reason = Reason.INVALID_URL, held: tuple[Any, ...] = ()
    ) -> None:
        """A row that could not be read: it is accounted for all the same."""
        detail = f"{place}: {problem}"
        held = held or (None,) * (len(self._own) - len(_NOTES))
        self._rows.append((*(None for _ in self._columns), *held, place, reason.value, detail))
        if len(self._rows) >= FLUSH_ROWS:
            self._flush()

    def json_values(self, record: dict[str, Any]) -> tuple[str | None, ...]:
        """The columns' values in a JSON object, as text; remembers the types that it saw. Raises ValueError."""
        return tuple([self._json_text(name, record[name]) if name in record else None for name in self._columns])

    def _json_text(self, name: str, value: Any) -> str | None:
        seen = self._seen.get(name)
        if seen is None:
            seen = self._seen[name] = set()
        if value is None:
            return None
        kind = type(value)
        if kind is str:
            seen.add(str)
            return value  # type: ignore[no-any-return]
        if kind is bool:
            seen.add(bool)
            return "true" if value else "false"
        if kind is float or (kind is int and -(2**63) <= value < 2**63):
            seen.add(kind)
            return repr(value)
        seen.add(str)
        try:
            return json.dumps(value, ensure_ascii=False)
        except RecursionError:  # reading goes a little deeper than writing
            raise ValueError(f"{name!r} is nested too deeply") from None

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [_array(list(values), field.type) for values, field in zip(columns, self._schema, strict=True)]
            self._scratch.insert(self._table, pa.table(arrays, schema=self._schema))
            self._rows = []

    def own(self) -> dict[str, str]:
        """`Query`'s `own` columns."""
        return {name: identifier(_staged(name)) for name in self._own}

    def finish_text(self, typed: Sequence[str]) -> str:
        """FROM item: the columns `typed` with types told from all their values, the others as text.

        A column without any value has the type NULL, which agrees with any type that another source gives it.
        """
        self._flush()
        return self._view({n: self._told_type(n) if n in typed else "VARCHAR" for n in self._columns})

    def finish_json(self, always: Sequence[str]) -> tuple[str, list[str]]:
        """FROM item with the types that JSON gave, and the names that were in any object (null or not).

        It has the columns `always`, and of the others those that were seen.
        """
        self._flush()
        names = [name for name in self._columns if name in self._seen or name in always]
        return self._view({name: _json_type(self._seen.get(name, set())) for name in names}), list(self._seen)

    def _view(self, types: dict[str, str]) -> str:
        parts = []
        for name, kind in types.items():
            quoted = identifier(name)
            parts.append(quoted if kind == "VARCHAR" else f"CAST({quoted} AS {kind}) AS {quoted}")
        view = self._scratch.new_name("list")
        own = [identifier(_staged(name)) for name in self._own]
        self._scratch.run(f"CREATE VIEW {view} AS SELECT {', '.join([*parts, *own])} FROM {self._table}")
        return view

    def _told_type(self, name: str) -> str:
        text = f"trim({identifier(name)})"
        integers = f"count_if(regexp_full_match({text}, '{_INTEGER}') AND TRY_CAST({text} AS BIGINT) IS NOT NULL)"
        numbers = f"count_if(regexp_full_match({text}, '{_NUMBER}'))"
        truths = f"count_if(lower({text}) IN ('true', 'false'))"
        if self._scratch.value(f"SELECT count({identifier(name)}) FROM {self._table}") == 0:
            return '"NULL"'
        kinds = {"BIGINT": integers, "DOUBLE": numbers, "BOOLEAN": truths}
        for kind, count in kinds.items():
            if self._scratch.value(f"SELECT {count} = count({text}) FROM {self._table}"):
                return kind
        return "VARCHAR"


def _staged(name: str) -> str:
    """A reader's own column, under a name that no list has."""
    return OWN + name.removeprefix(OWN)


def _json_type(seen: set[type]) -> str:
    if not seen:
        return '"NULL"'
    if seen <= {int, float}:
        return "DOUBLE" if float in seen else "BIGINT"
    return "BOOLEAN" if seen == {bool} else "VARCHAR"


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([HALVED.sub("\ufffd", v) if v else v for v in values], kind)
