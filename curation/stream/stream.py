"""The stream: batches of one rank, in an order that a few integers continue. No torch; `loader.py` wraps it for torch.

stream = CorpusStream(StreamSettings(corpora=({"path": "runs/demo/pack-…"},), batch=64), rank=0, world=2)
for batch in stream:                  # to the end of the epoch; iterate again for the next one
    batch.samples, batch.captions     # this rank's share of the global batch
    state = stream.state_dict()       # JSON; continues with exactly the next batch, on any number of ranks
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from curation.config.stream import StreamSettings
from curation.errors import ConfigError, CorruptionError
from curation.stream.cache import check_room
from curation.stream.corpus import open_corpus
from curation.stream.order import key_of, random_bits, random_units
from curation.stream.plan import Plan, Samples
from curation.stream.reader import MOST_OPEN, Reader
from curation.stream.sample import Sample, take_apart

log = logging.getLogger(__name__)

FORMAT = 1
REPLACEMENTS = 16
"""Samples that are tried in the place of a damaged one."""


View = Callable[[Sample, tuple[int, int]], Any]
_Item = tuple[Sample, str, str, Any]


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    samples: list[Sample]
    captions: list[str]
    """One a sample, of the kind that the seed picked for it."""
    kinds: list[str]
    """These kinds."""
    views: list[Any]
    """One a sample: what the caller's `view` made of it; None without."""
    shape: tuple[int, int]
    """(width, height) of the bucket that they share, pixels."""
    epoch: int
    step: int
    """Number of the global batch in its epoch."""
    damaged: list[str] = field(default_factory=list)
    """What was wrong with samples that were skipped or replaced."""


class CorpusStream:
    """Batches of `rank` of `world`. Opens corpora at once and files when they are needed; safe to send to processes.

    Raises ConfigError where the batch cannot be shared out evenly, a corpus is missing, or a kind of caption is, or
    where the cache has no room for a shard.
    """

    def __init__(self, settings: StreamSettings, *, rank: int = 0, world: int = 1) -> None:
        if settings.batch % world:
            raise ConfigError("batch", f"{settings.batch} samples cannot be shared out evenly to {world} ranks")
        if not 0 <= rank < world:
            raise ConfigError("rank", f"is {rank}, with {world} ranks")
        self.settings = settings
        self.rank, self.world = rank, world
        self.samples = Samples([open_corpus(c.path, f"corpora.{i}") for i, c in enumerate(settings.corpora)], settings)
        for corpus in self.samples.corpora:  # its readers will ask again, but in other processes
            if corpus.folder.local is None and settings.run.cache is not None:
                check_room(settings.run.cache_bytes, max(shard.bytes for shard in corpus.shards))
        self.epoch = 0
        self.step = 0
        """The next global batch."""
        self._plan: tuple[int, Plan] | None = None
        self._readers: list[Reader] | None = None
        self._reading = 0
        """Process that `_readers` are of."""
        self._damaged = 0
        thin = self.samples.thin()
        named = iter(self.samples.keys(np.concatenate([rows[:5] for rows in thin.values()])) if thin else [])
        for (width, height), rows in thin.items():
            keys = ", ".join(islice(named, min(5, len(rows)))) + (", …" if len(rows) > 5 else "")
            log.warning("bucket %dx%d has %d samples, less than a batch: %s", width, height, len(rows), keys)

    def __reduce__(self) -> tuple[Any, ...]:
        # Opened again in the other process: an index of ten million samples is read faster than it is sent.
        return _opened_again, (self.settings, self.rank, self.world, self.epoch, self.step)

    def plan(self) -> Plan:
        """The plan of the current epoch."""
        if self._plan is None or self._plan[0] != self.epoch:
            plan = self.samples.plan(self.epoch)
            if not len(plan):
                raise ConfigError(
                    "batch", f"no bucket fills a batch of {self.settings.batch}: set `tails` to pad or merge"
                )
            self._plan = (self.epoch, plan)
        return self._plan[1]

    def __len__(self) -> int:
        """Batches of the current epoch, the same for every rank."""
        return len(self.plan())

    def __iter__(self) -> Iterator[Batch]:
        """From where the state says to the end of the epoch; then the state is the next epoch's start."""
        for batch in self.share(0, 1):
            self.step += 1
            yield batch
        self.epoch, self.step = self.epoch + 1, 0

    def share(self, worker: int, workers: int, view: View | None = None) -> Iterator[Batch]:
        """Every `workers`th batch from the state on, the first being the `worker`th; leaves the state as it is.

        `view` makes what the batch's `views` hold, out of each sample and the batch's shape; where it raises
        CorruptionError the sample counts as damaged.
        """
        plan, start = self.plan(), self.step
        self._damaged = 0
        for step in range(start + worker, len(plan), workers):
            yield self._batch(plan, step, self._read(self._numbers(plan, step)), view)

    def close(self) -> None:
        """Close files and threads; they are opened again when needed."""
        for reader in self._readers or ():
            reader.close()
        self._readers = None

    # -- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands and what it leans on; plain JSON, under 4 KB for a hundred corpora."""
        return {"format": FORMAT, "stream": self._identity(), "epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises ConfigError that says what differs, where it is of another stream."""
        if state.get("format") != FORMAT:
            raise ConfigError("state", f"is of format {state.get('format')!r}, not {FORMAT}")
        here, there = self._identity(), state["stream"]
        differs = [
            f"{name}: {there.get(name)!r} there, {here[name]!r} here" for name in here if here[name] != there.get(name)
        ]
        if differs:
            raise ConfigError("state", "was taken from another stream; " + "; ".join(differs))
        self.epoch, self.step = int(state["epoch"]), int(state["step"])

    def _identity(self) -> dict[str, Any]:
        settings = self.settings.model_dump(mode="json", exclude={"run", "corpora", "damage", "damage_budget"})
        corpora = [
            [corpus.sha256[:16], given.weight]
            for corpus, given in zip(self.samples.corpora, self.settings.corpora, strict=True)
        ]
        return {"corpora": corpora, **settings}

    # -- reading -----------------------------------------------------------------------------------------------------

    def _numbers(self, plan: Plan, step: int) -> list[int]:
        """This rank's samples of a global batch."""
        share = self.settings.batch // self.world
        numbers: list[int] = plan.batch(step)[self.rank * share : (self.rank + 1) * share].tolist()
        return numbers

    def _batch(self, plan: Plan, step: int, found: list[Sample | CorruptionError], view: View | None) -> Batch:
        shape = self.samples.shapes[plan.shape[step]]
        items: list[_Item] = []
        damaged: list[str] = []
        for number, sample in zip(self._numbers(plan, step), found, strict=True):
            try:
                items.append(self._item(sample, shape, view))
            except CorruptionError as error:
                damaged.append(str(error))
                if (other := self._instead(number, error, shape, view)) is not None:
                    items.append(other)
        return Batch(
            [sample for sample, _, _, _ in items],
            [caption for _, caption, _, _ in items],
            [kind for _, _, kind, _ in items],
            [view for _, _, _, view in items],
            shape,
            self.epoch,
            step,
            damaged,
        )

    def _item(self, found: Sample | CorruptionError, shape: tuple[int, int], view: View | None) -> _Item:
        """The sample, its caption, of what kind, and its view. Raises CorruptionError where one cannot be had."""
        if isinstance(found, CorruptionError):
            raise found
        kind = self._kind(found.number)
        return found, found.caption(kind), kind, view(found, shape) if view else None

    def _read(self, numbers: list[int]) -> list[Sample | CorruptionError]:
        """The samples with these numbers, or what is wrong with them."""
        found: dict[int, Sample | CorruptionError] = {}
        if self._readers is None or self._reading != os.getpid():  # threads do not live on in a forked process
            corpora, self._reading = self.samples.corpora, os.getpid()
            most_open = max(1, MOST_OPEN // len(corpora))
            self._readers = [Reader(corpus, self.settings.run, most_open) for corpus in corpora]
        located = [self.samples.locate(number) for number in numbers]
        for corpus in {corpus for corpus, _ in located}:
            mine = [i for i, (c, _) in enumerate(located) if c == corpus]
            for i, records in zip(mine, self._readers[corpus].read([located[i][1] for i in mine]), strict=True):
                try:
                    found[i] = records if isinstance(records, CorruptionError) else take_apart(records, numbers[i])
                except CorruptionError as error:
                    found[i] = error
        return [found[i] for i in range(len(numbers))]

    def _instead(self, number: int, error: CorruptionError, shape: tuple[int, int], view: View | None) -> _Item | None:
        """What the policy puts in the place of a damaged sample."""
        if self.settings.damage == "raise":
            raise error
        self._damaged += 1
        log.warning("%s (%s)", error, "skipped" if self.settings.damage == "skip" else "replaced")
        if self._damaged > self.settings.damage_budget:
            raise CorruptionError(f"over {self.settings.damage_budget} damaged samples in an epoch; the last: {error}")
        if self.settings.damage == "skip":
            return None
        pool = np.flatnonzero(self.samples.bucket == self.samples.bucket[number])
        for attempt in range(REPLACEMENTS):
            key = key_of(self.settings.seed, self.epoch, "instead", attempt)
            other = int(pool[int(random_bits(np.array([number], np.uint64), key)[0] % np.uint64(len(pool)))])
            try:
                return self._item(self._read([other])[0], shape, view)
            except CorruptionError as also:
                log.warning("%s (in its place)", also)
        raise CorruptionError(
            f"{REPLACEMENTS} samples in the place of a damaged one are damaged too; the first: {error}"
        )

    def _kind(self, number: int) -> str:
        """The kind of caption for a sample: it depends on the seed, the epoch and the sample alone."""
        kinds = sorted(kind for kind, weight in self.settings.captions.items() if weight)
        if len(kinds) == 1:
            return kinds[0]
        bounds = np.cumsum([self.settings.captions[kind] for kind in kinds])
        unit = random_units(np.array([number], np.uint64), key_of(self.settings.seed, self.epoch, "caption"))[0]
        return kinds[min(int(np.searchsorted(bounds, unit * bounds[-1], side="right")), len(kinds) - 1)]


def _opened_again(settings: StreamSettings, rank: int, world: int, epoch: int, step: int) -> CorpusStream:
    stream = CorpusStream(settings, rank=rank, world=world)
    stream.epoch, stream.step = epoch, step
    return stream
