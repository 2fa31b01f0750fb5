"""Stage C's recipe: a prior learns to make semantic latents of text. `curation/train/loop.py` drives it.

A batch that brings semantic latents (`semantic`) needs no pixels, and the compressor does not run; where it brings
embeddings (`text`), neither does the text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from curation.config.wuerstchen import StageCSettings
from curation.distill.losses import add_noise, squared_error
from curation.encode.cache import CacheFacts, check_signatures
from curation.encode.signatures import SEMANTIC, compressor_signature, text_signatures
from curation.train.draws import Draws
from curation.train.recipe import Recipe, TorchBatch
from curation.wuerstchen.cascade import Cascade
from curation.wuerstchen.compressor import SemanticCompressor, load_compressor, semantic_of
from curation.wuerstchen.models import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior, make_prior, prior_config
from curation.wuerstchen.parts import TextEncoder, load_part, parameters, texts_of
from curation.wuerstchen.schedule import alpha_bar, draw_times, p2_weights


@dataclass(frozen=True)
class PreparedC:
    """A batch of semantic latents, noised."""

    noisy: Tensor
    """float32 [B, C, h, w]."""
    times: Tensor
    """float32 [B], in (0, 1]."""
    text: Tensor
    """[B, T, D]."""
    noise: Tensor
    """What was added, float32 [B, C, h, w]."""


class StageC(Recipe):
    """Raises ConfigError where a part is missing, or parts do not fit one another."""

    model: WuerstchenPrior
    weights: Mapping[str, float] = {"noise": 1.0}
    reads_pictures = False

    def __init__(self, settings: StageCSettings, seed: int) -> None:
        self.settings, self._seed = settings, seed
        frozen = {name: load() for name, load in self._sources().items()}
        self.text: TextEncoder = frozen["prior_text"]
        self.compressor: SemanticCompressor = frozen["compressor"]
        torch.manual_seed(seed)
        prior, channels = settings.prior, int(self.compressor.config.channels)
        if prior.weights is not None:
            self.model = load_part("recipe.prior.weights", prior.weights, WuerstchenPrior)
            self.model.requires_grad_(True)
        else:
            self.model = make_prior(prior_config(prior, channels, self.text.width))
        self.cascade = Cascade(**frozen, sampling=settings.sampling, prior=self.model)

    def _sources(self) -> dict[str, Callable[[], Any]]:
        """What loads the frozen parts."""
        settings, decode = self.settings, self.settings.decode
        return {
            "prior_text": lambda: TextEncoder.load("recipe.text", settings.text),
            "compressor": lambda: load_compressor("recipe.compressor", settings.compressor, self._seed),
            "decoder": lambda: load_part("recipe.decode.decoder", decode.decoder, WuerstchenDiffNeXt),
            "vqgan": lambda: load_part("recipe.decode.vqgan", decode.vqgan, PaellaVQModel),
            "decoder_text": lambda: TextEncoder.load("recipe.decode.text", decode.text) if decode.text else None,
        }

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self.cascade.to(device, dtype)

    def prepare(self, batch: TorchBatch, draws: Draws) -> PreparedC:
        clean = self.compressor.normalised(semantic_of(batch, self.compressor))
        count, device = len(clean), clean.device
        noise = draws.normal("noise", count, tuple(clean.shape[1:])).to(device)
        times = draw_times(draws.uniform("time", count), self.settings.stretch).to(device)
        text = texts_of(batch, self.text, draws, self.settings.caption_dropout)
        return PreparedC(add_noise(clean, noise, alpha_bar(times)), times, text, noise)

    def losses(self, model: nn.Module, prepared: PreparedC) -> dict[str, Tensor]:
        found = model(prepared.noisy, prepared.times, prepared.text)
        return {"noise": squared_error(found, prepared.noise)}

    def sample_weights(self, prepared: PreparedC) -> Tensor:
        return p2_weights(alpha_bar(prepared.times))

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        return self.cascade.sample(prompts, seeds)

    def save(self, folder: Path) -> None:
        """All three stages, which `load_wuerstchen` reads, in float32: `prior` is what was learnt. Raises ConfigError
        or StorageError where a part has to be loaded again and cannot be."""
        self.cascade.whole(self._sources()).save(folder)

    def check_cache(self, cache: CacheFacts) -> None:
        settings = self.settings
        compressor = {SEMANTIC: compressor_signature("recipe.compressor", settings.compressor)}
        check_signatures(cache, compressor | text_signatures("recipe.text", settings.text), "recipe")

    def signature(self) -> Mapping[str, Any]:
        settings = self.settings
        return {
            **text_signatures("recipe.text", settings.text),
            "compressor": compressor_signature("recipe.compressor", settings.compressor),
        }

    def facts(self) -> Mapping[str, Any]:
        cascade = self.cascade
        return {
            "parameters": parameters(self.model),
            "Stage B parameters": parameters(cascade.decoder),
            "Stage A parameters": parameters(cascade.vqgan),
            "compressor parameters": parameters(self.compressor),
            "text encoder parameters": self.text.parameters,
        }
