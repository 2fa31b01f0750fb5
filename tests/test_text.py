"""Words of others, in messages, on terminals, in files."""

from __future__ import annotations

import pytest

from curation.text import all_without_secrets, first_line, one_line, printable, without_halves, without_secrets


def test_what_a_terminal_would_obey_is_spelt_out() -> None:
    assert printable("\x1b]0;pwned\x07 äöü 漢字") == r"\x1b]0;pwned\x07 äöü 漢字"


def test_halves_of_surrogate_pairs_become_question_marks() -> None:
    assert without_halves("a\ud800b") == "a?b"


def test_errors_in_a_line_even_those_that_say_nothing() -> None:
    assert first_line(ValueError("\n first \n second")) == "first"
    assert one_line(ValueError("first \n second"), 9) == "first sec"
    assert (first_line(MemoryError()), one_line(MemoryError())) == ("MemoryError", "MemoryError")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("https://user:pw@h.example/list.parquet?X-Amz-Signature=abc#top", "https://h.example/list.parquet"),
        ("s3://bucket/lists/*.parquet", "s3://bucket/lists/*.parquet"),
        ("https://h.example?token=1", "https://h.example"),
        ("lists/a?.parquet", "lists/a?.parquet"),
        ("s3://bucket/a-0?.parquet", "s3://bucket/a-0?.parquet"),
        ("ftp://user:pw@h.example/a", "ftp://h.example/a"),
        ("zip://*.csv::https://u:p@h.example/l.zip?sig=1", "zip://*.csv::https://h.example/l.zip"),
        ("url LIKE 'https://a/%?b'", "url LIKE 'https://a/%?b'"),
    ],
)
def test_secrets_of_urls_are_left_out(given: str, told: str) -> None:
    assert without_secrets(given) == told
    assert all_without_secrets({"a": [{"b": (given, 1)}, None]}) == {"a": [{"b": [told, 1]}, None]}
