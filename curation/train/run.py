"""A training from its config to a folder that stock libraries load.

    from curation.load import load_train_config
    from curation.train.run import train

    corpus = ["data.corpora=[{path: runs/laion-hr/pack-0a1b2c3d4e5f}]"]
    result = train(load_train_config("configs/training/koala_700m.yaml", corpus))
    print(result.model, result.report)

`train_hook.py` is this call; `accelerate launch`, `torchrun` and Ray Train start it once a rank.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin

from curation.config.train import TrainConfig
from curation.encode.cache import cache_of_all
from curation.errors import ConfigError, under
from curation.lock import alone
from curation.storage import Folder, storage_errors
from curation.stream.loader import CorpusLoader
from curation.stream.stream import CorpusStream
from curation.train.grids import clear_grids, draw_reference
from curation.train.identity import of_same_settings
from curation.train.loop import Loop
from curation.train.metrics import forget_peak_memory, peak_memory
from curation.train.recipe import Recipe
from curation.train.recipes import make_recipe
from curation.train.report import write_report
from curation.train.trained import CORPORA, MODEL, READ, models_read, of_same_corpora, of_same_models, trained_by
from curation.train.watcher import Watcher

RUN = "run.json"
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainResult:
    """Where a finished training left things."""

    model: Path
    """What was learnt, as a folder."""
    report: Path
    facts: dict[str, Any]
    """`run.json`."""


def train(config: TrainConfig, watcher: Watcher | None = None) -> TrainResult:
    """Train, or go on from the last checkpoint in `config.output`; a finished training is not done again.

    Raises ConfigError before any work where it can, RunError (StorageError, CorruptionError) where it cannot go on.
    """
    if (done := finished(config)) is not None:
        return done
    if not config.data.corpora:
        raise ConfigError("data.corpora", "names no corpus: give --corpus DIR")
    accelerator = _accelerator(config)
    with (
        _loop(config, accelerator, watcher or Watcher()) as loop,
        alone(config.output) if accelerator.is_main_process else nullcontext(),
    ):
        _run(loop)
    result = finished(config)
    assert result is not None
    return result


def flops_per_sample(config: TrainConfig) -> int:
    """What `run.json` of a training will say, counted on its first batch; trains nothing and writes nothing."""
    with TemporaryDirectory() as empty:  # where no checkpoint is
        elsewhere = config.model_copy(update={"output": empty})
        with _loop(elsewhere, _accelerator(config), Watcher()) as loop:
            return loop.count_flops()


@contextmanager
def _loop(config: TrainConfig, accelerator: Accelerator, watcher: Watcher) -> Iterator[Loop]:
    """Stream, models and loop; the stream is closed in the end. Raises ConfigError where they do not fit."""
    if config.data.batch % accelerator.num_processes:
        raise ConfigError(
            "data.batch", f"{config.data.batch} samples cannot be shared out to {accelerator.num_processes} ranks"
        )
    forget_peak_memory()
    with under("data"):
        stream = CorpusStream(
            config.data.stream(config.seed), rank=accelerator.process_index, world=accelerator.num_processes
        )
        stream.plan()
        cache = cache_of_all(stream.samples.corpora)
    recipe = make_recipe(config)
    if cache is not None:
        recipe.check_cache(cache)
    recipe.to(accelerator.device, _DTYPES[config.loop.precision])
    _prepare_model(recipe, config, accelerator.device)
    with under("data"):
        loader = CorpusLoader(
            stream,
            pictures=recipe.reads_pictures,
            workers=config.data.workers,
            resolution=config.data.resolution,
            upscale=config.data.upscale,
            pin_memory=accelerator.device.type == "cuda",
        )
    try:
        recipe.check_sizes(loader.sizes)
        yield Loop(config, recipe, loader, accelerator, watcher)
    finally:
        stream.close()
        if accelerator.num_processes == 1:  # or the next training in this process could not have another precision
            AcceleratorState._reset_state(reset_partial_state=True)


def _run(loop: Loop) -> None:
    """Train to the last step, and leave model, `run.json` and report; the two latter also where it fails."""
    config, recipe, accelerator, folder = loop.config, loop.recipe, loop.accelerator, loop.folder
    with storage_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        loop.watcher.starts({**recipe.facts(), "done": loop.step, "steps": config.loop.steps})
        clear_grids(config, recipe, loop.step)
        draw_reference(config, recipe)
    facts = {
        "config": config.model_dump(mode="json"),
        "models": dict(recipe.facts()),
        READ: models_read(config.recipe),
        CORPORA: [corpus.sha256 for corpus in loop.loader.stream.samples.corpora],
    }
    if accelerator.is_main_process:  # or what an earlier training with other settings left would pass for this one's
        _write(folder, {**facts, **_state(loop), "status": "running"})
    try:
        loop.run()
        if accelerator.is_main_process:
            _finish(config, loop, facts)
        accelerator.wait_for_everyone()
    except BaseException as error:
        if accelerator.is_main_process:
            _write(folder, {**facts, **_state(loop), "status": _status(error), "error": str(error)})
            write_report(folder)
        raise


def finished(config: TrainConfig) -> TrainResult | None:
    """The result of a training that was done before with the same settings.

    Raises ConfigError where a model that it learnt from has been trained again since, or a corpus made anew.
    """
    folder = Path(config.output)
    try:
        facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    theirs = trained_by(facts)
    if facts.get("status") != "done" or theirs is None or not of_same_settings(theirs, config):
        return None
    if not of_same_models(facts, config):
        raise ConfigError(
            "output", f"{folder} holds what was learnt from models that have been trained again since; choose another"
        )
    if not of_same_corpora(facts, config):
        raise ConfigError("output", f"{folder} holds what was learnt of a corpus that is another now; choose another")
    return TrainResult(folder / MODEL, folder / "report.html", facts)


def _accelerator(config: TrainConfig) -> Accelerator:
    precision, gpu = config.loop.precision, torch.cuda.is_available()
    if precision == "fp16" and not gpu:
        raise ConfigError("loop.precision", "fp16 needs a GPU; a CPU takes bf16")
    if precision == "bf16" and gpu and not torch.cuda.is_bf16_supported():
        raise ConfigError("loop.precision", f"bf16 is not known to {torch.cuda.get_device_name()}; take fp16")
    return Accelerator(
        mixed_precision=precision,
        cpu=not gpu,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.loop.accumulate, sync_with_dataloader=False
        ),
    )


def _prepare_model(recipe: Recipe, config: TrainConfig, device: torch.device) -> None:
    recipe.model.to(device)
    if config.loop.gradient_checkpointing:
        enable = getattr(recipe.model, "enable_gradient_checkpointing", None)
        if enable is None:
            raise ConfigError("loop.gradient_checkpointing", f"{type(recipe.model).__name__} cannot do it")
        enable()


def _finish(config: TrainConfig, loop: Loop, facts: dict[str, Any]) -> None:
    folder = loop.folder
    temporary = folder / f"writing-{MODEL}"
    with storage_errors(str(folder / MODEL)):
        shutil.rmtree(temporary, ignore_errors=True)
        with loop.average.applied():
            loop.recipe.save(temporary)
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        os.rename(temporary, folder / MODEL)
    _write(folder, {**facts, **_state(loop), "status": "done"})
    write_report(folder)


def _state(loop: Loop) -> dict[str, Any]:
    """How far the run is, and what it took."""
    config, stream = loop.config, loop.loader.stream
    samples = loop.step * config.loop.accumulate * config.data.batch
    return {
        "steps": loop.step,
        "samples": samples,
        "epochs": stream.epoch + (stream.step == len(stream)),
        "seconds": loop.seconds,
        "device": _device_name(),
        "devices": loop.accelerator.num_processes,
        "device_hours": loop.device_seconds / 3600,
        "flops_per_sample": loop.flops,
        "flops": None if loop.flops is None else loop.flops * samples,
        "peak_memory": peak_memory(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "accelerate", "curation")},
        "written": time.time(),
    }


def _device_name() -> str:
    return (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores, {platform.machine()}"
    )


def _status(error: BaseException) -> str:
    return "failed" if isinstance(error, Exception) else "stopped"


def _write(folder: Path, facts: dict[str, Any]) -> None:
    Folder(str(folder)).write_bytes(RUN, (json.dumps(facts, indent=1) + "\n").encode())
