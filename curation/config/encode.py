"""Settings of encode: what a training would compute of every sample again and again, computed once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.config.base import BatchRun, Settings


class EncodeRun(BatchRun):
    """Speed of encode."""

    batch: int = Field(8, ge=1)
    """Pictures, or texts, that a model is given at once."""


class EncodeSettings(Settings):
    """VAE latents and text embeddings as members of the shards, of the models that a training is going to use."""

    model: str
    """Folder of a pipeline of SDXL's kind, or its name on the hub: its VAE, text encoders and tokenizers."""
    revision: str | None = None
    """Commit on the hub; name it, or the same config may mean another model tomorrow."""
    variant: str | None = None
    """Of the weights' files, like `fp16`."""
    vae: str | None = None
    """Folder or hub name of another VAE (`madebyollin/sdxl-vae-fp16-fix`: SDXL's own overflows in fp16)."""
    resolution: int | None = Field(None, ge=16)
    """Pictures are scaled down to about this many pixels squared before they are encoded; not given: as packed."""
    upscale: bool = False
    """Enlarge pictures that were packed smaller than `resolution`, as `data.upscale` of a training."""
    dtype: Literal["fp16", "bf16"] = "fp16"
    """Of what is stored. Both take two bytes a number; fp16 is eight times as fine, and ends at 65,504."""
    latents: bool = True
    """Store latents, as the VAE gives them: the mean of the posterior, not scaled."""
    texts: tuple[str, ...] = ("primary",)
    """Kinds of caption whose embeddings are stored; none: texts are encoded in training. That of no caption is stored
    once a corpus, so that training may still leave captions out."""
    images: bool = False
    """Keep the pictures too; a training on latents does not decode them."""
    run: EncodeRun = EncodeRun()
    """Speed only."""

    @field_validator("texts")
    @classmethod
    def _kinds(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if "empty" in texts:
            raise ValueError("`empty` is stored once for the whole corpus, wherever there are texts")
        if len(set(texts)) < len(texts):
            raise ValueError("a kind of caption is named twice")
        return texts

    @model_validator(mode="after")
    def _something(self) -> EncodeSettings:
        if not (self.latents or self.texts):
            raise ValueError("neither latents nor texts: there is nothing to encode")
        if not (self.latents or self.images):
            raise ValueError("without `latents` a training needs the pictures: set `images`")
        return self
