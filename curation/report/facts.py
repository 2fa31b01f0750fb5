"""What a report shows, as plain data: `collect` makes it from an output folder, `render` turns it into HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from curation.report.model_facts import CaptioningFacts, CaptionText, EncodingFacts, ScoringFacts
from curation.report.record import RunRecord
from curation.report.shapes import Heat, Histogram
from curation.row import Outcome


@dataclass(frozen=True)
class ReasonFacts:
    """How many rows of a stage were dropped for one reason."""

    reason: str
    outcome: Outcome
    count: int


@dataclass(frozen=True)
class StageFacts:
    """One stage. `kept + rejected + failed = rows`, and `rows + pending = rows_in`, always."""

    name: str
    folder: str
    state: Literal["done", "unfinished", "not started"]
    cached: bool
    """It was finished before this run started."""
    seconds: float
    """Wall time spent on it, over all runs that worked on it."""
    rows_in: int
    """Rows that the stage before kept (for the first stage: all rows of the list)."""
    rows: int
    """Rows that have an outcome."""
    kept: int
    rejected: int
    failed: int
    reasons: tuple[ReasonFacts, ...] = ()
    """Most frequent first."""

    @property
    def pending(self) -> int:
        """Rows that wait for their outcome."""
        return self.rows_in - self.rows

    @property
    def rows_per_s(self) -> float | None:
        """Rows that got their outcome, a second; None while the stage is unfinished."""
        return self.rows / self.seconds if self.state == "done" and self.rows and self.seconds else None


@dataclass(frozen=True)
class HostFacts:
    """A host that failed often."""

    host: str
    rows: int
    kept: int
    failed: int
    reason: str
    """Its most frequent failure."""


@dataclass(frozen=True)
class NetworkFacts:
    """What crossed the network for the fetch stage. Bytes, milliseconds."""

    received: int = 0
    saved: int = 0
    """Bytes that stopping early left on the server."""
    stopped_early: int = 0
    """Rows whose transfer was stopped early."""
    tries: int = 0
    statuses: tuple[tuple[int, int], ...] = ()
    """(HTTP status, rows), most frequent first."""
    elapsed: Histogram | None = None
    hosts: tuple[HostFacts, ...] = ()
    host_count: int = 0


@dataclass(frozen=True)
class CorpusFacts:
    """The shards."""

    samples: int = 0
    shards: int = 0
    bytes: int = 0
    buckets: tuple[tuple[int, int, int], ...] = ()
    """(width, height, samples), from tall to wide."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture made here, never the stored bytes."""

    jpeg: bytes
    width: int
    height: int
    """Pixels; the longer side has at most 256."""


@dataclass(frozen=True)
class Sample:
    """One row that the report shows. All text is untrusted."""

    uid: str
    url: str
    host: str
    caption: str
    detail: str
    width: int | None
    height: int | None
    bucket: str = ""
    """ "WIDTH×HEIGHT", pixels."""
    columns: tuple[tuple[str, str], ...] = ()
    """A few further columns: name, value."""
    thumbnail: Thumbnail | None = None
    twin: str | None = None
    """The uid of the row that was kept instead, for duplicates."""
    twin_thumbnail: Thumbnail | None = None
    texts: tuple[CaptionText, ...] = ()
    """Captions of all kinds, where the sample is about them."""


@dataclass(frozen=True)
class RejectedSamples:
    """Some rows that one rule dropped."""

    stage: str
    reason: str
    outcome: Outcome
    count: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class RunFacts:
    """Everything that a report shows."""

    record: RunRecord
    stages: tuple[StageFacts, ...]
    histograms: tuple[Histogram, ...] = ()
    heat: Heat | None = None
    network: NetworkFacts = field(default_factory=NetworkFacts)
    corpus: CorpusFacts = field(default_factory=CorpusFacts)
    kept: tuple[Sample, ...] = ()
    rejected: tuple[RejectedSamples, ...] = ()
    scoring: ScoringFacts | None = None
    """None where the run has no such stage, or it has no rows yet; `captioning` likewise."""
    captioning: CaptioningFacts | None = None
    captioned: tuple[Sample, ...] = ()
    """Some rows with all their captions."""
    encoding: EncodingFacts | None = None
    """None where the run has no such stage, or it has no rows yet."""

    @property
    def rows_in(self) -> int:
        """Rows of the list."""
        return self.stages[0].rows_in if self.stages else 0

    @property
    def reached(self) -> StageFacts | None:
        """The last stage that has rows, or is finished."""
        return next((stage for stage in reversed(self.stages) if stage.state != "not started"), None)

    @property
    def rows_kept(self) -> int:
        """Rows that the last stage reached has kept so far."""
        return self.reached.kept if self.reached else 0
