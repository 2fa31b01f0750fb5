"""Semantic duplicates: which of n embeddings lie within an angle of a better row's, without all pairs.

After SemDeDup (Abbas, Tirumala, Simig, Ganguli and Morcos 2023): spherical k-means cuts the embeddings into clusters,
and rows are compared within clusters only. A pair whose rows fall on two sides of a border would be missed (one in
seven that `benchmarks/semantic.py` plants among a million), so a row is at home in the nearest cluster and a guest in
the next few: two rows are compared where one is at home and the other at home or a guest (one in a thousand missed).
Guests are not compared with each other, which saves most of the work: the centroids of mixed clusters lie near the
mean, where a twentieth of the table may be guests. Tables of up to `ALL_PAIRS` rows have one cluster and miss nothing.
Who of a pair stays is decided by rank, not by the distance from the centroid.

Greedy and, over the pairs compared, exact: rows come in rank order (best first), and a row is dropped if and only if it
is near a row that stays, as in `near`. To solve it all near pairs are gathered. Where they are too many for memory
(thousands of copies of one picture), the ranks are solved in halves: those that stay of the first half are matched with
the second before that is looked at, so that a crowd of copies falls to the few of it that stay.

The result depends on the rows and their ranks alone, not on the order in which they lie in memory. Sums of products
are rounded: another BLAS, kind of CPU or number of threads may put a row that lies between clusters (to 1e-6) into
another one, or see a pair whose cosine is within 1e-6 of the threshold on its other side.
`curation.select.decide` calls this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALL_PAIRS = 8192
"""So many rows are compared each with each: a second's work."""
CLUSTERS = 2.5
"""Clusters of n rows: so many times sqrt(n). More cost more training and save comparisons."""
JOINED = 8
"""Clusters that a row belongs to: one as its home, the others as a guest."""
SEED = 0
SAMPLE = 32
"""Rows a cluster that k-means sees, without their duplicates …"""
ITERATIONS = 8
"""… so many times. More change the clusters' shapes, but not how many pairs they lose."""
ROUNDING = 1e-6
"""Error of a float32 cosine. Embeddings that differ by their rounding to float16 alone have cosine 1 to 1e-7."""
PAIRS = 1 << 24
"""Near pairs that memory holds at once: 8 bytes each, a few times over while they are sorted."""
BLOCK = 8192
"""Rows of a cluster that are float32 at once: 25 MB …"""
TILE = 512
"""… and how many of them are compared with a block at once: 16 MB of cosines."""
CHUNK = 1 << 15
"""Rows that are put into clusters at once: 100 MB."""

Indices = NDArray[np.int64]
Embeddings = NDArray[np.float32]
Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]


def semantic_duplicates(vectors: NDArray[Any], order: Indices, threshold: float) -> Indices:
    """For each row in rank order, who displaces it: int64 `[n]`, a place in `order`; -1 for those that stay.

    `vectors`: float16 or float32 `[m, d]`, perhaps mapped from a file, finite and not zero; `order`: rows of it, best
    first, int64 `[n]`. A row is displaced where its cosine to one that stays is `threshold` or more; the best such is
    named. Time grows like n^1.5, memory by about 50 bytes a row beside `vectors`, and 1 GB. Needs faiss beyond
    `ALL_PAIRS` rows.
    """
    search = _Search(vectors, order, threshold - ROUNDING)
    search.solve(np.arange(len(order)))
    return search.winner


class _Search:
    """The rows by rank, the clusters that they joined, and who displaces whom so far."""

    def __init__(self, vectors: NDArray[Any], order: Indices, least: float) -> None:
        self._vectors, self._order, self._least = vectors, order, least
        self.winner = np.full(len(order), -1, np.int64)
        self._joined = self._join()

    def _rows(self, ranks: Indices) -> Embeddings:
        """Rows by rank, of length 1: `[len(ranks), d]`."""
        rows = self._vectors[self._order[ranks]].astype(np.float32)
        rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
        return rows

    def _join(self) -> NDArray[np.int32]:
        """The clusters of each row, nearest first, so its home first: `[n, JOINED]`, or `[n, 1]` for small tables."""
        n = len(self._order)
        if n <= ALL_PAIRS:
            return np.zeros((n, 1), np.int32)
        import faiss

        clusters = int(CLUSTERS * sqrt(n))
        sample = np.sort(np.random.default_rng(SEED).choice(n, min(n // 2, clusters * SAMPLE), replace=False))
        # A thousand copies of one picture would draw clusters in their proportion, and be cut apart by them.
        copies = semantic_duplicates(self._vectors, self._order[sample], self._least + ROUNDING) >= 0
        sample = sample[~copies]
        clusters = min(clusters, len(sample))
        kmeans = faiss.Kmeans(
            self._vectors.shape[1],
            clusters,
            niter=ITERATIONS,
            spherical=True,
            seed=SEED,
            min_points_per_centroid=1,
            max_points_per_centroid=len(sample),
        )
        kmeans.train(self._rows(sample))
        joined = np.empty((n, min(JOINED, clusters)), np.int32)
        for start in range(0, n, CHUNK):
            ranks = np.arange(start, min(start + CHUNK, n))
            joined[ranks] = kmeans.index.search(self._rows(ranks), joined.shape[1])[1]
        return joined

    def solve(self, ranks: Indices) -> None:
        """Fill `winner` for `ranks` (ascending), none of which is near a row outside them that stays."""
        pairs = self._near_pairs(ranks)
        if pairs is not None:
            self._displace(*pairs)
            return
        first, second = np.array_split(ranks, 2)
        self.solve(first)
        self._match(first[self.winner[first] < 0], second)
        self.solve(second[self.winner[second] < 0])

    def _near_pairs(self, ranks: Indices) -> Pairs | None:
        """All near pairs, the better one first, perhaps twice; None if they are more than `PAIRS`."""
        found: list[Pairs] = []
        count = 0
        groups = [(home, guests) for home, guests in self._clusters(ranks).values() if len(home)]
        groups.sort(key=lambda group: -len(group[0]) * (len(group[0]) + len(group[1])))  # crowds first: soon too many
        for home, guests in groups:
            for left in (home, guests):
                for i, j, near in self._tiles(left, home, upper=left is home):
                    a, b = np.nonzero(near)
                    a, b = left[a + i], home[b + j]
                    if left is home:
                        a, b = a[b > a], b[b > a]
                    found.append((np.minimum(a, b).astype(np.int32), np.maximum(a, b).astype(np.int32)))
                    count += len(a)
                    if count > PAIRS:
                        return None
        empty = np.empty(0, np.int32)
        return np.concatenate([empty, *(a for a, _ in found)]), np.concatenate([empty, *(b for _, b in found)])

    def _displace(self, better: NDArray[np.int32], worse: NDArray[np.int32]) -> None:
        """Let each row of the pairs that stays displace those that it is better than, the best row first."""
        order = np.argsort(better, kind="stable")
        better, worse = better[order], worse[order]
        starts = np.flatnonzero(np.diff(better, prepend=-1, append=-1))
        for start, end in pairwise(starts.tolist()):
            if self.winner[better[start]] < 0:
                later = worse[start:end]
                self.winner[later[self.winner[later] < 0]] = better[start]

    def _match(self, stay: Indices, rest: Indices) -> None:
        """Let rows that stay displace what of `rest` is near them."""
        best = np.full(len(self._order), len(self._order), np.int64)
        others = self._clusters(rest)
        for cluster, (home, guests) in self._clusters(stay).items():
            for ours, theirs in zip((home, home, guests), (*others[cluster], others[cluster][0]), strict=True):
                for i, j, near in self._tiles(theirs, ours):
                    found = np.flatnonzero(near.any(axis=1))
                    first = ours[j + near[found].argmax(axis=1)]
                    losers = theirs[i + found]
                    best[losers] = np.minimum(best[losers], first)
        lost = rest[best[rest] < len(best)]
        self.winner[lost] = best[lost]

    def _clusters(self, ranks: Indices) -> dict[int, tuple[Indices, Indices]]:
        """Who of `ranks` is at home in each cluster and who is a guest, in their order."""
        homes = _grouped(self._joined[ranks, :1], ranks)
        guests = _grouped(self._joined[ranks, 1:], ranks)
        none = np.empty(0, np.int64)
        return defaultdict(
            lambda: (none, none), {c: (homes.get(c, none), guests.get(c, none)) for c in homes.keys() | guests.keys()}
        )

    def _tiles(
        self, left: Indices, right: Indices, upper: bool = False
    ) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """Which of `left` are near which of `right`, a tile at a time: its first row and column, and what is near.
        `upper`: both are the same, and pairs (i, j > i) are enough."""
        for j in range(0, len(right), BLOCK):
            theirs = self._rows(right[j : j + BLOCK])
            for i in range(0, j + 1 if upper else len(left), BLOCK):
                diagonal = upper and i == j
                ours = theirs if diagonal else self._rows(left[i : i + BLOCK])
                for k in range(0, len(ours), TILE):
                    skipped = k if diagonal else 0
                    yield i + k, j + skipped, ours[k : k + TILE] @ theirs[skipped:].T >= self._least


def _grouped(clusters: NDArray[np.int32], ranks: Indices) -> dict[int, Indices]:
    """`ranks` by each of their `clusters`, `[n, any]`."""
    flat = clusters.ravel()
    order = np.argsort(flat, kind="stable")
    names, starts = np.unique(flat[order], return_index=True)
    parts = np.split(np.repeat(ranks, clusters.shape[1])[order], starts[1:])
    return dict(zip(names.tolist(), parts, strict=False))  # of no ranks, `split` makes one empty part
