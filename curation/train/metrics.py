"""What a training says of itself while it runs: `metrics.jsonl`, a line every few steps, and TensorBoard's files.

A run that goes on from a checkpoint takes back the lines behind it, so each step stands in the file once.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tensorboardX import SummaryWriter
from torch import Tensor

METRICS = "metrics.jsonl"


class Metrics:
    """Appends to the files of the run in `folder`, from step `done` on."""

    def __init__(self, folder: Path, done: int) -> None:
        self._path = folder / METRICS
        kept = [line for line in read_metrics(folder) if line["step"] <= done]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def add(self, line: Mapping[str, Any]) -> None:
        """A line; its `step` says where. Numbers and mappings of numbers go to TensorBoard as well."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            for label, number in value.items() if isinstance(value, dict) else [("", value)]:
                if name != "step" and isinstance(number, int | float):
                    self._board.add_scalar(f"{name}/{label}" if label else name, number, line["step"])

    def close(self) -> None:
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


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
