"""What each rule does to rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.errors import ConfigError
from tests.select.given import details, ledger, reasons, rows, select, sha, uid

NO_DEDUP = {"exact": "none"}


def test_where_drops_false_null_and_nan(tmp_path: Path) -> None:
    table = rows(aesthetic=[6.0, 5.0, None, float("nan"), 5.5])
    stage = select(tmp_path, table, where="aesthetic\n >= 5.5")
    assert reasons(stage) == {0: None, 1: "where", 2: "where", 3: "where", 4: None}
    assert details(stage)[1] == "aesthetic >= 5.5"
    row = ledger(stage)[uid(1)]
    assert (row["outcome"], row["transient"]) == ("rejected", None)


def test_equal_bytes_the_most_pixels_win_then_the_most_bytes_then_the_lowest_uid(tmp_path: Path) -> None:
    a, b, c = sha("a"), sha("b"), sha("c")
    table = rows(
        source_sha256=[a, a, a, b, b, b, c, c, None, None],
        width=[10, 30, 20, 10, 10, 10, 10, 10, 10, 10],
        height=[10, 10, 10, 10, 10, 10, 10, 10, 10, 10],
        length=[9, 1, 5, 5, 7, 6, 5, 5, 5, 5],
    )
    stage = select(tmp_path, table)
    lost = {0: 1, 2: 1, 3: 4, 5: 4, 7: 6}
    assert reasons(stage) == {i: "duplicate_bytes" if i in lost else None for i in range(10)}
    assert details(stage) == {i: uid(lost[i]) if i in lost else None for i in range(10)}


def test_equal_pixels(tmp_path: Path) -> None:
    pixels = [sha("same"), sha("same"), sha("other"), None, None]
    assert reasons(select(tmp_path / "1", rows(pixel_sha256=pixels))) == dict.fromkeys(range(5))
    stage = select(tmp_path / "2", rows(pixel_sha256=pixels), dedup={"exact": "pixels"})
    assert reasons(stage) == {0: None, 1: "duplicate_pixels", 2: None, 3: None, 4: None}


def test_no_exact_duplicates_when_turned_off(tmp_path: Path) -> None:
    table = rows(source_sha256=[sha(1)] * 2, pixel_sha256=[sha(1)] * 2)
    assert reasons(select(tmp_path, table, dedup=NO_DEDUP)) == {0: None, 1: None}


def test_near_duplicates_the_largest_wins(tmp_path: Path) -> None:
    table = rows(phash=[0b0, 0b1111, 0b11111, None, None, 0b1], width=[10, 20, 15, 10, 10, 5])
    stage = select(tmp_path, table, dedup={"phash": 4})
    # 0 is 4 bits from 1, which is larger; 5 is 3 bits from 1.
    assert reasons(stage) == {0: "near_duplicate", 1: None, 2: "near_duplicate", 3: None, 4: None, 5: "near_duplicate"}
    assert details(stage) == {0: uid(1), 1: None, 2: uid(1), 3: None, 4: None, 5: uid(1)}
    assert set(reasons(select(tmp_path / "off", table)).values()) == {None}


def test_equal_hashes_are_near_at_distance_zero(tmp_path: Path) -> None:
    stage = select(tmp_path, rows(phash=[2**63 + 5, 2**63 + 5, 2**63 + 4]), dedup={"phash": 0})
    assert reasons(stage) == {0: None, 1: "near_duplicate", 2: None}


def test_top_by(tmp_path: Path) -> None:
    table = rows(aesthetic=[1.0, 9.0, None, 5.0, float("nan"), 7.0])
    stage = select(tmp_path, table, top=2, by="aesthetic")
    assert {i for i, r in reasons(stage).items() if r is None} == {1, 5}
    assert details(stage)[0] == "not among the 2 highest by aesthetic"


def test_top_ties_go_to_the_lowest_uid(tmp_path: Path) -> None:
    table = rows(uid=[uid(i) for i in (5, 3, 2**127, 1, 2)], aesthetic=[4.0, 4.0, 4.0, 4.0, 1.0])
    stage = select(tmp_path, table, top=3, by="aesthetic")
    assert {i for i, r in reasons(stage).items() if r is None} == {1, 3, 5}


def test_rows_without_a_value_come_last_and_fill_what_is_left(tmp_path: Path) -> None:
    table = rows(aesthetic=[None, 2.0, float("nan"), None])
    assert reasons(select(tmp_path, table, top=2, by="aesthetic")) == {0: None, 1: None, 2: "below_top", 3: "below_top"}
    computed = select(tmp_path / "nan", table, top=1, by="aesthetic + 'NaN'::FLOAT * (uid >= '1')::INT")
    assert list(reasons(computed).values()).count(None) == 1


def test_top_beyond_the_table_keeps_all(tmp_path: Path) -> None:
    assert reasons(select(tmp_path, rows(width=[1, 2]), top=9, by="width")) == {0: None, 1: None}


def test_rules_come_in_order_and_what_is_dropped_takes_no_part_in_later_ones(tmp_path: Path) -> None:
    same = sha("same")
    table = rows(
        #        where    exact   exact   near     near     top   top
        width=[9000, 500, 400, 100, 90, 80, 70],
        aesthetic=[1.0, 6.0, 9.0, 6.0, 9.0, 7.0, 8.0],
        source_sha256=[same, same, same, sha(3), sha(4), sha(5), sha(6)],
        phash=[0xF0F0, 0xF0F0, 0xFFFF0000, 0xFFFF0001, 0xFFFF0003, 1 << 60, 0xFFFF << 40],
    )
    stage = select(tmp_path, table, where="aesthetic > 5", dedup={"exact": "bytes", "phash": 2}, top=2, by="aesthetic")
    assert reasons(stage) == {
        0: "where",  # so it does not displace 1, 2
        1: "below_top",
        2: "duplicate_bytes",  # so it does not displace 3, 4
        3: "below_top",
        4: "near_duplicate",  # so it is not among the top
        5: None,
        6: None,
    }
    assert details(stage)[4] == uid(3)


def test_by_is_asked_only_of_rows_that_where_lets_through(tmp_path: Path) -> None:
    table = rows(alt_text=["none", "10", "20"])
    stage = select(tmp_path, table, where="alt_text <> 'none'", top=1, by="alt_text::INT")
    assert reasons(stage) == {0: "where", 1: "below_top", 2: None}


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"where": "alt_text::INT > 3"}, "stages.select.where"),
        ({"top": 1, "by": "alt_text::INT"}, "stages.select.by"),
        ({"where": "width > 0", "top": 1, "by": "alt_text::INT"}, "stages.select.by"),
    ],
)
def test_a_rule_that_fails_on_the_data_is_named(tmp_path: Path, settings: dict[str, object], path: str) -> None:
    table = rows(width=[5, 6], alt_text=["1", "one"])
    with pytest.raises(ConfigError, match="fails on the data") as caught:
        select(tmp_path, table, **settings)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_columns_with_hostile_names(tmp_path: Path) -> None:
    names = ['a"b', "select", "nth", "ownnth", "OWN_nth", "x'); DROP TABLE live; --", "größe", "ROWS", "", "Live"]
    table = rows(width=[1, 2, 3])
    for name in names:
        table = table.append_column(pa.field(name, pa.int64()), pa.array([1, 2, 3]))
    for i, name in enumerate(names):
        if not name:
            continue  # a column without a name exists, but SQL cannot speak of it
        quoted = '"' + name.replace('"', '""') + '"'
        stage = select(tmp_path / str(i), table, where=f"{quoted} >= 2", top=1, by=quoted)
        assert reasons(stage) == {0: "where", 1: "below_top", 2: None}, name
        kept = ledger(stage)[uid(2)]
        assert [kept[n] for n in names] == [3] * len(names)


def test_a_kept_column_that_differs_in_case_from_one_of_the_corpus(tmp_path: Path) -> None:
    table = rows(width=[1, 2, 3])
    table = table.add_column(0, pa.field("WIDTH", pa.int64()), pa.array([3, 2, 1]))
    stage = select(tmp_path, table, where="width >= 2")
    assert reasons(stage) == {0: "where", 1: None, 2: None}
    assert [ledger(stage)[uid(i)]["WIDTH"] for i in range(3)] == [None, 2, 1]
