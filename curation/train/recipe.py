"""What a family of models brings to the loop (`loop.py`): its models, its losses, its sampler. No recipe has a loop of
its own, and the loop knows no recipe.

A step asks `prepare` for the frozen work on a batch and `losses` for what the model makes of it. All that is random
comes from `Draws`, so a step is a pure function of the weights, the seed and the batch, on any number of ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from curation.encode.cache import CacheFacts
from curation.errors import ConfigError
from curation.train.draws import Draws

TorchBatch = Mapping[str, Any]
"""What `curation.stream.loader` gives."""


class Recipe(ABC):
    """A family of models."""

    model: nn.Module
    """What learns, in float32: its parameters that require gradients. All else of a recipe is frozen, in eval mode."""
    weights: Mapping[str, float]
    """Weight of each loss that `losses` gives."""

    reads_pictures: bool = True
    """Takes pixels where the corpus has them beside semantic latents."""

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the frozen models, and let them compute in `dtype`. The loop moves `model` itself."""

    @abstractmethod
    def prepare(self, batch: TorchBatch, draws: Draws) -> Any:
        """The frozen work on a batch: latents, text embeddings, noise, the teacher's answer. Called without gradients.

        Raises CorruptionError where cached tensors of the corpus do not fit.
        """

    @abstractmethod
    def losses(self, model: nn.Module, prepared: Any) -> dict[str, Tensor]:
        """Each loss as float32 [B], a number a sample. `model` is `self.model`, perhaps wrapped (DDP, compiled)."""

    def sample_weights(self, prepared: Any) -> Tensor | None:
        """A weight a sample, [B], by which its losses are multiplied before their mean; None: all alike."""
        return None

    @abstractmethod
    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """A picture a prompt with the weights that `model` has now: a pure function of prompt, seed and weights."""

    def reference(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image] | None:
        """The same of the model that is learnt from, where there is one."""
        return None

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was learnt, with the weights that `model` has now, as a folder that stock libraries load."""

    def check_cache(self, cache: CacheFacts) -> None:
        """Refuse cached tensors of other models than the recipe's. Raises ConfigError."""
        raise ConfigError("data.corpora", f"{type(self).__name__} cannot be trained on cached tensors: give pictures")

    def check_sizes(self, sizes: Collection[tuple[int, int]]) -> None:
        """Refuse pictures of (width, height) that the models cannot take. Raises ConfigError."""

    def signature(self) -> Mapping[str, Any]:
        """What must be the same for a checkpoint to be gone on with, beside the config; plain JSON."""
        return {}

    def facts(self) -> Mapping[str, Any]:
        """What the report tells of the models: parameter counts and the like; plain JSON."""
        return {"parameters": sum(p.numel() for p in self.model.parameters())}
