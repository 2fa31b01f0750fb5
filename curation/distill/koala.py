"""KOALA's recipe (Lee et al. 2024, arXiv 2312.04005): a U-Net cut from the teacher's learns the task, the teacher's
predictions, and the teacher's features. `curation/train/loop.py` drives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from curation.config.koala import KoalaSettings
from curation.distill.inherit import Inheritance, inherit_map
from curation.distill.inputs import latents_of, sizes_of, texts_of
from curation.distill.losses import add_noise, feature_loss, min_snr_weights, squared_error, training_target
from curation.distill.student import student_config
from curation.distill.taps import Taps, pair_places
from curation.distill.teacher import Teacher
from curation.distill.unet import Noised, UNetRecipe, predict
from curation.train.draws import Draws
from curation.train.recipe import TorchBatch


@dataclass(frozen=True)
class Taught(Noised):
    """A noised batch, with what the teacher says of it."""

    taught: Tensor | None
    """The teacher's prediction, [B, C, h, w]."""
    features: dict[str, Tensor]
    """The teacher's features by the student's places."""


class Koala(UNetRecipe):
    """Raises ConfigError where the student is no smaller version of the teacher."""

    def __init__(self, settings: KoalaSettings, seed: int, teacher: Teacher | None = None) -> None:
        """`teacher`: one that is loaded already."""
        super().__init__(teacher or Teacher(settings.teacher), settings.student_sampling)
        self.settings = settings
        self.teacher.check_steps("recipe.teacher.sampling", settings.teacher.sampling)
        self.teacher.check_steps("recipe.sampling", settings.student_sampling)
        torch.manual_seed(seed)
        self.model = UNet2DConditionModel.from_config(student_config(self.teacher.unet.config, settings.student))
        losses, cut = settings.losses, settings.student
        weights = self.teacher.unet.state_dict()
        self._inheritance: Inheritance | None = None
        if cut.widths is None:  # else nothing of the teacher has the student's shapes
            self._inheritance = inherit_map(self.model.state_dict(), weights, cut.keep)
        if cut.inherit:
            assert self._inheritance is not None
            sources = self._inheritance.sources
            self.model.load_state_dict({name: weights[source] for name, source in sources.items()})
        self._kinds: dict[str, list[str]] = {}
        pairs: dict[str, str] = {}
        if losses.features:
            pairing = self._inheritance
            if losses.layers is not None:
                pairing = inherit_map(self.model.state_dict(), weights, losses.layers)
            assert pairing is not None
            for kind in losses.places:
                found = pair_places(self.model, pairing, [kind])
                self._kinds[f"features.{kind}"] = list(found)
                pairs |= found
        weighed = {"task": losses.task, "output": losses.output}
        weighed |= {f"features.{kind}": losses.features * weight for kind, weight in losses.places.items()}
        self.weights: Mapping[str, float] = {name: weight for name, weight in weighed.items() if weight}
        self._mine = Taps(self.model, {place: place for place in pairs})
        self._theirs = Taps(self.teacher.unet, pairs)
        self._pairs = pairs

    def prepare(self, batch: TorchBatch, draws: Draws) -> Taught:
        teacher, device = self.teacher, self.teacher.device
        clean = latents_of(batch, teacher)
        count = len(clean)
        noise = draws.normal("noise", count, tuple(clean.shape[1:])).to(device)
        timesteps = teacher.timesteps[draws.integers("timestep", count, len(teacher.timesteps))].to(device)
        alpha_bar = teacher.alphas_cumprod[timesteps]
        text, pooled = texts_of(batch, teacher, draws.uniform("caption", count) < self.settings.caption_dropout)
        sizes = sizes_of(batch, self.settings.constant_size)
        added = {"text_embeds": pooled, "time_ids": sizes.to(device).float()}  # bf16 knows no 1457
        noisy = add_noise(clean, noise, alpha_bar)
        taught: Tensor | None = None
        features: dict[str, Tensor] = {}
        if "output" in self.weights or self._kinds:
            taught, features = self._ask_teacher(noisy, timesteps, text, added)
        target = training_target(teacher.prediction, clean, noise, alpha_bar)
        return Taught(noisy, timesteps, text, added, target, taught, features)

    def losses(self, model: nn.Module, prepared: Taught) -> dict[str, Tensor]:
        with self._mine.listening() as features:
            found = predict(model, prepared)
        losses = {}
        if "task" in self.weights:
            losses["task"] = squared_error(found, prepared.target)
        if "output" in self.weights:
            assert prepared.taught is not None
            losses["output"] = squared_error(found, prepared.taught)
        for name, places in self._kinds.items():
            mine, theirs = ({place: of[place] for place in places} for of in (features, prepared.features))
            losses[name] = feature_loss(mine, theirs)
        return losses

    def sample_weights(self, prepared: Taught) -> Tensor | None:
        gamma = self.settings.losses.min_snr
        if gamma is None:
            return None
        return min_snr_weights(self.teacher.alphas_cumprod[prepared.timesteps], gamma, self.teacher.prediction)

    def _ask_teacher(
        self, noisy: Tensor, timesteps: Tensor, text: Tensor, added: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's prediction, guided if it is set so, and the features of its conditional pass."""
        unet = self.teacher.unet
        noisy = noisy.to(unet.dtype)
        with self._theirs.listening() as features:
            found = unet(noisy, timesteps, encoder_hidden_states=text, added_cond_kwargs=added).sample
        if (guidance := self.settings.teacher.guidance) is not None:
            empty, pooled = (p.to(text.dtype).expand(len(noisy), *p.shape[1:]) for p in self.teacher.empty_text())
            without = unet(
                noisy, timesteps, encoder_hidden_states=empty, added_cond_kwargs={**added, "text_embeds": pooled}
            ).sample
            found = without + guidance * (found - without)
        return found, features

    def facts(self) -> Mapping[str, Any]:
        inherited = self._inheritance
        teacher, student = (sum(p.numel() for p in m.parameters()) for m in (self.teacher.unet, self.model))
        return {
            "parameters": student,
            "teacher parameters": teacher,
            "inherited tensors": len(inherited.sources) if inherited and self.settings.student.inherit else 0,
            "teacher tensors left out": len(inherited.unused) if inherited else "all",
            "pairs of features": len(self._pairs),
            "prediction": self.teacher.prediction,
            "timesteps": len(self.teacher.timesteps),
        }
