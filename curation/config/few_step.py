"""Settings of the few-step recipe: a teacher that takes many steps, and how few its copy shall take."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curation.config.base import Settings
from curation.config.koala import SamplingSettings, TeacherSettings


class FewStepSettings(Settings):
    """Distil a teacher into a copy of itself that samples in a few steps, without guidance."""

    kind: Literal["few_step"]
    teacher: TeacherSettings
    """Who teaches."""
    steps: int = Field(4, ge=1)
    """Steps of the copy, evenly spaced, from the noisiest timestep on."""
    substeps: int = Field(8, ge=1)
    """Steps that the teacher takes for each of them."""
    guidance: float = Field(3.0, ge=0)
    """Guidance scale of the teacher."""

    @model_validator(mode="after")
    def _of_koala(self) -> FewStepSettings:
        for name, instead in (("guidance", "`guidance`"), ("timesteps", "`steps` and `substeps`")):
            if getattr(self.teacher, name) is not None:
                raise ValueError(f"`teacher.{name}` is not read here: say it by {instead}")
        return self

    @property
    def student_sampling(self) -> SamplingSettings:
        """How the copy is sampled."""
        return SamplingSettings(steps=self.steps, guidance=1.0, scheduler="euler", timestep_spacing="trailing")
