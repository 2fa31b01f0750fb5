"""How values are spread, as plain data: what the report's charts draw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """Counts of one measure over fixed bins, for all measured rows and for those kept in the end."""

    key: str
    title: str
    unit: str
    log: bool
    """The edges are spaced evenly in the logarithm."""
    edges: tuple[float, ...]
    """One more than there are bins; values beyond the ends are in the outer bins."""
    before: tuple[int, ...]
    after: tuple[int, ...]
    limits: tuple[tuple[float, str], ...] = ()
    """Thresholds of the config: value and label."""

    def median(self, counts: tuple[int, ...]) -> float | None:
        """The median of some counts, as near as the bins tell: interpolated within its bin. None for no rows."""
        half, below = sum(counts) / 2, 0
        for i, n in enumerate(counts):
            if n and below + n >= half:
                part, low, high = (half - below) / n, self.edges[i], self.edges[i + 1]
                return low * (high / low) ** part if self.log else low + (high - low) * part
            below += n
        return None


@dataclass(frozen=True)
class Heat:
    """Counts of images over width and height (pixels), in bins of 1/`steps` octave."""

    steps: int
    before: dict[tuple[int, int], int]
    """(bin of width, bin of height) → images; bin b holds sides from 2^(b/steps) to 2^((b+1)/steps)."""
    after: dict[tuple[int, int], int]
    min_side: int
    max_aspect: float | None


@dataclass(frozen=True)
class Lengths:
    """How long captions are: captions by length, exact up to a cap."""

    counts: tuple[tuple[int, int], ...] = ()
    """(length, captions), shortest first."""

    @property
    def total(self) -> int:
        return sum(n for _, n in self.counts)

    def quantile(self, part: float) -> int | None:
        """The smallest length that at least `part` (0 to 1) of the captions do not exceed; None for no captions."""
        left = part * self.total
        for length, n in self.counts:
            left -= n
            if left <= 0:
                return length
        return None
