"""A training at a terminal: a live line, or plain lines where there is none (`Shown`, for `curate train`, whose steps
are done elsewhere); and an end after the step on Ctrl-C and SIGTERM (`Terminal`, for `train_hook.py`; in `curate train`
`pipelines/train.py` sees to it).

A second Ctrl-C ends it at once, and what came after the last checkpoint is lost.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from curation.train.watcher import Watcher
from curation.units import format_bytes

LINE_SECONDS = 10.0
"""Where there is no terminal: at most one line in this many seconds."""


class Stopped(BaseException):
    """The run was asked to end; its steps are in a checkpoint."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"by {signal.Signals(signum).name}")
        self.signum = signum

    def __reduce__(self) -> tuple[type[Stopped], tuple[int]]:
        """It goes from rank to rank."""
        return Stopped, (self.signum,)


class Shown(Watcher):
    """Shows the run on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._steps = 0
        self._begun: tuple[float, int] | None = None
        self._told = 0.0

    def starts(self, facts: Mapping[str, Any]) -> None:
        self._steps = facts["steps"]
        self._begun = (time.monotonic(), facts["done"])
        names = ("parameters", "teacher parameters")
        models = ", ".join(f"{name} {facts[name]:,}" for name in names if name in facts)
        again = f", goes on at step {facts['done']:,}" if facts["done"] else ""
        self._console.print(f"{models}{'; ' * bool(models)}{self._steps:,} steps{again}")
        if self._console.is_terminal:
            self._live = Live(Text("…"), console=self._console, transient=True, refresh_per_second=4)
            self._live.start()

    def step(self, line: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self._live is not None:
            self._live.update(Text(self._text(line, now)))
        elif now - self._told >= LINE_SECONDS or line["step"] == self._steps:
            self._told = now
            self._console.print(self._text(line, now))

    def stopping(self) -> None:
        self._console.print("stopping after this step; once more to stop at once")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _text(self, line: Mapping[str, Any], now: float) -> str:
        parts = [
            f"step {line['step']:,}/{self._steps:,}",
            f"loss {line['loss']:.4g}",
            *(f"{name} {value:.3g}" for name, value in line["losses"].items() if len(line["losses"]) > 1),
            f"{line['samples_per_s']:.1f} samples/s",
            f"{line['data_wait']:.0%} data wait",
            format_bytes(line["peak_memory"]),
        ]
        if self._begun is not None and line["step"] > self._begun[1]:
            pace = (now - self._begun[0]) / (line["step"] - self._begun[1])
            left = int(pace * (self._steps - line["step"]))
            parts.append(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left")
        return "  ".join(parts)


class Terminal(Shown):
    """Listens to signals as well. For the process's main thread."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._signal: int | None = None
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: Any) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signum
        self.stopping()

    def stop(self) -> BaseException | None:
        return None if self._signal is None else Stopped(self._signal)
