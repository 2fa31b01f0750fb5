"""The optimiser and its learning rate, from `OptimizerSettings`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.util import find_spec

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from curation.config.train import OptimizerSettings
from curation.errors import ConfigError


def make_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> Optimizer:
    """AdamW over those that learn. Raises ConfigError where its package is missing."""
    options = {"lr": settings.lr, "betas": settings.betas, "weight_decay": settings.weight_decay, "eps": settings.eps}
    learning = [p for p in parameters if p.requires_grad]
    if settings.kind == "adamw":
        fused = all(p.is_cuda for p in learning)
        return AdamW(learning, fused=fused or None, **options)  # type: ignore[arg-type]
    if find_spec("bitsandbytes") is None:
        raise ConfigError("optimizer.kind", "adamw8bit needs the package bitsandbytes: pip install bitsandbytes")
    from bitsandbytes.optim import AdamW8bit

    made: Optimizer = AdamW8bit(learning, **options)
    return made


def rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Factor of the learning rate at step `step` of `steps`, counted from 0."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    done = (step - settings.warmup) / max(1, steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_schedule(optimizer: Optimizer, settings: OptimizerSettings, steps: int) -> LambdaLR:
    """Sets the rate before each step by `rate`."""
    return LambdaLR(optimizer, lambda step: rate(step, steps, settings))
