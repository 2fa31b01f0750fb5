"""How many bytes a sample will take in its shard, before it is encoded: shards are cut by this.

`layout.py` makes one `Estimate` a run, from the first samples in shard order, encoded for real.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from curation.bank import ImageBank
from curation.errors import CorruptionError
from curation.pack.buckets import parse_size
from curation.pack.sample import Sample, SampleMaker
from curation.tar import BLOCK

CALIBRATION_SAMPLES = 64
FEW = 8
"""A stored format seen less often than this is estimated by its pixels alone."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of an image = bytes in the bank, times the share of its pixels that are left, times its format's factor."""

    factors: dict[str, float] = field(default_factory=dict)
    """By stored format."""
    per_pixel: float = 0.5
    """Bytes of a pixel in the shard; for formats without a factor."""
    beside: float = 4 * BLOCK
    """Bytes of a sample that are not its image: headers, caption, JSON."""

    def of(self, table: pa.Table) -> list[int]:
        """Bytes in the shard of each row; whole numbers of at least one tar block."""
        estimates = []
        for name, length, share, pixels in _sizes(table):
            image = length * share * self.factors[name] if name in self.factors else pixels * self.per_pixel
            estimates.append(max(BLOCK, round(image + self.beside)))
        return estimates


def calibrate(table: pa.Table, bank: ImageBank, maker: SampleMaker) -> Estimate:
    """The estimate that fits the rows of `table` (with `bucket`), which are encoded for it; not the damaged ones."""
    given: dict[str, float] = defaultdict(float)
    got: dict[str, int] = defaultdict(int)
    seen: dict[str, int] = defaultdict(int)
    all_pixels, beside = 0, 0
    for row, (name, length, share, pixels) in zip(maker.rows(table), _sizes(table), strict=True):
        try:
            sample = maker.make(row, bank.read(row["tar"], row["offset"], row["length"], row["sha256"]))
        except CorruptionError:
            continue  # its own outcome comes with its shard
        given[name] += length * share
        got[name] += len(sample.image)
        seen[name] += 1
        all_pixels += pixels
        beside += _in_tar(sample) - len(sample.image)
    if not seen:
        return Estimate()
    factors = {name: got[name] / given[name] for name in sorted(seen) if seen[name] >= FEW}
    return Estimate(factors, sum(got.values()) / all_pixels, beside / sum(seen.values()))


def _sizes(table: pa.Table) -> Iterator[tuple[str, int, float, int]]:
    """For each row: stored format, bytes in the bank, target pixels over stored pixels, target pixels."""
    columns = [table[name].to_pylist() for name in ("stored_format", "length", "width", "height", "bucket")]
    for name, length, width, height, bucket in zip(*columns, strict=True):
        target_width, target_height = parse_size(bucket)
        pixels = target_width * target_height
        yield name, length, pixels / (width * height), pixels


def _in_tar(sample: Sample) -> int:
    return sum(BLOCK + len(data) + -len(data) % BLOCK for data in (sample.image, sample.txt, sample.json))
