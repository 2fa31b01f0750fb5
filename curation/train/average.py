"""The exponential average of the weights (`ema`), by `diffusers`, with its state as plain tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from curation.config.train import EmaSettings


class Average:
    """Follows `model`'s parameters that learn and its statistics, like those of a batch norm, which belong to them;
    without settings it is the model itself."""

    def __init__(self, model: nn.Module, settings: EmaSettings | None) -> None:
        self._model, self._settings = model, settings
        self._average = EMAModel(self._learning().values(), decay=settings.decay) if settings else None
        self._statistics = {name: value.clone() for name, value in self._buffers().items()} if settings else {}

    def update(self, step: int) -> None:
        """After optimiser step number `step`, counted from 1."""
        if self._average is not None and self._settings is not None and step % self._settings.every == 0:
            self._average.step(self._learning().values())
            for name, value in self._buffers().items():
                self._statistics[name].lerp_(value, 1 - self._average.cur_decay_value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average's weights in this block."""
        if self._average is None:
            yield
            return
        parameters, buffers = list(self._learning().values()), self._buffers()
        own = {name: value.clone() for name, value in buffers.items()}
        self._average.store(parameters)
        self._average.copy_to(parameters)
        _copy(self._statistics, buffers)
        try:
            yield
        finally:
            self._average.restore(parameters)
            _copy(own, buffers)

    def weights(self) -> dict[str, Tensor]:
        """The average by name; empty where there is none."""
        if self._average is None:
            return {}
        return dict(zip(self._learning(), self._average.shadow_params, strict=True)) | self._statistics

    @property
    def updates(self) -> int:
        """How often it was updated: its decay follows from that."""
        return int(self._average.optimization_step) if self._average is not None else 0

    def load(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """Go on from what `weights` and `updates` gave."""
        if self._average is not None:
            _copy(weights, self.weights())
            self._average.optimization_step = updates

    def to(self, device: torch.device) -> None:
        """Move it beside the model."""
        if self._average is not None:
            self._average.to(device)
            self._statistics = {name: value.to(device) for name, value in self._statistics.items()}

    def _learning(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._model.named_parameters() if p.requires_grad}

    def _buffers(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._model.named_buffers() if value.is_floating_point()}


def _copy(source: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    for name, value in into.items():
        value.copy_(source[name])
