"""Pictures from a pipeline of SDXL's kind: the same for a prompt and a seed in any batch and on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
)
from diffusers.models import AutoencoderKL
from PIL import Image
from torch import Tensor

from curation.config.koala import SamplingSettings

SCHEDULERS: dict[str, Any] = {
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
}
AT_ONCE = 4 * 1024 * 1024
"""Pixels that a VAE gets at once."""


def sample(
    pipeline: StableDiffusionXLPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: SamplingSettings,
    batch: int = 32,
) -> list[Image.Image]:
    """A picture a prompt. Each has noise of its own seed, drawn on the CPU: the same in any batch and on any device.

    Guidance is `sampling.guidance`; "" is what it is guided away from.
    """
    pipeline.scheduler = scheduler_of(pipeline, sampling)
    images: list[Image.Image] = []
    for start in range(0, len(prompts), batch):
        given = list(prompts[start : start + batch])
        dice = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
        latents = pipeline(
            prompt=given,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            generator=dice,
            output_type="latent",
        ).images
        images += decoded(pipeline, latents)
    return images


def scheduler_of(pipeline: StableDiffusionXLPipeline, sampling: SamplingSettings) -> Any:
    """The scheduler that `sampling` asks for, with the pipeline's noise levels and kind of prediction."""
    cls = type(pipeline.scheduler) if sampling.scheduler is None else SCHEDULERS[sampling.scheduler]
    changed: dict[str, Any] = {"timestep_spacing": sampling.timestep_spacing}
    if sampling.scheduler == "ddim":
        changed["clip_sample"] = False  # its default is for pixels: latents go beyond 1
    return cls.from_config(pipeline.scheduler.config, **changed)


@torch.no_grad()
def decoded(pipeline: StableDiffusionXLPipeline, latents: Tensor) -> list[Image.Image]:
    """Pictures of scaled latents [B, C, h, w], in the VAE's own precision.

    Diffusers' pipeline decodes in fp32 only where it raises the VAE to that itself: not one that is in fp32 beside a
    U-Net in fp16, as SDXL's has to be.
    """
    vae: AutoencoderKL = pipeline.vae
    latents = unscaled(vae, latents.to(vae.dtype))
    pixels = latents.shape[2] * latents.shape[3] * pipeline.vae_scale_factor**2
    images: list[Image.Image] = []
    for part in torch.split(latents, at_once(pixels)):
        images += pipeline.image_processor.postprocess(vae.decode(part).sample, output_type="pil")
    return images


def at_once(pixels: int) -> int:
    """Pictures of so many pixels that a VAE gets at once."""
    return max(1, AT_ONCE // pixels)


def unscaled(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents as the U-Net gives them → as the VAE takes them."""
    mean, std = spread(vae, latents)
    found: Tensor = latents / vae.config.scaling_factor * std + mean
    return found


def spread(vae: AutoencoderKL, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a VAE's latents by channel, [1, C or 1, 1, 1]; 0 and 1 where it has none."""
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:  # Playground v2.5's VAE has them
        mean, std = [0.0], [1.0]
    return like.new_tensor(mean).view(1, -1, 1, 1), like.new_tensor(std).view(1, -1, 1, 1)
