"""Settings of Würstchen's recipes (Pernias et al. 2023, arXiv 2306.00637): Stage C makes semantic latents of text,
Stage B makes Stage A's latents of those, Stage A makes pictures. Defaults are the second version's, as published.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from curation.config.base import Settings


class PartSettings(Settings):
    """A model that is there: in a folder, or on the hub. A plain string means `{model: that}`."""

    model: str
    """Folder, or name on the hub."""
    revision: str | None = None
    """Commit on the hub."""
    subfolder: str | None = None
    """Folder below `model` that holds it (`decoder`); not given: `model` itself."""


TextLayer = Literal["last", "penultimate"]


class TextSettings(PartSettings):
    """A frozen text encoder of CLIP, whose hidden states are the condition."""

    tokenizer: str | None = None
    """Folder below `model` that holds the tokenizer; not given: the text encoder's own."""
    layer: TextLayer = "last"
    """Whose hidden states: `last` as the authors have it; `penultimate` for encoders of SDXL's kind, which were read
    there, and of whose last layer only the place of the end counts."""
    beside: TextSettings | None = None
    """Another encoder, whose hidden states stand beside the first one's, channel by channel: SDXL reads two, and what
    one of them does not tell the other may."""


class CompressorSettings(PartSettings):
    """The semantic compressor: a folder that this project wrote, or with `file` the authors' EfficientNet-V2."""

    file: str | None = None
    """Weights below `model` in the authors' names: `model_v2_stage_b.pt` of `dome272/wuerstchen`, which Würstchen's
    second version was trained with, or `effnet_encoder.safetensors` of `stabilityai/stable-cascade`. To train one, also
    torchvision's classifier of ImageNet (`efficientnet_v2_s-dd5fe13b.pth`), of which the trunk is taken."""
    backbone: Literal["efficientnet_v2_s", "efficientnet_v2_l"] = "efficientnet_v2_s"
    """With `file` only: what it is of."""
    scale: float = Field(1.0, gt=0)
    """With `file` only: Stage C works on (latents + `shift`) / `scale`; 42 for Würstchen's second version."""
    shift: float = 0.0
    """With `file` only; 1 for Würstchen's second version."""

    @model_validator(mode="after")
    def _of_a_file(self) -> CompressorSettings:
        if self.file is None:
            fields = type(self).model_fields
            for name in ("backbone", "scale", "shift"):
                if getattr(self, name) != fields[name].default:
                    raise ValueError(f"`{name}` goes with `file`: a folder says by itself what it is of")
        return self


def _named(given: Any) -> Any:
    return {"model": given} if isinstance(given, str) else given


Part = Annotated[PartSettings, BeforeValidator(_named)]
Text = Annotated[TextSettings, BeforeValidator(_named)]
Compressor = Annotated[CompressorSettings, BeforeValidator(_named)]


class PriorSettings(Settings):
    """The shape of Stage C; by default that of the published one, of 993,636,896 parameters."""

    width: int = Field(1536, ge=1)
    """Channels."""
    depth: int = Field(32, ge=1)
    """Blocks, each of a residual layer, a layer for the time, and attention."""
    heads: int = Field(24, ge=1)
    """Heads of attention; they divide the width."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Inside the residual layers and the attention."""
    weights: Part | None = None
    """Go on from a trained one (`{model: warp-ai/wuerstchen-prior, subfolder: prior}`); its shape is then its own."""

    @model_validator(mode="after")
    def _heads(self) -> PriorSettings:
        if self.width % self.heads:
            raise ValueError(f"`width` {self.width} cannot be shared out to {self.heads} heads")
        return self


class LevelSettings(Settings):
    """A level of Stage B; each is half as fine as the one above it."""

    width: int = Field(ge=1)
    """Channels."""
    blocks: int = Field(ge=1)
    """Blocks on the way down, and as many on the way up."""
    heads: int | None = Field(None, ge=1)
    """Heads of attention over the level's own places and the text; none: no attention."""
    semantic: bool = True
    """Its residual layers see the semantic latents."""

    @model_validator(mode="after")
    def _heads(self) -> LevelSettings:
        if self.heads is not None and self.width % self.heads:
            raise ValueError(f"`width` {self.width} cannot be shared out to {self.heads} heads")
        return self


class DecoderSettings(Settings):
    """The shape of Stage B; by default that of the published one, of 1,055 million parameters."""

    levels: tuple[LevelSettings, ...] = Field(
        (
            LevelSettings(width=320, blocks=4, semantic=False),
            LevelSettings(width=640, blocks=4, heads=10),
            LevelSettings(width=1280, blocks=14, heads=20),
            LevelSettings(width=1280, blocks=4, heads=20),
        ),
        min_length=1,
    )
    """From the finest on."""
    conditioning: int = Field(1024, ge=1)
    """Channels that text and semantic latents are mapped to."""
    patch: int = Field(2, ge=1)
    """Stage A's latents are taken in squares of this side."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Inside the residual layers and the attention."""
    weights: Part | None = None
    """Go on from a trained one (`{model: warp-ai/wuerstchen, subfolder: decoder}`); its shape is then its own."""


class CascadeSampling(Settings):
    """How pictures are made of prompts, through stages C, B and A."""

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1024, 1024)
    """Height and width, pixels."""
    prior_points: int = Field(30, ge=3)
    """Points of time at which Stage C is asked, from 1 to 0: two thirds of them above 2/3, as the authors have it."""
    prior_guidance: float = Field(4.0, ge=0)
    """Guidance scale of Stage C; 1 or less is without guidance."""
    decoder_steps: int = Field(12, ge=1)
    """Steps of Stage B, evenly spaced."""
    decoder_guidance: float = Field(0.0, ge=0)
    """Guidance scale of Stage B; 1 or less is without guidance."""


class DecodeSettings(Settings):
    """Stages B and A, frozen: they make pictures of semantic latents."""

    decoder: Part
    """Stage B (`{model: warp-ai/wuerstchen, subfolder: decoder}`)."""
    vqgan: Part
    """Stage A (`{model: warp-ai/wuerstchen, subfolder: vqgan}`)."""
    text: Text | None = None
    """Text encoder of Stage B (`{model: warp-ai/wuerstchen, subfolder: text_encoder, tokenizer: tokenizer}`); none for
    a Stage B without attention."""


class NoiseSettings(Settings):
    """What both stages have in common: ε-prediction on a cosine schedule (Nichol & Dhariwal 2021, eq. 17)."""

    caption_dropout: float = Field(0.05, ge=0, le=1)
    """Share of samples that are shown with "" as their caption, for guidance (Ho & Salimans 2021)."""
    stretch: float = Field(1.08, ge=1)
    """Times are drawn from 0 to this and cut at 1, so that a share of 1 - 1/`stretch` of them is noise alone."""


class SemanticNoiseSettings(NoiseSettings):
    """How Stage B is kept from trusting the semantic latents blindly: Stage C's will not be perfect."""

    semantic_dropout: float = Field(0.05, ge=0, le=1)
    """Share of samples that are shown without semantic latents."""
    semantic_noise: float = Field(0.3, ge=0, le=1)
    """Share of the others whose semantic latents are noised …"""
    semantic_noise_most: float = Field(0.5, gt=0, le=1)
    """… to a time between 0 and this."""


class StageCSettings(NoiseSettings):
    """Train Stage C: from text to semantic latents."""

    kind: Literal["wuerstchen_c"]
    text: Text
    """Text encoder (`{model: warp-ai/wuerstchen-prior, subfolder: text_encoder, tokenizer: tokenizer}`)."""
    compressor: Compressor
    """What the semantic latents are: those in the corpus's cache must be of the same one."""
    prior: PriorSettings = PriorSettings()
    """What is trained."""
    decode: DecodeSettings
    """For pictures, and for the saved folder."""
    sampling: CascadeSampling = CascadeSampling()
    """How pictures are made."""


class StageBSettings(SemanticNoiseSettings):
    """Train Stage B: from semantic latents to Stage A's latents."""

    kind: Literal["wuerstchen_b"]
    text: Text | None = None
    """Text encoder; none for a decoder without attention."""
    compressor: Compressor
    """What makes the semantic latents."""
    train_compressor: bool = False
    """The compressor learns too, as in the paper, where it begins as an EfficientNet-V2 of ImageNet."""
    vqgan: Part
    """Stage A."""
    decoder: DecoderSettings = DecoderSettings()
    """What is trained."""
    sampling: CascadeSampling = CascadeSampling()
    """How pictures are made; of prompts alone, without semantic latents."""

    @model_validator(mode="after")
    def _text_is_heard(self) -> StageBSettings:
        attends = any(level.heads for level in self.decoder.levels)
        if attends and self.text is None:
            raise ValueError("`text` is missing, and levels of the decoder have `heads`, which attend to it")
        return self
