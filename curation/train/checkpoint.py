"""Checkpoints: a folder a step, whole or not there, the last few kept.

    RUN/checkpoints/00001200/  model.safetensors …   weights, a file a module
                               state.pt              optimiser, schedule, scaler (tensors and plain values only)
                               state.json            step, the stream's state

A checkpoint is written under a temporary name, fsynced and renamed, so a run that is killed while it writes one goes on
from the one before. Nothing in it can run code: `state.pt` is read with `weights_only`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from curation.errors import CorruptionError
from curation.storage import storage_errors
from curation.text import first_line

_NAME = re.compile(r"\d{8}")
_TEMPORARY = "writing-"


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on as if it had not stopped."""

    step: int
    """Optimiser steps done."""
    weights: Mapping[str, Mapping[str, Tensor]]
    """State dicts by name: `model`, `ema`."""
    states: Mapping[str, Any]
    """Optimiser, schedule, scaler: tensors, and plain values in lists and dicts."""
    facts: Mapping[str, Any]
    """Plain JSON: the stream's state, what must match."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `checkpoint` below `folder`, then delete all but the last `keep`. Raises StorageError where it cannot."""
    final = folder / f"{checkpoint.step:08d}"
    temporary = folder / f"{_TEMPORARY}{checkpoint.step:08d}"
    with storage_errors(str(final)):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_TEMPORARY}*"):  # of a run that was killed while it wrote
            shutil.rmtree(left)
        temporary.mkdir()
        try:
            _write(temporary, checkpoint)
            if final.exists():  # the same step again, after a resume from an earlier one
                shutil.rmtree(final)
            os.rename(temporary, final)
        except (OSError, SafetensorError, RuntimeError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _as_os_error(error) from error
        _sync(folder)
        for old in _steps(folder)[:-keep]:
            shutil.rmtree(folder / f"{old:08d}")
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step, or None."""
    steps = _steps(folder) if folder.is_dir() else []
    return folder / f"{steps[-1]:08d}" if steps else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises CorruptionError that names the file which cannot be read."""
    file = path / "state.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        step = int(facts.pop("step"))
        file = path / "state.pt"
        states = torch.load(file, map_location="cpu", weights_only=True)
        weights = {}
        for file in sorted(path.glob("*.safetensors")):
            weights[file.stem] = load_file(file)
    except Exception as error:  # damage makes each of the three formats raise many kinds
        raise CorruptionError(f"checkpoint file {file} cannot be read: {first_line(error)}") from error
    return Checkpoint(step, weights, states, facts)


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    for name, state in checkpoint.weights.items():
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / f"{name}.safetensors")
    torch.save(dict(checkpoint.states), folder / "state.pt")
    text = json.dumps({**checkpoint.facts, "step": checkpoint.step}, indent=1, sort_keys=True)
    (folder / "state.json").write_text(text + "\n", encoding="utf-8")
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _as_os_error(error: Exception) -> OSError:
    """What a full disk makes safetensors and torch raise, as the OSError that it is."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    if isinstance(error, OSError):
        return error
    number = int(found[1]) if found else 0
    return OSError(number or None, os.strerror(number) if number else first_line(error))


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
