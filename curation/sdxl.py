"""A pipeline of SDXL's kind: how it is loaded, and what its parts make of pixels and captions. Training (`distill`) and
the cache (`encode`) ask here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from curation.hub import load_fault
from curation.models import check_whole, load_options, located
from curation.text import one_line

MODELS = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}
"""What has weights, by the name of its folder."""


def load_pipeline(
    setting: str, model: str, revision: str | None = None, variant: str | None = None, **given: Any
) -> StableDiffusionXLPipeline:
    """A folder's or the hub's, in float32 on the CPU, from safetensors alone; `given` parts are taken as they are, and
    those that are None left out. Raises ConfigError naming `setting`, StorageError where the hub is away."""
    parts = {name: load_part(setting, name, model, revision, variant) for name in MODELS if name not in given}
    options = load_options(revision)
    try:
        return StableDiffusionXLPipeline.from_pretrained(
            located(model), variant=variant, add_watermarker=False, **parts, **given, **options
        )
    except _FAULTS as error:
        raise load_fault(setting, f"{model} cannot be loaded: {one_line(error, 300)}", error) from error


def load_part(setting: str, name: str, model: str, revision: str | None = None, variant: str | None = None) -> Any:
    """One of a pipeline's `MODELS`, as `load_pipeline`. Refused where its weights lack a tensor, which `diffusers` and
    `transformers` would fill with random numbers."""
    return _loaded(setting, name, model, subfolder=name, variant=variant, **load_options(revision))


def load_vae(setting: str, model: str) -> AutoencoderKL:
    """A VAE that is a model by itself, as `load_part`."""
    return _loaded(setting, "vae", model, **load_options(None))


_FAULTS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError)


def _loaded(setting: str, name: str, model: str, **options: Any) -> Any:
    del options["trust_remote_code"]  # what is of a class that is named never asks for other people's code
    try:
        made, told = MODELS[name].from_pretrained(
            located(model), dtype=torch.float32, output_loading_info=True, **options
        )
    except _FAULTS as error:
        raise load_fault(setting, f"the {name} of {model} cannot be loaded: {one_line(error, 300)}", error) from error
    check_whole(setting, f"{model} ({name})", told)
    return made


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
