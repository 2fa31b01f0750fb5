"""Würstchen's parts for the embedded world are trained from end to end in a few steps, and load where they are used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.config.wuerstchen import StageCSettings
from curation.scenes.studio import studio_picture
from curation.scenes.zoo import wuerstchen_parts as parts
from curation.scenes.zoo.cards import EVALUATION
from curation.scenes.zoo.pictures import scene_of
from curation.wuerstchen.cascade import load_wuerstchen
from curation.wuerstchen.stage_c import StageC


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Eight pictures to learn from and two to be judged on, where the training looks for them."""
    for held_out, count in ((False, 8), (True, 2)):
        images = [studio_picture(scene_of(i, held_out), ("picture", i)) for i in range(count)]
        np.save(tmp_path / f"pictures-{'held-out' if held_out else 'train'}-{count}.npy", np.stack(images))
    return tmp_path


def test_they_are_trained_measured_and_named_by_stage_c(work: Path, clip_folder: Path) -> None:
    out = work / "model"
    parts.train(2, 2, 4, 0, work, out, count=8, judged_on=2)
    facts = [json.loads((folder / EVALUATION).read_text()) for folder in (out / "vqgan", out)]
    assert [fact["steps"] for fact in facts] == [2, 2]
    assert all(0 <= fact["quality"][parts.WHOLE] <= 1 for fact in facts)
    cascade = load_wuerstchen(out)
    pixels = torch.zeros(2, 3, parts.SIDE, parts.SIDE, dtype=torch.uint8)
    semantic = cascade.compressor(pixels)
    assert semantic.shape == (2, 16, 4, 4)
    latents = parts.latents_of(cascade.vqgan, pixels)
    assert latents.shape == (2, 12, 12, 12)
    where = {name: {"model": str(out), "subfolder": name} for name in ("compressor", "decoder", "vqgan")}
    settings = {
        "kind": "wuerstchen_c",
        "text": str(clip_folder),
        "compressor": where.pop("compressor"),
        "prior": {"width": 16, "depth": 1, "heads": 2},
        "decode": where,
        "sampling": {"size": [parts.SIDE, parts.SIDE], "prior_points": 3, "decoder_steps": 1},
    }
    images = StageC(StageCSettings.model_validate(settings), 0).sample(["a star"], [0])
    assert np.asarray(images[0]).shape == (parts.SIDE, parts.SIDE, 3)


def test_latents_of_the_trained_stage_a_have_unit_variance(work: Path) -> None:
    parts.train_vqgan(2, 4, 0, work, work / "vqgan", count=8, judged_on=2)
    images = parts.pictures(work, 8)
    latents = parts.latents_of(parts.load_vqgan(work / "vqgan"), parts.as_pixels(images))
    assert float(latents.std()) == pytest.approx(1, abs=0.02)
