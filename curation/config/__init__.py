"""Every setting of a curation run: typed, documented, frozen; unknown keys are refused with the nearest valid one.

`load_config` reads a YAML file, applies `--set` overrides and returns a `Config`; `curation.fingerprint` turns parts
of it into stage identities. Settings under a stage's `run:` change only its speed and never its identity.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from curation.config.base import BatchRun, Bytes, Place, Settings
from curation.config.caption import CaptionRun, CaptionSettings
from curation.config.encode import EncodeRun, EncodeSettings
from curation.config.fetch import FetchRun, FetchSettings, ImageFormat
from curation.config.pack import PackRun, PackSettings
from curation.config.score import ClassifierSettings, HeadSettings, ModelSettings, ScoreSettings
from curation.config.select import DedupSettings, SelectSettings
from curation.config.source import SourceColumns, SourceSettings
from curation.config.stream import CorpusSettings, ReadRun, StreamSettings

__all__ = [
    "BatchRun",
    "Bytes",
    "CaptionRun",
    "CaptionSettings",
    "ClassifierSettings",
    "Config",
    "CorpusSettings",
    "DedupSettings",
    "EncodeRun",
    "EncodeSettings",
    "FetchRun",
    "FetchSettings",
    "HeadSettings",
    "ImageFormat",
    "ModelSettings",
    "PackRun",
    "PackSettings",
    "ReadRun",
    "ScoreSettings",
    "SelectSettings",
    "Settings",
    "SourceColumns",
    "SourceSettings",
    "Stages",
    "StreamSettings",
]


class Stages(Settings):
    """The journey. A stage that is left out is skipped; `fetch` and `pack` always run."""

    fetch: FetchSettings = FetchSettings()
    """URL to image bank."""
    score: ScoreSettings | None = None
    """Adds columns."""
    select: SelectSettings = SelectSettings()
    """Decides."""
    caption: CaptionSettings | None = None
    """Writes captions."""
    pack: PackSettings = PackSettings()
    """Image bank to shards."""
    encode: EncodeSettings | None = None
    """Shards to shards of latents and text embeddings."""

    @model_validator(mode="after")
    def _says_its_primary(self) -> Stages:
        # The default is the original text: captions would be paid for and then not be what is trained on.
        if self.caption is not None and "primary" not in self.pack.model_fields_set:
            kinds = ", ".join(self.caption.kinds)
            raise ValueError(f"`pack.primary` must say which caption becomes UID.txt: {kinds} or alt")
        return self

    @model_validator(mode="after")
    def _sizes_suit_the_vae(self) -> Stages:
        # Known here, and found out in the last stage otherwise, when all else was paid for.
        encoded = self.encode is not None and self.encode.latents and self.encode.resolution is None
        if encoded and self.pack.buckets == "none":
            raise ValueError("`encode.latents` need `pack.buckets`, or `encode.resolution`: a VAE takes no odd sizes")
        return self


class Config(Settings):
    """A curation run."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Name of the corpus."""
    output: Place
    """Folder or any fsspec URL; stages, shards and report go below it."""
    seed: int = 0
    """Decides the order of rows in the shards, and which rows the report shows."""
    source: SourceSettings | tuple[SourceSettings, ...]
    """One list, or several named ones merged into one table."""
    stages: Stages = Stages()
    """The stages' settings."""

    @property
    def sources(self) -> tuple[SourceSettings, ...]:
        return self.source if isinstance(self.source, tuple) else (self.source,)

    @field_validator("source")
    @classmethod
    def _names(cls, source: Any) -> Any:
        if isinstance(source, tuple):
            if not source:
                raise ValueError("the list of sources is empty")
            names = [s.name for s in source]
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"each source needs a name of its own; used twice: {', '.join(twice)}")
        return source
