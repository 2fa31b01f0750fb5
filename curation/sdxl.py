"""What the parts of a pipeline of SDXL's kind make of pixels and captions. Training (`distill`) and the cache
(`encode`) ask here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def vae_dtype(vae: Any, dtype: torch.dtype) -> torch.dtype:
    """The VAE's where all else has `dtype`: float32 in place of fp16 where it asks for it (`force_upcast`), as in
    diffusers: SDXL's own overflows."""
    return torch.float32 if dtype == torch.float16 and vae.config.force_upcast else dtype


def move(pipeline: Any, device: torch.device | str, dtype: torch.dtype) -> None:
    """All parts of a pipeline; the VAE at once to its own type, for what went through fp16 is rounded for good."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(device, vae_dtype(part, dtype) if part is pipeline.vae else dtype)


def posterior_mean(vae: Any, pixels: Tensor) -> Tensor:
    """Latents as the VAE gives them, [B, C, H/f, W/f], of uint8 `pixels` [B, 3, H, W] on its device."""
    scaled = pixels.float() / 127.5 - 1  # in full: bf16 would lose half a grey level
    mean: Tensor = vae.encode(scaled.to(vae.dtype)).latent_dist.mean
    return mean


def embeddings(pipeline: Any, captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """As the pipeline makes them, [B, T, D] and [B, P]: both encoders' penultimate layers side by side, the second
    pooled."""
    text, _, pooled, _ = pipeline.encode_prompt(
        list(captions), device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return text, pooled


def no_text(pipeline: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """What stands for no caption, [1, T, D] and [1, P]: zeros where the pipeline says so, as SDXL's, else ""."""
    text, pooled = embeddings(pipeline, [""], device)
    if pipeline.config.force_zeros_for_empty_prompt:
        return torch.zeros_like(text), torch.zeros_like(pooled)
    return text, pooled
