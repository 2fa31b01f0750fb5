"""The loop: batches of the stream → a recipe's losses → steps of the optimiser, with an average of the weights,
checkpoints, metrics and sample pictures. It knows no recipe; `run.py` calls it.

All that is random is a pure function of the seed and the place (`draws.py`, the stream's order), so a run that was
killed and goes on from its last checkpoint makes the same losses as one that was not, on a CPU to the bit; and two
processes make the losses of one with the same global batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from curation.config.train import TrainConfig
from curation.errors import ConfigError, CurationError, StorageError
from curation.stream.loader import CorpusLoader
from curation.stream.order import key_of
from curation.train.average import Average
from curation.train.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from curation.train.draws import Draws
from curation.train.finite import check_finite, overflows
from curation.train.flops import flops_of
from curation.train.grids import GRIDS, grid_seeds, save_grid
from curation.train.identity import check_identity, identity
from curation.train.metrics import Metrics, Window, peak_memory
from curation.train.optimizer import make_optimizer, make_schedule
from curation.train.recipe import Recipe, TorchBatch
from curation.train.together import agreed, raise_together
from curation.train.watcher import Watcher

CHECKPOINTS = "checkpoints"


class Loop:
    """A training from its last checkpoint, or from its beginning, to its last step."""

    def __init__(
        self,
        config: TrainConfig,
        recipe: Recipe,
        loader: CorpusLoader,
        accelerator: Accelerator,
        watcher: Watcher,
    ) -> None:
        """Raises ConfigError where the checkpoints in `config.output` are of another training."""
        self.config, self.recipe, self.loader, self.accelerator = config, recipe, loader, accelerator
        self.folder = Path(config.output)
        self.watcher = watcher
        self.average = Average(recipe.model, config.ema)
        self.average.to(accelerator.device)
        self._optimizer = make_optimizer(recipe.model.parameters(), config.optimizer)
        model: nn.Module = torch.compile(recipe.model) if config.loop.compile else recipe.model  # type: ignore[assignment]
        self.model, self._prepared_optimizer = accelerator.prepare(model, self._optimizer)
        self._schedule = make_schedule(self._optimizer, config.optimizer, config.loop.steps)
        self._identity = identity(config, dict(recipe.signature()))
        self.step = 0
        """Optimiser steps done."""
        self.seconds = 0.0
        """Of training, over all sessions."""
        self.device_seconds = 0.0
        """The same of all devices, which may be others in each session."""
        self.flops: int | None = None
        """Of a sample, forward and back, with the frozen models."""
        self._window = Window()
        self._rate = 0.0  # of the last step
        if (path := latest_checkpoint(self.folder / CHECKPOINTS)) is not None:
            self._load(load_checkpoint(path))
        self._check_together()
        self._batches = self._endless()

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do the steps that are left.

        Raises RunError where a loss or a gradient is no number, and whatever the watcher raises when it wants an end;
        then the steps up to there are in a checkpoint.
        """
        steps, every = self.config.loop.steps, self.config.loop
        metrics = Metrics(self.folder, self.step) if self.accelerator.is_main_process else None
        saved, before = self.step, time.monotonic()
        try:
            self._draw()  # what a run that ended just here has not drawn any more
            while self.step < steps:
                norm = self._step()
                before = self._spend(before)
                if self.step % every.log_every == 0 or self.step == steps:
                    line = self._line(norm)
                    if metrics is not None:
                        metrics.add(line)
                        self.watcher.step(line)
                if stop := agreed(self.accelerator, self.watcher.stop()):
                    self.save()
                    raise stop
                if self.step % every.checkpoint_every == 0 or self.step == steps:
                    self.save()
                    saved = self.step
                self._draw()
            if saved != self.step:
                self.save()
        finally:
            if metrics is not None:
                metrics.close()

    def _spend(self, since: float) -> float:
        """Count the time `since` then; now."""
        now = time.monotonic()
        self.seconds += now - since
        self.device_seconds += (now - since) * self.accelerator.num_processes
        return now

    def _step(self) -> Tensor | None:
        """One step of the optimiser; the norm of its gradient, before it is clipped."""
        loop, norm, keys = self.config.loop, None, []
        clip = math.inf if self.config.optimizer.clip is None else self.config.optimizer.clip
        self.model.train()
        for part in range(loop.accumulate):
            number = self.step * loop.accumulate + part
            batch, prepared = self._read(number)
            keys += batch["keys"]
            if self.flops is None:
                self.flops = self._count(batch, number)
            with self.accelerator.accumulate(self.model):
                losses, total = self._losses(self.model, prepared)
                check_finite(self.accelerator, total, "the loss", self.step + 1, batch["keys"], losses)
                self.accelerator.backward(total)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
                    if not overflows(self.accelerator):
                        check_finite(self.accelerator, norm, "the gradient", self.step + 1, keys)
                self._prepared_optimizer.step()
                self._prepared_optimizer.zero_grad()
            self._window.add({**losses, "total": total}, self.config.data.batch, batch["epoch"])
        self._rate = self._optimizer.param_groups[0]["lr"]
        self._schedule.step()
        self.step += 1
        self.average.update(self.step)
        return norm

    def _check_together(self) -> None:
        """Refuse to go on where ranks do not: each reads the checkpoints in its own `output`."""
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device)).tolist()
        if len(set(steps)) > 1:
            raise StorageError(
                f"ranks would go on from steps {sorted(set(steps))}: output: {self.folder} must be a folder of all"
            )

    def _read(self, number: int) -> tuple[TorchBatch, Any]:
        """The next batch, prepared. Raises what any rank met."""
        error: CurationError | None = None
        try:
            batch = self._next()
            prepared = self._prepare(batch, number)
        except CurationError as met:
            error = met
        raise_together(self.accelerator, error)
        return batch, prepared

    def _prepare(self, batch: TorchBatch, number: int) -> Any:
        share = self.config.data.batch // self.accelerator.num_processes
        draws = Draws(self.config.seed, number, self.accelerator.process_index * share)
        # what a library may draw by itself, like dropout, follows from the place as well
        torch.manual_seed(key_of(self.config.seed, number, self.accelerator.process_index) >> 1)
        with torch.no_grad():
            return self.recipe.prepare(batch, draws)

    def _losses(self, model: nn.Module, prepared: Any) -> tuple[dict[str, Tensor], Tensor]:
        with self.accelerator.autocast():
            losses = self.recipe.losses(model, prepared)
        return losses, total_loss(losses, self.recipe.weights, self.recipe.sample_weights(prepared))

    def _count(self, batch: TorchBatch, number: int) -> int:
        """FLOPs of a sample: of a pass of its own, whose gradients are thrown away."""

        def whole_pass() -> None:
            _, total = self._losses(self.recipe.model, self._prepare(batch, number))
            total.backward()  # type: ignore[no-untyped-call]

        model = self.recipe.model
        statistics = {name: value.clone() for name, value in model.named_buffers()}
        counted = flops_of(whole_pass) // max(1, len(batch["keys"]))
        for name, value in model.named_buffers():
            value.copy_(statistics[name])
        model.zero_grad(set_to_none=True)
        return counted

    def count_flops(self) -> int:
        """FLOPs of a sample of the next batch."""
        batch, number = self._next(), self.step * self.config.loop.accumulate
        self._prepare(batch, number)  # what is made once and kept is no sample's
        return self._count(batch, number)

    def _next(self) -> TorchBatch:
        started = time.monotonic()
        batch = next(self._batches)
        self._window.waited += time.monotonic() - started
        return batch

    def _endless(self) -> Iterator[TorchBatch]:
        while True:
            yield from self.loader

    # -- telling -----------------------------------------------------------------------------------------------------

    def _line(self, norm: Tensor | None) -> dict[str, Any]:
        """What happened since the last line, over all ranks."""
        window, self._window = self._window, Window()
        means = self.accelerator.reduce(window.means(self.accelerator.device), reduction="mean")
        total = means.pop("total").item()
        seconds = time.monotonic() - window.started
        return {
            "step": self.step,
            "loss": total,
            "losses": {name: value.item() for name, value in means.items()},
            "lr": self._rate,
            "grad_norm": norm.item() if norm is not None and norm.isfinite() else None,
            **({"scale": scaler.get_scale()} if (scaler := self.accelerator.scaler) is not None else {}),
            "epoch": window.epoch,
            "samples": self.step * self.config.loop.accumulate * self.config.data.batch,
            "samples_per_s": window.samples / seconds,
            "data_wait": window.waited / seconds,
            "seconds": self.seconds,
            "peak_memory": peak_memory(),
        }

    def _draw(self) -> None:
        """Pictures of the fixed prompts, by the first rank, where this step is due and has none."""
        step, grids = self.step, self.config.grids
        if not grids.prompts or not step or (step % grids.every and step != self.config.loop.steps):
            return
        folder = self.folder / GRIDS / f"{step:08d}"
        if self.accelerator.is_main_process and not folder.exists():
            with self.average.applied():
                images = self.recipe.sample(grids.prompts, grid_seeds(self.config))
            save_grid(folder, images)
        self.accelerator.wait_for_everyone()

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint; the first rank does, for all hold the same."""
        window = self._window.state(lambda number: self.accelerator.reduce(number, reduction="mean"))
        if self.accelerator.is_main_process:
            weights = {"model": self.recipe.model.state_dict()}
            if average := self.average.weights():
                weights["ema"] = average
            scaler = self.accelerator.scaler
            states = {
                "optimizer": self._optimizer.state_dict(),
                "schedule": {"last_epoch": self._schedule.last_epoch},
                "scaler": scaler.state_dict() if scaler is not None else {},
            }
            facts = {
                "stream": self.loader.state_dict(),
                "identity": self._identity,
                "updates": self.average.updates,
                "seconds": self.seconds,
                "device_seconds": self.device_seconds,
                "flops": self.flops,
                "window": window,
            }
            checkpoint = Checkpoint(self.step, weights, states, facts)
            save_checkpoint(self.folder / CHECKPOINTS, checkpoint, self.config.loop.keep)
        self.accelerator.wait_for_everyone()

    def _load(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        check_identity(self._identity, facts["identity"], self.config.output)
        if checkpoint.step > self.config.loop.steps:
            raise ConfigError("loop.steps", f"{self.config.loop.steps} are fewer than the {checkpoint.step} done")
        self.recipe.model.load_state_dict(dict(checkpoint.weights["model"]))
        self.average.load(checkpoint.weights.get("ema", {}), int(facts["updates"]))
        self._optimizer.load_state_dict(checkpoint.states["optimizer"])
        self._schedule.last_epoch = int(checkpoint.states["schedule"]["last_epoch"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(checkpoint.states["scaler"])
        try:
            self.loader.load_state_dict(facts["stream"])
        except ConfigError as error:
            told = f"{self.folder} holds checkpoints of a training on another corpus ({error.problem}): "
            told += "choose another output, or delete its folder `checkpoints`"
            raise ConfigError("output", told) from None
        if "window" in facts:
            self._window.restore(facts["window"], self.accelerator.device)
        self.step, self.seconds, self.flops = checkpoint.step, float(facts["seconds"]), facts["flops"]
        self.device_seconds = float(facts.get("device_seconds", self.seconds * self.accelerator.num_processes))


def total_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float], samples: Tensor | None = None) -> Tensor:
    """The number to minimise: the weighted sum of `losses` ([B] each), with a weight a sample [B] if given; a mean."""
    whole = torch.stack([weight * losses[name] for name, weight in weights.items() if weight]).sum(0)
    return (whole if samples is None else samples * whole).mean()
