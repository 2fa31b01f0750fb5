"""What a training says of itself while it runs: `metrics.jsonl`, a line every few steps, and TensorBoard's files.

A run that goes on from a checkpoint takes back the lines behind it, so each step stands in the file once.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from torch import Tensor

from curation.storage import Folder, storage_errors

METRICS = "metrics.jsonl"


class Metrics:
    """Appends to the files of the run in `folder`, from step `done` on. All of it raises StorageError.

    Events are written as they come: `SummaryWriter` has a thread do it, and blocks for ever once that met a full disk.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self._path, board = folder / METRICS, folder / "tensorboard"
        kept = [line for line in read_metrics(folder) if line["step"] <= done]
        with storage_errors(str(self._path)):
            Folder(str(folder)).write_bytes(METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
            board.mkdir(exist_ok=True)
            self._board = EventsWriter(str(board / "events"))
            start = SessionLog(status=SessionLog.START)  # what older files say of this step and later ones is void
            self._board.write_event(Event(step=done + 1, session_log=start))

    def add(self, line: Mapping[str, Any]) -> None:
        """A line; its `step` says where. Numbers and mappings of numbers go to TensorBoard as well."""
        with storage_errors(str(self._path)):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in line.items():
                for label, number in value.items() if isinstance(value, dict) else [("", value)]:
                    if name != "step" and isinstance(number, int | float):
                        told = scalar(f"{name}/{label}" if label else name, number)
                        self._board.write_event(Event(summary=told, step=line["step"], wall_time=time.time()))
            self._board.flush()

    def close(self) -> None:
        with storage_errors(str(self._path)):
            self._board.close()


class Window:
    """What happened since the last line."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.waited = 0.0
        self.samples = self.epoch = self._batches = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor], samples: int, epoch: int) -> None:
        for name, value in losses.items():
            mean = value.detach().mean()
            self._sums[name] = self._sums[name] + mean if name in self._sums else mean
        self.samples, self.epoch, self._batches = self.samples + samples, epoch, self._batches + 1

    def state(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Plain JSON; `reduce` makes of a rank's number the mean over all."""
        return {
            "sums": {name: reduce(total).item() for name, total in self._sums.items()},
            "batches": self._batches,
            "samples": self.samples,
            "waited": self.waited,
            "seconds": time.monotonic() - self.started,
        }

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a `state`."""
        self._sums = {name: torch.tensor(total, device=device) for name, total in state["sums"].items()}
        self._batches, self.samples, self.waited = state["batches"], state["samples"], state["waited"]
        self.started = time.monotonic() - state["seconds"]

    def means(self, device: torch.device) -> dict[str, Tensor]:
        return {name: (total / self._batches).to(device) for name, total in self._sums.items()}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run; the last one is left out if it was cut off by a kill."""
    path = folder / METRICS
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def forget_peak_memory() -> None:
    """What this process held before is none of the training's that begins."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it: then the peak is that of the whole process
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes since `forget_peak_memory`: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
