"""Settings of the source: the list of image URLs, or a set of images that are already here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from curation.config.base import Settings
from curation.row import RESERVED


class SourceColumns(Settings):
    """Which columns of the list mean what."""

    url: str = "url"
    """Column with the image's address."""
    alt_text: str | None = None
    """Column with the original caption."""
    license: str | None = None
    """Column with the licence."""
    md5: str | None = None
    """Column with the expected MD5 of the file (hex); a mismatch is a rejection."""
    sha256: str | None = None
    """Column with the expected SHA-256 of the file (hex); a mismatch is a rejection."""
    keep: tuple[str, ...] = ()
    """Further columns that travel along to the end, under their own names."""

    @field_validator("keep")
    @classmethod
    def _no_reserved(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(keep)) < len(keep):
            raise ValueError(f"{max(keep, key=keep.count)!r} is named twice")
        clash = sorted(RESERVED.intersection(keep))
        if clash:
            raise ValueError(f"{', '.join(clash)} would clash with columns of the corpus; rename them in the list")
        return keep


class SourceSettings(Settings):
    """A list of image URLs, or a set of images that are already here."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Name of this source; part of every row's `uid`."""
    kind: Literal["parquet", "csv", "tsv", "jsonl", "txt", "hf", "webdataset", "img2dataset"]
    """Format. `txt` has one URL a line; text formats may be gzipped; `webdataset` and `img2dataset` hold images."""
    path: str
    """File, folder, glob or any fsspec URL; for `hf` a folder or the name of a dataset on the hub."""
    columns: SourceColumns = SourceColumns()
    """Which columns mean what."""
    where: str | None = None
    """SQL condition on the list's own columns; pushed down into Parquet."""
    limit: int | None = Field(None, ge=1)
    """Take only the first rows (after `where`)."""
    hf_config: str | None = None
    """`hf` only: the dataset's configuration name."""
    split: str = "train"
    """`hf` only: the split."""
    revision: str | None = None
    """`hf` only: commit of the dataset."""
