"""URLs are equal when their normal forms are; reasons fix outcomes."""

from __future__ import annotations

import pytest

from curation.names import UID_PATTERN, make_uid, normalise_url
from curation.row import KEPT, Outcome, Reason, Verdict, outcome_arrays


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("HTTP://Example.COM", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a#part", "https://example.com/a"),
        ("https://example.com:8443/a", "https://example.com:8443/a"),
        ("http://example.com./a b?q=ü", "http://example.com/a%20b?q=%C3%BC"),
        ("http://example.com/a%20b", "http://example.com/a%20b"),
        ("  http://example.com/?b=2&a=1\n", "http://example.com/?b=2&a=1"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2001:DB8::1]/x", "http://[2001:db8::1]/x"),
        ("http://user:secret@example.com/", "http://example.com/"),
    ],
)
def test_normal_form(given: str, normal: str) -> None:
    assert normalise_url(given) == normal
    assert normalise_url(normal) == normal


@pytest.mark.parametrize(
    "given", ["", "   ", "example.com/a.jpg", "http://", "http://[::1", "http://a b/", "http://x:99999/", "data:,x"]
)
def test_no_url(given: str) -> None:
    assert normalise_url(given) is None


def test_uid_is_32_hex_digits_and_depends_on_source_and_name() -> None:
    uid = make_uid("a", "http://example.com/")
    assert UID_PATTERN.fullmatch(uid)
    assert uid == make_uid("a", "http://example.com/")
    assert len({uid, make_uid("b", "http://example.com/"), make_uid("a", "http://example.com/x")}) == 3


def test_uid_of_broken_unicode() -> None:
    assert UID_PATTERN.fullmatch(make_uid("a", "http://example.com/\ud800"))


def test_reason_fixes_outcome() -> None:
    verdicts = [KEPT, Verdict(Reason.TOO_SMALL, "3x3"), Verdict(Reason.TIMEOUT), Verdict(Reason.HTTP_NOT_FOUND)]
    arrays = outcome_arrays(verdicts)
    assert arrays["outcome"].to_pylist() == ["kept", "rejected", "failed", "failed"]
    assert arrays["transient"].to_pylist() == [None, None, True, False]
    assert all(reason.outcome in (Outcome.REJECTED, Outcome.FAILED) for reason in Reason)
