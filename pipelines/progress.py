"""How a run shows itself: one live line a stage on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from curation.caption.stage import CaptionStage
from curation.encode.stage import Encode
from curation.fragments import Counts, Fragment, Manifest
from curation.score.stage import ScoreStage
from curation.stage import Stage
from curation.units import format_bytes
from pipelines.curate import Watcher

LINE_SECONDS = 10.0
"""Where there is no terminal: at most one line in this many seconds."""


class Progress(Watcher):
    """Rows, kept share, rate, time left; of fetch also MB/s and bytes saved by early abort."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._counts = Counts()
        self._rows: int | None = None
        self._started = self._last_line = 0.0
        self._done_before = 0

    def stage_starts(self, stage: Stage, rows: int | None, done: int) -> None:
        self._counts, self._rows, self._done_before = Counts(), rows, done
        self._started = self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(Text(f"{stage.name:>7}  …"), console=self._console, transient=True, refresh_per_second=4)
            self._live.start()
        else:
            again = f", {done:,} of them done before" if done else ""
            self._console.print(f"{stage.name}: starts" + (f" with {rows:,} rows{again}" if rows is not None else ""))

    def fragment(self, stage: Stage, fragment: Fragment) -> None:
        self._counts = self._counts + fragment.counts
        now = time.monotonic()
        if self._live is not None:
            self._live.update(Text(f"{stage.name:>7}  {self._line(stage, now)}"))
        elif now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self._console.print(f"{stage.name}: {self._line(stage, now)}")

    def _line(self, stage: Stage, now: float) -> str:
        counts, seconds = self._counts, max(now - self._started, 1e-9)
        rate = counts.rows / seconds
        total = self._rows or 0
        done = self._done_before + counts.rows
        parts = [
            f"{done:,}/{total:,} rows",
            f"{counts.kept / max(counts.rows, 1):.1%} kept",
            *_rates(stage, counts, seconds),
        ]
        if "bytes_received" in counts.sums:
            parts.append(f"{counts.sums['bytes_received'] / seconds / 1e6:.1f} MB/s")
            parts.append(f"{format_bytes(counts.sums['bytes_saved'])} saved")
        if rate and total > done:
            parts.append(f"{clock((total - done) / rate)} left")
        return "  ".join(parts)

    def stage_ends(self, stage: Stage, manifest: Manifest, seconds: float, cached: bool) -> None:
        self.stop()
        counts = manifest.counts
        parts = [f"{counts.rows:,} rows", f"{counts.kept:,} kept"]
        parts += [f"{n:,} {what}" for n, what in ((counts.rejected, "rejected"), (counts.failed, "failed")) if n]
        parts.append("cached" if cached else f"{seconds:.1f} s")
        if isinstance(stage, ScoreStage | CaptionStage | Encode) and not cached and seconds:
            parts += _rates(stage, counts, seconds)
        if counts.sums.get("bytes_saved"):
            parts.append(f"{format_bytes(counts.sums['bytes_saved'])} saved by early abort")
        self._console.print(Text(f"{stage.name:>7}  " + "  ".join(parts)))

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _rates(stage: Stage, counts: Counts, seconds: float) -> list[str]:
    """How fast a stage goes, in the units of its work. Captions are texts of rows that were kept, of all kinds."""
    if isinstance(stage, CaptionStage):
        captions = counts.kept * len(stage.settings.kinds)
        tokens = counts.sums.get("captioning_tokens", 0)
        return [f"{_rate(captions / seconds)} captions/s", f"{_rate(tokens / seconds)} tokens/s"]
    rates = [f"{_rate(counts.rows / seconds)} {'images/s' if isinstance(stage, ScoreStage | Encode) else 'rows/s'}"]
    if isinstance(stage, Encode) and counts.kept:
        rates.append(f"{format_bytes(counts.sums['encoded_length'] / counts.kept)} a sample")
    return rates


def _rate(number: float) -> str:
    """Two digits at least: models on CPUs write less than one caption a second."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
