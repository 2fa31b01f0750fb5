"""The table of `benchmarks.semantic` holds what it says, and the benchmark sees who stayed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.embeddings import NEAREST, THRESHOLD, Embedded, Planted
from benchmarks.semantic import dropped, few, judge, ours
from curation.storage import Folder


def test_planted_duplicates_are_the_only_ones(tmp_path: Path) -> None:
    planted = Planted(3_000)
    rows = np.array(planted.write(tmp_path / "embeddings")).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    cosines = rows @ rows.T
    copies = planted.copies
    assert len(copies) == 600
    assert (cosines[copies, planted.original[copies]] > NEAREST - 1e-3).all()
    assert (planted.score[copies] < planted.score[planted.original[copies]]).all()
    originals = np.setdiff1d(np.arange(3_000), copies)
    others = cosines[np.ix_(originals, originals)]
    assert (others >= THRESHOLD).sum() == len(originals)  # each to itself


def test_select_drops_them_and_the_benchmark_sees_it(tmp_path: Path) -> None:
    planted = Planted(3_000)
    table = Embedded(Folder(tmp_path / "table"), planted, 800)
    counts = table.run().counts
    assert (counts.rows, counts.kept, len(table.folder.sizes())) == (3_000, 3_000, 5)
    ours(table, tmp_path / "out")
    lost = dropped(tmp_path / "out")
    assert sorted(lost) == planted.copies.tolist()
    assert judge(planted, lost) == (0.0, 0)
    share, others = judge(planted, np.append(lost[:300], planted.original[lost[0]]))
    assert (round(share, 6), others) == (50.0, 1)


def test_peers() -> None:
    wall, missed = few(2_000, 3)
    assert set(wall.peers) == set(missed.peers) == {"faiss IVF", "all pairs", "one cluster a row"}
    assert missed.ours == 0
    assert missed.peers["faiss IVF"] < 5
