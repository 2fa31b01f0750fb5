"""Settings of score: models and operators that add columns."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from curation.config.base import BatchRun, Settings
from curation.row import RESERVED

MEASURED_BY_FETCH = ("sharpness", "phash")
"""Operators that have nothing left to do: fetch measured these columns on its one decode."""


class ModelSettings(Settings):
    """A model in the format of `transformers`. A plain string means `{model: that}`."""

    model: str
    """Local folder, or name on the hub."""
    revision: str | None = None
    """Commit on the hub; name it, or the same config may mean another model tomorrow."""


def _named(given: Any) -> Any:
    return {"model": given} if isinstance(given, str) else given


Model = Annotated[ModelSettings, BeforeValidator(_named)]


class HeadSettings(ModelSettings):
    """A file of weights; a plain string is its path on this machine."""

    model: str
    """Local file; or with `file`, a repository on the hub."""
    file: str | None = None
    """Name of the file in that repository."""


class ClassifierSettings(ModelSettings):
    """Any image classifier; its score is the probability of some of its labels."""

    labels: tuple[str, ...] = Field(min_length=1)
    """Labels whose probabilities are summed into the score."""


class ScoreSettings(Settings):
    """Operators that add columns; they never drop a row. Each model runs once an image, on one decode for all."""

    ops: tuple[str, ...] = Field(min_length=1)
    """Run in this order: `clip`, `aesthetic`, names under `classifiers`, `sharpness` and `phash` (which fetch has
    measured already), or operators of your own by import path, `package.module:Class`."""
    clip: Model = ModelSettings(model="openai/clip-vit-large-patch14")
    """CLIP: column `clip_similarity` to the original caption, and the embedding that `aesthetic` and `dedup.semantic`
    use."""
    aesthetic: Annotated[HeadSettings, BeforeValidator(_named)] | None = None
    """The aesthetic head over CLIP's embedding, in LAION's layout, `.pth` or `.safetensors`: a local file, or {model:
    trl-lib/ddpo-aesthetic-predictor, file: aesthetic-model.pth}. Column `aesthetic`, about 1 to 10."""
    classifiers: dict[str, ClassifierSettings] = Field({})
    """Classifiers by the name of the column that they write, a probability: `safety`, `watermark`, …"""
    run: BatchRun = BatchRun()
    """Speed only."""

    @field_validator("classifiers")
    @classmethod
    def _names(cls, classifiers: dict[str, ClassifierSettings]) -> dict[str, ClassifierSettings]:
        for name in classifiers:
            if not name.isidentifier() or name in RESERVED or name in ("clip", "aesthetic", "clip_similarity"):
                raise ValueError(f"{name!r} cannot be the name of a new column")
        return classifiers
