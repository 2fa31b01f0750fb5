"""The parts of a Würstchen in small, with random weights: folders that the recipes' settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curation.config.wuerstchen import StageBSettings, StageCSettings

SIDE = 32
"""Pixels."""
CAPTIONS = ["a red star", "a blue circle on the left", "a green square", "two dots"]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> dict[str, Any]:
    """Settings of the parts by name: `text`, `compressor`, `vqgan`, `decoder`."""
    from curation.wuerstchen.compressor import SemanticCompressor
    from curation.wuerstchen.models import PaellaVQModel, make_decoder

    folder = tmp_path_factory.mktemp("wuerstchen")
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
    return {**found, "text": str(clip_folder)}


SAMPLING = {"size": (SIDE, SIDE), "prior_points": 3, "decoder_steps": 2}


@pytest.fixture(scope="session")
def stage_c(parts: dict[str, Any]) -> StageCSettings:
    decode = {name: parts[name] for name in ("decoder", "vqgan", "text")}
    return StageCSettings.model_validate(
        {
            "kind": "wuerstchen_c",
            "text": parts["text"],
            "compressor": parts["compressor"],
            "prior": {"width": 32, "depth": 1, "heads": 2, "dropout": 0},
            "decode": decode,
            "sampling": SAMPLING,
        }
    )


@pytest.fixture(scope="session")
def stage_b(parts: dict[str, Any]) -> StageBSettings:
    levels = [{"width": 16, "blocks": 1}, {"width": 32, "blocks": 1, "heads": 2}]
    return StageBSettings.model_validate(
        {
            "kind": "wuerstchen_b",
            "text": parts["text"],
            "compressor": parts["compressor"],
            "vqgan": parts["vqgan"],
            "decoder": {"levels": levels, "conditioning": 16, "patch": 1, "dropout": 0},
            "sampling": SAMPLING,
        }
    )


@pytest.fixture(scope="session")
def batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (len(CAPTIONS), 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return {"pixels": pixels, "captions": CAPTIONS, "keys": ["0" * 31 + str(i) for i in range(len(CAPTIONS))]}
