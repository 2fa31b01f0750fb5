"""Settings of the stream: how a training job reads shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from curation.config.base import Bytes, Place, Settings


class CorpusSettings(Settings):
    """One corpus of the stream."""

    path: Place
    """Folder of a packed corpus (shards, index, manifest) or its fsspec URL; foreign tars need `curate index` first."""
    weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Share of the samples, beside the other corpora's; with one corpus it says nothing."""


class ReadRun(Settings):
    """Speed of reading."""

    cache: str | None = None
    """Folder on this node where shards from afar are kept, shared by its processes; none: ranges are read each time."""
    cache_bytes: Bytes = 100_000_000_000
    """Room in it; the shards that were used longest ago go first, and only such as the stream itself has put there."""
    stall_s: float = Field(30, gt=0)
    """Reads from afar (one sample, or 8 MiB for the cache) that take longer are given up, and tried again."""
    retries: int = Field(3, ge=0)
    """Further tries of a read from afar."""


class StreamSettings(Settings):
    """Which samples, in what order, with which caption; a checkpoint must match in all but `run` and `damage`."""

    corpora: tuple[CorpusSettings, ...] = Field(min_length=1)
    """One corpus, or several mixed by weight; all of them or none have one."""
    batch: int = Field(ge=1)
    """Samples of a global batch: over all ranks, whatever their number."""
    seed: int = 0
    """Decides order and captions."""
    window: int = Field(128, ge=1)
    """Shards that are open at once: with fewer than half of all, neighbours come from the same shard more than twice as
    often as in a true permutation."""
    tails: Literal["drop", "pad", "merge"] = "drop"
    """What is left of a bucket when it fills no batch: dropped; filled up with samples that come twice; or put together
    with the other buckets' tails, cropped to one shape, and filled up if that fills no batch either."""
    captions: dict[str, float] = Field({"primary": 1.0})
    """Kinds of caption and how often each is taken: {dense: 0.8, short: 0.1, empty: 0.1}; `primary` is `UID.txt`."""
    damage: Literal["raise", "skip", "replace"] = "raise"
    """A sample that is not what the index says: stop; go on without it, in a smaller batch of one rank (all still have
    as many batches); or take another of its bucket in its place, which keeps batches equal."""
    damage_budget: int = Field(100, ge=0)
    """Damaged samples of an epoch, since it was begun or gone on with, on one rank, over which the stream stops."""
    run: ReadRun = ReadRun()
    """Speed only."""

    @model_validator(mode="after")
    def _together(self) -> StreamSettings:
        check_weights(self.corpora, self.captions)
        return self


def check_weights(corpora: Sequence[CorpusSettings], captions: Mapping[str, float]) -> None:
    """Raises ValueError where they cannot be weights of one mixture."""
    weighted = [corpus.weight is not None for corpus in corpora]
    if any(weighted) and not all(weighted):
        raise ValueError("each of the `corpora` has a weight, or none has")
    weights = captions.values()
    if not all(0 <= weight < float("inf") for weight in weights) or not sum(weights):
        raise ValueError("`captions` needs weights of at least 0, and one over 0")
