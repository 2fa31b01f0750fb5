"""The gallery's plan: shares, twins, and a truth that follows from the settings."""

from __future__ import annotations

from collections import Counter

import pytest

from curation.row import Reason
from curation.scenes.exhibits import DEAD_HOST, SHARES, SLOW_HOST, Exhibit, expected, make_exhibits


def truth(exhibits: list[Exhibit], **settings: object) -> Counter[frozenset[str]]:
    return Counter(expected(e, **settings) for e in exhibits)  # type: ignore[arg-type]


def test_a_plan_is_a_pure_function_of_count_and_seed() -> None:
    assert make_exhibits(150, 4) == make_exhibits(150, 4)
    assert make_exhibits(150, 4) != make_exhibits(150, 5)


@pytest.mark.parametrize("count", [1, 2, 7, 40, 99, 100, 600])
def test_any_count(count: int) -> None:
    exhibits = make_exhibits(count, 0)
    assert [e.index for e in exhibits] == list(range(count))
    kinds = {e.kind for e in exhibits}
    assert kinds <= {*SHARES, "small"}
    if count >= 100:
        assert kinds == {*SHARES, "small"}


def test_no_gallery_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        make_exhibits(0, 0)


def test_most_are_too_small_and_a_quarter_is_fine() -> None:
    exhibits = make_exhibits(2000, 1)
    found = truth(exhibits, min_side=1024, max_aspect=2.0)
    assert 0.62 < found[frozenset({"too_small"})] / 2000 < 0.72
    assert 0.22 < found[frozenset({"kept"})] / 2000 < 0.28
    pixels = sum(e.picture.width * e.picture.height for e in exhibits if e.picture)
    assert pixels / 2000 < 0.8e6  # what keeps a demo fast


def test_truth_follows_the_settings() -> None:
    exhibits = make_exhibits(600, 2)
    strict = truth(exhibits, min_side=1024, max_aspect=2.0)
    loose = truth(exhibits, opt_out=False)
    assert frozenset({"opt_out"}) in strict
    assert frozenset({"opt_out"}) not in loose
    assert frozenset({"aspect_too_extreme"}) in strict
    assert not any("too_small" in reasons for reasons in loose)
    reasons = {reason.value for reason in Reason} | {"kept"}
    assert {one for found in (strict, loose) for allowed in found for one in allowed} <= reasons
    assert sum(strict.values()) == sum(loose.values()) == 600
    both = [e for e in exhibits if len(expected(e, min_side=1024, max_aspect=1.1)) == 2 and e.kind == "small"]
    assert expected(both[0], min_side=1024, max_aspect=1.1) == {"too_small", "aspect_too_extreme"}


def test_twins_are_twins_of_earlier_rows() -> None:
    exhibits = make_exhibits(600, 3)
    addresses = Counter((e.host, e.path) for e in exhibits)
    for twin in (e for e in exhibits if e.kind.startswith("same_")):
        assert twin.twin_of is not None
        original = exhibits[twin.twin_of]
        assert original.index < twin.index
        assert original.kind == "fine"
        assert twin.picture is not None
        assert original.picture is not None
        assert twin.picture.scene == original.picture.scene
        assert (twin.picture == original.picture) is (twin.kind != "same_picture")
        assert ((twin.host, twin.path) == (original.host, original.path)) is (twin.kind == "same_url")
    assert len(addresses) == 600 - sum(e.kind == "same_url" for e in exhibits)


def test_slow_and_dead_hosts_hold_their_own_rows_only() -> None:
    for exhibit in make_exhibits(600, 4):
        assert (exhibit.host == SLOW_HOST) is (exhibit.kind == "slow")
        assert (exhibit.host == DEAD_HOST) is (exhibit.kind == "refused")
