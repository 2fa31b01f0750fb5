"""Pictures of a pipeline: its own where precisions agree, by the scheduler that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline

from curation.config.koala import SamplingSettings
from curation.distill.sampling import decoded, sample, scheduler_of


@pytest.fixture(scope="module")
def pipeline(sdxl_folder: Path) -> StableDiffusionXLPipeline:
    made = StableDiffusionXLPipeline.from_pretrained(sdxl_folder, dtype=torch.float32, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


def test_pictures_are_the_pipelines_own(pipeline: StableDiffusionXLPipeline) -> None:
    sampling = SamplingSettings(steps=2, guidance=2)
    mine = sample(pipeline, ["a red star", "a square"], [3, 4], sampling, batch=1)
    dice = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    own = pipeline(["a red star", "a square"], num_inference_steps=2, guidance_scale=2, generator=dice).images
    for one, other in zip(mine, own, strict=True):
        difference = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))
        assert difference.max() <= 1  # batches of one add up in another order


def test_a_vae_in_fp32_decodes_latents_in_fp16(pipeline: StableDiffusionXLPipeline) -> None:
    side = pipeline.unet.config.sample_size
    latents = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(0))
    wanted, found = decoded(pipeline, latents.half().float()), decoded(pipeline, latents.half())
    assert [image.tobytes() for image in found] == [image.tobytes() for image in wanted]


def test_the_scheduler_is_the_one_that_is_asked_for(pipeline: StableDiffusionXLPipeline) -> None:
    own = scheduler_of(pipeline, SamplingSettings())
    assert type(own) is type(pipeline.scheduler) is EulerDiscreteScheduler
    other = scheduler_of(pipeline, SamplingSettings(scheduler="euler_ancestral", timestep_spacing="leading"))
    assert type(other) is EulerAncestralDiscreteScheduler
    assert (other.config.timestep_spacing, other.config.beta_end) == ("leading", own.config.beta_end)
    pictures = [
        sample(pipeline, ["a red star"], [3], SamplingSettings(steps=3, guidance=1, scheduler=name))[0].tobytes()
        for name in ("euler", "euler_ancestral", "euler_ancestral", "ddim", "dpmsolver++")
    ]
    assert scheduler_of(pipeline, SamplingSettings(scheduler="ddim")).config.clip_sample is False, "latents pass 1"
    assert pictures[1] == pictures[2]
    assert len(set(pictures)) == 4
