"""The order's arithmetic: fixed for ever, uniform, and nearly a permutation with few shards open."""

from __future__ import annotations

import numpy as np
import pytest

from curation.stream.order import key_of, permutation, places, random_bits, random_units


def test_the_numbers_are_the_same_for_ever() -> None:
    # SplitMix64's published sequence for seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert random_bits(np.arange(5, dtype=np.uint64), 1234567).tolist() == wanted
    assert key_of("a", 1) == 0xC01606FD5B9D7FB2


def test_units_are_uniform() -> None:
    units = random_units(np.arange(100_000, dtype=np.uint64), key_of("uniform"))
    assert units.min() >= 0
    assert units.max() < 1
    counts = np.histogram(units, 20, (0, 1))[0]
    assert np.square(counts - 5000).sum() / 5000 < 43.8  # chi square, 19 degrees of freedom: 0.1 %


def test_a_permutation_has_each_number_once_and_another_order_for_each_key() -> None:
    one, two = permutation(1000, 1), permutation(1000, 2)
    assert sorted(one.tolist()) == list(range(1000))
    assert (one != two).mean() > 0.98


def neighbours(shards: int, window: int) -> float:
    """Share of samples whose follower is of the same shard; 100 samples a shard."""
    shard = np.repeat(np.arange(shards), 100)
    order = np.argsort(places(shard, np.full(shards, 100), window, key_of("neighbours", window)))
    return float((shard[order][1:] == shard[order][:-1]).mean())


def test_half_of_the_shards_open_is_within_twice_a_permutation() -> None:
    permuted = neighbours(200, 200)
    assert permuted == pytest.approx(1 / 200, rel=0.3)
    assert neighbours(200, 100) < 2 * 1.15 * permuted
    assert neighbours(200, 10) == pytest.approx(1 / 10, rel=0.2)


def test_only_the_window_is_open_at_any_moment() -> None:
    shard = np.repeat(np.arange(100), 50)
    order = np.argsort(places(shard, np.full(100, 50), 10, key_of("open")))
    followed = shard[order]
    for start in range(0, len(followed) - 50, 50):  # as many samples as one shard has: the window moves by one
        assert len(set(followed[start : start + 50].tolist())) <= 11
