"""Semantic duplicates: which of n embeddings lie within an angle of a better row's, without all pairs.

After SemDeDup (Abbas, Tirumala, Simig, Ganguli and Morcos 2023): spherical k-means cuts the embeddings into clusters,
and rows are compared within clusters only. A pair whose rows fall on two sides of a border would be missed, so each row
joins its two nearest clusters; two rows are compared where they share one. Tables of up to `ALL_PAIRS` rows have no
clusters and miss nothing. What SemDeDup leaves to chance or to the distance from the centroid, who of a pair stays, is
decided by rank here.

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

from collections.abc import Iterator
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALL_PAIRS = 8192
"""So many rows are compared each with each: a second's work."""
JOINED = 2
"""Clusters that a row belongs to."""
SEED = 0
SAMPLE = 32
"""Rows a cluster that k-means sees …"""
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
        """The clusters of each row, nearest first: `[n, JOINED]`, or `[n, 1]` for small tables."""
        n = len(self._order)
        if n <= ALL_PAIRS:
            return np.zeros((n, 1), np.int32)
        import faiss

        # Putting n rows into k clusters takes n k products, comparing them about (JOINED n)^2 / 2k: least near here,
        # with something for training and for clusters of unequal size.
        clusters = isqrt(n) * 3 // 2
        sample = np.sort(np.random.default_rng(SEED).choice(n, min(n, clusters * SAMPLE), replace=False))
        kmeans = faiss.Kmeans(
            self._vectors.shape[1],
            clusters,
            niter=ITERATIONS,
            spherical=True,
            seed=SEED,
            min_points_per_centroid=1,
            max_points_per_centroid=SAMPLE,
        )
        kmeans.train(self._rows(sample))
        joined = np.empty((n, JOINED), np.int32)
        for start in range(0, n, CHUNK):
            ranks = np.arange(start, min(start + CHUNK, n))
            joined[ranks] = kmeans.index.search(self._rows(ranks), JOINED)[1]
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
        members = self._members(ranks)
        for cluster in sorted(members, key=lambda c: -len(members[c])):  # crowds stand in large clusters: soon too many
            ours = members[cluster].astype(np.int32)
            for i, j, near in self._tiles(members[cluster], members[cluster], upper=True):
                a, b = np.nonzero(near)
                a, b = a + i, b + j
                later = b > a
                found.append((ours[a[later]], ours[b[later]]))
                count += len(found[-1][0])
                if count > PAIRS:
                    return None
        empty = np.empty(0, np.int32)
        return np.concatenate([empty, *(a for a, _ in found)]), np.concatenate([empty, *(b for _, b in found)])

    def _displace(self, better: NDArray[np.int32], worse: NDArray[np.int32]) -> None:
        """Let each row of the pairs that stays displace those that it is better than, the best row first."""
        order = np.argsort(better, kind="stable")
        better, worse = better[order], worse[order]
        starts = np.flatnonzero(np.diff(better, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(better)], strict=True):
            if self.winner[better[start]] < 0:
                later = worse[start:end]
                self.winner[later[self.winner[later] < 0]] = better[start]

    def _match(self, stay: Indices, rest: Indices) -> None:
        """Let rows that stay displace what of `rest` is near them."""
        best = np.full(len(self._order), len(self._order), np.int64)
        others = self._members(rest)
        for cluster, ours in self._members(stay).items():
            theirs = others.get(cluster)
            if theirs is None:
                continue
            for i, j, near in self._tiles(theirs, ours):
                found = i + np.flatnonzero(near.any(axis=1))
                first = ours[j + near[found - i].argmax(axis=1)]
                best[theirs[found]] = np.minimum(best[theirs[found]], first)
        lost = rest[best[rest] < len(best)]
        self.winner[lost] = best[lost]

    def _members(self, ranks: Indices) -> dict[int, Indices]:
        """Which of `ranks` belong to each cluster, in their order."""
        joined = self._joined[ranks].ravel()
        order = np.argsort(joined, kind="stable")
        clusters, starts = np.unique(joined[order], return_index=True)
        parts = np.split(np.repeat(ranks, self._joined.shape[1])[order], starts[1:])
        return dict(zip(clusters.tolist(), parts, strict=True)) if len(ranks) else {}

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
