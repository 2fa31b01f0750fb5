"""Settings of KOALA's recipe: a teacher, a student cut from it, and the losses between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_serializer, model_validator

from curation.config.base import Settings

Keep = Literal["bottom", "top", "interleaved"]
Where = Literal["self_attention", "cross_attention", "feed_forward", "residual", "last", "last_outer"]
Prediction = Literal["epsilon", "v_prediction", "sample"]


class SamplingSettings(Settings):
    """How a model is sampled. What is not given stays the teacher's."""

    steps: int = Field(25, ge=1)
    """Denoising steps: 25 for a student of SDXL-Base, 10 for one of SDXL-Turbo or SDXL-Lightning (KOALA, §4)."""
    guidance: float = Field(7.5, ge=0)
    """Guidance scale; 1 or less is without guidance. The paper samples students of distilled teachers at 3.5."""
    scheduler: Literal["euler", "euler_ancestral", "ddim", "dpmsolver++"] | None = None
    """By diffusers' names; ancestral ones add noise again at each step. Not given: the pipeline's own."""
    timestep_spacing: Literal["trailing", "leading", "linspace"] = "trailing"
    """Trailing begins at the noisiest step; leading would begin at σ = 8.4 instead of 14.6 with 10 steps of SDXL."""


class TeacherSettings(Settings):
    """A pipeline of SDXL's kind. A step-distilled one says here what it differs in from the model it was made of."""

    model: str
    """Folder of a `StableDiffusionXLPipeline`, or its name on the hub."""
    revision: str | None = None
    """Commit on the hub."""
    variant: str | None = None
    """Of the weights' files, like `fp16`."""
    unet: str | None = None
    """A safetensors file with other weights of the same U-Net: a path, or `owner/name/file.safetensors` on the hub
    (`ByteDance/SDXL-Lightning/sdxl_lightning_4step_unet.safetensors`)."""
    vae: str | None = None
    """Folder or hub name of another VAE (`madebyollin/sdxl-vae-fp16-fix`): SDXL's own overflows in fp16."""
    prediction: Prediction | None = None
    """What the teacher predicts; not given: what its scheduler says."""
    timesteps: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The only timesteps that training draws, of a teacher that knows no others; not given: all of its schedule."""
    guidance: float | None = Field(None, ge=0)
    """Guide the teacher at this scale while it teaches, which costs a second pass; not given: the plain conditional
    prediction, as in the paper."""
    sampling: SamplingSettings = SamplingSettings()
    """How the teacher is sampled for comparison, and its students unless the recipe says otherwise."""


class StudentSettings(Settings):
    """What is cut from the teacher's U-Net. What is not given stays the teacher's."""

    layers_per_block: int = Field(1, ge=1)
    """Residual layers of each down block (up blocks have one more)."""
    transformer_layers: tuple[int, ...] | None = None
    """Depth of the transformers on each level, from the finest on; levels without attention have depths too."""
    widths: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Channels of the levels, from the finest on; others than the teacher's only without what has its shapes, `inherit`
    and `losses.features`. Heads stay as wide as the teacher's."""
    mid_block: bool = True
    """Keep the middle block; it is as deep as the lowest level."""
    keep: Keep = "bottom"
    """Which of a deep transformer's layers a shallower one inherits."""
    inherit: bool = True
    """Begin with the teacher's weights; otherwise from nothing."""


def _alike(given: Any) -> Any:
    return dict.fromkeys(given, 1.0) if isinstance(given, list | tuple) else given


class LossSettings(Settings):
    """Weights of the losses; a weight of 0 leaves its loss out, and what it costs. KOALA takes the plain sum."""

    task: float = Field(1.0, ge=0)
    """Distance to the noise (or v) that was truly there."""
    output: float = Field(1.0, ge=0)
    """Distance to the teacher's prediction."""
    features: float = Field(1.0, ge=0)
    """Distance between features of student and teacher, summed over places."""
    places: Annotated[dict[Where, Annotated[float, Field(gt=0)]], BeforeValidator(_alike)] = Field(
        {"self_attention": 1.0}
    )
    """Where features are compared, a loss each; as a mapping with a weight each, by which `features` is multiplied.
    `last` is the last feature of each block, `last_outer` that of the first down and of the last up block, which the
    paper adds to self-attention with little gain."""
    layers: Keep | None = None
    """With which of a deep teacher transformer's layers; not given: with those that the student inherits."""
    min_snr: float | None = Field(None, gt=0)
    """γ of min-SNR weights (Hang et al. 2023): a sample's losses are weighted by its noise level."""

    @field_serializer("places")
    def _plain(self, places: dict[Where, float]) -> Any:
        """As they are written: a list where all weigh the same."""
        return list(places) if set(places.values()) <= {1.0} else places

    @model_validator(mode="after")
    def _something(self) -> LossSettings:
        if not (self.task or self.output):
            raise ValueError("features alone never reach the last layer: give `task` or `output` a weight")
        if self.features and not self.places:
            raise ValueError("`places` is empty, and `features` has a weight")
        return self


class KoalaSettings(Settings):
    """Distil a U-Net of SDXL's kind into a smaller one (Lee et al. 2024, arXiv 2312.04005)."""

    kind: Literal["koala"]
    teacher: TeacherSettings
    """Who teaches."""
    student: StudentSettings = StudentSettings()
    """Who learns."""
    losses: LossSettings = LossSettings()
    """What is learnt."""
    caption_dropout: float = Field(0.0, ge=0, le=1)
    """Share of samples that are shown without their caption, for guidance (Ho & Salimans 2021)."""
    constant_size: tuple[int, int] | None = None
    """(height, width) that all samples are said to have originally, instead of their own: the control for SDXL's size
    conditioning, by which a model sets small images apart."""
    sampling: SamplingSettings | None = None
    """How the student is sampled; not given: as its teacher."""

    @property
    def student_sampling(self) -> SamplingSettings:
        """How the student is sampled."""
        return self.sampling or self.teacher.sampling

    @model_validator(mode="after")
    def _widths(self) -> KoalaSettings:
        if self.student.widths is not None and (self.student.inherit or self.losses.features):
            raise ValueError("`student.widths` goes with `student.inherit: false` and `losses.features: 0`")
        return self
