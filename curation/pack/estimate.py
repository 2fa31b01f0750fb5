"""How many bytes a sample will take in its shard, before it is encoded: shards are cut by this.

`layout.py` makes one `Estimate` a run, from the first samples in shard order, encoded for real.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curation.bank import ImageBank
from curation.errors import CorruptionError
from curation.pack.buckets import parse_size
from curation.pack.sample import Sample, SampleMaker
from curation.tar import BLOCK

CALIBRATION_SAMPLES = 64
FEW = 8
"""A stored format seen less often than this takes the factor of all formats together."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of an image = bytes it has in the bank, times the share of its pixels that are left, times a factor."""

    factor: float = 1.0
    by_format: dict[str, float] = field(default_factory=dict)
    beside: float = 0.0
    """Bytes of a sample that are not its image: headers, caption, JSON."""

    def of(self, table: pa.Table) -> list[int]:
        """Bytes in the shard of each row; whole numbers of at least one tar block."""
        factors = np.array([self.by_format.get(name, self.factor) for name in table["stored_format"].to_pylist()])
        estimates = _scaled_length(table) * factors + self.beside
        return [max(BLOCK, round(estimate)) for estimate in estimates.tolist()]


def calibrate(table: pa.Table, bank: ImageBank, maker: SampleMaker) -> Estimate:
    """The estimate that fits the rows of `table` (with `bucket`), which are encoded for it; not the damaged ones."""
    lengths = _scaled_length(table)
    given: dict[str, float] = defaultdict(float)
    got: dict[str, int] = defaultdict(int)
    seen: dict[str, int] = defaultdict(int)
    beside: list[int] = []
    for row, length in zip(maker.rows(table), lengths.tolist(), strict=True):
        try:
            sample = maker.make(row, bank.read(row["tar"], row["offset"], row["length"], row["sha256"]))
        except CorruptionError:
            continue  # its own outcome comes with its shard
        name = row["stored_format"]
        given[name] += length
        got[name] += len(sample.image)
        seen[name] += 1
        beside.append(_in_tar(sample) - len(sample.image))
    if not beside:
        return Estimate()
    by_format = {name: got[name] / given[name] for name in sorted(seen) if seen[name] >= FEW}
    return Estimate(sum(got.values()) / sum(given.values()), by_format, sum(beside) / len(beside))


def _scaled_length(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bytes in the bank times target pixels over stored pixels, for each row; float64 [N]."""
    stored = np.array(table["width"].to_pylist(), np.float64) * np.array(table["height"].to_pylist(), np.float64)
    sizes = np.array([parse_size(name) for name in table["bucket"].to_pylist()], np.float64).reshape(-1, 2)
    return np.array(table["length"].to_pylist(), np.float64) * sizes[:, 0] * sizes[:, 1] / stored


def _in_tar(sample: Sample) -> int:
    return sum(BLOCK + len(data) + -len(data) % BLOCK for data in (sample.image, sample.txt, sample.json))
