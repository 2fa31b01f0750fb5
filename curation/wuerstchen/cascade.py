"""Stages C, B and A as one: pictures of prompts, and a folder with a part each that `load_wuerstchen` reads again.

    cascade = load_wuerstchen("runs/stage-c/model")
    images = cascade.sample(["a red star on the left"], seeds=[0])

The recipes sample and save through this. Each part lies in the format of its library, so stock pipelines can be put
together of them; diffusers' own `save_pretrained` of a whole Würstchen pipeline writes folders that it cannot load.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMWuerstchenScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from torch import Tensor, nn

from curation.config.wuerstchen import CascadeSampling, PartSettings, TextLayer, TextSettings
from curation.errors import ConfigError
from curation.models import forget_places
from curation.wuerstchen.compressor import SemanticCompressor
from curation.wuerstchen.models import (
    PaellaVQModel,
    WuerstchenDiffNeXt,
    WuerstchenPrior,
    check_sides,
    reads_text,
    vqgan_factor,
)
from curation.wuerstchen.parts import BESIDE, TextEncoder, load_part
from curation.wuerstchen.schedule import prior_points

INDEX = "wuerstchen.json"
"""Written last: what the folder holds, and how it is sampled."""
MODELS = {
    "prior": WuerstchenPrior,
    "decoder": WuerstchenDiffNeXt,
    "vqgan": PaellaVQModel,
    "compressor": SemanticCompressor,
}
TEXTS = ("prior_text", "decoder_text")
Predict = Callable[[Tensor, Tensor], Tensor]
"""Noise of noisy latents [B, C, h, w] at times [B]."""


@dataclass
class Cascade:
    """All stages. Without Stage C, Stage B makes what it likes of the text alone."""

    decoder: WuerstchenDiffNeXt
    vqgan: PaellaVQModel
    compressor: SemanticCompressor
    sampling: CascadeSampling
    decoder_text: TextEncoder | None = None
    prior: WuerstchenPrior | None = None
    prior_text: TextEncoder | None = None
    dtype: torch.dtype = torch.float32
    """Sampling computes in this, whatever the weights are in."""

    def __post_init__(self) -> None:
        """Raises ConfigError where parts do not fit one another or the size of the pictures."""
        text, wanted = self.decoder_text, self.decoder.config.clip_embd
        if text is None and reads_text(self.decoder):
            raise ConfigError("recipe", "Stage B attends to text, and has no text encoder")
        if text is not None and text.width != wanted:
            raise ConfigError("recipe", f"Stage B reads text of width {wanted}, its text encoder has {text.width}")
        channels = self.compressor.config.channels
        if self.decoder.config.effnet_embd != channels:
            theirs = self.decoder.config.effnet_embd
            raise ConfigError("recipe.compressor", f"gives {channels} channels where Stage B takes {theirs}")
        latents = self.vqgan.config.latent_channels
        if self.decoder.config.c_in != latents:
            raise ConfigError("recipe", f"Stage A has {latents} channels, Stage B {self.decoder.config.c_in}")
        if (self.prior is None) != (self.prior_text is None):
            raise ConfigError("recipe", "Stage C and its text encoder go together")
        if self.prior is not None and self.prior_text is not None:
            # Its own is attention with all scores in memory: at 1024 pixels two gigabytes a layer for 40 samples.
            self.prior.set_attn_processor(AttnProcessor2_0())
            makes, reads = self.prior.config.c_in, self.prior.config.c_cond
            if makes != channels:
                raise ConfigError("recipe.prior", f"makes {makes} channels, the compressor {channels}")
            if reads != self.prior_text.width:
                raise ConfigError("recipe.prior", f"reads text of width {reads}, not {self.prior_text.width}")
        check_sides("recipe.sampling.size", self.sampling.size, self.vqgan, self.decoder)

    @property
    def device(self) -> torch.device:
        return self.decoder.device  # type: ignore[no-any-return]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all stages, and let them compute in `dtype`; Stage C, which may be learning, keeps its own."""
        for part in (self.decoder, self.vqgan, self.compressor, self.decoder_text, self.prior_text):
            if part is not None:
                part.to(device, dtype)
        if self.prior is not None:
            self.prior.to(device)
        self.dtype = dtype

    # -- sampling ----------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], batch: int = 32) -> list[Image.Image]:
        """A picture a prompt. Each has noise of its own seed, drawn on the CPU: the same in any batch."""
        images = []
        for start in range(0, len(prompts), batch):
            given = prompts[start : start + batch]
            dice = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
            semantic = self._semantic_of(given, dice) if self.prior is not None else None
            images += self._pictures(semantic, given, dice)
        return images

    def decode(self, semantic: Tensor, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Pictures of semantic latents [B, C, h, w] as the compressor gives them, by stages B and A."""
        return self._pictures(semantic, prompts, [torch.Generator().manual_seed(seed) for seed in seeds])

    def _semantic_of(self, prompts: Sequence[str], dice: list[torch.Generator]) -> Tensor:
        """Stage C: semantic latents as the compressor gives them, float32."""
        assert self.prior is not None
        assert self.prior_text is not None
        text, without = self.prior_text(prompts), self.prior_text([""] * len(prompts))
        prior = self.prior

        def predict(noisy: Tensor, times: Tensor, shown: bool) -> Tensor:
            return prior(noisy, times, text if shown else without)  # type: ignore[no-any-return]

        shape = (self.compressor.config.channels, *self.compressor.latent_size(*self.sampling.size))
        points = prior_points(self.sampling.prior_points)
        with self._sampling(prior):
            found = denoised(guided(predict, self.sampling.prior_guidance), shape, points, dice, self.device)
        return self.compressor.restored(found)

    def _pictures(
        self, semantic: Tensor | None, prompts: Sequence[str], dice: list[torch.Generator]
    ) -> list[Image.Image]:
        """Stages B and A."""
        size, sampling = self.sampling.size, self.sampling
        nothing = torch.zeros(len(prompts), self.compressor.config.channels, *self.compressor.latent_size(*size))
        nothing = nothing.to(self.device)
        semantic = nothing if semantic is None else semantic.to(self.device).float()
        encoder = self.decoder_text
        text, without = (encoder(prompts), encoder([""] * len(prompts))) if encoder is not None else (None, None)
        decoder = self.decoder

        def predict(noisy: Tensor, times: Tensor, shown: bool) -> Tensor:
            if shown:
                return decoder(noisy, times, semantic, text)  # type: ignore[no-any-return]
            return decoder(noisy, times, nothing, without)  # type: ignore[no-any-return]

        factor = vqgan_factor(self.vqgan)
        shape = (self.vqgan.config.latent_channels, size[0] // factor, size[1] // factor)
        points = torch.linspace(1, 0, sampling.decoder_steps + 1)
        with self._sampling(decoder):
            latents = denoised(guided(predict, sampling.decoder_guidance), shape, points, dice, self.device)
            found = self.vqgan.decode(latents.to(self.vqgan.dtype) * self.vqgan.config.scale_factor).sample
        pixels = (found.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(picture) for picture in pixels]

    @contextmanager
    def _sampling(self, model: nn.Module) -> Iterator[None]:
        """`model`, which may be the one that learns, in eval mode; computing in `dtype`."""
        learning = model.training
        model.eval()
        try:
            with (
                torch.no_grad(),
                torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32),
            ):
                yield
        finally:
            model.train(learning)

    # -- folders -----------------------------------------------------------------------------------------------------

    def whole(self, sources: Mapping[str, Callable[[], Any]]) -> Cascade:
        """For saving: with what `sources` load in the place of frozen parts that went through bf16 or fp16, and are
        rounded for good."""
        if self.dtype == torch.float32:
            return self
        return replace(self, **{name: load() for name, load in sources.items()})

    def save(self, folder: Path) -> None:
        """A folder a part, the scheduler among them, and `wuerstchen.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        models = [name for name in MODELS if getattr(self, name) is not None]
        texts = {name: encoder for name in TEXTS if (encoder := getattr(self, name)) is not None}
        for name in models:
            getattr(self, name).save_pretrained(folder / name, safe_serialization=True)
        for name, encoder in texts.items():
            encoder.save(folder / name)
        forget_places(folder)
        DDPMWuerstchenScheduler().save_pretrained(folder / "scheduler")
        layers = {name: _layers(encoder) for name, encoder in texts.items()}
        index = {"models": models, "texts": layers, "sampling": self.sampling.model_dump(mode="json")}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def load_wuerstchen(folder: str | Path) -> Cascade:
    """What `Cascade.save` wrote, on the CPU in float32. Raises ConfigError where it is not that."""
    folder = Path(folder)
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sampling = CascadeSampling.model_validate(index["sampling"])
        models = list(index["models"])
        texts = {name: _text_settings(folder / name, layers) for name, layers in index["texts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError("", f"{folder} holds no Würstchen: {' '.join(str(error).split())[:200]}") from None
    if not {"decoder", "vqgan", "compressor"} <= set(models) <= set(MODELS) or not set(texts) <= set(TEXTS):
        raise ConfigError("", f"{folder / INDEX} names {', '.join([*models, *texts])}, which is no Würstchen")
    parts: dict[str, Any] = {
        **{name: load_part("", PartSettings(model=str(folder / name)), MODELS[name]) for name in models},
        **{name: TextEncoder.load("", settings) for name, settings in texts.items()},
    }
    return Cascade(**parts, sampling=sampling)


def _layers(encoder: TextEncoder | None) -> list[TextLayer]:
    """Which layer is read of an encoder, then of the one beside it."""
    return [] if encoder is None else [encoder.layer, *_layers(encoder.beside)]


def _text_settings(folder: Path, layers: Sequence[TextLayer]) -> TextSettings:
    beside = _text_settings(folder / BESIDE, layers[1:]) if layers[1:] else None
    return TextSettings(model=str(folder), layer=layers[0], beside=beside)


def guided(predict: Callable[[Tensor, Tensor, bool], Tensor], scale: float) -> Predict:
    """Classifier-free guidance (Ho & Salimans 2021, eq. 6, in diffusers' count: 1 is none); `predict` takes whether the
    condition is shown."""

    def found(noisy: Tensor, times: Tensor) -> Tensor:
        shown = predict(noisy, times, True)
        return torch.lerp(predict(noisy, times, False), shown, scale) if scale > 1 else shown

    return found


def denoised(
    predict: Predict, shape: tuple[int, ...], points: Tensor, dice: list[torch.Generator], device: torch.device
) -> Tensor:
    """Clean latents float32 [B, *shape] of noise, by ancestral steps from one of `points` to the next (Ho et al. 2020,
    algorithm 2); `dice` has a generator a sample, on the CPU."""
    scheduler, points = DDPMWuerstchenScheduler(), points.to(device)
    scheduler.set_timesteps(timesteps=points, device=device)
    found = torch.stack([torch.randn(shape, generator=one) for one in dice]).to(device)
    for time in points[:-1]:
        times = time.expand(len(dice))
        noise = predict(found, times).float()
        found = scheduler.step(noise, times, found, generator=dice).prev_sample
    return found
