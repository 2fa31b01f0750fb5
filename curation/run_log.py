"""`run.json`: what the last run in an output folder was, how far it came, and which stage folders it used.

Written by `pipelines.curate.run` as the run goes on; read by the report, by `explain`, and by whoever looks for the
corpus. Unlike manifests it holds times, so it is no part of any stage's identity.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from curation.config import Config
from curation.errors import ConfigError, RunError
from curation.fragments import Manifest
from curation.stage import Stage
from curation.storage import Folder
from curation.text import all_without_secrets, without_secrets

RUN_FILE = "run.json"
VERSIONS = ("curation", "pyarrow", "duckdb", "pillow", "simplejpeg", "opencv-python-headless", "ray")
"""Packages whose versions are noted: those that touch rows and pixels …"""
MODEL_VERSIONS = ("torch", "transformers", "diffusers", "faiss-cpu")
"""… and those of the extra `models`, where they are installed."""


@dataclass
class StageRun:
    """One stage of the last run. `seconds` adds up over runs that were stopped and went on."""

    name: str
    folder: str
    cached: bool = False
    seconds: float = 0.0
    rows: int = 0


class RunLog:
    """Keeps `run.json` up to date."""

    def __init__(self, config: Config, engine: str, stages: list[Stage]) -> None:
        self._output, self._config = Folder(config.output), config
        self._earlier = self._earlier_seconds()
        self._running: StageRun | None = None
        self._since = 0.0
        self._data: dict[str, Any] = {
            "format": 1,
            "name": config.name,
            "config": all_without_secrets(config.model_dump(mode="json")),
            "engine": engine,
            "versions": {name: version(name) for name in VERSIONS} | _model_versions(),
            "started": _now(),
            "finished": None,
            "status": "running",
            "error": None,
            "corpus": None,
        }
        self._stages = [StageRun(s.name, s.folder.url.rsplit("/", 1)[-1]) for s in stages]
        self._write()

    def _earlier_seconds(self) -> dict[str, float]:
        if not self._output.exists(RUN_FILE):
            return {}
        return {s["folder"]: s["seconds"] for s in self._output.read_json(RUN_FILE)["stages"]}

    def _of(self, stage: Stage) -> StageRun:
        return next(s for s in self._stages if s.name == stage.name)

    def stage_starts(self, stage: Stage) -> None:
        self._running, self._since = self._of(stage), time.monotonic()
        self._running.seconds = self._earlier.get(self._running.folder, 0.0)

    def stage_ends(self, stage: Stage, manifest: Manifest, cached: bool) -> float:
        """Note that `stage` is finished; returns the seconds that it took, those of earlier runs included."""
        entry = self._of(stage)
        entry.cached, entry.rows = cached, manifest.counts.rows
        self._stop_clock()
        self._write()
        return entry.seconds

    def _stop_clock(self) -> None:
        entry, self._running = self._running, None
        if entry is not None and not entry.cached:
            entry.seconds = round(entry.seconds + time.monotonic() - self._since, 3)

    def _told(self, error: BaseException | None) -> str | None:
        if error is None:
            return None
        told = str(error)
        for source in self._config.sources:
            told = told.replace(source.path, without_secrets(source.path))
        return told

    def ends(self, status: str, error: BaseException | None = None) -> None:
        """Note how the run ended; a corpus is named only by a run that was finished."""
        self._stop_clock()
        self._data |= {"status": status, "finished": _now(), "error": self._told(error)}
        if status == "done":
            self._data["corpus"] = self._stages[-1].folder
        self._write()

    def _write(self) -> None:
        self._output.write_json(RUN_FILE, {**self._data, "stages": [asdict(s) for s in self._stages]})


def _model_versions() -> dict[str, str]:
    found = {}
    for name in MODEL_VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_run(output: Folder) -> dict[str, Any]:
    """The last run's `run.json`. Raises ConfigError if there was none in this folder, RunError if it cannot be read."""
    if not output.exists(RUN_FILE):
        raise ConfigError("OUTPUT", f"{output.url} holds no run: there is no {RUN_FILE}")
    data = output.read_json(RUN_FILE)
    if isinstance(data, dict) and "recipe" in (data.get("config") or {}):
        raise ConfigError("OUTPUT", f"{output.url} holds a training; its report is {output.path('report.html')}")
    if not isinstance(data, dict) or data.get("format") != 1:
        raise RunError(f"{output.path(RUN_FILE)} is not of a format that this version reads")
    return data
