"""Byte counts as people write and read them: "512MB", "1.5 GiB"."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _UNITS[f"{_letter}B"] = 1000**_power
    _UNITS[f"{_letter}IB"] = 1024**_power


def parse_bytes(value: Any) -> Any:
    """An int for "512MB", "20 KiB" or 512; anything else is handed on for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value)
    if not match or match[2].upper() not in _UNITS:
        raise ValueError(f"{value!r} is no size; write for example 512MB, 20KiB or 1000000")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def format_bytes(count: float) -> str:
    """ "1.3 GB" for 1_300_000_000; powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
