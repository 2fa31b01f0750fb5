"""Columns as JSON values of one fixed type each, without nulls: what makes `UID.json` the same in every sample.

Readers infer types from the first samples of a shard, so a null, or an int where another sample has a float, would
lose or crash something there (`datasets` reads 0.5 as 0 after five ints). A missing value is therefore "", -1, -1.0 or
false.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MISSING_TEXT = ""
MISSING_INT = -1
MISSING_FLOAT = -1.0


def plain(column: pa.ChunkedArray) -> list[Any]:
    """The column's values as str, int, float or bool, all of one type.

    Integers that a signed 64-bit one cannot hold, decimals, dates and times become text; nested values and bytes
    become JSON text (bytes as hex). 32-bit floats become the shortest number that reads back as them; NaN and
    infinities, which JSON has not, count as missing.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if pa.types.is_boolean(kind):
        return _filled(column, False)
    if pa.types.is_uint64(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind):
        return _filled(pc.cast(column.cast(pa.int64()) if pa.types.is_duration(kind) else column, pa.string()), "")
    if pa.types.is_integer(kind):
        return _filled(column, MISSING_INT)
    if pa.types.is_floating(kind):
        return [x if x is not None and math.isfinite(x) else MISSING_FLOAT for x in _shortest(column).to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _filled(column, MISSING_TEXT)
    return [MISSING_TEXT if value is None else _text(value) for value in column.to_pylist()]


def _filled(column: pa.ChunkedArray, missing: Any) -> list[Any]:
    return [missing if value is None else value for value in column.to_pylist()]


def _shortest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_float64(column.type):
        return column
    return column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_odd)


def _odd(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
