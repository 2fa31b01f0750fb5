"""What a report shows of the stages that run models, as plain data: scores, captions, and latents."""

from __future__ import annotations

from dataclasses import dataclass

from curation.report.shapes import Histogram, Lengths


@dataclass(frozen=True)
class ThresholdFacts:
    """A threshold of `select.where` on a score."""

    label: str
    """ "≥ 5.5"."""
    passing: int
    """Scored rows that are on the side that stays; other rules may drop them all the same."""


@dataclass(frozen=True)
class ScoreFacts:
    """One score over all scored rows that have it."""

    histogram: Histogram
    """`before`: rows that select dropped (all rows, while select has not decided); `after`: rows that it kept."""
    scored: int
    kept: int | None
    """None while select has not decided."""
    missing: int
    """Rows that score kept without this score: null or NaN, to select the same."""
    thresholds: tuple[ThresholdFacts, ...] = ()

    @property
    def dropped(self) -> int:
        return self.scored - (self.kept or 0)


@dataclass(frozen=True)
class OperatorSpeed:
    """What an operator of score took, over all rows."""

    op: str
    images: int
    seconds: float
    """Wall time, over all workers together."""

    @property
    def per_s(self) -> float | None:
        """Images a second and worker."""
        return self.images / self.seconds if self.seconds else None


@dataclass(frozen=True)
class ScoringFacts:
    """What score measured, and how fast."""

    scores: tuple[ScoreFacts, ...] = ()
    operators: tuple[OperatorSpeed, ...] = ()


@dataclass(frozen=True)
class KindFacts:
    """Captions of one kind, of the rows that caption kept."""

    kind: str
    """`alt` (the original text), `dense`, …"""
    models: tuple[str, ...]
    captions: int
    """Those that hold text."""
    words: Lengths
    tokens: Lengths
    """By the tokenizer of the student's text encoder, start and end included; captions that were counted."""
    over_limit: int
    """Captions of more tokens than the student reads: their ends are cut off."""


@dataclass(frozen=True)
class CaptioningFacts:
    """What captioning gave, took and cost."""

    rows: int
    """Rows that have an outcome."""
    kept: int
    captions: int
    """Texts written for kept rows, all kinds."""
    tokens: int
    """Written by the model, all rows, kinds and tries."""
    worker_seconds: float
    """Wall time of the workers, added up."""
    tried: int
    """Rows that the model wrote anything for."""
    retried: int
    """Rows that needed a second try."""
    fused: int
    """Kept rows whose dense caption took names from the original one."""
    price_per_hour: float
    """Of one worker: the config's price times the GPUs that a worker holds (1 where it holds none)."""
    token_limit: int
    word_ranges: dict[str, tuple[int, int]]
    """Fewest and most words that a kind may have."""
    kinds: tuple[KindFacts, ...] = ()

    @property
    def cost(self) -> float:
        """Of all captions, also those that were rejected, in the currency of `price_per_hour`."""
        return self.price_per_hour * self.worker_seconds / 3600

    def cost_per_1000(self, kept: int) -> float | None:
        """None where nothing was kept, or no time was noted."""
        return 1000 * self.cost / kept if kept and self.worker_seconds else None


@dataclass(frozen=True)
class CaptionText:
    """A caption that the report shows. Untrusted: written by a stranger, or by a model that read one."""

    kind: str
    text: str
    tokens: int | None
    similarity: float | None = None
    """To the image, where it was measured."""


@dataclass(frozen=True)
class EncodingFacts:
    """What encode stored."""

    samples: int
    tensor_bytes: int
    """Of the tensors of all samples."""
    shard_bytes: int
    """Of all that the samples have in the shards."""
    model: str
    vae: str
    """Another VAE than the model's, or ""."""
    semantic: str
    """Semantic compressor, or ""."""
    text: str
    """Another text encoder than the model's, or ""."""
    dtype: str
    latents: bool
    kinds: tuple[str, ...]
    """Kinds of caption."""
    images: bool

    @property
    def tensors_each(self) -> float:
        """Bytes of a sample's tensors."""
        return self.tensor_bytes / max(self.samples, 1)

    @property
    def shard_each(self) -> float:
        """Bytes of a sample in its shard."""
        return self.shard_bytes / max(self.samples, 1)

    @property
    def models(self) -> list[tuple[str, str]]:
        """What each model is, "" for the pipeline, and its name."""
        named = (("", self.model), ("VAE", self.vae), ("compressor", self.semantic), ("text encoder", self.text))
        return [(what, model) for what, model in named if model]

    @property
    def told(self) -> str:
        """ "latents, captions (dense, short)"."""
        parts = [
            *(["latents"] if self.latents else []),
            *(["semantic latents"] if self.semantic else []),
            *([f"captions ({', '.join(self.kinds)})"] if self.kinds else []),
            *(["pictures"] if self.images else []),
        ]
        return ", ".join(parts)
