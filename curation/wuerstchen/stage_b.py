"""Stage B's recipe: a latent diffusion model learns to make Stage A's latents of semantic latents and text.

`curation/train/loop.py` drives it. Some samples are shown without semantic latents, for guidance, and some with noised
ones, so that it can do with Stage C's. In the paper the compressor learns with it (`train_compressor`); Stage C needs
it frozen, and so does a cache of its latents. Its batch norm then sees a rank's share of a batch, not all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from curation.config.wuerstchen import SemanticNoiseSettings, StageBSettings
from curation.distill.losses import add_noise, squared_error
from curation.encode.cache import CacheFacts, check_signatures
from curation.encode.signatures import SEMANTIC, compressor_signature, part_signature, text_signatures
from curation.errors import ConfigError
from curation.train.draws import Draws
from curation.train.recipe import Recipe, TorchBatch
from curation.wuerstchen.cascade import Cascade
from curation.wuerstchen.compressor import SemanticCompressor, load_compressor, semantic_of
from curation.wuerstchen.models import (
    PaellaVQModel,
    WuerstchenDiffNeXt,
    check_sides,
    decoder_config,
    make_decoder,
    reads_text,
)
from curation.wuerstchen.parts import TextEncoder, load_part, parameters, texts_of
from curation.wuerstchen.schedule import alpha_bar, draw_times, p2_weights


@dataclass(frozen=True)
class PreparedB:
    """A batch of Stage A's latents, noised, with what Stage B is told of it."""

    noisy: Tensor
    """float32 [B, L, H, W]."""
    times: Tensor
    """float32 [B], in (0, 1]."""
    noise: Tensor
    """What was added, float32 [B, L, H, W]."""
    given: Tensor
    """Semantic latents float32 [B, C, h, w] as the compressor gives them; pixels uint8 where it learns."""
    shown: Tensor
    """bool [B]: others are shown no semantic latents."""
    blur: Tensor
    """ᾱ of the noise in the semantic latents [B], 1 for none."""
    blur_noise: Tensor
    """float32 [B, C, h, w]."""
    text: Tensor | None
    """[B, T, D]."""


class StageBModel(nn.Module):
    """The decoder, and the compressor where it learns."""

    def __init__(self, decoder: WuerstchenDiffNeXt, compressor: SemanticCompressor, learns: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.compressor = compressor if learns else None
        self._scale, self._shift = float(compressor.config.scale), float(compressor.config.shift)
        if not reads_text(decoder):  # nothing would ever reach it
            decoder.clip_mapper.requires_grad_(False)

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        given: Tensor,
        shown: Tensor,
        blur: Tensor,
        blur_noise: Tensor,
        text: Tensor | None,
    ) -> Tensor:
        """The noise in `noisy`, float [B, L, H, W]; arguments as in `PreparedB`."""
        latents = given if self.compressor is None else self.compressor(given)
        latents = add_noise((latents + self._shift) / self._scale, blur_noise, blur)
        latents = (latents * self._scale - self._shift) * shown[:, None, None, None]
        found: Tensor = self.decoder(noisy, times, latents, text)
        return found


def prepare_decoding(
    clean: Tensor,
    given: Tensor,
    semantic: tuple[int, ...],
    text: Tensor | None,
    draws: Draws,
    settings: SemanticNoiseSettings,
) -> PreparedB:
    """Noise for Stage A's latents `clean` [B, L, H, W], and for semantic latents of shape [B, *semantic]."""
    count, device = len(clean), clean.device
    noise = draws.normal("noise", count, tuple(clean.shape[1:])).to(device)
    times = draw_times(draws.uniform("time", count), settings.stretch).to(device)
    blurred = draws.uniform("blurred", count) < settings.semantic_noise
    blur = alpha_bar((draws.uniform("blur", count) * settings.semantic_noise_most).float())
    return PreparedB(
        noisy=add_noise(clean, noise, alpha_bar(times)),
        times=times,
        noise=noise,
        given=given,
        shown=(draws.uniform("semantic", count) >= settings.semantic_dropout).to(device),
        blur=torch.where(blurred, blur, 1.0).to(device),
        blur_noise=draws.normal("blur_noise", count, semantic).to(device),
        text=text,
    )


def decoding_loss(model: nn.Module, prepared: PreparedB) -> Tensor:
    """Mean squared error of the noise, a sample: float32 [B]. `model` is a `StageBModel`, perhaps wrapped."""
    found = model(
        prepared.noisy,
        prepared.times,
        prepared.given,
        prepared.shown,
        prepared.blur,
        prepared.blur_noise,
        prepared.text,
    )
    return squared_error(found, prepared.noise)


def latents_of(vqgan: PaellaVQModel, pixels: Tensor) -> Tensor:
    """Stage A's latents, scaled, float32 [B, L, H/f, W/f] on its device, of uint8 `pixels` [B, 3, H, W]."""
    images = pixels.to(vqgan.device, vqgan.dtype) / 255
    latents: Tensor = vqgan.encode(images).latents.float() / vqgan.config.scale_factor
    return latents


class StageB(Recipe):
    """Raises ConfigError where a part is missing, or parts do not fit one another."""

    model: StageBModel
    weights: Mapping[str, float] = {"noise": 1.0}

    def __init__(self, settings: StageBSettings, seed: int) -> None:
        self.settings = settings
        self._seed = seed
        self.text = self._load_text()
        self.compressor = self._load_compressor()
        self.vqgan: PaellaVQModel = self._load_vqgan()
        torch.manual_seed(seed)
        if settings.decoder.weights is not None:
            decoder = load_part("recipe.decoder.weights", settings.decoder.weights, WuerstchenDiffNeXt)
            decoder.requires_grad_(True)
        else:
            latents, semantic = self.vqgan.config.latent_channels, self.compressor.config.channels
            text = self.text.width if self.text is not None else 1
            decoder = make_decoder(decoder_config(settings.decoder, latents, semantic, text))
        self.compressor.requires_grad_(settings.train_compressor)
        self.model = StageBModel(decoder, self.compressor, settings.train_compressor)
        self.cascade = Cascade(
            decoder=decoder,
            vqgan=self.vqgan,
            compressor=self.compressor,
            sampling=settings.sampling,
            decoder_text=self.text,
        )

    def _load_text(self) -> TextEncoder | None:
        return TextEncoder.load("recipe.text", self.settings.text) if self.settings.text else None

    def _load_compressor(self) -> SemanticCompressor:
        return load_compressor("recipe.compressor", self.settings.compressor, self._seed)

    def _load_vqgan(self) -> PaellaVQModel:
        return load_part("recipe.vqgan", self.settings.vqgan, PaellaVQModel)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        frozen = [self.text, self.vqgan, None if self.settings.train_compressor else self.compressor]
        for part in frozen:
            if part is not None:
                part.to(device, dtype)
        self.cascade.dtype = dtype

    def prepare(self, batch: TorchBatch, draws: Draws) -> PreparedB:
        clean = latents_of(self.vqgan, batch["pixels"])
        if self.settings.train_compressor:
            given = batch["pixels"].to(clean.device)
            semantic: tuple[int, ...] = self.compressor.config.channels, *self.compressor.latent_size(*given.shape[-2:])
        else:
            given = semantic_of(batch, self.compressor)
            semantic = tuple(given.shape[1:])
        dropout = self.settings.caption_dropout
        text = texts_of(batch, self.text, draws, dropout) if self.text is not None else None
        return prepare_decoding(clean, given, semantic, text, draws, self.settings)

    def losses(self, model: nn.Module, prepared: PreparedB) -> dict[str, Tensor]:
        return {"noise": decoding_loss(model, prepared)}

    def sample_weights(self, prepared: PreparedB) -> Tensor:
        return p2_weights(alpha_bar(prepared.times))

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Of the text alone, without semantic latents: what this stage adds to them is seen with `Cascade.decode`."""
        return self.cascade.sample(prompts, seeds)

    def save(self, folder: Path) -> None:
        """Stages B and A with the compressor, which `load_wuerstchen` reads, in float32. Raises ConfigError or
        StorageError where a part has to be loaded again and cannot be."""
        sources: dict[str, Callable[[], Any]] = {"vqgan": self._load_vqgan, "decoder_text": self._load_text}
        if not self.settings.train_compressor:
            sources["compressor"] = self._load_compressor
        self.cascade.whole(sources).save(folder)

    def check_cache(self, cache: CacheFacts) -> None:
        """Also refuses a corpus without pictures, of which Stage A makes what is learnt."""
        settings = self.settings
        if not cache.pictures:
            raise ConfigError("data.corpora", "Stage B needs pictures: encode with `images`, and without `latents`")
        mine = text_signatures("recipe.text", settings.text) if settings.text else {}
        if not settings.train_compressor:
            mine[SEMANTIC] = compressor_signature("recipe.compressor", settings.compressor)
        check_signatures(cache, mine, "recipe")

    def check_sizes(self, sizes: Collection[tuple[int, int]]) -> None:
        for width, height in sorted(sizes):
            check_sides("data.resolution", (height, width), self.vqgan, self.model.decoder)

    def signature(self) -> Mapping[str, Any]:
        settings = self.settings
        found = {
            "compressor": compressor_signature("recipe.compressor", settings.compressor),
            "vqgan": part_signature("recipe.vqgan", settings.vqgan),
        }
        return found | (text_signatures("recipe.text", settings.text) if settings.text else {})

    def facts(self) -> Mapping[str, Any]:
        return {
            "parameters": parameters(self.model),
            "Stage A parameters": parameters(self.vqgan),
            "compressor parameters": parameters(self.compressor),
        }
