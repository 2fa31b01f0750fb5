"""What all settings share."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from curation.units import parse_bytes

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
"""A number of bytes; accepts "512MB" (powers of ten) and "512MiB" (powers of two)."""


Place = Annotated[str, AfterValidator(os.path.expanduser)]
"""A folder or an fsspec URL; a leading `~` is the home folder."""


class Settings(BaseModel):
    """Base of all settings: frozen, keyword-only, no unknown keys, a docstring under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class BatchRun(Settings):
    """Speed of a stage that works in batches on a pool of workers."""

    workers: int = Field(0, ge=0)
    """Worker processes; 0: one for each core, or for each GPU where `gpus` is set."""
    gpus: float = Field(0, ge=0)
    """GPUs of each worker."""
    batch: int = Field(32, ge=1)
    """Rows of a batch."""
