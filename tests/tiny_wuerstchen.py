"""The parts of a Würstchen in small, with random weights: folders that the recipes' settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 32
"""Pixels."""
SAMPLING: dict[str, Any] = {"size": (SIDE, SIDE), "prior_points": 3, "decoder_steps": 2}


def tiny_wuerstchen(folder: Path, text: Path) -> dict[str, Any]:
    """Compressor, Stage A and Stage B below `folder`, of which the latter reads `text`, a CLIP. Returns where each of
    them is by its name in the settings."""
    from curation.wuerstchen.compressor import SemanticCompressor
    from curation.wuerstchen.models import PaellaVQModel, make_decoder

    with torch.random.fork_rng():
        torch.manual_seed(7)
        compressor = SemanticCompressor(channels=6, widths=(8, 16), strides=(4, 2), scale=2.0, shift=1.0)
        vqgan = PaellaVQModel(bottleneck_blocks=1, embed_dim=16, latent_channels=3, num_vq_embeddings=16)
        decoder = make_decoder(
            {
                "c_in": 3,
                "c_out": 3,
                "patch_size": 1,
                "c_cond": 16,
                "c_hidden": [16, 32],
                "nhead": [-1, 2],
                "blocks": [1, 1],
                "level_config": ["CT", "CTA"],
                "inject_effnet": [True, True],
                "effnet_embd": 6,
                "clip_embd": 32,
                "dropout": 0.0,
            }
        )
        torch.nn.init.normal_(decoder.clf[1].weight, std=0.1)  # a fresh one says nothing of what it is shown
    for name, model in (("compressor", compressor), ("vqgan", vqgan), ("decoder", decoder)):
        model.save_pretrained(folder / name)
    found: dict[str, Any] = {name: str(folder / name) for name in ("compressor", "vqgan", "decoder")}
    return {**found, "text": str(text)}


def tiny_stage_c(parts: dict[str, Any]) -> dict[str, Any]:
    """Settings of a small Stage C's recipe."""
    return {
        "kind": "wuerstchen_c",
        "text": parts["text"],
        "compressor": parts["compressor"],
        "prior": {"width": 32, "depth": 1, "heads": 2, "dropout": 0},
        "decode": {name: parts[name] for name in ("decoder", "vqgan", "text")},
        "sampling": SAMPLING,
    }
