"""The teacher: a frozen pipeline of SDXL's kind, with the VAE, the text encoders and the noise schedule of its student.

Loaded from a folder or the hub, from safetensors alone. A step-distilled teacher (SDXL-Turbo, SDXL-Lightning) is the
same with other settings: its U-Net's file, its timesteps, what it predicts, how it is sampled.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from curation.config.koala import SamplingSettings, TeacherSettings
from curation.distill.sampling import at_once, scheduler_of, spread
from curation.encode.cache import CacheFacts, check_signatures
from curation.encode.signatures import part_signatures, teacher_signature
from curation.errors import ConfigError
from curation.hub import fetch_file
from curation.models import forget_places, is_local, quieten
from curation.sdxl import embeddings, load_part, load_pipeline, load_vae, move, no_text, posterior_mean
from curation.text import one_line

PARTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae")
Text = tuple[Tensor, Tensor]
"""Embeddings [B, T, D], and pooled [B, P]."""


class Teacher:
    """Loads at once, on the CPU; `to` moves it. Raises ConfigError where there is no such pipeline."""

    def __init__(self, settings: TeacherSettings, pipeline: StableDiffusionXLPipeline | None = None) -> None:
        """`pipeline`: one that is there already."""
        self.settings = settings
        quieten()
        self.pipeline = pipeline or _load(settings)
        self.unet: UNet2DConditionModel = self.pipeline.unet
        for part in (self.unet, self.pipeline.vae, self.pipeline.text_encoder, self.pipeline.text_encoder_2):
            part.requires_grad_(False).eval()
        if "beta_start" not in self.pipeline.scheduler.config:
            kind = type(self.pipeline.scheduler).__name__
            raise ConfigError(
                "recipe.teacher.model", f"its {kind} has no betas; teachers are of DDPM's noise schedules"
            )
        schedule = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.alphas_cumprod: Tensor = schedule.alphas_cumprod
        """ᾱ by timestep, float32 [1000 or so]."""
        self.prediction: str = settings.prediction or schedule.config.prediction_type
        self.timesteps = torch.tensor(settings.timesteps or range(len(self.alphas_cumprod)), dtype=torch.int64)
        """What training draws from."""
        if int(self.timesteps.max()) >= len(self.alphas_cumprod):
            told = f"{int(self.timesteps.max())} is no timestep: there are {len(self.alphas_cumprod)}"
            raise ConfigError("recipe.teacher.timesteps", told)
        self._empty: Text | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all of it."""
        move(self.pipeline, device, dtype)
        self.alphas_cumprod, self._empty = self.alphas_cumprod.to(device), None

    @property
    def device(self) -> torch.device:
        return self.unet.device  # type: ignore[no-any-return]

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Scaled latents, float32 [B, C, H/f, W/f], of uint8 `pixels` [B, 3, H, W]: the mean of the posterior, so that
        latents from a cache are the same."""
        vae: AutoencoderKL = self.pipeline.vae
        parts = []
        # A batch at once would need gigabytes a layer: 32 pictures of 1024 pixels 8.6 in bf16.
        for part in torch.split(pixels, at_once(pixels.shape[2] * pixels.shape[3])):
            parts.append(posterior_mean(vae, part.to(self.device)))
        return self.scaled(torch.cat(parts))

    def scaled(self, latents: Tensor) -> Tensor:
        """Latents as the VAE gives them → as the U-Net takes them, float32 on the teacher's device."""
        latents = latents.to(self.device).float()
        mean, std = spread(self.pipeline.vae, latents)
        scaled: Tensor = (latents - mean) / std * self.pipeline.vae.config.scaling_factor
        return scaled

    def encode_texts(self, captions: Sequence[str]) -> Text:
        """Embeddings of captions, [B, T, D] and [B, P]."""
        return embeddings(self.pipeline, captions, self.device)

    def empty_text(self) -> Text:
        """What stands for no caption, [1, T, D] and [1, P]."""
        if self._empty is None:
            self._empty = no_text(self.pipeline, self.device)
        return self._empty

    def pipeline_of(self, unet: UNet2DConditionModel) -> StableDiffusionXLPipeline:
        """A pipeline of the teacher's parts around another U-Net, whose scheduler says what this teacher predicts."""
        parts = {name: getattr(self.pipeline, name) for name in PARTS} | {"unet": unet}
        parts["scheduler"] = type(self.pipeline.scheduler).from_config(
            self.pipeline.scheduler.config, prediction_type=self.prediction
        )
        made = StableDiffusionXLPipeline(
            **parts,
            force_zeros_for_empty_prompt=self.pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        made.set_progress_bar_config(disable=True)
        return made

    def save_with(self, unet: UNet2DConditionModel, sampling: SamplingSettings, folder: Path) -> None:
        """Write the pipeline around another U-Net in fp16, with the scheduler that it is sampled by. Raises ConfigError
        or StorageError where a part has to be loaded again and cannot be."""
        made = self.pipeline_of(frozen_copy(unet, torch.float16))
        for name in ("vae", "text_encoder", "text_encoder_2"):  # copies, for the teacher goes on in its own precision
            setattr(made, name, self._whole(name).half())
        made.scheduler = scheduler_of(made, sampling)
        made.save_pretrained(folder, safe_serialization=True)
        forget_places(folder)

    def _whole(self, name: str) -> Any:
        """A copy of a part as it was loaded: what went through bf16 is rounded for good."""
        settings, part = self.settings, getattr(self.pipeline, name)
        if part.dtype == torch.float32:
            return copy.deepcopy(part)
        if name == "vae" and settings.vae is not None:
            return load_vae("recipe.teacher.vae", settings.vae)
        return load_part("recipe.teacher.model", name, settings.model, settings.revision, settings.variant)

    def check_steps(self, setting: str, sampling: SamplingSettings) -> None:
        """Refuse sampling that asks where neither a teacher of few `timesteps` nor its student knows anything. Raises
        ConfigError that names `setting`."""
        if self.settings.timesteps is None:
            return
        scheduler = scheduler_of(self.pipeline, sampling)
        scheduler.set_timesteps(sampling.steps)
        if strange := {float(t) for t in scheduler.timesteps} - {*self.settings.timesteps}:
            told = f"{sampling.steps} steps ask at {max(strange):g}, which `recipe.teacher.timesteps` leaves out"
            raise ConfigError(f"{setting}.steps", told)

    def check_cache(self, cache: CacheFacts) -> None:
        """Refuse latents and embeddings that other models made. Raises ConfigError."""
        given, where = self.settings, "recipe.teacher.model"
        check_signatures(cache, part_signatures(where, given.model, given.revision, given.variant, given.vae), where)

    def signature(self) -> dict[str, Any]:
        """What names this teacher: its files' hashes, or its name and revision on the hub."""
        return teacher_signature("recipe.teacher", self.settings)


def frozen_copy(model: UNet2DConditionModel, dtype: torch.dtype) -> UNet2DConditionModel:
    """The same weights in another dtype, in eval mode: sampling and saving must not change what learns."""
    frozen = UNet2DConditionModel.from_config(model.config).to(model.device, dtype).eval().requires_grad_(False)
    frozen.load_state_dict(model.state_dict())
    return frozen


def _load(settings: TeacherSettings) -> StableDiffusionXLPipeline:
    where = "recipe.teacher.model"
    if is_local(settings.model):
        folder = Path(settings.model).expanduser()
        if not folder.is_dir():
            raise ConfigError(where, f"no folder {settings.model}")
        missing = [name for name in ("model_index.json", *PARTS) if not (folder / name).exists()]
        if missing:
            raise ConfigError(where, f"{settings.model} is no pipeline of SDXL's kind: it has no {missing[0]}")
    given = {} if settings.vae is None else {"vae": load_vae("recipe.teacher.vae", settings.vae)}
    pipeline = load_pipeline(where, settings.model, settings.revision, settings.variant, **given)
    if settings.unet is not None:
        _replace_weights(pipeline.unet, settings.unet)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _replace_weights(unet: UNet2DConditionModel, file: str) -> None:
    where = "recipe.teacher.unet"
    path = Path(file).expanduser()
    if not path.is_file():
        owner, slash, rest = file.partition("/")
        name, second, inside = rest.partition("/")
        if not slash or not second or path.is_absolute():
            raise ConfigError(where, f"no file {file}")
        path = fetch_file(where, f"{owner}/{name}", inside, None)
    try:
        unet.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = one_line(error, 300)
        raise ConfigError(where, f"{file} does not fit the teacher's U-Net: {reason}") from None
