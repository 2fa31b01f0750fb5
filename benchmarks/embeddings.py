"""The table that `benchmarks/semantic.py` works on: embeddings in the shape of CLIP's, with planted duplicates.

A row is `mean + topic + own`, of length 1. The three parts have the spectrum of real embeddings (few strong directions,
many weak ones: variance falls like rank^-0.8, about 100 effective dimensions), and topics have unequal sizes (Zipf), so
clusters are cut through dense regions and many rows lie at borders. Two rows of one topic have cosine 0.57, of two
topics 0.2, give or take 0.1: none comes near the threshold by chance. A fifth of the rows are copies: their cosine to
their original is spread evenly between `NEAREST` and 1, and they lie off it in the same strong directions. Originals
score higher than their copies, so who has to go is known.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.fragments import Counts, Fragment, conform, outcome_schema
from curation.row import CLIP_EMBEDDING, KEPT, SOURCE_FIELDS, with_outcomes
from curation.stage import Solo
from curation.storage import Folder

WIDTH = 768
THRESHOLD = 0.95
NEAREST = 0.955
"""Least cosine of a copy to its original: not so near the threshold that float16 decides."""
COPIES = 5
"""One row in so many is a copy."""
CHUNK = 10_000

MEAN, TOPIC, OWN = 0.45, 0.6, 0.65
"""Weights of the three parts."""

SPECTRUM = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.4
SPECTRUM /= np.linalg.norm(SPECTRUM)


def directions(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Random directions with the spectrum: `[n, WIDTH]`, of length 1."""
    return unit(rng.standard_normal((n, WIDTH), dtype=np.float32) * SPECTRUM)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Planted:
    """`rows` embeddings whose duplicates are known."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rows = rows
        self._seed = seed
        self.original = np.arange(rows)
        """int64 `[rows]`: of which row each is a copy; of itself where it is none."""
        copies = rng.permutation(rows)[: rows // COPIES]
        originals = np.setdiff1d(self.original, copies)
        self.original[copies] = rng.choice(originals, len(copies))
        self.score = rng.standard_normal(rows).astype(np.float32)
        """float32 `[rows]`."""
        self.score[copies] = self.score[self.original[copies]] - rng.random(len(copies), dtype=np.float32) - 1e-3
        self._mean = directions(rng, 1)
        topics = max(rows // 300, 1)
        self._topics = directions(rng, topics)
        sizes = 1 / np.arange(10, topics + 10) ** 0.7
        self._topic = rng.choice(topics, rows, p=sizes / sizes.sum())

    @property
    def copies(self) -> NDArray[np.int64]:
        """Rows that have to go."""
        return np.flatnonzero(self.original != np.arange(self.rows))

    def write(self, path: Path) -> NDArray[np.float16]:
        """The embeddings, float16 `[rows, WIDTH]`, mapped from the new file `path`."""
        rng = np.random.default_rng(self._seed + 1)
        found = np.memmap(path, np.float16, "w+", shape=(self.rows, WIDTH))
        for start in range(0, self.rows, CHUNK):
            topics = self._topics[self._topic[start : start + CHUNK]]
            own = directions(rng, len(topics))
            found[start : start + CHUNK] = unit(MEAN * self._mean + TOPIC * topics + OWN * own)
        for start in range(0, len(self.copies), CHUNK):
            copies = self.copies[start : start + CHUNK]
            base = unit(found[self.original[copies]].astype(np.float32))
            away = directions(rng, len(copies))
            away = unit(away - np.einsum("nd,nd->n", away, base)[:, None] * base)
            cosine = rng.uniform(NEAREST, 1, (len(copies), 1)).astype(np.float32)
            found[copies] = cosine * base + np.sqrt(1 - cosine**2) * away
        return found


class Embedded(Solo):
    """A stage before select that left `planted` with its embeddings, in fragments of `fragment_rows`."""

    name = "score"

    def __init__(self, output: Folder, planted: Planted, fragment_rows: int) -> None:
        super().__init__(output, None, {"rows": planted.rows, "fragment_rows": fragment_rows})
        self._planted = planted
        self._fragment_rows = fragment_rows

    @property
    def schema(self) -> pa.Schema:
        return outcome_schema(
            SOURCE_FIELDS,
            [
                pa.field("width", pa.int32()),
                pa.field("height", pa.int32()),
                pa.field("length", pa.int64()),
                pa.field("source_sha256", pa.string()),
                pa.field("aesthetic", pa.float32()),
                pa.field(CLIP_EMBEDDING, pa.list_(pa.float16(), WIDTH)),
            ],
        )

    def build(self) -> list[Fragment]:
        with tempfile.TemporaryDirectory() as folder:
            embeddings = self._planted.write(Path(folder) / "embeddings")
            starts = range(0, self._planted.rows, self._fragment_rows)
            return [self._fragment(i, start, embeddings) for i, start in enumerate(starts)]

    def _fragment(self, partition: int, start: int, embeddings: NDArray[np.float16]) -> Fragment:
        names = [f"{i:032x}" for i in range(start, min(start + self._fragment_rows, self._planted.rows))]
        part = embeddings[start : start + len(names)]
        columns = {
            "uid": names,
            "source": ["laion"] * len(names),
            "url": [f"https://images.example/{name}.jpg" for name in names],
            "width": np.full(len(names), 1024, np.int32),
            "height": np.full(len(names), 1024, np.int32),
            "length": np.full(len(names), 300_000),
            "source_sha256": [name * 2 for name in names],
            "aesthetic": self._planted.score[start : start + len(names)],
            CLIP_EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), WIDTH),
        }
        name = f"p{partition:06d}-00000000-end.parquet"
        self.folder.write_table(name, conform(with_outcomes(pa.table(columns), [KEPT] * len(names)), self.schema))
        return Fragment(name, Counts(len(names), kept=len(names)))
