from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.select import semantic
from curation.select.semantic import semantic_duplicates


def by_definition(vectors: NDArray[Any], order: NDArray[np.int64], threshold: float) -> list[int]:
    """A row is dropped if and only if it is near one that stays; the best such is named."""
    rows = vectors[order].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = rows @ rows.T >= threshold - 1e-6
    stays: list[int] = []
    winners = []
    for i in range(len(rows)):
        close = np.flatnonzero(near[i, stays])
        winners.append(stays[close[0]] if len(close) else -1)
        if not len(close):
            stays.append(i)
    return winners


def crowded(n: int, centres: int, spread: float, width: int = 16, seed: int = 0) -> NDArray[np.float16]:
    """Embeddings around a few centres: copies, near copies, chains of near copies."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((centres, width))[rng.integers(0, centres, n)]
    rows += spread * rng.standard_normal((n, 1)) * rng.standard_normal((n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def shuffled(n: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(n)


SHAPES = {
    "one crowd": (400, 1, 0.2),
    "few crowds": (500, 30, 0.3),
    "pairs": (500, 250, 0.2),
    "all different": (300, 300, 0.5),
    "one row": (1, 1, 0.0),
}


@pytest.mark.parametrize("threshold", [1.0, 0.97, 0.8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("pairs", "block", "tile"), [(1 << 24, 8192, 512), (40, 29, 7)])
def test_without_clusters_equals_the_definition(
    shape: str, threshold: float, pairs: int, block: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PAIRS", pairs), ("BLOCK", block), ("TILE", tile)):
        monkeypatch.setattr(semantic, name, value)
    vectors = crowded(*SHAPES[shape])
    order = shuffled(len(vectors))
    assert semantic_duplicates(vectors, order, threshold).tolist() == by_definition(vectors, order, threshold)


@pytest.mark.parametrize("pairs", [1 << 24, 50])
def test_with_clusters_it_is_greedy_over_the_pairs_that_are_compared(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic, "ALL_PAIRS", 100)
    monkeypatch.setattr(semantic, "PAIRS", pairs)
    vectors = crowded(1500, 400, 0.3)
    order = shuffled(1500)
    search = semantic._Search(vectors, order, 0.9)
    search.solve(np.arange(1500))
    rows = vectors[order].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    home, joined = search._joined[:, 0], search._joined
    assert joined.shape == (1500, semantic.JOINED)
    compared = (home[:, None, None] == joined).any(axis=2)
    near = (rows @ rows.T >= 0.9) & (compared | compared.T)
    stays: list[int] = []
    for i in range(1500):
        close = np.flatnonzero(near[i, stays])
        assert search.winner[i] == (stays[close[0]] if len(close) else -1)
        if not len(close):
            stays.append(i)
    assert 0 < len(stays) < 1500


def missed(joined: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Share of pairs that stayed both, among embeddings without any clusters: the most borders that there can be."""
    monkeypatch.setattr(semantic, "ALL_PAIRS", 100)
    monkeypatch.setattr(semantic, "JOINED", joined)
    rng = np.random.default_rng(0)
    one = rng.standard_normal((2000, 32))
    two = one + 0.2 * rng.standard_normal((2000, 32))  # cosine 0.98
    winner = semantic_duplicates(np.concatenate([one, two]).astype(np.float32), np.arange(4000), 0.95)
    assert (winner[:2000] < 0).all()
    lost = winner[2000:] >= 0
    assert (winner[2000:][lost] == np.flatnonzero(lost)).all()
    return 1 - lost.mean()


def test_pairs_across_the_borders_of_clusters_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missed(1, monkeypatch) > 0.05
    assert missed(8, monkeypatch) < 0.005


def test_the_place_of_a_row_in_memory_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "ALL_PAIRS", 100)
    vectors = crowded(2000, 500, 0.3)
    order = shuffled(2000)
    moved = shuffled(2000, seed=5)
    places = np.argsort(moved)
    np.testing.assert_array_equal(
        semantic_duplicates(vectors, order, 0.9), semantic_duplicates(vectors[moved], places[order], 0.9)
    )


def test_rows_outside_the_order_take_no_part() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]]
    assert semantic_duplicates(vectors, np.array([1, 4, 3, 2]), 0.9).tolist() == [-1, -1, -1, 2]
    assert semantic_duplicates(vectors, np.empty(0, np.int64), 0.9).tolist() == []


def test_at_threshold_1_only_what_rounding_tells_apart() -> None:
    exact = np.random.default_rng(0).standard_normal((1, 768)).astype(np.float32)
    exact /= np.linalg.norm(exact)
    off = exact + 0.02 * np.roll(exact, 1)  # cosine 0.9998
    vectors = np.concatenate([exact, exact.astype(np.float16), 3 * exact, off, -exact])
    assert semantic_duplicates(vectors, np.arange(5), 1.0).tolist() == [-1, 0, 0, -1, -1]


def test_a_chain_breaks_at_what_was_dropped() -> None:
    angles = np.radians([0, 20, 40])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # 0 takes 1 (20 degrees), so 1 takes nothing, and 2 (40 degrees from 0, 20 from 1) stays.
    assert semantic_duplicates(vectors, np.arange(3), np.cos(np.radians(25))).tolist() == [-1, 0, -1]
    assert semantic_duplicates(vectors, np.array([1, 0, 2]), np.cos(np.radians(25))).tolist() == [-1, 0, 0]


def test_a_crowd_is_neither_cut_apart_by_clusters_nor_held_in_memory_pair_by_pair() -> None:
    """9,000 copies of one picture have 40 million pairs."""
    others = np.random.default_rng(1).standard_normal((1000, 16))
    vectors = np.concatenate([crowded(9000, 1, 0.001), others])
    winner = semantic_duplicates(vectors, shuffled(10_000), 0.99)
    crowd = shuffled(10_000) < 9000
    assert (winner[crowd] < 0).sum() == 1
    first = np.flatnonzero(crowd)[0]
    assert (winner[crowd][1:] == first).all()
    assert (winner[~crowd] < 0).all()
