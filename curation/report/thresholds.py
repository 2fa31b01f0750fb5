"""Thresholds that a rule holds: `column op number` out of the SQL of `select.where`, to be drawn into distributions.

DuckDB's own parser reads the rule. Only comparisons that every kept row must pass count: those joined by AND at the
top. What stands under OR, NOT, a function or a cast is left out, for a line there would claim more than the rule does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb

from curation.sql import fold

_SIGNS = {
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
}
_TURNED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


class Threshold(NamedTuple):
    """A comparison of a column with a number."""

    sign: str
    """`>`, `>=`, `<` or `<=`, as SQL writes it; the column stands on its left."""
    text: str
    """The number as the rule writes it; no other text than a number's."""

    @property
    def value(self) -> float:
        return float(self.text)

    @property
    def label(self) -> str:
        """ "≥ 5.5"."""
        return f"{ {'<=': '≤', '>=': '≥'}.get(self.sign, self.sign) } {self.text}"


def thresholds(where: str | None) -> dict[str, tuple[Threshold, ...]]:
    """Thresholds of a rule by column, in its order; names are folded as SQL folds them (`fold`).

    Empty for what is no rule: the config was checked when it ran, and a report never fails over it.
    """
    if not where:
        return {}
    try:
        with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
            (tree,) = connection.execute("SELECT json_serialize_sql($1)", [f"SELECT (\n{where}\n)"]).fetchall()[0]
        (statement,) = json.loads(tree)["statements"]
        (rule,) = statement["node"]["select_list"]
    except (duckdb.Error, KeyError, ValueError):
        return {}
    found: dict[str, tuple[Threshold, ...]] = {}
    for column, threshold in _comparisons(rule):
        found[fold(column)] = (*found.get(fold(column), ()), threshold)
    return found


def _comparisons(node: dict[str, Any]) -> Iterator[tuple[str, Threshold]]:
    type_ = node.get("type")
    if type_ == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from _comparisons(child)
    elif type_ == "COMPARE_BETWEEN":
        column, low, high = _column(node["input"]), _number(node["lower"]), _number(node["upper"])
        if column is not None and low is not None and high is not None:
            yield column, Threshold(">=", low)
            yield column, Threshold("<=", high)
    elif type_ in _SIGNS:
        sign = _SIGNS[type_]
        column, number = _column(node["left"]), _number(node["right"])
        if column is None:
            sign, column, number = _TURNED[sign], _column(node["right"]), _number(node["left"])
        if column is not None and number is not None:
            yield column, Threshold(sign, number)


def _column(node: dict[str, Any]) -> str | None:
    names = node.get("column_names", []) if node.get("class") == "COLUMN_REF" else []
    return names[0] if len(names) == 1 else None


def _number(node: dict[str, Any]) -> str | None:
    literal = node.get("literal") if node.get("class") == "CONSTANT" else None
    if not isinstance(literal, dict) or literal.get("kind") not in ("INTEGER", "NUMERIC"):
        return None
    text = str(literal.get("text"))
    try:
        return text if math.isfinite(float(text)) else None
    except ValueError:
        return None
