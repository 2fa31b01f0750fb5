"""What recipes around a U-Net of SDXL's kind share: a batch as it takes one, and everything but the losses. The teacher
brings VAE, text encoders and scheduler; what learns is another U-Net in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from curation.config.koala import SamplingSettings
from curation.distill.sampling import sample
from curation.distill.teacher import Teacher, frozen_copy
from curation.encode.cache import CacheFacts
from curation.train.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Noised:
    """A noised batch, and what is to be said of it."""

    noisy: Tensor
    """float32 [B, C, h, w]."""
    timesteps: Tensor
    """int64 [B]."""
    text: Tensor
    """[B, T, D]."""
    added: dict[str, Tensor]
    """`text_embeds` [B, P] and `time_ids` [B, 6]."""
    target: Tensor
    """What the model is to predict, [B, C, h, w]."""


def predict(model: nn.Module, batch: Noised) -> Tensor:
    """What a U-Net, perhaps wrapped, says of a batch: [B, C, h, w]."""
    found: Tensor = model(
        batch.noisy,
        batch.timesteps,
        encoder_hidden_states=batch.text,
        added_cond_kwargs=batch.added,
        return_dict=False,
    )[0]
    return found


class UNetRecipe(Recipe):
    """A recipe whose `model` is a U-Net that takes its teacher's place."""

    model: UNet2DConditionModel

    def __init__(self, teacher: Teacher, sampling: SamplingSettings) -> None:
        """`sampling`: of what is learnt."""
        self.teacher = teacher
        self._sampling = sampling

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.teacher.to(device, dtype)

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        learnt = frozen_copy(self.model, self.teacher.unet.dtype)
        return sample(self.teacher.pipeline_of(learnt), prompts, seeds, self._sampling)

    def reference(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        pipeline = self.teacher.pipeline_of(self.teacher.unet)
        return sample(pipeline, prompts, seeds, self.teacher.settings.sampling)

    def save(self, folder: Path) -> None:
        """A `StableDiffusionXLPipeline` folder in fp16, with the spacing that the model is sampled at."""
        self.teacher.save_with(self.model, self._sampling, folder)

    def check_sizes(self, sizes: Collection[tuple[int, int]]) -> None:
        """Says so where all pictures are of another size than those that are sampled, which is the teacher's."""
        side = self.teacher.unet.config.sample_size * self.teacher.pipeline.vae_scale_factor
        if not any(0.5 < width * height / side**2 < 2 for width, height in sizes):
            shown = ", ".join(f"{width} × {height}" for width, height in sorted(sizes)[:3])
            log.warning("it is trained on pictures of %s, and sampled at %d × %d, as its teacher is", shown, side, side)

    def check_cache(self, cache: CacheFacts) -> None:
        self.teacher.check_cache(cache)

    def signature(self) -> Mapping[str, Any]:
        return {"teacher": self.teacher.signature()}
