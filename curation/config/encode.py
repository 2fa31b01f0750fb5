"""Settings of encode: what a training would compute of every sample again and again, computed once."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.config.base import BatchRun, Settings
from curation.config.wuerstchen import Compressor, Text


class EncodeRun(BatchRun):
    """Speed of encode."""

    batch: int = Field(8, ge=1)
    """Pictures, or texts, that a model is given at once."""


class EncodeSettings(Settings):
    """Latents and text embeddings as members of the shards, of the models that a training is going to use."""

    model: str | None = None
    """Folder of a pipeline of SDXL's kind, or its name on the hub: its VAE, text encoders and tokenizers. Without it
    there are no `latents`, and no `texts` but those of `text`."""
    revision: str | None = None
    """Commit on the hub; name it, or the same config may mean another model tomorrow."""
    variant: str | None = None
    """Of the weights' files, like `fp16`."""
    vae: str | None = None
    """Folder or hub name of another VAE (`madebyollin/sdxl-vae-fp16-fix`: SDXL's own overflows in fp16)."""
    semantic: Compressor | None = None
    """Semantic compressor of a Würstchen; its latents are stored as it gives them, without `scale` and `shift`."""
    text: Text | None = None
    """A text encoder in place of `model`'s: its last hidden states are stored, as Würstchen's stages read them."""
    resolution: int | None = Field(None, ge=16)
    """Pictures are scaled down to about this many pixels squared before they are encoded; not given: as packed."""
    upscale: bool = False
    """Enlarge pictures that were packed smaller than `resolution`, as `data.upscale` of a training."""
    dtype: Literal["fp16", "bf16"] = "fp16"
    """Of what is stored. Both take two bytes a number; fp16 is eight times as fine, and ends at 65,504; what a
    model computes in bf16 is no finer for it."""
    latents: bool = True
    """Store latents, as the VAE gives them: the mean of the posterior, not scaled."""
    texts: tuple[str, ...] = ("primary",)
    """Kinds of caption whose embeddings are stored; none: texts are encoded in training. That of no caption is stored
    once a corpus, so that training may still leave captions out."""
    images: bool = False
    """Keep the pictures too. A training does not decode them where there are `latents`; where `semantic` stands alone,
    Stage B of a Würstchen does, which must, and Stage C does not."""
    run: EncodeRun = EncodeRun()
    """Speed only."""

    @model_validator(mode="before")
    @classmethod
    def _of_no_pipeline(cls, given: Any) -> Any:
        """Defaults are of a pipeline; without one there is nothing that could make latents or embeddings."""
        if not isinstance(given, dict) or given.get("model") is not None:
            return given
        without = {"latents": False} if given.get("text") is not None else {"latents": False, "texts": ()}
        return without | given

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
        if not (self.latents or self.semantic or self.texts):
            raise ValueError("there is nothing to encode: name `model` or `semantic`")
        if self.model is None and (self.latents or self.vae is not None):
            raise ValueError("`latents` need `model`")
        if self.model is None and self.text is None and self.texts:
            raise ValueError("`texts` need `model` or `text`")
        if self.text is not None and not self.texts:
            raise ValueError("`text` is a text encoder, and `texts` names nothing that it should encode")
        if not (self.latents or self.semantic or self.images):
            raise ValueError("without `latents` or `semantic` a training needs the pictures: set `images`")
        return self
