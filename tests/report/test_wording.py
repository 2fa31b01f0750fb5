"""Numbers, times and untrusted text as people read them."""

from __future__ import annotations

import pytest

from curation.report import wording
from curation.row import Reason


def test_every_reason_is_explained() -> None:
    assert set(wording.REASONS) == set(Reason), "say what the new reason means in curation/report/wording.py"
    assert wording.reason_text("of_tomorrow") == "of tomorrow"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (187, 1000, "18.7%"),
        (4, 100, "4.0%"),
        (0, 10, "0%"),
        (10, 10, "100%"),
        (1, 10**6, "<0.1%"),
        (10**6 - 1, 10**6, ">99.9%"),
        (0, 0, "–"),
    ],
)
def test_share(part: int, whole: int, text: str) -> None:
    assert wording.share(part, whole) == text


def test_rate_and_duration() -> None:
    assert [wording.rate(r) for r in (None, 0.1234, 46.29, 12345.6)] == ["–", "0.123", "46.3", "12,346"]
    assert [wording.duration(s) for s in (0.42, 31, 192, 7500)] == ["0.4 s", "31 s", "3 min 12 s", "2 h 5 min"]


def test_moments() -> None:
    assert wording.moment("2026-01-31T12:05:00+00:00") == "31 Jan 2026, 12:05 UTC"
    assert wording.moment("some day") == "some day"
    assert wording.seconds_between("2026-01-31T12:05:00+00:00", "2026-01-31T12:06:30+00:00") == 90
    assert wording.seconds_between("2026-01-31T12:05:00+00:00", None) is None
    assert wording.seconds_between("2026-01-31T12:05:00", "2026-01-31T12:05:00+00:00") is None


def test_shown_keeps_what_people_write() -> None:
    for text in ("Ein schöner Tag", "日本の写真", "صورة", "a 👩‍🚀 b"):
        assert wording.shown(text) == text
    assert wording.shown("two\n lines\t and  tabs") == "two lines and tabs"


def test_shown_hides_what_only_deceives() -> None:
    shown = wording.shown("http://good.example/\u202egpj.exe\x00\x1b[31m\u2066x\ud800")
    assert not set("\u202e\x00\x1b\u2066\ud800") & set(shown)
    assert "good.example" in shown


def test_shown_is_cut() -> None:
    assert wording.shown("x" * 10_000, 50) == "x" * 49 + "…"
    url = wording.shown_url("https://host.example/" + "path/" * 100 + "name.jpg")
    assert len(url) == 96
    assert url.startswith("https://host.example/path/")
    assert url.endswith("name.jpg")
