"""Perceptual duplicates: which of n 64-bit hashes lie within k bits of a larger image's hash, without all pairs.

Greedy and exact: images come in rank order (largest first), and an image is dropped if and only if its hash is within
k bits of an image that stays. Candidates come from banding: cut the hash into m blocks; two hashes at most k bits apart
differ in at most k blocks, so they agree on some m - k of them (pigeonhole; Manku, Jain and Sarma 2007, "Detecting
near-duplicates for web crawling", §3). Each choice of m - k blocks is a table that is sorted by those bits; only equal
runs are compared. m is chosen so that the tables' sorts and the comparisons together cost least.

Whole clusters of like images cost little: the ranks are solved in halves, and those that stay of the first half are
matched with what is left of the second before that is looked at, so that an image which is dropped is never compared
with its whole cluster. `curation.select.decide` calls this.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

BITS = 64
BASE = 1024
"""So few images are compared each with each."""
PAIRS = 1 << 21
"""Pairs compared at once: 2 Mi pairs take about 100 MB."""

# Seconds, measured with NumPy 2.4 on one core; only their ratios matter.
SORT_COST = 75e-9  # one hash in one table: key, sort, binary search
PAIR_COST = 40e-9  # one candidate pair: gather, compare
BRUTE_COST = 4e-9  # one pair of all pairs

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]


def near_duplicates(hashes: Hashes, k: int) -> Indices:
    """For each of n hashes in rank order (uint64 `[n]`), who displaces it: int64 `[n]`, -1 for those that stay.

    Where several images that stay are within `k` bits, the first in rank order is named. Time grows a little faster
    than n; memory is about 100 bytes a hash, and 100 MB for pairs.
    """
    if not len(hashes):
        return np.empty(0, np.int64)
    values, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    of_value = rank[inverse]  # [n]: which distinct hash, numbered by first appearance
    first = first[order]
    winner = np.full(len(order), -1, np.int64)
    if k > 0:
        _solve(values[order], k, winner, 0, len(order))
    stays = winner < 0
    displaced_by = first[np.where(stays, np.arange(len(order)), winner)][of_value]
    displaced_by[first[stays]] = -1
    return displaced_by


def _solve(hashes: Hashes, k: int, winner: Indices, start: int, end: int) -> None:
    """Fill `winner[start:end]`, whose entries may already name a winner of a rank before `start`."""
    if end - start <= BASE:
        _solve_all_pairs(hashes, k, winner, start, end)
        return
    middle = (start + end) // 2
    _solve(hashes, k, winner, start, middle)
    stay = start + np.flatnonzero(winner[start:middle] < 0)
    rest = middle + np.flatnonzero(winner[middle:end] < 0)
    best = _first_match(hashes[stay], hashes[rest], k)
    found = best < len(stay)
    winner[rest[found]] = stay[best[found]]
    _solve(hashes, k, winner, middle, end)


def _solve_all_pairs(hashes: Hashes, k: int, winner: Indices, start: int, end: int) -> None:
    rows = start + np.flatnonzero(winner[start:end] < 0)
    part = hashes[rows]
    near = np.triu(np.bitwise_count(part[:, None] ^ part) <= k, 1)
    for i in np.flatnonzero(near.any(axis=1)):
        if winner[rows[i]] < 0:
            later = rows[near[i]]
            winner[later[winner[later] < 0]] = rows[i]


def _first_match(left: Hashes, right: Hashes, k: int) -> Indices:
    """For each hash of `right`, the lowest index into `left` within `k` bits; `len(left)` where there is none."""
    best = np.full(len(right), len(left), np.int64)
    blocks = _blocks(len(left), len(right), k) if len(left) and len(right) else 0
    for a, b in _candidates(left, right, k, blocks):
        near = np.bitwise_count(left[a] ^ right[b]) <= k
        np.minimum.at(best, b[near], a[near])
    return best


def _candidates(left: Hashes, right: Hashes, k: int, blocks: int) -> Iterator[tuple[Indices, Indices]]:
    """Index pairs that may be near; every pair that is near comes at least once. `blocks` 0: all pairs."""
    if not blocks:
        yield from _expand(np.arange(len(left)), np.zeros(len(left), np.int64), np.full(len(left), len(right)))
        return
    for kept in combinations(range(blocks), blocks - k):
        # Key and index share one uint64: sorting plain integers is many times faster than argsort. A key that is too
        # long loses its upper bits, which can only add candidates.
        index_bits = np.uint64(max(len(left), len(right)).bit_length())
        low = (np.uint64(1) << index_bits) - np.uint64(1)
        ours = np.sort(_key(left, kept, blocks) << index_bits | np.arange(len(left), dtype=np.uint64))
        theirs = np.sort(_key(right, kept, blocks) << index_bits | np.arange(len(right), dtype=np.uint64))
        starts = np.searchsorted(theirs, ours & ~low)
        ends = np.searchsorted(theirs, ours | low, side="right")
        found = ends > starts
        owners = (ours[found] & low).astype(np.int64)
        members = (theirs & low).astype(np.int64)
        for a, b in _expand(owners, starts[found], ends[found]):
            yield a, members[b]


def _expand(owners: Indices, starts: Indices, ends: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Each owner with each index of its range, at most `PAIRS` pairs at a time, however skewed the ranges are."""
    before = np.concatenate([[0], np.cumsum(ends - starts)])
    for low in range(0, int(before[-1]), PAIRS):
        high = min(low + PAIRS, int(before[-1]))
        i, j = np.searchsorted(before, [low, high - 1], side="right") - 1
        part = slice(i, j + 1)
        counts = np.minimum(before[1:][part], high) - np.maximum(before[:-1][part], low)
        shift = np.repeat(starts[part] - before[:-1][part], counts)
        yield np.repeat(owners[part], counts), np.arange(low, high) + shift


def _key(hashes: Hashes, kept: tuple[int, ...], blocks: int) -> Hashes:
    """The bits of the kept blocks, side by side in the low bits."""
    key = np.zeros_like(hashes)
    for block in kept:
        start, end = BITS * block // blocks, BITS * (block + 1) // blocks
        mask = np.uint64((1 << (end - start)) - 1)
        key = key << np.uint64(end - start) | (hashes >> np.uint64(start) & mask)
    return key


@lru_cache(maxsize=1024)
def _blocks(left: int, right: int, k: int) -> int:
    """The number of blocks with the least estimated cost, or 0 where comparing all pairs is cheaper."""
    best, least = 0, left * right * BRUTE_COST
    for blocks in range(k + 1, k + 9):
        tables = comb(blocks, k)
        bits = BITS * (blocks - k) / blocks
        cost = tables * ((left + right) * SORT_COST + left * right / 2**bits * PAIR_COST)
        if cost < least:
            best, least = blocks, cost
    return best
