"""The models of stages C, B and A: where their classes come from, their published shapes, and their first weights.

Classes: diffusers' `WuerstchenPrior`, `WuerstchenDiffNeXt` and `PaellaVQModel`, imported here and nowhere else. They
stand among its deprecated pipelines, and `StableCascadeUNet` does not; yet that is another model. It has one output,
where Würstchen's Stage C has ε = (x - a) / (|1 - b| + 1e-5); it sees the semantic latents on its finest level alone; it
reads a sequence of text only beside an embedding of an image; and none of the published weights fit. What lasts is the
format of those weights: a folder with `config.json` and safetensors, which each class saves and loads by itself. Should
diffusers drop the classes, this file is what changes. Its `DDPMWuerstchenScheduler` is current.

First weights: diffusers gives a fresh `WuerstchenPrior` torch's own, and runs `WuerstchenDiffNeXt._init_weights` once
for each submodule, so that what should be scaled by sqrt(1/26) once is scaled to nothing. `first_weights` gives both
what the authors' code gives them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior
from torch import nn

from curation.config.wuerstchen import DecoderSettings, PriorSettings
from curation.errors import ConfigError

__all__ = [
    "PaellaVQModel",
    "WuerstchenDiffNeXt",
    "WuerstchenPrior",
    "check_sides",
    "decoder_config",
    "make_decoder",
    "make_prior",
    "prior_config",
    "reads_text",
    "vqgan_factor",
]

TIME = 64
"""Width of the embedding of time."""

PRIOR: dict[str, Any] = {"c_in": 16, "c": 1536, "c_cond": 1280, "c_r": TIME, "depth": 32, "nhead": 24}
"""Stage C of the second version (`warp-ai/wuerstchen-prior`), which reads CLIP-bigG: 993,636,896 parameters."""
DECODER: dict[str, Any] = {
    "c_in": 4,
    "c_out": 4,
    "c_r": TIME,
    "patch_size": 2,
    "c_cond": 1024,
    "c_hidden": [320, 640, 1280, 1280],
    "nhead": [-1, 10, 20, 20],
    "blocks": [4, 4, 14, 4],
    "level_config": ["CT", "CTA", "CTA", "CTA"],
    "inject_effnet": [False, True, True, True],
    "effnet_embd": 16,
    "clip_embd": 1024,
    "dropout": 0.1,
}
"""Stage B of the second version (`warp-ai/wuerstchen`), which reads CLIP-H: 1,055,365,280 parameters."""
VQGAN: dict[str, Any] = {
    "levels": 2,
    "bottleneck_blocks": 12,
    "embed_dim": 384,
    "latent_channels": 4,
    "num_vq_embeddings": 8192,
    "scale_factor": 0.3764,
}
"""Stage A of both versions, a VQGAN at f4: 18,406,894 parameters."""


def prior_config(settings: PriorSettings, channels: int, text: int) -> dict[str, Any]:
    """`WuerstchenPrior`'s config for semantic latents of `channels` and text of width `text`."""
    return {
        "c_in": channels,
        "c": settings.width,
        "c_cond": text,
        "c_r": TIME,
        "depth": settings.depth,
        "nhead": settings.heads,
        "dropout": settings.dropout,
    }


def decoder_config(settings: DecoderSettings, latents: int, semantic: int, text: int) -> dict[str, Any]:
    """`WuerstchenDiffNeXt`'s config for latents, semantic latents and text of these widths."""
    levels = settings.levels
    return {
        "c_in": latents,
        "c_out": latents,
        "c_r": TIME,
        "patch_size": settings.patch,
        "c_cond": settings.conditioning,
        "c_hidden": [level.width for level in levels],
        "nhead": [level.heads or -1 for level in levels],
        "blocks": [level.blocks for level in levels],
        "level_config": ["CTA" if level.heads else "CT" for level in levels],
        "inject_effnet": [level.semantic for level in levels],
        "effnet_embd": semantic,
        "clip_embd": text,
        "dropout": settings.dropout,
    }


def make_prior(config: dict[str, Any]) -> WuerstchenPrior:
    """An untrained Stage C, on the CPU; torch's generator decides its weights."""
    return _made(WuerstchenPrior, config)


def make_decoder(config: dict[str, Any]) -> WuerstchenDiffNeXt:
    """An untrained Stage B, on the CPU; torch's generator decides its weights."""
    return _made(WuerstchenDiffNeXt, config)


def reads_text(decoder: WuerstchenDiffNeXt) -> bool:
    """Whether any of its levels attends to text."""
    return any("A" in level for level in decoder.config.level_config)


def vqgan_factor(vqgan: PaellaVQModel) -> int:
    """Pixels a side of one of its latents."""
    return int(vqgan.config.up_down_scale_factor * 2 ** (vqgan.config.levels - 1))


def check_sides(setting: str, size: Sequence[int], vqgan: PaellaVQModel, decoder: WuerstchenDiffNeXt) -> None:
    """Refuse pictures of `size` (height, width) that stages A and B cannot halve as often as they do. Raises
    ConfigError."""
    factor = vqgan_factor(vqgan) * decoder.config.patch_size * 2 ** (len(decoder.config.c_hidden) - 1)
    if any(side % factor for side in size):
        given = " × ".join(map(str, size))
        raise ConfigError(setting, f"pictures of {given} pixels; Stage B takes sides that are multiples of {factor}")


def _made(cls: Any, config: dict[str, Any]) -> Any:
    with torch.device("meta"):  # nothing is computed that `first_weights` would overwrite
        model = cls(**config)
    model.to_empty(device="cpu")
    first_weights(model)
    return model


def first_weights(model: WuerstchenPrior | WuerstchenDiffNeXt) -> None:
    """The authors' first weights of a Stage C or B: all outputs 0, time without effect, residual layers scaled down by
    the square root of their number.

    Their mappers of text begin with a deviation of 0.02, which is for 1,024 to 1,536 channels. In narrow models what a
    text says would vanish in it, so the deviation grows as channels get fewer: text is as loud in any width.
    """
    if isinstance(model, WuerstchenPrior):
        first, _, second = model.cond_mapper
        inputs = {
            model.projection: 0.02,
            first: _of_text(first, PRIOR["c_cond"]),
            second: _of_text(second, PRIOR["c"]),
        }
        output, depth = model.out[1], model.config.depth
    else:
        inputs = {model.clip_mapper: _of_text(model.clip_mapper, DECODER["clip_embd"])}
        inputs |= {mapper: 0.02 for mapper in model.effnet_mappers if mapper is not None}
        output, depth = model.clf[1], sum(model.config.blocks)
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.ConvTranspose2d):
            part.reset_parameters()
        elif type(part).__name__ == "GlobalResponseNorm":
            nn.init.zeros_(part.gamma)
            nn.init.zeros_(part.beta)
    for part, deviation in inputs.items():
        nn.init.normal_(part.weight, std=deviation)
    if isinstance(model, WuerstchenDiffNeXt):
        nn.init.xavier_uniform_(model.embedding[1].weight, 0.02)
    nn.init.zeros_(output.weight)
    for part in model.modules():
        if type(part).__name__ in ("ResBlock", "ResBlockStageB"):
            with torch.no_grad():
                part.channelwise[-1].weight.mul_(math.sqrt(1 / depth))
        elif type(part).__name__ == "TimestepBlock":
            nn.init.zeros_(part.mapper.weight)


def _of_text(mapper: nn.Linear, published: int) -> float:
    return 0.02 * math.sqrt(published / mapper.in_features)
