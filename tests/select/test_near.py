from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.select import near
from curation.select.near import near_duplicates


def by_definition(hashes: NDArray[np.uint64], k: int) -> list[int]:
    """An image is dropped if and only if it is within k bits of one that stays; the first such is named."""
    stays: list[int] = []
    winners = []
    for i, value in enumerate(hashes):
        close = np.flatnonzero(np.bitwise_count(hashes[stays] ^ value) <= k) if stays else np.empty(0, np.int64)
        winners.append(stays[close[0]] if len(close) else -1)
        if not len(close):
            stays.append(i)
    return winners


def clustered(rng: np.random.Generator, n: int, centres: int, flips: int) -> NDArray[np.uint64]:
    """Hashes around a few centres, each up to `flips` bits away: copies, near copies, chains of near copies."""
    hashes = rng.integers(0, 2**64, centres, dtype=np.uint64)[rng.integers(0, centres, n)]
    for _ in range(flips):
        flipped = hashes ^ (np.uint64(1) << rng.integers(0, 64, n).astype(np.uint64))
        hashes = np.where(rng.random(n) < 0.5, flipped, hashes)
    return hashes


SHAPES = {
    "one cluster": (600, 1, 12),
    "few clusters": (900, 30, 6),
    "pairs": (900, 400, 4),
    "all different": (600, 600, 0),
    "one": (1, 1, 1),
}


@pytest.mark.parametrize("k", range(9))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("base", "pairs"), [(near.BASE, near.PAIRS), (4, 97)])
def test_equals_the_definition(shape: str, k: int, base: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BASE", base)
    monkeypatch.setattr(near, "PAIRS", pairs)
    hashes = clustered(np.random.default_rng(k), *SHAPES[shape])
    assert near_duplicates(hashes, k).tolist() == by_definition(hashes, k)


@pytest.mark.parametrize("blocks", [0, 5, 6, 7, 9, 12])
def test_every_number_of_blocks_finds_the_same(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BASE", 64)
    monkeypatch.setattr(near, "_blocks", lambda left, right, k: blocks)
    hashes = clustered(np.random.default_rng(7), 300, 25, 7)
    assert near_duplicates(hashes, 4).tolist() == by_definition(hashes, 4)


def test_no_hashes() -> None:
    assert near_duplicates(np.empty(0, np.uint64), 4).tolist() == []


def test_extreme_hashes() -> None:
    hashes = np.array([0, 2**64 - 1, 1, 2**64 - 2, 2**63, 0], np.uint64)
    assert near_duplicates(hashes, 1).tolist() == [-1, -1, 0, 1, 0, 0]


def test_a_chain_breaks_at_what_was_dropped() -> None:
    # 0 takes 1 (one bit), so 1 takes nothing, and 3 (two bits from 0, one from 1) stays.
    assert near_duplicates(np.array([0b00, 0b01, 0b11], np.uint64), 1).tolist() == [-1, 0, -1]


def test_the_plan_sorts_more_tables_as_the_number_of_hashes_grows() -> None:
    assert near._blocks(100, 100, 4) == 0  # each with each
    assert 5 <= near._blocks(50_000, 50_000, 4) <= near._blocks(5_000_000, 5_000_000, 4)


def test_one_skewed_bucket() -> None:
    """48 bits are the same in all, so every table has huge runs."""
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**16, 20_000).astype(np.uint64) << np.uint64(20)
    winners = near_duplicates(hashes, 2)
    stays = hashes[winners < 0]
    assert (np.bitwise_count(hashes ^ hashes[np.where(winners < 0, np.arange(len(hashes)), winners)]) <= 2).all()
    assert (np.bitwise_count(stays[:, None] ^ stays) <= 2).sum() == len(stays)  # only each with itself
