"""The exponential average of the weights (`ema`), by `diffusers`, with its state as plain tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from curation.config.train import EmaSettings


class Average:
    """Follows `model`'s parameters that learn; without settings it is the model itself."""

    def __init__(self, model: nn.Module, settings: EmaSettings | None) -> None:
        self._model, self._settings = model, settings
        self._average = EMAModel(self._learning().values(), decay=settings.decay) if settings else None

    def update(self, step: int) -> None:
        """After optimiser step number `step`, counted from 1."""
        if self._average is not None and self._settings is not None and step % self._settings.every == 0:
            self._average.step(self._learning().values())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average's weights in this block."""
        if self._average is None:
            yield
            return
        parameters = list(self._learning().values())
        self._average.store(parameters)
        self._average.copy_to(parameters)
        try:
            yield
        finally:
            self._average.restore(parameters)

    def weights(self) -> dict[str, Tensor]:
        """The average by parameter name; empty where there is none."""
        if self._average is None:
            return {}
        return dict(zip(self._learning(), self._average.shadow_params, strict=True))

    @property
    def updates(self) -> int:
        """How often it was updated: its decay follows from that."""
        return int(self._average.optimization_step) if self._average is not None else 0

    def load(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """Go on from what `weights` and `updates` gave."""
        if self._average is not None:
            for name, mine in zip(self._learning(), self._average.shadow_params, strict=True):
                mine.copy_(weights[name])
            self._average.optimization_step = updates

    def to(self, device: object) -> None:
        """Move it beside the model."""
        if self._average is not None:
            self._average.to(device)

    def _learning(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._model.named_parameters() if p.requires_grad}
