"""How an ablation shows itself, as `curate ablate` runs it: the stages of its corpora, then a line for each student."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from curation.config.ablate import AblateConfig
from pipelines.ablate import Watcher, ablate
from pipelines.progress import Progress, clock


def ablate_and_show(config: AblateConfig, engine: str, address: str | None, console: Console) -> None:
    """Run the ablation, and end with its verdicts and where its files are."""
    progress = AblationProgress(console)
    try:
        found = ablate(config, engine=engine, address=address, watcher=progress)
    finally:
        progress.stop()
    for sentence in found.sentences:
        console.print(escape(sentence))
    console.print(f"numbers {escape(found.result)}")
    console.print(f"report  {escape(found.report)}")


class AblationProgress(Watcher):
    """A line for each student, with the time that is left; the stages of corpora as in a run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.curation: Progress = Progress(console)
        self._total = self._before = self._ready = 0
        self._started = 0.0

    def corpus(self, arm: str) -> None:
        self._console.print(Text(f"corpus of {arm}"))

    def students(self, total: int, done: int) -> None:
        self._total, self._before, self._started = total, done, time.monotonic()
        self._console.print(f"{total} students" + (f", {done} of them trained before" if done else ""))

    def student(self, arm: str, pair: int) -> None:
        self._ready += 1
        seconds = time.monotonic() - self._started
        new = self._ready - self._before
        left = self._total - self._ready
        pace = f"  {clock(seconds / new * left)} left" if new > 0 and left else ""
        self._console.print(Text(f"student {arm}-{pair}  {self._ready} of {self._total}{pace}"))

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.curation.stop()
