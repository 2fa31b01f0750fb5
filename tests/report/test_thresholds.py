"""Thresholds are read out of a rule only where every kept row must pass them."""

from __future__ import annotations

import pytest

from curation.report.thresholds import thresholds


def labels(where: str | None) -> dict[str, list[str]]:
    return {column: [t.label for t in found] for column, found in thresholds(where).items()}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("aesthetic >= 5.5 and sharpness > 40", {"aesthetic": ["≥ 5.5"], "sharpness": ["> 40"]}),
        ("5 < aesthetic AND aesthetic <= 7", {"aesthetic": ["> 5", "≤ 7"]}),
        ("aesthetic between 5 and 7.5", {"aesthetic": ["≥ 5", "≤ 7.5"]}),
        ('a > 1 and ("B c" < -2e-1 and d >= .5)', {"a": ["> 1"], "b c": ["< -2e-1"], "d": ["≥ .5"]}),
        ("AESTHETIC > 5 -- and safety < 1\n", {"aesthetic": ["> 5"]}),
        # what a line would misrepresent
        ("aesthetic > 5 or sharpness > 90", {}),
        ("not aesthetic > 5 and b < 1", {"b": ["< 1"]}),
        ("aesthetic not between 1 and 2", {}),
        ("round(aesthetic) > 5 and aesthetic * 2 > 9 and aesthetic > other", {}),
        ("aesthetic::int > 5 and aesthetic > 5::double", {}),
        ("aesthetic > '5' and alt_text > 'b >= 7' and aesthetic <> 3 and aesthetic = 4", {}),
        ("rows.aesthetic > 5 and case when a > 1 then b > 2 end", {}),
        ("a > 1e999", {}),
        # what is no rule at all
        ("aesthetic >", {}),
        ("a > 1); select (2", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_what_is_drawn(where: str | None, found: dict[str, list[str]]) -> None:
    assert labels(where) == found


def test_the_value_is_the_number() -> None:
    ((low, high),) = thresholds("x between -1.5e3 and 10000000000000").values()
    assert (low.value, high.value) == (-1500.0, 1e13)
