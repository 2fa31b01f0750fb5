"""The contestants of `benchmarks.select` do the same work."""

from __future__ import annotations

from pathlib import Path

from benchmarks.select import CONTESTANTS, kept, near_case
from benchmarks.select_table import Scored
from curation.storage import Folder


def test_all_keep_the_same_rows(tmp_path: Path) -> None:
    table = Scored(Folder(tmp_path / "table"), 20_000, 3_000)
    counts = table.run().counts
    assert (counts.rows, counts.kept, len(table.folder.sizes())) == (20_000, 20_000, 8)
    found = {}
    for name, contestant in CONTESTANTS.items():
        contestant(table, tmp_path / name)
        found[name] = kept(tmp_path / name)
    assert len(found["ours"]) == 1_000
    assert found["ours"] == found["pyarrow"] == found["duckdb"]


def test_the_table_has_copies_and_near_copies(tmp_path: Path) -> None:
    table = Scored(Folder(tmp_path / "table"), 1_000, 1_000)
    rows = table.folder.read_table(table.run().fragments[0].name).to_pylist()
    assert len({row["uid"] for row in rows}) == 1_000
    assert len({row["source_sha256"] for row in rows}) == 970
    assert (rows[50]["phash"] ^ rows[49]["phash"]).bit_count() == 1


def test_perceptual_duplicates_against_all_pairs() -> None:
    case = near_case(2_000, 3)
    assert case.ours > 0
    assert case.peers["all pairs"] > 0
