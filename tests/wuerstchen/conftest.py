"""Recipes of a small Würstchen, and a batch for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curation.config.wuerstchen import StageBSettings, StageCSettings
from tests.tiny_wuerstchen import SAMPLING, SIDE, tiny_stage_c

CAPTIONS = ["a red star", "a blue circle on the left", "a green square", "two dots"]


@pytest.fixture(scope="session")
def parts(wuerstchen_parts: dict[str, Any]) -> dict[str, Any]:
    """Settings of the parts by name: `text`, `compressor`, `vqgan`, `decoder`."""
    return wuerstchen_parts


@pytest.fixture(scope="session")
def stage_c(parts: dict[str, Any]) -> StageCSettings:
    return StageCSettings.model_validate(tiny_stage_c(parts))


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
