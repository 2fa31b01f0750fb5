"""A text-to-image pipeline of SDXL's make in small: a whole `StableDiffusionXLPipeline` folder with random weights (the
same each time), about 1.3 MB, for 32 pixels. What it paints means nothing; shapes and formats are SDXL's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

SIDE = 32
"""Pixels at which it paints."""
FACTOR = 4
"""Pixels a side of one latent."""
CHANNELS = 4
"""Of its latents."""
TEXT, POOLED = 24, 16
"""Widths of a token's and of a text's embedding."""
TOKENS = 77


def tiny_sdxl(folder: Path, *, prediction: str = "epsilon") -> Path:
    """Save a pipeline in `folder`; its scheduler says `prediction` ("epsilon" or "v_prediction")."""
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = _tokenizer()
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": TOKENS,
        "projection_dim": POOLED,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(6)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            layers_per_block=1,
            latent_channels=CHANNELS,
            norm_num_groups=4,
            sample_size=SIDE,
            scaling_factor=0.13025,
        )
        first = CLIPTextModel(CLIPTextConfig(hidden_size=8, intermediate_size=16, **text))
        second = CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_size=TEXT - 8, intermediate_size=32, hidden_act="gelu", **text)
        )
        unet = UNet2DConditionModel(
            sample_size=SIDE // FACTOR,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(8, 16, 16),
            layers_per_block=2,
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(1, 2, 2),
            cross_attention_dim=TEXT,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=POOLED + 6 * 8,
            norm_num_groups=4,
        )
        with torch.no_grad():  # larger weights than fresh ones, whose outputs would hardly depend on the text
            for parameter in (*first.parameters(), *second.parameters()):
                if parameter.dim() > 1:
                    parameter.mul_(4)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing="trailing",
    )
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


@cache
def _tokenizer() -> Any:
    from curation.scenes.zoo.tokenizer import make_tokenizer

    return make_tokenizer()
