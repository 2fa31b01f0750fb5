"""Every setting of a curation run: typed, documented, frozen; unknown keys are refused with the nearest valid one.

`load_config` reads a YAML file, applies `--set` overrides and returns a `Config`; `curation.fingerprint` turns parts
of it into stage identities. Settings under a stage's `run:` change only its speed and never its identity.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from curation.row import RESERVED
from curation.units import parse_bytes

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
"""A number of bytes; accepts "512MB" (powers of ten) and "512MiB" (powers of two)."""


class Settings(BaseModel):
    """Base of all settings: frozen, keyword-only, no unknown keys, a docstring under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# ---------------------------------------------------------------------------------------------------------------------
# source


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


# ---------------------------------------------------------------------------------------------------------------------
# stages


class FetchRun(Settings):
    """Speed of fetch."""

    concurrency: int = Field(256, ge=1)
    """Connections at once, over all workers together."""
    per_host: int = Field(8, ge=1)
    """Connections at once to one host, over all workers (never under one a worker)."""
    workers: int = Field(0, ge=0)
    """Network processes; 0: one for each two cores of the cluster."""
    decoders: int = Field(0, ge=0)
    """Image-check processes of each worker; 0: two (a worker's cores)."""


ImageFormat = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"]


class FetchSettings(Settings):
    """One GET a row, stopped as soon as the header shows that the image will not do; then the image check."""

    engine: Literal["async", "img2dataset"] = "async"
    """`async`: keep-alive, header-first. `img2dataset`: that library's downloader and resizer (Python < 3.13)."""
    min_side: int = Field(0, ge=0)
    """Reject images whose shorter side is under this many pixels."""
    max_aspect: float | None = Field(None, ge=1)
    """Reject images whose longer side is over this many times the shorter."""
    max_pixels: int = Field(100_000_000, ge=1)
    """Reject images of more pixels than this (read from the header, before any decoding)."""
    min_bytes: Bytes = 0
    """Reject files smaller than this."""
    max_bytes: Bytes = 50_000_000
    """Reject files larger than this; counted on the stream, whatever Content-Length says."""
    formats: tuple[ImageFormat, ...] = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")
    """Formats that may be decoded; told by content, never by name or Content-Type."""
    timeout_s: float = Field(30, gt=0)
    """Hard wall deadline of one try, from connect to last byte, redirects included."""
    connect_timeout_s: float = Field(10, gt=0)
    """Deadline of DNS, TCP and TLS together."""
    retries: int = Field(2, ge=0)
    """Further tries after transient errors (never after 404)."""
    max_redirects: int = Field(5, ge=0)
    """Redirects followed; each hop passes every check again."""
    user_agent: str = "curation/0.1 (+image corpus builder; honours X-Robots-Tag)"
    """What the fetcher calls itself. Put an address here where site owners can reach you."""
    opt_out_headers: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    """X-Robots-Tag directives that make a row `opt_out`; an empty list turns the check off."""
    robots_txt: bool = False
    """Also ask each host's robots.txt (one more request a host)."""
    host_failures: int = Field(8, ge=1)
    """Connection failures in a row after which a host is put aside for the rest of its rows."""
    allow_networks: tuple[str, ...] = ()
    """Non-public networks that may be reached all the same, as CIDR: `127.0.0.0/8` for a server on this machine."""
    decode_cpu_s: float = Field(10, gt=0)
    """CPU seconds that decoding one image may take."""
    decode_memory: Bytes = 2_000_000_000
    """Address space of a decoder process."""
    run: FetchRun = FetchRun()
    """Speed only."""

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        import ipaddress

        for network in networks:
            ipaddress.ip_network(network)
        return networks


class BatchRun(Settings):
    """Speed of a stage that works in batches on a pool of workers."""

    workers: int = Field(0, ge=0)
    """Worker processes; 0: one for each core, or for each GPU where `gpus` is set."""
    gpus: float = Field(0, ge=0)
    """GPUs of each worker."""
    batch: int = Field(32, ge=1)
    """Rows of a batch."""


class ScoreSettings(Settings):
    """Operators that add columns; they never drop a row."""

    ops: tuple[str, ...] = Field(min_length=1)
    """Operators by import path, `package.module:Class`, run in this order."""
    run: BatchRun = BatchRun()
    """Speed only."""


class DedupSettings(Settings):
    """Which rows count as the same image; the largest of them stays."""

    exact: Literal["bytes", "pixels", "none"] = "bytes"
    """Same SHA-256 of the downloaded bytes, or of the decoded pixels."""
    phash: int | None = Field(None, ge=0, le=16)
    """Perceptual hashes at most this many bits apart (of 64)."""


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


class PackRun(Settings):
    """Speed of pack."""

    workers: int = Field(0, ge=0)
    """Worker processes; 0: one for each core."""


class PackSettings(Settings):
    """One resize into an aspect bucket, then WebDataset shards."""

    resolution: int = Field(1024, ge=16, le=8192)
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
    """Caption kind that becomes `UID.txt`; `alt` is the original text."""
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
                if not (16 <= width <= 8192 and 16 <= height <= 8192):
                    raise ValueError(f"bucket {width}x{height}: sides go from 16 to 8192 pixels")
        return buckets


class Stages(Settings):
    """The journey. A stage that is left out is skipped; `fetch` and `pack` always run."""

    fetch: FetchSettings = FetchSettings()
    """URL to image bank."""
    score: ScoreSettings | None = None
    """Adds columns."""
    select: SelectSettings = SelectSettings()
    """Decides."""
    pack: PackSettings = PackSettings()
    """Image bank to shards."""


class Config(Settings):
    """A curation run."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Name of the corpus."""
    output: str
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
