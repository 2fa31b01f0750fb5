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
from curation.stream.corpus import MOST_BUCKETS, Corpus
from curation.stream.order import AT_ONCE, F64, key_of, permutation, places, random_bits

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch."""

    order: I64
    """Numbers of samples; those of a batch stand together."""
    start: I64
    """[batches]: where in `order` each batch begins, in the order in which they come."""
    shape: NDArray[np.int16]
    """[batches]: place in `Samples.shapes` of the one shape of each batch."""
    size: int
    """Samples of a batch."""
    dropped: I64
    """Samples that this epoch leaves out, by the policy for tails."""
    padded: I64
    """Samples that come a second time, to fill a batch."""

    def __len__(self) -> int:
        return len(self.start)

    def batch(self, step: int) -> I64:
        """Numbers of the samples of global batch `step`."""
        start = int(self.start[step])
        return self.order[start : start + self.size]

    @property
    def samples(self) -> I64:
        """[batches, batch]: all of it, made for each call."""
        whole: I64 = self.order[self.start[:, None] + np.arange(self.size)]
        return whole


@dataclass(frozen=True)
class _Tail:
    """The batches made of tails, and what became of the rest."""

    order: I64
    """Numbers of samples, batch after batch."""
    shape: NDArray[np.int16]
    place: F64
    """Where in the epoch each of the batches comes."""
    dropped: I64
    padded: I64


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
            wanted = {kind for kind, weight in settings.captions.items() if weight}
            missing = sorted(wanted - {"primary", "empty", *corpus.kinds})
            if missing:
                there = ", ".join(("primary", "empty", *corpus.kinds))
                raise ConfigError(f"captions.{missing[0]}", f"corpora.{i} has no such captions; there is {there}")
            if not len(corpus):
                raise ConfigError(f"corpora.{i}", "the corpus is empty")
        if len(self.shapes) > MOST_BUCKETS:
            raise ConfigError("corpora", f"{len(self.shapes):,} buckets are over the limit of {MOST_BUCKETS:,}")

    @cached_property
    def bucket(self) -> NDArray[np.int16]:
        """Place in `shapes` of each sample's bucket."""
        numbers = {size: i for i, size in enumerate(self.shapes)}
        parts = []
        for corpus in self.corpora:
            parts.append(np.array([numbers[size] for size in corpus.buckets], np.int16)[corpus.bucket])
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
        sequence, bounds = self._by_bucket(self.bucket if chosen is None else self.bucket[chosen], place)
        size = self.settings.batch
        counts = np.diff(bounds)
        starts = [np.arange(low, low + count - size + 1, size) for low, count in zip(bounds, counts, strict=False)]
        ends = [place[sequence[start + size - 1]] for start in starts]
        order = sequence if chosen is None else chosen[sequence]
        tails = [order[low + count // size * size : low + count] for low, count in zip(bounds, counts, strict=False)]
        shapes = [np.full(len(start), shape, np.int16) for shape, start in enumerate(starts)]
        pools = [order[low : low + count] for low, count in zip(bounds, counts, strict=False)]
        tail = self._finish(tails, pools, key_of(self.settings.seed, epoch, "tails"))
        starts.append(len(order) + size * np.arange(len(tail.shape)))
        if len(tail.order):
            order = np.concatenate([order, tail.order])
        # a batch comes when its last sample does
        turn = np.argsort(np.concatenate([*ends, tail.place]), kind="stable")
        shape = np.concatenate([*shapes, tail.shape])
        return Plan(order, np.concatenate(starts)[turn], shape[turn], size, tail.dropped, tail.padded)

    def _by_bucket(self, bucket: NDArray[np.int16], place: F64) -> tuple[I64, I64]:
        """Rows [N] by bucket, in it by place; and where each bucket's begin, [shapes + 1].

        Bucket, place and row are packed into one number each, because numbers sort faster than rows do by two keys.
        """
        rows, shapes = len(place), len(self.shapes)
        row_bits, bucket_bits = max(rows - 1, 1).bit_length(), max(shapes - 1, 1).bit_length()
        place_bits = min(64 - row_bits - bucket_bits, 53)
        packed = np.empty(rows, np.uint64)
        for start in range(0, rows, AT_ONCE):
            here = slice(start, min(start + AT_ONCE, rows))
            part = (place[here] * 2.0**place_bits).astype(np.uint64) << np.uint64(row_bits)
            part |= np.arange(here.start, here.stop, dtype=np.uint64)
            packed[here] = part | bucket[here].astype(np.uint64) << np.uint64(row_bits + place_bits)
        packed.sort()
        first = np.arange(shapes + 1, dtype=np.uint64) << np.uint64(row_bits + place_bits)
        bounds = np.searchsorted(packed, first[:-1])
        packed &= np.uint64((1 << row_bits) - 1)
        return packed.view(np.int64), np.append(bounds, rows)

    def _chosen(self, epoch: int) -> tuple[I64 | None, F64]:
        """The samples of an epoch (None: each once, in order) and their places in it.

        Without weights each sample once. With weights the epoch has as many samples as there are, of which each corpus
        gives its share: it goes on through permutations of its own, so its samples come round equally often.
        """
        seed, total = self.settings.seed, int(self.starts[-1])
        weights = [corpus.weight for corpus in self.settings.corpora]
        chosen: list[I64] = []
        place: list[F64] = []
        for i, corpus in enumerate(self.corpora):
            shards, key = corpus.shard, key_of(seed, epoch, i, corpus.sha256)
            if weights[i] is not None:
                share = float(weights[i] or 0) / sum(float(w or 0) for w in weights)
                first, last = (round(share * total * n) for n in (epoch, epoch + 1))
                rows = _round_and_round(len(corpus), first, last, key_of(seed, i, corpus.sha256))
                shards = shards[rows]  # a sample that comes again has another place, or both would be in one batch
                chosen.append(rows + self.starts[i])
            place.append(places(shards, corpus.shard_samples, self.settings.window, key))
        together = place[0] if len(place) == 1 else np.concatenate(place)
        return (np.concatenate(chosen) if chosen else None), together

    def _finish(self, tails: list[I64], pools: list[I64], key: int) -> _Tail:
        """Apply the policy for tails; `pools` are all samples of each bucket."""
        size, policy = self.settings.batch, self.settings.tails
        nothing = np.empty(0, np.int64)
        if policy == "drop":
            return _Tail(nothing, np.empty(0, np.int16), np.empty(0), np.concatenate([nothing, *tails]), nothing)
        if policy == "merge":
            # neighbours in aspect stand side by side, so that little has to be cropped
            aspects = [width / height for width, height in self.shapes]
            together = np.concatenate([nothing, *(tails[i] for i in np.argsort(aspects, kind="stable"))])
            tails = [together[i : i + size] for i in range(0, len(together), size)]
        padded, order = [nothing], [nothing]
        shapes, late_places = [], []
        late = permutation(len(tails), key)
        for i, tail in enumerate(tails):
            if not len(tail):
                continue
            shape = int(np.bincount(self.bucket[tail]).argmax())
            if len(tail) < size:
                more = _more(pools[shape], tail, size - len(tail), key + i)
                padded.append(more)
                tail = np.concatenate([tail, more])
            order.append(tail)
            shapes.append(shape)
            late_places.append((late[i] + 0.5) / len(tails))
        return _Tail(
            np.concatenate(order),
            np.array(shapes, np.int16),
            np.array(late_places, np.float64),
            nothing,
            np.concatenate(padded),
        )

    def thin(self) -> dict[tuple[int, int], I64]:
        """Buckets with fewer samples than a batch: what a warning should name."""
        counts = np.bincount(self.bucket, minlength=len(self.shapes))
        thin = (counts > 0) & (counts < self.settings.batch)
        found = np.flatnonzero(thin[self.bucket])  # once over all samples, however many buckets there are
        found = found[np.argsort(self.bucket[found], kind="stable")]
        parts = np.split(found, np.cumsum(counts[thin])[:-1]) if len(found) else []
        return {self.shapes[i]: part for i, part in zip(np.flatnonzero(thin).tolist(), parts, strict=True)}


def _more(pool: I64, tail: I64, count: int, key: int) -> I64:
    """`count` samples of `pool` to go with `tail`; those that it has come again only if there is nothing else."""
    drawn = pool[(random_bits(np.arange(8 * count, dtype=np.uint64), key) % np.uint64(len(pool))).astype(np.int64)]
    drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    fresh = drawn[~np.isin(drawn, tail)]
    if len(fresh) < count:  # a small bucket, of which all is looked at
        whole = np.unique(pool)
        whole = whole[permutation(len(whole), key)]
        there = np.isin(whole, tail)
        fresh = np.resize(np.concatenate([whole[~there], whole[there]]), count)
    return fresh[:count]


def _round_and_round(count: int, first: int, last: int, key: int) -> I64:
    """Elements `first` to `last` of an endless sequence of permutations of the numbers under `count`."""
    parts: list[Any] = [np.empty(0, np.int64)]
    step = max(1, AT_ONCE // count)  # a corpus of one sample may come round a million times
    for turn in range(first // count, -(-last // count), step):
        bits = random_bits(np.arange(turn * count, (turn + step) * count, dtype=np.uint64), key)
        order = np.argsort(bits.reshape(step, count), axis=1, kind="stable").ravel()
        parts.append(order[max(first - turn * count, 0) : last - turn * count])
    return np.concatenate(parts)
