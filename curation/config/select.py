"""Settings of select: rules over columns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curation.config.base import Settings


class DedupSettings(Settings):
    """Which rows count as the same image; the largest of them stays (of semantic duplicates, the best)."""

    exact: Literal["bytes", "pixels", "none"] = "bytes"
    """Same SHA-256 of the downloaded bytes, or of the decoded pixels."""
    phash: int | None = Field(None, ge=0, le=16)
    """Perceptual hashes at most this many bits apart (of 64)."""
    semantic: float | None = Field(None, gt=0, le=1)
    """CLIP embeddings with at least this cosine similarity; needs `clip` among the scores."""
    prefer: str | None = None
    """SQL expression: of semantic duplicates the row with its highest value stays. Null: `by`, else the aesthetic
    score where there is one, else the number of pixels."""


class SelectSettings(Settings):
    """Rules over columns; no pixels are touched."""

    where: str | None = None
    """SQL condition over the columns; rows for which it is false or null are rejected."""
    dedup: DedupSettings = DedupSettings()
    """Duplicates."""
    top: int | None = Field(None, ge=1)
    """Keep at most this many rows …"""
    by: str | None = None
    """… with the highest value of this SQL expression (ties by `uid`)."""

    @model_validator(mode="after")
    def _top_by(self) -> SelectSettings:
        if (self.top is None) != (self.by is None):
            raise ValueError("`top` and `by` go together")
        return self
