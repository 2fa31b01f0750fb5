"""A run's `run.json` (written by `curation.run_log`), checked and typed: what the report knows of the run itself.

Everything else comes from the stages' own folders; this names them in the order of the journey and holds what only
the run knows: the config, the clock, and how it ended.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.errors import RunError
from curation.run_log import RUN_FILE, read_run
from curation.storage import Folder


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class StageRecord(_Record):
    """One stage of the run."""

    name: str
    """`source`, `fetch`, …"""
    folder: str = Field(pattern=r"^[A-Za-z0-9_]+-[0-9A-Za-z]+$")
    """Folder of the stage below the output: NAME-FINGERPRINT."""
    cached: bool = False
    """It was finished before this run started."""
    seconds: float = Field(0.0, ge=0)
    """Wall time spent on it, over all runs that worked on it."""
    rows: int = Field(0, ge=0)
    """Rows that got their outcome; 0 until it is finished."""

    @property
    def fingerprint(self) -> str:
        return self.folder.rpartition("-")[2]


class RunRecord(_Record):
    """A run."""

    name: str
    """Name of the corpus."""
    config: dict[str, Any]
    """The validated config as plain data."""
    started: str
    """ISO 8601, UTC."""
    finished: str | None = None
    """ISO 8601, UTC; null while it runs."""
    status: Literal["running", "done", "failed", "stopped"]
    """How it stands. A run that was killed stays `running`."""
    error: str | None = None
    """The one line that the command printed."""
    engine: str
    """`ray` or `local`."""
    stages: tuple[StageRecord, ...]
    """All stages that the run has, in the order of the journey, also those that it has not reached."""
    corpus: str | None = None
    """Folder of the finished corpus below the output."""
    versions: dict[str, str] = {}
    """Versions of the packages that made it, where they were noted."""


def read_record(output: Folder) -> RunRecord:
    """The output's run. Raises ConfigError where there is none, RunError where it cannot be read."""
    try:
        return RunRecord.model_validate(read_run(output))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{output.path(RUN_FILE)} is not a run's record: {place}: {first['msg']}") from None
