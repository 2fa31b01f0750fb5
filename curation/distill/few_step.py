"""A few-step teacher: a copy of the teacher learns to go in one step where the guided teacher goes in many.

Progressive distillation (Salimans & Ho 2022, arXiv 2202.00512, §3 and appendix G) in one round, with guidance distilled
as well (Meng et al. 2023, §3.1); SDXL-Lightning adds adversarial losses to the same. What comes out is sampled at
exactly its timesteps, without guidance, and can teach a student at them alone (`recipe.teacher.timesteps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from curation.config.few_step import FewStepSettings
from curation.distill.inputs import latents_of, sizes_of, texts_of
from curation.distill.losses import add_noise, squared_error
from curation.distill.teacher import Teacher
from curation.distill.unet import Noised, UNetRecipe, predict
from curation.errors import ConfigError
from curation.train.draws import Draws
from curation.train.recipe import TorchBatch


class FewStep(UNetRecipe):
    """The model begins as the teacher's U-Net. Its target is what lets one step land where the teacher's many did."""

    weights: Mapping[str, float] = {"trajectory": 1.0}

    def __init__(self, settings: FewStepSettings) -> None:
        super().__init__(Teacher(settings.teacher), settings.student_sampling)
        self.settings = settings
        self.model = UNet2DConditionModel.from_config(self.teacher.unet.config)
        self.model.load_state_dict(self.teacher.unet.state_dict())
        if (most := len(self.teacher.alphas_cumprod)) < settings.steps:
            raise ConfigError("recipe.steps", f"{settings.steps} are more than the {most} timesteps of the teacher")
        self.starts = trailing(most, settings.steps)

    def prepare(self, batch: TorchBatch, draws: Draws) -> Noised:
        teacher, device = self.teacher, self.teacher.device
        clean = latents_of(batch, teacher)
        count = len(clean)
        noise = draws.normal("noise", count, tuple(clean.shape[1:])).to(device)
        step = draws.integers("step", count, self.settings.steps)
        start = self.starts[step].to(device)
        end = torch.cat([self.starts[1:], torch.tensor([-1])])[step].to(device)
        text, pooled = texts_of(batch, teacher, torch.zeros(count, dtype=torch.bool))
        added = {"text_embeds": pooled, "time_ids": sizes_of(batch).to(device).float()}
        noisy = add_noise(clean, noise, self._alpha_bar(start))
        landed = self._many_steps(noisy, start, end, text, added)
        target = one_step_target(teacher.prediction, noisy, landed, self._alpha_bar(start), self._alpha_bar(end))
        return Noised(noisy, start, text, added, target)

    def losses(self, model: nn.Module, prepared: Noised) -> dict[str, Tensor]:
        return {"trajectory": squared_error(predict(model, prepared), prepared.target)}

    def _alpha_bar(self, timesteps: Tensor) -> Tensor:
        """ᾱ at `timesteps` [B], 1 at -1."""
        alpha_bar = torch.cat([self.teacher.alphas_cumprod, self.teacher.alphas_cumprod.new_ones(1)])
        return alpha_bar[timesteps]

    def _many_steps(self, noisy: Tensor, start: Tensor, end: Tensor, text: Tensor, added: dict[str, Tensor]) -> Tensor:
        """Where the guided teacher gets from `noisy` at `start` to `end` (each [B]) in `substeps` steps of DDIM."""
        unet, guidance = self.teacher.unet, self.settings.guidance
        empty, empty_pooled = (p.to(text.dtype).expand(len(noisy), *p.shape[1:]) for p in self.teacher.empty_text())
        texts = torch.cat([text, empty])
        both = {
            "text_embeds": torch.cat([added["text_embeds"], empty_pooled]),
            "time_ids": added["time_ids"].repeat(2, 1),
        }
        here = noisy
        for i in range(self.settings.substeps):
            now, after = ((start - (start - end) * k / self.settings.substeps).round().long() for k in (i, i + 1))
            twice = here.to(unet.dtype).repeat(2, 1, 1, 1)
            found = unet(twice, now.repeat(2), encoder_hidden_states=texts, added_cond_kwargs=both).sample.float()
            with_text, without = found.chunk(2)
            predicted = without + guidance * (with_text - without)
            here = ddim_step(self.teacher.prediction, here, predicted, self._alpha_bar(now), self._alpha_bar(after))
        return here

    def facts(self) -> Mapping[str, Any]:
        return {**super().facts(), "timesteps": ", ".join(str(int(t)) for t in self.starts)}


def trailing(timesteps: int, steps: int) -> Tensor:
    """The timesteps at which `steps` evenly spaced steps begin, the noisiest first: 999, 749, 499, 249 for 4."""
    return torch.tensor([round(timesteps * (steps - i) / steps) - 1 for i in range(steps)])


def split(prediction: str, noisy: Tensor, predicted: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """Clean latents and noise that a prediction means; all [B, C, h, w], `alpha_bar` [B] is ᾱ."""
    a, b = (part.view(-1, 1, 1, 1) for part in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    if prediction == "epsilon":
        return (noisy - b * predicted) / a, predicted
    if prediction == "v_prediction":
        return a * noisy - b * predicted, b * noisy + a * predicted
    return predicted, (noisy - a * predicted) / b


def ddim_step(prediction: str, noisy: Tensor, predicted: Tensor, alpha_bar: Tensor, after: Tensor) -> Tensor:
    """From ᾱ `alpha_bar` to ᾱ `after` ([B] each) without new noise (Song et al. 2021, DDIM, eq. 12 with η = 0)."""
    clean, noise = split(prediction, noisy, predicted, alpha_bar)
    return add_noise(clean, noise, after)


def one_step_target(prediction: str, noisy: Tensor, landed: Tensor, alpha_bar: Tensor, after: Tensor) -> Tensor:
    """The prediction at `noisy` for which one `ddim_step` gives `landed` (Salimans & Ho 2022, appendix G)."""
    parts = (alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), after.sqrt(), (1 - after).sqrt())
    a, b, a2, b2 = (part.view(-1, 1, 1, 1) for part in parts)
    clean = (landed - b2 / b * noisy) / (a2 - b2 / b * a)
    if prediction == "sample":
        return clean
    noise = (noisy - a * clean) / b
    return noise if prediction == "epsilon" else a * noise - b * clean
