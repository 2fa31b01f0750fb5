"""The order of an epoch as arithmetic: the same numbers on every machine, for every version of every library.

Everything random here is SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") of a
counter and a key, so a choice can be made again from its place alone: no state, no sequence to replay.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

AT_ONCE = 1 << 18
"""Numbers that are worked on at once."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key_of(*words: object) -> int:
    """64 bits for a tuple of words (seed, epoch, what it is for): the key of a family of random numbers."""
    text = "/".join(str(word) for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def random_bits(counters: U64, key: int) -> U64:
    """SplitMix64's output for each of `counters` (any shape) under `key`."""
    with np.errstate(over="ignore"):
        z = (counters + np.uint64(1)) * _GOLDEN
        z += np.uint64(key)
        for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
            z ^= z >> np.uint64(shift)
            z *= factor
        z ^= z >> np.uint64(31)
        return z


def random_units(counters: U64, key: int) -> F64:
    """Uniform in [0, 1), 53 bits, one for each of `counters`."""
    return (random_bits(counters, key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _units(count: int, key: int) -> F64:
    """`random_units` of the numbers under `count`, in pieces that stay in a processor's cache."""
    units = np.empty(count)
    for start in range(0, count, AT_ONCE):
        stop = min(start + AT_ONCE, count)
        units[start:stop] = random_units(np.arange(start, stop, dtype=np.uint64), key)
    return units


def permutation(count: int, key: int) -> NDArray[np.int64]:
    """The numbers under `count` in random order."""
    return np.argsort(random_bits(np.arange(count, dtype=np.uint64), key), kind="stable")


def places(shards: NDArray[Any], shard_samples: NDArray[Any], window: int, key: int) -> F64:
    """Where in the epoch, in [0, 1), each sample comes; `shards` [N] is its shard, `shard_samples` [S] their sizes.

    Shards follow each other in random order, evenly, and the samples of each are strewn at random over the `window`
    shards from its own place on (around the end to the start): so about `window` shards are open at any moment, and
    with `window` >= S it is a permutation of all samples.
    """
    units = _units(len(shards), key)
    if window >= len(shard_samples):
        return units
    order = permutation(len(shard_samples), key ^ 0x5EED)
    sizes = shard_samples[order].astype(np.float64)
    starts = np.empty(len(order))
    starts[order] = (np.cumsum(sizes) - sizes) / sizes.sum()
    units *= window / len(shard_samples)
    units += starts[shards]
    return np.mod(units, 1.0, out=units)
