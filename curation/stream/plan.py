"""Which samples make which batch: the plan of one epoch, made from the indexes alone, before anything is read.

The plan depends on nothing but the corpora, the settings and the epoch. Ranks and workers take their slices of it
afterwards, so the sequence of global batches is the same for any number of them.

Sample numbers run over all corpora: those of the second follow those of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.config.stream import StreamSettings
from curation.errors import ConfigError
from curation.stream.corpus import Corpus
from curation.stream.order import F64, key_of, permutation, places

I64 = NDArray[np.int64]

_PLACE_BITS = 40
"""Bits of a sample's place that decide; the bucket stands before them."""


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch."""

    samples: I64
    """[batches, batch]: numbers of samples."""
    shape: NDArray[np.int16]
    """[batches]: place in `Samples.shapes` of the one shape of each batch."""
    dropped: I64
    """Samples that this epoch leaves out, by the policy for tails."""
    padded: I64
    """Samples that come a second time, to fill a batch."""


class Samples:
    """All corpora of a stream side by side. Raises ConfigError where kinds of caption are not in all of them."""

    def __init__(self, corpora: Sequence[Corpus], settings: StreamSettings) -> None:
        self.corpora = tuple(corpora)
        self.settings = settings
        self.starts = np.cumsum([0, *(len(corpus) for corpus in corpora)])
        """Number of each corpus's first sample, and of all."""
        self.shapes = sorted({size for corpus in corpora for size in corpus.buckets})
        """(width, height), pixels, of all buckets."""
        for i, corpus in enumerate(corpora):
            missing = sorted(set(settings.captions) - {"primary", "empty", *corpus.kinds})
            if missing:
                there = ", ".join(("primary", "empty", *corpus.kinds))
                raise ConfigError(f"captions.{missing[0]}", f"corpora.{i} has no such captions; there is {there}")
            if not len(corpus):
                raise ConfigError(f"corpora.{i}", "the corpus is empty")

    @cached_property
    def bucket(self) -> NDArray[np.int16]:
        """Place in `shapes` of each sample's bucket."""
        parts = []
        for corpus in self.corpora:
            numbers = np.array([self.shapes.index(size) for size in corpus.buckets], np.int16)
            parts.append(numbers[corpus.bucket])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def locate(self, sample: int) -> tuple[int, int]:
        """(corpus, row in its index) of a sample."""
        corpus = int(np.searchsorted(self.starts, sample, side="right")) - 1
        return corpus, sample - int(self.starts[corpus])

    def keys(self, samples: Sequence[int] | I64) -> list[str]:
        """Keys of some samples, in the same order."""
        numbers = np.asarray(samples, np.int64)
        keys = [""] * len(numbers)
        for i, corpus in enumerate(self.corpora):
            mine = np.flatnonzero((numbers >= self.starts[i]) & (numbers < self.starts[i + 1]))
            if len(mine):
                for place, key in zip(mine, corpus.keys(numbers[mine] - self.starts[i]), strict=True):
                    keys[place] = key
        return keys

    def plan(self, epoch: int) -> Plan:
        """The plan of epoch `epoch`: a pure function of the corpora, the settings and that number."""
        chosen, place = self._chosen(epoch)
        bucket = self.bucket[chosen]
        key = bucket.astype(np.uint64) << np.uint64(_PLACE_BITS)
        key |= (place * 2.0**_PLACE_BITS).astype(np.uint64)
        order = np.argsort(key, kind="stable")
        del key
        size = self.settings.batch
        counts = np.bincount(bucket, minlength=len(self.shapes))
        batches: list[I64] = []
        shapes: list[NDArray[np.int16]] = []
        ends: list[F64] = []
        tails: list[I64] = []
        start = 0
        for shape, count in enumerate(counts.tolist()):
            mine = order[start : start + count]
            start += count
            whole = count // size * size
            batches.append(chosen[mine[:whole]].reshape(-1, size))
            shapes.append(np.full(whole // size, shape, np.int16))
            ends.append(place[mine[size - 1 : whole : size]])
            tails.append(chosen[mine[whole:]])
        del order
        dropped, padded = self._finish(tails, batches, shapes, ends, key_of(self.settings.seed, epoch, "tails"))
        # a batch comes when its last sample does
        sequence = np.argsort(np.concatenate(ends), kind="stable")
        return Plan(np.concatenate(batches)[sequence], np.concatenate(shapes)[sequence], dropped, padded)

    def _chosen(self, epoch: int) -> tuple[I64, F64]:
        """The samples of an epoch and their places in it.

        Without weights each sample once. With weights the epoch has as many samples as there are, of which each corpus
        gives its share: it goes on through permutations of its own, so its samples come round equally often.
        """
        seed, total = self.settings.seed, int(self.starts[-1])
        weights = [corpus.weight for corpus in self.settings.corpora]
        chosen: list[I64] = []
        place: list[F64] = []
        for i, corpus in enumerate(self.corpora):
            where = places(
                corpus.shard, corpus.shard_samples, self.settings.window, key_of(seed, epoch, i, corpus.sha256)
            )
            if weights[i] is None:
                rows = np.arange(len(corpus))
            else:
                share = float(weights[i] or 0) / sum(float(w or 0) for w in weights)
                first, last = (round(share * total * n) for n in (epoch, epoch + 1))
                rows = _round_and_round(len(corpus), first, last, key_of(seed, i, corpus.sha256))
                where = where[rows]
            chosen.append(rows + self.starts[i])
            place.append(where)
        if len(chosen) == 1:
            return chosen[0], place[0]
        return np.concatenate(chosen), np.concatenate(place)

    def _finish(
        self,
        tails: list[I64],
        batches: list[I64],
        shapes: list[NDArray[np.int16]],
        ends: list[F64],
        key: int,
    ) -> tuple[I64, I64]:
        """Apply the policy for tails; adds their batches, and returns the samples dropped and those taken twice."""
        size, policy = self.settings.batch, self.settings.tails
        nothing = np.empty(0, np.int64)
        if policy == "drop":
            return np.concatenate([nothing, *tails]), nothing
        if policy == "merge":
            # neighbours in aspect stand side by side, so that little has to be cropped
            aspects = [width / height for width, height in self.shapes]
            together = np.concatenate([nothing, *(tails[i] for i in np.argsort(aspects, kind="stable"))])
            tails = [together[i : i + size] for i in range(0, len(together), size)]
        padded = [nothing]
        late = permutation(len(tails), key)
        for i, tail in enumerate(tails):
            if not len(tail):
                continue
            shape = int(np.bincount(self.bucket[tail]).argmax())
            if len(tail) < size:
                pool = np.flatnonzero(self.bucket == shape)
                more = np.resize(pool[permutation(len(pool), key + i)], size - len(tail))
                padded.append(more)
                tail = np.concatenate([tail, more])
            batches.append(tail.reshape(1, size))
            shapes.append(np.array([shape], np.int16))
            ends.append(np.array([(late[i] + 0.5) / len(tails)]))
        return nothing, np.concatenate(padded)

    def thin(self) -> dict[tuple[int, int], I64]:
        """Buckets with fewer samples than a batch: what a warning should name."""
        counts = np.bincount(self.bucket, minlength=len(self.shapes))
        return {
            self.shapes[i]: np.flatnonzero(self.bucket == i)
            for i, count in enumerate(counts.tolist())
            if 0 < count < self.settings.batch
        }


def _round_and_round(count: int, first: int, last: int, key: int) -> I64:
    """Elements `first` to `last` of an endless sequence of permutations of the numbers under `count`."""
    parts: list[Any] = []
    for turn in range(first // count, -(-last // count)):
        order = permutation(count, key_of(key, turn))
        parts.append(order[max(first - turn * count, 0) : last - turn * count])
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
