"""SDXL with random weights in its real architecture, and the embedded world's small likeness of it: what
`benchmarks.distill` times. Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from curation.config.koala import StudentSettings
from curation.distill.student import KOALA_1B, KOALA_700M, SDXL_UNET
from curation.scenes.zoo.teacher import MAX_TOKENS, Parts, pipeline
from curation.scenes.zoo.tokenizer import make_tokenizer
from curation.scenes.zoo.vae import make_vae

_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
_CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}


@dataclass(frozen=True)
class Size:
    """One size of everything."""

    name: str
    side: int
    """Pixels."""
    batch: int
    students: dict[str, StudentSettings]


REAL = Size("SDXL, random weights", 1024, 4, {"700M": KOALA_700M, "1B": KOALA_1B})
SMALL = Size(
    "the embedded world's, random weights",
    48,
    16,
    {
        "700M's shape": StudentSettings(transformer_layers=(1, 1, 2), mid_block=False),
        "1B's shape": StudentSettings(transformer_layers=(1, 1, 2)),
    },
)


def make_pipeline(size: Size, device: torch.device, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """The teacher, made where it shall stay."""
    torch.manual_seed(0)
    if size is SMALL:
        tokenizer = make_tokenizer()
        tokenizer.model_max_length = MAX_TOKENS
        return pipeline(Parts(tokenizer), make_vae(), tokenizer).to(device, dtype)
    words = make_tokenizer()  # CLIP's own is on the hub; the cost is that of 77 tokens, whatever they say
    text = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return StableDiffusionXLPipeline(
                vae=AutoencoderKL(**_VAE),
                text_encoder=CLIPTextModel(CLIPTextConfig(**_CLIP_L, **text)),
                text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**_CLIP_G, **text)),
                tokenizer=words,
                tokenizer_2=words,
                unet=UNet2DConditionModel.from_config(SDXL_UNET),
                scheduler=EulerDiscreteScheduler(
                    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
                ),
                add_watermarker=False,
            )
    finally:
        torch.set_default_dtype(before)
