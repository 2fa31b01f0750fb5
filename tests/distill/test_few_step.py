"""The few-step recipe: its arithmetic, and that its copy learns to land where the teacher does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from pydantic import ValidationError

from curation.config.few_step import FewStepSettings
from curation.distill.few_step import FewStep, ddim_step, one_step_target, trailing
from curation.errors import ConfigError
from curation.train.draws import Draws
from tests.distill.test_koala import batch
from tests.tiny_sdxl import tiny_sdxl

KINDS = ("epsilon", "v_prediction", "sample")


def noise(seed: int) -> torch.Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_steps_begin_where_eulers_do(steps: int) -> None:
    euler = EulerDiscreteScheduler(timestep_spacing="trailing")
    euler.set_timesteps(steps)
    assert trailing(1000, steps).tolist() == euler.timesteps.int().tolist()


@pytest.mark.parametrize("teacher", [{"guidance": 7}, {"timesteps": [999]}])
def test_settings_of_koalas_teachers_are_not_passed_over(teacher: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=rf"`teacher\.{next(iter(teacher))}` is not read here"):
        FewStepSettings.model_validate({"kind": "few_step", "teacher": {"model": "m", **teacher}})


def test_more_steps_than_the_teacher_has_are_refused(tmp_path: Path) -> None:
    settings = FewStepSettings.model_validate(
        {"kind": "few_step", "teacher": {"model": str(tiny_sdxl(tmp_path))}, "steps": 1001}
    )
    with pytest.raises(ConfigError, match=r"recipe\.steps: 1001 are more than the 1000 timesteps"):
        FewStep(settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_ddims(kind: str) -> None:
    schedule = DDIMScheduler(
        prediction_type=kind, clip_sample=False, set_alpha_to_one=True, beta_schedule="scaled_linear"
    )
    schedule.set_timesteps(4)
    start = int(schedule.timesteps[1])
    end = start - 250
    wanted = schedule.step(noise(1), start, noise(0)).prev_sample
    alpha_bar = schedule.alphas_cumprod
    found = ddim_step(kind, noise(0), noise(1), alpha_bar[start].expand(3), alpha_bar[end].expand(3))
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_of_a_step_leads_where_it_should(kind: str) -> None:
    alpha_bar, after = torch.tensor([0.1, 0.5, 0.02]), torch.tensor([0.4, 1.0, 0.1])
    target = one_step_target(kind, noise(0), noise(1), alpha_bar, after)
    assert torch.allclose(ddim_step(kind, noise(0), target, alpha_bar, after), noise(1), atol=1e-4)


def test_the_copy_learns_to_land_where_the_guided_teacher_does(tmp_path: Path) -> None:
    folder = tiny_sdxl(tmp_path, prediction="v_prediction")
    settings = {"kind": "few_step", "teacher": {"model": str(folder)}, "steps": 2, "substeps": 3, "guidance": 4.0}
    recipe = FewStep(FewStepSettings.model_validate(settings))
    recipe.to(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        prepared = recipe.prepare(batch(), Draws(0, 0, 0))
    assert set(prepared.timesteps.tolist()) <= {999, 499}
    optimizer = torch.optim.Adam(recipe.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = recipe.losses(recipe.model, prepared)["trajectory"].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    recipe.save(tmp_path / "saved")
    assert (tmp_path / "saved/unet/config.json").exists()
    assert recipe.sample(["a star"], [0])[0].size == (32, 32)
