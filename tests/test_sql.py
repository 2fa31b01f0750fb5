"""Names, texts and messages as DuckDB has them."""

from __future__ import annotations

import duckdb
import pytest

from curation.sql import fold, identifier, literal, message


@pytest.mark.parametrize("name", ["plain", 'with "quotes"', "it's", "Ä", "select", "a.b"])
def test_any_name_and_any_text_come_back(name: str) -> None:
    found = duckdb.sql(f"SELECT {literal(name)} AS {identifier(name)}")
    assert (found.columns, found.fetchall()) == ([name], [(name,)])


@pytest.mark.parametrize(("one", "other"), [("URL", "url"), ("Ä", "ä"), ("ß", "ss")])
def test_names_are_equal_where_duckdb_says_so(one: str, other: str) -> None:
    try:
        duckdb.sql(f"SELECT {identifier(other)} FROM (SELECT 1 AS {identifier(one)})").fetchall()
        same = True
    except duckdb.BinderException:
        same = False
    assert (fold(one) == fold(other)) is same


def test_a_message_is_one_line_without_our_statement() -> None:
    with pytest.raises(duckdb.Error) as caught:
        duckdb.sql("SELECT nothing FROM (SELECT 1 AS something)")
    said = message(caught.value)
    assert "nothing" in said
    assert "\n" not in said
    assert "LINE" not in said
    assert "SELECT" not in said
