"""Who hears how a training goes on, and may end it: nobody, a person at a terminal, or Ray Train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Watcher:
    """Hears on the first rank; is asked for an end on all of them. The default says nothing."""

    def starts(self, facts: Mapping[str, Any]) -> None:
        """The models are there: their facts, the steps done and to do."""

    def step(self, line: Mapping[str, Any]) -> None:
        """A line of metrics."""

    def stopping(self) -> None:
        """The run was asked to end, and does so after its step."""

    def stop(self) -> BaseException | None:
        """What to end the run with after this step, or None. The step's work is in a checkpoint when it is raised."""
        return None
