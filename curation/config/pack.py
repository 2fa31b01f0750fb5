"""Settings of pack: aspect buckets, encoding, shards."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.config.base import Bytes, Settings


class PackRun(Settings):
    """Speed of pack."""

    workers: int = Field(0, ge=0)
    """Worker processes; 0: one for each core."""


class PackSettings(Settings):
    """One resize into an aspect bucket, then WebDataset shards."""

    resolution: int = Field(1024, ge=8, le=8192)
    """Training resolution: buckets hold about resolution² pixels; without buckets, the longer side."""
    buckets: Literal["auto", "none"] | tuple[tuple[int, int], ...] = "auto"
    """`auto`: SDXL's table scaled to `resolution`; a list of [width, height], of which the largest is taken where
    several have one aspect; `none`: keep each image's aspect."""
    fit: Literal["crop", "pad"] = "crop"
    """Cover the bucket and crop the centre, or fit inside it and pad with white."""
    upscale: bool = False
    """Enlarge images smaller than their bucket; otherwise they are rejected (without buckets: left as they are)."""
    filter: Literal["bicubic", "lanczos"] = "bicubic"
    """Antialiasing filter of the one resize: bicubic behind a low-pass filter, or Lanczos, which is slower."""
    primary: str = "alt"
    """Caption kind that becomes `UID.txt`; `alt` is the original text. To be named where there is a caption stage."""
    format: Literal["jpg", "png", "webp"] = "jpg"
    """Image format of the shards."""
    quality: int = Field(95, ge=1, le=100)
    """JPEG and WebP quality; WebP at 100 is lossless."""
    shard_bytes: Bytes | None = None
    """Aimed size of a shard (shards are cut before encoding, from a calibrated estimate)."""
    shard_samples: int | None = Field(None, ge=1)
    """Samples of a shard. Without either setting: 1,000."""
    run: PackRun = PackRun()
    """Speed only."""

    @model_validator(mode="after")
    def _one_limit(self) -> PackSettings:
        if self.shard_bytes is not None and self.shard_samples is not None:
            raise ValueError("set `shard_bytes` or `shard_samples`, not both")
        if self.shard_bytes is not None and self.shard_bytes < 1_000_000:
            raise ValueError("`shard_bytes` under 1 MB makes shards of single samples")
        return self

    @field_validator("buckets")
    @classmethod
    def _bucket_sides(cls, buckets: Any) -> Any:
        if isinstance(buckets, tuple):
            if not buckets:
                raise ValueError("the list of buckets is empty")
            for width, height in buckets:
                if not (8 <= width <= 8192 and 8 <= height <= 8192):
                    raise ValueError(f"bucket {width}x{height}: sides go from 8 to 8192 pixels")
        return buckets
